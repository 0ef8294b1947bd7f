"""Repair of attachments: made again where they are missing, forgotten with a container that is gone."""

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


class Finding(NamedTuple):
    """Something that was missing, in words, and the error if it could not be made again."""

    what: str
    error: DnetError | None = None


def find(context: Context, text: str) -> Container:
    """Return the container that a text means, and reattach it first if it has restarted.

    A new foreign container is not stored yet.
    """
    known = look_up(context, text)
    container, target = known.container, known.target
    if target is None:
        return container
    if known.is_new:
        _free_name(context, container.name)
        return container
    if known.is_stale:
        with context.store.repair_lock():
            known = known._replace(container=context.store.containers.reread(container.id))
            if known.is_stale:
                return reattach(context, known.container, target)
        container = known.container
    return at_target(container, target) if reference_of(container) == (target.kind, target.reference) else container


def find_all(context: Context, texts: Sequence[str]) -> LazyContainers:
    """Return the containers that texts mean, each once; many at once without a query for each."""
    known = context.store.containers.heads(texts) if len(texts) > 1 else {}
    own = {name: item for name, item in known.items() if item.mode != MODE_FOREIGN}
    return LazyContainers(
        context.store, [check_own_sandbox(own[text]) if text in own else find(context, text) for text in texts]
    )


def _free_name(context: Context, name: str) -> None:
    """Forget, or rename after what they are now, the stored foreign containers that have the name of a new one."""
    from dnet.runtime.targets import Target, TargetState, resolve

    for item in context.store.containers.foreign():
        if item.name != name:
            continue
        now = resolve(Target(**item.target))
        if now.state is TargetState.GONE:
            forget(context, item)
            continue
        other = replace(item, name=f"{item.target['kind']}:{item.target['reference'][:SHORT_ID]}")
        with context.store.write():
            context.store.containers.update(at_target(item, now.target) if now.target else other, "name", "target")


def refresh(context: Context, *, dry_run: bool = False) -> list[Finding]:
    """Make missing attachments and routes again, and forget foreign containers that are gone.

    Returns what was missing. A dry run changes nothing.
    """
    if dry_run:
        return _refresh_all(context, dry_run=True)
    prepare(context)
    find_devices(context)
    with context.store.repair_lock():
        findings = _refresh_all(context, dry_run=False)
    attachment_bridges.remove_unused_bridges(context)
    return findings


def _refresh_all(context: Context, *, dry_run: bool) -> list[Finding]:
    findings: list[Finding] = []
    containers = context.store.containers.all()
    missing_ports = _look_at_ports(context, containers)
    for item in containers:
        if not (item.target or item.attachments or item.routes) or context.store.is_busy(item.id):
            continue
        try:
            findings += _refresh(context, item, missing_ports, dry_run=dry_run)
        except DnetError as error:
            findings.append(Finding(label(item), error))
    return findings


def _refresh(context: Context, container: Container, missing_ports: MissingPorts, *, dry_run: bool) -> list[Finding]:
    from dnet.runtime.targets import Target, TargetState, resolve

    now = resolve(Target(**container.target)) if container.target else None
    if now is None or now.state is TargetState.SAME:
        return _repair(context, container, missing_ports, dry_run=dry_run)
    if now.state is TargetState.CHANGED and now.target:
        if not dry_run:
            reattach(context, container, now.target)
        return [Finding(f"{container.name}, which has been restarted")]
    if now.state is TargetState.GONE:
        if not dry_run:
            forget(context, container)
        return [Finding(f"removal of {container.name}, which is gone")]
    return []


def repair(context: Context, container: Container) -> list[Finding]:
    """Make missing interfaces and routes of a container again, and return what was missing."""
    with context.store.repair_lock():
        return _repair(context, container, _look_at_ports(context, [container]), dry_run=False)


def _repair(context: Context, container: Container, missing_ports: MissingPorts, *, dry_run: bool) -> list[Finding]:
    try:
        inside = look_into(context, container)
    except NotFound:
        return []  # whoever makes the sandbox again makes all of it
    name, indexes = label(container), desired.inner_indexes(container)
    possible = [item for item in container.attachments if item.device_index or not item.device]
    attachments = [item for item in possible if not inside.has(item.interface, indexes[item.interface])]
    endpoints = [
        item
        for item in container.endpoints
        if container.target and not inside.has(item.interface, indexes[item.interface])
    ]
    interfaces = {item.interface for item in attachments} | {item.interface for item in endpoints}
    routes = [route for route in container.routes if route.interface in interfaces or not _has_route(inside, route)]
    ports = _lost_ports(context, possible, missing_ports)
    needs_lease = any(item.is_dhcp and not item.lease for item in possible if item not in attachments)
    findings = [Finding(str(item)) for item in ports]
    findings += [Finding(f"interface {interface} of {name}") for interface in sorted(interfaces)]
    findings += [Finding(f"route {route} of {name}") for route in routes]
    findings += [Finding(f"address by DHCP of {name}")] if needs_lease else []
    if dry_run:
        return findings
    if ports:
        join_ports(context, ports)
    if interfaces or routes:
        before = replace(
            container,
            endpoints=tuple(item for item in container.endpoints if item not in endpoints),
            attachments=tuple(item for item in container.attachments if item not in attachments),
            routes=tuple(route for route in container.routes if route not in routes),
        )
        _make_again(context, container, with_defaults(before, context.store.networks.by_id()))
    elif needs_lease:
        _acquire_leases(context, container, {})
    return findings


