"""An interface of the host's becomes a trunk of a network that keeps VLANs apart, and is given back."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dnet
from dnet.engine import Engine
from dnet.errors import KernelRefused
from dnet.linux.bpf import Bpf
from dnet.linux.nftables import Nft
from dnet.transaction.recovery import prepare
from dnet.transaction.vlans import enable_vlans
from tests.support.dnet_commands import bridge_of, network, run
from tests.support.faults import FaultyKernel
from tests.support.hosts import FakeHost, Namespace, wait_until
from tests.support.traffic import ping_all
from tests.support.uplink_lan import (
    Switch,
    addresses,
    adopt_and_die,
    adopt_with_fault,
    enrich,
    is_adopted,
    link,
    streaming,
    tags,
    uplink_changes,
    uplink_state,
)

# By what VLANs are kept apart: the tc programs, and, in `make test-vm`, the bridge's own filtering.
BACKENDS = ["bpf", "bridge"] if os.environ.get("DNET_TEST_VM") else ["bpf"]
HOST, OTHER, MACHINE = "192.0.2.10", "192.0.2.20", "192.0.2.2"
EVERY = "trunk 1-4094 native 1"


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Return what keeps VLANs apart."""
    return str(request.param)


@pytest.fixture
def switch(host: FakeHost) -> Switch:
    """Return the switch that the host's eth1 is plugged into; it passes tagged frames as they are."""
    found = Switch(host)
    found.plug(host, "eth1", f"{HOST}/24")
    return found


@pytest.fixture
def machine(switch: Switch) -> Namespace:
    """Return a machine on the switch that knows nothing of VLANs."""
    return switch.machine("machine", f"{MACHINE}/24")


@pytest.fixture
def other(tmp_path: Path, switch: Switch) -> Iterator[FakeHost]:
    """Yield a second host on the switch."""
    (tmp_path / "other").mkdir()
    with FakeHost(tmp_path / "other") as fake:
        switch.plug(fake, "eth1", f"{OTHER}/24")
        yield fake


@pytest.fixture
def bridge(host: FakeHost, machine: Namespace, backend: str) -> str:  # noqa: ARG001
    """Create network lan with containers in VLANs 1, 101 and 102, and return its bridge."""
    made = lab(host, 1, backend)
    for vlan in (1, 101, 102):
        box(host, 1, vlan)
    return made


def lab(host: FakeHost, number: int, backend: str = "bpf") -> str:
    """Create host number so and so's part of network lan, its gateway in VLAN 1, and return its bridge."""
    options = ("--gateway", f"10.1.0.{number}", "--ip-range", f"10.1.{number}.0/24", "-o", f"vlan_backend={backend}")
    return bridge_of(network(host, "lan", "--subnet", "10.1.0.0/16", *options))


def box(host: FakeHost, number: int, vlan: int) -> tuple[Namespace, str]:
    """Create a container in a VLAN; return it and its address."""
    address = f"10.1.{number}.{vlan}"
    run(host, "create", "--network", "lan", "--ip", address, "--vlan", str(vlan), f"v{vlan}")
    return host.sandbox(f"v{vlan}"), address


def adopted(host: FakeHost, *options: str) -> None:
    """Adopt eth1."""
    run(host, "network", "adopt", *options, "lan", "eth1")


# What it is for


def test_two_hosts_joined_by_a_trunk(host: FakeHost, other: FakeHost, backend: str) -> None:
    """Containers on two hosts reach those of their own VLAN on both, and nobody else; hosts are in VLAN 1."""
    boxes: dict[int, list[tuple[Namespace, str]]] = {1: [], 101: [], 102: []}
    for number, place in enumerate((host, other), 1):
        lab(place, number, backend)
        for vlan, members in boxes.items():
            members.append(box(place, number, vlan))
        adopted(place)
    for here, there in boxes.values():
        assert here[0].can_ping(there[1])
        assert there[0].can_ping(here[1])
    strangers = [
        (boxes[vlan][side][0], boxes[foreign][1 - side][1])
        for vlan in boxes
        for foreign in boxes.keys() - {vlan}
        for side in (0, 1)
    ]
    assert not any(ping_all(*strangers, (boxes[101][0][0], "10.1.0.2"), (host, boxes[101][1][1])))
    assert boxes[1][0][0].can_ping("10.1.0.2")
    assert host.can_ping(OTHER)
    assert host.can_ping("10.1.0.2")
    assert host.can_ping(boxes[1][1][1])


