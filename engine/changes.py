"""Every change of the engine's: reserve in the store, describe by a driver, apply to the kernel, commit. Rank 7.

A write first reserves what it needs in one short transaction (phase `creating`), then works on the kernel without
holding any, then commits; a failure anywhere takes all of it back. Loaded on the first write, so that reading
commands do not pay for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from dnet import etcfiles, files, firewalls, nat, reserve, wanted
from dnet.apply import Applier, Group
from dnet.errors import Conflict, DnetError, InvalidRequest, NotFound
from dnet.kernel import Kernel
from dnet.model import (
    DEFAULT_NETWORK,
    MODE_NONE,
    Container,
    ContainerSpec,
    IPNetwork,
    Network,
    NetworkSpec,
    check_name,
)
from dnet.nat import TABLE
from dnet.nft import Nft
from dnet.objects import Flows, NatElement, Object, Quiet
from dnet.ports import PortMapping, parse_publish
from dnet.store import Store

Progress = Callable[[int, int], None]
MEMBERS_SHOWN = 3
SYSTEMD_RESOLV_CONF = "/run/systemd/resolve/resolv.conf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """What a bulk made, what failed when it was to keep going, and how long each phase took, in seconds."""

    containers: tuple[Container, ...]
    failed: tuple[tuple[str, DnetError], ...] = ()
    phases: Mapping[str, float] = field(default_factory=dict)


class NatRow(NamedTuple):
    """One line of `nat show`: a published port, or a subnet whose source address is replaced."""

    kind: str
    network: str
    container: str
    source: str
    target: str
    packets: int
    bytes: int


class Changes:
    """The writing half of an engine."""

    def __init__(
        self, store: Store, run_directory: str, on_notice: Callable[[str], None], kernel: Kernel, nft: Nft
    ) -> None:
        self._store = store
        self._run_directory = run_directory
        self._on_notice = on_notice
        self._kernel = kernel
        self._nft = nft
        self._applier = Applier(kernel, nft, self._all_rules)
        self._is_prepared = False
        self._is_table_seen = False

    def close(self) -> None:
        """Close the sockets."""
        self._kernel.close()
        self._nft.close()

    # Networks

    def create_network(self, spec: NetworkSpec) -> Network:
        """Create a network."""
        self._prepare()
        with self._store.network_lock():
            network = self._create_network(spec)
        self._kernel.keep_switches()
        return network

    def _create_network(self, spec: NetworkSpec) -> Network:
        busy = reserve.busy_subnets(self._kernel)
        owner = self._store.new_owner()
        with self._undoing(owner) as groups:
            with self._store.write(is_intent=True):
                is_first = not self._store.has_other_networks()
                network = reserve.network(self._store, self._kernel, spec, busy, owner)
            groups.append(wanted.network(network, is_first=is_first))
            self._applier.create(groups)
            with self._store.write():
                self._store.set_ready("network", [network.id])
        self._make_way(is_thorough=True)
        return network

    def plan_network(self, spec: NetworkSpec) -> list[Object]:
        """Return what creating the network would create, touching nothing."""
        busy = reserve.busy_subnets(self._kernel)
        with self._store.write(is_dry_run=True):
            is_first = not self._store.has_other_networks()
            network = reserve.network(self._store, self._kernel, spec, busy, "")
        return list(wanted.network(network, is_first=is_first))

    def delete_networks(self, references: Sequence[str]) -> list[Network]:
        """Remove networks that no container is on; all of them, or none."""
        self._prepare()
        with self._store.network_lock():
            with self._store.write(is_intent=True):
                networks = list({net.id: net for net in map(self._store.network, references)}.values())
                for network in networks:
                    self._check_unused(network)
                self._store.set_deleting("network", [network.id for network in networks], self._store.new_owner())
            self._remove_networks(networks)
        return networks

    def _check_unused(self, network: Network) -> None:
        members = self._store.member_names(network.id)
        if members:
            some = ", ".join(members[:MEMBERS_SHOWN]) + (", ..." if len(members) > MEMBERS_SHOWN else "")
            raise Conflict(
                f"network {network.name} is in use by {len(members)} containers ({some})",
                object=network.name,
                hint="remove the containers first",
            )

    def prune_networks(self) -> list[Network]:
        """Remove every network that no container is on."""
        self._prepare()
        unused = [network.name for network in self._store.networks() if not self._store.member_names(network.id)]
        return self.delete_networks(unused)

    def _remove_networks(self, networks: Sequence[Network]) -> None:
        """Delete networks that are marked so, the table with the last one; under the network lock."""
        is_last = bool(networks) and not self._store.has_other_networks([network.id for network in networks])
        groups = [
            wanted.network(network, is_first=is_last and position == 0) for position, network in enumerate(networks)
        ]
        self._applier.delete(groups)
        firewalls.withdraw(self._nft, [network.device for network in networks])
        self._store.forget("network", [network.id for network in networks])

    # Containers

    def create_many(
        self, specs: Sequence[ContainerSpec], *, keep_going: bool = False, on_progress: Progress | None = None
    ) -> Created:
        """Create containers in one pass; see Engine.create_many."""
        self._prepare()
        if any(spec.network == MODE_NONE and (spec.publish or spec.publish_all) for spec in specs):
            self._on_notice("published ports are discarded in mode none")
        references = {spec.network for spec in specs} - {MODE_NONE}
        if DEFAULT_NETWORK in references and not self._store.find_networks(DEFAULT_NETWORK):
            with self._store.network_lock():
                if not self._store.find_networks(DEFAULT_NETWORK):
                    first = NetworkSpec(name=DEFAULT_NETWORK)
                    return self._create_many(specs, first, keep_going=keep_going, on_progress=on_progress)
        self._mend_networks(references)
        return self._create_many(specs, None, keep_going=keep_going, on_progress=on_progress)

    def _create_many(
        self,
        specs: Sequence[ContainerSpec],
        network_spec: NetworkSpec | None,
        *,
        keep_going: bool,
        on_progress: Progress | None,
    ) -> Created:
        """Create containers, and a network for them with `network_spec`: reserved together, undone together."""
        started = time.perf_counter()
        busy = reserve.busy_subnets(self._kernel) if network_spec else []
        owner = self._store.new_owner()
        with self._undoing(owner) as groups:
            with self._store.write(is_intent=True):
                networks, network_groups = self._reserve_with_network(network_spec, busy, owner)
                containers = self._reserve(specs, owner)
                container_groups = self._groups(containers)
                self._store.set_creating("network", networks, owner)
            groups.extend((*network_groups, *container_groups))
            planned = time.perf_counter()
            self._applier.create(network_groups)
            report = _report(on_progress, len(specs))
            errors = self._applier.create(container_groups, keep_going=keep_going, on_progress=report)
            applied = time.perf_counter()
            with self._store.write():
                self._store.set_ready("network", networks)
                self._store.set_ready("container", [item.id for item in containers])
                failed = [item.id for item, error in zip(containers, errors, strict=True) if error]
                if failed:
                    self._store.delete("container", failed)
        self._kernel.keep_switches()
        if network_spec:
            self._make_way(is_thorough=True)
        phases = {"plan": planned - started, "sandboxes": applied - planned, "commit": time.perf_counter() - applied}
        return Created(
            containers=tuple(item for item, error in zip(containers, errors, strict=True) if not error),
            failed=tuple((item.name, error) for item, error in zip(containers, errors, strict=True) if error),
            phases=phases,
        )

    def plan(self, specs: Sequence[ContainerSpec]) -> list[Object]:
        """Return what `create_many` would create, in order, touching nothing."""
        busy = reserve.busy_subnets(self._kernel)
        objects: list[Object] = []
        with self._store.write(is_dry_run=True):
            is_missing = not self._store.find_networks(DEFAULT_NETWORK)
            is_wanted = is_missing and DEFAULT_NETWORK in {spec.network for spec in specs}
            first = NetworkSpec(name=DEFAULT_NETWORK) if is_wanted else None
            for group in self._reserve_with_network(first, busy, "")[1]:
                objects += group
            for group in self._groups(self._reserve(specs, "")):
                objects += group
        return objects

    def _reserve(self, specs: Sequence[ContainerSpec], owner: str) -> list[Container]:
        reservation = self._reservation()
        containers = reservation.reserve(specs, reserve.networks_of(self._store, specs), owner)
        if owner:
            files.remove_links(reservation.stale_names)
        return containers

    def _reservation(self) -> reserve.Containers:
        places = {
            wanted.NAME_DIRECTORY: f"{self._run_directory}/netns",
            wanted.ETC_DIRECTORY: f"{self._run_directory}/etc",
        }
        return reserve.Containers(self._store, self._kernel, self._run_directory, places)

    def _groups(self, containers: Sequence[Container]) -> list[Group]:
        networks = self._store.networks_by_id()
        resolver = self._host_resolver()
        return [wanted.container(item, networks, resolver) for item in containers]

    def _host_resolver(self) -> wanted.HostResolver:
        return wanted.HostResolver(files.read(reserve.RESOLV_CONF), files.read(SYSTEMD_RESOLV_CONF))

    def watch(self) -> Iterator[int]:
        """Yield how many files each change of the host's resolver rewrote; see Engine.watch."""
        self._prepare()
        for _ in self._kernel.changes_of((reserve.RESOLV_CONF, SYSTEMD_RESOLV_CONF)):
            yield self.refresh_resolvers()

    def refresh_resolvers(self) -> int:
        """Give every container the host's resolver as it is now; see Engine.refresh_resolvers."""
        resolver = self._host_resolver()
        changed = 0
        if not resolver.resolv_conf.strip():
            return changed  # somebody is about to write it
        for item in self._store.containers():
            path = f"{item.files}/resolv.conf"
            before, after = files.read(path), etcfiles.resolv_conf(item, *resolver)
            if before != after and etcfiles.is_untouched(before):
                changed += files.rewrite(path, after)
        return changed

    def _reserve_with_network(
        self, spec: NetworkSpec | None, busy: Sequence[IPNetwork], owner: str
    ) -> tuple[list[str], list[Group]]:
        """Insert a network, if one is to be, such that containers can be reserved on it in the same transaction."""
        if spec is None:
            return [], []
        is_first = not self._store.has_other_networks()
        network = reserve.network(self._store, self._kernel, spec, busy, owner)
        self._store.set_ready("network", [network.id])
        return [network.id], [wanted.network(network, is_first=is_first)]

    def _mend_networks(self, references: Collection[str]) -> None:
        """Make again what somebody, or a reboot, has removed: the table, and the devices of these networks."""
        networks = [self._store.network(reference) for reference in sorted(references)]
        if networks and not self._is_table_seen:
            if not self._nft.has_table(TABLE):
                self._applier.create_rules(self._all_rules())
            self._is_table_seen = True
        for network in networks:
            self._kernel.switch_forwarding(4)
            if network.subnet6:
                self._kernel.switch_forwarding(6)
            if self._kernel.is_device(network.device_index, network.device):
                continue
            with self._store.network_lock():
                if not self._kernel.is_device(network.device_index, network.device):
                    self._mend_network(network)

    def _mend_network(self, network: Network) -> None:
        group = wanted.network(network, is_first=True)
        try:
            self._applier.create([group])
        except BaseException as error:
            # A device that is only half set up must not pass for the network; its rules do no harm.
            self._applier.undo(error, [[item for item in group if item.backend == "kernel"]], lambda: None)
            raise

    def delete_many(
        self, references: Sequence[str], *, is_missing_ok: bool = False, on_progress: Progress | None = None
    ) -> list[Container]:
        """Remove containers; see Engine.delete_many."""
        self._prepare()
        with self._store.write(is_intent=True):
            found = self._resolve(references, is_missing_ok=is_missing_ok)
            containers = list({item.id: item for item in found}.values())
            self._store.set_deleting("container", [item.id for item in containers], self._store.new_owner())
        self._remove_containers(containers, on_progress)
        return containers

    def _resolve(self, references: Sequence[str], *, is_missing_ok: bool) -> list[Container]:
        """Find containers by name, id or id prefix; many at once without a query for each."""
        by_name = {item.name: item for item in self._store.containers()} if len(references) > 1 else {}
        found = []
        for reference in references:
            try:
                found.append(by_name.get(reference) or self._store.container(reference))
            except NotFound:
                if not is_missing_ok:
                    raise
        return found

    def _remove_containers(self, containers: Sequence[Container], on_progress: Progress | None = None) -> None:
        self._applier.delete(self._groups(containers), on_progress=_report(on_progress, len(containers)))
        self._store.forget("container", [item.id for item in containers])

    def rename(self, reference: str, name: str) -> Container:
        """Give a container another name; see Engine.rename."""
        check_name(name, "container")
        self._prepare()
        with self._store.write():
            container = self._store.container(reference)
            reservation = self._reservation()
            reservation.check_names_free([name])
            self._store.rename(container.id, name)
            files.remove_links(reservation.stale_names)
        renamed = replace(container, name=name)
        networks = self._store.networks_by_id()
        try:
            for before, after in zip(_named(container), _named(renamed), strict=True):
                files.rename(before, after)
            group = wanted.container(renamed, networks, self._host_resolver())
            aliases = [item for item in group if isinstance(item, Quiet) and item.alias]
            for error in self._kernel.create([aliases]):
                if error:
                    raise error
        except BaseException:
            with self._store.write():
                self._store.rename(container.id, container.name)
            for before, after in zip(_named(container), _named(renamed), strict=True):
                with suppress(OSError):
                    files.rename(after, before)
            raise
        return renamed

    # Published ports

    def publish(self, reference: str, texts: Sequence[str]) -> Container:
        """Publish further ports of a container; all of them, or none."""
        self._prepare()
        items = [parse_publish(text) for text in texts]
        with self._store.write(is_intent=True):
            container = self._store.container(reference)
            if not container.endpoints:
                raise InvalidRequest(f"container {container.name} is on no network", object=container.name)
            network = self._network_of(container)
            ports = reserve.publish(container.name, network, items, self._reservation().host_ports())
            exposed = {(port, item.protocol) for item in items for port in item.container_ports}
            updated = replace(
                container,
                ports=tuple(sorted((*container.ports, *ports), key=PortMapping.order)),
                exposed=tuple(sorted({*container.exposed, *exposed})),
            )
            self._store.insert_ports(container.id, ports)
            self._store.set_exposed(container.id, updated.exposed)
            self._store.set_changing(container.id, self._store.new_owner())
        rules = _rules_of(container, ports, network)
        try:
            self._applier.create_rules(rules)
            self._kernel.drop_flows(_flows_of(container, ports, network), is_new=True)
            with self._store.write():
                self._store.set_ready("container", [container.id])
        except BaseException as error:
            self._applier.undo(error, [rules], lambda: self._forget_ports(container, ports))
            raise
        return updated

    def _forget_ports(self, container: Container, ports: Sequence[PortMapping]) -> None:
        with self._store.write():
            self._store.delete_ports(ports)
            self._store.set_exposed(container.id, container.exposed)
            self._store.set_ready("container", [container.id])

    def _finish_change(self, container: Container) -> None:
        """Make the table hold what the store says of a container whose ports a killed process was changing."""
        network = self._network_of(container)
        self._applier.create_rules(_rules_of(container, container.ports, network))
        with self._store.write():
            self._store.set_ready("container", [container.id])

    def unpublish(self, reference: str, ports: Sequence[PortMapping]) -> Container:
        """Take back published ports of a container; connections that are open through them stay."""
        self._prepare()
        doomed = set(ports)
        with self._store.write(is_intent=True):
            container = self._store.container(reference)
            for item in doomed - set(container.ports):
                raise NotFound(f"container {container.name} does not publish {item}", object=str(item))
            if not doomed:
                return container
            self._store.set_changing(container.id, self._store.new_owner())
        updated = replace(container, ports=tuple(item for item in container.ports if item not in doomed))
        network = self._network_of(container)
        kept = set(_rules_of(updated, updated.ports, network)) if not network.masquerade else set()
        rules = [rule for rule in _rules_of(container, ports, network) if rule not in kept]
        try:
            self._applier.delete_rules(rules)
            with self._store.write():
                self._store.delete_ports(ports)
                self._store.set_ready("container", [container.id])
        except BaseException:
            self._finish_change(container)
            raise
        return updated

    def _network_of(self, container: Container) -> Network:
        return self._store.network(container.endpoints[0].network_id)

    def nat(self, reference: str) -> list[NatRow]:
        """Return the table's translations with their counters; see Engine.nat."""
        networks = [self._store.network(reference)] if reference else self._store.networks()
        counters = self._counters()
        rows = []
        members: dict[str, list[Container]] = {}
        for item in self._store.containers():
            if item.endpoints:
                members.setdefault(item.endpoints[0].network_id, []).append(item)
        for network in networks:
            for rule in nat.network_objects(network):
                if isinstance(rule, NatElement) and rule.set_name.startswith(("masquerade", "snat")):
                    kind = rule.set_name[:-1]
                    packets, size = counters.get((rule.set_name, rule.key), (0, 0))
                    rows.append(NatRow(kind, network.name, "", rule.key, rule.value or "(interface)", packets, size))
            for container in members.get(network.id, ()):
                rows += _published_rows(container, network, counters)
        return rows

    def _counters(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Return packets and bytes of the table's elements, by set and key; none when there is no table."""
        if not self._nft.has_table(TABLE):
            return {}
        kinds = [("map", name) for name in nat.MAPS] + [("set", name) for name in ("masquerade4", "masquerade6")]
        return {
            (name, nat.key_of(name, element.key)): (element.packets, element.bytes)
            for kind, name in kinds
            for element in self._nft.elements(TABLE, kind, name)
        }

    # Around every write

    def _prepare(self) -> None:
        """Check the privilege, make the directories, and clear away what dead processes left half done."""
        if not self._is_prepared:
            self._kernel.require_privilege()
            for directory in (f"{self._run_directory}/netns", f"{self._run_directory}/etc", wanted.NAME_DIRECTORY):
                self._kernel.prepare_directory(directory)
            self._kernel.prepare_shared_directory(wanted.ETC_DIRECTORY)
            self._nft.prepare()
            self._is_prepared = True
            self._make_way(is_thorough=False)
        containers, changing, networks = self._store.abandoned()
        if not containers and not changing and not networks:
            return
        try:
            if containers:
                self._remove_containers(containers)
            for container in changing:
                self._finish_change(container)
            if networks:
                with self._store.network_lock():
                    self._remove_networks(networks)
        except DnetError as error:
            # It stays on record and is tried again; it must not keep others from working.
            self._on_notice(f"what a killed process left half done is still there: {error}")
            return
        if containers or networks:
            self._on_notice(
                f"removed {len(containers)} containers and {len(networks)} networks, left half done by a killed process"
            )

    def _make_way(self, *, is_thorough: bool) -> None:
        """Look after other firewalls, and say which of them stop our networks."""
        networks = self._store.networks()
        if networks:
            for sentence in firewalls.make_way(self._nft, networks, is_thorough=is_thorough):
                self._on_notice(sentence)

    def _all_rules(self) -> Group:
        """Return all that belongs into the table, for when somebody has removed it."""
        self._on_notice(f"made table {TABLE} again, which somebody had removed")
        return wanted.rules(self._store.networks(), self._store.containers())

    @contextmanager
    def _undoing(self, owner: str) -> Iterator[list[Group]]:
        """Yield a list for the groups that the block creates; when it fails, remove them and what `owner` reserved."""
        groups: list[Group] = []
        try:
            yield groups
        except BaseException as error:
            if not self._store.owns_rows(owner):
                raise  # nothing was reserved, or all of it was finished before the interrupt came
            self._applier.undo(error, groups, lambda: self._store.forget_owned(owner))
            raise


def _report(on_progress: Progress | None, total: int) -> Callable[[int], None] | None:
    if on_progress is None:
        return None
    return lambda done: on_progress(done, total)


def _named(container: Container) -> tuple[str, ...]:
    """Return the links that carry a container's name."""
    return wanted.name_path(container.name), f"{wanted.ETC_DIRECTORY}/{container.name}"


def _rules_of(container: Container, ports: Sequence[PortMapping], network: Network) -> list[Object]:
    """Return the table's elements for some ports of a container."""
    objects = nat.container_objects(replace(container, ports=tuple(ports)), network, container.endpoints[0])
    return [item for item in objects if item.backend == "nft"]


def _flows_of(container: Container, ports: Sequence[PortMapping], network: Network) -> list[Flows]:
    objects = nat.container_objects(replace(container, ports=tuple(ports)), network, container.endpoints[0])
    return [item for item in objects if isinstance(item, Flows)]


def _published_rows(
    container: Container, network: Network, counters: Mapping[tuple[str, str], tuple[int, int]]
) -> list[NatRow]:
    elements = [
        item for item in nat.container_objects(container, network, container.endpoints[0]) if nat.is_published(item)
    ]
    rows = []
    for mapping, item in zip(container.ports, elements, strict=True):
        packets, size = counters.get((item.set_name, item.key), (0, 0))
        address, _, port = item.value.partition(" . ")
        source = f"{mapping.host}/{mapping.protocol}"
        target = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        rows.append(NatRow("publish", network.name, container.name, source, target, packets, size))
    return rows
