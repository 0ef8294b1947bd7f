"""What cannot be attached is refused in a sentence, and a failure anywhere leaves everything as it was."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

import dnet
from dnet.engine import Engine
from tests.support.attachment_lan import HOST4, make_lan, namespace, state
from tests.support.dnet_commands import run
from tests.support.faults import FaultyKernel, before_ready
from tests.support.hosts import FakeHost, Raised
from tests.support.traffic import neighbour

KINDS: dict[str, dict[str, Any]] = {
    "bridge": {"bridge": "br0", "addresses": ["192.168.1.5/24@192.168.1.1", "fd00:1::5/64@fd00:1::1"]},
    "made bridge": {"bridge": "br9", "addresses": ["10.5.0.1/24@10.6.0.1"], "mtu": 1400},
    "macvlan": {"macvlan": "lan0", "addresses": ["10.3.0.5/24@10.3.0.2"]},
    "direct": {"direct": "lan0", "interface": "wan", "addresses": ["10.3.0.5/24@10.3.0.2"], "mac": "02:00:00:00:00:07"},
}
REFUSED = {
    "no such bridge": (3, ("--bridge", "lan9"), "this host has no interface lan9"),
    "no such parent": (3, ("--macvlan", "eth9"), "this host has no interface eth9"),
    "not a bridge": (2, ("--bridge", "lan0"), "lan0 is not a bridge"),
    "loopback": (2, ("--macvlan", "lo"), "lo is the loopback device"),
    "loopback itself": (2, ("--direct", "lo"), "lo is the loopback device"),
    "port of a bridge": (4, ("--macvlan", "port1"), "port1 is a port of br0"),
    "port of a bridge itself": (4, ("--direct", "port1"), "port1 is a port of br0"),
    "bridge itself": (2, ("--direct", "br0"), "a bridge cannot be moved"),
    "bridge of a network": (2, ("--bridge", "dnet0"), "dnet0 is the bridge of network bridge"),
    "no device": (2, ("-i", "eth5"), "an attachment needs one device"),
    "two devices": (2, ("--bridge", "br0", "--macvlan", "lan0"), "an attachment needs one device"),
    "16 characters": (2, ("--bridge", "br0", "-i", "a-name-too-long0"), "invalid interface name"),
    "VLAN 4095": (2, ("--network", "bridge", "--vlan", "4095"), "invalid VLAN '4095'"),
    "VLAN of a device": (6, ("--bridge", "br0", "--vlan", "7"), "is not divided into VLANs"),
    "no prefix length": (2, ("--bridge", "br0", "--ip", "10.0.0.5"), "invalid address '10.0.0.5'"),
    "own gateway": (2, ("--bridge", "br0", "--ip", "10.0.0.5/8@10.0.0.5"), "own address and its gateway"),
    "two gateways": (2, ("--bridge", "br0", "--gateway", "10.0.0.1", "--gateway", "10.0.0.2"), "two gateways"),
    "address twice": (2, ("--bridge", "br0", "--ip", "10.0.0.5/8", "--ip", "10.0.0.5/16"), "is given twice"),
    "address there": (4, ("--bridge", "br0", "--ip", "10.9.0.2/24"), "address 10.9.0.2 is on up0 of path:/run/netns/x"),
    "name there": (4, ("--bridge", "br0", "-i", "up0"), "has an interface up0 already, which is not dnet's"),
    "mode": (2, ("--macvlan", "lan0", "--mode", "odd"), "there is no macvlan mode 'odd'"),
    "mode of a bridge": (2, ("--bridge", "br0", "--mode", "vepa"), "--mode is for a macvlan"),
    "MAC of a passthru": (
        2,
        ("--macvlan", "lan0", "--mode", "passthru", "--mac-address", "02:00:00:00:00:01"),
        "parent",
    ),
    "MTU of a parent": (2, ("--macvlan", "lan0", "--mtu", "9000"), "is more than that of lan0"),
    "no such network": (3, ("--network", "nowhere"), "there is no network nowhere"),
    "other gateway": (
        2,
        ("--network", "bridge", "--gateway", "10.0.0.1"),
        "the gateway of network bridge is 172.17.0.1",
    ),
    "alias of a device": (2, ("--bridge", "br0", "--alias", "db"), "--alias is for networks of dnet's"),
    "default route of a device": (2, ("--bridge", "br0", "--default-route"), "--default-route is for networks of"),
    "network and dhcp": (2, ("--network", "bridge", "--dhcp"), "has no dhcp"),
}  # fmt: skip


@pytest.fixture
def furnished(host: FakeHost) -> FakeHost:
    """Return a host with a LAN, an interface lan0, a namespace x, and dnet's own network and container."""
    make_lan(host)
    neighbour(host, "lan0", "10.3.0.0/24")
    namespace(host, "x")
    run(host, "create", "web")
    return host


def test_refusals(furnished: FakeHost) -> None:
    """Each wrong request is refused with its exit code and a sentence, and nothing is touched."""
    before, inside = furnished.snapshot(), state(furnished.sandbox("x"))
    for what, (code, arguments, sentence) in REFUSED.items():
        result = run(furnished, "attach", *arguments, "/run/netns/x", code=None)
        assert (what, result.code) == (what, code), result.stderr
        assert sentence in result.stderr, what
    targets = {"/run/netns/nothing": 3, f"pid:{furnished.pid}": 2, "pid:0x1": 2, "/etc/passwd": 2, "pid:4000000": 3}
    for target, code in targets.items():
        assert (target, run(furnished, "attach", "--bridge", "br0", target, code=None).code) == (target, code)
    assert "no interface eth7" in run(furnished, "detach", "web", "-i", "eth7", code=3).stderr
    assert "no interface that dnet attached" in run(furnished, "detach", "/run/netns/x", code=3).stderr
    assert furnished.changes(before) == ""
    assert state(furnished.sandbox("x")) == inside


