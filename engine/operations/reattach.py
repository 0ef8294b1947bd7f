"""Attachments that were lost: found, made again, or forgotten with a container that is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from dnet.drivers import attachment, desired
from dnet.errors import DnetError, NotFound
from dnet.model import lease
from dnet.model.attachment import Attachment, StaticRoute
from dnet.model.container import MODE_FOREIGN, Container
from dnet.model.default_route import with_defaults
from dnet.model.values import replace
from dnet.objects.object import Object
from dnet.objects.observed import Observed
from dnet.objects.openvswitch import OvsBridge, OvsPort
from dnet.operations import attachment_bridges, leases
from dnet.operations.attachment_checks import label
from dnet.operations.inside import changing, check_own_sandbox, choose_default_routes, look_into, mark_changing
from dnet.operations.targets import at_target, look_up, reference_of
from dnet.transaction.apply import join_ports
from dnet.transaction.containers import change_containers, commit_rows
from dnet.transaction.context import Context
from dnet.transaction.lots import LazyContainers
from dnet.transaction.recovery import prepare
from dnet.transaction.rollback import reverting

if TYPE_CHECKING:
    from dnet.runtime.targets import Target


SHORT_ID = 12
MissingPorts = Callable[[Attachment], Sequence[Object]]  # the ports of an attachment that Open vSwitch lacks


class Refreshed(NamedTuple):
    """What was missing, or in the way, in words; and why that could not be helped, or nothing."""

    what: str
    error: DnetError | None = None


def find(context: Context, text: str) -> Container:
    """Return the container that a text means, attached again to what it was if it has been restarted."""
    found = look_up(context, text)
    container, target = found.container, found.target
    if target is None:
        return container
    if found.is_new:
        _free_name(context, container.name)
        return container
    if found.is_stale:
        with context.store.repair_lock():
            found = found._replace(container=context.store.containers.reread(container.id))
            if found.is_stale:
                return attach_again(context, found.container, target)
        container = found.container
    return at_target(container, target) if reference_of(container) == (target.kind, target.reference) else container


def find_all(context: Context, texts: Sequence[str]) -> LazyContainers:
    """Return the containers that texts mean, each once; many at once without a query for each."""
    known = context.store.containers.heads(texts) if len(texts) > 1 else {}
    own = {name: item for name, item in known.items() if item.mode != MODE_FOREIGN}
    found = [check_own_sandbox(own[text]) if text in own else find(context, text) for text in texts]
    return LazyContainers(context.store, found)


def _free_name(context: Context, name: str) -> None:
    """Look again at the containers in the store that have the name of a new one."""
    from dnet.runtime.targets import Target, TargetState, resolve

    for item in context.store.containers.foreign():
        if item.name != name:
            continue
        found = resolve(Target(**item.target))
        if found.state is TargetState.GONE:
            collect(context, item)
            continue
        other = replace(item, name=f"{item.target['kind']}:{item.target['reference'][:SHORT_ID]}")
        with context.store.write():
            context.store.containers.update(at_target(item, found.target) if found.target else other, "name", "target")


def refresh(context: Context, *, is_dry_run: bool = False) -> list[Refreshed]:
    """Make again what is missing of attachments and routes, and forget what is gone for good.

    A dry run only tells.
    """
    if is_dry_run:
        return _refresh_all(context, is_dry_run=True)
    prepare(context)
    find_devices(context)
    with context.store.repair_lock():
        done = _refresh_all(context, is_dry_run=False)
    attachment_bridges.remove_unused_bridges(context)
    return done


def _refresh_all(context: Context, *, is_dry_run: bool) -> list[Refreshed]:
    done: list[Refreshed] = []
    containers = context.store.containers.all()
    lacking = _look_at_ports(context, containers)
    for item in containers:
        if not (item.target or item.attachments or item.routes) or context.store.is_busy(item.id):
            continue
        try:
            done += _refresh(context, item, lacking, is_dry_run=is_dry_run)
        except DnetError as error:
            done.append(Refreshed(label(item), error))
    return done


def _refresh(context: Context, container: Container, lacking: MissingPorts, *, is_dry_run: bool) -> list[Refreshed]:
    from dnet.runtime.targets import Target, TargetState, resolve

    found = resolve(Target(**container.target)) if container.target else None
    if found is None or found.state is TargetState.SAME:
        return _repair(context, container, lacking, is_dry_run=is_dry_run)
    if found.state is TargetState.CHANGED and found.target:
        if not is_dry_run:
            attach_again(context, container, found.target)
        return [Refreshed(f"{container.name}, which has been restarted")]
    if found.state is TargetState.GONE:
        if not is_dry_run:
            collect(context, container)
        return [Refreshed(f"removal of {container.name}, which is gone")]
    return []


def repair(context: Context, container: Container) -> list[Refreshed]:
    """Make again the interfaces and routes of a container that are missing in it."""
    with context.store.repair_lock():
        return _repair(context, container, _look_at_ports(context, [container]), is_dry_run=False)


def _repair(context: Context, container: Container, lacking: MissingPorts, *, is_dry_run: bool) -> list[Refreshed]:
    try:
        inside = look_into(context, container)
    except NotFound:
        return []  # whoever makes the sandbox again makes all of it
    wires = [item for item in container.attachments if item.device_index or not item.device]
    indexes = desired.inner_indexes(container)
    lost = [item for item in wires if not inside.has(item.interface, indexes[item.interface])]
    is_foreign = bool(container.target)
    ends = [end for end in container.endpoints if is_foreign and not inside.has(end.interface, indexes[end.interface])]
    names = {item.interface for item in lost} | {end.interface for end in ends}
    ways = [way for way in container.routes if way.interface in names or not _is_there(way, inside)]
    strays = _lost_ports(context, wires, lacking)
    is_unleased = any(item.is_dhcp and not item.lease for item in wires if item not in lost)
    done = [Refreshed(str(item)) for item in strays]
    done += [Refreshed(f"interface {name} of {label(container)}") for name in sorted(names)]
    done += [Refreshed(f"route {way} of {label(container)}") for way in ways]
    done += [Refreshed(f"address by DHCP of {label(container)}")] if is_unleased else []
    if is_dry_run:
        return done
    if strays:
        join_ports(context, strays)
    if names or ways:
        before = replace(
            container,
            endpoints=tuple(end for end in container.endpoints if end not in ends),
            attachments=tuple(item for item in container.attachments if item not in lost),
            routes=tuple(way for way in container.routes if way not in ways),
        )
        _make_again(context, container, with_defaults(before, context.store.networks.by_id()))
    elif is_unleased:
        _acquire_leases(context, container, {})
    return done


def _make_again(context: Context, container: Container, before: Container) -> Container:
    """Make what a container has and `before`, which is what there is, has not; return it as it is then.

    First what is left of it goes, so that a default route whose place was taken is there, to be displaced again.
    """
    mark_changing(context, container)
    change_containers(context, [container], [before])
    inside = look_into(context, before)
    kept = {item.id for item in before.attachments}
    old = {item.id: item.lease for item in container.attachments if item.lease and item.id not in kept}
    after = replace(
        container,
        attachments=tuple(replace(item, lease={}) if item.id in old else item for item in container.attachments),
        routes=tuple(_renumbered(way, inside) for way in container.routes),
    )
    with changing(context, [container]):
        [after] = choose_default_routes(context, [(before, after)], {container.id: inside})
    with reverting(
        lambda: change_containers(context, [after], [before], is_undoing=True),
        lambda: commit_rows(context, [after], [after]),  # what is missing stays on record
    ):
        change_containers(context, [before], [after])
    commit_rows(context, [after], [after])
    return _acquire_leases(context, after, old)


def _acquire_leases(context: Context, container: Container, old: Mapping[str, Any]) -> Container:
    """Get leases for what has none; `old` are those of before, by the attachments' ids."""
    for item in container.attachments:
        if item.is_dhcp and not item.lease and (item.device_index or not item.device):
            previous = lease.from_document(old[item.id]) if item.id in old else None
            container = leases.acquire(context, container, item, previous)
    return container


