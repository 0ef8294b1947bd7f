"""Open vSwitch that is gone, for good or for a while: what was on it can be removed, and is missed by nobody."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3

import pytest

from dnet.openvswitch.ovsdb import DISTRIBUTION_PATHS
from tests.openvswitch.test_engine import OPTIONS, SUBNET, create, device, left_over
from tests.support.attachment_lan import namespace
from tests.support.hosts import FakeHost
from tests.support.openvswitch import DATAPATH, DIRECTORY, Ovs, reaches


@pytest.fixture
def lab(ovs: Ovs) -> Ovs:
    """A network `lab` with two containers, beside somebody's bridge with a port that carries a mark like dnet's."""
    host = ovs.host
    host.dnet("network", "create", *OPTIONS, *SUBNET, "lab")
    create(host, "a", "-p", "8080:80")
    create(host, "b")
    ovs.veths("v1", "v2")
    ovs.vsctl("add-br", "theirs", "--", "set", "Bridge", "theirs", f"datapath_type={DATAPATH}")
    ovs.vsctl("add-port", "theirs", "v1", "--", "set", "Port", "v1", "external_ids:dnet=another-engine")
    ovs.vsctl("add-port", "theirs", "v2")
    return ovs


def stop(ovs: Ovs) -> None:
    """End both processes of Open vSwitch, as when it is stopped."""
    for end, process in ((ovs.end_switch, ovs.switch), (ovs.end_server, ovs.server)):
        if process.poll() is None:
            end(signal.SIGTERM)


def start(ovs: Ovs) -> None:
    """Start it again."""
    ovs.start_server()
    ovs.start_switch()


def remove(ovs: Ovs) -> None:
    """Stop Open vSwitch, with its database deleted: it is gone for good."""
    stop(ovs)
    ovs.host.run("sh", "-c", f"rm -rf {DIRECTORY}/*")


def names(host: FakeHost) -> list[str]:
    """Return the containers that dnet knows."""
    return [item["name"] for item in host.dnet("ps", "-a", "--json").json]


def known(host: FakeHost) -> list[object]:
    """Return what the state says of containers and their interfaces, and the devices that there are."""
    tables = ("container", "endpoint", "attachment")
    return [*(host.rows(f"SELECT * FROM {name}") for name in tables), sorted(left_over(host))]


# For good


def test_plain_removal_is_refused(lab: Ovs) -> None:
    """Without --force nothing is removed; the sentence says what was tried, the hint how to start it, and --force."""
    host = lab.host
    remove(lab)
    before = known(host)
    for command in (["rm", "a"], ["bulk-delete", "--all"], ["network", "disconnect", "lab", "a"]):
        told = host.dnet(*command, code=8).stderr
        assert f"database at unix:{DIRECTORY}/db.sock" in told
        assert "systemctl start openvswitch-switch" in told
        assert "--force" in told
        assert known(host) == before
    assert sorted(names(host)) == ["a", "b"]
    host.dnet("rm", "-f", "a", "b")
    for words in (["rm", "lab"], ["prune"]):
        assert "--force" in host.dnet("network", *words, code=8).stderr
    assert host.dnet("network", "ls", "--json").json


def test_forced_removal(lab: Ovs) -> None:
    """With --force all that is in the kernel goes, rules, devices and addresses too; nothing is left to mend."""
    host = lab.host
    bridge = device(host)
    remove(lab)
    told = host.dnet("rm", "-f", "a").stderr
    assert "`dnet reconcile`" in told
    assert names(host) == ["b"]
    assert "8080" not in host.run("nft", "list", "table", "inet", "dnet").stdout
    host.dnet("bulk-delete", "--all", "--force")
    assert names(host) == []
    assert [name for name in left_over(host) if name.startswith("veth")] == []
    assert host.pins() == []
    host.dnet("network", "rm", "-f", "lab", "nobody")
    # The device of the kernel's datapath is Open vSwitch's to remove.
    assert (bridge in [link["ifname"] for link in host.json("ip -j link")]) == (DATAPATH == "system")
    assert not [item for item in host.json("ip -j -4 address") for one in item["addr_info"] if "10.7." in one["local"]]
    host.dnet("reconcile")
    host.dnet("create", "plain")
    assert host.json("ip -j link show dnet0")


def test_removed_package(lab: Ovs) -> None:
    """When the package is removed, Python's part of it included, containers and networks can be removed by force."""
    host = lab.host
    remove(lab)
    for path in DISTRIBUTION_PATHS:
        host.run("sh", "-c", f"! test -d {path} || mount -t tmpfs none {path}")
    for command in (["rm", "a"], ["bulk-delete", "--all"]):
        told = host.dnet(*command, code=6).stderr
        assert "the Python package of Open vSwitch is not installed" in told
        assert "--force" in told
    host.dnet("rm", "-f", "a", "b")
    host.dnet("network", "rm", "-f", "lab")
    assert not [name for name in left_over(host) if name.startswith("veth")]
    host.dnet("reconcile")
    host.dnet("create", "plain")


