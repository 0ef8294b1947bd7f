"""Addresses and subnets. The oracle is Python's ipaddress, written out as sets."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dnet.errors import Conflict, Exhausted, InvalidRequest
from dnet.model import address
from dnet.model.network_spec import NetworkSpec
from dnet.transaction import ipam
from tests.support import samples

# moby's defaults: 172.17/16, 172.18/16, 172.19/16, 172.20/14, 172.24/14 and 172.28/14 cut to /16, 192.168/16 to /20.
DOCKERS_POOLS = [
    *(IPv4Network(text) for text in ("172.17.0.0/16", "172.18.0.0/16", "172.19.0.0/16")),
    *IPv4Network("172.20.0.0/14").subnets(new_prefix=16),
    *IPv4Network("172.24.0.0/14").subnets(new_prefix=16),
    *IPv4Network("172.28.0.0/14").subnets(new_prefix=16),
    *IPv4Network("192.168.0.0/16").subnets(new_prefix=20),
]
# RFC 1122, RFC 5771, RFC 1112: this network, loopback, multicast, reserved and limited broadcast.
UNUSABLE = [IPv4Network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4")]


def subnets(smallest: int, largest: int) -> st.SearchStrategy[IPv4Network]:
    """Return a strategy of networks with prefix lengths from `largest` to `smallest`, in private space."""
    inside = IPv4Network("10.0.0.0/8")
    addresses = st.ip_addresses(network=inside)
    return st.builds(
        lambda address, length: IPv4Network((address, length), strict=False), addresses, st.integers(largest, smallest)
    )


@st.composite
def situations(draw):
    """Draw a network, small enough to be written out, and a set of its addresses that are taken."""
    subnet = draw(subnets(30, 24))
    hosts = list(subnet.hosts())
    gateway = draw(st.sampled_from(hosts))
    aux = draw(st.lists(st.sampled_from(hosts), max_size=3))
    length = draw(st.none() | st.integers(subnet.prefixlen, 32))
    ip_range = None if length is None else IPv4Network((draw(st.sampled_from(list(subnet))), length), strict=False)
    taken = draw(st.sets(st.sampled_from(hosts), max_size=len(hosts)))
    net = samples.network(
        subnet=str(subnet),
        gateway=gateway,
        ip_range=ip_range,
        aux_addresses={f"aux{number}": address for number, address in enumerate(aux)},
    )
    return net, {int(address) for address in taken}


def free_by_hand(net, taken) -> list[IPv4Address]:
    """Return the addresses that a container may have, lowest first, by set arithmetic."""
    pool = set(net.ip_range or net.subnet) & set(net.subnet.hosts())
    return sorted(pool - {IPv4Address(value) for value in taken} - {net.gateway} - set(net.aux_addresses.values()))


@given(situations(), st.data())
def test_free_addresses(situation, data):
    """The addresses given are free, unique, in range and the lowest; never network, broadcast, gateway or auxiliary."""
    net, taken = situation
    free = free_by_hand(net, taken)
    count = data.draw(st.integers(0, len(free)))
    assert ipam.free_addresses(net, 4, taken, count) == free[:count]


@given(situations(), st.integers(1, 5))
def test_too_many_addresses(situation, excess):
    """Asking for more than there are is refused, and the error says how many are left."""
    net, taken = situation
    free = free_by_hand(net, taken)
    with pytest.raises(Exhausted) as caught:
        ipam.free_addresses(net, 4, taken, len(free) + excess)
    numbers = re.findall(r"\b\d+\b", re.sub(r"[\d.]+/\d+", "", str(caught.value)))
    assert numbers == ([str(len(free) + excess), str(len(free))] if free else [str(excess)])
    assert caught.value.hint


def test_a_freed_address_is_given_again():
    """The lowest address is given again as soon as it is free, as with Docker."""
    net = samples.network(subnet="10.1.0.0/24")
    first, second = ipam.free_addresses(net, 4, set(), 2)
    assert ipam.free_addresses(net, 4, {int(second)}, 1) == [first]


def test_a_large_subnet_costs_nothing():
    """Addresses of a /8 are found without going through it."""
    net = samples.network(subnet="10.0.0.0/8")
    assert ipam.free_addresses(net, 4, {int(net.gateway)}, 2) == [IPv4Address("10.0.0.2"), IPv4Address("10.0.0.3")]


def test_default_pools_are_dockers():
    """The default pools are Docker's 31, in its order."""
    assert list(ipam.default_pools()) == DOCKERS_POOLS


@given(st.lists(st.sampled_from(DOCKERS_POOLS) | subnets(32, 8) | st.just(IPv4Network("172.16.0.0/12")), max_size=40))
def test_automatic_subnet(busy):
    """An automatic subnet is the first default pool that overlaps nothing busy; when none is left, that is said."""
    left = [pool for pool in DOCKERS_POOLS if not any(pool.overlaps(other) for other in busy)]
    if left:
        assert ipam.free_subnet(iter(busy)) == left[0]
    else:
        with pytest.raises(Exhausted, match="default subnet"):
            ipam.free_subnet(busy)