def test_default_route_stays_with_the_host(host: FakeHost) -> None:
    """The interface that the host's default route goes through is not moved away."""
    neighbour(host, "lan0", "10.3.0.0/24")
    host.run("ip route add default via 10.3.0.2")
    namespace(host, "x")
    refused = run(host, "attach", "--direct", "lan0", "/run/netns/x", code=4)
    assert "the host's default route goes through lan0" in refused.stderr


@pytest.mark.parametrize(("kind", "target"), [*((kind, "/run/netns/x") for kind in KINDS), ("bridge", "web")])
def test_refused_object(furnished: FakeHost, kind: str, target: str) -> None:
    """Whichever object the kernel refuses, the host, the container and the database are as before."""
    space = furnished.sandbox(target.rpartition("/")[2])
    before, outside, inside = unordered_snapshot(furnished), sorted_state(furnished), state(space)
    refused = []
    for number in range(40):
        outcome = furnished.call(attach, furnished.directories, target, kind, number)
        if not outcome["error"]:
            break
        refused.append(outcome["refused"])
        assert outcome["notes"] == [], refused[-1]
        assert sorted_state(furnished) == outside, refused[-1]
        assert state(space) == inside, refused[-1]
    assert len(refused) > 6
    run(furnished, "detach", target)
    assert state(space) == inside
    assert unordered_snapshot(furnished) == before


def sorted_state(host: FakeHost) -> dict[str, Any]:
    """Return links, addresses and routes of the host, in any order, and what dnet remembers."""
    tables = ("container", "attachment", "endpoint", "route", "made_bridge")
    now = state(host)
    found = {key: sorted(map(str, now[key])) for key in ("links", "4", "6")} | {"addresses": now["addresses"]}
    return found | {table: host.rows(f"SELECT * FROM {table}") for table in tables}


def unordered_snapshot(host: FakeHost) -> dict[str, Any]:
    """Return a snapshot in which routes of the same destination may have another order than before."""
    found = host.snapshot()
    return found | {key: sorted(json.dumps(way, sort_keys=True) for way in found[key]) for key in ("routes", "routes6")}


def attach(directories: tuple[str, str], target: str, kind: str, fail_at: int) -> dict[str, Any]:
    """Attach with a kernel that refuses an object; return the error, if any."""
    kernel = FaultyKernel(lambda _: None, fail_at)
    with Engine(*directories, lambda _: None, kernel, None) as engine:
        try:
            engine.attach(target, **KINDS[kind])
        except dnet.DnetError as error:
            return {"error": str(error), "refused": str(kernel.refused), "notes": getattr(error, "__notes__", [])}
    return {"error": ""}


def test_one_of_many(furnished: FakeHost) -> None:
    """When one of several containers cannot be attached, none is."""
    run(furnished, "create", "db")
    before = furnished.snapshot()
    refused = furnished.call(many, furnished.directories, 14)
    assert refused.startswith("cannot create")
    assert furnished.changes(before) == ""
    assert furnished.call(many, furnished.directories, -1) == ""
    assert [one["target"] for one in run(furnished, "attachment", "ls", "--json").json] == ["web", "db"]


def many(directories: tuple[str, str], fail_at: int) -> str:
    """Attach two containers at once; return the error."""
    with Engine(*directories, lambda _: None, FaultyKernel(lambda _: None, fail_at), None) as engine:
        try:
            engine.attach_many(["web", "db"], dnet.AttachmentSpec(bridge="br0"))
        except dnet.DnetError as error:
            return str(error)
    return ""


def test_several_cannot_share(furnished: FakeHost) -> None:
    """Several containers cannot be given the same address or the same interface."""
    run(furnished, "create", "db")
    same = run(furnished, "attach", "--bridge", "br0", "--ip", "192.168.1.5/24", "web", "db", code=2)
    assert "several containers cannot have the same address" in same.stderr


def test_killed_in_between(furnished: FakeHost) -> None:
    """What a killed process left half attached is taken away by the next command that changes something."""
    space = furnished.sandbox("x")
    before, inside = state(furnished), state(space)
    with pytest.raises((AssertionError, Raised)):
        furnished.call(attach_and_die, furnished.directories)
    assert "eth0" in [name for name, *_ in state(space)["links"]]
    run(furnished, "network", "prune")
    assert state(space) == inside
    assert state(furnished) == before
    assert furnished.rows("SELECT * FROM attachment") == []
    assert [name for (name,) in furnished.rows("SELECT name FROM container")] == ["web"]


def attach_and_die(directories: tuple[str, str]) -> None:
    """Attach, and be killed when the kernel's work is done and the database does not know."""
    import os

    with dnet.open(*directories) as engine:
        before_ready(engine._store, lambda: os.kill(os.getpid(), signal.SIGKILL))
        engine.attach("/run/netns/x", bridge="br0", addresses=[f"192.168.1.5/24@{HOST4}"])
