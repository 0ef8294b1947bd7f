"""The driver `ovs`: networks on an Open vSwitch bridge.

The gateway is the bridge's internal port, a device with the bridge's name that ovs-vswitchd creates. The kernel chooses
its index, so everything on it goes by its name (index 0). The host interface of an endpoint is up before it becomes a
port, because ovs-vswitchd goes through all its ports at every link event.
"""

from __future__ import annotations

from dnet.drivers import nat_table, sandbox
from dnet.drivers.driver import Driver, Objects
from dnet.model import address
from dnet.model.container import Container, Endpoint
from dnet.model.network import DATAPATH_TYPE, Network, Uplink
from dnet.objects.host import NatElement
from dnet.objects.links import LinkUp, NoTransmitOffloads
from dnet.objects.openvswitch import OvsBridge, OvsPort
from dnet.objects.vlans import ALL_VLANS

BY_NAME = 0


def network(net: Network) -> Objects:
    """Return the objects of a network: its rules, the bridge, and the gateway on it.

    A bridge that dnet did not create must exist; neither it nor the addresses of its device are changed.
    """
    datapath_type = net.options.get(DATAPATH_TYPE, "")
    mac = next((item.mac for item in net.uplinks if item.mac), address.mac_of(net.gateway))
    bridge = OvsBridge(net.device, net.id, datapath_type, mac=mac, mtu=net.mtu, tag=net.vlan)
    if not net.owns_device:
        bridge = OvsBridge(net.device, "", datapath_type, mac="", mtu=0, tag=0)
    on_device = sandbox.gateway(net, BY_NAME) if net.owns_device else ()
    return (*nat_table.network_objects(net), *sandbox.forwarding(net), bridge, *on_device)


def endpoint(net: Network, container: Container, item: Endpoint) -> Objects:
    """Return the objects of an endpoint: a veth, the inside of the sandbox, and the port."""
    veth = sandbox.veth(net, container, item, 0)
    return (
        veth,
        NoTransmitOffloads(item.interface, veth.peer_index, container.name, switch=net.device),
        *sandbox.inside(net, container, item),
        sandbox.host_interface(net, container, item),
        LinkUp(item.host_interface, item.host_index, ""),
        *port(net, item),
    )


def port(net: Network, item: Endpoint) -> Objects:
    """Return the port of an endpoint.

    Without VLANs it passes untagged frames only, as the bridge's own device does.
    """
    name, vlans, is_protected = item.host_interface, item.vlans_on(net), not net.icc
    return (OvsPort.of(name, net.device, item.id, vlans, untagged=_untagged(net), is_protected=is_protected),)


def uplink(net: Network, item: Uplink) -> Objects:
    """Return the port of an uplink.

    If the network has no VLANs but the bridge is not dnet's, others may use VLANs on it: the port then passes all.
    """
    name, vlans = item.interface, item.vlans_on(net)
    if vlans is None and not net.owns_device:
        return (OvsPort(name, net.device, net.id, 0, ALL_VLANS, 0, is_protected=False),)
    return (OvsPort.of(name, net.device, net.id, vlans, untagged=_untagged(net), is_protected=False),)


def uplink_rules(net: Network) -> Objects:
    """Return the elements that keep the host's own stack from what Open vSwitch reads at the uplinks."""
    return tuple(NatElement("switched", f'"{item}"') for item in net.uplinks)


def _untagged(net: Network) -> int:
    """Return the VLAN that untagged frames count as: the network's, if the device of an existing bridge is in none."""
    return net.vlan if not net.owns_device and "vlan" not in net.found else 0


DRIVER = Driver(
    network=network,
    endpoint=endpoint,
    port=port,
    uplink=uplink,
    uplink_rules=uplink_rules,
    vlan_backends=("ovs",),
    has_vlans_on_existing=True,
    needs_switch=True,
)
