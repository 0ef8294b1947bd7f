"""Interfaces attached by hand to bridges of Open vSwitch; what there is, ovs-vsctl, ip, ping and TCP tell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

import dnet
from dnet.engine import Engine
from dnet.transaction import containers
from tests.openvswitch.test_network import transfer
from tests.support.attachment_lan import default, global_addresses, names, namespace, state
from tests.support.faults import FaultyKernel
from tests.support.hosts import FakeHost, Namespace, Raised, wait_until
from tests.support.openvswitch import DATAPATH, DIRECTORY, Ovs, reaches
from tests.support.traffic import ping_all

ATTACHING = """
import sys, dnet
with dnet.open() as engine:
    engine.attach("/run/netns/x", bridge="ovs0", addresses=["192.168.1.150/24"])
    print("one", flush=True)
    sys.stdin.readline()
    engine.attach("/run/netns/x", bridge="ovs0", addresses=["192.168.1.151/24"])
    engine.detach("/run/netns/x", "eth0")
print("two", flush=True)
"""
HOST, PEER = "192.168.1.1", "192.168.1.2"


@pytest.fixture
def lan(ovs: Ovs) -> Ovs:
    """Somebody's bridge ovs0, whose device has an address, with a machine `peer` in no VLAN on it."""
    host = ovs.host
    ovs.vsctl("add-br", "ovs0", "--", "set", "Bridge", "ovs0", f"datapath_type={DATAPATH}")
    host.run("sh", "-ec", f"ip link set ovs0 up; ip address add {HOST}/24 dev ovs0")
    machine(ovs, "peer", PEER)
    return ovs


def machine(ovs: Ovs, name: str, address: str, *columns: str) -> Namespace:
    """Put a machine of somebody's on ovs0, which hands over complete frames; return it."""
    host = ovs.host
    host.run("sh", "-ec", f"ip netns add {name}; ip link add p-{name} type veth peer name eth0 netns {name}")
    space = host.sandbox(name)
    space.run("sh", "-ec", f"ip address add {address}/24 dev eth0; ip link set lo up; ip link set eth0 up")
    space.run("ethtool", "-K", "eth0", "tx", "off")
    host.run("ip", "link", "set", f"p-{name}", "up")
    ovs.vsctl("add-port", "ovs0", f"p-{name}", *columns)
    return space


def attach(host: FakeHost, *arguments: str) -> dict[str, Any]:
    """Attach something, and return what `attach --json` says of it."""
    [document] = host.dnet("attach", "--json", *arguments).json
    return dict(document)


def rows(ovs: Ovs, table: str, *columns: str) -> list[tuple[Any, ...]]:
    """Return columns of all rows of a table, as ovs-vsctl prints them, ordered."""
    found = json.loads(ovs.vsctl("--format=json", f"--columns={','.join(columns)}", "list", table))
    return sorted((tuple(row) for row in found["data"]), key=repr)


def port(ovs: Ovs, name: str) -> dict[str, Any]:
    """Return what ovs-vsctl says of a port."""
    found = json.loads(ovs.vsctl("--format=json", "list", "Port", name))
    return dict(zip(found["headings"], found["data"][0], strict=True))


def configuration(ovs: Ovs) -> list[Any]:
    """Return what Open vSwitch is told to be."""
    return [rows(ovs, "Bridge", "name", "ports", "external_ids"), rows(ovs, "Port", "name", "tag", "external_ids")]


# Life


