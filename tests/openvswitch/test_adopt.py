"""An interface of the host's becomes a port of a network on Open vSwitch, and is given back."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dnet
from dnet.engine import Engine
from dnet.errors import OvsError
from dnet.linux.nftables import Nft
from dnet.openvswitch.ovsdb import Ovsdb
from dnet.openvswitch.remote import remote
from dnet.openvswitch.switch import OpenVSwitch
from tests.openvswitch.test_network import features, transfer
from tests.support.dnet_commands import network, run
from tests.support.faults import FaultyKernel
from tests.support.hosts import FakeHost, Namespace, wait_until
from tests.support.openvswitch import DATAPATH, Ovs, reaches
from tests.support.traffic import ping_all
from tests.support.uplink_lan import Switch, addresses, enrich, link, streaming, tags, uplink_changes, uplink_state

HOST, OTHER, MACHINE = "192.0.2.10", "192.0.2.20", "192.0.2.2"


@pytest.fixture
def switch(ovs: Ovs) -> Switch:
    """Return the switch that the host's eth1 is plugged into."""
    found = Switch(ovs.host, is_wire=True)
    found.plug(ovs.host, "eth1", f"{HOST}/24")
    return found


@pytest.fixture
def machine(switch: Switch) -> Namespace:
    """Return another machine on the switch."""
    return switch.machine("machine", f"{MACHINE}/24")


@pytest.fixture
def other(tmp_path: Path, switch: Switch) -> Iterator[Ovs]:
    """Yield a second host with an Open vSwitch of its own on the switch."""
    (tmp_path / "other").mkdir()
    with FakeHost(tmp_path / "other") as host:
        made = Ovs(host, tso=False)
        switch.plug(host, "eth1", f"{OTHER}/24")
        yield made
        for process in (made.switch, made.server):
            process.kill()
            process.wait()


def lab(host: FakeHost, *options: str, number: int = 1) -> str:
    """Create host number so and so's part of network lan and return its bridge."""
    places = ("--subnet", "10.1.0.0/16", "--gateway", f"10.1.0.{number}", "--ip-range", f"10.1.{number}.0/24")
    places += ("--subnet", "fd00:1::/64", "--gateway", f"fd00:1::{number}")
    document = network(host, "lan", "-d", "ovs", "-o", f"datapath_type={DATAPATH}", *places, *options)
    return str(document["Segments"][0]["Device"])


def box(host: FakeHost, number: int, vlan: int) -> tuple[Namespace, str]:
    """Create a container in a VLAN, 0 for none; return it and its address."""
    address = f"10.1.{number}.{vlan or 1}"
    run(host, "create", "--network", "lan", "--ip", address, *(["--vlan", str(vlan)] if vlan else []), f"v{vlan}")
    return host.sandbox(f"v{vlan}"), address


def adopted(host: FakeHost, *options: str) -> None:
    """Adopt eth1."""
    run(host, "network", "adopt", *options, "lan", "eth1")


def state(ovs: Ovs) -> dict[str, Any]:
    """Return all that adopting could change, what is in Open vSwitch's database included."""
    columns = {
        "Bridge": ["name", "external_ids", "other_config", "datapath_type", "fail_mode"],
        "Port": ["name", "tag", "trunks", "vlan_mode", "external_ids", "protected"],
        "Interface": ["name", "type", "mtu_request"],
    }
    found = uplink_state(ovs.host)
    # A device that has been down brings IPv6's back in another order.
    fours = [item for item in found["routes"] if ":" not in item["dst"]]
    found["routes"] = fours + sorted((item for item in found["routes"] if item not in fours), key=json.dumps)
    found["routes6"].sort(key=json.dumps)
    for table, names in columns.items():
        text = ovs.vsctl("--format=json", f"--columns={','.join(names)}", "list", table)
        found[table] = sorted(json.loads(text)["data"])
    return found


