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
from itertools import compress
from typing import TypeVar

from dnet.errors import DnetError, OvsError
from dnet.linux import files
from dnet.linux.builder import Progress
from dnet.objects import inverse
from dnet.objects.grouping import by_kind, of_backend, of_kind, runs
from dnet.objects.host import Flows
from dnet.objects.links import Announced, MovedDevice, Veth
from dnet.objects.object import Absent, Object
from dnet.objects.openvswitch import OvsBridge, OvsMac, OvsPort
from dnet.objects.sandbox import JoinedSandbox, Sandbox
from dnet.objects.vlans import VlanEntry
from dnet.transaction.apply_rules import create_rules, delete_rules, prepare_rules, replace_rules
from dnet.transaction.apply_switch import create_bridges, create_ports, enter_switch, keeping_addresses, leave_switch
from dnet.transaction.apply_vlans import delete_vlans, forget_vlan_entries, set_vlan_entries
from dnet.transaction.context import Context, Group
from dnet.transaction.lots import lots

E = TypeVar("E", bound=BaseException)
T = TypeVar("T")


def create_groups(
    context: Context, groups: Iterable[Group], *, keep_going: bool = False, on_progress: Progress | None = None
) -> list[DnetError | None]:
    """Create every group and return an error or None for each.

    They are taken in lots: while the kernel makes one, the next is thought out. Without `keep_going` the first
    failure is raised, and what exists by then is left to `undo`; with it, the groups that failed are removed.
    """
    context.untold = set()
    begun: list[Group] = []
    with context.kernel.builder(keep_going=keep_going, on_progress=on_progress) as builder:
        for lot in lots(groups):
            begun += lot
            _prepare(context, lot)
            builder.put([[item for item in group if item.backend == "kernel"] for group in lot])
            if builder.has_failed:
                break
        errors = builder.errors()
    create_ports(context, begun, errors, keep_going=keep_going)
    failed = [group for group, error in zip(begun, errors, strict=False) if error]
    first = next(filter(None, errors), None)
    if first and not keep_going:
        raise first
    try:
        delete_groups(context, failed)
    except DnetError as error:
        raise noted(first or error, error) from error
    return errors


def _prepare(context: Context, groups: Sequence[Group]) -> None:
    """Create what has to be there before groups are in the kernel."""
    context.untold |= {id(group) for group in groups}
    kinds = by_kind(groups)
    prepare_rules(context, kinds)
    if of_backend("ovs", kinds):
        context.switches.open().prepare()
    files.create(item for group in groups for item in group if item.backend == "files")
    try:
        create_rules(context, of_backend("nft", kinds))
    except DnetError:
        context.refused = list(groups)
        raise
    context.kernel.drop_flows(of_kind(Flows, kinds), is_new=True)
    set_vlan_entries(context, of_kind(VlanEntry, kinds))
    create_bridges(context, of_kind(OvsBridge, kinds))


def delete_groups(context: Context, groups: Sequence[Group], *, on_progress: Progress | None = None) -> None:
    """Delete the un-owned objects of every group; what is missing already is no failure."""
    delete_all(context, groups, on_progress, is_rollback=False)


def delete_all(context: Context, groups: Sequence[Group], on_progress: Progress | None, *, is_rollback: bool) -> None:
    """Delete groups; a rollback also takes back what was switched on, and goes on where Open vSwitch fails."""
    if not groups:
        return
    told = [group for group in groups if id(group) not in context.untold]
    context.untold = set()
    kinds = by_kind(told)
    ports, bridges = of_kind(OvsPort, kinds), of_kind(OvsBridge, kinds)
    problems: list[OvsError] = []
    if ports:
        # Slower by far than the rest, so that this is the progress to tell.
        report = None if on_progress is None else _at_most(len(groups), on_progress)
        try:
            context.switches.open().delete_ports(ports, report)
        except OvsError as error:
            if not is_rollback:
                raise
            problems.append(error)  # the rest can be undone nevertheless
        on_progress = None
    parts = [[item for item in group if item.backend == "kernel"] for group in groups]
    context.kernel.delete(parts, is_rollback=is_rollback, on_progress=on_progress)
    if bridges:
        context.switches.open().delete_bridges(bridges)
    made = [group for group in groups if not any(group is refused for refused in context.refused)]
    context.refused = []
    delete_rules(context, [item for group in made for item in group if item.backend == "nft"])
    context.kernel.drop_flows(of_kind(Flows, by_kind(groups)), is_new=False)
    forget_vlan_entries(context, [item for group in groups for item in group])
    files.delete([item for group in groups for item in group if item.backend == "files"])
    if problems:
        raise problems[0]


