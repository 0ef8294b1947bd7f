"""Networks of driver ovs through the command line: everything that networks can do, on a private Open vSwitch."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.support.hosts import FakeHost, Neighbour, wait_until
from tests.support.openvswitch import DATAPATH, DIRECTORY, Ovs, reaches

OPTIONS = ("-d", "ovs", "-o", f"datapath_type={DATAPATH}")
LOCALNET = "/proc/sys/net/ipv4/conf/ovs0/route_localnet"
SUBNET = ("--subnet", "10.7.0.0/16")


@pytest.fixture
def lab(ovs: Ovs) -> Ovs:
    """A network `lab` of driver ovs."""
    ovs.host.dnet("network", "create", *OPTIONS, *SUBNET, "lab")
    return ovs


def create(host: FakeHost, name: str, *options: str, last: int = 0, code: int = 0) -> str:
    """Create a container on `lab` and return what went wrong."""
    address = ("--ip", f"10.7.0.{last}") if last else ()
    return host.dnet("create", "--network", "lab", *address, *options, name, code=code).stderr


def device(host: FakeHost, network: str = "lab") -> str:
    """Return the bridge of a network."""
    found: str = host.dnet("network", "inspect", network).json[0]["Segments"][0]["Device"]
    return found


def port_of(host: FakeHost, name: str) -> str:
    """Return the host's end of a container's endpoint on `lab`."""
    return host.dnet("inspect", "-f", "{{ .NetworkSettings.Networks.lab.HostInterface }}", name).stdout.strip()


def column(ovs: Ovs, name: str, *columns: str) -> list[object]:
    """Return columns of a port, as ovs-vsctl prints them."""
    found = json.loads(ovs.vsctl("--format=json", f"--columns={','.join(columns)}", "list", "Port", name))
    return list(found["data"][0])


def left_over(host: FakeHost) -> list[str]:
    """Return the devices of containers and networks that there are."""
    return [link["ifname"] for link in host.json("ip -j link") if link["ifname"].startswith(("veth", "br-"))]


# Life


def test_life_of_a_network(ovs: Ovs, outside: Neighbour) -> None:
    """Containers reach each other, the gateway and the world, are published, inspected, renamed and removed."""
    host = ovs.host
    host.dnet("network", "create", *OPTIONS, *SUBNET, "lab")
    about = host.dnet("network", "inspect", "lab").json[0]
    assert about["Driver"] == "ovs"
    assert about["Options"]["datapath_type"] == DATAPATH
    assert about["Options"]["ovsdb"] == f"unix:{DIRECTORY}/db.sock"
    assert ovs.vsctl("get", "Bridge", device(host), "datapath_type") == DATAPATH
    create(host, "a", "-p", "8080:80")
    create(host, "b")
    a, b = host.sandbox("a"), host.sandbox("b")
    assert reaches(a, "10.7.0.3")
    assert reaches(b, "10.7.0.1")
    assert reaches(b, outside.address)
    with a.serve(80):
        assert outside.ask(outside.host_address, 8080)["server"] == "a"
        assert host.ask("127.0.0.1", 8080)["server"] == "a"
        assert b.ask("10.7.0.2", 80)["peer"] == "10.7.0.3"
        assert b.ask(outside.host_address, 8080)["server"] == "a"
    host.dnet("rename", "a", "c")
    assert "dnet c eth0" in host.json("ip", "-j", "link", "show", port_of(host, "c"))[0]["ifalias"]
    host.dnet("reconcile", "--dry-run")
    host.dnet("rm", "c", "b")
    host.dnet("network", "rm", "lab")
    assert ovs.vsctl("list-br") == ""
    assert not left_over(host)


def test_internal_network(ovs: Ovs, outside: Neighbour) -> None:
    """From an internal network there is no way out, and on it there is."""
    ovs.host.dnet("network", "create", *OPTIONS, *SUBNET, "--internal", "lab")
    for name in ("a", "b"):
        create(ovs.host, name)
    assert reaches(ovs.host.sandbox("a"), "10.7.0.3")
    assert not ovs.host.sandbox("a").can_ping(outside.address)


def test_connect_and_disconnect(lab: Ovs) -> None:
    """A container joins a network of driver ovs and leaves it; its port comes and goes."""
    host = lab.host
    host.dnet("create", "--network", "none", "late")
    create(host, "a")
    host.dnet("network", "connect", "lab", "late")
    assert reaches(host.sandbox("late"), "10.7.0.2")
    port = port_of(host, "late")
    assert port in lab.ports(device(host))
    host.dnet("network", "disconnect", "lab", "late")
    assert port not in lab.ports(device(host))
    assert not host.sandbox("late").json("ip -j -4 route")
    # Beside a Linux bridge.
    host.dnet("create", "--network", "bridge", "--network", "lab", "two")
    assert reaches(host.sandbox("two"), "10.7.0.2")


def test_refused_connection_is_taken_back(lab: Ovs) -> None:
    """Where Open vSwitch is gone, connecting changes nothing, and works when it is back."""
    host = lab.host
    host.dnet("create", "--network", "none", "late")
    before = left_over(host)
    lab.end_server()
    assert host.dnet("network", "connect", "lab", "late", code=8)
    assert left_over(host) == before
    lab.start_server()
    wait_until(lambda: host.dnet("network", "connect", "lab", "late", code=None).code == 0, "it is back")
    assert port_of(host, "late") in lab.ports(device(host))


def test_without_icc(ovs: Ovs, outside: Neighbour) -> None:
    """With --icc=false neighbours do not meet, a link opens exactly the exposed ports, and all reach the world."""
    host = ovs.host
    host.dnet("network", "create", *OPTIONS, *SUBNET, "--icc=false", "lab")
    create(host, "db", "--expose", "5432")
    create(host, "web", "--link", "db:store")
    create(host, "other")
    db, web, other = (host.sandbox(name) for name in ("db", "web", "other"))
    assert column(ovs, port_of(host, "db"), "protected") == [True]
    assert reaches(web, outside.address)
    with db.serve(5432), db.serve(5433):
        assert web.ask("10.7.0.2", 5432)["peer"] == "10.7.0.3"
        with pytest.raises(Exception, match="no answer"):
            web.ask("10.7.0.2", 5433, timeout_s=0.5)
        with pytest.raises(Exception, match="no answer"):
            other.ask("10.7.0.2", 5432, timeout_s=0.5)
    assert not other.can_ping("10.7.0.2")


# VLANs


def test_vlans(lab: Ovs) -> None:
    """The first VLAN puts gateway and all that is there into VLAN 1; others are apart; changes are one column's."""
    host = lab.host
    create(host, "old", last=10)
    create(host, "a1", "--vlan", "100", last=11)
    create(host, "a2", "--vlan", "100", last=12)
    create(host, "b1", "--vlan", "200", last=13)
    assert column(lab, port_of(host, "old"), "vlan_mode", "tag") == ["access", 1]
    assert column(lab, device(host), "vlan_mode", "tag") == ["access", 1]
    a1, old = host.sandbox("a1"), host.sandbox("old")
    assert reaches(a1, "10.7.0.12")
    assert reaches(old, "10.7.0.1")
    assert not a1.can_ping("10.7.0.13")
    assert not a1.can_ping("10.7.0.1")
    row = lab.vsctl("get", "Port", port_of(host, "a2"), "_uuid")
    host.dnet("vlan", "set", "a2", "--tag", "200")
    assert reaches(host.sandbox("b1"), "10.7.0.12")
    assert not a1.can_ping("10.7.0.12")
    host.dnet("vlan", "set", "a2", "--trunk", "100-110,200", "--native", "200")
    trunks = ["set", [*range(100, 111), 200]]
    assert column(lab, port_of(host, "a2"), "vlan_mode", "tag", "trunks") == ["native-untagged", 200, trunks]
    assert lab.vsctl("get", "Port", port_of(host, "a2"), "_uuid") == row
    host.dnet("vlan", "set", "a2", "--none")
    assert reaches(old, "10.7.0.12")
    rows = {item["container"]: item for item in host.dnet("vlan", "ls", "--json").json}
    assert (rows[""]["vlan"], rows["old"]["vlan"], rows["a1"]["vlan"]) == (1, 1, 100)