def test_tags_on_the_wire(host: FakeHost, switch: Switch, bridge: str) -> None:  # noqa: ARG001
    """On the wire frames carry the tag of their VLAN, and those of the host's own none, as before."""
    adopted(host)
    pings = {f"10.1.200.{vlan}": host.sandbox(f"v{vlan}") for vlan in (1, 101, 102)}
    assert tags(switch.space, "p1", {**pings, MACHINE: host}) == {
        "10.1.200.1": {""},
        "10.1.200.101": {"101"},
        "10.1.200.102": {"102"},
        MACHINE: {""},
    }


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        (("--trunk", "101,200-300", "--native", "1"), {1: {""}, 101: {"101"}, 102: set()}),
        (("--trunk", "1,102"), {1: {"1"}, 101: set(), 102: {"102"}}),
        (("--vlan", "101"), {1: set(), 101: {""}, 102: set()}),
    ],
    ids=["some", "host-tagged", "access"],
)
def test_some_vlans(
    host: FakeHost, switch: Switch, bridge: str, options: tuple[str, ...], seen: dict[int, set[str]]
) -> None:
    """Only the VLANs that were asked for are on the wire, with their tags or without."""
    del bridge
    adopted(host, "--yes", *options)
    pings = {f"10.1.200.{vlan}": host.sandbox(f"v{vlan}") for vlan in seen}
    assert list(tags(switch.space, "p1", pings).values()) == list(seen.values())
    run(host, "network", "adopt", "--undo", "lan", "eth1")
    assert host.can_ping(MACHINE)


def test_what_comes_in(host: FakeHost, machine: Namespace, bridge: str) -> None:
    """A machine that sends no tags is with the host and VLAN 1, and reaches no other VLAN."""
    del bridge
    adopted(host)
    machine.run("ip address add 10.1.0.9/16 dev eth0")
    assert machine.can_ping("10.1.0.1")
    assert machine.can_ping("10.1.1.1")
    assert not machine.can_ping("10.1.1.101")
    assert machine.can_ping(HOST)


@pytest.mark.parametrize("is_server", [False, True], ids=["from", "to"])
def test_connections_go_on(host: FakeHost, machine: Namespace, bridge: str, tmp_path: Path, *, is_server: bool) -> None:
    """A connection of the host's through the interface goes on through adopting, other VLANs, and giving back."""
    ends = (host, HOST, machine) if is_server else (machine, MACHINE, host)
    with streaming(*ends, tmp_path / "count") as stream:
        adopted(host)
        assert addresses(host, bridge) == ["10.1.0.1/16", f"{HOST}/24"]
        stream.flows()
        adopted(host, "--trunk", "101", "--native", "1")
        stream.flows()
        run(host, "network", "adopt", "--undo", "lan", "eth1")
        assert not is_adopted(host)
        stream.flows()


def test_all_comes_back(host: FakeHost, bridge: str) -> None:
    """After --undo all is as it was: devices, addresses, routes, rules, tc hooks, the database."""
    del bridge
    before = uplink_state(host)
    adopted(host)
    assert is_adopted(host)
    assert uplink_changes(before, uplink_state(host))
    run(host, "network", "adopt", "--undo", "lan", "eth1")
    assert uplink_changes(before, uplink_state(host)) == ""
    adopted(host)
    adopted(host, "--trunk", "7", "--native", "1")
    run(host, "network", "adopt", "--undo", "lan", "eth1")
    assert uplink_changes(before, uplink_state(host)) == ""


def test_shown(host: FakeHost, bridge: str) -> None:
    """A dry run, `network inspect` and `vlan ls` tell the VLANs of an uplink."""
    before = uplink_state(host)
    lines = run(host, "network", "adopt", "--dry-run", "lan", "eth1").stdout.splitlines()
    if "VLAN filter on eth1" in lines:
        assert lines[0] == f"{EVERY} on eth1"
        assert lines.index("VLAN filter on eth1") + 1 == lines.index(f"port eth1 of {bridge}")
    else:
        assert lines.index(f"port eth1 of {bridge}") + 1 == lines.index("VLANs 2-4094, 1 untagged on eth1")
    assert uplink_changes(before, uplink_state(host)) == ""
    adopted(host)
    assert run(host, "network", "inspect", "lan").json[0]["UplinkVlans"] == {"eth1": EVERY}
    [row] = [item for item in run(host, "vlan", "ls", "--json").json if item["port"] == "uplink"]
    assert (row["network"], row["interface"], row["trunk"], row["native"]) == ("lan", "eth1", "1-4094", 1)
    assert "(uplink)" in run(host, "vlan", "ls").stdout
    assert run(host, "network", "adopt", "--dry-run", "lan", "eth1").stdout == ""
    changing = run(host, "network", "adopt", "--dry-run", "--trunk", "9", "--native", "1", "lan", "eth1").stdout
    assert changing in {"trunk 1,9 native 1 on eth1\n", "VLANs 9, 1 untagged on eth1\n"}


