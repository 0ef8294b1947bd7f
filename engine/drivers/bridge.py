"""Networks on a Linux bridge. Rank 5, pure.

The order within an endpoint is what `docs/architecture.md` argues for: the peer is born inside, the inside comes
up first, the host's end last.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from dnet import ipam, nat
from dnet.model import Container, Endpoint, Network
from dnet.objects import (
    Address,
    Bridge,
    BridgePort,
    Forwarding,
    LocalRouting,
    LoopbackRoute,
    Object,
    Quiet,
    Route,
    Sandbox,
    Up,
    Veth,
)

# A Linux bridge numbers its ports with ten bits, of which 0 is never given out (BR_MAX_PORTS).
PORTS_MAX = 1023

# Indexes inside a sandbox are chosen too: clear of the loopback's 1 and of the tunnel devices that some kernels
# put into every namespace.
LOOPBACK_INDEX = 1
FIRST_INDEX = 256
ANYWHERE = IPv4Network("0.0.0.0/0")
ANYWHERE6 = IPv6Network("::/0")
LINK_LOCAL = IPv6Network("fe80::/64")


def network(net: Network) -> tuple[Object, ...]:
    """Return all that exists because the network does, the table itself apart."""
    return (*nat.network_objects(net), *_bridge(net))


def _bridge(net: Network) -> Iterator[Object]:
    device, index = net.device, net.device_index
    yield Forwarding(4)
    if net.subnet6:
        yield Forwarding(6)
    yield Bridge(device, index, "", mac=ipam.mac_of(net.gateway), mtu=net.mtu)
    yield Quiet(device, index, "", alias=f"dnet network {net.name}", mtu=net.mtu)
    yield LocalRouting(device, index, "")
    yield Address(device, index, "", interface=IPv4Interface((net.gateway, net.subnet.prefixlen)))
    if net.subnet6 and net.gateway6:
        yield Address(device, index, "", interface=IPv6Interface((net.gateway6, net.subnet6.prefixlen)))
        # Without a link-local address the host could not ask for a neighbour on behalf of others (ndisc_send_ns).
        yield Address(device, index, "", interface=link_local(net.gateway6))
    yield Up(device, index, "")
    if net.subnet6:
        yield LoopbackRoute(device, index, "")


def link_local(address: IPv6Address) -> IPv6Interface:
    """Return the link-local address with the same interface id, and so with the same solicited-node group."""
    return IPv6Interface((LINK_LOCAL.network_address + int(address) % 2**64, LINK_LOCAL.prefixlen))


def sandbox(container: Container, name_path: str) -> tuple[Object, ...]:
    """Return the sandbox itself; `name_path` is where `ip netns` looks for it."""
    item = Sandbox(container.name, container.sandbox, name_path)
    return (item,) if container.endpoints else (item, Up("lo", LOOPBACK_INDEX, container.name))


def endpoint(net: Network, container: Container, end: Endpoint) -> tuple[Object, ...]:
    """Return all that exists because the endpoint does, its sandbox apart."""
    return tuple(_endpoint(net, container, end))


def _endpoint(net: Network, container: Container, end: Endpoint) -> Iterator[Object]:
    name, device, index = container.name, end.host_interface, end.host_index
    mtu = container.mtu or net.mtu
    position = container.endpoints.index(end)
    inner = FIRST_INDEX + position
    yield Veth(
        device,
        index,
        "",
        master=net.device,
        master_index=net.device_index,
        peer=end.interface,
        peer_index=inner,
        peer_mac=end.mac,
        peer_sandbox=name,
        mtu=mtu,
    )
    if position == 0:
        yield Up("lo", LOOPBACK_INDEX, name)
    yield Quiet(end.interface, inner, name, mtu=mtu)
    yield Address(end.interface, inner, name, interface=end.address)
    if end.address6:
        yield Address(end.interface, inner, name, interface=end.address6)
        yield Address(end.interface, inner, name, interface=link_local(end.address6.ip))
    yield Up(end.interface, inner, name)
    if end.gateway:
        yield Route(end.interface, inner, name, ANYWHERE, end.gateway)
    if end.gateway6:
        yield Route(end.interface, inner, name, ANYWHERE6, end.gateway6)
    yield Quiet(device, index, "", alias=f"dnet {name} {end.interface} {container.id[:12]}", mtu=mtu)
    yield BridgePort(device, index, "", hairpin=True, isolated=not net.icc)
    yield Up(device, index, "")
