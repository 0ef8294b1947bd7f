"""Interfaces of containers that belong to no network of dnet's, and routes.

Inside, the kernel's ways are left alone: an interface on somebody's LAN gets a link-local address and listens to
routers, as it would on a machine there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network
from typing import Any

from dnet.drivers import sandbox
from dnet.model.address import IPAddress, IPInterface, IPNetwork
from dnet.model.attachment import Attachment
from dnet.model.container import Container
from dnet.model.record import MadeBridge
from dnet.objects.host import Dumped
from dnet.objects.links import (
    Alias,
    Announced,
    ArpNotify,
    Bridge,
    Dummy,
    Identity,
    Macvlan,
    MovedDevice,
    Offloads,
    Quiet,
    Settled,
    Up,
    Veth,
)
from dnet.objects.object import Object
from dnet.objects.openvswitch import OvsBridge, OvsPort
from dnet.objects.routes import Address, Route

BY_NAME = 0
ANYWHERE: Mapping[int, IPNetwork] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}


def made_bridge(made: MadeBridge, datapath_type: str) -> tuple[Object, ...]:
    """Return a bridge that is made because somebody attaches to it: it has no address, and no network.

    The device of one of Open vSwitch, with this type of datapath, is ovs-vswitchd's to make, and goes by its name.
    """
    device, index, mac = made.device, made.device_index, "02:42:" + made.device_index.to_bytes(4).hex(":")
    bridge: Object = Bridge(device, index, "", mac=mac, mtu=0)
    if made.mark:
        bridge, index = OvsBridge(device, made.mark, datapath_type, mac=mac, mtu=0, tag=0), BY_NAME
    return (bridge, Quiet(device, index, "", alias="dnet bridge"), Up(device, index, ""))


def inner_index(item: Attachment) -> int:
    """Return the index of an attachment's interface inside the sandbox: its host end's is another."""
    return item.host_index ^ 1


def attachment(container: Container, item: Attachment) -> Iterator[Object]:
    """Yield all that exists because of an attachment, the sandbox and the host's device apart."""
    if not item.device_index and item.device:
        return
    name, interface, index = container.name, item.interface, inner_index(item)
    text = f"dnet {name} {interface} {container.id[:12]}"
    yield from _device(name, item)
    if not item.host_interface:
        yield Alias(interface, index, name, text)
    yield ArpNotify(interface, index, name)
    addresses = item.addresses
    if item.lease:
        addresses = (ip_interface(item.lease["address"]), *addresses)
    for address in addresses:
        yield Address(interface, index, name, interface=address)
    yield Up(interface, index, name)
    yield from _leased_routes(container, item)
    yield from _defaults(container, item, addresses)
    if item.host_interface:
        yield Quiet(item.host_interface, item.host_index, "", alias=text, mtu=item.mtu)
        yield Up(item.host_interface, item.host_index, "")
        yield Settled(item.host_interface, item.host_index, "")
        yield from ports(item)
    yield Settled(interface, index, name)
    if addresses and item.kind != "dummy":
        sixes = tuple(address.ip for address in addresses if address.version == 6)
        yield Announced(interface, index, name, item.mac, sixes)


def _device(name: str, item: Attachment) -> Iterator[Object]:
    interface, index = item.interface, inner_index(item)
    match item.kind:
        case "bridge" | "ovs":
            yield Veth(
                item.host_interface,
                item.host_index,
                "",
                master=item.device,
                master_index=item.device_index if item.kind == "bridge" else 0,
                peer=interface,
                peer_index=index,
                peer_mac=item.mac,
                peer_sandbox=name,
                mtu=item.mtu,
            )
            if item.kind == "ovs":
                yield Offloads(interface, index, name, switch=item.device)
        case "macvlan":
            # One that has all of its parent's traffic has the parent's MAC address, too (macvlan_newlink).
            mac = "" if item.macvlan_mode == "passthru" else item.mac
            yield Macvlan(item.device, item.device_index, "", interface, index, mac, name, item.macvlan_mode, item.mtu)
        case "direct":
            yield MovedDevice(item.device, item.device_index, "", interface, index, name, _before(item))
            yield Identity(interface, index, name, item.mac, item.mtu)
        case "dummy":
            yield Dummy(interface, index, name, item.mac, item.mtu)


def ports(item: Attachment) -> Iterator[OvsPort]:
    """Yield what makes an attachment's host end, which exists, a port of a bridge of Open vSwitch."""
    if item.kind == "ovs":
        yield OvsPort.of(item.host_interface, item.device, item.id, item.vlans, is_protected=False)


def _before(item: Attachment) -> tuple[Object, ...]:
    """Return what a device had on the host, to be made there again."""
    known: Mapping[str, Any] = item.before
    if not known:
        return ()
    device, index = item.device, item.device_index
    made: list[Object] = [Identity(device, index, "", known["mac"], known["mtu"])]
    made += [Alias(device, index, "", known["alias"])]
    made += [Quiet(device, index, "")] if known["is_quiet"] else []
    made += [Dumped(device, index, "", text, bytes.fromhex(message)) for text, message in known["addresses"]]
    made += [Up(device, index, "")] if known["is_up"] else []
    made += [Dumped(device, index, "", text, bytes.fromhex(message)) for text, message in known["routes"]]
    return tuple(made)


def _leased_routes(container: Container, item: Attachment) -> Iterator[Object]:
    """Yield the routes that DHCP told, the default route apart."""
    for text, way in item.lease["classless_routes"] if item.lease else ():
        network = IPv4Network(text)
        if network.prefixlen:
            gateway = ip_address(way) if way else None
            yield Route(item.interface, inner_index(item), container.name, network, gateway)


def _defaults(container: Container, item: Attachment, addresses: Sequence[IPInterface]) -> Iterator[Object]:
    """Yield the default routes through an attachment, a way to gateways outside its subnets first."""
    interface, index = item.interface, inner_index(item)
    for gateway in item.ways:
        if gateway.version not in item.defaults:
            continue
        if not _is_near(gateway, addresses):
            yield Route(interface, index, container.name, ip_network(gateway), None)
        yield from sandbox.displaced(container, gateway.version)
        yield Route(interface, index, container.name, ANYWHERE[gateway.version], gateway)


def _is_near(gateway: IPAddress, addresses: Sequence[IPInterface]) -> bool:
    return gateway.is_link_local or any(gateway in address.network for address in addresses)


def routes(container: Container, indexes: Mapping[str, int]) -> Iterator[Object]:
    """Yield the routes that the user asked for; `indexes` are those of dnet's own interfaces, by name."""
    for way in container.routes:
        if way.interface and way.interface not in indexes and not way.index:
            continue
        index = indexes.get(way.interface, way.index)
        yield Route(way.interface, index, container.name, way.destination, way.gateway, way.metric)