def test_new_database(lab: Ovs) -> None:
    """What was left behind is forgotten when Open vSwitch is back with another database, and work goes on."""
    host = lab.host
    remove(lab)
    host.dnet("rm", "-f", "a", "b")
    host.dnet("network", "rm", "-f", "lab")
    host.run("ovsdb-tool", "create", f"{DIRECTORY}/conf.db", "/usr/share/openvswitch/vswitch.ovsschema")
    lab.start_server()
    lab.vsctl("--no-wait", "init")
    lab.start_switch()
    host.dnet("reconcile")
    assert host.rows("SELECT * FROM left_behind") == []
    host.dnet("network", "create", *OPTIONS, *SUBNET, "lab")
    create(host, "a")
    assert reaches(host.sandbox("a"), "10.7.0.1")


# For a while


def test_back_again(lab: Ovs) -> None:
    """What was left in the database goes with the first reconcile when Open vSwitch is back, and nobody else's."""
    host = lab.host
    bridge, port = (
        device(host),
        host.dnet("inspect", "a").json[0]["NetworkSettings"]["Networks"]["lab"]["HostInterface"],
    )
    stop(lab)
    host.dnet("rm", "-f", "a")
    host.dnet("reconcile", "--dry-run", code=10)  # network lab cannot be looked at
    start(lab)
    assert port in lab.ports(bridge)
    left = host.dnet("reconcile", "--dry-run", "--json", code=10).json["left"]
    assert [item["what"] for item in left] == [f"removal of port {port} on Open vSwitch bridge {bridge}"]
    host.dnet("reconcile")
    assert len(lab.ports(bridge)) == 1
    assert lab.ports("theirs") == ["v1", "v2"]
    host.dnet("reconcile", "--dry-run")
    assert reaches(host.sandbox("b"), "10.7.0.1")


def test_everything_back_again(lab: Ovs) -> None:
    """Network and containers that were removed by force are missed in the database by nobody when it is back."""
    host = lab.host
    stop(lab)
    host.dnet("bulk-delete", "--all", "-f")
    host.dnet("network", "prune", "-f")
    host.dnet("reconcile")
    start(lab)
    host.dnet("reconcile")
    assert lab.vsctl("list-br") == "theirs"
    assert lab.ports("theirs") == ["v1", "v2"]
    assert host.rows("SELECT * FROM left_behind") == []


def test_same_network_again(ovs: Ovs) -> None:
    """A network may be made again under the same bridge's name at once when Open vSwitch is back."""
    host = ovs.host
    host.dnet("network", "create", *OPTIONS, *SUBNET, "--bridge", "ovs7", "lab")
    create(host, "a")
    stop(ovs)
    host.dnet("rm", "-f", "a")
    host.dnet("network", "rm", "-f", "lab")
    start(ovs)
    host.dnet("network", "create", *OPTIONS, *SUBNET, "--bridge", "ovs7", "lab")
    create(host, "a")
    assert reaches(host.sandbox("a"), "10.7.0.1")
    assert len(ovs.ports("ovs7")) == 1


def test_force_changes_nothing_while_it_runs(lab: Ovs) -> None:
    """Where Open vSwitch can be reached, --force removes ports and bridges at once."""
    host = lab.host
    lab.end_switch(signal.SIGKILL)  # a database can be asked that nobody serves
    host.dnet("rm", "-f", "a")
    assert host.rows("SELECT * FROM left_behind") == []
    assert len(lab.ports(device(host))) == 1


# What is attached by hand


