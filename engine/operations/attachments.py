"""Containers attached to networks and to devices of the host, and detached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

from dnet.drivers.attachment import KINDS
from dnet.drivers.displaced_route import with_displaced
from dnet.errors import Conflict, InvalidRequest, NotFound
from dnet.model.attachment import Attachment
from dnet.model.attachment_spec import AttachmentSpec, NetworkAttachmentSpec
from dnet.model.container import Container, Endpoint
from dnet.model.container_spec import EndpointSpec
from dnet.model.network import DEFAULT_DEVICE, Network, veth_name
from dnet.model.values import replace
from dnet.objects.links import LinkUp
from dnet.objects.observed import PROTOCOL_ADVERTISED, PROTOCOL_KERNEL, Observed, ObservedLink
from dnet.operations import attachment_bridges, attachment_checks, endpoints, leases, reattach, targets
from dnet.operations.attachment_checks import label
from dnet.operations.inside import changing, check_unchanged, choose_default_routes, gateway_priority, look_into
from dnet.transaction.containers import change_or_revert, check_switch
from dnet.transaction.context import Context
from dnet.transaction.identity import new_id
from dnet.transaction.lots import BulkProgress, LazyContainers
from dnet.transaction.recovery import prepare
from dnet.transaction.reserve_endpoints import EndpointReservation
from dnet.transaction.rollback import reverting


class Attached(NamedTuple):
    """Result of attaching a container: the container, its interface, and whether that is new."""

    container: Container
    interface: Attachment | Endpoint
    is_new: bool


def attach(
    context: Context,
    references: Sequence[str],
    wanted: AttachmentSpec | NetworkAttachmentSpec,
    *,
    on_progress: BulkProgress | None = None,
) -> list[Attached]:
    """Attach containers, all or nothing. Those that are attached already, as asked for, stay as they are."""
    prepare(context)
    members = reattach.find_all(context, references)
    if len(members) > 1 and wanted.is_for_one:
        raise InvalidRequest("several containers cannot have the same address or device", object=references[0])
    if isinstance(wanted, NetworkAttachmentSpec):
        return _attach_to_network(context, members, wanted, on_progress)
    return _attach_to_device(context, members, wanted, on_progress)


def _attach_to_network(
    context: Context, members: LazyContainers, to: NetworkAttachmentSpec, on_progress: BulkProgress | None
) -> list[Attached]:
    wanted = to.spec
    network = context.store.networks.get(wanted.network)
    to.check(network)
    network = endpoints.prepare_network(context, network, wanted)
    joined = set(context.store.networks.member_names(network.id))
    known = LazyContainers(context.store, [item for item in members.heads if item.name in joined])
    attached: dict[str, Attached] = {}
    for item in known:
        for endpoint in item.endpoints:
            if endpoint.network_id == network.id:
                _check_same(item, endpoint, wanted)
                attached[item.id] = Attached(item, endpoint, is_new=False)
    new = LazyContainers(context.store, [item for item in members.heads if item.id not in attached])
    if new:
        attached |= _create_endpoints(context, new, to, network, on_progress)
    return [attached[item.id] for item in members.heads]


def _create_endpoints(
    context: Context,
    members: LazyContainers,
    to: NetworkAttachmentSpec,
    network: Network,
    on_progress: BulkProgress | None,
) -> dict[str, Attached]:
    # dnet's own containers have nothing in them that it does not know of; a look at hundreds would take its time.
    foreign = [item for item in members.heads if isinstance(item, Container) and item.target]
    insides = {item.id: look_into(context, item) for item in foreign}
    reservation = EndpointReservation(context.store)
    with changing(context, members.heads):
        check_unchanged(context, members.heads)
        context.store.check_not_joined(members.heads, network.id)
        reservation.check_joining(members, to.spec, network, endpoints.interface_names(insides))
    joining = endpoints.joining(
        context, reservation, members, to.spec, network, insides, takes_default=to.takes_default
    )
    return {
        item.id: Attached(item, endpoint, is_new=True)
        for item in change_or_revert(context, members, joining, on_progress)
        for endpoint in item.endpoints
        if endpoint.network_id == network.id
    }


def _attach_to_device(
    context: Context, members: Sequence[Container], spec: AttachmentSpec, on_progress: BulkProgress | None
) -> list[Attached]:
    spec = _with_kind(context, spec)
    attached = {
        item.id: Attached(item, one, is_new=False)
        for item in members
        for one in item.attachments
        if attachment_checks.is_made(spec, one)
    }
    for item in members:
        if item.id in attached:
            reattach.repair(context, item)
    new = [item for item in members if item.id not in attached]
    insides = {item.id: look_into(context, item) for item in new}
    for item in new:
        _check_inside(context, item, spec, insides[item.id])
    if new:
        with _device(context, spec) as link, _removing_bridge(context, spec):
            pairs = _create_attachments(context, new, spec, link, insides, on_progress)
        for container, created in pairs:
            leased = _with_lease(context, container, created) if spec.is_dhcp else container
            interface = next(one for one in leased.attachments if one.id == created.id)
            attached[container.id] = Attached(leased, interface, is_new=True)
    return [attached[item.id] for item in members]


def _with_kind(context: Context, spec: AttachmentSpec) -> AttachmentSpec:
    """Return a specification with the kind of its bridge: the kernel's, or Open vSwitch's, which runs then."""
    if spec.kind == "bridge":
        link = context.kernel.link(spec.device)
        made = context.store.attachments.made_bridges().get(spec.device)
        if context.switches.has_bridge(link) if link else made and made.mark:
            spec = spec.on_switch()
    spec.check_vlans()
    if KINDS[spec.kind].needs_switch:
        context.switches.open().prepare()
        context.switches.collect()  # what was left behind may have the port's name
    return spec


def _check_inside(context: Context, container: Container, spec: AttachmentSpec, inside: Observed) -> None:
    """Raise when the container has an interface of that name or one of the addresses already."""
    name, who = spec.interface, label(container)
    holder = attachment_checks.holder(container, name) if name else ""
    if holder:
        hint = f"`dnet detach {container.name} -i {name}` takes it off"
        raise Conflict(f"{who} has an interface {name} already: {holder}", object=name, hint=hint)
    if any(link.name == name for link in inside.links):
        hint = "choose another name, or leave it to dnet"
        raise Conflict(f"{who} has an interface {name} already, which is not dnet's", object=name, hint=hint)
    wanted = {address.ip for address in spec.addresses}
    for held in inside.addresses:
        if held.interface.ip in wanted:
            device = inside.name_of(held.index)
            sentence = f"address {held.interface.ip} is on {device} of {who} already"
            raise Conflict(sentence, object=str(held.interface.ip), hint="choose another address")
    if spec.host_interface and context.kernel.device_index(spec.host_interface):
        hint = "choose another name for the host's end, or leave it to dnet"
        raise Conflict(f"this host has a {spec.host_interface} already", object=spec.host_interface, hint=hint)


@contextmanager
def _device(context: Context, spec: AttachmentSpec) -> Iterator[ObservedLink | None]:
    """Yield the host's device, checked, or None if none is asked for. A missing bridge is made if its name allows."""
    kernel = context.kernel
    device: AbstractContextManager[ObservedLink | None] = nullcontext(None)
    if spec.device:
        device = (
            attachment_bridges.held_bridge(context, spec.device, spec.kind)
            if KINDS[spec.kind].is_port
            else nullcontext(kernel.link(spec.device))
        )
    with device as link:
        if link:
            master = kernel.device_name(link.master)
            attachment_checks.check_device(spec, link, is_wireless=kernel.is_wireless(link.name), master=master)
            _check_use(context, spec, link)
        elif spec.device:
            raise attachment_checks.missing_device(
                spec, next(iter(context.store.attachments.users_of(spec.device).values()), "")
            )
        yield link