def test_network_in_a_vlan(ovs: Ovs) -> None:
    """With --vlan the gateway is in that, and containers are unless they say otherwise."""
    host = ovs.host
    host.dnet("network", "create", *OPTIONS, *SUBNET, "--vlan", "100", "lab")
    create(host, "a")
    create(host, "b", "--vlan", "200")
    assert reaches(host.sandbox("a"), "10.7.0.1")
    assert not host.sandbox("b").can_ping("10.7.0.1")
    assert host.dnet("network", "inspect", "lab").json[0]["VlanBackend"] == "ovs"
    told = host.dnet("network", "create", *OPTIONS, "-o", "vlan_backend=bpf", "other", code=2).stderr
    assert "cannot keep VLANs apart by bpf" in told


# Bridges that exist


def test_somebodys_bridge(ovs: Ovs, outside: Neighbour) -> None:
    """A bridge that exists gives gateway and subnet, and stays as it was when the network goes."""
    host = ovs.host
    ovs.vsctl("add-br", "ovs0", "--", "set", "Bridge", "ovs0", f"datapath_type={DATAPATH}")
    assert (
        "has no IPv4 address" in host.dnet("network", "create", "-d", "ovs", "--bridge", "ovs0", "lab", code=2).stderr
    )
    host.run("ip addr add 10.7.0.254/24 dev ovs0")
    host.run("ip link set ovs0 up")
    before = _told_of(ovs)
    host.dnet("network", "create", "-d", "ovs", "--bridge", "ovs0", "lab")
    create(host, "a")
    create(host, "b", "--vlan", "100")
    create(host, "c", "--vlan", "100")
    config = host.dnet("network", "inspect", "lab").json[0]["IPAM"]["Config"][0]
    assert (config["Subnet"], config["Gateway"]) == ("10.7.0.0/24", "10.7.0.254")
    assert reaches(host.sandbox("a"), outside.address)
    assert reaches(host.sandbox("b"), "10.7.0.3")
    assert not host.sandbox("b").can_ping("10.7.0.254")
    assert (
        "in no VLAN"
        in host.dnet("network", "create", "-d", "ovs", "--bridge", "ovs0", "x", "--vlan", "7", code=2).stderr
    )
    assert "that of network lab" in host.dnet("network", "create", "-d", "ovs", "--bridge", "ovs0", "x", code=4).stderr
    host.dnet("rm", "a", "b", "c")
    host.dnet("network", "rm", "lab")
    assert _told_of(ovs) == before


