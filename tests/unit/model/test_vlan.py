"""The VLANs that a port is asked to be in: what is accepted, and what is refused before anything is touched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnet.errors import InvalidRequest
from dnet.model.vlan import PortVlans, parse_trunk, read_vlans


@pytest.mark.parametrize(
    ("wish", "vlans", "text"),
    [
        ({"vlan": "100"}, PortVlans(access=100), "VLAN 100"),
        ({"vlan": 1}, PortVlans(access=1), "VLAN 1"),
        ({"vlan": "4094"}, PortVlans(access=4094), "VLAN 4094"),
        ({"trunk": "100"}, PortVlans(trunk=((100, 100),)), "trunk 100"),
        ({"trunk": "100,200-210"}, PortVlans(trunk=((100, 100), (200, 210))), "trunk 100,200-210"),
        ({"trunk": " 200-210 , 100"}, PortVlans(trunk=((100, 100), (200, 210))), "trunk 100,200-210"),
        ({"trunk": "1-4094"}, PortVlans(trunk=((1, 4094),)), "trunk 1-4094"),
        ({"trunk": "3,1,2,2,2-3"}, PortVlans(trunk=((1, 3),)), "trunk 1-3"),
        ({"trunk": "100", "native": "1"}, PortVlans(trunk=((1, 1), (100, 100)), native=1), "trunk 1,100 native 1"),
        ({"trunk": "1,100", "native": 1}, PortVlans(trunk=((1, 1), (100, 100)), native=1), "trunk 1,100 native 1"),
    ],
)
def test_vlans_of_a_port(wish, vlans, text):
    """A port is in one VLAN, or a trunk of many; its native VLAN is one of the trunk's, named there or not."""
    assert read_vlans(**wish) == vlans
    assert str(vlans) == text


def test_no_vlans():
    """Who asks for no VLAN gets none; a port without any says so."""
    assert read_vlans() is None
    assert str(PortVlans()) == "no VLAN"
    assert (PortVlans().untagged, list(PortVlans().tagged)) == (0, [])


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"vlan": "0"}, ["VLAN '0'", "1 to 4094"]),
        ({"vlan": "4095"}, ["VLAN '4095'", "1 to 4094"]),
        ({"vlan": "-1"}, ["VLAN '-1'"]),
        ({"vlan": "blue"}, ["VLAN 'blue'"]),
        ({"vlan": ""}, ["VLAN ''"]),
        ({"vlan": "1.5"}, ["VLAN '1.5'"]),
        ({"vlan": "٣"}, ["VLAN '٣'"]),
        ({"vlan": "9" * 5000}, ["VLAN"]),
        ({"vlan": "100,200"}, ["VLAN '100,200'"]),
        ({"trunk": ""}, ["without VLANs"]),
        ({"trunk": "  "}, ["without VLANs"]),
        ({"trunk": ","}, ["VLAN of a trunk ''"]),
        ({"trunk": "100,"}, ["VLAN of a trunk ''"]),
        ({"trunk": "0-100"}, ["VLAN of a trunk '0'"]),
        ({"trunk": "100-4095"}, ["VLAN of a trunk '4095'"]),
        ({"trunk": "100-"}, ["VLAN of a trunk ''"]),
        ({"trunk": "1-2-3"}, ["VLAN of a trunk '2-3'"]),
        ({"trunk": "210-200"}, ["210-200", "200-210"]),
        ({"trunk": "100", "native": "0"}, ["native VLAN '0'"]),
        ({"trunk": "100", "native": "4095"}, ["native VLAN '4095'"]),
        ({"trunk": "100", "native": ""}, ["native VLAN ''"]),
        ({"native": "1"}, ["native VLAN 1", "--trunk"]),
        ({"vlan": "100", "trunk": "200"}, ["VLAN 100", "--trunk"]),
        ({"vlan": "100", "native": "200"}, ["VLAN 100", "--native"]),
    ],
)
def test_bad_vlans(wish, words):
    """What can be no VLANs of a port is refused; the error names it, the hint says what can."""
    with pytest.raises(InvalidRequest) as caught:
        read_vlans(**wish)
    text = f"{caught.value} {caught.value.hint}"
    assert not [word for word in words if word not in text]


@given(st.lists(st.tuples(st.integers(1, 4094), st.integers(0, 30)), min_size=1))
def test_trunks(pairs):
    """A trunk is the set of what its list names: ranges ascending and apart, and the same when it is read again."""
    pairs = [(first, min(first + more, 4094)) for first, more in pairs]
    vlans = PortVlans(trunk=parse_trunk(",".join(f"{first}-{last}" for first, last in pairs)))
    assert set(vlans.tagged) == {vid for first, last in pairs for vid in range(first, last + 1)}
    assert list(vlans.tagged) == sorted(set(vlans.tagged))
    assert not [pair for pair, other in zip(vlans.trunk, vlans.trunk[1:], strict=False) if pair[1] + 1 >= other[0]]
    assert parse_trunk(vlans.trunk_text) == vlans.trunk
