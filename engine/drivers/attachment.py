"""Attachments: interfaces of containers that belong to no network of dnet's, and routes.

The kernel's defaults are left alone inside: an interface on a LAN gets a link-local address and listens to routers, as
any machine on that LAN does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Network, ip_address, ip_interface, ip_network
from typing import Any

from dnet.drivers import sandbox
from dnet.model.address import ANYWHERE, IPAddress, IPInterface
from dnet.model.attachment import Attachment
from dnet.model.container import Container
from dnet.model.record import MadeBridge
from dnet.model.values import Value, frozen
from dnet.objects import links
from dnet.objects.host import ForeignState
from dnet.objects.object import Object
from dnet.objects.openvswitch import OvsBridge, OvsPort
from dnet.objects.routes import Address, Route

BY_NAME = 0


def made_bridge(made: MadeBridge, datapath_type: str) -> tuple[Object, ...]:
    """Return a bridge that is created because somebody attaches to it. It has neither address nor network.

    ovs-vswitchd creates the device of an Open vSwitch bridge, which therefore goes by its name.
    """
    device, index, mac = made.device, made.device_index, "02:42:" + made.device_index.to_bytes(4).hex(":")
    bridge: Object = links.Bridge(device, index, "", mac=mac, mtu=0)
    if made.mark:
        bridge, index = OvsBridge(device, made.mark, datapath_type, mac=mac, mtu=0, tag=0), BY_NAME
    return (bridge, links.NoAutoconf(device, index, "", alias="dnet bridge"), links.LinkUp(device, index, ""))


@frozen(kw_only=True)
class AttachmentKind(Value):
    """What dnet has to know of a kind of attachment."""

    # phrase says in words where an attachment is; {} stands for the device.
    phrase: str
    # is_port tells whether it is a veth whose host interface is a port of the device, a bridge.
    is_port: bool = False
    # needs_switch tells whether that bridge is one of Open vSwitch.
    needs_switch: bool = False
    # bridge_prefix begins the names of bridges that dnet creates if they are missing.
    bridge_prefix: str = ""


KINDS: Mapping[str, AttachmentKind] = {
    "bridge": AttachmentKind(phrase="on bridge {}", is_port=True, bridge_prefix="br"),
    "ovs": AttachmentKind(phrase="on Open vSwitch bridge {}", is_port=True, needs_switch=True, bridge_prefix="ovs"),
    "macvlan": AttachmentKind(phrase="macvlan on {}"),
    "direct": AttachmentKind(phrase="{} itself"),
    "dummy": AttachmentKind(phrase="dummy"),
}


def attachment(container: Container, item: Attachment) -> Iterator[Object]:
    """Yield all objects of an attachment, except the sandbox and the host's device."""
    if not item.device_index and item.device:
        return
    name, interface, index = container.name, item.interface, sandbox.index_inside(container, item)
    text = f"dnet {name} {interface} {container.id[:12]}"
    yield from _interface(name, item, index)
    if not KINDS[item.kind].is_port:
        yield links.Alias(interface, index, name, text)
    yield links.ArpNotify(interface, index, name)
    addresses = item.addresses
    if item.lease:
        addresses = (ip_interface(item.lease["address"]), *addresses)
    for address in addresses:
        yield Address(interface, index, name, interface=address)
    yield links.LinkUp(interface, index, name)
    yield from _leased_routes(container, item, index)
    yield from _default_routes(container, item, index, addresses)
    if KINDS[item.kind].is_port:
        yield links.NoAutoconf(item.host_interface, item.host_index, "", alias=text, mtu=item.mtu)
        yield links.LinkUp(item.host_interface, item.host_index, "")
        yield links.CarrierSeen(item.host_interface, item.host_index, "")
        if KINDS[item.kind].needs_switch:
            yield port(item)
    yield links.CarrierSeen(interface, index, name)
    if addresses and item.kind != "dummy":
        sixes = tuple(address.ip for address in addresses if address.version == 6)
        yield links.Announcement(interface, index, name, item.mac, sixes)