def _told_of(ovs: Ovs) -> tuple[object, ...]:
    """Return all that ovs-vsctl and ip tell of ovs0."""
    [about] = ovs.host.json("ip -j -d -4 addr show ovs0")
    kinds = (ovs.vsctl("list", kind, "ovs0") for kind in ("Bridge", "Port"))
    return (*kinds, about["addr_info"], about["mtu"], about.get("ifalias"), ovs.host.run("cat", LOCALNET).stdout)


def test_named_bridge(ovs: Ovs) -> None:
    """A name that nothing has is that of a new bridge, which goes with the network; a Linux bridge's is refused."""
    host = ovs.host
    host.dnet("network", "create", *OPTIONS, "--bridge", "ovs7", "lab")
    assert ovs.vsctl("list-br") == "ovs7"
    host.dnet("network", "rm", "lab")
    assert ovs.vsctl("list-br") == ""
    host.run("ip link add br7 type bridge")
    told = host.dnet("network", "create", *OPTIONS, "--bridge", "br7", "lab", code=2).stderr
    assert "br7 is a Linux bridge" in told


# The connection


def test_not_running(host: FakeHost) -> None:
    """Without Open vSwitch a network is refused with the socket that was tried, and nothing is left."""
    told = host.dnet("network", "create", "-d", "ovs", "lab", code=8).stderr
    assert "unix:/" in told
    assert "start" in told
    assert host.dnet("network", "ls", "--json").json == []
    assert not left_over(host)


def test_one_connection(ovs: Ovs) -> None:
    """--ovsdb and DNET_OVSDB say where the database is, once for all networks of the engine."""
    host = ovs.host
    ovs.vsctl("set-manager", "ptcp:6640:127.0.0.1")
    host.run("ip link set lo up")
    address = "tcp:127.0.0.1:6640"
    host.dnet("network", "create", "-d", "ovs", "lab", env={"DNET_OVSDB": address})
    assert host.dnet("network", "inspect", "lab").json[0]["Options"]["ovsdb"] == address
    host.dnet("network", "create", "-d", "ovs", "more")
    assert host.dnet("network", "inspect", "more").json[0]["Options"]["ovsdb"] == address
    told = host.dnet("network", "create", "-d", "ovs", "--ovsdb", f"unix:{DIRECTORY}/db.sock", "x", code=2).stderr
    assert address in told
    assert "for networks of driver ovs" in host.dnet("network", "create", "--ovsdb", address, "x", code=2).stderr
    host.dnet("network", "create", "plain", env={"DNET_OVSDB": address})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-o", "datapath_type=fast"), "there is no datapath_type 'fast'"),
        (("--ovsdb", "udp:1.2.3.4:5"), "there is no way to a database"),
        (("--ovsdb", "ssl:127.0.0.1:6640"), "private key"),
    ],
)
def test_bad_input(ovs: Ovs, options: tuple[str, ...], words: str) -> None:
    """What is no datapath or address is refused before anything is touched."""
    assert words in ovs.host.dnet("network", "create", "-d", "ovs", *options, "lab", code=2).stderr
    assert ovs.vsctl("list-br") == ""


