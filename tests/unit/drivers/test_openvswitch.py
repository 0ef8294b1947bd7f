"""What exists because of a network or an endpoint on Open vSwitch, in which order, and what belongs to what."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network

import pytest

from dnet.drivers import bridge, nat_table, openvswitch
from dnet.model import address
from dnet.model.network import Network
from dnet.model.vlan import PortVlans
from dnet.objects.host import Forwarding
from dnet.objects.links import Bridge, BridgePort, LinkUp, NoAutoconf, NoTransmitOffloads, Veth
from dnet.objects.object import Device, Object
from dnet.objects.openvswitch import OvsBridge, OvsPort
from dnet.objects.routes import Address, LocalRouting
from tests.support import samples

NET = samples.network("blue", "10.1.0.0/16", driver="ovs", device="ovs0", options={"datapath_type": "netdev"})
NET6 = replace(NET, subnet6=IPv6Network("fd00:1::/64"), gateway6=IPv6Address("fd00:1::1"))
END = samples.endpoint(NET, "10.1.0.2")
WEB = samples.container("web", [END])
NETWORK = openvswitch.network(NET)
ENDPOINT = openvswitch.endpoint(NET, WEB, END)


def position(objects: tuple[Object, ...], kind: type[Object], **fields: object) -> int:
    """Return the position of the only object of a kind with such fields."""
    (found,) = [
        number
        for number, item in enumerate(objects)
        if type(item) is kind and all(getattr(item, name) == value for name, value in fields.items())
    ]
    return found


def port(vlans: PortVlans | None, net: Network = NET) -> OvsPort:
    """Return the port of an endpoint that asks for these VLANs."""
    end = replace(END, vlans=vlans)
    (found,) = [
        item for item in openvswitch.endpoint(net, samples.container("web", [end]), end) if isinstance(item, OvsPort)
    ]
    return found


def test_bridge_of_a_network():
    """A network's bridge is marked with its id, and has the MAC that belongs to the gateway's address."""
    made = NETWORK[position(NETWORK, OvsBridge)]
    assert made == OvsBridge("ovs0", NET.id, "netdev", mac=address.mac_of(NET.gateway), mtu=0, tag=0)
    tagged = openvswitch.network(
        replace(NET, mtu=1400, options={"datapath_type": "system"}, vlan=100, vlan_backend="ovs")
    )
    assert tagged[position(tagged, OvsBridge)] == replace(made, datapath_type="system", mtu=1400, tag=100)


@pytest.mark.parametrize("net", [NET, NET6])
def test_gateway_is_the_bridges_own_device(net):
    """On the bridge's own device, by its name, is what is on a Linux bridge's; it comes after the bridge."""
    objects = openvswitch.network(net)
    on_device = [item for item in objects if isinstance(item, Device)]
    plain = [item for item in bridge.network(net) if isinstance(item, Device) and not isinstance(item, Bridge)]
    assert on_device == [replace(item, index=0) for item in plain]
    assert {NoAutoconf, LocalRouting, Address, LinkUp} <= {type(item) for item in on_device}
    assert position(objects, OvsBridge) < min(map(objects.index, on_device))


def test_rules_are_those_of_any_network():
    """NAT, isolation and forwarding are the same as on a Linux bridge."""
    rules = [item for item in NETWORK if item.backend == "nft"]
    assert (
        rules == [item for item in bridge.network(NET) if item.backend == "nft"] == list(nat_table.network_objects(NET))
    )
    assert Forwarding(4) in NETWORK


def test_foreign_bridge():
    """On somebody's bridge nothing is made or set: it has no owner, and there is nothing about its device."""
    objects = openvswitch.network(replace(NET, options={}, owns_device=False, found=("gateway",)))
    assert objects[position(objects, OvsBridge)] == OvsBridge("ovs0", "", "", mac="", mtu=0, tag=0)
    assert not [item for item in objects if isinstance(item, Device)]


def test_endpoint_ends_with_its_port():
    """The host's end is up before it becomes a port, which is the last of all; it is no port of a Linux bridge."""
    assert ENDPOINT[-1] == OvsPort(END.host_interface, "ovs0", END.id, 0, (), 0, is_protected=False)
    assert ENDPOINT[-2] == LinkUp(END.host_interface, END.host_index, "")
    veth = ENDPOINT[position(ENDPOINT, Veth)]
    assert (veth.master, veth.master_index) == ("ovs0", 0)
    assert not [item for item in ENDPOINT if isinstance(item, BridgePort)]


def test_inside_is_that_of_any_endpoint():
    """What is inside the sandbox is the same as on a Linux bridge, offloads apart."""
    inside = [item for item in ENDPOINT if isinstance(item, Device) and item.sandbox]
    plain = [item for item in bridge.endpoint(NET, WEB, END) if isinstance(item, Device) and item.sandbox]
    assert [item for item in inside if not isinstance(item, NoTransmitOffloads)] == plain


def test_complete_frames():
    """The sandbox's end sends complete frames, from before it is up, unless the bridge's device tells otherwise."""
    offloads = position(ENDPOINT, NoTransmitOffloads)
    veth = ENDPOINT[position(ENDPOINT, Veth)]
    assert ENDPOINT[offloads] == NoTransmitOffloads("eth0", veth.peer_index, "web", switch="ovs0")
    assert position(ENDPOINT, Veth) < offloads < position(ENDPOINT, LinkUp, device="eth0")


def test_vlans_and_isolation():
    """VLANs are the port's, those of the gateway where it asks for none; without icc the port is protected."""
    aware = replace(NET, vlan=7, vlan_backend="ovs")
    assert (port(None, aware).tag, port(None, aware).trunks) == (7, ())
    assert port(PortVlans(access=100), aware).tag == 100
    trunk = port(PortVlans(trunk=((5, 5), (100, 100), (200, 210)), native=5), aware)
    assert (trunk.tag, trunk.trunks, trunk.native) == (0, ((5, 5), (100, 100), (200, 210)), 5)
    assert port(None, replace(NET, icc=False)).is_protected


def test_everything_else_goes_with_what_is_deleted():
    """Deleting bridge, veth and port deletes everything: all other objects are owned, or rules."""
    left = {type(item) for item in (*NETWORK, *ENDPOINT) if not item.owned and item.backend != "nft"}
    assert left == {OvsBridge, Veth, OvsPort}
