"""From what the kernel reports of an interface to what is sent to move it, and back. The codec is pyroute2's."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from dnet.drivers import uplink_snapshot
from dnet.errors import Conflict, InvalidRequest, NotFound, Unsupported
from dnet.model.vlan import EVERY_VLAN, PortVlans
from dnet.objects import observed, replay
from dnet.objects.object import Absent
from dnet.objects.observed import Observed, ObservedLink, ObservedRoute
from dnet.objects.openvswitch import OvsMac, OvsPort
from dnet.objects.routes import AdvertisedRoute
from dnet.objects.vlans import ClsactHooks, VlanMapEntry
from tests.support.uplink_reports import (
    BRIDGE,
    ETH1,
    NOPREFIXROUTE,
    PERMANENT,
    PORT,
    SNAPSHOT,
    address,
    adopting,
    decoded,
    encoded,
    phrases,
    releasing,
    report,
    route,
    sent,
    taken,
)


def test_order_of_adopting():
    """Routes go first, then addresses, each in reverse; the port, the MAC, then addresses, near routes, far routes."""
    assert phrases(adopting(SNAPSHOT)) == [
        "accept_ra=2 on br0",
        "ndisc_notify=1 on br0",
        "arp_notify=1 on br0",
        "no route default via 2001:db8::2 dev eth1 metric 90",
        "no route default via 192.0.2.2 dev eth1 metric 100",
        "no route 198.18.0.1/32 dev eth1",
        "no address 2001:db8::11/64 on eth1",
        "no address 2001:db8::10/64 on eth1",
        "no address 192.0.2.11/24 on eth1",
        "no address 192.0.2.10/24 on eth1",
        "addr_gen_mode none on eth1",
        "port eth1 of br0",
        "MAC address 02:00:00:00:00:01 on br0",
        "address 192.0.2.10/24 on br0",
        "address 192.0.2.11/24 on br0",
        "address 2001:db8::10/64 nodad on br0",
        "address 2001:db8::11/64 nodad on br0",
        "flags of address 2001:db8::11/64 on br0",
        "route 198.18.0.1/32 dev br0",
        "route default via 192.0.2.2 dev br0 metric 100",
        "route default via 2001:db8::2 dev br0 metric 90",
    ]


def test_order_of_releasing():
    """Giving back is the same the other way round: all off the bridge, no port, the old MAC, all on the interface."""
    assert phrases(releasing(SNAPSHOT)) == [
        "no route default via 2001:db8::2 dev br0 metric 90",
        "no route default via 192.0.2.2 dev br0 metric 100",
        "no route 198.18.0.1/32 dev br0",
        "no address 2001:db8::11/64 on br0",
        "no address 2001:db8::10/64 on br0",
        "no address 192.0.2.11/24 on br0",
        "no address 192.0.2.10/24 on br0",
        "no port eth1 of br0",
        "MAC address 02:42:0a:01:00:01 on br0",
        "arp_notify=0 on br0",
        "addr_gen_mode eui64 on eth1",
        "address 192.0.2.10/24 on eth1",
        "address 192.0.2.11/24 on eth1",
        "address 2001:db8::10/64 nodad on eth1",
        "address 2001:db8::11/64 nodad on eth1",
        "flags of address 2001:db8::11/64 on eth1",
        "route 198.18.0.1/32 dev eth1",
        "route default via 192.0.2.2 dev eth1 metric 100",
        "route default via 2001:db8::2 dev eth1 metric 90",
        "ndisc_notify=0 on br0",
        "accept_ra=1 on br0",
    ]


def test_rollback_clears_the_interface_first():
    """What is still on the interface goes too, however much that is, so that what is added comes in the old order."""
    plain, rollback = (phrases(releasing(SNAPSHOT, is_rollback=flag)) for flag in (False, True))
    added = [item for item in rollback if item not in plain]
    assert added == [item for item in phrases(adopting(SNAPSHOT)) if item.startswith(("no route", "no address"))]


def test_addresses_are_sent_as_they_were_reported():
    """Only the device differs: index and label; flags, broadcast, lifetimes, metric and protocol are the same."""
    original = address(
        "192.0.2.10/24",
        flags=PERMANENT | NOPREFIXROUTE,
        broadcast="192.0.2.127",
        label="eth1:7",
        rt_priority=33,
        cacheinfo={"ifa_preferred": 100, "ifa_valid": 200, "cstamp": 1, "tstamp": 2},
    )
    found = sent(taken(report([original])), "address")
    assert (found["index"], found["prefixlen"], found["scope"]) == (70, 24, 0)
    assert found.get_attr("IFA_LABEL") == "br0:7"
    assert found.get_attr("IFA_BROADCAST") == "192.0.2.127"
    assert found.get_attr("IFA_FLAGS") == PERMANENT | NOPREFIXROUTE
    assert found.get_attr("IFA_RT_PRIORITY") == 33
    lifetimes = found.get_attr("IFA_CACHEINFO")
    assert (lifetimes["ifa_preferred"], lifetimes["ifa_valid"]) == (100, 200)


@pytest.mark.parametrize(
    ("label", "bridge", "expected"),
    [
        ("eth1", "br0", "br0"),
        ("eth1:web", "br0", "br0:web"),
        ("other", "br0", "other"),
        ("eth1:0", "br-0123456789ab", None),  # no room: the kernel gives it the device's name
    ],
)
def test_labels(label, bridge, expected):
    """A label that begins with the interface's name begins with the bridge's, if there is room for it."""
    item = address("192.0.2.10/24", label=label)
    moved = replay.address(item, "eth1", replace(BRIDGE, name=bridge), item.flags)
    assert decoded(moved).get_attr("IFA_LABEL") == expected


def test_routes_are_sent_as_they_were_reported():
    """Only the device differs: metric, source, table, protocol, scope, type, metrics and onlink are the same."""
    original = route(
        "10.9.0.0/16",
        gateway="10.99.99.1",
        prefsrc="192.0.2.10",
        priority=5,
        table=1000,
        protocol=16,
        flags=4 | 16,  # onlink, and linkdown, which is no more than a report
        metrics={"attrs": [("RTAX_MTU", 1300)]},
    )
    found = sent(taken(report([], [original])), "route 10.9.0.0/16")
    assert (found["proto"], found["scope"], found["type"], found["flags"]) == (16, 0, 1, 4)
    assert found.get_attr("RTA_OIF") == 70
    assert found.get_attr("RTA_GATEWAY") == "10.99.99.1"
    assert found.get_attr("RTA_PREFSRC") == "192.0.2.10"
    assert (found.get_attr("RTA_PRIORITY"), found.get_attr("RTA_TABLE")) == (5, 1000)
    assert found.get_attr("RTA_METRICS").get_attr("RTAX_MTU") == 1300


def test_multipath():
    """Of several next hops those through the interface go through the bridge; weights and the others stay."""
    hops = [
        {"hops": 2, "oif": 3, "flags": 1, "attrs": [("RTA_GATEWAY", "192.0.2.2")]},
        {"hops": 0, "oif": 4, "flags": 0, "attrs": [("RTA_GATEWAY", "172.30.0.2")]},
    ]
    snapshot = taken(report([], [route("10.8.0.0/16", index=0, multipath=hops)]))
    found = sent(snapshot, "route 10.8.0.0/16").get_attr("RTA_MULTIPATH")
    # pyroute2 decodes a next hop's attributes or not, depending on what else it has decoded before.
    gateways = [hop.get_attr("RTA_GATEWAY") for hop in found]
    texts = [item if isinstance(item, str) else str(IPv4Address(item[-4:])) for item in gateways]
    assert [(hop["oif"], hop["hops"], hop["flags"], text) for hop, text in zip(found, texts, strict=True)] == [
        (70, 2, 0, "192.0.2.2"),
        (4, 0, 0, "172.30.0.2"),
    ]
    assert "route 10.8.0.0/16 nexthop via 192.0.2.2 dev br0 nexthop via 172.30.0.2 dev eth2" in phrases(
        adopting(snapshot)
    )


def test_expiry():
    """What is left of a route's life goes along: reported in hundredths of a second, sent in seconds."""
    original = route("2001:db8:7::/48", gateway="2001:db8::2", cacheinfo={"rta_expires": 59900})
    found = sent(taken(report([], [original])), "route 2001:db8:7::/48")
    attributes = dict(observed.pairs(bytes(found.data), 28))
    assert attributes[23] == (599).to_bytes(4, "little")  # RTA_EXPIRES
    assert 12 not in attributes  # RTA_CACHEINFO


