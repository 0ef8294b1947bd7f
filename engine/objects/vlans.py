"""VLANs of Linux bridges, by programs or by filtering, as objects."""

from __future__ import annotations

from typing import Literal

from dnet.model.values import frozen
from dnet.model.vlan import PortVlans
from dnet.objects.object import Object, Setting

# VLANs, each pair the first and the last of some that follow each other.
VlanRanges = tuple[tuple[int, int], ...]
ALL_VLANS: VlanRanges = ((0, 4095),)
SILENT: VlanRanges = ((4095, 4095),)  # the trunk that passes nothing: no frame is in that VLAN


@frozen
class BridgeVlanFiltering(Setting, kind="BridgeFiltering"):
    """A bridge's own filtering of VLANs, no port being in any by itself."""

    def __str__(self) -> str:
        return f"VLAN filtering of {self.place}"


@frozen
class BridgeVlans(Setting):
    """VLANs that a filtering bridge lets through a port, or lets its own device have; both kinds of `ranges` ascend."""

    is_bridge: bool
    ranges: tuple[tuple[int, int], ...]
    untagged: int

    @classmethod
    def of(cls, device: str, index: int, vlans: PortVlans, *, is_bridge: bool) -> tuple[BridgeVlans, ...]:
        """Return the VLANs of a device, in as many objects as messages are needed."""
        untagged = vlans.untagged
        ranges = [part for first, last in vlans.trunk for part in _without(first, last, untagged)]
        parts = [tuple(ranges[at : at + RANGES_TOGETHER]) for at in range(0, len(ranges), RANGES_TOGETHER)] or [()]
        return tuple(
            cls(device, index, "", is_bridge, part, 0 if number else untagged) for number, part in enumerate(parts)
        )

    def __str__(self) -> str:
        words = [f"{first}-{last}" if last > first else str(first) for first, last in self.ranges]
        words += [f"{self.untagged} untagged"] if self.untagged else []
        return f"VLANs {', '.join(words) or 'none'} on {self.place}"


# As many ranges as surely fit into one message.
RANGES_TOGETHER = 16


def _without(first: int, last: int, vid: int) -> list[tuple[int, int]]:
    """Return a range without one of its numbers."""
    if not first <= vid <= last:
        return [(first, last)]
    return [part for part in ((first, vid - 1), (vid + 1, last)) if part[0] <= part[1]]


@frozen
class MacEntry(Setting):
    """The entry of a MAC in the forwarding table of a port's bridge; it stays, whoever else sends from that MAC.

    The table of a bridge whose VLANs are tc programs is one for all VLANs: without it, a container in another VLAN that
    claims to have the MAC gets its traffic sent there, where it is dropped.
    """

    mac: str

    def __str__(self) -> str:
        return f"MAC {self.mac} at {self.place}"


@frozen
class VlanMapEntry(Object, backend="bpf", kind="VlanEntry"):
    """What a port of a bridge passes, or the bridge itself: the entry of its index in the map of the VLAN programs."""

    device: str
    index: int
    vlans: PortVlans

    def __str__(self) -> str:
        return f"{self.vlans} on {self.device}"


@frozen
class ClsactHooks(Setting, kind="VlanFilter"):
    """The tc hooks of a bridge's port, or of the bridge itself, at which the bridge's VlanPrograms work.

    A device with it and without a VlanMapEntry passes nothing. The bridge's own comes first, then the programs, then
    the ports': a bridge's devices share its two blocks of filters, which exist as long as one of them does.
    """

    bridge_index: int

    @property
    def blocks(self) -> tuple[int, int]:
        """The blocks of ingress and egress. What the bridge's own device sends is what enters the bridge."""
        into, out = vlan_block(self.bridge_index, "into"), vlan_block(self.bridge_index, "out")
        return (out, into) if self.index == self.bridge_index else (into, out)

    def __str__(self) -> str:
        return f"VLAN filter on {self.place}"


@frozen
class VlanProgram(Setting):
    """The program that tags and filters what goes `into` the bridge `device`, or `out` of it, at all of its ports."""

    direction: Literal["into", "out"]

    @property
    def block(self) -> int:
        """The block that it is in."""
        return vlan_block(self.index, self.direction)

    def __str__(self) -> str:
        return f"VLAN program {self.direction} of {self.place}"


def vlan_block(bridge_index: int, direction: Literal["into", "out"]) -> int:
    """Return the number of a bridge's block of tc filters; an index has 31 bits, a block's number 32."""
    return 2 * bridge_index + (direction == "out")
