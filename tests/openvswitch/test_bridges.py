"""Bridges of Open vSwitch: dnet's own, and somebody else's."""

from __future__ import annotations

import json

import pytest

from tests.support.hosts import Raised, wait_until
from tests.support.openvswitch import MAC, Ovs, bridge, port


def device(ovs: Ovs, name: str) -> dict:
    """Return what ip tells of a device."""
    [found] = ovs.host.json("ip", "-j", "link", "show", "dev", name)
    return dict(found)


def rows(ovs: Ovs) -> str:
    """Return the configuration of all bridges, ports and interfaces; what ovs-vswitchd reports left out."""
    told = {
        "statistics",
        "status",
        "ifindex",
        "link_resets",
        "link_state",
        "admin_state",
        "mac_in_use",
        "ofport",
        "mtu",
    }
    found = []
    for table in ("Bridge", "Port", "Interface"):
        listing = json.loads(ovs.vsctl("--format=json", "list", table))
        for row in listing["data"]:
            kept = [item for item in zip(listing["headings"], row, strict=True) if item[0] not in told]
            found.append(json.dumps([table, kept], sort_keys=True))
    return "\n".join(sorted(found))


def test_bridge(ovs: Ovs):
    """A bridge has its datapath, MAC, MTU and mark; its device is there when the call returns, with that index."""
    made = ovs.call(lambda switch: switch.create_bridges([bridge(mtu=1400)]))
    found = device(ovs, "ovs0")
    assert made == {"ovs0": found["ifindex"]}
    assert (found["address"], found["mtu"]) == (MAC, 1400)
    columns = "--columns=datapath_type,fail_mode,external_ids,other_config"
    [[kind, mode, ids, config]] = json.loads(ovs.vsctl("--format=json", columns, "list", "Bridge"))["data"]
    assert (kind, mode, ids) == ("netdev", "standalone", ["map", [["dnet", "net-1"]]])
    assert dict(config[1]) == {"disable-in-band": "true", "hwaddr": MAC}


def test_several_bridges_at_once(ovs: Ovs):
    """Several bridges are one transaction; deleting some leaves the others, and takes their ports along."""
    bridges = [bridge(f"ovs{number}", f"net-{number}") for number in range(3)]
    ovs.veths("v1")
    ovs.call(lambda switch: [switch.create_bridges(bridges), switch.create_ports([port("v1")])][:0])
    ovs.call(lambda switch: switch.delete_bridges(bridges[:2]))
    assert ovs.vsctl("list-br") == "ovs2"
    assert ovs.datapath_ports() == ["ovs2"]
    names = {link["ifname"] for link in ovs.host.json("ip -j link")}
    assert names & {"ovs0", "ovs1", "ovs2"} == {"ovs2"}


def test_created_again(ovs: Ovs):
    """A bridge that exists under its own mark is made what it should be, and its ports stay."""
    ovs.veths("v1")
    ovs.call(lambda switch: [switch.create_bridges([bridge()]), switch.create_ports([port("v1")])][:0])
    index = device(ovs, "ovs0")["ifindex"]
    again = bridge(mtu=1400, tag=9)
    assert ovs.call(lambda switch: switch.create_bridges([again])) == {"ovs0": index}
    assert (device(ovs, "ovs0")["mtu"], ovs.vsctl("get", "Port", "ovs0", "tag"), ovs.ports()) == (1400, "9", ["v1"])


def test_foreign_bridge_stays_as_it_was(ovs: Ovs):
    """Ports come and go on somebody's bridge, and it and its own ports stay as they were."""
    ovs.veths("v1", "v2")
    ovs.vsctl("add-br", "ovs0", "--", "set", "Bridge", "ovs0", "datapath_type=netdev", "external_ids:theirs=yes")
    ovs.vsctl("add-port", "ovs0", "v1", "tag=7", "--", "set", "Port", "v1", "external_ids:dnetwork=12")
    before = rows(ovs)
    theirs = bridge(owner="", datapath_type="")
    assert ovs.call(lambda switch: switch.create_bridges([theirs])) == {"ovs0": device(ovs, "ovs0")["ifindex"]}
    assert rows(ovs) == before
    ovs.call(lambda switch: switch.create_ports([port("v2", tag=9)])[:0])
    assert sorted(ovs.ports()) == ["v1", "v2"]
    ovs.call(lambda switch: [switch.delete_ports([port("v1"), port("v2")]), switch.delete_bridges([theirs])])
    assert rows(ovs) == before


