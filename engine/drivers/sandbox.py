"""What is on a network's gateway device and inside a container's sandbox, whatever switch joins them.

The order within an endpoint is what `docs/architecture.md` argues for: the peer is born inside, the inside comes
up first, the host's end last.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_network

from dnet.model.address import IPAddress, IPNetwork
from dnet.model.container import MODE_FOREIGN, MODE_HOST, Container, Endpoint
from dnet.model.network import Network
from dnet.objects.host import Forwarding
from dnet.objects.links import Quiet, Up, Veth
from dnet.objects.object import Object
from dnet.objects.routes import Address, DisplacedRoute, LocalRouting, LoopbackRoute, Route
from dnet.objects.sandbox import HostSandbox, JoinedSandbox, Sandbox

# Indexes inside a sandbox are chosen too: clear of the loopback's 1 and of the tunnel devices that some kernels
# put into every namespace.
LOOPBACK_INDEX = 1
FIRST_INDEX = 256
NUMBERED = re.compile(r"eth(0|[1-9][0-9]{0,5})\Z")
ANYWHERE = IPv4Network("0.0.0.0/0")
ANYWHERE6 = IPv6Network("::/0")
LINK_LOCAL = IPv6Network("fe80::/64")


def forwarding(net: Network) -> Iterator[Object]:
    """Yield what lets the host forward the network's packets."""
    yield Forwarding(4)
    if net.subnet6:
        yield Forwarding(6)


def gateway(net: Network, index: int) -> Iterator[Object]:
    """Yield what makes the network's device, whose ifindex is given, its gateway; the device itself apart."""
    yield Quiet(net.device, index, "", alias=f"dnet network {net.name}", mtu=net.mtu)
    yield from within(net, index)
    yield Up(net.device, index, "")
    yield from loopback(net, index)


def within(net: Network, index: int) -> Iterator[Address | LocalRouting]:
    """Yield the device's addresses, and that replies may come from 127.0.0.1, unless it was so already."""
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
    """Yield what is for ::1 what route_localnet is for 127.0.0.1, unless it was there already."""
    if net.subnet6 and "loopback_route" not in net.found:
        yield LoopbackRoute(net.device, index, "")


def link_local(address: IPv6Address) -> IPv6Interface:
    """Return the link-local address with the same interface id, and so with the same solicited-node group."""
    return IPv6Interface((LINK_LOCAL.network_address + int(address) % 2**64, LINK_LOCAL.prefixlen))


def sandbox(container: Container, name_path: str) -> tuple[Object, ...]:
    """Return the sandbox itself; `name_path` is where `ip netns` looks for it."""
    if container.mode == MODE_FOREIGN:
        target = container.target
        return (JoinedSandbox(container.name, container.sandbox, "", target["inode"], target["cookie"]),)
    if container.mode == MODE_HOST:
        return (HostSandbox(container.name, container.sandbox, name_path),)
    item = Sandbox(container.name, container.sandbox, name_path)
    return (item,) if container.endpoints else (item, Up("lo", LOOPBACK_INDEX, container.name))


def inner_index(end: Endpoint, *, is_foreign: bool = False) -> int:
    """Return the index of an endpoint's interface inside the sandbox."""
    found = None if is_foreign else NUMBERED.match(end.interface)
    # Otherwise unlike its peer's, with which it must not be equal, and as unique as that.
    return FIRST_INDEX + int(found[1]) if found else end.host_index ^ 1


def veth(net: Network, container: Container, end: Endpoint, master_index: int) -> Veth:
    """Return an endpoint's interface with its host end, which is a port of a device of the kernel's, or 0, of none."""
    return Veth(
        end.host_interface,
        end.host_index,
        "",
        master=net.device,
        master_index=master_index,
        peer=end.interface,
        peer_index=inner_index(end, is_foreign=container.mode == MODE_FOREIGN),
        peer_mac=end.mac,
        peer_sandbox=container.name,
        mtu=container.mtu or net.mtu,
    )


def inside(net: Network, container: Container, end: Endpoint) -> Iterator[Object]:
    """Yield what is in the sandbox because the endpoint exists; the interface itself apart."""
    is_foreign = container.mode == MODE_FOREIGN
    name, index = container.name, inner_index(end, is_foreign=is_foreign)
    if container.endpoints.index(end) == 0 and not is_foreign:
        yield Up("lo", LOOPBACK_INDEX, name)
    yield Quiet(end.interface, index, name, mtu=container.mtu or net.mtu)
    yield Address(end.interface, index, name, interface=end.address, is_bare=not net.icc)
    if end.address6:
        yield Address(end.interface, index, name, interface=end.address6, is_bare=not net.icc)
        yield Address(end.interface, index, name, interface=link_local(end.address6.ip))
    yield Up(end.interface, index, name)
    if not net.icc:
        # The way to neighbours is the host, which lets pass what a link allows.
        ways: list[tuple[IPAddress | None, IPNetwork | None]] = [(net.gateway, net.subnet)]
        ways += [(net.gateway6, net.subnet6)] if end.address6 else []
        for address, subnet in ways:
            if address and subnet:
                yield Route(end.interface, index, name, ip_network(address), None)
                yield Route(end.interface, index, name, subnet, address)
    if end.gateway:
        yield from displaced(container, 4) if container.displaced else ()
        yield Route(end.interface, index, name, ANYWHERE, end.gateway)
    if end.gateway6:
        yield from displaced(container, 6) if container.displaced else ()
        yield Route(end.interface, index, name, ANYWHERE6, end.gateway6)


def displaced(container: Container, version: int) -> tuple[Object, ...]:
    """Return the absences of default routes that a container's own of a family is in the place of."""
    return tuple(
        DisplacedRoute(way.device, way.index, container.name, way.text, bytes.fromhex(way.message))
        for way in container.displaced
        if way.version == version
    )


def quiet(net: Network, container: Container, end: Endpoint) -> Quiet:
    """Return what marks the host's end of an endpoint, and keeps it from sending anything by itself."""
    alias = f"dnet {container.name} {end.interface} {container.id[:12]}"
    return Quiet(end.host_interface, end.host_index, "", alias=alias, mtu=container.mtu or net.mtu)
