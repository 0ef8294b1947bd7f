"""What the store's rows mean: which endpoint of a container has the default route."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from itertools import permutations

import pytest

from dnet.model.default_route import order, with_gateways
from tests.support import samples

SIX = {"subnet6": IPv6Network("fd00:6::/64"), "gateway6": IPv6Address("fd00:6::1")}


def chosen(*wanted: tuple[str, dict]) -> tuple[str, str]:
    """Return the networks that the default routes of IPv4 and IPv6 go through.

    Each of `wanted` is a network's name and its settings: `six`, `internal`, and the endpoint's `priority`. The order
    in which they come must not matter.
    """
    found = set()
    for some in permutations(wanted):
        networks, ends = {}, []
        for number, (name, wish) in enumerate(some):
            six = SIX if wish.get("six") else {}
            net = samples.network(name, f"10.{number}.0.0/24", internal=wish.get("internal", False), **six)
            address6 = IPv6Interface(f"fd00:6::{number + 2}/64") if six else None
            networks[net.id] = net
            ends.append(
                samples.endpoint(
                    net,
                    f"10.{number}.0.2",
                    interface=f"eth{number}",
                    address6=address6,
                    gateway6=net.gateway6 if six and not net.internal else None,
                    gateway_priority=wish.get("priority", 0),
                )
            )
        made = with_gateways(ends, networks)
        fours = [end.network for end in made if end.gateway]
        sixes = [end.network for end in made if end.gateway6]
        assert len(fours) <= 1
        assert len(sixes) <= 1
        found.add(("".join(fours), "".join(sixes)))
    (choice,) = found
    return choice


@pytest.mark.parametrize(
    ("wanted", "choice"),
    [
        ([("b", {}), ("a", {}), ("c", {})], ("a", "")),
        ([("a", {}), ("b", {"priority": 1})], ("b", "")),
        ([("a", {"priority": -1}), ("b", {})], ("b", "")),
        ([("a", {}), ("b", {"six": True})], ("b", "b")),
        ([("a", {"priority": 1}), ("b", {"six": True})], ("a", "b")),
        ([("a", {"six": True}), ("b", {"six": True, "priority": 1}), ("c", {"priority": 2})], ("c", "b")),
        ([("a", {"internal": True}), ("b", {})], ("b", "")),
        ([("a", {"internal": True, "six": True, "priority": 9}), ("b", {})], ("b", "")),
        ([("a", {"internal": True}), ("b", {"internal": True})], ("", "")),
        ([("a", {"six": True})], ("a", "a")),
        ([("a", {"internal": True})], ("", "")),
        ([], ("", "")),
    ],
    ids=str,
)
def test_default_route(wanted, choice):
    """Priority, then both families, then the name; each family by itself, and never an internal network."""
    assert chosen(*wanted) == choice


def test_the_one_that_is_left_has_the_default_route():
    """A network that another one was preferred to has the default route when it is the only one left."""
    one, other = samples.network("a", "10.1.0.0/24"), samples.network("b", "10.2.0.0/24")
    networks = {net.id: net for net in (one, other)}
    ends = [samples.endpoint(one, "10.1.0.2"), samples.endpoint(other, "10.2.0.2", interface="eth1")]
    both = with_gateways(ends, networks)
    assert [end.gateway for end in both] == [one.gateway, None]
    (left,) = with_gateways(both[1:], networks)
    assert left.gateway == other.gateway


def test_interfaces_are_in_order():
    """Endpoints come by the numbers of their interfaces; those without one come last, by name."""
    names = ["wan", "eth10", "eth2", "lan", "eth0"]
    assert sorted(names, key=order) == ["eth0", "eth2", "eth10", "lan", "wan"]
    net = samples.network()
    ends = [samples.endpoint(net, f"10.1.0.{number + 2}", interface=name) for number, name in enumerate(names)]
    assert [end.interface for end in with_gateways(ends, {net.id: net})] == sorted(names, key=order)
