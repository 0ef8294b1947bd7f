"""pipework's command lines do what pipework does: interfaces, addresses and routes as ip sees them in the container."""

from __future__ import annotations

import subprocess

from tests.support.attachment_lan import (
    HOST4,
    HOST6,
    PEER4,
    default,
    device,
    global_addresses,
    make_lan,
    names,
    namespace,
    routes,
)
from tests.support.dnet_commands import run
from tests.support.hosts import FakeHost, program, wait_until
from tests.support.traffic import neighbour

X = "/run/netns/x"


def pipework(host: FakeHost, *words: str, code: int | None = 0) -> str:
    """Run a command line of pipework's, and return what it says."""
    result = run(host, "pipework", *words, code=code)
    return result.stdout + result.stderr


def test_bridge(host: FakeHost) -> None:
    """HOSTIF a bridge: eth1, the address, and the gateway in place of the default route; a second time is once."""
    peer, space = make_lan(host), namespace(host, "x")
    for _ in range(2):
        assert pipework(host, "br0", X, f"192.168.1.150/24@{HOST4}") == ""
    assert global_addresses(space, "eth1") == ["192.168.1.150/24"]
    assert default(space) == [(HOST4, "eth1")]
    assert peer.can_ping("192.168.1.150")
    pipework(host, "br0", "-i", "eth2", "-l", "hostend2", X, "192.168.1.151/24", "02:00:00:00:00:09")
    assert device(space, "eth2")["address"] == "02:00:00:00:00:09"
    assert device(host, "hostend2")["master"] == "br0"
    pipework(host, "br0", "-i", "eth3", "-a", "6", X, f"fd00:1::9/64@{HOST6}")
    assert default(space, 6) == [(HOST6, "eth3")]
    assert default(space) == [(HOST4, "eth1")]
    pipework(host, "br0", "-i", "eth4", X, "0/0", "U:web")
    assert (global_addresses(space, "eth4"), device(space, "eth4")["address"]) == ([], "02:64:d4:20:24:f1")
    run(host, "detach", X, "-i", "eth1")
    assert default(space) == [("10.9.0.1", "up0")]


def test_bridge_that_is_missing(host: FakeHost) -> None:
    """br... is made; other names that the host does not have are not understood."""
    one, _ = namespace(host, "one"), namespace(host, "two")
    pipework(host, "br1", "/run/netns/one", "192.168.7.1/24")
    pipework(host, "br1", "/run/netns/two", "192.168.7.2/24")
    assert one.can_ping("192.168.7.2")
    assert "this host has no interface eth9" in pipework(host, "eth9", "/run/netns/one", "192.168.7.3/24", code=2)
    assert "did you mean 192.168.7.3/24?" in pipework(host, "br1", "/run/netns/one", "192.168.7.3", code=2)
    assert "VLAN 7" in pipework(host, "br1", "/run/netns/one", "192.168.7.3/24", "@7", code=6)


def test_physical_interface(host: FakeHost) -> None:
    """HOSTIF a physical interface, by its name or MAC address: a macvlan on it; with --direct-phys, itself."""
    outside, space = neighbour(host, "lan0", "10.3.0.0/24"), namespace(host, "x")
    pipework(host, "lan0", X, "10.3.0.9/24")
    assert device(space, "eth1")["linkinfo"]["info_data"]["mode"] == "bridge"
    assert outside.can_ping("10.3.0.9")
    pipework(host, f"mac:{device(host, 'lan0')['address'].upper()}", "-i", "eth2", X, "10.3.0.10/24")
    assert outside.can_ping("10.3.0.10")
    for name in ("eth1", "eth2"):
        run(host, "detach", X, "-i", name)
    pipework(host, "--direct-phys", "lan0", X, "10.3.0.11/24")
    assert "lan0" not in names(host)
    wait_until(lambda: outside.can_ping("10.3.0.11"), "the neighbour reaches it")
    run(host, "detach", X)
    assert global_addresses(host, "lan0") == ["10.3.0.1/24"]


def test_tools(host: FakeHost) -> None:
    """route, rule and tc are run in the container; a route that dnet understands is kept."""
    space = namespace(host, "x")
    pipework(host, "route", X, "add", "10.50.0.0/16", "via", "10.9.0.7")
    assert ("10.50.0.0/16", "10.9.0.7", "up0") in routes(space)
    assert [one["destination"] for one in run(host, "route", "ls", "--json", X).json if one["origin"]] == [
        "10.50.0.0/16"
    ]
    pipework(host, "route", X, "del", "10.50.0.0/16")
    pipework(host, "route", X, "add", "10.51.0.0/16", "via", "10.9.0.7", "table", "7")
    assert [way["dst"] for way in space.json("ip -j route show table 7")] == ["10.51.0.0/16"]
    pipework(host, "rule", X, "add", "from", "10.9.0.0/24", "table", "7")
    assert "from 10.9.0.0/24 lookup 7" in space.run("ip rule").stdout
    shown = host.dnet("pipework", "route", X, "show", "default")
    assert shown.stdout.startswith("default via 10.9.0.1 dev up0")
    pipework(
        host, "tc", X, "qdisc", "add", "dev", "up0", "root", "tbf", "rate", "1mbit", "burst", "10kb", "latency", "9ms"
    )
    assert "tbf" in space.run("tc qdisc show dev up0").stdout
    assert host.dnet("pipework", "route", X, "del", "10.77.0.0/16", code=None).code == 2  # iproute2's own


def test_wait(host: FakeHost) -> None:
    """--wait, run inside the container, ends when the interface is there and has a carrier."""
    make_lan(host)
    space = namespace(host, "x")
    waiting = space.start(program(), "pipework", "--wait", "-i", "lan1", stdout=subprocess.PIPE)
    other = space.start(program(), "pipework", "--wait", stdout=subprocess.PIPE)
    pipework(host, "br0", X, "0/0")
    assert other.wait(10) == 0
    assert waiting.poll() is None
    pipework(host, "br0", "-i", "lan1", X, "0/0")
    assert waiting.wait(10) == 0
    assert space.run("ip -j link show lan1").json[0]["operstate"] == "UP"


def test_own_container(host: FakeHost) -> None:
    """The guest may be one of dnet's own containers."""
    peer = make_lan(host)
    run(host, "create", "web")
    pipework(host, "br0", "web", "192.168.1.150/24")
    assert peer.can_ping("192.168.1.150")
    assert host.sandbox("web").can_ping(PEER4)


def test_help(host: FakeHost) -> None:
    """Without words it says how it is used; words that are not pipework's are refused with a hint."""
    assert "HOSTIF" in run(host, "pipework", "--help").stdout
    assert "HOSTIF" in run(host, "pipework", code=2).stdout
    assert "there is no such option" in pipework(host, "br0", "-x", "y", X, "0/0", code=2)
