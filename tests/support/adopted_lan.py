"""Network lan, which adopts the host's interface, and containers on it."""

from __future__ import annotations

from tests.support.dnet_commands import bridge_of, network, run
from tests.support.hosts import FakeHost, Namespace

HOST, MACHINE, FAR = "192.0.2.10", "192.0.2.2", "198.51.100.1"
HOST6, MACHINE6, FAR6 = "2001:db8::10", "2001:db8::2", "2001:db8:1::1"


def make_network(host: FakeHost, *options: str) -> str:
    """Create network lan and return its bridge."""
    return bridge_of(network(host, "lan", *(options or ("--subnet", "10.1.0.0/16"))))


def add_container(host: FakeHost, name: str, *options: str) -> Namespace:
    """Create a container on network lan."""
    run(host, "create", "--network", "lan", *options, name)
    return host.sandbox(name)
