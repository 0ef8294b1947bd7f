"""What every change needs: the store, the backends, and what makes a change whole or nothing.

A write first reserves what it needs in a short transaction (phase `creating`, `deleting` or `changing`), for a bulk one
for each lot, then works on the kernel without holding any, then commits; a failure anywhere takes all of it back, and
what a killed process left is finished or removed by the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING

from dnet.drivers import desired, existing_bridge, host_files
from dnet.drivers.nat_table import TABLE
from dnet.errors import DnetError, InvalidRequest
from dnet.linux import files
from dnet.linux.bpf import Bpf
from dnet.linux.kernel import Kernel
from dnet.linux.nftables import Nft
from dnet.model.container import Container
from dnet.model.network import Network
from dnet.model.values import replace
from dnet.objects.host import File
from dnet.objects.object import Object
from dnet.objects.vlans import MacEntry, VlanEntry, VlanFilter, VlanProgram
from dnet.state.store import Store
from dnet.transaction import reserve_containers, reserve_network
from dnet.transaction.apply import Applier, Group, recorded
from dnet.transaction.lots import lots
from dnet.transaction.ruleset import Rules

if TYPE_CHECKING:
    from dnet.openvswitch.switch import OpenVSwitch
    from dnet.runtime.process import Runtime
    from dnet.transaction.switch import Switches
    from dnet.transaction.uplinks import Adoptions


Progress = Callable[[int, int], None]
SYSTEMD_RESOLV_CONF = "/run/systemd/resolve/resolv.conf"
HOSTS = "/etc/hosts"
TURNING = "turning"  # the setting that is not 0 while a network is made to keep VLANs apart


class Writer:
    """The writing half of an engine, without the changes themselves."""

    def __init__(
        self,
        store: Store,
        run_directory: str,
        on_notice: Callable[[str], None],
        kernel: Kernel,
        nft: Nft,
        runtime: Callable[[], Runtime],
        switch: OpenVSwitch | None = None,
    ) -> None:
        self.store = store
        self.run_directory = run_directory
        self.notice = on_notice
        self.kernel = kernel
        self.nft = nft
        self.rules = Rules(store, kernel, nft, on_notice)
        self.runtime = runtime
        self._bpf = Bpf(f"{run_directory}/bpf")
        self._switch = switch
        self.applier = Applier(kernel, nft, self._all_rules, self._bpf, self._all_vlans, self._open_switch)
        self.left_over: list[tuple[str, DnetError]] = []
        self._is_prepared = False

    def close(self) -> None:
        """Close the sockets."""
        self.rules.note()
        self.kernel.close()
        self.nft.close()
        self._bpf.close()
        if "switches" in vars(self):
            self.switches.close()

    # Most commands need neither of these.

    @cached_property
    def switches(self) -> Switches:
        """The Open vSwitch that networks are on."""
        from dnet.transaction import switch

        return switch.Switches(self.store, self.kernel, self._switch)

    @cached_property
    def adoptions(self) -> Adoptions:
        """The host's interfaces that are ports of networks."""
        from dnet.transaction import uplinks

        return uplinks.Adoptions(self.store, self.kernel, self.applier, self.notice, desired.uplink, self._open_switch)

    def _open_switch(self) -> OpenVSwitch:
        return self.switches.open()

    def prepare(self) -> None:
        """Check the privilege, make the directories, and clear away what dead processes left half done."""
        if not self._is_prepared:
            self.kernel.require_privilege()
            for directory in (f"{self.run_directory}/netns", f"{self.run_directory}/etc", desired.NAME_DIRECTORY):
                self.kernel.prepare_directory(directory)
            self.kernel.prepare_shared_directory(desired.ETC_DIRECTORY)
            self._is_prepared = True
            self.rules.look()
        self.left_over = self._clear_up()
        for what, error in self.left_over:
            self.notice(f"what a killed process left half done is still there: {what}: {error}")

    def _clear_up(self) -> list[tuple[str, DnetError]]:
        """Finish or remove what dead processes left half done; return what cannot be, and why: it stays on record."""
        containers, changing, networks = self.store.abandoned()
        failed: list[tuple[str, DnetError]] = []
        for what, finish in self._half_done(containers, changing, networks):
            try:
                finish()
            except DnetError as error:
                failed.append((what, error))
        if (containers or networks) and not failed:
            self.notice(
                f"removed {len(containers)} containers and {len(networks)} networks, left half done by a killed process"
            )
        return failed

    def _half_done(
        self, containers: Sequence[Container], changing: Sequence[Container], networks: Sequence[Network]
    ) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield what is half done, in words, with what finishes or removes it: in this order, each before the next."""
        adopted = self.store.abandoned_adoptions()
        if adopted:
            yield "adopted interfaces", lambda: self._locked(lambda: self.adoptions.clear_up(adopted))
        if containers:
            yield from self._removals(containers)
        for item in changing:
            yield f"container {item.name}", partial(self._finish_change, item)
        if self.store.setting(TURNING):
            yield "networks' VLANs", self._finish_turning
        if changing:  # the VLANs of their ports, which are on record as they were to be
            yield "ports' VLANs", self._mend_all_vlans
        if networks:
            yield "networks", lambda: self._locked(lambda: self.remove_networks(networks, is_forced=True))

    def _locked(self, work: Callable[[], None]) -> None:
        with self.store.network_lock():
            work()

    def _removals(self, containers: Sequence[Container]) -> Iterator[tuple[str, Callable[[], None]]]:
        """Remove half-made containers together, or else yield what removes each: one must not keep the others."""
        try:
            self.remove_containers(containers, is_forced=True)
        except DnetError:
            for item in containers:
                yield f"container {item.name}", partial(self.remove_containers, [item], is_forced=True)

    def _all_rules(self) -> Group:
        """Return all that belongs into the table, for when somebody has removed it."""
        if self.nft.has_table(TABLE):
            self.notice(f"brought table {TABLE} up to date")
        else:
            self.notice(f"made table {TABLE} again, which somebody had removed")
        return desired.rules(self.store.networks(), self.store.containers())

    def _all_vlans(self) -> Group:
        """Return all that belongs into the VLAN map and at the bridges, for when it has to be put there anew."""
        networks = self.store.networks_by_id()
        return desired.vlans(networks.values(), self.store.containers())

    def missing_vlans(self) -> list[Object]:
        """Return what should keep VLANs apart and does not: entries of the map, hooks, MACs at devices that exist."""
        return self._missing_of(self._all_vlans())

    def _missing_of(self, wanted_here: Group) -> list[Object]:
        entries = self._bpf.ports() if any(isinstance(item, VlanEntry) for item in wanted_here) else {}
        filtered = self.kernel.filtered() if wanted_here else set()
        masters = self.kernel.masters() if wanted_here else {}
        stay = self.kernel.mac_entries() if wanted_here else set()
        # Of two ports with one MAC, one can have it.
        macs = {item.mac for item in wanted_here if isinstance(item, MacEntry) and (item.index, item.mac) in stay}

        def is_missing(item: Object) -> bool:
            match item:
                case VlanEntry():
                    return entries.get(item.index) != item.vlans
                case VlanFilter():
                    is_of_bridge = item.bridge_index in {item.index, masters.get(item.index)}
                    is_there = (item.index, *item.blocks) in filtered
                    return is_of_bridge and not is_there and self.kernel.is_device(item.index, item.device)
                case MacEntry():
                    return item.mac not in macs and self.kernel.is_device(item.index, item.device)
                case _:
                    return False

        return [item for item in wanted_here if is_missing(item)]

    def mend_vlans(self) -> None:
        """Put what is missing of that in place again, the programs included."""
        if not self.missing_vlans():
            return
        with self.store.network_lock():  # under which interfaces become ports, and programs come to them first
            wanted_here = self._all_vlans()
            missing = self._missing_of(wanted_here)
            self.applier.set_vlans([item for item in wanted_here if isinstance(item, VlanEntry)])
            hooks = [item for item in missing if isinstance(item, VlanFilter)]
            bridges = {item.bridge_index for item in hooks if item.index == item.bridge_index}
            programs = [item for item in wanted_here if isinstance(item, VlanProgram) and item.index in bridges]
            # A bridge's own first, then its programs, then its ports: these share what those make.
            hooks.sort(key=lambda item: item.index != item.bridge_index)
            own = [item for item in hooks if item.index in bridges]
            others = [item for item in hooks if item not in own]
            macs = [item for item in missing if isinstance(item, MacEntry)]
            for error in self.kernel.create([[*own, *programs, *others, *macs]]):
                if error:
                    raise error

    @contextmanager
    def undoing(self, owner: str) -> Iterator[list[Group]]:
        """Yield a list for the groups that the block creates; when it fails, remove them and what `owner` reserved."""
        groups: list[Group] = []
        try:
            yield groups
        except BaseException as error:
            if not self.store.owns_rows(owner):
                raise  # nothing was reserved, or all of it was finished before the interrupt came
            self.applier.undo(error, groups, lambda: self.store.forget_owned(owner))
            raise

    # Networks

    def remove_networks(self, networks: Sequence[Network], *, is_forced: bool = False) -> None:
        """Delete networks that are marked so, the table with the last one; under the network lock.

        By force, also where Open vSwitch is gone: what is in its database is then left to `reconcile`.
        """
        is_last = bool(networks) and not self.store.has_other_networks([network.id for network in networks])
        groups = [
            desired.network(network, is_first=is_last and position == 0) for position, network in enumerate(networks)
        ]
        for adopted in self.store.adoptions([network.id for network in networks]):
            self.adoptions.give_back(adopted)
        self.delete(groups, is_forced=is_forced)
        self.rules.withdraw(networks)
        self.store.forget("network", [network.id for network in networks])

    def mend_networks(self, references: Collection[str], *, with_advice: bool = True) -> None:
        """Make again what somebody, or a reboot, has removed: the table, and the devices of these networks.

        Interfaces that were adopted are the caller's business, or, with advice, the user's.
        """
        networks = [self.store.network(reference) for reference in sorted(references)]
        if networks and not self.rules.is_whole():
            self.applier.create_rules(self._all_rules())
        for network in networks:
            self.kernel.switch_forwarding(4)
            if network.subnet6:
                self.kernel.switch_forwarding(6)
            if self.is_made(network):
                continue
            with self.store.network_lock():
                if not self.is_made(network):
                    self.mend_ports([self._mend_network(network)])
                    for interface in network.uplinks if with_advice else ():
                        command = f"dnet network adopt {network.name} {interface}"
                        self.notice(f"interface {interface} is not on network {network.name} any more: {command}")

    def is_made(self, network: Network) -> bool:
        """Whether the network's device is there, as far as a look at the kernel tells."""
        if network.driver != "ovs":
            return self.kernel.is_device(network.device_index, network.device)
        # After a reboot ovs-vswitchd makes the device again, but not what was on it.
        return self.kernel.device_index(network.device) is not None and network.gateway in self.kernel.local_addresses()

    def mend_ports(self, networks: Iterable[Network], *, is_dry_run: bool = False) -> list[Object]:
        """Make host ends of endpoints that are no ports of their bridge any more so again; return the objects.

        On Open vSwitch, also what somebody has changed of bridges and ports.
        """
        masters = self.kernel.masters()
        found: list[Object] = []
        for network in networks:
            strays = {index for index, master in masters.items() if master != network.device_index}
            ports = desired.ports(network, self.store.containers_on(network.id), strays)
            if network.driver == "ovs":
                own = desired.network(network, is_first=False) if self.is_made(network) else ()
                ports = (*own, *desired.uplinks(self.adoptions.placed(network)), *ports)
                ports = tuple(self.switches.missing(ports))
            found += ports
        if found and not is_dry_run:
            self.applier.join(found)
        return found

    def keep_vlans_apart(self, reference: str, backend: str = "") -> None:
        """Make a network one whose ports are in VLANs, all that are there already in its gateway's."""
        with self.store.network_lock():
            network = self.adoptions.placed(self.store.network(reference))
            if network.vlan:
                return
            if not network.owns_device and network.driver != "ovs":
                hint = "VLANs need a bridge of dnet's own"
                raise InvalidRequest(f"network {network.name} cannot keep VLANs apart", object=network.name, hint=hint)
            aware = replace(
                network,
                vlan=reserve_network.DEFAULT_VLAN,
                vlan_backend=reserve_network.vlan_backend(self.kernel, network.driver, backend),
            )
            members = self.store.containers_on(network.id)
            with self.store.write():
                self.store.set_network_vlan(aware)
                self.store.set_setting(TURNING, time.monotonic_ns())
            try:
                self._change_network(network, aware, members)
                with self.store.write():
                    self.store.set_setting(TURNING, 0)
            except BaseException as error:
                self.applier.undo_change(
                    error,
                    lambda: self._change_network(aware, network, members, is_undoing=True),
                    lambda: self._forget_vlan(network),
                )
                raise
        for item in aware.uplinks:
            self.notice(f"interface {item} passes VLANs of network {network.name} from now on: {item.vlans_on(aware)}")

    def _forget_vlan(self, network: Network) -> None:
        with self.store.write():
            self.store.set_network_vlan(network)
            self.store.set_setting(TURNING, 0)

    def _finish_turning(self) -> None:
        """Keep VLANs apart on a network that a killed process was about to make so; its ports are not all in one."""
        mark = self.store.setting(TURNING)
        with self.store.network_lock():  # which whoever does that has
            is_abandoned = mark == self.store.setting(TURNING) != 0
        if is_abandoned:
            self._mend_all_vlans()
            with self.store.write():
                if self.store.setting(TURNING) == mark:
                    self.store.set_setting(TURNING, 0)

    def _mend_all_vlans(self) -> None:
        self.mend_vlans()
        self.mend_ports([network for network in self.store.networks() if network.driver == "ovs"])

    def _change_network(
        self, before: Network, after: Network, members: Sequence[Container], *, is_undoing: bool = False
    ) -> None:
        networks, host, peers = self.store.networks_by_id(), self.host_files(), self.peers(members)
        groups = [
            [
                (*desired.network(net, is_first=False), *desired.uplinks(net)),
                *(desired.container(item, {**networks, net.id: net}, host, peers) for item in members),
            ]
            for net in (before, after)
        ]
        self.applier.change(*groups, is_undoing=is_undoing)

    def _mend_network(self, network: Network) -> Network:
        """Make a network's devices again, and return it with those of a bridge that is not dnet's to make."""
        if not network.owns_device and network.driver != "ovs":
            network = existing_bridge.again(network, self.kernel.report())
            with self.store.write():
                self.store.set_device(network)
        group = desired.network(network, is_first=True)
        try:
            self.applier.create([group])
        except BaseException as error:
            # A device that is only half set up must not pass for the network; its rules do no harm.
            self.applier.undo(error, [[item for item in group if item.backend == "kernel"]], lambda: None)
            raise
        return network

    # Containers

    def host_files(self) -> desired.HostFiles:
        """Return the host's files, from which containers' are made."""
        return desired.HostFiles(files.read(host_files.RESOLV_CONF), files.read(SYSTEMD_RESOLV_CONF), files.read(HOSTS))

    def reservation(self) -> reserve_containers.Reservation:
        """Return what chooses containers' names, addresses and ports, inside transactions of the caller's."""
        places = {
            desired.NAME_DIRECTORY: f"{self.run_directory}/netns",
            desired.ETC_DIRECTORY: f"{self.run_directory}/etc",
        }
        return reserve_containers.Reservation(self.store, self.kernel, self.run_directory, places)

    def peers(self, containers: Sequence[Container]) -> dict[str, Container]:
        """Return all that containers have links with, by name, they themselves included."""
        known = {item.name: item for item in containers}
        names = {link.child for item in containers for link in item.links}
        names |= {link.parent for item in containers for link in item.linked_by}
        return {item.name: item for item in self.store.named_containers(names - set(known))} | known

    def groups(self, containers: Sequence[Container]) -> Iterator[Group]:
        """Return each container's objects, from what the store says now."""
        networks = self.store.networks_by_id()
        host, peers = self.host_files(), self.peers(containers)
        return (desired.container(item, networks, host, peers) for item in containers)

    def remove_containers(
        self, containers: Sequence[Container], on_progress: Progress | None = None, *, is_forced: bool = False
    ) -> None:
        """Delete containers that are marked so, with their processes, and what others' hosts files say of them.

        By force, also where Open vSwitch is gone: what is in its database is then left to `reconcile`.
        """
        for item in containers:
            if item.process:
                self.runtime().remove(item)
        lines = self.linked_lines(containers)
        groups = list(self.groups(containers))
        self.delete(groups, is_forced=is_forced, on_progress=report(on_progress, len(containers)))
        self.store.forget("container", [item.id for item in containers])
        self.update_hosts(lines)

    def check_switch(self, containers: Collection[Container]) -> None:
        """Raise when an interface of some containers is on Open vSwitch, and that cannot be asked to remove it."""
        networks = self.store.networks_by_id()
        kinds = {networks[end.network_id].driver for item in containers for end in item.endpoints}
        kinds.update(wire.kind for item in containers for wire in item.attachments)
        if "ovs" in kinds:
            self.switches.check_within_reach()

    def prepare_switch(self, network: Network) -> None:
        """Raise when a network is on Open vSwitch, and that does not run: before anything is changed."""
        if network.driver == "ovs":
            self.switches.open().prepare()

    def delete(
        self, groups: Sequence[Group], *, is_forced: bool, on_progress: Callable[[int], None] | None = None
    ) -> None:
        """Delete groups; by force, what is in the database of an Open vSwitch that is gone is left behind."""
        if is_forced and not self.switches.is_within_reach(groups):
            groups = self._leave_behind(groups)
        self.applier.delete(groups, on_progress=on_progress)

    def _leave_behind(self, groups: Sequence[Group]) -> Sequence[Group]:
        self.notice(
            "Open vSwitch cannot be reached: what its database still has of this is removed by `dnet reconcile` when "
            "it is back"
        )
        return self.switches.leave_behind(groups)

    def _finish_change(self, container: Container) -> None:
        """Give a container what the store says of it, when a killed process was changing that."""
        final = self.store.reread(container.id)
        lines = self.linked_lines([container])
        self.change([container], [final], is_undoing=True, is_forced=True)
        self.update_hosts(lines, self.linked_lines([final]))
        self.settle_rows([final], [container])

    def change(
        self,
        before: Sequence[Container],
        after: Iterable[Container],
        *,
        is_undoing: bool = False,
        is_forced: bool = False,
        on_progress: Progress | None = None,
    ) -> None:
        """Turn containers into others: delete the objects that only the former have, create those of the latter.

        By force, also where Open vSwitch is gone: it is left as it is then, for `reconcile` to finish.
        """
        is_linked = self.store.has_links() and any(item.links or item.linked_by for item in before)
        after = list(after) if is_linked else after
        host, *peers = self.host_files(), *(self.peers(list(part)) if is_linked else {} for part in (before, after))

        def pairs() -> Iterator[tuple[list[Group], list[Group]]]:
            for lot in lots(zip(before, after, strict=True)):
                networks = self.store.networks_by_id()
                old: list[Group] = []
                new: list[Group] = []
                for one, other in lot:
                    same = desired.unchanged(one, other)
                    old.append(desired.container(one, networks, host, peers[0], without=same))
                    new.append(desired.container(other, networks, host, peers[1], without=same))
                yield self._within_reach(old, new) if is_forced else (old, new)
                for group, successor in zip(old, new, strict=True):
                    _rewrite(group, successor)

        self.applier.change_in_lots(pairs(), is_undoing=is_undoing, on_progress=report(on_progress, len(before)))

    def _within_reach(self, old: list[Group], new: list[Group]) -> tuple[list[Group], list[Group]]:
        """Return what can be changed of groups; what is to leave an Open vSwitch that is gone is left behind."""
        if self.switches.is_within_reach([*old, *new]):
            return old, new
        self._leave_behind([[item for item in group if item not in kept] for group, kept in zip(old, new, strict=True)])
        from dnet.transaction import switch

        return switch.elsewhere(old), switch.elsewhere(new)

    def turn(
        self,
        before: Sequence[Container],
        after: Iterable[Container],
        on_progress: Progress | None = None,
        *,
        is_forced: bool = False,
    ) -> list[Container]:
        """Turn containers marked as changing into others, taken lot by lot and returned, or back to what they were."""
        lines = self.linked_lines(before)
        begun: list[Container] = []
        try:
            self.change(before, recorded(after, begun), on_progress=on_progress, is_forced=is_forced)
            self.settle_rows(begun, before)
        except BaseException as error:
            self.applier.undo_change(
                error,
                lambda: self.change(begun, before[: len(begun)], is_undoing=True),
                lambda: self.settle_rows(before, self.store.whole([item.id for item in before])),
            )
            raise
        self.update_hosts(lines, self.linked_lines(begun))
        return begun

    def settle_rows(self, final: Sequence[Container], others: Sequence[Container]) -> None:
        """Have the rows say that containers are as in `final`, and ready; forget what only `others` have."""
        ends = {end.id for item in final for end in item.endpoints}
        wires = {wire.id: wire for item in final for wire in item.attachments}
        lost = [wire.id for item in others for wire in item.attachments if wire.id not in wires]
        with self.store.write():
            self.store.set_endpoint_phase(ends, "ready")
            self.store.delete("endpoint", [end.id for item in others for end in item.endpoints if end.id not in ends])
            self.store.set_endpoint_phase(wires, "ready", "attachment")
            self.store.delete("attachment", lost)
            for wire in wires.values():
                self.store.set_attachment(wire)
            for now, other in zip(final, others, strict=True):
                self._settle_one(now, other)
            self.store.set_ready("container", [item.id for item in final])
            self.store.forget_unused_targets()

    def _settle_one(self, now: Container, other: Container) -> None:
        if now.routes or other.routes:
            self.store.delete_routes(now.id, [way for way in other.routes if way not in now.routes])
            self.store.insert_routes(now.id, now.routes, "ready")
        if now.displaced or other.displaced:
            self.store.set_displaced(now)
        if now.target:
            self.store.set_target(now)

    def settle(self, containers: Sequence[Container], groups: Sequence[Group]) -> None:
        """Bring new containers in step with what the other ends of their links have become since they were reserved."""
        made = {item.id: group for item, group in zip(containers, groups, strict=True) if item.links or item.linked_by}
        if not made:
            return
        names = [item.name for item in containers if item.id in made]
        now = [item for item in self.store.named_containers(names) if item.id in made]
        pairs = [(made[item.id], group) for item, group in zip(now, self.groups(now), strict=True)]
        changed = [(old, new) for old, new in pairs if set(old) != set(new)]
        if changed:
            self.applier.change([old for old, _ in changed], [new for _, new in changed])
        for old, new in changed:
            _rewrite(old, new)

    # Links

    def linked_lines(self, members: Collection[Container]) -> dict[tuple[str, str], str]:
        """Return what links to and from these containers mean in parents' hosts, by the file and the alias.

        The store may know a different state of them: it is theirs, not its, that counts.
        """
        if not self.store.has_links():
            return {}
        known = {item.name: item for item in members if not item.target}
        parents = {item.name: item for item in self.store.parents(set(known))} | {
            item.name: item for item in members if item.links
        }
        return {
            (parent.files, link.alias): desired.link_lines(parent, link, known)
            for parent in (known.get(name, item) for name, item in parents.items())
            for link in parent.links
            if link.child in known
        }

    def update_hosts(
        self, before: Mapping[tuple[str, str], str], after: Mapping[tuple[str, str], str] | None = None
    ) -> None:
        """Replace the lines of links in parents' hosts, whatever else is in there."""
        for path, alias in {**before, **(after or {})}:
            key = (path, alias)
            old, new = before.get(key, ""), (after or {}).get(key, "")
            if old != new:
                files.edit(f"{path}/hosts", partial(host_files.edited, before=old, after=new))


def _rewrite(before: Group, after: Group) -> None:
    """Bring files in step, hosts line by line; what somebody has edited stays."""
    told = {item.path: item.text for item in before if isinstance(item, File)}
    for item in after:
        if not isinstance(item, File) or item.text == told.get(item.path):
            continue
        if item.path.endswith("/hosts"):
            files.edit(item.path, partial(host_files.edited, before=told.get(item.path, ""), after=item.text))
        else:
            files.edit(item.path, partial(host_files.renewed, after=item.text))


def report(on_progress: Progress | None, total: int) -> Callable[[int], None] | None:
    """Return a callback of the applier's that reports to one of the caller's."""
    return on_progress and (lambda done: on_progress(done, total))