# Many, and failures


def test_bulk(lab: Ovs) -> None:
    """500 containers spread over VLANs are made and removed; a port that is refused takes all of them back."""
    host = lab.host
    host.dnet("bulk-create", "--count", "500", "--network", "lab")
    assert len(lab.ports(device(host))) == 500
    assert host.sandbox("c-1").silent([f"10.7.0.{number}" for number in (3, 100, 250)]) == []
    host.dnet("reconcile", "--dry-run")
    host.dnet("bulk-delete", "--all")
    assert lab.ports(device(host)) == []
    assert not [name for name in left_over(host) if name.startswith("veth")]


def _taken(lab: Ovs, number: int) -> str:
    """Let somebody have the port of the container that is made as number so and so from now on; return its name."""
    create(lab.host, "probe")
    index = int(port_of(lab.host, "probe").removeprefix("veth"), 16)
    lab.host.dnet("rm", "probe")
    name = f"veth{index + number:x}"
    lab.vsctl("add-br", "theirs", "--", "set", "Bridge", "theirs", f"datapath_type={DATAPATH}")
    lab.host.run("ovs-vsctl", "--no-wait", "add-port", "theirs", name, env={"OVS_RUNDIR": DIRECTORY})
    return name


def test_refused_port(lab: Ovs) -> None:
    """A port that Open vSwitch refuses is named, and everything is undone; with --keep-going the others stay."""
    host = lab.host
    name = _taken(lab, 3)
    told = host.dnet("bulk-create", "--count", "4", "--network", "lab", code=4).stderr
    assert f"port {name}" in told
    assert lab.ports(device(host)) == []
    assert host.dnet("ps", "-a", "--json").json == []
    assert not [item for item in left_over(host) if item.startswith("veth")]
    other = f"veth{int(name.removeprefix('veth'), 16) + 4:x}"
    lab.host.run("ovs-vsctl", "--no-wait", "add-port", "theirs", other, env={"OVS_RUNDIR": DIRECTORY})
    host.dnet("bulk-create", "--count", "4", "--network", "lab", "--keep-going", code=10)
    assert len(lab.ports(device(host))) == 3


def test_words_of_the_switch(lab: Ovs) -> None:
    """When ovs-vswitchd cannot take a port, its own words are told, and everything is undone."""
    host = lab.host
    elsewhere = host.neighbour("elsewhere", "198.51.100.0/24")
    lab.end_switch()
    lab.start_switch(elsewhere)
    told = host.dnet("bulk-create", "--count", "3", "--network", "lab", code=8).stderr
    assert "could not open network device" in told
    assert lab.ports(device(host)) == []
    assert host.dnet("ps", "-a", "--json").json == []
    assert not [name for name in left_over(host) if name.startswith("veth")]
    lab.end_switch()
    lab.start_switch()
    create(host, "a")
    assert reaches(host.sandbox("a"), "10.7.0.1")


def test_switch_that_does_not_run(lab: Ovs) -> None:
    """When ovs-vswitchd is not there, containers are refused in words that say so, and nothing is left."""
    lab.end_switch(signal.SIGKILL)
    told = create(lab.host, "a", code=8)
    assert "ovs-vswitchd" in told
    assert not [name for name in left_over(lab.host) if name.startswith("veth")]
    lab.start_switch()
    create(lab.host, "a")
    assert reaches(lab.host.sandbox("a"), "10.7.0.1")


# Mending


def test_missing_ports_and_bridges(lab: Ovs) -> None:
    """Reconcile names and makes again a port, a VLAN and a bridge that somebody has removed or changed."""
    host = lab.host
    create(host, "a", "--vlan", "100", last=11)
    create(host, "b", "--vlan", "100", last=12)
    port = port_of(host, "a")
    lab.vsctl("del-port", port)
    left = host.dnet("reconcile", "--dry-run", "--json", code=10).json["left"]
    assert [item["what"] for item in left] == [f"port {port} on Open vSwitch bridge {device(host)}, tag 100"]
    host.dnet("reconcile")
    assert reaches(host.sandbox("a"), "10.7.0.12")
    lab.vsctl("set", "port", port, "tag=7")
    host.dnet("reconcile")
    assert reaches(host.sandbox("a"), "10.7.0.12")
    lab.vsctl("del-br", device(host))
    host.dnet("reconcile")
    assert reaches(host.sandbox("a"), "10.7.0.12")
    create(host, "c")
    assert reaches(host.sandbox("c"), "10.7.0.1")
    host.dnet("reconcile", "--dry-run")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_restart_of_the_switch(lab: Ovs, number: int) -> None:
    """After ovs-vswitchd has ended or crashed, and is started again, all is as before; reconcile finds nothing."""
    host = lab.host
    create(host, "a")
    create(host, "b")
    host.run("ip netns add x")
    host.dnet("attach", "--network", "lab", "/run/netns/x")
    lab.end_switch(number)
    lab.start_switch()
    assert reaches(host.sandbox("a"), "10.7.0.3")
    assert reaches(host.sandbox("x"), "10.7.0.3")
    assert reaches(host.sandbox("a"), "10.7.0.1")
    host.dnet("reconcile", "--dry-run")