def settled(ovs: Ovs, before: dict[str, Any], *keys: str) -> str:
    """Return what differs from before, as soon as ovs-vswitchd has done what follows by itself, such as MTUs."""
    wanted = {key: before[key] for key in keys or before}
    last = [""]

    def is_same() -> bool:
        last[0] = uplink_changes(wanted, state(ovs))
        return not last[0]

    with contextlib.suppress(AssertionError):
        wait_until(is_same, "all is as it was", 3)
    return last[0]


# What it is for


def test_on_the_lan(ovs: Ovs, machine: Namespace) -> None:
    """Without VLANs, containers and the LAN are on one wire; the bridge has what the interface had."""
    bridge = lab(ovs.host)
    web, address = box(ovs.host, 1, 0)
    mac = link(ovs.host, "eth1")["address"]
    machine.run("ip address add 10.1.0.9/16 dev eth0")
    adopted(ovs.host)
    assert addresses(ovs.host, "eth1") == []
    assert addresses(ovs.host, bridge) == ["10.1.0.1/16", f"{HOST}/24", "fd00:1::1/64", "fe80::1/64"]
    assert link(ovs.host, bridge)["address"] == mac
    assert ovs.vsctl("port-to-br", "eth1") == bridge
    assert reaches(machine, address)
    assert reaches(web, "10.1.0.9")
    assert reaches(ovs.host, MACHINE)
    with web.serve(80), ovs.host.serve(81):
        assert machine.ask(address, 80)["peer"] == "10.1.0.9"
        assert machine.ask(HOST, 81)["peer"] == MACHINE
    with machine.serve(80):
        assert ovs.host.ask(MACHINE, 80)["peer"] == HOST
        assert web.ask("10.1.0.9", 80)["peer"] == address


def test_two_hosts_joined_by_a_trunk(ovs: Ovs, other: Ovs) -> None:
    """Containers on two hosts reach those of their own VLAN on both, and nobody else; hosts are in VLAN 1."""
    boxes: dict[int, list[tuple[Namespace, str]]] = {1: [], 101: [], 102: []}
    for number, place in enumerate((ovs, other), 1):
        lab(place.host, "--vlan", "1", number=number)
        for vlan, members in boxes.items():
            members.append(box(place.host, number, vlan))
        adopted(place.host)
    for here, there in boxes.values():
        assert reaches(here[0], there[1])
        assert reaches(there[0], here[1])
    strangers = [(boxes[vlan][0][0], boxes[foreign][1][1]) for vlan in boxes for foreign in boxes.keys() - {vlan}]
    assert not any(ping_all(*strangers, (boxes[101][0][0], "10.1.0.2")))
    assert reaches(boxes[1][0][0], "10.1.0.2")
    assert reaches(ovs.host, OTHER)
    with boxes[101][1][0].serve(80):
        assert boxes[101][0][0].ask("10.1.2.101", 80)["peer"] == "10.1.1.101"


@pytest.mark.parametrize(
    ("options", "seen", "columns"),
    [
        ((), {1: {""}, 101: {"101"}, 102: {"102"}}, ["native-untagged", 1, []]),
        (("--trunk", "101", "--native", "1"), {1: {""}, 101: {"101"}, 102: set()}, ["native-untagged", 1, [1, 101]]),
        (("--trunk", "1,102"), {1: {"1"}, 101: set(), 102: {"102"}}, ["trunk", [], [1, 102]]),
        (("--vlan", "101"), {1: set(), 101: {""}, 102: set()}, ["access", 101, []]),
    ],
    ids=["every", "some", "host-tagged", "access"],
)
def test_tags_on_the_wire(
    ovs: Ovs, switch: Switch, options: tuple[str, ...], seen: dict[int, set[str]], columns: list[Any]
) -> None:
    """Only the VLANs that were asked for are on the wire, with their tags or without; the port's columns say so."""
    lab(ovs.host, "--vlan", "1")
    boxes = {vlan: box(ovs.host, 1, vlan)[0] for vlan in seen}
    adopted(ovs.host, "--yes", *options)
    pings = {f"10.1.200.{vlan}": boxes[vlan] for vlan in seen}
    assert list(tags(switch.space, "p1", pings).values()) == list(seen.values())
    text = ovs.vsctl("--format=json", "--columns=vlan_mode,tag,trunks", "list", "Port", "eth1")
    mode, tag, trunks = json.loads(text)["data"][0]
    plain = [mode, tag[1] if isinstance(tag, list) else tag, trunks[1] if isinstance(trunks, list) else [trunks]]
    assert plain == columns


