"""VLANs through the command line: on containers, networks and at run time; what keeps them apart mended."""

from __future__ import annotations

import json
import socket

import pytest

LAB = ("network", "create", "--subnet", "10.7.0.0/24", "lab")


def _create(host, name: str, *options: str, last: int) -> None:
    host.dnet("create", "--network", "lab", "--ip", f"10.7.0.{last}", *options, name)


def _reach(host, name: str, last: int) -> bool:
    return host.sandbox(name).can_ping(f"10.7.0.{last}")


def _port(host, name: str) -> str:
    return host.dnet("inspect", "-f", "{{ .NetworkSettings.Networks.lab.HostInterface }}", name).stdout.strip()


@pytest.fixture
def lab(host):
    """Two VLANs on one bridge, and a container from before there were any."""
    host.dnet(*LAB)
    _create(host, "old", last=10)
    _create(host, "a1", "--vlan", "100", last=11)
    _create(host, "a2", "--vlan", "100", last=12)
    _create(host, "b1", "--vlan", "200", last=13)
    return host


def test_vlans_are_apart(lab):
    """Members of a VLAN reach each other, others do not; what was there before is with the gateway."""
    assert _reach(lab, "a1", 12)
    assert not _reach(lab, "a1", 13)
    assert _reach(lab, "old", 1)
    assert not _reach(lab, "a1", 1)
    assert not _reach(lab, "old", 11)
    assert lab.can_ping("10.7.0.10")
    assert not lab.can_ping("10.7.0.11")


def test_change_at_run_time(lab):
    """`vlan set` moves a port, `--none` brings it to the gateway's VLAN, and `vlan ls` and inspect tell."""
    lab.dnet("vlan", "set", "a2", "--tag", "200")
    assert _reach(lab, "b1", 12)
    assert not _reach(lab, "a1", 12)
    lab.dnet("vlan", "set", "a2", "--network", "lab", "--none")
    assert _reach(lab, "old", 12)
    lab.dnet("vlan", "set", "a2", "--trunk", "100-110,200", "--native", "200")
    assert _reach(lab, "a2", 13)
    rows = {row["container"]: row for row in lab.dnet("vlan", "ls", "--json").json}
    assert (rows[""]["vlan"], rows["old"]["vlan"], rows["a1"]["vlan"]) == (1, 1, 100)
    assert (rows["a2"]["trunk"], rows["a2"]["native"]) == ("100-110,200", 200)
    template = "{{ json .NetworkSettings.Networks.lab.Vlan }}"
    assert lab.dnet("inspect", "-f", template, "a1").stdout.strip() == "100"
    assert json.loads(lab.dnet("inspect", "-f", template, "a2").stdout) == {"Trunk": "100-110,200", "Native": 200}


def test_connect_with_a_vlan(lab):
    """`network connect` and several `--network`s take VLANs too."""
    lab.dnet("create", "--network", "none", "late")
    lab.dnet("network", "connect", "--ip", "10.7.0.20", "--vlan", "200", "lab", "late")
    assert _reach(lab, "late", 13)
    assert not _reach(lab, "late", 12)
    lab.dnet("create", "--network", "bridge", "--network", "name=lab,ip=10.7.0.21,vlan=100", "two")
    assert _reach(lab, "two", 12)


def test_programs_are_mended(lab):
    """Hooks that somebody removed, and a map that is gone, are named and put back by reconcile."""
    lab.run("tc", "qdisc", "del", "dev", _port(lab, "a2"), "clsact")
    left = lab.dnet("reconcile", "--dry-run", "--json", code=10).json["left"]
    assert [item["what"] for item in left] == [f"VLAN filter on {_port(lab, 'a2')}"]
    lab.dnet("reconcile")
    assert _reach(lab, "a1", 12)
    lab.run("umount", str(lab.run_dir / "bpf"))
    assert len(lab.dnet("reconcile", "--json").json["done"]) == 5
    assert lab.dnet("reconcile", "--json").json == {"done": [], "left": []}
    assert _reach(lab, "a1", 12)
    assert not _reach(lab, "a1", 13)


def _sticky(host) -> dict[str, tuple[str, str]]:
    """Return the MACs that stay at their ports: the port and the entry's state."""
    entries = host.json("bridge -j fdb show")
    return {item["mac"]: (item["ifname"], item["state"]) for item in entries if "sticky" in item["flags"]}


def _mac(host, name: str) -> str:
    return host.dnet("inspect", "-f", "{{ .NetworkSettings.Networks.lab.MacAddress }}", name).stdout.strip()


