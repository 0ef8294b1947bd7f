"""The things that exist in the kernel, as values."""

from __future__ import annotations

import dataclasses
import inspect
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from dnet.linux.encode import ENCODERS
from dnet.model.values import Value
from dnet.model.vlan import PortVlans
from dnet.objects import links
from dnet.objects.host import NatElement
from dnet.objects.links import Bridge, LinkUp, NoAutoconf, NoTransmitOffloads, Veth
from dnet.objects.object import Absent, Device, Object, Setting
from dnet.objects.openvswitch import OvsBridge, OvsPort
from dnet.objects.routes import Address, Route
from dnet.objects.sandbox import Sandbox
from dnet.objects.vlans import ClsactHooks, MacEntry, VlanMapEntry, VlanProgram

VETH = Veth(
    "veth1",
    70,
    "",
    master="dnet0",
    master_index=60,
    peer="eth0",
    peer_index=256,
    peer_mac="02:42:0a:01:00:02",
    peer_sandbox="web",
    mtu=0,
)
# One of each, and the words by which a person finds it: the thing, its device, the sandbox.
PHRASES = {
    NatElement("bridges", '"dnet0"'): ('"dnet0"', "bridges"),
    NatElement("ports", "8080", "10.1.0.2 . 80"): ("8080", "10.1.0.2 . 80", "ports"),
    Sandbox("web", "/run/dnet/netns/abc", "/run/netns/web"): ("sandbox web", "/run/dnet/netns/abc"),
    Bridge("dnet0", 60, "", mac="02:42:0a:01:00:01", mtu=0): ("bridge dnet0",),
    VETH: ("veth1", "dnet0", "eth0", "sandbox web", "02:42:0a:01:00:02"),
    NoAutoconf("eth0", 256, "web"): ("eth0 in sandbox web",),
    NoAutoconf("veth1", 70, "", alias="dnet web eth0"): ("veth1", "dnet web eth0"),
    Address("eth0", 256, "web", interface=IPv4Interface("10.1.0.2/16")): (
        "address 10.1.0.2/16 on eth0 in sandbox web",
    ),
    Address("dnet0", 60, "", interface=IPv4Interface("10.1.0.1/16")): ("address 10.1.0.1/16 on dnet0",),
    LinkUp("lo", 1, "web"): ("up lo in sandbox web",),
    Route("eth0", 256, "web", IPv4Network("0.0.0.0/0"), IPv4Address("10.1.0.1")): (
        "route default via 10.1.0.1",
        "eth0",
    ),
    Route("eth0", 256, "web", IPv4Network("10.2.0.0/16"), None): ("route 10.2.0.0/16 dev eth0 in sandbox web",),
    NoTransmitOffloads("eth0", 256, "web", "ovs0"): (
        "complete frames from eth0 in sandbox web, unless ovs0 takes others",
    ),
    OvsBridge("ovs0", "net-1", "netdev", mac="02:42:0a:01:00:01", mtu=0, tag=12): ("ovs0", "netdev", "VLAN 12"),
    OvsPort("veth1", "ovs0", "end-1", 100, (), 0, is_protected=False): ("port veth1", "ovs0", "tag 100"),
    OvsPort("veth1", "ovs0", "end-1", 0, ((100, 100), (200, 210)), 5, is_protected=True): (
        "port veth1 on Open vSwitch bridge ovs0, trunks 100,200-210, native 5, protected",
    ),
    MacEntry("veth1", 70, "", mac="02:42:0a:01:00:02"): ("MAC 02:42:0a:01:00:02 at veth1",),
    Absent(MacEntry("veth1", 70, "", mac="02:42:0a:01:00:02")): ("no MAC 02:42:0a:01:00:02 at veth1",),
    VlanMapEntry("veth1", 70, PortVlans(access=100)): ("VLAN 100 on veth1",),
    VlanMapEntry("veth2", 71, PortVlans(trunk=((1, 1), (7, 9)), native=1)): ("trunk 1,7-9 native 1 on veth2",),
    VlanMapEntry("dnet0", 60, PortVlans()): ("no VLAN on dnet0",),
    ClsactHooks("veth1", 70, "", bridge_index=60): ("VLAN filter on veth1",),
    VlanProgram("dnet0", 60, "", direction="into"): ("VLAN program into of dnet0",),
    VlanProgram("dnet0", 60, "", direction="out"): ("VLAN program out of dnet0",),
}
KINDS = [
    kind
    for kind in vars(links).values()
    if inspect.isclass(kind) and issubclass(kind, Object) and kind not in {Object, Device, Setting}
]