def change_groups(
    context: Context,
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
    change_in_lots(context, [(before, after)], is_undoing=is_undoing, on_progress=on_progress)


def change_in_lots(
    context: Context,
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
    with context.kernel.builder(keep_going=is_undoing, on_progress=on_progress) as builder:
        for before, after in pairs:
            gone, made = _differences(before, after)
            if is_undoing:
                gone = [[*old, *new] for old, new in zip(gone, made, strict=True)]
            moved |= _prepare_change(context, gone, made, after, problems, is_undoing=is_undoing)
            entering.append([item for new in made for item in new if item.backend == "ovs"])
            told = [_announced(new) for new in made]
            late += [(*joined(group), *some) for group, some in zip(after, told, strict=True) if some]
            parts = [
                (*joined(group), *(item for item in new if item.backend == "kernel" and item not in some))
                for group, new, some in zip(after, made, told, strict=True)
                if any(item.backend == "kernel" for item in new)
            ]
            builder.put(parts)
            if builder.has_failed:
                break
        errors = builder.errors()
    for error in filter(None, errors):
        # What a failed change did not come to take away is there already.
        if not is_undoing or getattr(error, "errno", 0) != errno.EEXIST:
            raise error
    try:
        enter_switch(context, entering, moved)
    except OvsError as error:
        problems.append(error)
    else:
        _announce(context, late)
    if problems:
        raise problems[0]


def _prepare_change(
    context: Context,
    gone: Sequence[Group],
    made: Sequence[Group],
    after: Sequence[Group],
    problems: list[OvsError],
    *,
    is_undoing: bool,
) -> set[str]:
    """Delete what goes, and make what has to be there before the kernel's objects; return what `_leave` does."""
    lost, come = by_kind(gone), by_kind(made)
    prepare_rules(context, (*lost, *come))
    if of_backend("ovs", come) and not is_undoing:
        context.switches.open().prepare()
    moved = leave_switch(context, lost, come, problems, is_undoing=is_undoing)
    if of_backend("kernel", lost):
        context.kernel.remove_inside(
            [inverse.of_change(joined(group), old) for group, old in zip(after, gone, strict=True)]
        )
        context.kernel.sender.restore(of_kind(MovedDevice, lost))
        context.kernel.delete([of_kind(Veth, lost)])
    delete_vlans(context, gone, made, after)
    replace_rules(context, of_backend("nft", lost), of_backend("nft", come))
    set_vlan_entries(context, of_kind(VlanEntry, come))
    old, new = of_kind(Flows, lost), of_kind(Flows, come)
    left = {address for item in new for address in item.addresses}
    dropped = tuple(address for item in old for address in item.addresses if address not in left)
    context.kernel.drop_flows([Flows(dropped, ())] if dropped else [], is_new=False)
    context.kernel.drop_flows(new, is_new=True)
    return moved


def _announce(context: Context, groups: Sequence[Group]) -> None:
    """Tell neighbours of what is behind ports of Open vSwitch, which pass frames by now."""
    for error in context.kernel.create(groups, keep_going=True) if groups else ():
        if error:
            raise error


def join_ports(context: Context, items: Sequence[Object]) -> None:
    """Make devices that exist ports of their bridges, and these of Open vSwitch what they should be."""
    others = [item for item in items if item.backend != "ovs"]
    for error in context.kernel.create([others]) if others else ():
        if error:
            raise error
    enter_switch(context, [items], set())


def make_on_host(context: Context, items: Iterable[Object]) -> None:
    """Make objects of the host's so, in their order; those of one backend that follow each other go together.

    The first failure is raised; `put_back` of their absences takes back what was done.
    """
    for backend, group in runs(items):
        if backend == "bpf":
            set_vlan_entries(context, [item for item in group if isinstance(item, VlanEntry)])
        elif backend == "ovs":
            kinds = by_kind([group])
            with keeping_addresses(context, of_kind(OvsMac, kinds)) as macs:
                context.switches.open().create_ports(of_kind(OvsPort, kinds), macs=macs)
        else:
            for error in context.kernel.create([group]):
                if error:
                    raise error


def put_back(context: Context, items: Iterable[Object]) -> None:
    """Make objects of the host's so again, each by itself: what is so already is no failure.

    Raises the first failure, when all of them have been tried.
    """
    problems: list[DnetError] = []
    for backend, group in runs(items):
        try:
            gone = [item.item if isinstance(item, Absent) else item for item in group]
            if backend == "bpf":
                forget_vlan_entries(context, gone)
            elif backend == "ovs":
                kinds = by_kind([gone])
                with keeping_addresses(context, of_kind(OvsMac, kinds)) as macs:
                    context.switches.open().release_ports(of_kind(OvsPort, kinds), macs)
            else:
                context.kernel.sender.put_back(group)
        except DnetError as error:
            problems.append(error)
    if problems:
        raise problems[0]


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


def _at_most(limit: int, on_progress: Progress) -> Progress:
    """Report no more than `limit`, of what there may be several in each."""
    return lambda done: on_progress(min(done, limit))


def noted(cause: E, error: Exception) -> E:
    """Return `cause` with a note of what went wrong while it was undone."""
    if error is not cause:
        cause.add_note(f"and while undoing it: {error}")
    return cause


def remove_groups(
    context: Context, groups: Sequence[Group], *, is_forced: bool, on_progress: Callable[[int], None] | None = None
) -> None:
    """Delete groups; by force, what is in the database of an Open vSwitch that is gone is left behind."""
    if is_forced and not context.switches.is_within_reach(groups):
        groups = leave_behind(context, groups)
    delete_groups(context, groups, on_progress=on_progress)


def leave_behind(context: Context, groups: Sequence[Group]) -> Sequence[Group]:
    """Remember what groups have on an Open vSwitch that is gone; return what they have elsewhere."""
    context.notice(
        "Open vSwitch cannot be reached: what its database still has of this is removed by `dnet reconcile` when "
        "it is back"
    )
    return context.switches.leave_behind(groups)
