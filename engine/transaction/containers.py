"""Containers changed in the kernel and committed: created, changed, reverted, removed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial

from dnet.drivers import desired, host_files
from dnet.drivers.attachment import KINDS
from dnet.drivers.desired import DRIVERS
from dnet.linux import files
from dnet.model.container import Container
from dnet.objects.host import File
from dnet.transaction.apply import change_groups, change_in_lots, leave_behind, remove_groups
from dnet.transaction.context import Context, Group
from dnet.transaction.lots import BulkProgress, lots, recorded, report
from dnet.transaction.rollback import reverting

SYSTEMD_RESOLV_CONF = "/run/systemd/resolve/resolv.conf"
HOSTS = "/etc/hosts"


def read_host_files() -> desired.HostFiles:
    """Return the host's files, from which containers' are made."""
    return desired.HostFiles(files.read(host_files.RESOLV_CONF), files.read(SYSTEMD_RESOLV_CONF), files.read(HOSTS))


def link_peers(context: Context, containers: Sequence[Container]) -> dict[str, Container]:
    """Return all that containers have links with, by name, they themselves included."""
    known = {item.name: item for item in containers}
    names = {link.child for item in containers for link in item.links}
    names |= {link.parent for item in containers for link in item.linked_by}
    return {item.name: item for item in context.store.containers.named(names - set(known))} | known


def objects_of(context: Context, containers: Sequence[Container]) -> Iterator[Group]:
    """Return each container's objects, from what the store says now."""
    networks = context.store.networks.by_id()
    host, peers = read_host_files(), link_peers(context, containers)
    return (desired.container(item, networks, host, peers) for item in containers)


def remove_containers(
    context: Context,
    containers: Sequence[Container],
    on_progress: BulkProgress | None = None,
    *,
    force: bool = False,
) -> None:
    """Delete containers that are marked so, with their processes, and what others' hosts files say of them.

    By force, also where Open vSwitch is gone: what is in its database is then left to `reconcile`.
    """
    for item in containers:
        if item.process:
            context.runtime.remove(item)
    lines = linked_lines(context, containers)
    groups = list(objects_of(context, containers))
    remove_groups(context, groups, force=force, on_progress=report(on_progress, len(containers)))
    context.store.forget("container", [item.id for item in containers])
    update_hosts(lines)


def check_switch(context: Context, containers: Collection[Container]) -> None:
    """Raise when an interface of some containers is on Open vSwitch, and that cannot be asked to remove it."""
    networks = context.store.networks.by_id()
    drivers = {networks[end.network_id].driver for item in containers for end in item.endpoints}
    are_switched = [DRIVERS[driver].needs_switch for driver in drivers]
    are_switched += [KINDS[one.kind].needs_switch for item in containers for one in item.attachments]
    if any(are_switched):
        context.switches.check_within_reach()


def finish_change(context: Context, container: Container) -> None:
    """Give a container what the store says of it, when a killed process was changing that."""
    final = context.store.containers.reread(container.id)
    lines = linked_lines(context, [container])
    change_containers(context, [container], [final], is_undoing=True, force=True)
    update_hosts(lines, linked_lines(context, [final]))
    commit_rows(context, [final], [container])


def change_containers(
    context: Context,
    before: Sequence[Container],
    after: Iterable[Container],
    *,
    is_undoing: bool = False,
    force: bool = False,
    on_progress: BulkProgress | None = None,
) -> None:
    """Turn containers into others: delete the objects that only the former have, create those of the latter.

    By force, also where Open vSwitch is gone: it is left as it is then, for `reconcile` to finish.
    """
    is_linked = context.store.containers.has_links() and any(item.links or item.linked_by for item in before)
    after = list(after) if is_linked else after
    host, *peers = (
        read_host_files(),
        *(link_peers(context, list(part)) if is_linked else {} for part in (before, after)),
    )

    def pairs() -> Iterator[tuple[list[Group], list[Group]]]:
        for lot in lots(zip(before, after, strict=True)):
            networks = context.store.networks.by_id()
            old: list[Group] = []
            new: list[Group] = []
            for one, other in lot:
                same = desired.unchanged(one, other)
                old.append(desired.container(one, networks, host, peers[0], without=same))
                new.append(desired.container(other, networks, host, peers[1], without=same))
            yield _within_reach(context, old, new) if force else (old, new)
            for group, successor in zip(old, new, strict=True):
                _rewrite(group, successor)

    change_in_lots(context, pairs(), is_undoing=is_undoing, on_progress=report(on_progress, len(before)))


