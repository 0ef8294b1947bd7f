"""Objects of Open vSwitch as rows of its database and back; without a database."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnet.objects.openvswitch import OvsBridge, OvsPort
from dnet.objects.vlans import ALL_VLANS, VlanRanges
from dnet.openvswitch import rows

BRIDGE = OvsBridge("ovs0", "net-1", "netdev", mac="02:42:0a:01:00:01", mtu=0, tag=0)
PORT = OvsPort("v1", "ovs0", "end-1", 0, (), 0, is_protected=False)

vids = st.integers(1, 4094)


@st.composite
def ranges(draw: st.DrawFn) -> VlanRanges:
    """Return ranges of VLANs in ascending order, with something between them."""
    found: list[tuple[int, int]] = []
    for first in sorted(draw(st.sets(vids, min_size=1, max_size=8))):
        if found and first <= found[-1][1] + 1:
            continue
        found.append((first, min(first + draw(st.integers(0, 50)), 4094)))
    return tuple(found)


ports = st.one_of(
    st.builds(OvsPort, st.just("v1"), st.just("ovs0"), st.just("e"), vids, st.just(()), st.just(0), st.booleans()),
    st.builds(
        OvsPort, st.just("v1"), st.just("ovs0"), st.just("e"), st.just(0), ranges(), st.just(0) | vids, st.booleans()
    ),
)


@given(ports | st.sampled_from([PORT, replace(PORT, trunks=ALL_VLANS), replace(PORT, trunks=ALL_VLANS, native=5)]))
def test_ports_and_rows(item):
    """A port's row says all of it: the object that is read back is equal."""
    operations = rows.port_operations([item], ())
    [row] = [operation["row"] for operation in operations if operation.get("table") == "Port"]
    assert rows.observed_port(item.bridge, row) == item


@given(ports)
def test_no_port_is_a_trunk_of_everything_by_accident(item):
    """Open vSwitch takes an empty set of trunks for all VLANs; a port has it only as an access port."""
    columns = rows.port_columns(item)
    assert columns["vlan_mode"] == "access" or columns["trunks"][1]


@given(st.sets(vids))
def test_ranges(numbers):
    """Ranges hold exactly the numbers that they were made of, in order, and no two adjoin."""
    found = list(rows.ranges(sorted(numbers)))
    assert [vid for first, last in found for vid in range(first, last + 1)] == sorted(numbers)
    assert all(after[0] > before[1] + 1 for before, after in itertools.pairwise(found))


@pytest.mark.parametrize("item", [BRIDGE, replace(BRIDGE, mtu=1400, tag=100)])
def test_bridges_and_rows(item):
    """A bridge's rows say all of it."""
    written = {operation["table"]: operation.get("row") for operation in rows.bridge_operations([item], ())}
    mtus = {item.bridge: written["Interface"]["mtu_request"]}
    assert rows.observed_bridge(written["Bridge"], [written["Port"]], mtus) == item


def test_other_rows():
    """Rows of other people's, who leave modes out or use those that dnet does not, are read as what they mean."""
    empty = ["set", []]
    row = {"name": "v1", "tag": 5, "vlan_mode": empty, "trunks": empty, "protected": True, "external_ids": ["map", []]}
    assert rows.observed_port("ovs0", row) == OvsPort("v1", "ovs0", "", 5, (), 0, is_protected=True)
    assert rows.observed_port("ovs0", row | {"tag": empty}).trunks == ALL_VLANS
    tagged = rows.observed_port("ovs0", row | {"vlan_mode": "native-tagged", "trunks": 7})
    assert (tagged.tag, tagged.trunks, tagged.native) == (0, ((7, 7),), 5)


def test_many_ports_join_by_one_mutation():
    """However many ports there are, each bridge is told of its new ones by one operation, which sends no others."""
    ports = [replace(PORT, port=f"v{number}", bridge=f"ovs{number % 2}") for number in range(10)]
    operations = rows.port_operations(ports, ())
    assert [operation["op"] for operation in operations] == ["wait"] * 2 + ["insert"] * 20 + ["mutate"] * 2
    assert [len(operation["mutations"][0][2][1]) for operation in operations[-2:]] == [5, 5]


def test_what_exists_is_changed():
    """A port that exists already is neither made nor joined again."""
    operations = rows.port_operations([PORT, replace(PORT, port="v2")], {"v1"})
    assert [(item["op"], item["table"]) for item in operations] == [
        ("wait", "Bridge"),
        ("update", "Port"),
        ("insert", "Interface"),
        ("insert", "Port"),
        ("mutate", "Bridge"),
    ]
    assert "external_ids" not in operations[1]["row"]