def test_attached_by_hand(ovs: Ovs) -> None:
    """Interfaces on bridges of Open vSwitch are detached by force, and forgotten with a container that is gone."""
    host = ovs.host
    ovs.vsctl("add-br", "ovs0", "--", "set", "Bridge", "ovs0", f"datapath_type={DATAPATH}")
    x, _ = namespace(host, "x"), namespace(host, "y")
    for name in "xy":
        host.dnet("attach", "--bridge", "ovs0", "-i", "lan0", f"/run/netns/{name}")
    host.dnet("pipework", "ovs9", "/run/netns/x", "192.168.9.2/24")
    stop(ovs)
    before = known(host)
    told = host.dnet("detach", "/run/netns/x", "-i", "lan0", code=8).stderr
    assert "--force" in told
    assert known(host) == before
    host.dnet("detach", "-f", "/run/netns/x", "-i", "lan0")
    assert "lan0" not in x.run("ip", "link").stdout
    host.dnet("detach", "-f", "/run/netns/x")
    host.run("ip netns delete y")
    host.dnet("reconcile")
    assert host.rows("SELECT * FROM container") == []
    assert [name for name in left_over(host) if name.startswith("veth")] == []
    assert ("ovs9" in json.dumps(host.json("ip -j link"))) == (DATAPATH == "system")
    start(ovs)
    assert len(ovs.ports("ovs0")) == 2
    host.dnet("reconcile")
    assert (ovs.ports("ovs0"), ovs.vsctl("list-br")) == ([], "ovs0")


def test_same_name_again(ovs: Ovs) -> None:
    """A host's end whose name was left in the database can be named again at once when Open vSwitch is back."""
    host = ovs.host
    ovs.vsctl("add-br", "ovs0", "--", "set", "Bridge", "ovs0", f"datapath_type={DATAPATH}")
    namespace(host, "x")
    command = ("pipework", "ovs0", "-l", "mine", "/run/netns/x", "192.168.1.2/24")
    host.dnet(*command)
    stop(ovs)
    host.dnet("detach", "-f", "/run/netns/x")
    start(ovs)
    host.dnet(*command)
    assert ovs.ports("ovs0") == ["mine"]
    assert host.rows("SELECT * FROM left_behind") == []


def test_disconnected_by_force(lab: Ovs) -> None:
    """`network disconnect -f` takes a container off a network whose Open vSwitch is gone."""
    host = lab.host
    stop(lab)
    host.dnet("network", "disconnect", "-f", "lab", "a")
    assert not host.sandbox("a").json("ip -j -4 route")
    start(lab)
    assert len(lab.ports(device(host))) == 2
    host.dnet("reconcile")
    assert len(lab.ports(device(host))) == 1


def test_killed_while_attaching(ovs: Ovs) -> None:
    """What a killed process had attached by half is taken away also when Open vSwitch is gone meanwhile."""
    host = ovs.host
    ovs.vsctl("add-br", "ovs0", "--", "set", "Bridge", "ovs0", f"datapath_type={DATAPATH}")
    space = namespace(host, "x")
    host.dnet("attach", "--bridge", "ovs0", "-i", "lan0", "/run/netns/x")
    stop(ovs)
    with contextlib.closing(sqlite3.connect(host.state_dir / "state.db")) as connection, connection:
        connection.execute("UPDATE attachment SET phase = 'creating'")
        connection.execute("UPDATE container SET phase = 'changing', owner = 'dead.1'")
    host.dnet("create", "plain")
    assert "lan0" not in space.run("ip", "link").stdout
    assert host.rows("SELECT * FROM attachment") == []
    start(ovs)
    host.dnet("reconcile")
    assert ovs.ports("ovs0") == []


def test_killed_in_the_middle(lab: Ovs) -> None:
    """What a killed process had half removed goes with the next command, also when Open vSwitch is gone meanwhile."""
    host = lab.host
    stop(lab)
    with contextlib.closing(sqlite3.connect(host.state_dir / "state.db")) as connection, connection:
        connection.execute("UPDATE container SET phase = 'deleting', owner = 'dead.1' WHERE name = 'a'")
    told = host.dnet("create", "plain").stderr
    assert "removed 1 containers" in told
    assert sorted(names(host)) == ["b", "plain"]
    start(lab)
    host.dnet("reconcile")
    assert len(lab.ports(device(host))) == 1