def test_no_default_pool_left():
    """When all default pools are taken the error tells to give a subnet."""
    with pytest.raises(Exhausted) as caught:
        ipam.free_subnet([IPv4Network("172.16.0.0/12"), IPv4Network("192.168.0.0/16")])
    assert "--subnet" in caught.value.hint


@given(subnets(30, 8), st.lists(subnets(30, 8), max_size=4), st.lists(subnets(32, 8), max_size=4))
def test_overlapping_subnet(subnet, others, routes):
    """A subnet is refused exactly if it overlaps a network or a route, and the error names the one."""
    networks = [(f"net{number}", other) for number, other in enumerate(others)]
    overlapping = [f"network {name}" for name, other in networks if subnet.overlaps(other)]
    overlapping += [f"route to {route}" for route in routes if subnet.overlaps(route)]
    if not overlapping:
        ipam.check_subnet(subnet, networks, routes)
        return
    with pytest.raises(Conflict) as caught:
        ipam.check_subnet(subnet, networks, routes)
    assert any(text in str(caught.value) for text in overlapping)


@pytest.mark.parametrize("text", ["10.1.0.0/31", "10.1.0.0/32"])
def test_subnet_too_small(text):
    """A subnet without room for a gateway and a container is refused."""
    with pytest.raises(InvalidRequest, match="too small"):
        ipam.check_subnet(IPv4Network(text), [], [])


@pytest.mark.parametrize("text", ["0.1.0.0/16", "127.1.0.0/16", "224.1.0.0/16", "239.255.0.0/16", "240.0.0.0/8"])
def test_subnet_without_hosts(text):
    """A loopback, multicast or reserved subnet is refused."""
    with pytest.raises(InvalidRequest, match="not usable"):
        ipam.check_subnet(IPv4Network(text), [], [])


@given(st.ip_addresses(v=4), st.integers(0, 30))
@settings(max_examples=300)
def test_accepted_subnets_hold_hosts_only(address, length):
    """No subnet that is accepted holds an address that no host can have."""
    subnet = IPv4Network((address, length), strict=False)
    try:
        ipam.check_subnet(subnet, [], [])
    except InvalidRequest:
        return
    assert not [part for part in UNUSABLE if subnet.overlaps(part)]


def spec(**wishes) -> NetworkSpec:
    """Return a specification of a network 10.1.0.0/24."""
    return NetworkSpec(name="blue", subnet="10.1.0.0/24", **wishes)


SUBNET = IPv4Network("10.1.0.0/24")
SUBNET6 = IPv6Network("fd00:1::/64")
GOOD_PARTS = [
    {},
    {"gateway": "10.1.0.254"},
    {"ip_range": "10.1.0.0/24"},
    {"ip_range": "10.1.0.128/25", "gateway": "10.1.0.200"},
    {"aux_addresses": {"router": "10.1.0.254", "printer": "10.1.0.2"}},
    {"subnet6": "fd00:1::/64", "gateway6": "fd00:1::ff", "aux_addresses": {"router": "fd00:1::2"}},
]
BAD_PARTS = [
    ({"gateway": "10.1.1.1"}, "gateway 10.1.1.1 is outside"),
    ({"gateway": "10.1.0.0"}, "network or broadcast"),
    ({"gateway": "10.1.0.255"}, "network or broadcast"),
    ({"ip_range": "10.1.1.0/28"}, "ip-range 10.1.1.0/28 is outside"),
    ({"ip_range": "10.1.0.0/16"}, "ip-range 10.1.0.0/16 is outside"),
    ({"aux_addresses": {"router": "10.2.0.1"}}, "aux-address router 10.2.0.1 is outside"),
    ({"aux_addresses": {"router": "10.1.0.255"}}, "network or broadcast"),
    ({"aux_addresses": {"router": "10.1.0.1"}}, "is the gateway"),
    ({"aux_addresses": {"one": "10.1.0.9", "two": "10.1.0.9"}}, "aux-address two 10.1.0.9 is the aux-address one"),
    ({"aux_addresses": {"router": "fd00:2::1"}, "subnet6": "fd00:1::/64"}, "aux-address router fd00:2::1 is outside"),
    ({"subnet6": "fd00:1::/64", "gateway6": "fd00:2::1"}, "gateway fd00:2::1 is outside"),
]


@pytest.mark.parametrize("wishes", GOOD_PARTS, ids=str)
def test_parts_of_the_subnet(wishes):
    """A gateway, range and auxiliary addresses that lie in the subnet of their family, all different, are accepted."""
    wished = spec(**wishes)
    ipam.check_gateways(wished, SUBNET, wished.subnet6)


