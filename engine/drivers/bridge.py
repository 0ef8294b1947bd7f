"""Networks on a Linux bridge. Rank 4, pure.

The order within an endpoint is what `docs/architecture.md` argues for: the peer is born inside, the inside comes
up first, the host's end last.
"""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network

from dnet import ipam, nat
from dnet.model import Container, Endpoint, Network
from dnet.objects import Address, Bridge, Forwarding, Object, Quiet, Route, Sandbox, Up, Veth

# A Linux bridge numbers its ports with ten bits, of which 0 is never given out (BR_MAX_PORTS).
PORTS_MAX = 1023

# Indexes inside a sandbox are chosen too: clear of the loopback's 1 and of the tunnel devices that some kernels
# put into every namespace.
LOOPBACK_INDEX = 1
FIRST_INDEX = 256
ANYWHERE = IPv4Network("0.0.0.0/0")


def network(net: Network) -> tuple[Object, ...]:
    """Return all that exists because the network does, the table itself apart."""
    device, index = net.device, net.device_index
    gateway = IPv4Interface((net.gateway, net.subnet.prefixlen))
    return (
        *nat.network_objects(net),
        Forwarding(),
        Bridge(device, index, "", mac=ipam.mac_of(net.gateway), mtu=net.mtu),
        Quiet(device, index, "", alias=f"dnet network {net.name}"),
        Address(device, index, "", interface=gateway),
        Up(device, index, ""),
    )


def sandbox(container: Container, name_path: str) -> tuple[Object, ...]:
    """Return the sandbox with its loopback; `name_path` is where `ip netns` looks for it."""
    return (
        Sandbox(container.name, container.sandbox, name_path),
        Up("lo", LOOPBACK_INDEX, container.name),
    )


def endpoint(net: Network, container: Container, end: Endpoint) -> tuple[Object, ...]:
    """Return all that exists because the endpoint does, its sandbox apart."""
    name = container.name
    inner = FIRST_INDEX + container.endpoints.index(end)
    routes = (Route(end.interface, inner, name, ANYWHERE, end.gateway),) if end.gateway else ()
    return (
        Veth(
            end.host_interface,
            end.host_index,
            "",
            master=net.device,
            master_index=net.device_index,
            peer=end.interface,
            peer_index=inner,
            peer_mac=end.mac,
            peer_sandbox=name,
            mtu=container.mtu or net.mtu,
        ),
        Quiet(end.interface, inner, name),
        Address(end.interface, inner, name, interface=end.address),
        Up(end.interface, inner, name),
        *routes,
        Quiet(end.host_interface, end.host_index, "", alias=f"dnet {name} {end.interface} {container.id[:12]}"),
        Up(end.host_interface, end.host_index, ""),
    )
