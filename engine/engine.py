"""The engine: reserve in the store, describe by a driver, apply to the kernel, commit. Rank 5.

Every method may be called from several processes at once. A write first reserves what it needs in one short
transaction (phase `creating`), then works on the kernel without holding any, then commits; a failure anywhere
takes all of it back.
"""

from __future__ import annotations

import os
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from types import TracebackType
from typing import Self, TypeVar

from dnet import ipam, names
from dnet.apply import Applier, Group
from dnet.drivers import bridge
from dnet.errors import Conflict, DnetError, Exhausted, InvalidRequest, NotFound, Unsupported
from dnet.kernel import Kernel
from dnet.model import (
    DEFAULT_DEVICE,
    DEFAULT_NETWORK,
    MODE_NONE,
    Container,
    ContainerSpec,
    Endpoint,
    Network,
    NetworkSpec,
)
from dnet.nft import Nft
from dnet.objects import NftTable, Object
from dnet.store import Store, veth_name

STATE_DIRECTORY = "/var/lib/dnet"
RUN_DIRECTORY = "/run/dnet"
# Where `ip netns` looks for names (iproute2's NETNS_RUN_DIR).
NAME_DIRECTORY = "/run/netns"
RESOLV_CONF = "/etc/resolv.conf"

Progress = Callable[[int, int], None]
T = TypeVar("T", Container, Network)

_MEMBERS_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """What a bulk made, what failed when it was to keep going, and how long each phase took, in seconds."""

    containers: tuple[Container, ...]
    failed: tuple[tuple[str, DnetError], ...] = ()
    phases: Mapping[str, float] = field(default_factory=dict)