def _look_at_ports(context: Context, containers: Iterable[Container]) -> MissingPorts:
    """Look at Open vSwitch, once for all; return what tells which ports of an attachment it has not, or raises."""
    items = [item for container in containers for item in container.attachments]
    wanted = [attachment.port(item) for item in items if attachment.KINDS[item.kind].needs_switch]
    problem: DnetError | None = None
    missing: list[OvsBridge | OvsPort] = []
    try:
        missing = context.switches.missing(wanted)
    except DnetError as error:
        problem = error

    def lacking(item: Attachment) -> Sequence[Object]:
        if problem:
            raise problem
        return [port for port in missing if port == attachment.port(item)]

    return lacking


def _lost_ports(context: Context, wires: Iterable[Attachment], lacking: MissingPorts) -> list[Object]:
    """Return what makes host ends that their bridge has lost, one that was made anew say, its ports again."""
    found: list[Object] = []
    for item in wires:
        link = context.kernel.link(item.host_interface) if item.host_interface else None
        if not link or link.index != item.host_index:
            continue
        if attachment.KINDS[item.kind].needs_switch:
            found += lacking(item)
        elif link.master != item.device_index:
            found.append(attachment.port(item))
    return found


def find_devices(context: Context) -> None:
    """Take note of devices, as below, one process at a time."""
    with context.store.repair_lock():
        _find_devices(context)


