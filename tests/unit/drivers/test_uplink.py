"""From what the kernel reports of an interface to what is sent to move it, and back. The codec is pyroute2's."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, ip_interface
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from dnet import messages, reports, snapshots, uplink
from dnet.errors import Conflict, InvalidRequest, NotFound, Unsupported
from dnet.model import EVERY_VLAN, PortVlans
from dnet.objects import (
    AddressMessage,
    AdvertisedRoute,
    LinkMessage,
    Membership,
    Message,
    NoOvsPort,
    Object,
    OvsMac,
    OvsPort,
    RouteMessage,
    Sysctl,
    VlanEntry,
    VlanFilter,
)
from dnet.reports import Address, Link, Report, Route
from dnet.snapshots import Snapshot

SETTINGS = tuple(0 for _ in messages.SETTINGS)
ETH1 = Link(index=3, name="eth1", mac="02:00:00:00:00:01", address_generation=0, settings=SETTINGS)
BRIDGE = Link(index=70, name="br0", kind="bridge", mac="02:42:0a:01:00:01", address_generation=1, settings=SETTINGS)
ETH2 = Link(index=4, name="eth2", mac="02:00:00:00:00:02")
SYSCTLS = {"accept_ra": "1", "forwarding": "0", "ndisc_notify": "0", "autoconf": "1", "disable_ipv6": "0"}
PERMANENT, SECONDARY, NODAD, TENTATIVE, DADFAILED, NOPREFIXROUTE = 0x80, 0x01, 0x02, 0x40, 0x08, 0x200


PORT = (Membership("eth1", 3, "", master="br0", master_index=70),)


def adopting(snapshot: Snapshot, port: Sequence[Object] = PORT) -> tuple[Object, ...]:
    """Return what makes eth1 a port of br0."""
    return uplink.adopting(snapshot, port)


def releasing(snapshot: Snapshot, port: Sequence[Object] = PORT, *, is_rollback: bool = False) -> tuple[Object, ...]:
    """Return what gives eth1 back."""
    return uplink.releasing(snapshot, port, is_rollback=is_rollback)


def encoded(kind: type, number: int, fields: dict[str, Any], attributes: list[tuple[str, Any]]) -> bytes:
    """Return a message as pyroute2 writes it."""
    message = kind()
    for key, value in fields.items():
        message[key] = value
    message["attrs"] = attributes
    message["header"]["type"] = number
    message.encode()
    return bytes(message.data)


def decoded(item: Message) -> Any:
    """Return what pyroute2 reads in a message that is to be sent."""
    kind = {AddressMessage: ifaddrmsg, RouteMessage: rtmsg, LinkMessage: ifinfmsg}[type(item)]
    header = (16 + len(item.body)).to_bytes(4, "little") + item.kind.to_bytes(2, "little") + bytes(10)
    message = kind(header + item.body)
    message.decode()
    return message


def address(text: str, index: int = 3, flags: int = PERMANENT, **attributes: Any) -> Address:
    """Return an address as the kernel reports it."""
    interface = ip_interface(text)
    is_four = interface.version == 4
    fields = {
        "family": socket.AF_INET if is_four else socket.AF_INET6,
        "prefixlen": interface.network.prefixlen,
        "index": index,
        "flags": flags & 0xFF,
        "scope": 253 if interface.is_link_local else 0,
    }
    local = [("IFA_LOCAL", str(interface.ip)), ("IFA_LABEL", "eth1")] if is_four else []
    rest = [(f"IFA_{name.upper()}", value) for name, value in attributes.items()]
    given = {name for name, _ in rest}
    local = [pair for pair in local if pair[0] not in given]
    base = [("IFA_ADDRESS", str(interface.ip))] if "IFA_ADDRESS" not in given else []
    return reports.address(encoded(ifaddrmsg, 20, fields, [*base, *local, *rest, ("IFA_FLAGS", flags)]))


def route(text: str, index: int = 3, *, protocol: int = 4, scope: int = 0, kind: int = 1, **attributes: Any) -> Route:
    """Return a route of the main table as the kernel reports it, to a destination, `default` or `default6`."""
    words = {"default": "0.0.0.0/0", "default6": "::/0"}
    network = ip_interface(words.get(text, text)).network
    fields = {
        "family": socket.AF_INET if network.version == 4 else socket.AF_INET6,
        "dst_len": network.prefixlen,
        "table": attributes.get("table", 254) & 0xFF,
        "proto": protocol,
        "scope": scope,
        "type": kind,
        "flags": attributes.pop("flags", 0),
    }
    named = [(f"RTA_{name.upper()}", value) for name, value in {"table": 254, **attributes}.items()]
    destination = [("RTA_DST", str(network.network_address))] if network.prefixlen else []
    through = [("RTA_OIF", index)] if index else []
    return reports.route(encoded(rtmsg, 24, fields, [*destination, *through, *named]))


def report(addresses: list[Address] | None = None, routes: list[Route] | None = None, *links: Link) -> Report:
    """Return a host with eth1, eth2 and br0."""
    return Report([ETH1, ETH2, BRIDGE, *links], addresses or [], routes or [])


def taken(found: Report, **given: Any) -> Snapshot:
    """Return a snapshot of eth1 and br0."""
    options = {"sysctls": SYSCTLS, "bridge_sysctls": SYSCTLS, "spare": None, "takes_mac": True, "boot": "this"}
    return snapshots.take(found, ETH1, BRIDGE, **{**options, **given})


def phrases(items: tuple[Any, ...]) -> list[str]:
    """Return objects as people read them."""
    return [str(item) for item in items]


ADDRESSES = [
    address("192.0.2.10/24", broadcast="192.0.2.255"),
    address("192.0.2.11/24", flags=PERMANENT | SECONDARY, label="eth1:0"),
    address("2001:db8::11/64"),
    address("2001:db8::10/64", flags=PERMANENT | NODAD),
]
ROUTES = [
    route("default", gateway="192.0.2.2", priority=100),
    route("192.0.2.0/24", protocol=2, scope=253, prefsrc="192.0.2.10"),
    route("198.18.0.1/32", scope=253),
    route("2001:db8::/64", protocol=2, priority=256),
    route("default6", gateway="2001:db8::2", priority=90),
    route("192.0.2.10/32", protocol=2, scope=254, kind=2, table=255),
]
SNAPSHOT = taken(report(ADDRESSES, ROUTES))


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


def sent(snapshot: Snapshot, start: str) -> Any:
    """Return what pyroute2 reads in the one message of adopting whose phrase begins so."""
    [item] = [item for item in adopting(snapshot) if str(item).startswith(start)]
    assert isinstance(item, Message)
    return decoded(item)


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
    moved = messages.address(item, "eth1", replace(BRIDGE, name=bridge), item.flags)
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
    attributes = dict(reports.pairs(bytes(found.data), 28))
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


# What the kernel does by itself


def test_subnet_routes_are_the_kernels():
    """The routes that come with addresses are not sent; those that came otherwise, with NOPREFIXROUTE, are."""
    plain = taken(
        report([address("192.0.2.10/24")], [route("192.0.2.0/24", protocol=2, scope=253, prefsrc="192.0.2.10")])
    )
    assert not [item for item in phrases(adopting(plain)) if "route" in item]
    bare = taken(
        report(
            [address("192.0.2.10/24", flags=PERMANENT | NOPREFIXROUTE)],
            [route("192.0.2.0/24", protocol=2, scope=253, prefsrc="192.0.2.10", priority=100)],
        )
    )
    assert [item for item in phrases(adopting(bare)) if item.startswith("route")] == [
        "route 192.0.2.0/24 dev br0 src 192.0.2.10 metric 100"
    ]


def test_subnet_route_that_somebody_has_removed():
    """A route that comes with an address, and was not there, is taken away again."""
    snapshot = taken(report([address("192.0.2.10/24"), address("2001:db8::10/64")]))
    added = phrases(adopting(snapshot))
    assert added[-2:] == ["no route 192.0.2.0/24 dev br0", "no route 2001:db8::/64 dev br0"]
    assert phrases(releasing(snapshot))[-4:-2] == [
        "no route 192.0.2.0/24 dev eth1",
        "no route 2001:db8::/64 dev eth1",
    ]


@pytest.mark.parametrize("text", ["10.66.0.1/32", "192.0.2.11/24"])
def test_addresses_without_a_route(text):
    """A host's address alone, and a secondary one, bring no route."""
    flags = PERMANENT | (SECONDARY if text.endswith("24") else 0)
    assert reports.subnet_routes(address(text, flags=flags)) == set()