@pytest.mark.parametrize(("item", "words"), PHRASES.items(), ids=lambda value: type(value).__name__)
def test_phrases_name_the_thing(item, words):
    """The phrase of an object, used in plans and errors, names it, its device and its sandbox, in one line."""
    phrase = str(item)
    assert not [word for word in words if word not in phrase]
    assert "\n" not in phrase


@pytest.mark.parametrize(
    "item", [LinkUp("eth0", 5, ""), Address("eth0", 5, "", interface=IPv4Interface("10.1.0.1/16"))]
)
def test_host_side_names_no_sandbox(item):
    """An object on the host's side speaks of no sandbox."""
    assert "sandbox" not in str(item)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_kinds_are_frozen_values(kind):
    """Every kind of object is a frozen value, with a backend, a docstring and a phrase."""
    assert dataclasses.is_dataclass(kind)
    assert issubclass(kind, Value)
    assert kind.backend
    assert isinstance(kind.owned, bool)
    assert kind.__doc__
    assert not kind.__doc__.startswith(f"{kind.__name__}(")
    assert kind.__str__ is not object.__str__


@pytest.mark.parametrize("item", PHRASES, ids=lambda value: type(value).__name__)
def test_objects_compare_by_value(item):
    """Two objects of the same fields are one and the same thing; a set finds it."""
    twin = dataclasses.replace(item)
    assert twin is not item
    assert {item} == {twin}


def test_phrases_tell_objects_apart():
    """No two different objects have the same phrase."""
    phrases = [str(item) for item in PHRASES]
    assert len(set(phrases)) == len(phrases)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if issubclass(kind, Device)], ids=lambda kind: kind.__name__)
def test_objects_about_devices_are_kernel_objects(kind):
    """What is about a device belongs to the kernel's backend."""
    assert kind.backend == "kernel"


@pytest.mark.parametrize(
    "kind", [Bridge, Veth, NoAutoconf, Address, LinkUp, Route, MacEntry, ClsactHooks], ids=lambda kind: kind.__name__
)
def test_netlink_objects_have_a_message(kind):
    """Each of these is one netlink message, which is how a refusal finds its object."""
    assert kind in ENCODERS


def test_only_what_vanishes_by_itself_is_owned():
    """Addresses, routes and states go with their device; devices, sandboxes and elements have to be deleted."""
    kinds = (Address, Route, LinkUp, NoAutoconf, MacEntry, NoTransmitOffloads, ClsactHooks, VlanProgram)
    assert [kind.owned for kind in kinds] == [True] * 8
    kinds = (Bridge, Veth, Sandbox, NatElement, VlanMapEntry, OvsBridge, OvsPort)
    assert [kind.owned for kind in kinds] == [False] * 7


def test_ports_and_bridge_share_blocks():
    """What enters a bridge passes one block, what leaves it another, at its ports and at its own end."""
    into, out = (VlanProgram("dnet0", 60, "", direction=direction).block for direction in ("into", "out"))
    assert into != out
    assert ClsactHooks("veth1", 70, "", bridge_index=60).blocks == (into, out)
    assert ClsactHooks("dnet0", 60, "", bridge_index=60).blocks == (out, into)
    blocks = {
        VlanProgram("b", index, "", direction=way).block for index in (1, 2, 2**31 - 1) for way in ("into", "out")
    }
    assert len(blocks) == 6
    assert max(blocks) < 2**32
