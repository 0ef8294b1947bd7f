"""A LAN of both families around the fake host."""

from __future__ import annotations

import pytest

from tests.support.hosts import FakeHost, Neighbour
from tests.support.traffic import neighbour


@pytest.fixture
def lan(host: FakeHost) -> Neighbour:
    """Return the host's way to the world over IPv4 and IPv6: a neighbour, behind it 198.51.100.1 and 2001:db8:1::1.

    It knows no way back to any container.
    """
    # That a veth has come up is told at once, unless its ends have equal indexes (linkwatch_urgent_event): then IPv6
    # waits up to a second. The first device of a namespace is number 2, so that this one has to be another.
    host.ip("link add pad type bridge", "link delete pad")
    world = neighbour(host, "lan", "192.0.2.0/24", "2001:db8::/64")
    world.ip("address add 198.51.100.1/32 dev lo", "address add 2001:db8:1::1/128 dev lo nodad")
    host.ip("route add default via 192.0.2.2", "route add default via 2001:db8::2")
    return world
