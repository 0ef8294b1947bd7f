"""What is remembered of an interface while it is a port, and what is made of it later."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface

import pytest

from dnet.drivers import uplink_snapshot
from dnet.objects import observed, replay
from dnet.objects.host import RouteMessage, Sysctl
from dnet.objects.observed import Observed
from tests.support.uplink_reports import (
    ADDRESSES,
    BRIDGE,
    DADFAILED,
    ETH1,
    NODAD,
    NOPREFIXROUTE,
    PERMANENT,
    ROUTES,
    SECONDARY,
    SNAPSHOT,
    SYSCTLS,
    TENTATIVE,
    address,
    adopting,
    decoded,
    phrases,
    releasing,
    report,
    route,
    taken,
)

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
    assert observed.subnet_routes(address(text, flags=flags)) == set()


def test_peer():
    """A point-to-point address brings a route to the other end."""
    item = address("10.66.0.1/32", address="10.66.0.2")
    assert [(str(key[0]), str(key[2])) for key in observed.subnet_routes(item)] == [("10.66.0.2/32", "10.66.0.1")]
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
    made = [item for item in items if item.type == 20]
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
    values = dict.fromkeys(replay.SETTINGS, 0) | {"rp_filter": 2, "route_localnet": 1, "forwarding": 1}
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


# Later


def test_memory():
    """What is remembered as text is what it was."""
    full = replace(SNAPSHOT, behind=(1,), ahead=(0,), names={4: "eth2"}, displaced=(ADDRESSES[2],), switch_mac="")
    assert uplink_snapshot.read(uplink_snapshot.text(full)) == full


def test_devices_with_other_indexes():
    """Giving back goes by the indexes that devices have by then; a device that is gone is left out."""
    now = Observed([replace(ETH1, index=9), replace(BRIDGE, index=71)], [], [])
    found = uplink_snapshot.now(SNAPSHOT, now)
    assert {item.index for item in releasing(found)} == {9, 71}
    [item] = [item for item in releasing(found) if str(item).startswith("route default via 192.0.2.2")]
    assert decoded(item).get_attr("RTA_OIF") == 9
    without = uplink_snapshot.now(SNAPSHOT, Observed([replace(BRIDGE, index=71)], [], []))
    assert not [item for item in phrases(releasing(without)) if "eth1" in item]
    alone = uplink_snapshot.now(SNAPSHOT, Observed([ETH1], [], []))
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
    found = uplink_snapshot.now(snapshot, report([address("192.0.2.10/24", index=70, flags=0, cacheinfo=left)]))
    assert [(str(item), item.lifetime_s) for item in found.addresses] == [("192.0.2.10/24", 500)]
    assert found.routes == ()


def test_what_was_learned_on_the_bridge():
    """Addresses and routers that advertisements brought to the bridge since go back with the interface."""
    old = address("2001:db8:5::1/64", index=70, flags=0, proto=2)
    before = taken(report([old]))
    new = address("2001:db8:6::1/64", index=70, flags=0, proto=2)
    router = route("default6", index=70, gateway="fe80::1", protocol=9, priority=1024)
    found = uplink_snapshot.now(before, report([new, old], [router]))
    assert phrases(found.addresses) == ["2001:db8:6::1/64"]
    assert [item.indexes() for item in found.routes] == [{3}]


def test_bridge_that_took_everything_along():
    """Of one that somebody has deleted, what an older snapshot of the same boot had besides is added."""
    older = taken(report(ADDRESSES, ROUTES))
    now = taken(report([address("192.0.2.10/24")], []))
    found = uplink_snapshot.merged(now, older)
    assert set(phrases(found.addresses)) == set(phrases(older.addresses))
    assert {item.key for item in found.routes} == {item.key for item in older.routes}
