"""What VLANs mean on Open vSwitch: the suite that every realisation passes, on ports as the driver makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import pytest

from dnet.drivers import openvswitch
from dnet.model.vlan import PortVlans
from dnet.objects.openvswitch import OvsPort
from tests.support import samples
from tests.support.openvswitch import DATAPATH, Ovs, bridge
from tests.support.vlan_semantics import VlanSemantics, access, trunk
from tests.support.vlan_switch import Switch

NET = samples.network("lab", driver="ovs", options={"datapath_type": DATAPATH}, vlan=1, vlan_backend="ovs")


class OvsSwitch(Switch):
    """A bridge of Open vSwitch, and ports as drivers/ovs describes them."""

    def __init__(self, ovs: Ovs, number: int = 0) -> None:
        self.ovs = ovs
        super().__init__(ovs.host, number)

    def make(self) -> None:
        """Make the bridge; its own end passes nothing until it is given a VLAN."""
        made = bridge(self.device, f"net-{self.number}", mac=f"02:00:00:01:00:0{self.number}")
        self.ovs.call(lambda switch: list(switch.create_bridges([made])))
        for words in ("addrgenmode none", "up"):  # in one message the kernel would do the latter first
            self.host.run("ip", "link", "set", "dev", self.device, *words.split())
        self.apply(self.device, PortVlans())

    def _port(self, name: str, vlans: PortVlans) -> OvsPort:
        net = replace(NET, device=self.device)
        end = samples.endpoint(net, "10.1.0.2", host_interface=name, id=f"end-{name}", vlans=vlans)
        (made,) = openvswitch.port(net, end)
        return made

    def join(self, ports: Mapping[str, PortVlans]) -> None:
        """Make ports in one transaction."""
        self.host.run("ip", "-batch", "-", stdin="".join(f"link set dev {name} up\n" for name in ports))
        wanted = [self._port(name, vlans) for name, vlans in ports.items()]
        self.ovs.call(lambda switch: [str(error) for error in switch.create_ports(wanted) if error])

    def apply(self, name: str, vlans: PortVlans) -> None:
        """Change a port; the bridge's own end by ovs-vsctl, as whoever owns it."""
        wanted = self._port(name, vlans)
        if name != self.device:
            self.ovs.call(lambda switch: switch.set_vlans([wanted]))
        elif vlans.access:
            self.ovs.vsctl("set", "port", name, "vlan_mode=access", f"tag={vlans.access}", "trunks=[]")
        else:
            self.ovs.vsctl("set", "port", name, "vlan_mode=trunk", "tag=[]", "trunks=4095")


@pytest.fixture
def switch(ovs: Ovs) -> Switch:
    """Return a bridge."""
    return OvsSwitch(ovs)


@pytest.fixture
def other(ovs: Ovs, switch: Switch) -> Switch:
    """Return another one."""
    del switch
    return OvsSwitch(ovs, 1)


class TestOpenVSwitch(VlanSemantics):
    """All that VLANs mean, as loosely as the kernel's own filtering has it (see decision 0009)."""

    is_strict: ClassVar[bool] = False

    def test_service_tags(self, switch: Switch) -> None:
        """An S-tag counts as a C-tag does: access ports refuse it, and a trunk's is in that VLAN, and in no other."""
        switch.add(a=access(100), b=access(100), c=access(200), t=trunk("100,200"), u=trunk("100"))
        heard = switch.send(
            ("a", "s200"), ("a", "s100"), ("t", "s200"), ("t", "s100"), ("u", "s200"), ("a", "s200+200")
        )
        assert heard == [{}, {}, {"c": ""}, {"a": "", "b": "", "u": "s100"}, {}, {}]

    def test_no_hopping(self, switch: Switch, other: Switch) -> None:
        """There is VLAN hopping: Open vSwitch takes the outer tag away and lets the inner one speak."""
        assert [frame for frame, places in self.hopping(switch, other).items() if "victim" in places]