@pytest.mark.parametrize(("wishes", "words"), BAD_PARTS, ids=str)
def test_parts_outside_the_subnet(wishes, words):
    """A gateway, range or auxiliary address that is no free host address of the subnet is refused."""
    wished = spec(**wishes)
    with pytest.raises(InvalidRequest, match=re.escape(words)):
        ipam.check_gateways(wished, SUBNET, wished.subnet6)


def test_ipv6_part_without_ipv6():
    """An IPv6 auxiliary address in a network without IPv6 is refused, and the hint says how to get it."""
    with pytest.raises(InvalidRequest, match="needs a network with IPv6") as caught:
        ipam.check_gateways(spec(aux_addresses={"router": "fd00:1::2"}), SUBNET, None)
    assert "--ipv6" in caught.value.hint


@given(st.ip_addresses(network=IPv4Network("10.1.0.0/23")))
def test_static_addresses(address):
    """A container may ask for any host address of the subnet but the gateway, also outside the automatic range."""
    net = samples.network(subnet="10.1.0.0/24", ip_range=IPv4Network("10.1.0.128/28"))
    if address == net.gateway:
        with pytest.raises(Conflict, match="gateway"):
            ipam.check_static(net, address)
    elif address in set(net.subnet.hosts()):
        ipam.check_static(net, address)
    else:
        with pytest.raises(InvalidRequest, match=re.escape(str(address))):
            ipam.check_static(net, address)


def test_auxiliary_address_is_nobodys():
    """A container cannot ask for an auxiliary address: somebody else on the subnet has it."""
    net = samples.network(aux_addresses={"router": IPv4Address("10.1.0.9")})
    with pytest.raises(Conflict, match=re.escape("10.1.0.9")):
        ipam.check_static(net, IPv4Address("10.1.0.9"))


@given(st.sets(st.integers(0, 40)), st.integers(0, 20), st.integers(0, 40), st.integers(0, 40))
def test_free_ipv6_addresses(taken, count, gateway, aux):
    """IPv6 addresses are given lowest first too; never the subnet's own, the gateway's, an auxiliary or a taken one."""
    six = {"subnet6": SUBNET6, "gateway6": SUBNET6[gateway or 1], "aux_addresses": {"router": SUBNET6[aux]}}
    net = samples.network(**six)
    nobodys = {SUBNET6[0], six["gateway6"], SUBNET6[aux], *(SUBNET6[number] for number in taken)}
    free = [address for address in map(SUBNET6.__getitem__, range(80)) if address not in nobodys]
    busy = {int(SUBNET6[number]) for number in taken}
    assert ipam.free_addresses(net, 6, busy, count) == free[:count]


def test_small_ipv6_subnet():
    """An IPv6 subnet without room for what is wanted is refused, and the error says how many fit."""
    net = samples.network(subnet6=IPv6Network("fd00:1::/125"), gateway6=IPv6Address("fd00:1::1"))
    with pytest.raises(Exhausted, match="only 5 fit"):
        ipam.free_addresses(net, 6, set(), 6)


@pytest.mark.parametrize("text", ["::/64", "::ffff:0:0/96", "fe80::/64", "ff02::/64", "::/0", "fe00::/7", "fd00::/127"])
def test_ipv6_subnet_without_hosts(text):
    """An IPv6 subnet with loopback, IPv4-mapped, link-local or multicast addresses, or too small, is refused."""
    with pytest.raises(InvalidRequest):
        ipam.check_subnet(IPv6Network(text), [], [])


@given(st.binary(min_size=32, max_size=32))
def test_unique_local_subnet(data):
    """A network's own IPv6 subnet is a /64 of RFC 4193's fd00::/8, a function of the network's id."""
    subnet = ipam.unique_local_subnet(data.hex())
    assert subnet.prefixlen == 64
    assert subnet.subnet_of(IPv6Network("fd00::/8"))
    assert subnet == ipam.unique_local_subnet(data.hex())
    ipam.check_subnet(subnet, [], [])


def test_families_do_not_overlap():
    """A subnet of one family overlaps none of the other."""
    ipam.check_subnet(SUBNET, [("six", SUBNET6)], [SUBNET6])
    ipam.check_subnet(SUBNET6, [("four", SUBNET)], [SUBNET])
    with pytest.raises(Conflict, match="network six"):
        ipam.check_subnet(IPv6Network("fd00:1::/48"), [("six", SUBNET6)], [])


def test_mac_of_dockers_example():
    """The MAC of 172.17.0.2 is the one that Docker gave it up to release 27."""
    assert address.mac_of(IPv4Address("172.17.0.2")) == "02:42:ac:11:00:02"


@given(st.ip_addresses(v=4), st.ip_addresses(v=4))
def test_macs_are_unique_and_local(one, other):
    """Different addresses have different MACs, all unicast and locally administered."""
    first = int(address.mac_of(one)[:2], 16)
    assert first & 0b11 == 0b10
    assume(one != other)
    assert address.mac_of(one) != address.mac_of(other)
