"""Ports of an Open vSwitch bridge, as ovs-vsctl and ovs-vswitchd tell them."""

from __future__ import annotations

import json

import pytest

from dnet.objects.openvswitch import OvsPort
from dnet.openvswitch.switch import OpenVSwitch
from tests.support.hosts import Raised
from tests.support.openvswitch import DATAPATH, Ovs, bridge, port


def made(*ports: OvsPort, keep_going: bool = False):
    """Return what makes ports and returns their errors."""

    def work(switch: OpenVSwitch) -> list[str]:
        return [str(error or "") for error in switch.create_ports(ports, keep_going=keep_going)]

    return work


@pytest.fixture(autouse=True)
def _bridge(ovs: Ovs):
    """Make the bridge ovs0."""
    ovs.call(lambda switch: switch.create_bridges([bridge()]))


def configuration(ovs: Ovs) -> int:
    """Return how many changes ovs-vswitchd has been told of."""
    return int(ovs.vsctl("get", "Open_vSwitch", ".", "next_cfg"))


def test_many_ports_are_one_transaction(ovs: Ovs):
    """300 ports are one change of the configuration, and when the call returns ovs-vswitchd has all of them."""
    names = [f"v{number}" for number in range(300)]
    ovs.veths(*names)
    before = configuration(ovs)
    assert ovs.call(made(*(port(name, tag=number % 10 + 100) for number, name in enumerate(names)))) == [""] * 300
    assert configuration(ovs) == before + 1
    assert sorted(ovs.ports()) == sorted(names)
    assert ovs.datapath_ports() == sorted([*names, "ovs0"])
    columns = "--columns=name,ofport,error"
    rows = json.loads(ovs.vsctl("--format=json", columns, "find", "Interface", "name!=ovs0"))["data"]
    assert {len(rows), len({number for _, number, _ in rows})} == {300}
    assert all(number > 0 and error == ["set", []] for _, number, error in rows)
    marks = json.loads(ovs.vsctl("--format=json", "--columns=name,external_ids,tag", "find", "Port", "name=v7"))["data"]
    assert marks == [["v7", ["map", [["dnet", "end-v7"]]], 107]]


def test_missing_device_leaves_nothing(ovs: Ovs):
    """A port without a device is refused in Open vSwitch's words, and none of its transaction is left."""
    ovs.veths("v1", "v2")
    words = r"cannot create port v3 on Open vSwitch bridge ovs0: could not open network device v3 \(No such device\)"
    with pytest.raises(Raised, match=words) as caught:
        ovs.call(made(port("v1"), port("v2"), port("v3")))
    assert (caught.value.kind, caught.value.notes) == ("OvsError", [])
    assert ovs.ports() == []
    assert ovs.datapath_ports() == ["ovs0"]
    assert ovs.vsctl("--columns=name", "--bare", "list", "Interface") == "ovs0"


def test_taken_name_leaves_nothing(ovs: Ovs):
    """A port whose name is somebody else's is a Conflict; none of its transaction is left, and theirs stays."""
    ovs.veths("v1", "v2")
    ovs.vsctl("add-port", "ovs0", "v2", "tag=7")
    with pytest.raises(
        Raised, match="cannot create port v2 on Open vSwitch bridge ovs0: a port of this name"
    ) as caught:
        ovs.call(made(port("v1"), port("v2")))
    assert (caught.value.kind, caught.value.notes) == ("Conflict", [])
    assert (ovs.ports(), ovs.vsctl("get", "Port", "v2", "tag")) == (["v2"], "7")


def test_keep_going(ovs: Ovs):
    """With keep_going each port has its own error, what failed is removed, and the others stay."""
    ovs.veths("v1", "v2", "v4")
    ovs.vsctl("add-port", "ovs0", "v2")
    errors = ovs.call(made(*(port(f"v{number}") for number in (1, 2, 3, 4)), keep_going=True))
    assert [bool(error) for error in errors] == [False, True, True, False]
    assert "exists already" in errors[1]
    assert "No such device" in errors[2]
    assert sorted(ovs.ports()) == ["v1", "v2", "v4"]
    assert ovs.datapath_ports() == ["ovs0", "v1", "v2", "v4"]


def test_missing_bridge(ovs: Ovs):
    """A port of a bridge that does not exist is NotFound, and no port is made on those that do."""
    ovs.veths("v1", "v2")
    with pytest.raises(Raised, match="there is no Open vSwitch bridge ovs1") as caught:
        ovs.call(made(port("v1"), port("v2", bridge="ovs1")))
    assert caught.value.kind == "NotFound"
    assert ovs.ports() == []