def test_peer():
    """A point-to-point address brings a route to the other end."""
    item = address("10.66.0.1/32", address="10.66.0.2")
    assert [(str(key[0]), str(key[2])) for key in reports.subnet_routes(item)] == [("10.66.0.2/32", "10.66.0.1")]
    assert str(item) == "10.66.0.1/32 peer 10.66.0.2"


def test_subnet_that_the_bridge_has_too():
    """Beside an address of the bridge in the same subnet the moved one is secondary: its route has to be sent."""
    snapshot = taken(
        report(
            [address("10.1.0.9/16"), address("10.1.0.1/16", index=70)],
            [
                route("10.1.0.0/16", protocol=2, scope=253, prefsrc="10.1.0.9"),
                route("10.1.0.0/16", index=70, protocol=2, scope=253, prefsrc="10.1.0.1"),
            ],
        )
    )
    there, back = phrases(adopting(snapshot)), phrases(releasing(snapshot))
    assert "route 10.1.0.0/16 dev br0 src 10.1.0.9" in there
    assert "no route 10.1.0.0/16 dev br0 src 10.1.0.9" in back


def test_order_among_routes_of_one_kind():
    """Routes to the same place with the same metric through other devices keep their place before or behind it."""
    before = [route("10.10.0.0/16", priority=5), route("10.10.0.0/16", index=4, priority=5)]
    behind = [route("10.11.0.0/16", index=4, priority=5), route("10.11.0.0/16", priority=5)]
    snapshot = taken(report([], [*before, *behind]))
    append = 0x800
    flags = {str(item): item.flags & append for item in adopting(snapshot) if isinstance(item, RouteMessage)}
    assert flags["route 10.10.0.0/16 dev br0 metric 5"] == 0
    assert flags["route 10.11.0.0/16 dev br0 metric 5"] == append


