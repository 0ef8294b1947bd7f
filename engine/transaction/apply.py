"""The order in which a change reaches the backends.

A group is all objects of one network, or of one sandbox with its endpoints. Its objects are created in this order:

1. files, nftables, connection tracking, VLAN map: a sandbox is never reachable without its rules, and no port passes
   frames before its VLANs are known;
2. bridges of Open vSwitch, because some of the kernel's objects are on their devices;
3. the kernel's objects;
4. ports of Open vSwitch, because a port is a device that exists.

They are deleted the other way round, ports of Open vSwitch and the kernel's objects first. Connection tracking comes
after the rules, because traffic makes new entries as long as a rule stands.

A rollback is a deletion. Deleting ignores what is missing, and leaves alone what is not dnet's (another index under the
same name, a name that leads elsewhere), so that it does not matter how far the creation came.
"""

from __future__ import annotations

import errno
import operator
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import compress
from typing import TypeVar

from dnet.errors import DnetError, OvsError
from dnet.linux import files
from dnet.linux.builder import Progress
from dnet.objects.grouping import by_kind, of_backend, of_kind, runs
from dnet.objects.host import Flows
from dnet.objects.links import Announcement
from dnet.objects.object import Absent, Object
from dnet.objects.openvswitch import OvsBridge, OvsMac, OvsPort
from dnet.objects.vlans import VlanMapEntry
from dnet.transaction.apply_kernel import create_in_kernel, joined_sandbox, kernel_part, leave_kernel, replace_flows
from dnet.transaction.apply_rules import create_rules, delete_rules, prepare_rules, replace_rules
from dnet.transaction.apply_switch import create_bridges, create_ports, enter_switch, keeping_addresses, leave_switch
from dnet.transaction.apply_vlans import delete_vlans, forget_vlan_entries, set_vlan_entries
from dnet.transaction.context import Context, Group
from dnet.transaction.lots import lots

E = TypeVar("E", bound=BaseException)


def create_groups(
    context: Context, groups: Iterable[Group], *, keep_going: bool = False, on_progress: Progress | None = None
) -> list[DnetError | None]:
    """Create every group and return an error or None for each.

    Groups are taken in lots: while the kernel makes one lot, the next is computed. Without `keep_going` the first
    failure is raised, and the caller rolls back what exists by then; with it, the groups that failed are deleted.
    """
    context.unknown_to_switch = set()
    begun: list[Group] = []
    with context.kernel.builder(keep_going=keep_going, on_progress=on_progress) as builder:
        for lot in lots(groups):
            begun += lot
            _prepare(context, lot)
            builder.put(list(map(kernel_part, lot)))
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
    """Create what has to be there before the kernel's objects."""
    context.unknown_to_switch |= {id(group) for group in groups}
    kinds = by_kind(groups)
    prepare_rules(context, kinds)
    if of_backend("ovs", kinds):
        context.switches.open().prepare()
    files.create(item for group in groups for item in group if item.backend == "files")
    try:
        create_rules(context, of_backend("nft", kinds))
    except DnetError:
        context.refused_by_nftables = list(groups)
        raise
    context.kernel.drop_flows(of_kind(Flows, kinds), is_new=True)
    set_vlan_entries(context, of_kind(VlanMapEntry, kinds))
    create_bridges(context, of_kind(OvsBridge, kinds))


def delete_groups(
    context: Context, groups: Sequence[Group], *, is_rollback: bool = False, on_progress: Progress | None = None
) -> None:
    """Delete the un-owned objects of every group, ignoring those that are missing.

    A rollback also switches off what the creation has switched on, and continues where Open vSwitch fails, whose error
    is then raised at the end.
    """
    if not groups:
        return
    kinds = by_kind(group for group in groups if id(group) not in context.unknown_to_switch)
    context.unknown_to_switch = set()
    ports, bridges = of_kind(OvsPort, kinds), of_kind(OvsBridge, kinds)
    problems: list[OvsError] = []
    if ports:
        # Slower by far than the rest, so that this is the progress to tell.
        report = None if on_progress is None else _at_most(len(groups), on_progress)
        on_progress = None
        with _deferring(problems, is_rollback=is_rollback):
            context.switches.open().delete_ports(ports, report)
    context.kernel.delete(list(map(kernel_part, groups)), is_rollback=is_rollback, on_progress=on_progress)
    if bridges:
        context.switches.open().delete_bridges(bridges)
    made = [group for group in groups if not any(group is refused for refused in context.refused_by_nftables)]
    context.refused_by_nftables = []
    delete_rules(context, [item for group in made for item in group if item.backend == "nft"])
    context.kernel.drop_flows(of_kind(Flows, by_kind(groups)), is_new=False)
    forget_vlan_entries(context, [item for group in groups for item in group])
    files.delete([item for group in groups for item in group if item.backend == "files"])
    if problems:
        raise problems[0]


def remove_groups(
    context: Context, groups: Sequence[Group], *, force: bool, on_progress: Progress | None = None
) -> None:
    """Delete groups; by force, what is in the database of an Open vSwitch out of reach is left behind."""
    if force and not context.switches.is_within_reach(groups):
        groups = leave_behind(context, groups)
    delete_groups(context, groups, on_progress=on_progress)


def leave_behind(context: Context, groups: Sequence[Group]) -> Sequence[Group]:
    """Remember what groups have on an Open vSwitch out of reach; return what they have elsewhere."""
    context.notice(
        "Open vSwitch cannot be reached: what its database still has of this is removed by `dnet reconcile` when "
        "it is back"
    )
    return context.switches.leave_behind(groups)