def test_foreign_bridge_is_not_deleted(ovs: Ovs):
    """A bridge whose name a network of dnet's has is a Conflict when created, and left alone when deleted."""
    ovs.vsctl("add-br", "ovs0", "--", "set", "Bridge", "ovs0", "datapath_type=netdev")
    before = rows(ovs)
    with pytest.raises(Raised, match="cannot create Open vSwitch bridge ovs0, datapath netdev: it exists") as caught:
        ovs.call(lambda switch: switch.create_bridges([bridge("ovs1"), bridge()]))
    assert caught.value.kind == "Conflict"
    ovs.call(lambda switch: switch.delete_bridges([bridge()]))
    assert rows(ovs) == before


def test_missing_foreign_bridge(ovs: Ovs):
    """Somebody's bridge that does not exist is NotFound; the hint lists those that do."""
    ovs.vsctl("add-br", "ovs7", "--", "set", "Bridge", "ovs7", "datapath_type=netdev")
    with pytest.raises(Raised, match="there is no Open vSwitch bridge ovs0") as caught:
        ovs.call(lambda switch: switch.create_bridges([bridge(owner="")]))
    assert caught.value.kind == "NotFound"
    assert "ovs7" in caught.value.hint


def test_foreign_bridge_of_another_datapath(ovs: Ovs):
    """Somebody's bridge whose datapath is another than what was asked for is an invalid request."""
    ovs.vsctl("add-br", "ovs0", "--", "set", "Bridge", "ovs0", "datapath_type=netdev")
    with pytest.raises(Raised, match="bridge ovs0 has a datapath of type netdev, not system") as caught:
        ovs.call(lambda switch: switch.create_bridges([bridge(owner="", datapath_type="system")]))
    assert caught.value.kind == "InvalidRequest"


def test_datapath_that_is_missing(ovs: Ovs):
    """A datapath that Open vSwitch does not have is Unsupported, and no bridge is left."""
    ovs.call(lambda switch: switch.create_bridges([bridge()]))
    with pytest.raises(Raised, match="no datapath of type system here, only netdev") as caught:
        ovs.call(lambda switch: switch.create_bridges([bridge("ovs1", datapath_type="system")]))
    assert caught.value.kind == "Unsupported"
    assert ovs.vsctl("list-br") == "ovs0"
    assert ovs.call(lambda switch: switch.datapath_type()) == "netdev"


@pytest.mark.parametrize("kind", ["bridge", "veth"])
def test_device_of_the_same_name(ovs: Ovs, kind: str):
    """Where a device of another kind has the name, Open vSwitch's refusal is told, and only that device is left."""
    ovs.host.run("ip", "link", "add", "ovs0", "type", kind)
    before = ovs.host.json("ip -j link show dev ovs0")
    with pytest.raises(
        Raised, match="cannot create Open vSwitch bridge ovs0, datapath netdev: could not open"
    ) as caught:
        ovs.call(lambda switch: switch.create_bridges([bridge("ovs1", "net-2"), bridge()]))
    assert (caught.value.kind, caught.value.notes) == ("OvsError", [])
    assert ovs.vsctl("list-br") == ""
    assert ovs.host.json("ip -j link show dev ovs0") == before


def test_another_namespace(ovs: Ovs):
    """Where the device of a bridge is in another namespace the sentence says so, and no bridge is left."""
    other = ovs.host.neighbour("other", "192.0.2.0/24")
    with pytest.raises(Raised, match="its device is not in this network namespace") as caught:
        ovs.call(lambda switch: switch.create_bridges([bridge()]), space=other)
    assert caught.value.kind == "OvsError"
    assert ovs.vsctl("list-br") == ""


def test_deleting_without_the_switch(ovs: Ovs):
    """A bridge is not deleted while ovs-vswitchd does not run, since its device would stay; later it is, with that."""
    ovs.call(lambda switch: switch.create_bridges([bridge()]))
    ovs.end_switch()
    with pytest.raises(Raised, match="ovs-vswitchd, which would have to do it, is not running"):
        ovs.call(lambda switch: switch.delete_bridges([bridge()]))
    assert ovs.vsctl("--no-wait", "list-br") == "ovs0"
    ovs.start_switch()
    wait_until(lambda: ovs.host.run("ovs-appctl", "-t", "ovs-vswitchd", "version", code=None).code == 0, "it answers")
    ovs.call(lambda switch: switch.delete_bridges([bridge()]))
    assert "ovs0" not in {link["ifname"] for link in ovs.host.json("ip -j link")}