def _interface(name: str, item: Attachment, index: int) -> Iterator[Object]:
    match item.kind:
        case "bridge" | "ovs":
            is_switched = KINDS[item.kind].needs_switch
            yield links.Veth(
                item.host_interface,
                item.host_index,
                "",
                master=item.device,
                master_index=0 if is_switched else item.device_index,
                peer=item.interface,
                peer_index=index,
                peer_mac=item.mac,
                peer_sandbox=name,
                mtu=item.mtu,
            )
            if is_switched:
                yield links.NoTransmitOffloads(item.interface, index, name, switch=item.device)
        case "macvlan":
            # In mode passthru it has the parent's MAC address, too (macvlan_newlink).
            mac = "" if item.macvlan_mode == "passthru" else item.mac
            parent, parent_index, mode = item.device, item.device_index, item.macvlan_mode
            yield links.Macvlan(parent, parent_index, "", item.interface, index, mac, name, mode, item.mtu)
        case "direct":
            yield links.MovedDevice(item.device, item.device_index, "", item.interface, index, name, _before_move(item))
            yield links.Identity(item.interface, index, name, item.mac, item.mtu)
        case "dummy":
            yield links.Dummy(item.interface, index, name, item.mac, item.mtu)


def port(item: Attachment) -> links.PortOf | OvsPort:
    """Return what makes the host interface of an attachment, which exists, a port of its bridge."""
    name, index = item.host_interface, item.host_index
    if KINDS[item.kind].needs_switch:
        return OvsPort.of(name, item.device, item.id, item.vlans, is_protected=False)
    return links.PortOf(name, index, "", master=item.device, master_index=item.device_index)


def _before_move(item: Attachment) -> tuple[Object, ...]:
    """Return what a device had on the host, to be restored there."""
    known: Mapping[str, Any] = item.before
    if not known:
        return ()
    device, index = item.device, item.device_index
    restored: list[Object] = [links.Identity(device, index, "", known["mac"], known["mtu"])]
    restored += [links.Alias(device, index, "", known["alias"])]
    restored += [links.NoAutoconf(device, index, "")] if known["is_quiet"] else []
    restored += [ForeignState(device, index, "", text, bytes.fromhex(message)) for text, message in known["addresses"]]
    restored += [links.LinkUp(device, index, "")] if known["is_up"] else []
    restored += [ForeignState(device, index, "", text, bytes.fromhex(message)) for text, message in known["routes"]]
    return tuple(restored)


def _leased_routes(container: Container, item: Attachment, index: int) -> Iterator[Object]:
    """Yield the routes that DHCP granted, except the default route."""
    for text, gateway in item.lease["classless_routes"] if item.lease else ():
        network = IPv4Network(text)
        if network.prefixlen:
            yield Route(item.interface, index, container.name, network, ip_address(gateway) if gateway else None)


def _default_routes(
    container: Container, item: Attachment, index: int, addresses: Sequence[IPInterface]
) -> Iterator[Object]:
    """Yield the default routes through an attachment; before each, a route to a gateway outside its subnets."""
    for gateway in item.default_gateways:
        if gateway.version not in item.defaults:
            continue
        if not _is_on_link(gateway, addresses):
            yield Route(item.interface, index, container.name, ip_network(gateway), None)
        yield from sandbox.displaced_routes(container, gateway.version)
        yield Route(item.interface, index, container.name, ANYWHERE[gateway.version], gateway)


def _is_on_link(gateway: IPAddress, addresses: Sequence[IPInterface]) -> bool:
    return gateway.is_link_local or any(gateway in address.network for address in addresses)


def routes(container: Container, indexes: Mapping[str, int]) -> Iterator[Object]:
    """Yield the routes that the user asked for; `indexes` are those of dnet's own interfaces, by name."""
    for item in container.routes:
        if item.interface and item.interface not in indexes and not item.index:
            continue
        index = indexes.get(item.interface, item.index)
        yield Route(item.interface, index, container.name, item.destination, item.gateway, item.metric)