def change_groups(
    context: Context, before: Sequence[Group], after: Sequence[Group], *, is_undoing: bool = False
) -> None:
    """Change groups of containers: delete the objects that only `before` has, create those that only `after` has.

    Files are left alone. The first failure is raised; the caller rolls back by the change the other way round, with
    `is_undoing`. Because nobody knows how far the change came, that deletes what it creates first, and accepts what
    exists already.
    """
    change_in_lots(context, [(before, after)], is_undoing=is_undoing)


def change_in_lots(
    context: Context,
    pairs: Iterable[tuple[Sequence[Group], Sequence[Group]]],
    *,
    is_undoing: bool = False,
    on_progress: Progress | None = None,
) -> None:
    """Do as `change_groups` lot by lot: while the kernel makes one lot, the next is begun. Lots share no objects."""
    problems: list[OvsError] = []
    entering: list[Group] = []
    late: list[Group] = []
    staying: set[str] = set()
    with context.kernel.builder(keep_going=is_undoing, on_progress=on_progress) as builder:
        for before, after in pairs:
            gone, made = _differences(before, after)
            if is_undoing:
                gone = [[*old, *new] for old, new in zip(gone, made, strict=True)]
            staying |= _prepare_change(context, gone, made, after, problems, is_undoing=is_undoing)
            entering += [[item for item in new if item.backend == "ovs"] for new in made]
            parts = []
            for group, new in zip(after, made, strict=True):
                announced = _announced(new)
                if announced:
                    late.append((*joined_sandbox(group), *announced))
                if part := kernel_part(new):
                    parts.append((*joined_sandbox(group), *(item for item in part if item not in announced)))
            builder.put(parts)
            if builder.has_failed:
                break
        errors = builder.errors()
    for error in filter(None, errors):
        # What a failed change did not come to delete is there already.
        if not is_undoing or getattr(error, "errno", 0) != errno.EEXIST:
            raise error
    with _deferring(problems, is_rollback=True):
        enter_switch(context, entering, staying)
        # Neighbours hear of what is behind ports of Open vSwitch when these pass frames.
        create_in_kernel(context, late, keep_going=True)
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
    """Delete what goes, and create what has to be there before the kernel's objects.

    Returns the names of the ports that stay on Open vSwitch. When undoing, its errors go into `problems`.
    """
    lost, come = by_kind(gone), by_kind(made)
    prepare_rules(context, (*lost, *come))
    if of_backend("ovs", come) and not is_undoing:
        context.switches.open().prepare()
    staying: set[str] = set()
    with _deferring(problems, is_rollback=is_undoing):
        staying = leave_switch(context, lost, come)
    leave_kernel(context, gone, after, lost)
    delete_vlans(context, gone, made, after)
    replace_rules(context, of_backend("nft", lost), of_backend("nft", come))
    set_vlan_entries(context, of_kind(VlanMapEntry, come))
    replace_flows(context, lost, come)
    return set() if is_undoing else staying


@contextmanager
def _deferring(problems: list[OvsError], *, is_rollback: bool) -> Iterator[None]:
    """Keep an error of Open vSwitch for later when rolling back: the rest can be undone nevertheless."""
    try:
        yield
    except OvsError as error:
        if not is_rollback:
            raise
        problems.append(error)


def join_ports(context: Context, items: Sequence[Object]) -> None:
    """Make existing devices ports of their bridges, and bring bridges and ports of Open vSwitch up to date."""
    create_in_kernel(context, [[item for item in items if item.backend != "ovs"]])
    enter_switch(context, [items], set())


def make_on_host(context: Context, items: Iterable[Object]) -> None:
    """Apply objects of the host in their order; successive ones of one backend go together.

    Raises the first failure. The caller rolls back by `put_back` of the inverse.
    """
    for backend, group in runs(items):
        if backend == "bpf":
            set_vlan_entries(context, [item for item in group if isinstance(item, VlanMapEntry)])
        elif backend == "ovs":
            kinds = by_kind([group])
            with keeping_addresses(context, of_kind(OvsMac, kinds)) as macs:
                context.switches.open().create_ports(of_kind(OvsPort, kinds), macs=macs)
        else:
            create_in_kernel(context, [group])


def put_back(context: Context, items: Iterable[Object]) -> None:
    """Apply objects of the host one by one; ignore those already in place.

    Raises the first failure after all of them have been tried.
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


def _differences(before: Sequence[Group], after: Sequence[Group]) -> tuple[list[Group], list[Group]]:
    """Return what only the one, and what only the other has of each group; no group has anything twice."""
    gone: list[Group] = []
    made: list[Group] = []
    for old, new in zip(before, after, strict=True):
        # Most that is in both is at the same position. Comparing takes a quarter of the time that looking up takes.
        differ = list(map(operator.ne, old, new))
        lost, come = ([*compress(group, differ), *group[len(differ) :]] for group in (old, new))
        kinds = set(map(type, lost))
        if kept := set(lost).intersection(item for item in come if type(item) in kinds):
            lost, come = ([item for item in group if item not in kept] for group in (lost, come))
        gone.append(lost)
        made.append(come)
    return gone, made


def _announced(group: Group) -> list[Announcement]:
    """Return the announcements that have to wait for the group's ports of Open vSwitch."""
    has_ports = any(isinstance(item, OvsPort) for item in group)
    return [item for item in group if isinstance(item, Announcement)] if has_ports else []


def _at_most(limit: int, on_progress: Progress) -> Progress:
    """Report at most `limit`, because a group may have several ports."""
    return lambda done: on_progress(min(done, limit))


def noted(cause: E, error: Exception) -> E:
    """Return `cause` with a note of what went wrong while it was undone."""
    if error is not cause:
        cause.add_note(f"and while undoing it: {error}")
    return cause
