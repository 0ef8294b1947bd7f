"""Networks on an Open vSwitch bridge.

The gateway is the bridge's internal port, a device with the bridge's name that ovs-vswitchd makes: its index is the
kernel's choice, so everything on it goes by its name (index 0). The host's end of an endpoint is up before it becomes
a port, since every link event makes ovs-vswitchd go through all its ports.
"""

from __future__ import annotations

from dnet.drivers import nat_table, sandbox
from dnet.model import address
from dnet.model.container import Container, Endpoint
from dnet.model.network import Network, Uplink
from dnet.objects.links import Offloads, Up
from dnet.objects.object import Object
from dnet.objects.openvswitch import OvsBridge, OvsPort
from dnet.objects.vlans import ALL_VLANS

BY_NAME = 0
DATAPATH_TYPE = "datapath_type"  # the options of a network that say what its bridge is ...
DATABASE = "ovsdb"  # ... and where
UNTAGGED = 1  # the VLAN that untagged frames of somebody's bridge count as, as on every switch


def network(net: Network) -> tuple[Object, ...]:
    """Return all that exists because the network does, the table itself apart.

    A bridge that is somebody's has to exist, and neither it nor the addresses of its device are touched.
    """
    datapath_type = net.options.get(DATAPATH_TYPE, "")
    mac = next((item.mac for item in net.uplinks if item.mac), address.mac_of(net.gateway))
    bridge = OvsBridge(net.device, net.id, datapath_type, mac=mac, mtu=net.mtu, tag=net.vlan)
    if not net.owns_device:
        bridge = OvsBridge(net.device, "", datapath_type, mac="", mtu=0, tag=0)
    on_device = sandbox.gateway(net, BY_NAME) if net.owns_device else ()
    return (*nat_table.network_objects(net), *sandbox.forwarding(net), bridge, *on_device)


def endpoint(net: Network, container: Container, end: Endpoint) -> tuple[Object, ...]:
    """Return all that exists because the endpoint does, its sandbox apart."""
    veth = sandbox.veth(net, container, end, 0)
    return (
        veth,
        Offloads(end.interface, veth.peer_index, container.name, switch=net.device),
        *sandbox.inside(net, container, end),
        sandbox.quiet(net, container, end),
        Up(end.host_interface, end.host_index, ""),
        *port(net, end),
    )


def port(net: Network, end: Endpoint) -> tuple[OvsPort]:
    """Return what makes an endpoint's host end, which exists, a port of the bridge.

    Without VLANs it takes and gives untagged frames only, as the host's own end of the bridge does.
    """
    name, vlans, is_protected = end.host_interface, end.vlans_on(net), not net.icc
    return (OvsPort.of(name, net.device, end.id, vlans, untagged=_untagged(net), is_protected=is_protected),)


def uplink(net: Network, item: Uplink) -> tuple[OvsPort]:
    """Return what makes an interface of the host's a port of the bridge.

    Without VLANs of dnet's, a bridge that is somebody's may have some: then it is what every port is that is not told.
    """
    name, vlans = item.interface, item.vlans_on(net)
    if vlans is None and not net.owns_device:
        return (OvsPort(name, net.device, net.id, 0, ALL_VLANS, 0, is_protected=False),)
    return (OvsPort.of(name, net.device, net.id, vlans, untagged=_untagged(net), is_protected=False),)


def _untagged(net: Network) -> int:
    """Return the VLAN that stands for untagged frames: the network's, where the host's end of a bridge is in none."""
    return net.vlan if not net.owns_device and "vlan" not in net.found else 0


def vlans(net: Network) -> tuple[Object, ...]:
    """Return what makes the bridge keep VLANs apart besides its objects: nothing."""
    del net
    return ()


def port_vlans(net: Network, end: Endpoint) -> tuple[Object, ...]:
    """Return what an endpoint's port passes, besides its objects: nothing."""
    del net, end
    return ()
