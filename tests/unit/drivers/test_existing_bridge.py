"""What a network takes from a bridge of the user's own, and what it adds to it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest

from dnet._core import ffi
from dnet.drivers import bridge, existing_bridge, nat_table
from dnet.errors import InvalidRequest, NotFound
from dnet.linux.encode import ENCODERS
from dnet.linux.netlink import new_batch
from dnet.model.network import Uplink
from dnet.model.network_spec import NetworkSpec
from dnet.objects import replay
from dnet.objects.host import LinkMessage, NatElement, OnForeignDevice
from dnet.objects.links import Bridge, LinkUp
from dnet.objects.object import Absent
from dnet.objects.observed import Observed, ObservedLink
from tests.support import samples
from tests.support.uplink_reports import address, route

BR0 = ObservedLink(
    index=70, name="br0", kind="bridge", mac="02:00:00:00:00:70", settings=tuple(0 for _ in replay.SETTINGS)
)


def taken(*texts: str, link: ObservedLink = BR0, **options: Any) -> existing_bridge.FoundBridge:
    """Return what a network asked for with `options` takes from a bridge with these addresses."""
    found = Observed([link], [address(text, index=70) for text in texts], [])
    return existing_bridge.examine(NetworkSpec(name="own", bridge="br0", **options), link, found)


def refusal(*texts: str, **options: Any) -> str:
    """Return why a network cannot be on such a bridge."""
    with pytest.raises(InvalidRequest) as caught:
        taken(*texts, **options)
    return str(caught.value)


def test_addresses_of_both_families():
    """The bridge's addresses are gateways, and say the subnets; they are found, and not dnet's to remove."""
    found = taken("10.1.0.254/24", "fd00:1::fe/64", "fe80::1/64")
    assert (found.subnet, found.gateway) == (IPv4Network("10.1.0.0/24"), IPv4Address("10.1.0.254"))
    assert (found.subnet6, found.gateway6) == (IPv6Network("fd00:1::/64"), IPv6Address("fd00:1::fe"))
    assert found.found == ("gateway", "gateway6", "link_local")
    assert found.mac == "02:00:00:00:00:70"


def test_bridge_without_addresses():
    """What the bridge does not have is left to be chosen and added."""
    assert taken() == existing_bridge.FoundBridge(owns_device=False, mac="02:00:00:00:00:70")
    assert taken("fe80::1/64").gateway6 is None


def test_changing_addresses_are_no_gateways():
    """An IPv6 address that a router has made, and will end, is no gateway; a leased IPv4 one is."""
    leased = {"ifa_preferred": 900, "ifa_valid": 1000, "cstamp": 0, "tstamp": 0}
    items = [address(text, index=70, flags=0, cacheinfo=leased) for text in ("192.0.2.10/24", "2001:db8::10/64")]
    found = existing_bridge.examine(NetworkSpec(name="own", bridge="br0"), BR0, Observed([BR0], items, []))
    assert (found.gateway, found.gateway6) == (IPv4Address("192.0.2.10"), None)


@pytest.mark.parametrize(
    ("options", "gateway"),
    [
        ({"gateway": "10.2.0.254"}, "10.2.0.254"),
        ({"subnet": "10.1.0.0/24"}, "10.1.0.254"),
        ({"subnet": "10.2.0.0/24", "gateway": "10.2.0.254"}, "10.2.0.254"),
    ],
)
def test_choice_among_several(options, gateway):
    """--gateway or --subnet chooses."""
    assert str(taken("10.1.0.254/24", "10.2.0.254/24", **options).gateway) == gateway


def test_refused_choices():
    """Several without a choice, and a choice that the bridge does not have, are refused, the addresses named."""
    assert refusal("10.1.0.1/24", "10.2.0.1/24") == "bridge br0 has several addresses: 10.1.0.1/24, 10.2.0.1/24"
    assert "gateway 10.1.0.9 is none of bridge br0, which has 10.1.0.1/24" in refusal("10.1.0.1/24", gateway="10.1.0.9")
    assert "subnet 10.3.0.0/24 is none of bridge br0" in refusal("10.1.0.1/24", subnet="10.3.0.0/24")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("openvswitch", "br0 is a bridge of Open vSwitch"),
        ("veth", "br0 is no bridge but a veth device"),
        ("", "br0 is no bridge but an interface"),
    ],
)
def test_other_devices(kind, words):
    """A device that is no Linux bridge says what it is."""
    assert words in refusal(link=ObservedLink(index=70, name="br0", kind=kind))


@pytest.mark.parametrize(("mtu", "asked", "expected"), [(1500, 0, 0), (9000, 0, 9000), (9000, 1400, 1400)])
def test_mtu(mtu, asked, expected):
    """The bridge's MTU is the network's unless another one is asked for."""
    link = ObservedLink(index=70, name="br0", kind="bridge", mtu=mtu)
    assert taken(link=link, mtu=asked).mtu == expected


def test_vlans():
    """Whose bridge it is not, dnet lets no VLANs be kept apart on."""
    assert "keeps no VLANs apart" in refusal(vlan="7")


FOREIGN = samples.network(
    "own",
    "10.1.0.0/24",
    device="br0",
    device_index=70,
    subnet6=IPv6Network("fd00:1::/64"),
    gateway6=IPv6Address("fd00:1::1"),
    owns_device=False,
    device_mac="02:00:00:00:00:70",
)


def message_type(item: Absent) -> int:
    """Return the type of the message that removes an object."""
    batch, data = new_batch(1)
    assert ENCODERS[type(item.item)](item.item, batch, 0) == 0
    return int.from_bytes(ffi.buffer(data, batch.length)[4:6], "little")


def test_objects_on_a_bridge_of_the_users():
    """It is neither made nor named nor quieted; its MAC is kept, and what is added can be taken away again."""
    objects = [item for item in bridge.network(FOREIGN) if item.backend == "kernel"][2:]
    assert [type(item) for item in objects] == [LinkMessage, LinkUp, *[OnForeignDevice] * 5]
    assert [str(item) for item in objects if isinstance(item, OnForeignDevice)] == [
        "route_localnet on br0",
        "address 10.1.0.1/24 on br0",
        "address fd00:1::1/64 on br0",
        "address fe80::1/64 on br0",
        "route local ::1 dev br0",
    ]
    removals = [Absent(item.item) for item in objects if isinstance(item, OnForeignDevice)]
    assert [str(item) for item in removals] == [f"no {item}" for item in objects if isinstance(item, OnForeignDevice)]
    assert [message_type(item) for item in removals] == [19, 21, 21, 21, 25]  # RTM_SETLINK, RTM_DELADDR, RTM_DELROUTE


def test_what_was_found_is_not_added():
    """Of what the bridge has already, nothing is an object."""
    names = ("gateway", "gateway6", "link_local", "route_localnet", "loopback_route")
    whole = samples.network(
        "own", "10.1.0.0/24", owns_device=False, found=names, subnet6=FOREIGN.subnet6, gateway6=FOREIGN.gateway6
    )
    assert not [item for item in bridge.network(whole) if isinstance(item, (OnForeignDevice, Bridge))]


def test_gateway_that_is_the_hosts_already():
    """A bridge of dnet's own whose gateway is an address of the host's elsewhere does not get it before adopting."""
    plain = [str(item) for item in bridge.network(samples.network("own", "10.1.0.0/24"))]
    found = [str(item) for item in bridge.network(samples.network("own", "10.1.0.0/24", found=("gateway",)))]
    source, address_of_bridge = [item for item in plain if item not in found]
    assert source == "element 10.1.0.0/24 of masquerade4"
    assert address_of_bridge.startswith("address 10.1.0.1/24 on ")


def test_bridge_of_another_index():
    """A bridge that has been made again is found by its name, with what is on it now; one that is gone is named."""
    link = ObservedLink(index=99, name="br0", kind="bridge", mac="02:00:00:00:00:99", settings=BR0.settings)
    report = Observed([link], [address("10.1.0.1/24", index=99)], [route("::1/128", index=99, kind=2, table=255)])
    found = existing_bridge.refreshed(FOREIGN, report)
    assert (found.device_index, found.device_mac) == (99, "02:00:00:00:00:99")
    assert found.found == ("gateway", "loopback_route")
    with pytest.raises(NotFound, match="bridge br0 of network own, which is not dnet's, is gone") as caught:
        existing_bridge.refreshed(FOREIGN, Observed([], [], []))
    assert "ip address add 10.1.0.1/24 dev br0" in caught.value.hint


# In the table


def elements(network, *members) -> set[str]:
    """Return the elements of a network and of containers on it, as `set key`."""
    rules = [*nat_table.network_objects(network)]
    for member in members:
        rules += nat_table.container_objects(member, {network.id: network})
    return {f"{item.set_name} {item.key}" for item in rules if isinstance(item, NatElement)}


@pytest.mark.parametrize(
    "given",
    [{"owns_device": False}, {"uplinks": (Uplink(interface="eth1", index=3),)}, {"found": ("gateway",)}],
    ids=lambda given: next(iter(given)),
)
def test_guests(given):
    """Where others are too, rules are about each container's address and not about the subnet."""
    network = samples.network("own", "10.1.0.0/24", **given)
    web = samples.container("web", [samples.endpoint(network, "10.1.0.2")])
    found = elements(network, web)
    assert {"guests4 10.1.0.2", "masquerade4 10.1.0.2"} <= found
    assert "masquerade4 10.1.0.0/24" not in found
    assert (f'enclosed "{network.device}"' in found) == ("found" in given)