def test_bridge_of_open_vswitch(lan: Ovs) -> None:
    """A port in one transaction, marked; ping and TCP at full MTU pass both ways; detach leaves all as it was."""
    host, peer = lan.host, lan.host.sandbox("peer")
    space = namespace(host, "x")
    before, inside, links = configuration(lan), state(space), names(host)
    number = lan.vsctl("get", "Open_vSwitch", ".", "next_cfg")
    made = attach(host, "--bridge", "ovs0", "--ip", f"192.168.1.150/24@{HOST}", "/run/netns/x")
    assert (made["kind"], made["device"], made["vlan"], made["interface"]) == ("ovs", "ovs0", "", "eth0")
    assert int(lan.vsctl("get", "Open_vSwitch", ".", "next_cfg")) == int(number) + 1
    end = str(made["host_interface"])
    assert (port(lan, end)["tag"], port(lan, end)["vlan_mode"]) == (0, "access")
    assert port(lan, end)["external_ids"][1][0][0] == "dnet"
    assert global_addresses(space, "eth0") == ["192.168.1.150/24"]
    assert default(space) == [(HOST, "eth0")]
    assert reaches(space, PEER)
    assert reaches(peer, "192.168.1.150")
    assert transfer(space, peer, PEER)
    assert transfer(peer, space, "192.168.1.150")
    features = space.run("ethtool", "-k", "eth0").stdout
    assert ("tx-checksumming: off" in features) == (DATAPATH == "netdev")
    assert attach(host, "--bridge", "ovs0", "--ip", f"192.168.1.150/24@{HOST}", "/run/netns/x")["new"] is False
    [shown] = host.dnet("attachment", "ls", "--json").json
    assert (shown["kind"], shown["device"]) == ("ovs", "ovs0")
    host.dnet("detach", "/run/netns/x")
    assert (configuration(lan), state(space), names(host)) == (before, inside, links)
    assert host.rows("SELECT * FROM container") == []


@pytest.mark.skipif(DATAPATH == "system", reason="the kernel's datapath completes frames itself")
@pytest.mark.tso
def test_segmentation_offload(lan: Ovs) -> None:
    """Where the switch does segmentation offload, an attached interface leaves it to that, and TCP passes."""
    host, peer = lan.host, lan.host.sandbox("peer")
    space = namespace(host, "x")
    attach(host, "--bridge", "ovs0", "--ip", "192.168.1.150/24", "/run/netns/x")
    assert "tx-checksumming: on" in space.run("ethtool", "-k", "eth0").stdout
    assert transfer(space, peer, PEER)
    assert transfer(peer, space, "192.168.1.150")


def test_vlans(lan: Ovs) -> None:
    """--vlan is the port's tag, --trunk and --native its trunks; only members of the same VLAN reach each other."""
    host = lan.host
    member = machine(lan, "member", "192.168.1.3", "tag=100")
    a, b, c = (namespace(host, name) for name in "abc")
    end = attach(host, "--bridge", "ovs0", "--vlan", "100", "--ip", "192.168.1.10/24", "/run/netns/a")
    assert (port(lan, end["host_interface"])["tag"], end["vlan"]) == (100, "VLAN 100")
    attach(host, "--bridge", "ovs0", "--vlan", "200", "--ip", "192.168.1.11/24", "/run/netns/b")
    options = ("--trunk", "100-102,200", "--native", "200", "--ip", "192.168.1.12/24")
    row = port(lan, attach(host, "--bridge", "ovs0", *options, "/run/netns/c")["host_interface"])
    assert (row["vlan_mode"], row["tag"], row["trunks"]) == ("native-untagged", 200, ["set", [100, 101, 102, 200]])
    assert reaches(a, "192.168.1.3")
    assert reaches(member, "192.168.1.10")
    assert reaches(c, "192.168.1.11")
    assert not any(ping_all((a, "192.168.1.11"), (a, PEER), (b, HOST)))
    told = host.dnet("attach", "--bridge", "ovs0", "--vlan", "7", "-i", "eth0", "/run/netns/a", code=4).stderr
    assert "eth0 already: on Open vSwitch bridge ovs0, VLAN 100" in told