def test_routers_are_advertised_again():
    """A default router's route is made as the kernel makes it of an advertisement, or else it would learn no more."""
    original = route(
        "default6", gateway="fe80::1", priority=1024, protocol=9, pref=1, cacheinfo={"rta_expires": 180000}
    )
    snapshot = taken(report([address("fe80::10/64")], [original]))
    [item] = [item for item in adopting(snapshot) if isinstance(item, AdvertisedRoute)]
    assert (str(item.gateway), item.metric, item.preference, item.expires_s) == ("fe80::1", 1024, 1, 1800)
    assert (item.device, item.index) == ("br0", 70)
    [gone] = [item for item in releasing(snapshot) if str(item).startswith("no route default")]
    assert decoded(gone)["proto"] == 0  # whoever the kernel says has made it by then


# VLANs, and Open vSwitch


def test_programs_come_first():
    """A port's VLANs are in the map before anything, its hooks on it before it is a port; they go after that."""
    vlans = PortVlans(trunk=EVERY_VLAN, native=1)
    hooks = ClsactHooks("eth1", 3, "", bridge_index=70)
    port = (VlanMapEntry("eth1", 3, vlans), hooks, *PORT)
    there = phrases(adopting(SNAPSHOT, port))
    assert there[0] == "trunk 1-4094 native 1 on eth1"
    assert there.index("no address 192.0.2.10/24 on eth1") < there.index("VLAN filter on eth1")
    assert there.index("VLAN filter on eth1") + 1 == there.index("port eth1 of br0")
    back = phrases(releasing(SNAPSHOT, port))
    assert back.index("no port eth1 of br0") + 1 == back.index("no VLAN filter on eth1")
    assert back.index("no VLAN filter on eth1") < back.index("address 192.0.2.10/24 on eth1")
    assert back[-1] == "no trunk 1-4094 native 1 on eth1"