@pytest.mark.parametrize("is_server", [False, True], ids=["from", "to"])
def test_connections_go_on(ovs: Ovs, machine: Namespace, tmp_path: Path, *, is_server: bool) -> None:
    """A connection of the host's through the interface goes on through adopting, other VLANs, and giving back."""
    lab(ovs.host, "--vlan", "1")
    box(ovs.host, 1, 101)
    ends = (ovs.host, HOST, machine) if is_server else (machine, MACHINE, ovs.host)
    with streaming(*ends, tmp_path / "count") as stream:
        adopted(ovs.host)
        assert addresses(ovs.host, "eth1") == []
        stream.flows()
        adopted(ovs.host, "--trunk", "101", "--native", "1")
        stream.flows()
        run(ovs.host, "network", "adopt", "--undo", "lan", "eth1")
        assert addresses(ovs.host, "eth1") == [f"{HOST}/24"]
        stream.flows()


def test_the_host_hears_once(ovs: Ovs, machine: Namespace) -> None:
    """What Open vSwitch reads of an interface does not reach the host twice, nor in a VLAN that the host is not in."""
    bridge = lab(ovs.host, "--vlan", "1")
    adopted(ovs.host)
    assert reaches(machine, HOST)
    assert "DUP" not in machine.run("ping", "-n", "-c", "3", "-i", "0.1", HOST).stdout
    adopted(ovs.host, "--yes", "--vlan", "101")
    assert not machine.can_ping(HOST)
    machine.run("ip", "neigh", "flush", "all")
    machine.can_ping(HOST)
    [entry] = machine.json("ip", "-j", "neigh", "show", HOST)
    assert "lladdr" not in entry
    machine.run("ip", "neigh", "replace", HOST, "lladdr", link(ovs.host, bridge)["address"], "dev", "eth0")
    assert not machine.can_ping(HOST)


def test_long_frames(ovs: Ovs, switch: Switch, machine: Namespace) -> None:
    """An interface that makes long frames of those it receives, as network cards do, no longer does: TCP goes on."""
    switch.space.run("ethtool -K p1 tx off")  # a veth does so only with frames that are complete
    ovs.host.run("ethtool -K eth1 gro on")
    lab(ovs.host)
    before = state(ovs)
    adopted(ovs.host)
    assert not features(ovs.host, "eth1")["generic-receive-offload"]
    assert transfer(machine, ovs.host, HOST)
    assert transfer(ovs.host, machine, MACHINE)
    run(ovs.host, "network", "adopt", "--undo", "lan", "eth1")
    assert features(ovs.host, "eth1")["generic-receive-offload"]
    assert settled(ovs, before) == ""


def test_all_comes_back(ovs: Ovs, machine: Namespace) -> None:
    """After --undo all is as it was: devices, addresses, routes, rules, both databases."""
    bridge = lab(ovs.host, "--vlan", "1")
    box(ovs.host, 1, 101)
    ovs.host.run(f"ip route add default via {MACHINE} metric 100")
    ovs.host.run(f"sh -c 'ip address add 10.77.0.1/16 dev {bridge}; ip route add 10.78.0.0/16 via 10.77.0.2'")
    assert machine.can_ping(HOST)
    before = state(ovs)
    adopted(ovs.host, "--yes")
    assert ovs.host.json("ip -j route show 10.78.0.0/16")[0]["dev"] == bridge
    run(ovs.host, "network", "adopt", "--undo", "lan", "eth1")
    assert settled(ovs, before) == ""
    adopted(ovs.host, "--yes")
    run(ovs.host, "rm", "v101")
    run(ovs.host, "network", "rm", "lan")
    assert addresses(ovs.host, "eth1") == [f"{HOST}/24"]
    assert ovs.vsctl("list-br") == ""
    assert machine.can_ping(HOST)