def test_out_of_reach(lab: Ovs) -> None:
    """Where Open vSwitch is gone, reconcile says so and mends what is on Linux bridges."""
    host = lab.host
    create(host, "a")
    host.dnet("create", "plain")
    lab.end_server()
    host.run("ip", "link", "delete", "dnet0")
    result = host.dnet("reconcile", "--json", code=10).json
    assert "network lab" in json.dumps(result)
    assert host.json("ip -j link show dnet0")
    lab.start_server()
    wait_until(lambda: host.dnet("reconcile", code=None).code == 0, "it is back")


def test_vlans_of_somebody_else(lab: Ovs) -> None:
    """What of Open vSwitch is not dnet's is left alone by reconcile and removal."""
    host = lab.host
    create(host, "a")
    lab.veths("v1")
    lab.vsctl("add-port", device(host), "v1", "tag=7")
    host.dnet("reconcile")
    host.dnet("rm", "a")
    assert lab.ports(device(host)) == ["v1"]
    assert column(lab, "v1", "tag") == [7]


def test_doctor(lab: Ovs) -> None:
    """Doctor tells the version, the datapath, and what is done about segmentation offload."""
    lab.vsctl("--no-wait", "set", "Open_vSwitch", ".", "ovs_version=3.99")
    found = {item["about"]: item for item in lab.host.dnet("doctor", "--json", code=None).json}
    assert found["Open vSwitch"]["level"] == "ok"
    assert "version 3.99," in found["Open vSwitch"]["sentence"]
    assert DATAPATH in found["Open vSwitch"]["sentence"]
    if DATAPATH == "netdev":
        assert f"bridge {device(lab.host)} of network lab is on" in found["offloads"]["sentence"]
        assert "userspace-tso-enable is not set" in found["offloads"]["sentence"]
        assert "userspace-tso-enable" in found["offloads"]["remedy"]


@pytest.mark.skipif(DATAPATH == "system", reason="the kernel's datapath completes frames itself")
def test_doctor_tells_of_every_bridge(lab: Ovs) -> None:
    """Doctor tells of each bridge that is dnet's, or attached to by hand, who completes frames, and what is set."""
    host = lab.host
    host.dnet("network", "create", *OPTIONS, "more")
    for name in ("ovs0", "other"):
        lab.vsctl("add-br", name, "--", "set", "Bridge", name, f"datapath_type={DATAPATH}")
    host.run("ip netns add x")
    host.dnet("attach", "--bridge", "ovs0", "/run/netns/x")
    lab.vsctl("set", "Open_vSwitch", ".", "other_config:userspace-tso-enable=true")
    told = [item for item in host.dnet("doctor", "--json", code=None).json if item["about"] == "offloads"]
    assert [item["level"] for item in told] == ["note"] * 3
    assert sorted(item["sentence"].partition(" is on")[0] for item in told) == sorted(
        [f"bridge {device(host)} of network lab", f"bridge {device(host, 'more')} of network more", "bridge ovs0"]
    )
    assert all("is true, from the next start of ovs-vswitchd on" in item["sentence"] for item in told)


@pytest.mark.skipif(DATAPATH == "system", reason="the kernel's datapath completes frames itself")
@pytest.mark.tso
def test_segmentation_offload(lab: Ovs) -> None:
    """Where the switch does segmentation offload, containers leave it to that, and doctor says so."""
    create(lab.host, "a")
    features = lab.host.sandbox("a").run("ethtool", "-k", "eth0").stdout
    assert "tx-checksumming: on" in features
    found = {item["about"]: item for item in lab.host.dnet("doctor", "--json", code=None).json}
    assert found["offloads"]["level"] == "ok"
    assert "does segmentation offload" in found["offloads"]["sentence"]
    lab.vsctl("remove", "Open_vSwitch", ".", "other_config", "userspace-tso-enable")
    found = {item["about"]: item for item in lab.host.dnet("doctor", "--json", code=None).json}
    assert "its next start is without" in found["offloads"]["remedy"]
    assert os.path.exists(lab.host.inside(f"{DIRECTORY}/db.sock"))