def _make_again(context: Context, container: Container, before: Container) -> Container:
    """Make again what a container has and `before`, its present state, lacks; return the container afterwards.

    What is left of it is removed first, so that a displaced default route is there, to be displaced again.
    """
    mark_changing(context, container)
    change_containers(context, [container], [before])
    inside = look_into(context, before)
    kept = {item.id for item in before.attachments}
    old = {item.id: item.lease for item in container.attachments if item.lease and item.id not in kept}
    after = replace(
        container,
        attachments=tuple(replace(item, lease={}) if item.id in old else item for item in container.attachments),
        routes=tuple(_renumbered(route, inside) for route in container.routes),
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
    """Get leases for attachments without one. `old`: their previous leases, by the attachments' ids."""
    for item in container.attachments:
        if item.is_dhcp and not item.lease and (item.device_index or not item.device):
            previous = lease.from_document(old[item.id]) if item.id in old else None
            container = leases.acquire(context, container, item, previous)
    return container


def _look_at_ports(context: Context, containers: Iterable[Container]) -> MissingPorts:
    """Read all ports from Open vSwitch once; return a function that lists an attachment's missing ports, or raises."""
    items = [item for container in containers for item in container.attachments]
    wanted = [attachment.port(item) for item in items if attachment.KINDS[item.kind].needs_switch]
    problem: DnetError | None = None
    missing: list[OvsBridge | OvsPort] = []
    try:
        missing = context.switches.missing(wanted)
    except DnetError as error:
        problem = error

    def missing_ports(item: Attachment) -> Sequence[Object]:
        if problem:
            raise problem
        return [port for port in missing if port == attachment.port(item)]

    return missing_ports


def _lost_ports(context: Context, attachments: Iterable[Attachment], missing_ports: MissingPorts) -> list[Object]:
    """Return what makes host interfaces ports of their bridges again; a bridge that was made anew has lost them."""
    ports: list[Object] = []
    for item in attachments:
        link = context.kernel.link(item.host_interface) if item.host_interface else None
        if not link or link.index != item.host_index:
            continue
        if attachment.KINDS[item.kind].needs_switch:
            ports += missing_ports(item)
        elif link.master != item.device_index:
            ports.append(attachment.port(item))
    return ports


def find_devices(context: Context) -> None:
    """Store the present indexes of the host's devices that attachments are on, one process at a time."""
    with context.store.repair_lock():
        _find_devices(context)


def _find_devices(context: Context) -> None:
    """Store the present indexes of the host's devices that attachments are on. Bridges that dnet made are made again.

    An attachment without its device has index 0, and is not made until the device is there again.
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
    """Make a bridge of Open vSwitch again that dnet made and somebody has removed; ignore errors."""
    if is_made and context.kernel.device_index(item.device) is None:
        with context.store.network_lock(), suppress(DnetError):  # who is attached to it will say why
            attachment_bridges.make_bridge(context, item.device, item.kind)


def reattach(context: Context, container: Container, target: Target) -> Container:
    """Make everything that a container had in its new namespace, and return the container."""
    _find_devices(context)
    container = context.store.containers.reread(container.id)
    gone = replace(container, endpoints=(), attachments=(), routes=(), displaced=())
    # A process may hold the old namespace. What is dnet's on the host is removed all the same.
    change_containers(context, [container], [gone])
    return _make_again(context, at_target(container, target), at_target(gone, target))


def forget(context: Context, container: Container) -> None:
    """Forget a foreign container that is gone, and remove what is left of its attachments on the host."""
    mark_changing(context, container)
    gone = replace(container, endpoints=(), attachments=(), routes=(), displaced=())
    change_containers(context, [container], [gone], force=True)
    commit_rows(context, [gone], [container])


def _has_route(inside: Observed, route: StaticRoute) -> bool:
    return any(
        (held.destination, held.gateway) == (route.destination, route.gateway) and route.metric in {0, held.metric}
        for held in inside.routes
    )


def _renumbered(route: StaticRoute, inside: Observed) -> StaticRoute:
    """Return a route with the present index of its interface, if that is not dnet's."""
    if not route.index:
        return route
    index = next((link.index for link in inside.links if link.name == route.interface), route.index)
    return replace(route, index=index)