# All or nothing


def test_refused_object(host: FakeHost, bridge: str) -> None:
    """Whichever object is refused, all is as it was."""
    del bridge
    enrich(host)
    before = uplink_state(host)
    refused = []
    while "refused" in (outcome := host.call(adopt_with_fault, host.directories, len(refused))):
        assert outcome["notes"] == [], outcome
        assert uplink_changes(before, uplink_state(host)) == "", outcome["refused"]
        refused.append(outcome["refused"])
    assert {"VLAN filter on eth1", "VLANs 2-4094, 1 untagged on eth1"} & set(refused)
    assert len(refused) > 60


def adopt_without_map(directories: tuple[str, str]) -> str:
    """Adopt eth1 when the VLAN map takes no entry; return the refusal."""

    def refuse(*_: object) -> None:
        raise KernelRefused("set entries of the VLAN map", 12, "Cannot allocate memory")

    Bpf.set_ports = refuse  # type: ignore[method-assign]  # in a child process of the test's
    with Engine(*directories) as engine:
        try:
            engine.adopt("lan", "eth1", assume_yes=True)
        except dnet.DnetError as error:
            return str(error)
    return ""


def test_map_that_takes_no_entry(host: FakeHost, machine: Namespace) -> None:
    """Without an entry in the VLAN map nothing is moved."""
    lab(host, 1)
    before = uplink_state(host)
    assert "VLAN map" in host.call(adopt_without_map, host.directories)
    assert uplink_changes(before, uplink_state(host)) == ""
    assert machine.can_ping(HOST)


def until_port(group: list[Any]) -> int:
    """Return how many objects it takes until eth1 is a port, and has no address any more; 0 if it becomes none."""
    return next((number + 2 for number, item in enumerate(group) if str(item).startswith("port eth1")), 0)


def test_killed_in_the_middle(host: FakeHost, bridge: str) -> None:
    """What a command that was killed in the middle has moved, the next one gives back, tc hooks too."""
    del bridge
    before = uplink_state(host)
    assert host.call(adopt_and_die, host.directories, until_port)
    assert "master" in link(host, "eth1")
    assert "gave back interface eth1" in run(host, "network", "rm", "absent", code=3).stderr
    assert uplink_changes(before, uplink_state(host)) == ""


# A network that comes to have VLANs


@pytest.fixture
def plain(host: FakeHost, machine: Namespace) -> str:  # noqa: ARG001
    """Create network lan without VLANs, a container on it, and eth1 adopted; return its bridge."""
    made = bridge_of(network(host, "lan", "--subnet", "10.1.0.0/16"))
    run(host, "create", "--network", "lan", "--ip", "10.1.1.1", "old")
    adopted(host)
    return made


def test_network_that_comes_to_have_vlans(host: FakeHost, machine: Namespace, plain: str, tmp_path: Path) -> None:
    """With the first VLAN an adopted interface becomes a trunk of all; connections and who was there go on."""
    machine.run("ip address add 10.1.0.9/16 dev eth0")
    with streaming(machine, MACHINE, host, tmp_path / "count") as stream:
        said = run(host, "create", "--network", "lan", "--ip", "10.1.1.101", "--vlan", "101", "v101").stderr
        stream.flows()
    assert f"interface eth1 passes VLANs of network lan from now on: {EVERY}" in said
    assert machine.can_ping("10.1.1.1")
    assert not machine.can_ping("10.1.1.101")
    run(host, "network", "adopt", "--undo", "lan", "eth1")
    assert addresses(host, "eth1") == [f"{HOST}/24"]
    assert addresses(host, plain) == ["10.1.0.1/16"]
    assert machine.can_ping(HOST)


def turn(directories: tuple[str, str], fail_at: int) -> dict[str, Any]:
    """Create the first container in a VLAN with a fault in one object, up to those of the container."""
    kernel = FaultyKernel(lambda _: None, fail_at)
    with Engine(*directories, lambda _: None, kernel, Nft()) as engine:
        try:
            prepare(engine._context)
            enable_vlans(engine._context, "lan", "bpf")
        except dnet.DnetError as error:
            return {"refused": str(kernel.refused), "notes": getattr(error, "__notes__", [])}
        return {}