@pytest.mark.parametrize("hwaddr", ["", "02:00:00:00:77:01"])
def test_somebodys_bridge(ovs: Ovs, switch: Switch, machine: Namespace, hwaddr: str) -> None:
    """A bridge of the user's own keeps all that it has, and has it again: ports, VLANs of its own, MAC address."""
    ovs.vsctl("add-br", "br0", "--", "set", "Bridge", "br0", f"datapath_type={DATAPATH}", "external_ids:mine=yes")
    ovs.vsctl(
        "set", "Bridge", "br0", "other_config:forward-bpdu=true", *([f"other_config:hwaddr={hwaddr}"] * bool(hwaddr))
    )
    ovs.veths("mine")
    ovs.vsctl("add-port", "br0", "mine", "tag=55")
    ovs.host.run("sh", "-c", "ip link set br0 up; ip address add 10.5.0.1/16 dev br0")
    network(ovs.host, "lan", "-d", "ovs", "--bridge", "br0", "--ip-range", "10.5.9.0/24")
    run(ovs.host, "create", "--network", "lan", "--ip", "10.5.9.1", "old")
    wait_until(lambda: "tentative" not in json.dumps(ovs.host.json("ip -j address")), "addresses are proved")
    before = state(ovs)
    mac = link(ovs.host, "eth1")["address"]
    adopted(ovs.host)
    assert link(ovs.host, "br0")["address"] == mac
    machine.run("ip address add 10.5.0.9/16 dev eth0")
    assert reaches(machine, "10.5.9.1")
    assert reaches(machine, HOST)
    ovs.host.run("ip address add 10.66.0.1/16 dev p-mine")
    assert tags(switch.space, "p1", {"10.66.0.2": ovs.host}) == {"10.66.0.2": {"55"}}
    ovs.host.run("ip address del 10.66.0.1/16 dev p-mine")
    run(ovs.host, "create", "--network", "lan", "--ip", "10.5.9.101", "--vlan", "101", "v101")
    pings = {"10.5.200.101": ovs.host.sandbox("v101")}
    assert tags(switch.space, "p1", pings) == {"10.5.200.101": {"101"}}
    assert reaches(machine, "10.5.9.1")
    assert not machine.can_ping("10.5.9.101")
    run(ovs.host, "rm", "v101")
    run(ovs.host, "network", "adopt", "--undo", "lan", "eth1")
    assert settled(ovs, before, "Bridge", "Port", "Interface", "links", "addresses", "routes") == ""


def test_shown(ovs: Ovs, machine: Namespace) -> None:  # noqa: ARG001
    """A dry run says what would be done, in order, and touches nothing."""
    bridge = lab(ovs.host, "--vlan", "1")
    before = state(ovs)
    lines = run(ovs.host, "network", "adopt", "--dry-run", "lan", "eth1").stdout.splitlines()
    port = f"port eth1 on Open vSwitch bridge {bridge}, trunks 0-4095, native 1"
    assert (
        lines.index(port) < lines.index(f"no address {HOST}/24 on eth1") < lines.index(f"address {HOST}/24 on {bridge}")
    )
    assert uplink_changes(before, state(ovs)) == ""
    adopted(ovs.host)
    assert run(ovs.host, "network", "inspect", "lan").json[0]["UplinkVlans"] == {"eth1": "trunk 1-4094 native 1"}
    assert run(ovs.host, "network", "adopt", "--dry-run", "lan", "eth1").stdout == ""
    assert run(ovs.host, "reconcile", "--dry-run").stdout == ""


# All or nothing


class FaultySwitch(OpenVSwitch):
    """An Open vSwitch that refuses a port, before or after it is made."""

    is_late = False

    def create_ports(self, *arguments: Any, **options: Any) -> list[Any]:
        """Refuse."""
        if self.is_late:
            super().create_ports(*arguments, **options)
        raise OvsError("cannot create port eth1: no")