def _check_use(context: Context, spec: AttachmentSpec, link: ObservedLink) -> None:
    """Raise when an attachment to a device would break what else uses the device."""
    for network in context.store.networks.all():
        if network.device == link.name and link.name in {DEFAULT_DEVICE, f"br-{network.id[:12]}"}:
            hint = f"attach to the network: --network {network.name}"
            raise InvalidRequest(f"{link.name} is the bridge of network {network.name}", object=link.name, hint=hint)
    if spec.kind == "direct":
        users = context.store.attachments.users_of(link.name)
        if users:
            names = ", ".join(sorted(set(users.values())))
            raise Conflict(f"{link.name} is in use: {names} has an interface on it", object=link.name)
        routes = context.kernel.look().routes()
        if any(route.is_main and route.index == link.index and route.is_default for route in routes):
            hint = "a macvlan leaves it where it is: --macvlan"
            raise Conflict(f"the host's default route goes through {link.name}", object=link.name, hint=hint)


@contextmanager
def _removing_bridge(context: Context, spec: AttachmentSpec) -> Iterator[None]:
    """Run the block; when it fails, remove the bridge that was made for it."""
    try:
        yield
    except BaseException:
        # `_device` holds the network lock as long as a bridge that dnet made is concerned.
        is_made = KINDS[spec.kind].is_port and spec.device in context.store.attachments.made_bridges()
        if is_made and not context.store.attachments.users_of(spec.device):
            attachment_bridges.remove_bridge(context, spec.device)
        raise


