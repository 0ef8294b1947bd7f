"""Creates and deletes groups of objects.

Each group is the tuple of one network or of one sandbox with its endpoints. Backends work in the order files, nftables,
connection tracking, VLAN map, kernel, so that a sandbox is never reachable without its rules, and no port without its
VLANs. Bridges of Open vSwitch come before the kernel's objects, some of which are on their devices; ports come last,
since a port is a device that exists. Deletion begins with those ports and the kernel, then come the rules, and
connection tracking is last: as long as a rule
stands, traffic makes new entries.

Undoing is deleting: what is missing already is no failure, and what is not ours (another index under our name, a
name that leads elsewhere) is left alone, so it does not matter how far a creation came.
"""

from __future__ import annotations

import errno
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import compress
from typing import TYPE_CHECKING, TypeVar

from dnet.drivers import nat_table
from dnet.errors import DnetError, KernelRefused, NotFound, OvsError, Unsupported
from dnet.linux import files
from dnet.linux.bpf import Bpf
from dnet.linux.builder import Progress
from dnet.linux.kernel import Kernel
from dnet.linux.nftables import Nft
from dnet.linux.threads import Background
from dnet.model.vlan import PortVlans
from dnet.objects import inverse, replay
from dnet.objects.grouping import ByKind, by_kind, of_backend, of_kind, runs
from dnet.objects.host import Flows, NftTable
from dnet.objects.links import Announced, Bridge, Membership, MovedDevice, Veth
from dnet.objects.object import Object
from dnet.objects.openvswitch import OvsBridge, OvsMac, OvsPort
from dnet.objects.sandbox import JoinedSandbox, Sandbox
from dnet.objects.vlans import (
    BridgeFiltering,
    BridgeVlans,
    MacEntry,
    NoBridgeFiltering,
    NoBridgeVlans,
    NoMacEntry,
    NoVlanFilter,
    VlanEntry,
    VlanFilter,
    VlanProgram,
)
from dnet.transaction.lots import lots

if TYPE_CHECKING:
    from dnet.openvswitch.switch import OpenVSwitch


Group = Sequence[Object]
E = TypeVar("E", bound=BaseException)
T = TypeVar("T")

_OF_VLANS = (BridgeVlans, BridgeFiltering, VlanFilter, MacEntry, VlanEntry, VlanProgram)