# Addresses' states


def test_proved_addresses_are_used_at_once():
    """An IPv6 address that has proved unique is not asked for again; its own flags come right behind."""
    items = [item for item in adopting(taken(report([address("2001:db8::1/64")]))) if "2001:db8::1/64 " in str(item)]
    made = [item for item in items if item.kind == 20]
    assert [decoded(item).get_attr("IFA_FLAGS") & NODAD for item in made] == [NODAD, 0]


def test_unproved_addresses():
    """One that is being proved goes on being so; one that is somebody else's comes back, but is not on the bridge."""
    asked = address("2001:db8::1/64", flags=PERMANENT | TENTATIVE)
    snapshot = taken(report([asked, address("2001:db8::2/64", flags=PERMANENT | TENTATIVE | DADFAILED)]))
    there = [item for item in phrases(adopting(snapshot)) if item.startswith("address")]
    assert there == ["address 2001:db8::1/64 on br0"]
    back = [item for item in phrases(releasing(snapshot)) if item.startswith("address")]
    assert back == ["address 2001:db8::2/64 on eth1", "address 2001:db8::1/64 on eth1"]


# Settings


def test_settings_go_along():
    """The bridge gets the interface's net.ipv4.conf, forwarding for containers apart, and later its own back."""
    values = dict.fromkeys(messages.SETTINGS, 0) | {"rp_filter": 2, "route_localnet": 1, "forwarding": 1}
    own = replace(ETH1, settings=tuple(values.values()))
    snapshot = replace(taken(report()), interface=own)
    assert "rp_filter=2, arp_notify=1 on br0" in phrases(adopting(snapshot))
    assert "rp_filter=0, arp_notify=0 on br0" in phrases(releasing(snapshot))


@pytest.mark.parametrize(
    ("accept_ra", "forwarding", "expected"), [("1", "0", "2"), ("2", "1", "2"), ("1", "1", "0"), ("0", "0", "0")]
)
def test_learning_goes_along(accept_ra, forwarding, expected):
    """The host learns from routers on the bridge exactly if it did on the interface, also when it forwards one day."""
    sysctls = {**SYSCTLS, "accept_ra": accept_ra, "forwarding": forwarding}
    snapshot = taken(report(), sysctls=sysctls, takes_mac=False)
    found = [(item.key, item.value) for item in adopting(snapshot) if isinstance(item, Sysctl)]
    assert found == [("accept_ra", expected)]