def _create_attachments(
    context: Context,
    members: Sequence[Container],
    spec: AttachmentSpec,
    link: ObservedLink | None,
    insides: Mapping[str, Observed],
    on_progress: BulkProgress | None,
) -> list[tuple[Container, Attachment]]:
    before_move = _before_move(context, link) if link and spec.kind == "direct" else {}
    if link and spec.kind == "macvlan" and not link.is_up:
        context.kernel.create([[LinkUp(link.name, link.index, "")]])
        context.notice(f"raised {link.name}, which was down")
    with changing(context, members):
        check_unchanged(context, members)
        new, changes = [], []
        for item, index in zip(members, context.store.take_indexes(len(members)), strict=True):
            priority = gateway_priority(item, is_default=True)
            new.append(_attachment(item, spec, link, insides[item.id], index, before_move, priority))
            changes.append((item, replace(item, attachments=(*item.attachments, new[-1]))))
        context.store.attachments.insert((item.id, one) for item, one in zip(members, new, strict=True))
        after = choose_default_routes(context, changes, insides)
    change_or_revert(context, members, after, on_progress)
    return list(zip(after, new, strict=True))


def _with_lease(context: Context, container: Container, item: Attachment) -> Container:
    """Return a container with a lease for its new attachment, which is removed again when there is none."""
    with reverting(lambda: _remove_interface(context, container, item)):
        return leases.acquire(context, container, item)


def _before_move(context: Context, link: ObservedLink) -> dict[str, Any]:
    """Return what a device has on the host, to be restored when it returns."""
    sight = context.kernel.look()
    held = [item for item in sight.addresses() if item.index == link.index and item.is_kept]
    own = {PROTOCOL_KERNEL, PROTOCOL_ADVERTISED}
    routes = [item for item in sight.routes() if item.is_main and item.index == link.index and item.protocol not in own]
    return {
        "mac": link.mac,
        "mtu": link.mtu,
        "alias": link.alias,
        "is_up": link.is_up,
        "is_quiet": link.is_quiet,
        "addresses": [
            [f"address {item.interface}", item.message.hex()]
            for item in held
            # The kernel makes these again by itself.
            if link.is_quiet or not item.interface.ip.is_link_local
        ],
        "routes": [[f"route {item.destination}", item.message.hex()] for item in routes],
    }


