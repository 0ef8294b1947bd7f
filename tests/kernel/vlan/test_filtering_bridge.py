"""VLANs on a Linux bridge that filters them itself. Few development kernels have that; `make test-vm` boots one."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from dnet.linux.kernel import Kernel
from dnet.model.vlan import PortVlans
from dnet.objects.object import Absent, Object
from dnet.objects.vlans import BridgeVlanFiltering, BridgeVlans
from tests.support.hosts import FakeHost
from tests.support.vlan_semantics import VlanSemantics, access, trunk
from tests.support.vlan_switch import LinuxBridge, Switch


class VlanBridge(LinuxBridge):
    """A bridge with vlan_filtering."""

    def filtering(self) -> Sequence[Object]:
        made = self.host.run("ip", "link", "add", "name", "probe", "type", "bridge", "vlan_filtering", "1", code=None)
        if made.code and not os.environ.get("DNET_TEST_VM"):
            pytest.skip("this kernel's bridges have no VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING): make test-vm")
        assert not made.code, made.stderr
        self.host.run("ip link delete probe")
        return [BridgeVlanFiltering(self.device, self.index, "")]

    def membership(self, name: str, vlans: PortVlans) -> Sequence[Object]:
        return BridgeVlans.of(name, self.indexes[name], vlans, is_bridge=name == self.device)

    def apply(self, name: str, vlans: PortVlans) -> None:
        gone = BridgeVlans.of(name, self.indexes[name], self.vlans[name], is_bridge=name == self.device)
        self.create(*map(Absent, gone), *self.membership(name, vlans))

    def create(self, *objects: Object) -> None:
        self.host.call(_create, objects)


def _create(objects: Sequence[Object]) -> None:
    for error in Kernel(print).create([objects]):
        if error:
            raise error


@pytest.fixture
def switch(host: FakeHost) -> VlanBridge:
    """Return a bridge."""
    return VlanBridge(host)


@pytest.fixture
def other(host: FakeHost) -> VlanBridge:
    """Return another one."""
    return VlanBridge(host, 1)


class TestVlanBridge(VlanSemantics):
    """All that VLANs mean."""

    is_strict = False

    def test_no_hopping(self, switch: Switch, other: Switch) -> None:
        """There is VLAN hopping: the kernel takes the outer tag away and lets the inner one speak."""
        assert [frame for frame, places in self.hopping(switch, other).items() if "victim" in places]


def test_what_bridge_shows(switch: VlanBridge) -> None:
    """`bridge vlan` shows of every port the VLANs that it was given, and which one is untagged."""
    many = ",".join(str(vid) for vid in range(2, 80, 2))
    switch.add(a=access(100), t=trunk("100,200-210", native=205), u=trunk(many))
    switch.change(switch.device, access(7))
    shown = {item["ifname"]: item["vlans"] for item in switch.host.json("bridge -j vlan show")}
    untagged = {"flags": ["PVID", "Egress Untagged"]}
    assert shown["a"] == [{"vlan": 100, **untagged}]
    assert shown[switch.device] == [{"vlan": 7, **untagged}]
    vids = [vid for item in shown["t"] for vid in range(item["vlan"], item.get("vlanEnd", item["vlan"]) + 1)]
    assert sorted(vids) == [100, *range(200, 211)]
    assert [item["vlan"] for item in shown["t"] if "flags" in item] == [205]
    assert [item["vlan"] for item in shown["u"]] == list(range(2, 80, 2))