@pytest.mark.parametrize(
    ("own", "bridges", "there", "back"),
    [
        (1400, 1500, ["MTU 1400 on br0"], ["MTU 1500 on br0"]),
        (1500, 1500, [], []),
        (9000, 1500, [], ["MTU 1500 on br0"]),  # the kernel may have raised it
    ],
)
def test_mtu(own, bridges, there, back):
    """The bridge's MTU is not above the interface's while that is its port."""
    snapshot = replace(taken(report()), interface=replace(ETH1, mtu=own), bridge=replace(BRIDGE, mtu=bridges))
    assert [item for item in phrases(adopting(snapshot)) if item.startswith("MTU")] == there
    assert [item for item in phrases(releasing(snapshot)) if item.startswith("MTU")] == back


def test_second_interface_leaves_the_mac():
    """The bridge keeps the MAC address of the interface that was adopted first."""
    snapshot = taken(report(), takes_mac=False)
    assert not [item for item in phrases((*adopting(snapshot), *releasing(snapshot))) if "MAC" in item]


def test_interface_that_is_down():
    """It comes up as a port, and goes down again before it gets its addresses back."""
    snapshot = replace(taken(report([address("192.0.2.10/24")])), interface=replace(ETH1, flags=0))
    assert "up eth1" in phrases(adopting(snapshot))
    back = phrases(releasing(snapshot))
    assert back.index("down eth1") < back.index("address 192.0.2.10/24 on eth1")


def test_displaced_address():
    """dnet's own link-local address, which may be a router's, leaves the bridge for the interface's, and comes back."""
    spare = address("fe80::1/64", index=70, flags=PERMANENT | NODAD)
    snapshot = taken(report([address("fe80::10/64"), spare]), spare=ip_interface("fe80::1/64"))
    assert "no address fe80::1/64 on br0" in phrases(adopting(snapshot))
    assert "address fe80::1/64 nodad on br0" in phrases(releasing(snapshot))
    alone = taken(report([address("192.0.2.10/24"), spare]), spare=ip_interface("fe80::1/64"))
    assert alone.displaced == ()


# VLANs, and Open vSwitch


def test_programs_come_first():
    """A port's VLANs are in the map before anything, its hooks on it before it is a port; they go after that."""
    vlans = PortVlans(trunk=EVERY_VLAN, native=1)
    hooks = VlanFilter("eth1", 3, "", bridge_index=70)
    port = (VlanEntry("eth1", 3, vlans), hooks, *PORT)
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
    position = back.index(NoOvsPort.instead(port))
    assert back[position + 1] == OvsMac("br0", "")
    words = phrases(back)
    assert words.index("arp_ignore=0 on eth1") < words.index("address 192.0.2.10/24 on eth1") < position
    assert not [item for item in words if item.startswith("no port eth1 of")]


# Later


def test_memory():
    """What is remembered as text is what it was."""
    full = replace(SNAPSHOT, behind=(1,), ahead=(0,), names={4: "eth2"}, displaced=(ADDRESSES[2],), switch_mac="")
    assert snapshots.read(snapshots.text(full)) == full


def test_devices_with_other_indexes():
    """Giving back goes by the indexes that devices have by then; a device that is gone is left out."""
    now = Report([replace(ETH1, index=9), replace(BRIDGE, index=71)], [], [])
    found = snapshots.now(SNAPSHOT, now)
    assert {item.index for item in releasing(found)} == {9, 71}
    [item] = [item for item in releasing(found) if str(item).startswith("route default via 192.0.2.2")]
    assert decoded(item).get_attr("RTA_OIF") == 9
    without = snapshots.now(SNAPSHOT, Report([replace(BRIDGE, index=71)], [], []))
    assert not [item for item in phrases(releasing(without)) if "eth1" in item]
    alone = snapshots.now(SNAPSHOT, Report([ETH1], [], []))
    assert not [item for item in phrases(releasing(alone)) if "br0" in item]


