"""VLANs of a port: access, trunk and native, as values and as users write them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dnet.errors import InvalidRequest
from dnet.model.parse import NUMBER_DIGITS_MAX
from dnet.model.values import Value, frozen

VID_MAX = 4094  # IEEE 802.1Q-2018, table 9-2: 0 is no VLAN, 4095 is reserved
EVERY_VLAN = ((1, VID_MAX),)
DEFAULT_VLAN = 1  # of untagged frames, on every switch


@frozen(kw_only=True)
class PortVlans(Value):
    """The VLANs of a port, as in IEEE 802.1Q. A port with neither `access` nor `trunk` passes nothing.

    access: VLAN of an access port, whose frames are untagged; 0 for a trunk
    trunk: VLANs of a trunk, whose frames are tagged: (first, last) ranges, ascending, with gaps between them
    native: VLAN of the trunk whose frames are untagged; 0 for none
    """

    access: int = 0
    trunk: tuple[tuple[int, int], ...] = ()
    native: int = 0

    @property
    def untagged(self) -> int:
        """The VLAN of untagged frames, or 0."""
        return self.access or self.native

    @property
    def tagged(self) -> Iterator[int]:
        """The VLANs of the trunk, ascending."""
        return (vid for first, last in self.trunk for vid in range(first, last + 1))

    @property
    def trunk_text(self) -> str:
        """The trunk as users write it, such as `100,200-210`; empty for an access port."""
        return ",".join(f"{first}-{last}" if last > first else str(first) for first, last in self.trunk)

    def __str__(self) -> str:
        if self.access:
            return f"VLAN {self.access}"
        native = f" native {self.native}" if self.native else ""
        return f"trunk {self.trunk_text}{native}" if self.trunk else "no VLAN"


def parse_vid(text: str | int, what: str) -> int:
    """Read a VLAN's number, 1 to 4094; `what` names it in the error."""
    word = str(text)
    if not (word.isascii() and word.isdecimal()) or len(word) > NUMBER_DIGITS_MAX or not 1 <= int(word) <= VID_MAX:
        hint = f"write a number from 1 to {VID_MAX}"
        raise InvalidRequest(f"invalid {what} {word!r}", object=word, hint=hint)
    return int(word)


def parse_trunk(text: str) -> tuple[tuple[int, int], ...]:
    """Read VLANs and ranges of them, as in `100,200-210`, into ascending ranges with gaps between them."""
    if not text.strip():
        raise InvalidRequest("a trunk without VLANs passes nothing", object="trunk", hint="write some: 100,200-210")
    ranges = []
    for item in text.split(","):
        first, dash, last = item.strip().partition("-")
        start = parse_vid(first, "VLAN of a trunk")
        end = parse_vid(last, "VLAN of a trunk") if dash else start
        if end < start:
            hint = f"write the lower one first, as in {end}-{start}"
            raise InvalidRequest(f"the VLANs {item.strip()} of a trunk are in reverse", object=text, hint=hint)
        ranges.append((start, end))
    return _joined(ranges)


def _joined(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return ascending ranges of the same numbers, with gaps between them."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if joined and start <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


def read_vlans(
    *, vlan: str | int | None = None, trunk: str | None = None, native: str | int | None = None
) -> PortVlans | None:
    """Read `--vlan`, or `--trunk` and `--native`; return None when none is given.

    vlan: number of an access port's VLAN, 1 to 4094
    trunk: VLANs, as in `100,200-210`
    native: number of the trunk's untagged VLAN, which need not be listed in `trunk`
    """
    if vlan is not None and (trunk is not None or native is not None):
        hint = "write --vlan, or --trunk and perhaps --native"
        raise InvalidRequest(f"a port in VLAN {vlan} cannot be a trunk as well", object=str(vlan), hint=hint)
    if vlan is not None:
        return PortVlans(access=parse_vid(vlan, "VLAN"))
    if trunk is None:
        if native is not None:
            hint = "add --trunk, or write --vlan for a port in one VLAN"
            raise InvalidRequest(f"native VLAN {native} is of no trunk", object=str(native), hint=hint)
        return None
    ranges = parse_trunk(trunk)
    if native is None:
        return PortVlans(trunk=ranges)
    vid = parse_vid(native, "native VLAN")
    return PortVlans(trunk=_joined([*ranges, (vid, vid)]), native=vid)