def test_change_that_is_refused(host: FakeHost, plain: str) -> None:
    """Whichever object of that change is refused, the network goes on without VLANs, and the interface with it."""
    del plain
    before = uplink_state(host)
    refused = []
    while "refused" in (outcome := host.call(turn, host.directories, len(refused))):
        assert outcome["notes"] == [], outcome
        assert uplink_changes(before, uplink_state(host)) == "", outcome["refused"]
        refused.append(outcome["refused"])
    assert "VLAN filter on eth1" in refused


# Remembering and mending


def keeps_apart(host: FakeHost, machine: Namespace) -> bool:
    """Whether a machine without tags reaches VLAN 1 and nothing else; it is given an address of the network's first."""
    machine.run("sh", "-c", "ip address replace 10.1.0.9/16 dev eth0")
    reached = ping_all(*((machine, f"10.1.1.{vlan}") for vlan in (1, 101, 102)))
    return reached == [True, False, False] and host.can_ping(MACHINE)


def forget_entry(directory: str, index: int) -> None:
    """Take a device out of the VLAN map, as somebody with bpftool might."""
    bpf = Bpf(directory)
    bpf.delete_ports([index])
    bpf.close()


@pytest.mark.parametrize("damage", ["hook", "entry"])
def test_reconcile_mends(host: FakeHost, machine: Namespace, switch: Switch, damage: str) -> None:
    """What somebody has deleted of what keeps an uplink's VLANs apart, reconcile finds and makes again."""
    lab(host, 1)
    for vlan in (1, 101, 102):
        box(host, 1, vlan)
    adopted(host)
    if damage == "hook":
        host.run("tc qdisc del dev eth1 clsact")
        what = "VLAN filter on eth1"
    else:
        host.call(forget_entry, f"{host.run_dir}/bpf", link(host, "eth1")["ifindex"])
        what = f"{EVERY} on eth1"
    assert not keeps_apart(host, machine)
    assert run(host, "reconcile", "--dry-run", code=10).stdout == f"missing: {what}\n"
    assert run(host, "reconcile").stdout == f"made again: {what}\n"
    assert run(host, "reconcile", "--dry-run").stdout == ""
    assert keeps_apart(host, machine)
    assert tags(switch.space, "p1", {"10.1.200.1": host.sandbox("v101")}) == {"10.1.200.1": {"101"}}


def test_port_that_somebody_took_out(host: FakeHost, machine: Namespace, bridge: str) -> None:
    """An interface that somebody has taken out of the bridge is a port again after reconcile, and all comes back."""
    adopted(host)
    host.run("ip link set eth1 nomaster")
    assert "interface eth1 on network lan" in run(host, "reconcile", "--dry-run", code=10).stdout
    run(host, "reconcile")
    assert run(host, "reconcile", "--dry-run").stdout == ""
    assert keeps_apart(host, machine)
    run(host, "network", "adopt", "--undo", "lan", "eth1")
    assert addresses(host, "eth1") == [f"{HOST}/24"]
    assert addresses(host, bridge) == ["10.1.0.1/16"]
    assert machine.can_ping(HOST)


def test_bridge_that_somebody_deleted(host: FakeHost, machine: Namespace, bridge: str) -> None:
    """When somebody deletes the bridge, the next reconcile makes bridge, port and VLANs again."""
    adopted(host)
    host.run(f"ip link delete {bridge}")
    run(host, "reconcile")
    assert run(host, "reconcile", "--dry-run").stdout == ""
    assert keeps_apart(host, machine)
    run(host, "network", "adopt", "--undo", "lan", "eth1")
    assert addresses(host, "eth1") == [f"{HOST}/24"]
    assert "clsact" not in host.run("tc qdisc show dev eth1").stdout
    assert machine.can_ping(HOST)


def test_bridge_is_made_again_without_the_interface(host: FakeHost, machine: Namespace, bridge: str) -> None:
    """A bridge that a command makes again puts no tc hooks on an interface that is no port of it."""
    adopted(host)
    host.run(f"ip link delete {bridge}")
    host.run("sh", "-c", f"tc qdisc del dev eth1 clsact; ip address add {HOST}/24 dev eth1")
    said = run(host, "create", "--network", "lan", "--vlan", "5", "late").stderr
    assert "interface eth1 is not on network lan any more: dnet network adopt lan eth1" in said
    assert machine.can_ping(HOST)
    adopted(host)
    assert keeps_apart(host, machine)