def test_no_guests_where_nobody_else_is():
    """Where only containers are, one element is about all of them."""
    network = samples.network("own", "10.1.0.0/24")
    web = samples.container("web", [samples.endpoint(network, "10.1.0.2")])
    assert not [item for item in elements(network, web) if "10.1.0.2" in item]
    assert {f'enclosed "{network.device}"', "masquerade4 10.1.0.0/24"} <= elements(network)


@pytest.mark.parametrize("given", [{"internal": True}, {"masquerade": False}], ids=str)
def test_guests_under_their_own_address(given):
    """On internal and on routed networks nobody's source address is replaced."""
    network = samples.network("own", "10.1.0.0/24", owns_device=False, **given)
    web = samples.container("web", [samples.endpoint(network, "10.1.0.2")])
    found = elements(network, web)
    assert "guests4 10.1.0.2" in found
    assert not [item for item in found if item.startswith(("masquerade", "snat"))]


def test_guests_under_a_given_address():
    """--opt host_ipv4 is for each container."""
    network = samples.network("own", "10.1.0.0/24", owns_device=False, snat=IPv4Address("192.0.2.7"))
    web = samples.container("web", [samples.endpoint(network, "10.1.0.2")])
    assert "snat4 10.1.0.2" in elements(network, web)


# What is asked for


def test_bridge_by_dockers_name():
    """Docker's option is the same as `bridge`."""
    spec = NetworkSpec(name="own", options={"com.docker.network.bridge.name": "br0"})
    assert spec.bridge == "br0"


@pytest.mark.parametrize("name", ["sixteen_letters_", "a/b", "lo", "with space"])
def test_bridge_names(name):
    """A name that the kernel would not take is refused."""
    with pytest.raises(InvalidRequest, match="invalid interface name"):
        NetworkSpec(name="own", bridge=name)


def test_addresses_without_a_subnet():
    """On a bridge the subnet may be the bridge's; without one, it has to be given."""
    assert NetworkSpec(name="own", bridge="br0", gateway="10.1.0.1", ip_range="10.1.0.0/25").subnet is None
    with pytest.raises(InvalidRequest, match="need a subnet"):
        NetworkSpec(name="own", gateway="10.1.0.1")
