"""A host on a LAN, and the machine on it that is the way further."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.adopted_lan import FAR, FAR6, HOST, HOST6, MACHINE, MACHINE6, add_container, make_network
from tests.support.hosts import FakeHost, Namespace
from tests.support.uplink_lan import (
    Switch,
    enrich,
)


@pytest.fixture
def switch(host: FakeHost) -> Switch:
    """Return the switch that the host's eth1 is plugged into."""
    found = Switch(host)
    found.plug(host, "eth1", f"{HOST}/24", f"{HOST6}/64")
    return found


@pytest.fixture
def machine(switch: Switch) -> Namespace:
    """Return another machine on the LAN, which is the way to 198.51.100.1 and 2001:db8:1::1."""
    return switch.machine("machine", f"{MACHINE}/24", f"{MACHINE6}/64", f"{FAR}/32", f"{FAR6}/128")


@pytest.fixture
def routed(host: FakeHost, machine: Namespace) -> Namespace:
    """Return the machine on the LAN, through which the host's default routes go."""
    host.run(
        "sh", "-c", f"ip route add default via {MACHINE} metric 100; ip -6 route add default via {MACHINE6} metric 90"
    )
    return machine


@pytest.fixture
def other(tmp_path: Path) -> Iterator[FakeHost]:
    """Yield a second host."""
    (tmp_path / "other").mkdir()
    with FakeHost(tmp_path / "other") as fake:
        yield fake


@pytest.fixture
def rich(host: FakeHost, switch: Switch) -> str:  # noqa: ARG001
    """Give the host an interface with all that one can have, and a network; return its bridge."""
    bridge = make_network(host)
    add_container(host, "web")
    enrich(host)
    return bridge