def test_port_of_open_vswitch():
    """It is a port, and gives the bridge its MAC address, in one go and while it still is what it was."""
    port = OvsPort("eth1", "br0", "net-1", 1, (), 0, is_protected=False)
    snapshot = replace(SNAPSHOT, switch_mac="")
    there = adopting(snapshot, [port])
    position = there.index(port)
    assert there[position + 1] == OvsMac("br0", ETH1.mac)
    words = phrases(there)
    assert position < words.index("no address 192.0.2.10/24 on eth1") < words.index("arp_ignore=8 on eth1")
    assert not [item for item in words if item.startswith(("port eth1 of", "MTU"))]
    back = releasing(snapshot, [port])
    position = back.index(Absent(port))
    assert back[position + 1] == OvsMac("br0", "")
    words = phrases(back)
    assert words.index("arp_ignore=0 on eth1") < words.index("address 192.0.2.10/24 on eth1") < position
    assert not [item for item in words if item.startswith("no port eth1 of")]


# What cannot be


def refusal(link: ObservedLink, found: Observed | None = None, *, is_wireless: bool = False) -> Exception:
    """Return the error that `check` raises for a device."""
    whole = found or report([], [], link)
    with pytest.raises((Conflict, InvalidRequest, NotFound, Unsupported)) as caught:
        uplink_snapshot.check(whole, link.name, BRIDGE, is_wireless=is_wireless)
    return caught.value


@pytest.mark.parametrize(
    ("link", "kind", "words"),
    [
        (BRIDGE, InvalidRequest, "it is the network's bridge itself"),
        (ObservedLink(index=1, name="lo", flags=9, type=772), InvalidRequest, "it is the loopback"),
        (ObservedLink(index=9, name="br9", kind="bridge"), InvalidRequest, "it is a bridge"),
        (ObservedLink(index=9, name="tun0", kind="tun", type=65534), InvalidRequest, "it is no Ethernet device"),
        (ObservedLink(index=9, name="e9", master=70), InvalidRequest, "it is a port of br0 already"),
        (ObservedLink(index=9, name="e9", master=4), Conflict, "e9 is in use by eth2"),
    ],
)
def test_unfit(link, kind, words):
    """Each device that cannot be a port has its reason."""
    error = refusal(link)
    assert isinstance(error, kind)
    assert words in str(error)


def test_wireless():
    """A wireless interface is refused: an access point takes frames of its own stations only."""
    assert "it is wireless" in str(refusal(ETH1, report(), is_wireless=True))


def test_rivals():
    """An interface that a macvlan device is made on is in use."""
    mv0 = ObservedLink(index=9, name="mv0", kind="macvlan", parent=3)
    assert "eth1 is in use by macvlan mv0" in str(refusal(ETH1, report([], [], mv0)))


def test_address_on_two_interfaces():
    """An address that another interface has too is named with both; link-local ones may be on many."""
    twice = [address("192.0.2.10/24"), address("192.0.2.10/24", index=4)]
    assert "address 192.0.2.10 of eth1 is on eth2 too" in str(refusal(ETH1, report(twice)))
    local = [address("fe80::1/64"), address("fe80::1/64", index=4)]
    assert uplink_snapshot.check(report(local), "eth1", BRIDGE, is_wireless=False) == ETH1


def test_nexthop_objects():
    """A route by one of the kernel's nexthop objects names its device there, where it cannot be replaced."""
    by_object = ObservedRoute(
        route("10.0.0.0/8").body + observed.packed([(30, (7).to_bytes(4, "little"))])
    )  # RTA_NH_ID
    assert "nexthop object 7" in str(refusal(ETH1, report([], [by_object])))


def test_link():
    """What matters of a device is read: name, kind, MAC, MTU, master, parent, settings, spanning tree's delay."""
    data = [("IFLA_BR_STP_STATE", 1), ("IFLA_BR_FORWARD_DELAY", 1500)]
    attributes = [
        ("IFLA_IFNAME", "br9"),
        ("IFLA_MTU", 1400),
        ("IFLA_ADDRESS", "02:00:00:00:00:09"),
        ("IFLA_LINK", 4),
        ("IFLA_MASTER", 5),
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "bridge"), ("IFLA_INFO_DATA", {"attrs": data})]}),
    ]
    found = observed.link(encoded(ifinfmsg, 16, {"index": 9, "flags": 1, "ifi_type": 1}, attributes))
    assert (found.index, found.name, found.kind, found.mac) == (9, "br9", "bridge", "02:00:00:00:00:09")
    assert (found.mtu, found.parent, found.master, found.is_up) == (1400, 4, 5, True)
    assert found.forward_delay_s == 30.0
    assert (found.settings, found.address_generation) == ((), None)