def adopt(directories: tuple[str, str], fail_at: int, is_late: bool | None = None) -> dict[str, Any]:  # noqa: FBT001
    """Adopt eth1 with a fault in one object, or in the port; return which one, or nothing when there are fewer."""
    kernel = FaultyKernel(lambda _: None, fail_at)
    switch = FaultySwitch(Ovsdb(remote())) if is_late is not None else None
    FaultySwitch.is_late = bool(is_late)
    with Engine(*directories, lambda _: None, kernel, Nft(), switch) as engine:
        try:
            engine.adopt("lan", "eth1", assume_yes=True)
        except dnet.DnetError as error:
            return {"refused": str(kernel.refused or error), "notes": getattr(error, "__notes__", [])}
        return {}


def test_refused_object(ovs: Ovs, machine: Namespace) -> None:
    """Whichever object is refused, the port among them, all is as it was, and the host goes on."""
    lab(ovs.host, "--vlan", "1")
    box(ovs.host, 1, 101)
    enrich(ovs.host)
    before = state(ovs)
    count = 0
    while "refused" in (outcome := ovs.host.call(adopt, ovs.host.directories, count)):
        assert outcome["notes"] == [], outcome
        assert settled(ovs, before) == "", outcome["refused"]
        count += 1
    assert count >= 60
    run(ovs.host, "network", "adopt", "--undo", "lan", "eth1")
    for is_late in (False, True):
        outcome = ovs.host.call(adopt, ovs.host.directories, -1, is_late)
        assert outcome == {"refused": "cannot create port eth1: no", "notes": []}
        assert settled(ovs, before) == ""
    assert machine.can_ping(HOST)


def test_switch_that_does_not_run(ovs: Ovs, machine: Namespace) -> None:
    """Without ovs-vswitchd nothing is touched; when it ends later, the interface is given back all the same."""
    lab(ovs.host)
    adopted(ovs.host)
    ovs.end_switch()
    run(ovs.host, "network", "adopt", "--undo", "lan", "eth1")
    assert addresses(ovs.host, "eth1") == [f"{HOST}/24"]
    assert machine.can_ping(HOST)
    before = uplink_state(ovs.host)
    run(ovs.host, "network", "adopt", "lan", "eth1", code=8)
    assert uplink_changes(before, uplink_state(ovs.host)) == ""


# Remembering and mending


def test_reconcile_mends(ovs: Ovs, machine: Namespace) -> None:
    """A port that somebody has deleted, or put into another VLAN, is as it should be after reconcile."""
    bridge = lab(ovs.host, "--vlan", "1")
    web, address = box(ovs.host, 1, 1)
    machine.run("ip address add 10.1.0.9/16 dev eth0")
    adopted(ovs.host)
    ovs.vsctl("set", "Port", "eth1", "tag=7")
    assert "port eth1 on Open vSwitch bridge" in run(ovs.host, "reconcile", "--dry-run", code=10).stdout
    run(ovs.host, "reconcile")
    assert run(ovs.host, "reconcile", "--dry-run").stdout == ""
    assert reaches(machine, address)
    ovs.vsctl("del-port", "eth1")
    assert "interface eth1 on network lan" in run(ovs.host, "reconcile", "--dry-run", code=10).stdout
    run(ovs.host, "reconcile")
    assert run(ovs.host, "reconcile", "--dry-run").stdout == ""
    assert reaches(web, "10.1.0.9")
    assert reaches(machine, HOST)
    run(ovs.host, "network", "adopt", "--undo", "lan", "eth1")
    assert addresses(ovs.host, "eth1") == [f"{HOST}/24"]
    assert addresses(ovs.host, bridge) == ["10.1.0.1/16", "fd00:1::1/64", "fe80::1/64"]
    assert machine.can_ping(HOST)