def _within_reach(context: Context, old: list[Group], new: list[Group]) -> tuple[list[Group], list[Group]]:
    """Return what can be changed of groups; what is to leave an Open vSwitch that is gone is left behind."""
    if context.switches.is_within_reach([*old, *new]):
        return old, new
    leave_behind(context, [[item for item in group if item not in kept] for group, kept in zip(old, new, strict=True)])
    from dnet.transaction import switch

    return switch.elsewhere(old), switch.elsewhere(new)


def change_or_revert(
    context: Context,
    before: Sequence[Container],
    after: Iterable[Container],
    on_progress: BulkProgress | None = None,
    *,
    force: bool = False,
) -> list[Container]:
    """Turn containers marked as changing into others, taken lot by lot and returned, or back to what they were."""
    lines = linked_lines(context, before)
    begun: list[Container] = []
    with reverting(
        lambda: change_containers(context, begun, before[: len(begun)], is_undoing=True),
        lambda: commit_rows(context, before, context.store.containers.whole([item.id for item in before])),
    ):
        change_containers(context, before, recorded(after, begun), on_progress=on_progress, force=force)
        commit_rows(context, begun, before)
    update_hosts(lines, linked_lines(context, begun))
    return begun


def commit_rows(context: Context, final: Sequence[Container], others: Sequence[Container]) -> None:
    """Have the rows say that containers are as in `final`, and ready; forget what only `others` have."""
    ends = {end.id for item in final for end in item.endpoints}
    attachments = {attachment.id: attachment for item in final for attachment in item.attachments}
    lost = [attachment.id for item in others for attachment in item.attachments if attachment.id not in attachments]
    with context.store.write():
        context.store.set_phase("endpoint", ends, "ready")
        context.store.delete("endpoint", [end.id for item in others for end in item.endpoints if end.id not in ends])
        context.store.set_phase("attachment", attachments, "ready")
        context.store.delete("attachment", lost)
        for attachment in attachments.values():
            context.store.attachments.update(attachment)
        for now, other in zip(final, others, strict=True):
            _commit_row(context, now, other)
        context.store.set_phase("container", [item.id for item in final], "ready")
        context.store.containers.forget_unused_targets()


def _commit_row(context: Context, now: Container, other: Container) -> None:
    if now.routes or other.routes:
        context.store.containers.delete_routes(now.id, [way for way in other.routes if way not in now.routes])
        context.store.containers.insert_routes(now.id, now.routes, "ready")
    if now.displaced or other.displaced:
        context.store.containers.update(now, "displaced")
    if now.target:
        context.store.containers.update(now, "name", "target")


def update_linked(context: Context, containers: Sequence[Container], groups: Sequence[Group]) -> None:
    """Bring new containers in step with what the other ends of their links have become since they were reserved."""
    made = {item.id: group for item, group in zip(containers, groups, strict=True) if item.links or item.linked_by}
    if not made:
        return
    names = [item.name for item in containers if item.id in made]
    now = [item for item in context.store.containers.named(names) if item.id in made]
    pairs = [(made[item.id], group) for item, group in zip(now, objects_of(context, now), strict=True)]
    changed = [(old, new) for old, new in pairs if set(old) != set(new)]
    if changed:
        change_groups(context, [old for old, _ in changed], [new for _, new in changed])
    for old, new in changed:
        _rewrite(old, new)


def linked_lines(context: Context, members: Collection[Container]) -> dict[tuple[str, str], str]:
    """Return what links to and from these containers mean in parents' hosts, by the file and the alias.

    The store may know a different state of them: it is theirs, not its, that counts.
    """
    if not context.store.containers.has_links():
        return {}
    known = {item.name: item for item in members if not item.target}
    parents = {item.name: item for item in context.store.containers.parents(set(known))} | {
        item.name: item for item in members if item.links
    }
    return {
        (parent.files, link.alias): desired.link_lines(parent, link, known)
        for parent in (known.get(name, item) for name, item in parents.items())
        for link in parent.links
        if link.child in known
    }


def update_hosts(before: Mapping[tuple[str, str], str], after: Mapping[tuple[str, str], str] | None = None) -> None:
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