class Applier:
    """Objects in, objects out, through the backends it is given."""

    def __init__(
        self,
        kernel: Kernel,
        nft: Nft,
        all_rules: Callable[[], Sequence[Object]],
        bpf: Bpf | None = None,
        all_vlans: Callable[[], Sequence[Object]] = tuple,
        switch: Callable[[], OpenVSwitch] | None = None,
    ) -> None:
        """Work through `kernel`, `nft` and `bpf`; without the last, objects of VLANs cannot be created.

        `all_rules` tells what the table holds when all is well, `all_vlans` which VlanEntry and VlanProgram objects
        there are then. `switch` is called when there is something of Open vSwitch's.
        """
        self._kernel = kernel
        self._nft = nft
        self._all_rules = all_rules
        self._bpf = bpf
        self._all_vlans = all_vlans
        self._switch = switch
        # Groups whose nftables transaction was refused: nothing of it exists, and what has their keys is others'.
        self._refused: list[Group] = []
        # Groups of which Open vSwitch has not been told yet, by identity.
        self._untold: set[int] = set()

    def create(
        self, groups: Iterable[Group], *, keep_going: bool = False, on_progress: Progress | None = None
    ) -> list[DnetError | None]:
        """Create every group and return an error or None for each.

        They are taken in lots: while the kernel makes one, the next is thought out. Without `keep_going` the first
        failure is raised, and what exists by then is left to `undo`; with it, the groups that failed are removed.
        """
        self._untold = set()
        begun: list[Group] = []
        with self._kernel.making(keep_going=keep_going, on_progress=on_progress) as making:
            for lot in lots(groups):
                begun += lot
                self._prepare(lot)
                making.put([[item for item in group if item.backend == "kernel"] for group in lot])
                if making.has_failed:
                    break
            errors = making.errors()
        self._join(begun, errors, keep_going=keep_going)
        failed = [group for group, error in zip(begun, errors, strict=False) if error]
        first = next(filter(None, errors), None)
        if first and not keep_going:
            raise first
        try:
            self.delete(failed)
        except DnetError as error:
            raise _noted(first or error, error) from error
        return errors

    def _prepare(self, groups: Sequence[Group]) -> None:
        """Create what has to be there before groups are in the kernel."""
        self._untold |= {id(group) for group in groups}
        kinds = by_kind(groups)
        self._prepare_rules(kinds)
        if of_backend("ovs", kinds):
            self._open_switch().prepare()
        files.create(item for group in groups for item in group if item.backend == "files")
        try:
            self.create_rules(of_backend("nft", kinds))
        except DnetError:
            self._refused = list(groups)
            raise
        self._kernel.drop_flows(of_kind(Flows, kinds), is_new=True)
        self.set_vlans(of_kind(VlanEntry, kinds))
        self._create_bridges(of_kind(OvsBridge, kinds))

    def create_files(self, items: Sequence[Object]) -> None:
        """Create files, directories and links."""
        files.create(items)

    def _open_switch(self) -> OpenVSwitch:
        if self._switch is None:
            raise TypeError("objects of Open vSwitch without a switch to make them on")
        return self._switch()

    def _create_bridges(self, bridges: Sequence[OvsBridge]) -> None:
        if bridges:
            self._untold.clear()
            self._open_switch().create_bridges(bridges)

    def _join(self, groups: Sequence[Group], errors: list[DnetError | None], *, keep_going: bool) -> None:
        """Make the ports of the groups that have no error, in one transaction; what it refuses becomes their errors."""
        owners = [
            (position, item)
            for position, group in enumerate(groups)
            for item in group
            if isinstance(item, OvsPort) and position < len(errors) and not errors[position]
        ]
        if not owners or (any(errors) and not keep_going):
            return
        self._untold.clear()
        refused = self._open_switch().create_ports([item for _, item in owners], keep_going=keep_going)
        for (position, _), error in zip(owners, refused, strict=True):
            errors[position] = errors[position] or error

    def undo(self, cause: BaseException, groups: Sequence[Group], afterwards: Callable[[], None]) -> None:
        """Remove what a failed creation left, then call `afterwards`; further interrupts do not stop it.

        What goes wrong in that is noted on the cause and hides nothing; `afterwards` is not called then, so that what
        is left remains on record.
        """
        self.undo_change(cause, lambda: self._delete(groups, None, is_rollback=True), afterwards)

    def undo_change(self, cause: BaseException, back: Callable[[], None], afterwards: Callable[[], None]) -> None:
        """Take back by `back` what has failed, such as by the change the other way round; otherwise as `undo`."""

        def work() -> None:
            try:
                back()
                afterwards()
            except Exception as error:  # noqa: BLE001  whatever it is, the cause is what gets raised
                _noted(cause, error)

        background = Background(work)
        try:
            background.start()
        finally:
            background.wait_uninterrupted()

    def delete(self, groups: Sequence[Group], *, on_progress: Progress | None = None) -> None:
        """Delete the un-owned objects of every group; what is missing already is no failure."""
        self._delete(groups, on_progress, is_rollback=False)

    def _delete(self, groups: Sequence[Group], on_progress: Progress | None, *, is_rollback: bool) -> None:
        if not groups:
            return
        told = [group for group in groups if id(group) not in self._untold]
        self._untold = set()
        kinds = by_kind(told)
        ports, bridges = of_kind(OvsPort, kinds), of_kind(OvsBridge, kinds)
        problems: list[OvsError] = []
        if ports:
            # Slower by far than the rest, so that this is the progress to tell.
            report = None if on_progress is None else _at_most(len(groups), on_progress)
            try:
                self._open_switch().delete_ports(ports, report)
            except OvsError as error:
                if not is_rollback:
                    raise
                problems.append(error)  # the rest can be undone nevertheless
            on_progress = None
        parts = [[item for item in group if item.backend == "kernel"] for group in groups]
        self._kernel.delete(parts, is_rollback=is_rollback, on_progress=on_progress)
        if bridges:
            self._open_switch().delete_bridges(bridges)
        made = [group for group in groups if not any(group is refused for refused in self._refused)]
        self._refused = []
        self.delete_rules([item for group in made for item in group if item.backend == "nft"])
        self._kernel.drop_flows(of_kind(Flows, by_kind(groups)), is_new=False)
        self._forget_vlans([item for group in groups for item in group])
        files.delete([item for group in groups for item in group if item.backend == "files"])
        if problems:
            raise problems[0]

    def change(
        self,
        before: Sequence[Group],
        after: Sequence[Group],
        *,
        is_undoing: bool = False,
        on_progress: Progress | None = None,
    ) -> None:
        """Turn groups of containers into others: delete the objects that only `before` has, create those of `after`.

        Files are left alone. The first failure is raised; `change` the other way round takes back what was done. With
        `is_undoing` nobody knows how far a change came, so what shall be there is deleted first as well, and may be
        there nevertheless.
        """
        self.change_in_lots([(before, after)], is_undoing=is_undoing, on_progress=on_progress)

    def change_in_lots(
        self,
        pairs: Iterable[tuple[Sequence[Group], Sequence[Group]]],
        *,
        is_undoing: bool = False,
        on_progress: Progress | None = None,
    ) -> None:
        """Do as `change` lot by lot, none of which has to do with another: while one is made, the next is begun."""
        problems: list[OvsError] = []
        entering: list[Group] = []
        late: list[Group] = []
        moved: set[str] = set()
        with self._kernel.making(keep_going=is_undoing, on_progress=on_progress) as making:
            for before, after in pairs:
                gone, made = _differences(before, after)
                if is_undoing:
                    gone = [[*old, *new] for old, new in zip(gone, made, strict=True)]
                moved |= self._prepare_change(gone, made, after, problems, is_undoing=is_undoing)
                entering.append([item for new in made for item in new if item.backend == "ovs"])
                told = [_announced(new) for new in made]
                late += [(*joined(group), *some) for group, some in zip(after, told, strict=True) if some]
                parts = [
                    (*joined(group), *(item for item in new if item.backend == "kernel" and item not in some))
                    for group, new, some in zip(after, made, told, strict=True)
                    if any(item.backend == "kernel" for item in new)
                ]
                making.put(parts)
                if making.has_failed:
                    break
            errors = making.errors()
        for error in filter(None, errors):
            # What a failed change did not come to take away is there already.
            if not is_undoing or getattr(error, "errno", 0) != errno.EEXIST:
                raise error
        try:
            self._enter(entering, moved)
        except OvsError as error:
            problems.append(error)
        else:
            self._announce(late)
        if problems:
            raise problems[0]

    def _prepare_change(
        self,
        gone: Sequence[Group],
        made: Sequence[Group],
        after: Sequence[Group],
        problems: list[OvsError],
        *,
        is_undoing: bool,
    ) -> set[str]:
        """Delete what goes, and make what has to be there before the kernel's objects; return what `_leave` does."""
        lost, come = by_kind(gone), by_kind(made)
        self._prepare_rules((*lost, *come))
        if of_backend("ovs", come) and not is_undoing:
            self._open_switch().prepare()
        moved = self._leave(lost, come, problems, is_undoing=is_undoing)
        if of_backend("kernel", lost):
            self._kernel.remove_inside(
                [inverse.of_change(joined(group), old) for group, old in zip(after, gone, strict=True)]
            )
            self._kernel.restore(of_kind(MovedDevice, lost))
            self._kernel.delete([of_kind(Veth, lost)])
        self._delete_vlans(gone, made, after)
        self._change_rules(of_backend("nft", lost), of_backend("nft", come))
        self.set_vlans(of_kind(VlanEntry, come))
        old, new = of_kind(Flows, lost), of_kind(Flows, come)
        left = {address for item in new for address in item.addresses}
        dropped = tuple(address for item in old for address in item.addresses if address not in left)
        self._kernel.drop_flows([Flows(dropped, ())] if dropped else [], is_new=False)
        self._kernel.drop_flows(new, is_new=True)
        return moved

    def _prepare_rules(self, kinds: Iterable[type[Object]]) -> None:
        """Load the library for what is to be told to nftables: its descriptor has to be a low one."""
        if any(kind.backend == "nft" for kind in kinds):
            self._nft.prepare()

    def _announce(self, groups: Sequence[Group]) -> None:
        """Tell neighbours of what is behind ports of Open vSwitch, which pass frames by now."""
        for error in self._kernel.create(groups, keep_going=True) if groups else ():
            if error:
                raise error

    def _leave(self, gone: ByKind, made: ByKind, problems: list[OvsError], *, is_undoing: bool) -> set[str]:
        """Take out of Open vSwitch what gets no successor there, and return the names of the ports that stay.

        When undoing, the rest is to be undone also where Open vSwitch is gone: that is noted in `problems`.
        """
        ports, bridges = of_kind(OvsPort, gone), of_kind(OvsBridge, gone)
        veths = {item.device for item in of_kind(Veth, gone)}
        wanted = {item.port for item in of_kind(OvsPort, made)} - veths
        left = {item.bridge for item in of_kind(OvsBridge, made)}
        leaving = [item for item in ports if item.port not in wanted]
        try:
            if leaving:
                self._open_switch().delete_ports(leaving)
            if any(item.bridge not in left for item in bridges):
                self._open_switch().delete_bridges([item for item in bridges if item.bridge not in left])
        except OvsError as error:
            if not is_undoing:
                raise
            problems.append(error)
        return set() if is_undoing else wanted & {item.port for item in ports}

    def _enter(self, made: Sequence[Group], moved: set[str]) -> None:
        """Make bridges and ports; of those that are there already, `moved`, what differs is set at one stroke."""
        kinds = by_kind(made)
        bridges, ports = of_kind(OvsBridge, kinds), of_kind(OvsPort, kinds)
        if bridges:
            self._open_switch().create_bridges(bridges)
        joining = [item for item in ports if item.port not in moved]
        try:
            if len(joining) < len(ports):
                self._open_switch().set_vlans([item for item in ports if item.port in moved])
        except NotFound:  # somebody has removed one
            joining = ports
        if joining:
            self._open_switch().create_ports(joining)

    def join(self, items: Sequence[Object]) -> None:
        """Make devices that exist ports of their bridges, and these of Open vSwitch what they should be."""
        others = [item for item in items if item.backend != "ovs"]
        for error in self._kernel.create([others]) if others else ():
            if error:
                raise error
        self._enter([items], set())

    def make(self, items: Iterable[Object]) -> None:
        """Make objects of the host's so, in their order; those of one backend that follow each other go together.

        The first failure is raised; `put_back` of their absences takes back what was done.
        """
        for backend, group in runs(items):
            if backend == "bpf":
                self.set_vlans([item for item in group if isinstance(item, VlanEntry)])
            elif backend == "ovs":
                kinds = by_kind([group])
                with self._keeping(of_kind(OvsMac, kinds)) as macs:
                    self._open_switch().create_ports(of_kind(OvsPort, kinds), macs=macs)
            else:
                for error in self._kernel.create([group]):
                    if error:
                        raise error

    def put_back(self, items: Iterable[Object]) -> None:
        """Make objects of the host's so again, each by itself: what is so already is no failure.

        Raises the first failure, when all of them have been tried.
        """
        problems: list[DnetError] = []
        for backend, group in runs(items):
            try:
                if backend == "bpf":
                    self._forget_vlans(group)
                elif backend == "ovs":
                    kinds = by_kind([group])
                    with self._keeping(of_kind(OvsMac, kinds)) as macs:
                        self._open_switch().release_ports(of_kind(OvsPort, kinds), macs)
                else:
                    self._kernel.put_back(group)
            except DnetError as error:
                problems.append(error)
        if problems:
            raise problems[0]

    @contextmanager
    def _keeping(self, macs: Sequence[OvsMac]) -> Iterator[Sequence[OvsMac]]:
        """Keep what is on the bridges' own devices while Open vSwitch gives them MAC addresses.

        A tap, which it is in user space, has to be down for that (netdev_linux_set_etheraddr), and loses what needs it
        to be up: IPv6 addresses, and routes.
        """
        report = self._kernel.report() if macs else None
        try:
            yield macs
        finally:
            links = [report.link(item.bridge) for item in macs] if report else []
            self._kernel.put_back([item for link in links if report and link for item in replay.again(report, link)])

    def change_rules(self, before: Sequence[Object], after: Sequence[Object]) -> None:
        """Delete the nftables objects that only `before` has and create those of `after`, in one transaction."""
        old, new = set(before), set(after)
        self._change_rules([item for item in before if item not in new], [item for item in after if item not in old])

    def _delete_vlans(self, gone: Sequence[Group], made: Sequence[Group], after: Sequence[Group]) -> None:
        """Take devices that stay out of VLANs: their memberships and filters, then entries that get no successor."""
        old = [item for group in gone for item in group if isinstance(item, _OF_VLANS)]
        if not old:
            return
        new = {item for group in made for item in group}
        old = [item for item in old if item not in new]
        devices = {item.index for group in after for item in group if isinstance(item, (Veth, Bridge, Membership))}
        left = [item for item in old if getattr(item, "index", 0) in devices]
        absent: list[Object] = [NoBridgeVlans.instead(item) for item in left if isinstance(item, BridgeVlans)]
        absent += [NoBridgeFiltering.instead(item) for item in left if isinstance(item, BridgeFiltering)]
        hooks = [item for item in left if isinstance(item, VlanFilter)]
        # Hooks with other blocks are somebody else's.
        filtered = self._kernel.filtered() if hooks else set()
        absent += [NoVlanFilter.instead(item) for item in hooks if (item.index, *item.blocks) in filtered]
        entries = [item for item in left if isinstance(item, MacEntry)]
        known = self._kernel.mac_entries() if entries else set()
        absent += [NoMacEntry.instead(item) for item in entries if (item.index, item.mac) in known]
        for error in self._kernel.create([absent]) if absent else ():
            if error:
                raise error
        kept = {item.index for item in new if isinstance(item, VlanEntry)}
        self._forget_vlans([item for item in old if not isinstance(item, VlanEntry) or item.index not in kept])

    def _change_rules(self, gone: Sequence[Object], made: Sequence[Object]) -> None:
        """Take elements out and put others in, in one transaction unless some are missing already."""
        try:
            self._nft.run([*nat_table.commands(gone, "delete"), *nat_table.commands(made, "add")], "change nftables")
        except KernelRefused as error:
            if error.errno != errno.ENOENT:
                raise
            self.create_rules(())
            self.delete_rules(gone)
            self.create_rules(made)

    def set_vlans(self, entries: Sequence[VlanEntry]) -> None:
        """Say what devices pass, in place of what they passed before; each device changes at one stroke.

        Where the VLAN programs that work are not of this version, or have lost their map, they are replaced first.
        """
        if not entries:
            return
        if not self._bpf:
            raise Unsupported(f"cannot create {entries[0]}: there is no directory for BPF pins", object=str(entries[0]))
        is_in_place = self._bpf.prepare(lambda: _ports(self._all_vlans()))
        self._kernel.use_programs(self._bpf.programs)
        if not is_in_place:
            self._kernel.replace_programs([item for item in self._all_vlans() if isinstance(item, VlanProgram)])
            self._bpf.keep()
        self._bpf.set_ports(_ports(entries))

    def _forget_vlans(self, items: Sequence[Object]) -> None:
        """Delete entries, and with the last bridge that has VLAN programs also their pins."""
        if not self._bpf:
            return
        self._bpf.delete_ports(item.index for item in items if isinstance(item, VlanEntry))
        programs = {item for item in items if isinstance(item, VlanProgram)}
        if programs and programs.issuperset(item for item in self._all_vlans() if isinstance(item, VlanProgram)):
            self._bpf.remove()

    def create_rules(self, rules: Sequence[Object]) -> None:
        """Add nftables objects in one transaction; those that exist already stay.

        When somebody has flushed the ruleset, the table is made again with all that belongs into it.
        """
        try:
            self._nft.run(nat_table.commands(rules, "add"), "set up nftables")
        except KernelRefused as error:
            if error.errno != errno.ENOENT or self._nft.has_table(nat_table.TABLE):
                raise
            self._nft.run(nat_table.commands([*self._all_rules(), *rules], "add"), "set up nftables")

    def delete_rules(self, rules: Sequence[Object]) -> None:
        """Delete nftables objects in one transaction, or, when some are missing, one by one.

        The table goes last, and stays when another engine on this host has networks in it.
        """
        elements = list(dict.fromkeys(item for item in rules if not isinstance(item, NftTable)))
        try:
            self._nft.run(nat_table.commands(elements, "delete"), "remove nftables elements")
        except Unsupported:
            return  # where there is no nftables, there are no rules
        except KernelRefused:
            for item in elements:
                self._delete_rule(item)
        for item in rules:
            if isinstance(item, NftTable) and not self._nft.has_elements(nat_table.TABLE, "bridges"):
                self._delete_rule(item)

    def _delete_rule(self, item: Object) -> None:
        try:
            self._nft.run(nat_table.commands([item], "delete"), f"remove {item}")
        except KernelRefused as error:
            if error.errno != errno.ENOENT:
                raise