def test_lifetimes_that_went_on():
    """What has a lifetime goes back with what is left of it; what has ended, and what needed it, does not."""
    living = {"ifa_preferred": 900, "ifa_valid": 1000, "cstamp": 0, "tstamp": 0}
    left = {**living, "ifa_preferred": 400, "ifa_valid": 500}
    snapshot = taken(
        report(
            [
                address("192.0.2.10/24", flags=0, cacheinfo=living),
                address("192.0.2.20/24", flags=SECONDARY, cacheinfo=living),
            ],
            [route("10.9.0.0/16", gateway="192.0.2.2", prefsrc="192.0.2.20")],
        )
    )
    found = snapshots.now(snapshot, report([address("192.0.2.10/24", index=70, flags=0, cacheinfo=left)]))
    assert [(str(item), item.lifetime_s) for item in found.addresses] == [("192.0.2.10/24", 500)]
    assert found.routes == ()


def test_what_was_learned_on_the_bridge():
    """Addresses and routers that advertisements brought to the bridge since go back with the interface."""
    old = address("2001:db8:5::1/64", index=70, flags=0, proto=2)
    before = taken(report([old]))
    new = address("2001:db8:6::1/64", index=70, flags=0, proto=2)
    router = route("default6", index=70, gateway="fe80::1", protocol=9, priority=1024)
    found = snapshots.now(before, report([new, old], [router]))
    assert phrases(found.addresses) == ["2001:db8:6::1/64"]
    assert [item.indexes() for item in found.routes] == [{3}]


def test_bridge_that_took_everything_along():
    """Of one that somebody has deleted, what an older snapshot of the same boot had besides is added."""
    older = taken(report(ADDRESSES, ROUTES))
    now = taken(report([address("192.0.2.10/24")], []))
    found = snapshots.merged(now, older)
    assert set(phrases(found.addresses)) == set(phrases(older.addresses))
    assert {item.key for item in found.routes} == {item.key for item in older.routes}


# What cannot be


def refusal(link: Link, found: Report | None = None, *, is_wireless: bool = False) -> Exception:
    """Return the error that `check` raises for a device."""
    whole = found or report([], [], link)
    with pytest.raises((Conflict, InvalidRequest, NotFound, Unsupported)) as caught:
        snapshots.check(whole, link.name, BRIDGE, is_wireless=is_wireless)
    return caught.value


@pytest.mark.parametrize(
    ("link", "kind", "words"),
    [
        (BRIDGE, InvalidRequest, "it is the network's bridge itself"),
        (Link(index=1, name="lo", flags=9, type=772), InvalidRequest, "it is the loopback"),
        (Link(index=9, name="br9", kind="bridge"), InvalidRequest, "it is a bridge"),
        (Link(index=9, name="tun0", kind="tun", type=65534), InvalidRequest, "it is no Ethernet device"),
        (Link(index=9, name="e9", master=70), InvalidRequest, "it is a port of br0 already"),
        (Link(index=9, name="e9", master=4), Conflict, "e9 is in use by eth2"),
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
    mv0 = Link(index=9, name="mv0", kind="macvlan", parent=3)
    assert "eth1 is in use by macvlan mv0" in str(refusal(ETH1, report([], [], mv0)))


def test_address_on_two_interfaces():
    """An address that another interface has too is named with both; link-local ones may be on many."""
    twice = [address("192.0.2.10/24"), address("192.0.2.10/24", index=4)]
    assert "address 192.0.2.10 of eth1 is on eth2 too" in str(refusal(ETH1, report(twice)))
    local = [address("fe80::1/64"), address("fe80::1/64", index=4)]
    assert snapshots.check(report(local), "eth1", BRIDGE, is_wireless=False) == ETH1


def test_nexthop_objects():
    """A route by one of the kernel's nexthop objects names its device there, where it cannot be replaced."""
    by_object = Route(route("10.0.0.0/8").body + reports.packed([(30, (7).to_bytes(4, "little"))]))  # RTA_NH_ID
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
    found = reports.link(encoded(ifinfmsg, 16, {"index": 9, "flags": 1, "ifi_type": 1}, attributes))
    assert (found.index, found.name, found.kind, found.mac) == (9, "br9", "bridge", "02:00:00:00:00:09")
    assert (found.mtu, found.parent, found.master, found.is_up) == (1400, 4, 5, True)
    assert found.forward_delay_s == 30.0
    assert (found.settings, found.address_generation) == ((), None)
