"""What every driver has in common: the gateway on a network's device, and the inside of a container's sandbox.

docs/architecture.md gives the reasons for the order within an endpoint: the peer is born inside, the inside comes up
first, the host interface last.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface, ip_network

from dnet.model.address import ANYWHERE, link_local
from dnet.model.attachment import Attachment
from dnet.model.container import MODE_FOREIGN, MODE_HOST, Container, Endpoint
from dnet.model.network import Network
from dnet.objects.host import Forwarding
from dnet.objects.links import LinkUp, NoAutoconf, Veth
from dnet.objects.object import Object
from dnet.objects.routes import Address, DisplacedRoute, LocalRouting, LoopbackRoute, Route
from dnet.objects.sandbox import HostSandbox, JoinedSandbox, Sandbox

# dnet also chooses the indexes inside a sandbox: clear of the loopback's 1, and of the tunnel devices that some kernels
# create in every namespace.
LOOPBACK_INDEX = 1
FIRST_INDEX = 256
NUMBERED = re.compile(r"eth(0|[1-9][0-9]{0,5})\Z")


def forwarding(net: Network) -> Iterator[Object]:
    """Yield what lets the host forward the network's packets."""
    yield Forwarding(4)
    if net.subnet6:
        yield Forwarding(6)


def gateway(net: Network, index: int) -> Iterator[Object]:
    """Yield what makes the network's device, which exists, the gateway; `index` is its ifindex."""
    yield NoAutoconf(net.device, index, "", alias=f"dnet network {net.name}", mtu=net.mtu)
    yield from gateway_addresses(net, index)
    yield LinkUp(net.device, index, "")
    yield from loopback(net, index)


def gateway_addresses(net: Network, index: int) -> Iterator[Address | LocalRouting]:
    """Yield the device's addresses, and permission for replies from 127.0.0.1, except what was there already."""
    device, found = net.device, net.found
    if "route_localnet" not in found:
        yield LocalRouting(device, index, "")
    if "gateway" not in found:
        yield Address(device, index, "", interface=IPv4Interface((net.gateway, net.subnet.prefixlen)))
    if net.subnet6 and net.gateway6:
        if "gateway6" not in found:
            yield Address(device, index, "", interface=IPv6Interface((net.gateway6, net.subnet6.prefixlen)))
        if "link_local" not in found:
            # Without one the host could not ask for a neighbour on behalf of others (ndisc_send_ns).
            yield Address(device, index, "", interface=link_local(net.gateway6))


def loopback(net: Network, index: int) -> Iterator[LoopbackRoute]:
    """Yield what does for ::1 what route_localnet does for 127.0.0.1, unless it was there already."""
    if net.subnet6 and "loopback_route" not in net.found:
        yield LoopbackRoute(net.device, index, "")


def sandbox(container: Container, name_path: str) -> tuple[Object, ...]:
    """Return the sandbox itself; `name_path` is the file by which `ip netns` finds it."""
    if container.mode == MODE_FOREIGN:
        target = container.target
        return (JoinedSandbox(container.name, container.sandbox, "", target["inode"], target["cookie"]),)
    if container.mode == MODE_HOST:
        return (HostSandbox(container.name, container.sandbox, name_path),)
    item = Sandbox(container.name, container.sandbox, name_path)
    return (item,) if container.endpoints else (item, LinkUp("lo", LOOPBACK_INDEX, container.name))


def index_inside(container: Container, item: Endpoint | Attachment) -> int:
    """Return the index that an interface of a container has inside the sandbox."""
    is_numbered = container.mode != MODE_FOREIGN and isinstance(item, Endpoint)
    match = NUMBERED.match(item.interface) if is_numbered else None
    # Otherwise different from the host interface's, with which a veth's peer cannot share it, and as unique.
    return FIRST_INDEX + int(match[1]) if match else item.host_index ^ 1


def veth(net: Network, container: Container, item: Endpoint, master_index: int) -> Veth:
    """Return an endpoint's veth; its host interface is a port of the kernel's device `master_index`, or of none (0)."""
    return Veth(
        item.host_interface,
        item.host_index,
        "",
        master=net.device,
        master_index=master_index,
        peer=item.interface,
        peer_index=index_inside(container, item),
        peer_mac=item.mac,
        peer_sandbox=container.name,
        mtu=container.mtu or net.mtu,
    )


def inside(net: Network, container: Container, item: Endpoint) -> Iterator[Object]:
    """Yield what an endpoint adds to the sandbox, except the interface itself."""
    interface, name, index = item.interface, container.name, index_inside(container, item)
    if container.endpoints.index(item) == 0 and container.mode != MODE_FOREIGN:
        yield LinkUp("lo", LOOPBACK_INDEX, name)
    yield NoAutoconf(interface, index, name, mtu=container.mtu or net.mtu)
    yield Address(interface, index, name, interface=item.address, is_bare=not net.icc)
    if item.address6:
        yield Address(interface, index, name, interface=item.address6, is_bare=not net.icc)
        yield Address(interface, index, name, interface=link_local(item.address6.ip))
    yield LinkUp(interface, index, name)
    if not net.icc:
        # Neighbours are reached through the host, which lets pass what a link allows.
        for address, subnet in ((net.gateway, net.subnet), (net.gateway6 if item.address6 else None, net.subnet6)):
            if address and subnet:
                yield Route(interface, index, name, ip_network(address), None)
                yield Route(interface, index, name, subnet, address)
    for address in (item.gateway, item.gateway6):
        if address:
            yield from displaced_routes(container, address.version)
            yield Route(interface, index, name, ANYWHERE[address.version], address)


def displaced_routes(container: Container, version: int) -> Iterator[DisplacedRoute]:
    """Yield the absence of each route that a container's own default route of an IP version displaces."""
    for item in container.displaced:
        if item.version == version:
            yield DisplacedRoute(item.device, item.index, container.name, item.text, bytes.fromhex(item.message))


def host_interface(net: Network, container: Container, item: Endpoint) -> NoAutoconf:
    """Return what marks the host interface of an endpoint, and keeps it from sending anything by itself."""
    alias = f"dnet {container.name} {item.interface} {container.id[:12]}"
    return NoAutoconf(item.host_interface, item.host_index, "", alias=alias, mtu=container.mtu or net.mtu)