def test_restart_of_the_switch(ovs: Ovs, machine: Namespace) -> None:
    """When ovs-vswitchd is started again, the interface is its port as before."""
    lab(ovs.host, "--vlan", "1")
    adopted(ovs.host)
    ovs.end_switch()
    ovs.start_switch()
    assert reaches(machine, HOST)
    assert run(ovs.host, "reconcile", "--dry-run").stdout == ""


def test_after_a_reboot(ovs: Ovs, machine: Namespace, tmp_path: Path) -> None:
    """After a reboot the database has the port already; `dnet restore` moves what the system has configured anew."""
    bridge = lab(ovs.host, "--vlan", "1")
    box(ovs.host, 1, 101)
    adopted(ovs.host, "--trunk", "101", "--native", "1")
    # What a reboot leaves: the databases. Open vSwitch makes the bridge's device, the system configures eth1.
    ovs.end_switch()
    boot = tmp_path / "boot_id"
    boot.write_text("another boot\n", encoding="ascii")
    script = f"""
    mount --bind {boot} /proc/sys/kernel/random/boot_id
    ip link delete {bridge}; nft delete table inet dnet; ip link set eth1 promisc off
    for pin in {ovs.host.run_dir}/netns/*; do umount "$pin"; done
    ip address add {HOST}/24 dev eth1; sysctl -qw net.ipv4.conf.eth1.arp_ignore=0
    """
    ovs.host.run("sh", "-c", script)
    for item in ovs.host.json("ip -j link"):
        if item["ifname"].startswith("veth"):
            ovs.host.run("ip", "link", "delete", item["ifname"], code=None)  # some have gone with their namespaces
    ovs.start_switch()
    wait_until(
        lambda: bridge in {item["ifname"] for item in ovs.host.json("ip -j link")}, "the bridge's device is made"
    )
    assert "interface eth1 on network lan" in run(ovs.host, "reconcile", "--dry-run", code=10).stdout
    run(ovs.host, "restore")
    assert run(ovs.host, "reconcile", "--dry-run").stdout == ""
    assert addresses(ovs.host, "eth1") == []
    assert reaches(machine, HOST)
    assert run(ovs.host, "network", "inspect", "lan").json[0]["UplinkVlans"] == {"eth1": "trunk 1,101 native 1"}
    run(ovs.host, "network", "adopt", "--undo", "lan", "eth1")
    assert addresses(ovs.host, "eth1") == [f"{HOST}/24"]
    assert link(ovs.host, bridge)["address"] == "02:42:0a:01:00:01"
    assert "eth1" not in ovs.ports(bridge)
    assert machine.can_ping(HOST)


# Bad input


def test_bad_input(ovs: Ovs, switch: Switch) -> None:
    """Each has its sentence and its exit code, and changes nothing."""
    lab(ovs.host)
    bridge = ovs.host.dnet("network", "inspect", "lan").json[0]["Segments"][0]["Device"]
    ovs.host.dnet("network", "create", "plain")
    ovs.vsctl("add-br", "br9", "--", "set", "Bridge", "br9", f"datapath_type={DATAPATH}")
    for name, place in (("eth2", "br9"), ("eth3", bridge)):
        switch.plug(ovs.host, name)
        ovs.vsctl("add-port", place, name)
    before = state(ovs)
    bad = [
        (4, "eth2 is in use by br9, as a port of it", "lan eth2"),
        (4, "eth2 is in use by br9, as a port of it", "plain eth2"),
        (2, f"eth3 cannot be adopted: it is a port of {bridge} already", "lan eth3"),
        (2, "network lan keeps no VLANs apart, so that eth1 cannot be in any", "--vlan 5 lan eth1"),
        (3, "there is no interface absent", "lan absent"),
        (3, "network lan has not adopted interface eth1", "--undo lan eth1"),
    ]
    for code, words, arguments in bad:
        result = run(ovs.host, "network", "adopt", *arguments.split(), code=code)
        first = result.stderr.splitlines()[0]
        assert re.search(words, first), first
    assert uplink_changes(before, state(ovs)) == ""
