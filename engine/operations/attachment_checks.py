"""Checks of what an attachment asks for, against the host and the container."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface

from dnet.drivers.attachment import KINDS
from dnet.errors import Conflict, InvalidRequest, NotFound, Unsupported
from dnet.model.address import mac_of
from dnet.model.attachment import Attachment
from dnet.model.attachment_spec import AttachmentSpec
from dnet.model.container import Container
from dnet.objects.observed import INFINIBAND, ObservedLink


def choose_mac(spec: AttachmentSpec, identity: str, link: ObservedLink | None) -> str:
    """Return an attachment's MAC address: the one asked for, the device's own, or else one that never changes.

    That follows the IPv4 address, as with endpoints, or without one the attachment's id.
    """
    if spec.mac:
        return spec.mac
    if link and (spec.kind == "direct" or spec.mode == "passthru"):
        return link.mac
    fours = [address.ip for address in spec.addresses if isinstance(address, IPv4Interface)]
    if fours:
        return mac_of(IPv4Address(fours[0]))
    return f"02:{bytes.fromhex(identity[:10]).hex(':')}"


# The host's device


def check_device(spec: AttachmentSpec, link: ObservedLink, *, is_wireless: bool, master: str) -> None:
    """Raise unless an attachment can be made to a device; `master` is the bridge or bond that it is a port of."""
    name = link.name
    if KINDS[spec.kind].is_port:
        if not KINDS[spec.kind].needs_switch and link.kind != "bridge":
            hint = f"--macvlan {name} makes a macvlan on it, --direct {name} moves it"
            raise InvalidRequest(f"{name} is not a bridge", object=name, hint=hint)
        return
    if is_wireless:
        raise Unsupported(
            f"{name} is a wireless interface, whose access point takes frames of one MAC address only",
            object=name,
            hint="attach to a bridge, and let the host forward",
        )
    if link.type == INFINIBAND:
        raise Unsupported(f"{name} is an InfiniBand interface", object=name, hint="dnet attaches to Ethernet")
    if master:
        hint = f"attach to that: --bridge {master}"
        raise Conflict(f"{name} is a port of {master}", object=name, hint=hint)
    if spec.kind == "direct" and link.kind == "bridge":
        hint = f"--bridge {name} attaches to it"
        raise InvalidRequest(f"{name} is a bridge, and a bridge cannot be moved", object=name, hint=hint)
    if spec.kind == "macvlan" and spec.mtu > link.mtu:
        raise InvalidRequest(f"MTU {spec.mtu} is more than that of {name}, {link.mtu}", object=str(spec.mtu))


def missing_device(spec: AttachmentSpec, holder: str) -> NotFound:
    """Return the error for a device that the host does not have; `holder` is the container it was moved into."""
    if holder:
        hint = f"`dnet detach {holder}` gives it back"
        return NotFound(f"{spec.device} has been moved into {holder}", object=spec.device, hint=hint)
    hint = "`ip link` shows what there is"
    kind = KINDS[spec.kind]
    if kind.needs_switch:
        hint = f"`ovs-vsctl add-br {spec.device}` makes a bridge of Open vSwitch"
    elif kind.is_port:
        hint = f"make it, or choose a name that begins with {kind.bridge_prefix}: such a bridge is made"
    return NotFound(f"this host has no interface {spec.device}", object=spec.device, hint=hint)


# What is in the container already


def phrase(item: Attachment) -> str:
    """Return an attachment in words: what it is, and its addresses."""
    text = KINDS[item.kind].phrase.format(item.device) + (f", {item.vlans}" if item.vlans else "")
    leased = [f"{item.lease['address']} by DHCP"] if item.lease else []
    return f"{text}, {', '.join([*leased, *map(str, item.addresses)]) or 'without an address'}"


def is_made(spec: AttachmentSpec, item: Attachment) -> bool:
    """Return whether an attachment is as asked for; what the specification leaves open may be anything."""
    wanted = (spec.kind, spec.device, spec.mode, spec.is_dhcp)
    present = (item.kind, item.device, item.macvlan_mode, item.is_dhcp)
    return (
        wanted == present
        and set(spec.addresses) == set(item.addresses)
        and set(spec.gateways) == set(item.gateways)
        and spec.interface in {"", item.interface}
        and spec.mac in {"", item.mac}
        and spec.mtu in {0, item.mtu}
        and spec.host_interface in {"", item.host_interface}
        and spec.vlans in {None, item.vlans}
    )


def holder(container: Container, interface: str) -> str:
    """Return in words what of dnet's has the name of an interface in a container; empty if nothing has."""
    for endpoint in container.endpoints:
        if endpoint.interface == interface:
            return f"on network {endpoint.network}, {endpoint.address}"
    return next((phrase(item) for item in container.attachments if item.interface == interface), "")


def free_interface(container: Container, present: Iterable[str], first: int = 0) -> str:
    """Return the first name of eth0, eth1, ... that no interface of the container has."""
    used = {*present, *(item.interface for item in container.endpoints)}
    used |= {item.interface for item in container.attachments}
    number = first
    while f"eth{number}" in used:
        number += 1
    return f"eth{number}"


def label(container: Container) -> str:
    """Return what errors call a container. The name of a foreign one says already what it is."""
    return container.name if container.target else f"container {container.name}"
