"""Bridges and ports of Open vSwitch, as objects."""

from __future__ import annotations

from dnet.model.values import frozen
from dnet.model.vlan import EVERY_VLAN, PortVlans
from dnet.objects.object import Object
from dnet.objects.vlans import ALL_VLANS, SILENT, VlanRanges

NETDEV, SYSTEM = "netdev", "system"  # types of datapath: in user space, and the kernel's


@frozen
class OvsBridge(Object, backend="ovs"):
    """A bridge of Open vSwitch with its internal port, a device of the same name, in VLAN `tag` (0: untagged).

    `owner` marks it as dnet's. Without one the bridge is somebody's: it has to exist, with this `datapath_type` unless
    that is empty, and is left as it is. An `mtu` of 0 leaves Open vSwitch's choice, the least of the ports'.
    """

    bridge: str
    owner: str
    datapath_type: str
    mac: str
    mtu: int
    tag: int

    def __str__(self) -> str:
        kind = f", datapath {self.datapath_type}" if self.datapath_type else ""
        vlan = f", VLAN {self.tag}" if self.tag else ""
        return f"Open vSwitch bridge {self.bridge}{kind}{vlan}"


@frozen
class OvsPort(Object, backend="ovs"):
    """A device that exists as a port of an Open vSwitch bridge.

    With `tag` it is an access port of that VLAN, with `trunks` a trunk of those, where untagged frames belong to VLAN
    `native` (0: to VLAN 0, if that is among them); with neither an access port for untagged frames only.
    `is_protected`: it exchanges no frames with other protected ports. `owner` marks it as dnet's.
    """

    port: str
    bridge: str
    owner: str
    tag: int
    trunks: VlanRanges
    native: int
    is_protected: bool

    @classmethod
    def of(
        cls, port: str, bridge: str, owner: str, vlans: PortVlans | None, *, untagged: int = 0, is_protected: bool
    ) -> OvsPort:
        """Return the port that has some VLANs, where `untagged` is the VLAN that untagged frames count as being in.

        Without VLANs it takes and gives untagged frames only.
        """
        if vlans is None:
            return cls(port, bridge, owner, 0, (), 0, is_protected)
        tag, native = (0 if vid == untagged else vid for vid in (vlans.access, vlans.native))
        trunks = () if vlans.access else vlans.trunk or SILENT
        if vlans.native and vlans.trunk == EVERY_VLAN:  # what is untagged is in one of them
            trunks = ALL_VLANS
        elif vlans.native and not native:
            trunks = ((0, 0), *trunks)
        return cls(port, bridge, owner, tag, trunks, native, is_protected)

    def __str__(self) -> str:
        trunks = ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in self.trunks)
        parts = [
            f"port {self.port} on Open vSwitch bridge {self.bridge}",
            f"tag {self.tag}" if self.tag else "",
            f"trunks {trunks}" if trunks else "",
            f"native {self.native}" if self.native else "",
            "protected" if self.is_protected else "",
        ]
        return ", ".join(filter(None, parts))

    @property
    def absence(self) -> str:
        """The phrase for its absence."""
        return f"no port {self.port} on Open vSwitch bridge {self.bridge}"


@frozen
class OvsMac(Object, backend="ovs"):
    """The MAC address that Open vSwitch is told to give a bridge's own device; empty for one of its ports' choice."""

    bridge: str
    mac: str

    def __str__(self) -> str:
        what = f"MAC address {self.mac}" if self.mac else "no MAC address of its own"
        return f"{what} on Open vSwitch bridge {self.bridge}"