def test_interface_that_is_gone(host: FakeHost, bridge: str, switch: Switch) -> None:
    """What was moved from an interface that is gone is taken off the bridge; one of its name can be adopted."""
    adopted(host)
    host.run("ip link delete eth1")
    run(host, "network", "adopt", "--undo", "lan", "eth1")
    assert addresses(host, bridge) == ["10.1.0.1/16"]
    switch.plug(host, "eth1", f"{HOST}/24")
    adopted(host)
    assert is_adopted(host)


@pytest.mark.skipif("DNET_TEST_VM" in os.environ, reason="there, a fake host's directories are below its own /run")
def test_after_a_reboot(tmp_path: Path) -> None:
    """After a reboot, `dnet restore` makes the interface a port again, in the VLANs that it was in."""
    directory = tmp_path / "state of both"
    directory.mkdir()
    with FakeHost(directory) as host:
        Switch(host).plug(host, "eth1", f"{HOST}/24")
        lab(host, 1)
        for vlan in (1, 101, 102):
            box(host, 1, vlan)
        adopted(host, "--trunk", "101", "--native", "1")
    with FakeHost(directory) as host:
        host.run("sh", "-c", "echo another >/run/boot; mount --bind /run/boot /proc/sys/kernel/random/boot_id")
        host.run("sh", "-c", "ip link add pad type bridge; ip link delete pad")  # so that eth1 has another number
        switch = Switch(host)
        switch.plug(host, "eth1", f"{HOST}/24")
        machine = switch.machine("machine", f"{MACHINE}/24")
        run(host, "restore")
        assert run(host, "reconcile", "--dry-run").stdout == ""
        wait_until(lambda: host.can_ping(MACHINE), "links are up")
        assert keeps_apart(host, machine)
        pings = {f"10.1.200.{vlan}": host.sandbox(f"v{vlan}") for vlan in (101, 102)}
        assert tags(switch.space, "p1", pings) == {"10.1.200.101": {"101"}, "10.1.200.102": set()}
        run(host, "network", "adopt", "--undo", "lan", "eth1")
        assert addresses(host, "eth1") == [f"{HOST}/24"]
        assert machine.can_ping(HOST)


# Bad input


BAD = [
    (2, "network plain keeps no VLANs apart, so that eth1 cannot be in any", "--vlan 5 plain eth1"),
    (2, "network plain keeps no VLANs apart", "--dry-run --trunk 5 plain eth1"),
    (2, "native VLAN 5 is of no trunk", "--native 5 lan eth1"),
    (2, "a port in VLAN 5 cannot be a trunk as well", "--vlan 5 --trunk 6 lan eth1"),
    (2, "VLAN", "--vlan 4095 lan eth1"),
    (2, "VLAN", "--trunk 9-5 lan eth1"),
    (2, "an interface that is given back is in no VLAN", "--undo --vlan 5 lan eth1"),
    (2, "untagged frames on eth1 will be in VLAN 5, and this host's addresses in VLAN 1", "--vlan 5 lan eth1"),
    (2, "untagged frames on eth1 will be in no VLAN", "--trunk 1-100 lan eth1"),
    (4, "eth2 cannot be adopted: somebody else's tc hooks are there", "lan eth2"),
    (4, "eth3 cannot be adopted: somebody else's tc hooks are there", "--dry-run lan eth3"),
]


def test_bad_input(host: FakeHost, switch: Switch) -> None:
    """Each has its sentence and its exit code, and changes nothing."""
    lab(host, 1)
    network(host, "plain", "--subnet", "10.2.0.0/16")
    switch.plug(host, "eth2", "203.0.113.9/24")
    switch.plug(host, "eth3", "203.0.113.77/28")
    host.run("sh", "-ec", "tc qdisc add dev eth2 clsact; tc qdisc add dev eth3 ingress")
    before = uplink_state(host)
    for code, words, arguments in BAD:
        result = run(host, "network", "adopt", *arguments.split(), code=code)
        first = result.stderr.splitlines()[0]
        assert re.search(words, first), first
        assert re.match(r"dnet: \S.*[^.]$", first), first
    assert uplink_changes(before, uplink_state(host)) == ""
    wait_until(lambda: host.can_ping(HOST), "the host has its address")