def detach(context: Context, target: str, interface: str = "", *, force: bool = False) -> Container:
    """Remove an interface that was attached to a container; it has to be named if there are several.

    A displaced default route and a device of the host's are restored.
    """
    prepare(context)
    container = targets.remembered(context, target) or reattach.find(context, target)
    item = _find_interface(container, interface)
    if not force:
        is_endpoint = isinstance(item, Endpoint)
        alone = replace(container, endpoints=(item,) if is_endpoint else (), attachments=() if is_endpoint else (item,))
        check_switch(context, [alone])
    if isinstance(item, Attachment):
        leases.release(container, item)
    return _remove_interface(context, container, item, force=force)


def _remove_interface(
    context: Context, container: Container, item: Attachment | Endpoint, *, force: bool = False
) -> Container:
    after = replace(
        container,
        endpoints=tuple(endpoint for endpoint in container.endpoints if endpoint.id != item.id),
        attachments=tuple(one for one in container.attachments if one.id != item.id),
        routes=tuple(route for route in container.routes if route.interface != item.interface),
    )
    with changing(context, [container]):
        context.store.check_current([container])
        table = "endpoint" if isinstance(item, Endpoint) else "attachment"
        context.store.set_phase(table, [item.id], "deleting")
        [after] = choose_default_routes(context, [(container, after)], {})
    after = with_displaced(container, after, Observed())
    change_or_revert(context, [container], [after], force=force)
    attachment_bridges.remove_unused_bridges(context)
    return after


def _check_same(container: Container, endpoint: Endpoint, wanted: EndpointSpec) -> None:
    """Raise unless a present endpoint is as asked for; what is left open may be anything."""
    address6 = endpoint.address6.ip if endpoint.address6 else None
    if (
        wanted.ip in {None, endpoint.address.ip}
        and wanted.ip6 in {None, address6}
        and wanted.mac in {"", endpoint.mac}
        and wanted.interface in {"", endpoint.interface}
        and wanted.vlans in {None, endpoint.vlans}
    ):
        return
    hint = f"`dnet detach {container.name} -i {endpoint.interface}` takes it off"
    known = f"{endpoint.interface}, {endpoint.address}, {endpoint.mac}"
    sentence = f"{label(container)} is on network {endpoint.network} already: {known}"
    raise Conflict(sentence, object=container.name, hint=hint)


def _attachment(
    container: Container,
    spec: AttachmentSpec,
    link: ObservedLink | None,
    inside: Observed,
    index: int,
    before_move: Mapping[str, Any],
    priority: int,
) -> Attachment:
    identity = new_id()
    is_port = KINDS[spec.kind].is_port
    return Attachment(
        id=identity,
        kind=spec.kind,
        device=spec.device,
        device_index=link.index if link else 0,
        interface=spec.interface or attachment_checks.free_interface(container, [one.name for one in inside.links]),
        host_index=index,
        host_interface=(spec.host_interface or veth_name(index)) if is_port else "",
        addresses=spec.addresses,
        gateways=spec.gateways,
        mac=attachment_checks.choose_mac(spec, identity, link),
        mtu=spec.mtu or (link.mtu if link and (is_port or spec.kind == "direct") else 0),
        macvlan_mode=spec.mode,
        is_dhcp=spec.is_dhcp,
        hostname=spec.hostname,
        gateway_priority=priority if spec.gateways else 0,
        before=before_move,
        vlans=spec.vlans,
    )


def _find_interface(container: Container, interface: str) -> Attachment | Endpoint:
    """Return the interface of that name that can be detached, or the only one if the name is empty."""
    candidates: list[Attachment | Endpoint] = list(container.attachments)
    candidates += container.endpoints if interface or container.target else ()
    candidates = [item for item in candidates if interface in {"", item.interface}]
    if not candidates:
        sentence = f"{label(container)} has no interface {interface}".rstrip() + " that dnet attached"
        raise NotFound(sentence, object=interface or container.name, hint="`dnet attachment ls` lists them")
    if len(candidates) > 1:
        names = ", ".join(item.interface for item in candidates)
        raise InvalidRequest(f"{label(container)} has several: {names}", object=container.name, hint="name one with -i")
    return candidates[0]
