"""The driver `bridge`: networks on a Linux bridge."""

from __future__ import annotations

from collections.abc import Iterator

from dnet.drivers import nat_table, sandbox
from dnet.drivers.driver import Driver, Objects
from dnet.model import address
from dnet.model.container import Container, Endpoint
from dnet.model.network import Network, Uplink
from dnet.model.vlan import PortVlans
from dnet.objects import replay
from dnet.objects.host import OnForeignDevice
from dnet.objects.links import Bridge, BridgePort, LinkUp, PortOf
from dnet.objects.object import Object
from dnet.objects.observed import ObservedLink
from dnet.objects.vlans import BridgeVlanFiltering, BridgeVlans, ClsactHooks, MacEntry, VlanMapEntry, VlanProgram


def network(net: Network) -> Objects:
    """Return the objects of a network: its rules, the bridge, and the gateway on it."""
    return (*nat_table.network_objects(net), *sandbox.forwarding(net), *_bridge(net))


def _bridge(net: Network) -> Iterator[Object]:
    device, index = net.device, net.device_index
    if net.owns_device:
        yield Bridge(device, index, "", mac=address.mac_of(net.gateway), mtu=net.mtu)
        yield from vlans(net)
        yield from sandbox.gateway(net, index)
        return
    if net.device_mac:
        # Otherwise the MAC would be the lowest one of the ports, and change as containers come and go.
        yield replay.mac(ObservedLink(index=index, name=device), net.device_mac)
    yield LinkUp(device, index, "")
    for item in (*sandbox.gateway_addresses(net, index), *sandbox.loopback(net, index)):
        yield OnForeignDevice(item)


def vlans(net: Network) -> Iterator[Object]:
    """Yield what makes the bridge separate VLANs. The bridge's own device is in the network's VLAN."""
    device, index = net.device, net.device_index
    own = PortVlans(access=net.vlan)
    if net.vlan_backend == "bpf":
        yield VlanMapEntry(device, index, own)
        yield ClsactHooks(device, index, "", bridge_index=index)
        yield VlanProgram(device, index, "", "into")
        yield VlanProgram(device, index, "", "out")
    elif net.vlan_backend == "bridge":
        yield BridgeVlanFiltering(device, index, "")
        yield from BridgeVlans.of(device, index, own, is_bridge=True)


def endpoint(net: Network, container: Container, item: Endpoint) -> Objects:
    """Return the objects of an endpoint: a veth that is a port of the bridge, and the inside of the sandbox."""
    return (
        sandbox.veth(net, container, item, net.device_index),
        *sandbox.inside(net, container, item),
        sandbox.host_interface(net, container, item),
        _settings(net, item),
        *port_vlans(net, item),
        LinkUp(item.host_interface, item.host_index, ""),
    )


def port_vlans(net: Network, item: Endpoint) -> Iterator[Object]:
    """Yield what sets the VLANs of an endpoint's port."""
    yield from _passing(net, item.host_interface, item.host_index, item.vlans_on(net))
    if net.vlan_backend == "bpf":
        yield MacEntry(item.host_interface, item.host_index, "", mac=item.mac)


def _passing(net: Network, device: str, index: int, passed: PortVlans | None) -> Iterator[Object]:
    if passed is None:
        return
    if net.vlan_backend == "bpf":
        yield VlanMapEntry(device, index, passed)
        yield ClsactHooks(device, index, "", bridge_index=net.device_index)
    elif net.vlan_backend == "bridge":
        yield from BridgeVlans.of(device, index, passed, is_bridge=False)


def uplink(net: Network, item: Uplink) -> Objects:
    """Return what makes an interface of the host a port of the bridge. BPF programs come before the port."""
    passing = list(_passing(net, item.interface, item.index, item.vlans_on(net)))
    membership = PortOf(item.interface, item.index, "", master=net.device, master_index=net.device_index)
    own = [part for part in passing if isinstance(part, BridgeVlans)]
    return (*(part for part in passing if part not in own), membership, *own)


def port(net: Network, item: Endpoint) -> Objects:
    """Return what makes the host interface of an endpoint a port of the bridge again."""
    membership = PortOf(item.host_interface, item.host_index, "", master=net.device, master_index=net.device_index)
    # The bridge forgets its VLANs and MAC entries when a port leaves; BPF programs stay on the device.
    forgotten = (part for part in port_vlans(net, item) if isinstance(part, (BridgeVlans, MacEntry)))
    return (membership, _settings(net, item), *forgotten)


def _settings(net: Network, item: Endpoint) -> BridgePort:
    return BridgePort(item.host_interface, item.host_index, "", hairpin=True, isolated=not net.icc)


DRIVER = Driver(
    network=network,
    endpoint=endpoint,
    port=port,
    uplink=uplink,
    vlans=vlans,
    port_vlans=port_vlans,
    ports_max=1023,  # a Linux bridge numbers its ports with ten bits, and never gives out 0 (BR_MAX_PORTS)
    vlan_backends=("bridge", "bpf"),
    has_vlans_on_existing=False,
    needs_switch=False,
)