class Engine:
    """Networks and containers of one state directory, in the network namespace that this was opened in."""

    def __init__(
        self, state_dir: str, run_dir: str, on_notice: Callable[[str], None], kernel: Kernel, nft: Nft
    ) -> None:
        self._sandbox_directory = os.path.join(os.path.abspath(run_dir), "netns")
        self._store = Store(os.path.abspath(state_dir), self._sandbox_directory)
        self._on_notice = on_notice
        self._kernel = kernel
        self._applier = Applier(kernel, nft)
        self._is_prepared = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database and the sockets. What was created stays."""
        self._kernel.close()
        self._store.close()

    # Looking

    def containers(self) -> list[Container]:
        """Return all containers, oldest first."""
        return self._store.containers()

    def container(self, reference: str) -> Container:
        """Return the container of that name, id or unique id prefix."""
        return _only(self._store.find_containers(reference), reference, "container")

    def names(self, *, prefix: str | None = None) -> list[str]:
        """Return the names of all containers, or of those called PREFIX-1, PREFIX-2, ..."""
        names_ = [item.name for item in self.containers()]
        return [name for name in names_ if prefix is None or _is_numbered(name, prefix)]

    def networks(self) -> list[Network]:
        """Return all networks, by name."""
        return self._store.networks()

    def network(self, reference: str) -> Network:
        """Return the network of that name, id or unique id prefix."""
        return _only(self._store.find_networks(reference), reference, "network")

    def members(self, network: Network) -> list[Container]:
        """Return the containers on a network."""
        return self._store.containers_on(network.id)

    # Networks

    def create_network(
        self,
        name: str,
        *,
        driver: str = "bridge",
        subnet: str | IPv4Network | None = None,
        gateway: str | IPv4Address | None = None,
        ip_range: str | IPv4Network | None = None,
        aux_addresses: Mapping[str, str | IPv4Address] | None = None,
        internal: bool = False,
        masquerade: bool = True,
        mtu: int = 0,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> Network:
        """Create a network. Unset, the subnet is a free default pool and the gateway its first address."""
        spec = NetworkSpec(
            name=name,
            driver=driver,
            subnet=subnet,
            gateway=gateway,
            ip_range=ip_range,
            aux_addresses=aux_addresses or {},
            internal=internal,
            masquerade=masquerade,
            mtu=mtu,
            labels=labels or {},
            options=options or {},
        )
        return self.create_network_from(spec)

    def create_network_from(self, spec: NetworkSpec) -> Network:
        """Create the network that `spec` describes."""
        self._prepare()
        with self._store.network_lock():
            return self._create_network(spec)

    def _create_network(self, spec: NetworkSpec) -> Network:
        busy = self._busy_subnets()
        with self._store.operation() as owner:
            with self._store.write():
                objects, network = self._reserve_network(spec, busy, owner)
            with self._forgetting("network", [network.id]):
                self._applier.create([objects])
                with self._store.write():
                    self._store.set_ready("network", [network.id])
        return network

    def plan_network(self, spec: NetworkSpec) -> list[Object]:
        """Return what creating the network would create, touching nothing."""
        busy = self._busy_subnets()
        with self._store.write(is_dry_run=True):
            objects, _ = self._reserve_network(spec, busy, "")
        return list(objects)

    def _busy_subnets(self) -> list[IPv4Network]:
        """Return what an automatic subnet must not overlap: the host's routes and its nameservers."""
        return self._kernel.routed_subnets() + _nameservers()

    def _reserve_network(self, spec: NetworkSpec, busy: list[IPv4Network], owner: str) -> tuple[Group, Network]:
        """Insert a network and return it with its objects; inside a transaction."""
        if spec.driver != "bridge":
            raise Unsupported(f"there is no network driver {spec.driver!r}", object=spec.driver, hint="use bridge")
        others = self._store.network_names()
        if any(name == spec.name for name, _ in others):
            hint = "remove it first, or choose another name"
            raise Conflict(f"network {spec.name} exists already", object=spec.name, hint=hint)
        subnet = spec.subnet or ipam.free_subnet([*busy, *(other for _, other in others)])
        if spec.subnet:
            own = {other for _, other in others}
            ipam.check_subnet(subnet, others, [route for route in busy if route not in own and route.prefixlen < 32])  # noqa: PLR2004
        identity = secrets.token_hex(32)
        device = DEFAULT_DEVICE if spec.name == DEFAULT_NETWORK else f"br-{identity[:12]}"
        if self._kernel.device_index(device):
            hint = f"remove it with `ip link delete {device}` if nothing needs it"
            raise Conflict(f"device {device} exists already and is not dnet's", object=device, hint=hint)
        network = Network(
            id=identity,
            name=spec.name,
            driver=spec.driver,
            subnet=subnet,
            gateway=ipam.check_gateway(spec, subnet),
            ip_range=spec.ip_range,
            aux_addresses=spec.aux_addresses,
            internal=spec.internal,
            masquerade=spec.masquerade,
            mtu=spec.mtu,
            device=device,
            device_index=self._store.take_indexes(1)[0],
            labels=spec.labels,
            options=spec.options,
            created=time.time(),
        )
        self._store.insert_network(network, owner)
        return (*(() if others else (NftTable(),)), *bridge.network(network)), network

    def delete_networks(self, references: Sequence[str]) -> list[Network]:
        """Remove networks that no container is on; all of them, or none."""
        self._prepare()
        with self._store.network_lock(), self._store.operation() as owner:
            with self._store.write():
                networks = list({net.id: net for net in map(self.network, references)}.values())
                for network in networks:
                    members = self._store.containers_on(network.id)
                    if members:
                        some = ", ".join(item.name for item in members[:3]) + (", ..." if len(members) > 3 else "")  # noqa: PLR2004
                        raise Conflict(
                            f"network {network.name} is in use by {len(members)} containers ({some})",
                            object=network.name,
                            hint="remove the containers first",
                        )
                self._store.set_deleting("network", [network.id for network in networks], owner)
            self._remove_networks(networks)
        return networks

    def prune_networks(self) -> list[Network]:
        """Remove every network that no container is on."""
        self._prepare()
        unused = [network.name for network in self.networks() if not self.members(network)]
        return self.delete_networks(unused)

    def _remove_networks(self, networks: Sequence[Network]) -> None:
        """Delete networks that are marked so, the table with the last one; under the network lock."""
        groups: list[Group] = [bridge.network(network) for network in networks]
        if networks and len(self._store.network_names()) == len(networks):
            groups.append((NftTable(),))
        self._applier.delete(groups)
        self._store.forget("network", [network.id for network in networks])

    # Containers

    def create(
        self,
        name: str = "",
        *,
        network: str = DEFAULT_NETWORK,
        ip: str | IPv4Address | None = None,
        mac: str = "",
        mtu: int = 0,
        labels: Mapping[str, str] | None = None,
    ) -> Container:
        """Create one container's network; unset values are chosen."""
        spec = ContainerSpec(name=name, network=network, ip=ip, mac=mac, mtu=mtu, labels=labels or {})
        return self.create_many([spec]).containers[0]

    def create_many(
        self, specs: Sequence[ContainerSpec], *, keep_going: bool = False, on_progress: Progress | None = None
    ) -> Created:
        """Create containers in one pass. All or nothing, unless `keep_going`.

        `on_progress(done, total)` is called some twenty times a second; an exception from it, or Ctrl-C, takes
        everything back.
        """
        started = time.perf_counter()
        self._prepare()
        wanted = {spec.network for spec in specs} - {MODE_NONE}
        self._ensure_networks(wanted)
        total = len(specs)
        with self._store.operation() as owner:
            with self._store.write():
                containers = self._reserve(specs, owner)
            identities = [item.id for item in containers]
            with self._forgetting("container", identities):
                networks = {network.id: network for network in self._store.networks()}
                groups = [self._container_objects(item, networks) for item in containers]
                planned = time.perf_counter()
                report = (lambda done: on_progress(done, total)) if on_progress else None
                errors = self._applier.create(groups, keep_going=keep_going, on_progress=report)
                applied = time.perf_counter()
                with self._store.write():
                    self._store.set_ready("container", identities)
            failed = [item for item, error in zip(containers, errors, strict=True) if error]
            self._store.forget("container", [item.id for item in failed])
        phases = {
            "plan": planned - started,
            "sandboxes": applied - planned,
            "commit": time.perf_counter() - applied,
        }
        return Created(
            containers=tuple(item for item, error in zip(containers, errors, strict=True) if not error),
            failed=tuple((item.name, error) for item, error in zip(containers, errors, strict=True) if error),
            phases=phases,
        )

    def plan(self, specs: Sequence[ContainerSpec]) -> list[Object]:
        """Return what `create_many` would create, in order, touching nothing."""
        busy = self._busy_subnets()
        objects: list[Object] = []
        with self._store.write(is_dry_run=True):
            known = {network.name for network in self.networks()}
            if DEFAULT_NETWORK in {spec.network for spec in specs} - known:
                group, network = self._reserve_network(NetworkSpec(name=DEFAULT_NETWORK), busy, "")
                self._store.set_ready("network", [network.id])
                objects += group
            networks = {network.id: network for network in self._store.networks()}
            for container in self._reserve(specs, ""):
                objects += self._container_objects(container, networks)
        return objects

    def _ensure_networks(self, wanted: Iterable[str]) -> None:
        """Make the default network on its first use, and again any whose device is gone (after a reboot, say)."""
        for name in sorted(wanted):
            found = self._store.find_networks(name)
            if name == DEFAULT_NETWORK and not found:
                with self._store.network_lock():
                    if not self._store.find_networks(name):
                        self._create_network(NetworkSpec(name=name))
                continue
            network = _only(found, name, "network")
            if not self._kernel.is_device(network.device_index, network.device):
                with self._store.network_lock():
                    if not self._kernel.is_device(network.device_index, network.device):
                        self._applier.create([(NftTable(), *bridge.network(network))])

    def _reserve(self, specs: Sequence[ContainerSpec], owner: str) -> list[Container]:
        """Choose names, addresses and indexes and insert the containers; inside a transaction."""
        chosen = self._choose_names([spec.name for spec in specs])
        networks = {name: self.network(name) for name in {spec.network for spec in specs} - {MODE_NONE}}
        addresses = {name: self._choose_addresses(network, specs) for name, network in networks.items()}
        indexes = iter(self._store.take_indexes(sum(spec.network != MODE_NONE for spec in specs)))
        containers = []
        now = time.time()
        for name, spec in zip(chosen, specs, strict=True):
            ends: tuple[Endpoint, ...] = ()
            if spec.network != MODE_NONE:
                network = networks[spec.network]
                ends = (_endpoint(network, spec, spec.ip or next(addresses[spec.network]), next(indexes)),)
            identity = secrets.token_hex(32)
            containers.append(
                Container(
                    id=identity,
                    name=name,
                    mode=spec.network,
                    sandbox=os.path.join(self._sandbox_directory, identity[:12]),
                    created=now,
                    status="created",
                    mtu=spec.mtu,
                    labels=spec.labels,
                    endpoints=ends,
                )
            )
        self._store.insert_containers(containers, owner)
        return containers

    def _choose_names(self, given: Sequence[str]) -> list[str]:
        """Return the given names, and new ones where none was given; raise when one is taken."""
        twice = [name for name, count in Counter(filter(None, given)).items() if count > 1]
        if twice:
            raise InvalidRequest(f"name {twice[0]} is given twice", object=twice[0], hint="names are unique")
        for name, holder in self._store.held_names([name for name in given if name]).items():
            hint = f"remove it with `dnet rm {name}`, or choose another name"
            raise Conflict(f"name {name} is in use by container {holder[:12]}", object=name, hint=hint)
        taken = set(given)
        chosen = []
        for name in given:
            candidate = name
            while not candidate or (not name and self._is_name_taken(candidate, taken)):
                candidate = names.readable(random.randrange(names.COUNT * (1 + len(taken) // names.COUNT * 10)))  # noqa: S311
            if name and os.path.lexists(self._name_path(name)):
                self._check_stale_name(name)
            taken.add(candidate)
            chosen.append(candidate)
        return chosen

    def _is_name_taken(self, name: str, taken: set[str]) -> bool:
        return name in taken or bool(self._store.held_names([name])) or os.path.lexists(self._name_path(name))

    def _check_stale_name(self, name: str) -> None:
        """Remove a name that leads to a sandbox of ours which is gone; raise when it is somebody else's."""
        path = self._name_path(name)
        target = os.path.realpath(path)
        if os.path.islink(path) and os.path.dirname(target) == self._sandbox_directory and not os.path.exists(target):
            os.unlink(path)
            return
        hint = f"remove it with `ip netns delete {name}` if nothing needs it, or choose another name"
        raise Conflict(f"a network namespace {name} that is not this engine's exists at {path}", object=name, hint=hint)

    def _choose_addresses(self, network: Network, specs: Sequence[ContainerSpec]) -> Iterator[IPv4Address]:
        """Return an iterator over as many free addresses as the specs without one need; check the others."""
        members = [spec for spec in specs if spec.network == network.name]
        taken = self._store.taken_addresses(network.id)
        room = bridge.PORTS_MAX - len(taken)
        if len(members) > room:
            raise Exhausted(
                f"{len(members)} containers do not fit on network {network.name}: its bridge has {room} "
                f"of {bridge.PORTS_MAX} ports left",
                object=network.name,
                hint="spread them over several networks",
            )
        for spec in members:
            if spec.ip:
                ipam.check_static(network, spec.ip)
                if int(spec.ip) in taken:
                    holder = self._store.address_holder(network.id, int(spec.ip)) or "another of these containers"
                    hint = "choose another --ip, or none"
                    raise Conflict(
                        f"address {spec.ip} of network {network.name} is in use by {holder}",
                        object=str(spec.ip),
                        hint=hint,
                    )
                taken.add(int(spec.ip))
        return iter(ipam.free_addresses(network, taken, sum(not spec.ip for spec in members)))

    def _container_objects(self, container: Container, networks: Mapping[str, Network]) -> Group:
        objects = list(bridge.sandbox(container, self._name_path(container.name)))
        for end in container.endpoints:
            objects += bridge.endpoint(networks[end.network_id], container, end)
        return objects

    def _name_path(self, name: str) -> str:
        return os.path.join(NAME_DIRECTORY, name)

    def delete_many(
        self, references: Iterable[str], *, is_missing_ok: bool = False, on_progress: Progress | None = None
    ) -> list[Container]:
        """Remove containers with all that belongs to them; returns when the kernel shows nothing of them."""
        self._prepare()
        wanted = list(references)
        with self._store.operation() as owner:
            with self._store.write():
                found = self._resolve(wanted, is_missing_ok=is_missing_ok)
                containers = list({item.id: item for item in found}.values())
                self._store.set_deleting("container", [item.id for item in containers], owner)
            self._remove_containers(containers, on_progress)
        return containers

    def delete(self, reference: str) -> Container:
        """Remove one container."""
        return self.delete_many([reference])[0]

    def _resolve(self, references: Sequence[str], *, is_missing_ok: bool) -> list[Container]:
        """Find containers by name, id or id prefix; many at once without a query for each."""
        by_name = {item.name: item for item in self._store.containers()} if len(references) > 1 else {}
        found = []
        for reference in references:
            try:
                found.append(by_name.get(reference) or self.container(reference))
            except NotFound:
                if not is_missing_ok:
                    raise
        return found

    def _remove_containers(self, containers: Sequence[Container], on_progress: Progress | None = None) -> None:
        networks = {network.id: network for network in self._store.networks()}
        groups = [self._container_objects(item, networks) for item in containers]
        total = len(containers)
        report = (lambda done: on_progress(done, total)) if on_progress else None
        self._applier.delete(groups, on_progress=report)
        self._store.forget("container", [item.id for item in containers])

    # Around every write

    def _prepare(self) -> None:
        """Check the privilege, make the directories, and clear away what dead processes left half done."""
        if not self._is_prepared:
            self._kernel.require_privilege()
            self._kernel.prepare_directory(self._sandbox_directory)
            self._kernel.prepare_directory(NAME_DIRECTORY)
            self._is_prepared = True
        containers, networks = self._store.abandoned()
        if containers:
            self._remove_containers(containers)
        if networks:
            with self._store.network_lock():
                self._remove_networks(networks)
        if containers or networks:
            self._on_notice(
                f"removed {len(containers)} containers and {len(networks)} networks, left half done by a killed process"
            )

    @contextmanager
    def _forgetting(self, table: str, identities: Sequence[str]) -> Iterator[None]:
        """Take reserved rows back when the block fails."""
        try:
            yield
        except BaseException:
            self._store.forget(table, identities)
            raise


def _endpoint(network: Network, spec: ContainerSpec, address: IPv4Address, host_index: int) -> Endpoint:
    return Endpoint(
        id=secrets.token_hex(32),
        network_id=network.id,
        network=network.name,
        interface="eth0",
        address=IPv4Interface((address, network.subnet.prefixlen)),
        gateway=None if network.internal else network.gateway,
        mac=spec.mac or ipam.mac_of(address),
        host_index=host_index,
        host_interface=veth_name(host_index),
    )


def _only(found: Sequence[T], reference: str, what: str) -> T:
    """Return the one that `reference` means; an exact name comes before ids that begin so."""
    if not found:
        hint = f"`dnet {'ps' if what == 'container' else 'network ls'}` lists them"
        raise NotFound(f"there is no {what} {reference}", object=reference, hint=hint)
    if len(found) > 1 and reference not in (found[0].name, found[0].id):
        raise InvalidRequest(
            f"{what} id prefix {reference} is not unique ({len(found)} begin so)",
            object=reference,
            hint="write more of it",
        )
    return found[0]


def _is_numbered(name: str, prefix: str) -> bool:
    return name.startswith(f"{prefix}-") and name[len(prefix) + 1 :].isdecimal()


def _nameservers() -> list[IPv4Network]:
    """Return the host's IPv4 nameservers, as networks of one address."""
    found = []
    try:
        with open(RESOLV_CONF, encoding="utf-8", errors="replace") as file:
            lines = [line.split() for line in file]
    except OSError:
        return []
    for words in lines:
        if len(words) > 1 and words[0] == "nameserver":
            try:
                found.append(IPv4Network(words[1]))
            except ValueError:
                continue
    return found