def test_frames_of_a_trunk_are_tagged(lan: Ovs) -> None:
    """What a trunk's neighbours see of a VLAN is untagged, what the trunk itself sees has its tag: tcpdump reads it."""
    host = lan.host
    machine(lan, "member", "192.168.1.3", "tag=100")
    space = namespace(host, "x")
    attach(host, "--bridge", "ovs0", "--trunk", "100", "--ip", "0/0", "/run/netns/x")
    watch = ("tcpdump", "-i", "eth0", "-nel", "-c", "1", "vlan", "100", "and", "arp")
    dump = space.start(*watch, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert dump.stderr is not None
    while "listening on" not in (line := dump.stderr.readline()):
        assert line
    member = host.sandbox("member")
    wait_until(lambda: member.can_ping("192.168.1.77") or dump.poll() is not None, "tcpdump has seen a frame")
    assert dump.stdout is not None
    assert "who-has 192.168.1.77" in dump.stdout.read()


def test_neighbours_are_told(lan: Ovs) -> None:
    """Who has attached to the bridge is announced there, once the port passes frames: tcpdump on it hears both."""
    host, peer = lan.host, lan.host.sandbox("peer")
    namespace(host, "x")
    words = ["arp[6:2]", "=", "1", "and", "ether", "src", "02:00:00:00:00:99", "or", "icmp6[0]", "=", "136"]
    dump = peer.start("tcpdump", "-i", "eth0", "-nel", *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while "listening on" not in (line := dump.stderr.readline()):
        assert line
    options = ("--mac-address", "02:00:00:00:00:99", "--ip", "192.168.1.150/24", "--ip", "fd00:1::99/64")
    attach(host, "--bridge", "ovs0", *options, "/run/netns/x")
    seen = [dump.stdout.readline(), dump.stdout.readline()]
    dump.terminate()
    assert any("who-has 192.168.1.150" in line and "tell 192.168.1.150" in line for line in seen), seen
    assert any("neighbor advertisement" in line and "fd00:1::99" in line for line in seen), seen


def test_network_beside_it(lan: Ovs) -> None:
    """A container of dnet's own may have both, an endpoint on a network and an interface on the bridge."""
    host = lan.host
    host.dnet("create", "web")
    attach(host, "--bridge", "ovs0", "--vlan", "100", "--ip", "192.168.1.150/24", "web")
    machine(lan, "member", "192.168.1.3", "tag=100")
    assert reaches(host.sandbox("web"), "192.168.1.3")
    [shown] = host.dnet("inspect", "web").json[0]["NetworkSettings"]["Attachments"]
    assert shown["vlan"] == "VLAN 100"
    host.dnet("rm", "web")
    assert lan.ports() == ["p-member", "p-peer"]


def test_many(lan: Ovs) -> None:
    """Many containers are attached in one pass and one transaction."""
    host = lan.host
    host.dnet("bulk-create", "--count", "30", "--network", "none")
    number = int(lan.vsctl("get", "Open_vSwitch", ".", "next_cfg"))
    host.dnet("attach", "--bridge", "ovs0", *(f"c-{index}" for index in range(1, 31)))
    assert int(lan.vsctl("get", "Open_vSwitch", ".", "next_cfg")) == number + 1
    assert len(lan.ports()) == 31
    host.dnet("bulk-delete", "--all")
    assert lan.ports() == ["p-peer"]


# pipework


def test_pipework(lan: Ovs) -> None:
    """pipework's words attach to a bridge of Open vSwitch; @VLAN is the port's tag, -l its name."""
    host = lan.host
    machine(lan, "member", "192.168.1.3", "tag=100")
    space = namespace(host, "x")
    host.dnet("pipework", "ovs0", "-i", "lan0", "-l", "myport", "/run/netns/x", "192.168.1.150/24", "@100")
    assert port(lan, "myport")["tag"] == 100
    assert reaches(space, "192.168.1.3")
    other = namespace(host, "y")
    host.dnet("pipework", "ovs0", "/run/netns/y", f"192.168.1.151/24@{HOST}", "02:00:00:00:00:77")
    assert reaches(other, PEER)
    assert default(other) == [(HOST, "eth1")]


def test_pipework_makes_a_bridge(ovs: Ovs) -> None:
    """A missing bridge ovs... is made on Open vSwitch, with its device up, and goes with the last that is on it."""
    host = ovs.host
    for name in "xy":
        namespace(host, name)
    host.dnet("pipework", "ovs7", "/run/netns/x", "192.168.7.2/24")
    host.dnet("pipework", "ovs7", "/run/netns/y", "192.168.7.3/24")
    assert ovs.vsctl("list-br") == "ovs7"
    assert "UP" in host.json("ip -j link show ovs7")[0]["flags"]
    assert reaches(host.sandbox("x"), "192.168.7.3")
    host.dnet("attach", "--bridge", "ovs7", "--ip", "192.168.7.4/24", "/run/netns/x")
    assert len(ovs.ports("ovs7")) == 3
    ovs.vsctl("del-br", "ovs7")
    host.dnet("reconcile")
    assert reaches(host.sandbox("x"), "192.168.7.3")
    host.dnet("detach", "/run/netns/x", "-i", "eth1")
    host.dnet("detach", "/run/netns/x")
    assert ovs.vsctl("list-br") == "ovs7"
    host.dnet("detach", "/run/netns/y")
    assert ovs.vsctl("list-br") == ""
    assert "ovs7" not in names(host)


def test_made_bridge_that_others_use(ovs: Ovs) -> None:
    """A bridge that dnet made, and others have ports on by now, stays, as theirs."""
    host = ovs.host
    namespace(host, "x")
    host.dnet("pipework", "ovs7", "/run/netns/x", "192.168.7.2/24")
    ovs.veths("v1")
    ovs.vsctl("add-port", "ovs7", "v1")
    assert "bridge ovs7 stays" in host.dnet("detach", "/run/netns/x").stderr
    assert ovs.ports("ovs7") == ["v1"]
    assert ovs.vsctl("get", "Bridge", "ovs7", "external_ids") == "{}"


def test_missing_bridge_of_attach(ovs: Ovs) -> None:
    """`attach --bridge` makes a Linux bridge when it is missing, also where Open vSwitch runs."""
    host = ovs.host
    namespace(host, "x")
    attach(host, "--bridge", "br7", "--ip", "192.168.7.2/24", "/run/netns/x")
    assert host.json("ip -d -j link show br7")[0]["linkinfo"]["info_kind"] == "bridge"
    assert ovs.vsctl("list-br") == ""
    told = host.dnet("attach", "--bridge", "ovs7", "/run/netns/x", code=3).stderr
    assert "no interface ovs7" in told


# All or nothing


@pytest.mark.parametrize("what", ["port", "bridge"])
def test_refused_port_leaves_nothing(lan: Ovs, what: str) -> None:
    """When Open vSwitch refuses the port, the container, the host and the database are as before."""
    host = lan.host
    space = namespace(host, "x")
    lan.vsctl("add-br", "theirs", "--", "set", "Bridge", "theirs", f"datapath_type={DATAPATH}")
    if what == "port":
        host.run("ovs-vsctl", "--no-wait", "add-port", "theirs", "mine", env={"OVS_RUNDIR": DIRECTORY})
    before, inside, links = configuration(lan), state(space), names(host)
    if what == "port":
        told = host.dnet("pipework", "ovs0", "-l", "mine", "/run/netns/x", f"192.168.1.9/24@{HOST}", code=4).stderr
        assert "mine" in told
    else:
        elsewhere = host.neighbour("elsewhere", "198.51.100.0/24")
        links = names(host)
        lan.end_switch()
        lan.start_switch(elsewhere)
        told = host.dnet("attach", "--bridge", "ovs0", "--ip", f"192.168.1.9/24@{HOST}", "/run/netns/x", code=8).stderr
        assert "could not open network device" in told
    assert (configuration(lan), state(space), names(host)) == (before, inside, links)
    assert host.rows("SELECT * FROM container") == []


@pytest.mark.parametrize("device", ["ovs0", "ovs9"])
def test_refused_object(lan: Ovs, device: str) -> None:
    """Whichever object the kernel refuses, the host, the container, the databases are as before; a made bridge goes."""
    host = lan.host
    space = namespace(host, "x")
    wait_until(lambda: not any("tentative" in str(one) for one in host.json("ip -j -6 address")), "addresses settle")
    before, inside, links = configuration(lan), state(space), sorted(names(host))
    refused = []
    for number in range(40):
        outcome = host.call(attach_refused, host.directories, device, number)
        if not outcome:
            break
        refused.append(outcome)
        assert len(outcome) == 1, outcome
        assert configuration(lan) == before, outcome
        assert (state(space), sorted(names(host))) == (inside, links), outcome
        assert host.rows("SELECT * FROM container") == [], outcome
    assert len(refused) > 6
    host.dnet("detach", "/run/netns/x")
    assert (configuration(lan), state(space), sorted(names(host))) == (before, inside, links)


def attach_refused(directories: tuple[str, str], device: str, fail_at: int) -> list[str]:
    """Attach with a kernel that refuses an object; return which, and notes, or nothing when none was left to refuse."""
    kernel = FaultyKernel(lambda _: None, fail_at)
    words = [device, "/run/netns/x", "192.168.1.9/24@192.168.1.1"]
    with Engine(*directories, lambda _: None, kernel, None) as engine:
        try:
            engine.pipework(words)
        except dnet.DnetError as error:
            return [str(kernel.refused), *getattr(error, "__notes__", [])]
    return []


def test_killed_in_between(lan: Ovs) -> None:
    """What a process that was killed had attached by half is taken away by the next command that changes something."""
    host = lan.host
    space = namespace(host, "x")
    before, inside, links = configuration(lan), state(space), names(host)
    with pytest.raises((AssertionError, Raised)):
        host.call(attach_and_die, host.directories)
    assert len(lan.ports()) == 2
    host.dnet("network", "prune")
    assert (configuration(lan), state(space), names(host)) == (before, inside, links)
    assert host.rows("SELECT * FROM container") == []


def attach_and_die(directories: tuple[str, str]) -> None:
    """Attach, and be killed when the port is there, before that is on record."""
    engine = Engine(*directories)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(containers, "commit_rows", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        engine.attach("/run/netns/x", bridge="ovs0", addresses=["192.168.1.9/24"])


@pytest.mark.parametrize("gone", ["server", "switch"])
def test_open_vswitch_that_does_not_run(lan: Ovs, gone: str) -> None:
    """While Open vSwitch does not run, attaching is refused in words that say so, and changes nothing."""
    host = lan.host
    space = namespace(host, "x")
    inside = state(space)
    (lan.end_server if gone == "server" else lan.end_switch)(signal.SIGKILL)
    links = names(host)
    told = host.dnet("attach", "--bridge", "ovs0", "--ip", "192.168.1.9/24", "/run/netns/x", code=8).stderr
    assert "systemctl start openvswitch" in told
    assert (state(space), names(host), host.rows("SELECT * FROM container")) == (inside, links, [])


def test_tap_of_somebody_without_open_vswitch(host: FakeHost) -> None:
    """A tap device is no bridge, and where no Open vSwitch is, none is looked for."""
    namespace(host, "x")
    host.run("ip tuntap add tap0 mode tap")
    assert "tap0 is not a bridge" in host.dnet("attach", "--bridge", "tap0", "/run/netns/x", code=2).stderr


def test_pipework_without_open_vswitch(host: FakeHost) -> None:
    """Where no Open vSwitch is, pipework's missing bridge ovs... is refused with what was tried."""
    space = namespace(host, "x")
    inside, links = state(space), names(host)
    told = host.dnet("pipework", "ovs7", "/run/netns/x", "192.168.7.2/24", code=8).stderr
    assert "unix:/" in told
    assert (state(space), names(host)) == (inside, links)


def test_linux_bridges_load_nothing(ovs: Ovs) -> None:
    """To attach to a Linux bridge neither the package ovs nor dnet's own modules for it are loaded."""
    host = ovs.host
    namespace(host, "x")
    host.run("ip link add br7 type bridge")
    script = (
        "import sys, dnet\nwith dnet.open() as engine: engine.attach('/run/netns/x', bridge='br7')\n"
        "print([name for name in sys.modules if name in {'ovs', 'dnet.openvswitch.ovsdb', 'dnet.openvswitch.switch'}])"
    )
    assert host.python(script).stdout == "[]\n"


# Mending


def test_restarted_target(lan: Ovs) -> None:
    """A container of others that has another namespace now is attached to the bridge again, and the old port goes."""
    host = lan.host
    namespace(host, "x")
    attach(host, "--bridge", "ovs0", "--vlan", "100", "-i", "lan0", "--ip", "192.168.1.150/24", "/run/netns/x")
    machine(lan, "member", "192.168.1.3", "tag=100")
    host.run("ip netns delete x")
    space = namespace(host, "x")
    host.dnet("reconcile")
    assert reaches(space, "192.168.1.3")
    assert len(lan.ports()) == 3
    host.run("ip netns delete x")
    host.dnet("reconcile")
    assert lan.ports() == ["p-member", "p-peer"]
    assert host.rows("SELECT * FROM container") == []


def test_missing_and_changed_ports(lan: Ovs) -> None:
    """Reconcile names and makes again a port that somebody has removed, or whose VLAN somebody has changed."""
    host = lan.host
    space = namespace(host, "x")
    machine(lan, "member", "192.168.1.3", "tag=100")
    end = attach(host, "--bridge", "ovs0", "--vlan", "100", "--ip", "192.168.1.150/24", "/run/netns/x")
    name = end["host_interface"]
    lan.vsctl("del-port", name)
    left = host.dnet("reconcile", "--dry-run", "--json", code=10).json["left"]
    assert [item["what"] for item in left] == [f"port {name} on Open vSwitch bridge ovs0, tag 100"]
    host.dnet("reconcile")
    assert reaches(space, "192.168.1.3")
    lan.vsctl("set", "Port", name, "tag=7")
    host.dnet("reconcile")
    assert reaches(space, "192.168.1.3")
    host.run("ip", "link", "delete", name)
    host.dnet("reconcile")
    assert reaches(space, "192.168.1.3")
    host.dnet("reconcile", "--dry-run")


def test_bridge_that_is_gone(lan: Ovs) -> None:
    """While somebody's bridge is missing reconcile says so and touches nothing; when it is back, the port is too."""
    host = lan.host
    space = namespace(host, "x")
    attach(host, "--bridge", "ovs0", "--ip", "192.168.1.150/24", "/run/netns/x")
    lan.vsctl("del-br", "ovs0")
    inside = state(space)
    assert "there is no Open vSwitch bridge ovs0" in host.dnet("reconcile", code=10).stderr
    assert state(space) == inside
    lan.vsctl("add-br", "ovs0", "--", "set", "Bridge", "ovs0", f"datapath_type={DATAPATH}")
    lan.vsctl("add-port", "ovs0", "p-peer")
    host.dnet("reconcile")
    assert reaches(space, PEER)


def test_killed_container_of_ours(lan: Ovs) -> None:
    """When the sandbox of a container of dnet's own is lost, as after a reboot, its port comes back with it."""
    host = lan.host
    host.dnet("create", "web")
    attach(host, "--bridge", "ovs0", "--ip", "192.168.1.150/24", "web")
    host.run("umount", host.dnet("inspect", "-f", "{{ .NetworkSettings.SandboxKey }}", "web").stdout.strip())
    host.dnet("reconcile")
    assert reaches(host.sandbox("web"), PEER)
    host.dnet("reconcile", "--dry-run")


# Open vSwitch that comes and goes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_restart_of_the_switch(lan: Ovs, number: int) -> None:
    """After ovs-vswitchd has ended or been killed, and is started again, attached interfaces reach the LAN again."""
    host = lan.host
    space = namespace(host, "x")
    attach(host, "--bridge", "ovs0", "--ip", "192.168.1.150/24", "/run/netns/x")
    lan.end_switch(number)
    lan.start_switch()
    host.run("sh", "-c", f"ip link set ovs0 up; ip address replace {HOST}/24 dev ovs0")
    assert reaches(space, PEER)
    assert reaches(space, HOST)
    host.dnet("reconcile", "--dry-run")


def test_restart_of_the_server(lan: Ovs) -> None:
    """An engine that has attached something goes on attaching after ovsdb-server was restarted."""
    host = lan.host
    space = namespace(host, "x")
    process = host.start(sys.executable, "-c", ATTACHING, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == "one\n"
    lan.end_server(signal.SIGKILL)
    lan.start_server()
    assert process.communicate("go\n")[0] == "two\n"
    assert global_addresses(space, "eth1") == ["192.168.1.151/24"]
    assert "eth0" not in names(space)
    assert reaches(space, PEER)
    assert len(lan.ports()) == 2