def _find_devices(context: Context) -> None:
    """Take note of the host's devices that attachments are to: made again where dnet made them, perhaps renumbered.

    What has no device any more has index 0, and nothing of it is made until it has one again.
    """
    made = context.store.attachments.made_bridges()
    for container in context.store.containers.all():
        for item in container.attachments:
            if not item.device:
                continue
            kind = attachment.KINDS[item.kind]
            if kind.needs_switch:  # its device is looked for by name
                _find_switch(context, item, is_made=item.device in made)
                continue
            index = context.kernel.device_index(item.device)
            if index is None and item.device in made and kind.is_port:
                with context.store.network_lock():
                    link = context.kernel.link(item.device) or attachment_bridges.make_bridge(
                        context, item.device, item.kind
                    )
                    index = link.index if link else None
            if index is None and item.kind == "direct":
                continue  # it is in the container, or nowhere
            if (index or 0) != item.device_index:
                with context.store.write():
                    context.store.attachments.update(replace(item, device_index=index or 0))


def _find_switch(context: Context, item: Attachment, *, is_made: bool) -> None:
    """Make a bridge of Open vSwitch again that dnet made and somebody has removed, if that is possible."""
    if is_made and context.kernel.device_index(item.device) is None:
        with context.store.network_lock(), suppress(DnetError):  # who is attached to it will say why
            attachment_bridges.make_bridge(context, item.device, item.kind)


def attach_again(context: Context, container: Container, target: Target) -> Container:
    """Attach a container that has another namespace now to all that it was attached to, and return it."""
    _find_devices(context)
    container = context.store.containers.reread(container.id)
    gone = replace(container, endpoints=(), attachments=(), routes=(), displaced=())
    # The namespace may be there still, held by a process; what is dnet's on the host goes, wherever it leads.
    change_containers(context, [container], [gone])
    return _make_again(context, at_target(container, target), at_target(gone, target))


def collect(context: Context, container: Container) -> None:
    """Forget a container that is gone for good, and remove what is left of its attachments on the host."""
    mark_changing(context, container)
    gone = replace(container, endpoints=(), attachments=(), routes=(), displaced=())
    change_containers(context, [container], [gone], is_forced=True)
    commit_rows(context, [gone], [container])


def _is_there(way: StaticRoute, inside: Observed) -> bool:
    return any(
        (held.destination, held.gateway) == (way.destination, way.gateway) and way.metric in {0, held.metric}
        for held in inside.routes
    )


def _renumbered(way: StaticRoute, inside: Observed) -> StaticRoute:
    """Return a route through an interface that is not dnet's with the number that this has now."""
    if not way.index:
        return way
    return replace(way, index=next((link.index for link in inside.links if link.name == way.interface), way.index))
