"""Networks on a Linux bridge."""

from __future__ import annotations

from collections.abc import Iterator

from dnet.drivers import nat_table, sandbox
from dnet.model import address
from dnet.model.container import Container, Endpoint
from dnet.model.network import Network, Uplink
from dnet.model.vlan import PortVlans
from dnet.objects import replay
from dnet.objects.host import Addition
from dnet.objects.links import Bridge, BridgePort, Membership, Up
from dnet.objects.object import Object
from dnet.objects.observed import Link
from dnet.objects.routes import Address, LocalRouting, LoopbackRoute
from dnet.objects.vlans import BridgeFiltering, BridgeVlans, MacEntry, VlanEntry, VlanFilter, VlanProgram

# A Linux bridge numbers its ports with ten bits, of which 0 is never given out (BR_MAX_PORTS).
PORTS_MAX = 1023


def network(net: Network) -> tuple[Object, ...]:
    """Return all that exists because the network does, the table itself apart."""
    return (*nat_table.network_objects(net), *sandbox.forwarding(net), *_bridge(net))


def _bridge(net: Network) -> Iterator[Object]:
    device, index = net.device, net.device_index
    if net.owns_device:
        yield Bridge(device, index, "", mac=address.mac_of(net.gateway), mtu=net.mtu)
        yield from vlans(net)
        yield from sandbox.gateway(net, index)
        return
    if net.device_mac:
        # Else the bridge's would be the lowest of its ports', and change as containers come and go.
        yield replay.mac(Link(index=index, name=device), net.device_mac)
    yield Up(device, index, "")
    for item in (*sandbox.within(net, index), *sandbox.loopback(net, index)):
        yield _addition(item)


def _addition(item: Address | LocalRouting | LoopbackRoute) -> Addition:
    match item:
        case Address():
            return Addition(item, replay.without_address(item))
        case LocalRouting():
            return Addition(item, replay.without_local_routing(item))
        case LoopbackRoute():
            return Addition(item, replay.without_loopback_route(item))


def vlans(net: Network) -> Iterator[Object]:
    """Yield what makes the bridge keep VLANs apart, its own device being in the network's."""
    device, index = net.device, net.device_index
    own = PortVlans(access=net.vlan)
    if net.vlan_backend == "bpf":
        yield VlanEntry(device, index, own)
        yield VlanFilter(device, index, "", bridge_index=index)
        yield VlanProgram(device, index, "", "into")
        yield VlanProgram(device, index, "", "out")
    elif net.vlan_backend == "bridge":
        yield BridgeFiltering(device, index, "")
        yield from BridgeVlans.of(device, index, own, is_bridge=True)


def endpoint(net: Network, container: Container, end: Endpoint) -> tuple[Object, ...]:
    """Return all that exists because the endpoint does, its sandbox apart."""
    return (
        sandbox.veth(net, container, end, net.device_index),
        *sandbox.inside(net, container, end),
        sandbox.quiet(net, container, end),
        _settings(net, end),
        *port_vlans(net, end),
        Up(end.host_interface, end.host_index, ""),
    )


def port_vlans(net: Network, end: Endpoint) -> Iterator[Object]:
    """Yield what an endpoint's port passes."""
    yield from _passing(net, end.host_interface, end.host_index, end.vlans_on(net))
    if net.vlan_backend == "bpf":
        yield MacEntry(end.host_interface, end.host_index, "", mac=end.mac)


def _passing(net: Network, device: str, index: int, wanted: PortVlans | None) -> Iterator[Object]:
    if wanted is None:
        return
    if net.vlan_backend == "bpf":
        yield VlanEntry(device, index, wanted)
        yield VlanFilter(device, index, "", bridge_index=net.device_index)
    elif net.vlan_backend == "bridge":
        yield from BridgeVlans.of(device, index, wanted, is_bridge=False)


def uplink(net: Network, item: Uplink) -> tuple[Object, ...]:
    """Return what makes an interface of the host's a port of the bridge; programs are at it before it is one."""
    passing = list(_passing(net, item.interface, item.index, item.vlans_on(net)))
    membership = Membership(item.interface, item.index, "", master=net.device, master_index=net.device_index)
    own = [part for part in passing if isinstance(part, BridgeVlans)]
    return (*(part for part in passing if part not in own), membership, *own)


def port(net: Network, end: Endpoint) -> tuple[Object, ...]:
    """Return what makes an endpoint's host end, which exists, a port of the bridge."""
    membership = Membership(end.host_interface, end.host_index, "", master=net.device, master_index=net.device_index)
    # What the bridge knows of a port goes when that leaves; programs at the port stay.
    known = (item for item in port_vlans(net, end) if isinstance(item, (BridgeVlans, MacEntry)))
    return (membership, _settings(net, end), *known)


def _settings(net: Network, end: Endpoint) -> BridgePort:
    return BridgePort(end.host_interface, end.host_index, "", hairpin=True, isolated=not net.icc)