def recorded(items: Iterable[T], *lists: list[T]) -> Iterator[T]:
    """Yield items when they are in the lists."""
    for item in items:
        for known in lists:
            known.append(item)
        yield item


def _differences(before: Sequence[Group], after: Sequence[Group]) -> tuple[list[Group], list[Group]]:
    """Return what only the one, and what only the other has of each group; no group has anything twice."""
    gone: list[Group] = []
    made: list[Group] = []
    for old, new in zip(before, after, strict=True):
        # Most that is in both is at one place. Comparing takes a quarter of the time that looking up takes.
        differ = list(map(operator.ne, old, new))
        lost, come = ([*compress(group, differ), *group[len(differ) :]] for group in (old, new))
        kinds = set(map(type, lost))
        if kept := set(lost).intersection(item for item in come if type(item) in kinds):
            lost, come = ([item for item in group if item not in kept] for group in (lost, come))
        gone.append(lost)
        made.append(come)
    return gone, made


def joined(group: Group) -> tuple[JoinedSandbox, ...]:
    """Return the sandbox of a container's group as one that is there already; a network's group has none."""
    return tuple(JoinedSandbox.of(item) for item in group if isinstance(item, Sandbox))


def _announced(group: Group) -> list[Announced]:
    """Return the announcements that have to wait for the group's ports of Open vSwitch."""
    has_ports = any(isinstance(item, OvsPort) for item in group)
    return [item for item in group if isinstance(item, Announced)] if has_ports else []


def _ports(objects: Sequence[Object]) -> dict[int, PortVlans]:
    return {item.index: item.vlans for item in objects if isinstance(item, VlanEntry)}


def _at_most(limit: int, on_progress: Progress) -> Progress:
    """Report no more than `limit`, of what there may be several in each."""
    return lambda done: on_progress(min(done, limit))


def _noted(cause: E, error: Exception) -> E:
    """Return `cause` with a note of what went wrong while it was undone."""
    if error is not cause:
        cause.add_note(f"and while undoing it: {error}")
    return cause