def test_refused_value_names_its_port(ovs: Ovs):
    """A value that the database refuses is told in its words, with the port that it was meant for."""
    ovs.veths("v1", "v2")
    with pytest.raises(
        Raised, match=r"cannot create port v2 on .*, tag 5000: 5000 is not in the valid range"
    ) as caught:
        ovs.call(made(port("v1"), port("v2", tag=5000)))
    assert caught.value.kind == "OvsError"
    assert ovs.ports() == []


def test_created_again(ovs: Ovs):
    """What exists under its own mark is made what it should be, beside what is new: creating again does no harm."""
    ovs.veths("v1", "v2")
    assert ovs.call(made(port("v1", tag=100))) == [""]
    assert ovs.call(made(port("v1", tag=200, is_protected=True), port("v2"))) == ["", ""]
    assert sorted(ovs.ports()) == ["v1", "v2"]
    assert (ovs.vsctl("get", "Port", "v1", "tag"), ovs.vsctl("get", "Port", "v1", "protected")) == ("200", "true")


def test_deleted_in_parts(ovs: Ovs):
    """Ports are deleted 20 at a time, progress is told in between, and what is missing or foreign is left alone."""
    names = [f"v{number}" for number in range(45)]
    ovs.veths(*names, "w1")
    ports = [port(name) for name in names]
    ovs.call(made(*ports))
    ovs.vsctl("del-port", "ovs0", "v3", "--", "add-port", "ovs0", "w1")
    before = configuration(ovs)
    heard: list[int] = ovs.call(lambda switch: told(switch, [*ports, port("w1")]))
    assert heard == [2, 22, 42, 46]
    assert configuration(ovs) == before + 3
    assert (ovs.ports(), ovs.datapath_ports()) == (["w1"], ["ovs0", "w1"])
    assert ovs.call(lambda switch: told(switch, ports)) == [45]


def told(switch: OpenVSwitch, ports: list[OvsPort]) -> list[int]:
    """Delete ports and return the progress that was told."""
    heard: list[int] = []
    switch.delete_ports(ports, heard.append)
    return heard


def test_deletion_is_cancelled_between_parts(ovs: Ovs):
    """What the progress callback raises ends a deletion; what is left can be deleted afterwards."""
    ports = [port(f"v{number}") for number in range(45)]
    ovs.veths(*(item.port for item in ports))
    ovs.call(made(*ports))

    def cancel(done: int) -> None:
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(Raised) as caught:
        ovs.call(lambda switch: switch.delete_ports(ports, cancel))
    assert caught.value.kind == "KeyboardInterrupt"
    assert len(ovs.ports()) == 25
    ovs.call(lambda switch: switch.delete_ports(ports))
    assert ovs.ports() == []


def test_what_carries_the_mark_is_listed(ovs: Ovs):
    """Bridges and ports with dnet's mark are listed as the objects that made them, and nobody else's are."""
    ports = [
        port("v1", tag=100, is_protected=True),
        port("v2", trunks=((100, 100), (200, 300)), native=5),
        port("v3", trunks=((7, 9),)),
        port("v4", trunks=((0, 4095),)),
        port("v5"),
    ]
    mine = [bridge(), bridge("ovs1", "net-2", mtu=1400, tag=12)]
    ovs.veths(*(item.port for item in ports), "w1")
    ovs.vsctl(
        "add-port", "ovs0", "w1", "--", "add-br", "theirs", "--", "set", "Bridge", "theirs", "datapath_type=netdev"
    )

    def work(switch: OpenVSwitch) -> list[str]:
        switch.create_bridges(mine)
        switch.create_ports(ports)
        return sorted(map(repr, switch.observed()))

    assert ovs.call(work) == sorted(map(repr, [*mine, *ports]))
    assert ovs.call(lambda switch: switch.bridge_names()) == {"ovs0": DATAPATH, "ovs1": DATAPATH, "theirs": "netdev"}


def test_without_work(ovs: Ovs):
    """Nothing to do is no transaction."""
    before = configuration(ovs)

    def work(switch: OpenVSwitch) -> None:
        assert switch.create_ports([]) == []
        assert switch.create_bridges([]) == {}
        switch.delete_ports([])
        switch.delete_bridges([])
        switch.set_vlans([])

    ovs.call(work)
    assert configuration(ovs) == before