def _claim(mac: str) -> None:
    """Send a broadcast from that MAC."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("eth0", 0))
        sock.send(bytes.fromhex(f"ffffffffffff{mac}88b5".replace(":", "")) + bytes(46))


def test_macs_stay(lab):
    """A container in another VLAN that sends from somebody's MAC, or the gateway's, cuts nobody off."""
    assert _sticky(lab) == {_mac(lab, name): (_port(lab, name), "static") for name in ("old", "a1", "a2", "b1")}
    [gateway] = lab.json("ip -j link show type bridge")
    for owner in (_mac(lab, "a2"), _mac(lab, "old"), gateway["address"]):
        lab.sandbox("b1").call(_claim, owner)
        assert _reach(lab, "a1", 12)
        assert _reach(lab, "old", 1)


def test_macs_are_mended(lab):
    """A MAC that somebody has taken off its port is named, and put back by reconcile."""
    before, mac = _sticky(lab), _mac(lab, "a1")
    lab.run("bridge", "fdb", "del", mac, "dev", _port(lab, "a1"), "master")
    left = lab.dnet("reconcile", "--dry-run", "--json", code=10).json["left"]
    assert [item["what"] for item in left] == [f"MAC {mac} at {_port(lab, 'a1')}"]
    lab.run("ip", "link", "set", _port(lab, "a2"), "nomaster")
    lab.dnet("reconcile")
    assert _sticky(lab) == before
    assert lab.dnet("reconcile", "--json").json == {"done": [], "left": []}


def test_one_mac_twice(lab):
    """Of two containers with one MAC the later one is reached, in whichever VLANs they are; frames of neither leak."""
    mac = _mac(lab, "a1")
    _create(lab, "b2", "--vlan", "200", "--mac-address", mac, last=14)
    assert _sticky(lab)[mac] == (_port(lab, "b2"), "static")
    assert _reach(lab, "b1", 14)
    assert not _reach(lab, "a2", 11)
    assert not _reach(lab, "a2", 14)
    assert lab.dnet("reconcile", "--json").json == {"done": [], "left": []}


def test_nothing_is_left(lab):
    """With the containers and the network, the map's entries and the hooks go."""
    lab.dnet("bulk-delete", "--all")
    lab.dnet("network", "rm", "lab")
    assert lab.run("tc qdisc show").stdout.count("clsact") == 0
    ids = (
        {item["id"] for item in lab.json("bpftool -j map show")}
        if lab.run("which bpftool", code=None).code == 0
        else ()
    )
    dumps = [lab.json("bpftool", "-j", "map", "dump", "id", str(number)) for number in ids]
    assert not any(entry for dump in dumps for entry in dump if "veth" in json.dumps(entry))


def test_bulk(host):
    """A bulk in one VLAN is one VLAN, and network `bridge` knows VLANs when they are asked for first."""
    host.dnet("bulk-create", "--count", "20", "--vlan", "300")
    assert not host.sandbox("c-1").can_ping("172.17.0.1")
    addresses = [item["ips"][0] for item in host.dnet("ps", "--json").json]
    assert host.sandbox("c-1").silent(addresses[1:]) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--vlan", "0"), "invalid VLAN '0'"),
        (("--vlan", "4095"), "invalid VLAN '4095'"),
        (("--vlan", "ten"), "invalid VLAN 'ten'"),
        (("--trunk", ""), "a trunk without VLANs"),
        (("--trunk", "20-10"), "in reverse"),
        (("--trunk", "10", "--native", "4095"), "invalid native VLAN"),
        (("--native", "5"), "of no trunk"),
        (("--vlan", "5", "--trunk", "6"), "cannot be a trunk"),
        (("--network", "none", "--vlan", "5"), "--vlan and the network mode none"),
        (("--network", "host", "--vlan", "5"), "--vlan and the network mode host"),
    ],
)
def test_bad_input(host, options, words):
    """What cannot be is refused with a sentence that names it, and nothing is touched."""
    host.dnet("ps")
    before = host.snapshot()
    done = host.dnet("create", *options, "x", code=2)
    assert words in done.stderr
    assert not host.changes(before)


def test_backends(host):
    """A kernel whose bridges do not filter says so; a bridge is of one kind."""
    done = host.dnet("network", "create", "-o", "vlan_backend=ovs", "x", code=2)
    assert "driver bridge cannot keep VLANs apart by ovs" in done.stderr
    done = host.dnet("network", "create", "-o", "vlan_backend=magic", "x", code=2)
    assert "bpf, bridge, ovs" in done.stderr
    assert host.dnet("network", "ls", "--json").json == []
