"""802.1Q and 802.1ad tags on Ethernet frames in memory, for packet tools; public as `dnet.vlan`.

A thin layer over the C core's pure functions on frames. It touches neither the kernel nor dnet's state.

    tagged = vlan.push(frame, 100, priority=5)
    vlan.classify(tagged).vid                                    # 100
    batch = vlan.Batch.pack(frames)                              # thousands of frames in one buffer
    batch.push(100)                                              # some two nanoseconds each

A frame runs from the destination address to the end of the payload, without preamble and frame check sequence, as
AF_PACKET sockets and pcap files have it; lengths are bytes. Nothing is padded: a pop can make a frame shorter than
Ethernet's 60 bytes, and the sender pads it. Tags are those of IEEE 802.1Q-2018, 9.3 to 9.6, known by their TPID
(table 9-1); other EtherTypes, such as 0x9100 of older QinQ switches, are payload.

Calls release the interpreter's lock. Two threads may work at once, but not on the same batch or buffer.
"""

from __future__ import annotations

import errno
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from dnet._core import ffi, lib
from dnet.errors import InvalidRequest

Bytes = bytes | bytearray | memoryview

CUSTOMER = 0x8100  # C-TAG, 802.1Q
SERVICE = 0x88A8  # S-TAG, 802.1ad
VID_MAX = 4094  # 4095 is reserved (IEEE 802.1Q-2018, table 9-2)
PRIORITY_MAX = 7
HEADER_BYTES = 14
TAG_BYTES = 4
# Room for two more tags.
HEADROOM_BYTES = 8

_VID_MASK = 0xFFF
_DROP_ELIGIBLE = 0x1000
_PRIORITY_SHIFT = 13
_UINT32_MAX = 0xFFFFFFFF
_BATCH_MAX = 0x7FFFFFFF
# The words of a struct dnet_frame: start, offset, length, error.
_WORDS = 4
_CLASSIFY, _PUSH, _POP, _REWRITE = "classify", "push a VLAN tag on", "pop a VLAN tag off", "rewrite the VLAN tag of"


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag of a frame. VID 0 makes a priority tag. VID 4095, which is reserved, can be read but not written."""

    vid: int  # VLAN identifier, 0 to 4095
    priority: int = 0  # PCP, 0 to 7
    drop_eligible: bool = False  # DEI
    tpid: int = CUSTOMER  # or SERVICE

    @property
    def tci(self) -> int:
        """The 16 bits of PCP, DEI and VID (IEEE 802.1Q-2018, 9.6)."""
        return self.priority << _PRIORITY_SHIFT | self.drop_eligible << 12 | self.vid


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags of a frame, and where its payload begins."""

    tags: tuple[Tag, ...]  # outermost first
    ethertype: int  # behind the last tag; below 1536 it is an IEEE 802.3 length
    payload_offset: int  # bytes; the tags begin at byte 12, 4 bytes each

    @property
    def vid(self) -> int:
        """The VLAN of the outermost tag; 0 when the frame is untagged or has only a priority."""
        return self.tags[0].vid if self.tags else 0


def classify(frame: Bytes) -> Tags:
    """Return the tags of a frame. Raises InvalidRequest when its header is cut off, or has more than 8 tags."""
    stack = ffi.new("struct dnet_vlan_stack *")
    memory = frame if isinstance(frame, (bytes, bytearray)) else memoryview(frame).tobytes()
    _ensure(_CLASSIFY, len(memory), lib.dnet_vlan_classify(ffi.from_buffer(memory), len(memory), stack))
    return _tags(stack)


def push(frame: Bytes, vid: int, *, priority: int = 0, drop_eligible: bool = False, tpid: int = CUSTOMER) -> bytes:
    """Return the frame with one more tag, in front of those that it has.

    vid: 1 to 4094, or 0 for a tag that carries only a priority
    priority: 0 (best effort) to 7
    drop_eligible: whether a congested switch may drop the frame first
    tpid: CUSTOMER (802.1Q) or SERVICE (802.1ad)

    Raises InvalidRequest for other values, and when the frame is cut off in its header or its outermost tag.
    """
    tci = _tci(vid, priority, drop_eligible)
    _require_tpid(tpid)
    memory = bytearray(TAG_BYTES)
    memory += memoryview(frame)
    length = len(memory) - TAG_BYTES
    buffer = ffi.from_buffer("uint8_t[]", memory)
    _ensure(_PUSH, length, lib.dnet_vlan_push(buffer + TAG_BYTES, length, tpid, tci))
    return bytes(memory)


def pop(frame: Bytes) -> bytes:
    """Return the frame without its outermost tag. Raises InvalidRequest when it has none, or a part of one."""
    memory = bytearray(memoryview(frame))
    _ensure(_POP, len(memory), lib.dnet_vlan_pop(ffi.from_buffer(memory), len(memory)))
    return bytes(memoryview(memory)[TAG_BYTES:])


def rewrite(
    frame: Bytes,
    *,
    vid: int | None = None,
    priority: int | None = None,
    drop_eligible: bool | None = None,
    tpid: int | None = None,
) -> bytes:
    """Return the frame with its outermost tag changed, as in `push`; None leaves a part as it is.

    Raises InvalidRequest as `push` does, and when the frame has no tag.
    """
    edit = _edit(vid, priority, drop_eligible, tpid)
    memory = bytearray(memoryview(frame))
    _ensure(_REWRITE, len(memory), lib.dnet_vlan_rewrite(ffi.from_buffer(memory), len(memory), *edit))
    return bytes(memory)


class Batch:
    """Many frames in one buffer, changed in place; a sequence of their bytes.

    Best effort: a frame that cannot be changed stays as it is and is listed in `failures`; the others are changed.
    A bytearray cannot be resized while a batch uses it.
    """

    def __init__(self, memory: bytearray | memoryview, spans: Iterable[tuple[int, int, int]]) -> None:
        """Describe the frames of a writable buffer of less than 4 GiB.

        spans: (start, offset, length) of each frame, in bytes. The frame begins at `offset`; the bytes from `start` to
            there are its headroom, 4 for each tag to push. Spans must not overlap.

        Raises InvalidRequest when a span is not inside the buffer, or the buffer cannot be used.
        """
        try:
            self._bytes = memoryview(memory).cast("B")
        except TypeError as error:
            raise InvalidRequest(f"cannot use the memory of a batch: {error}", object="memory") from error
        size = len(self._bytes)
        if self._bytes.readonly or size > _UINT32_MAX:
            what = "it cannot be written to" if self._bytes.readonly else f"{size} bytes are more than {_UINT32_MAX}"
            raise InvalidRequest(f"cannot use the memory of a batch: {what}", object="memory")
        self._words = array("I")
        for index, (start, offset, length) in enumerate(spans):
            if not 0 <= start <= offset <= offset + length <= size or length < 0:
                span = f"({start}, {offset}, {length})"
                raise InvalidRequest(
                    f"cannot use span {span} of frame {index}: it is not inside the {size} bytes of the buffer",
                    object=f"frame {index}",
                )
            self._words.extend((start, offset, length, 0))
        if len(self) > _BATCH_MAX:
            raise InvalidRequest(f"cannot use {len(self)} frames at once: {_BATCH_MAX} are the most", object="spans")
        self._verb = _CLASSIFY
        self._memory: Any = ffi.from_buffer("uint8_t[]", self._bytes)
        self._frames: Any = ffi.from_buffer("struct dnet_frame[]", self._words)

    @classmethod
    def pack(cls, frames: Iterable[Bytes], *, headroom: int = HEADROOM_BYTES) -> Batch:
        """Copy frames into a new buffer, one after the other, each with its own headroom in bytes.

        Dense frames are fast: of 100,000 frames of 64 bytes, a push takes 2 ns each with 8 bytes of headroom, and 5 ns
        in slots of 128 bytes.
        """
        if not isinstance(headroom, int) or headroom < 0:
            raise InvalidRequest(f"headroom {headroom!r} is not a number of bytes", object=f"headroom {headroom!r}")
        memory, spans, gap = bytearray(), [], bytes(headroom)
        for frame in frames:
            start = len(memory)
            memory += gap
            memory += memoryview(frame)
            spans.append((start, start + headroom, len(memory) - start - headroom))
        return cls(memory, spans)

    def push(self, vid: int, *, priority: int = 0, drop_eligible: bool = False, tpid: int = CUSTOMER) -> int:
        """Push a tag into the headroom of every frame; return how many got it. Arguments are those of `push`."""
        tci = _tci(vid, priority, drop_eligible)
        _require_tpid(tpid)
        return int(lib.dnet_vlan_push_batch(*self._arguments(_PUSH), tpid, tci))

    def pop(self) -> int:
        """Remove the outermost tag of every frame that has one; return how many had one."""
        return int(lib.dnet_vlan_pop_batch(*self._arguments(_POP)))

    def rewrite(
        self,
        *,
        vid: int | None = None,
        priority: int | None = None,
        drop_eligible: bool | None = None,
        tpid: int | None = None,
    ) -> int:
        """Change every frame's outermost tag; return how many had one. Arguments are those of `rewrite`."""
        edit = _edit(vid, priority, drop_eligible, tpid)
        return int(lib.dnet_vlan_rewrite_batch(*self._arguments(_REWRITE), *edit))

    def classify(self) -> list[Tags | None]:
        """Return the tags of every frame; None for one that is cut off or has more than 8."""
        stacks = ffi.new("struct dnet_vlan_stack[]", len(self))
        lib.dnet_vlan_classify_batch(*self._arguments(_CLASSIFY), stacks)
        errors = self._words[3::_WORDS]
        return [None if code else _tags(stack) for stack, code in zip(stacks, errors, strict=True)]

    @property
    def failures(self) -> dict[int, InvalidRequest]:
        """The frames that the last call could not change, by index, each with the reason."""
        return {index: self._failure(index) for index, code in enumerate(self._words[3::_WORDS]) if code}

    def span(self, index: int) -> tuple[int, int, int]:
        """Return where a frame is now: start of its headroom, offset, length, in bytes of the buffer."""
        at = range(0, len(self._words), _WORDS)[index]
        start, offset, length = self._words[at : at + 3]
        return start, offset, length

    def view(self, index: int) -> memoryview:
        """Return a view of a frame in the buffer. A later push or pop moves the frame, not the view."""
        _, offset, length = self.span(index)
        return self._bytes[offset : offset + length]

    def __len__(self) -> int:
        return len(self._words) // _WORDS

    def __getitem__(self, index: int) -> bytes:
        return bytes(self.view(index))

    def __iter__(self) -> Iterator[bytes]:
        return (self[index] for index in range(len(self)))

    def _arguments(self, verb: str) -> tuple[Any, int, Any, int]:
        self._verb = verb
        return self._memory, len(self._bytes), self._frames, len(self)

    def _failure(self, index: int) -> InvalidRequest:
        return _refusal(f"{self._verb} frame {index},", self.span(index)[2], self._frames[index].error)


def _tci(vid: int, priority: int, drop_eligible: bool) -> int:  # noqa: FBT001  private, and in the TCI's order
    if not isinstance(vid, int) or not 0 <= vid <= VID_MAX:
        raise InvalidRequest(
            f"VLAN id {vid!r} is not a number from 1 to {VID_MAX} (or 0, for a priority tag)",
            object=f"VLAN id {vid!r}",
        )
    if not isinstance(priority, int) or not 0 <= priority <= PRIORITY_MAX:
        raise InvalidRequest(
            f"priority {priority!r} is not a number from 0 to {PRIORITY_MAX}", object=f"priority {priority!r}"
        )
    return Tag(vid, priority, bool(drop_eligible)).tci


def _require_tpid(tpid: int) -> None:
    if tpid not in (CUSTOMER, SERVICE):
        text = f"{tpid:#06x}" if isinstance(tpid, int) else repr(tpid)
        raise InvalidRequest(
            f"TPID {text} is neither {CUSTOMER:#06x} (802.1Q) nor {SERVICE:#06x} (802.1ad)", object=f"TPID {text}"
        )


def _edit(
    vid: int | None,
    priority: int | None,
    drop_eligible: bool | None,  # noqa: FBT001
    tpid: int | None,
) -> tuple[int, int, int]:
    """Return the TPID, the TCI's new bits and the mask of its old ones, as the C core takes them."""
    if tpid is not None:
        _require_tpid(tpid)
    keep = 0
    keep |= _VID_MASK if vid is None else 0
    keep |= _DROP_ELIGIBLE if drop_eligible is None else 0
    keep |= PRIORITY_MAX << _PRIORITY_SHIFT if priority is None else 0
    return tpid or 0, _tci(vid or 0, priority or 0, bool(drop_eligible)), keep


def _tags(stack: Any) -> Tags:
    found = []
    for index in range(stack.count):
        tpid, tci = stack.tags[index].tpid, stack.tags[index].tci
        found.append(Tag(tci & _VID_MASK, tci >> _PRIORITY_SHIFT, bool(tci & _DROP_ELIGIBLE), tpid))
    return Tags(tuple(found), stack.ethertype, stack.payload_offset)


def _ensure(verb: str, length: int, code: int) -> None:
    if code:
        raise _refusal(f"{verb} a frame", length, code)


def _refusal(what: str, length: int, code: int) -> InvalidRequest:
    reasons = {
        errno.EBADMSG: "it ends within its VLAN tag" if length >= HEADER_BYTES else "an Ethernet header has 14",
        errno.ENODATA: "it has no VLAN tag",
        errno.E2BIG: f"it has more than {lib.DNET_VLAN_TAGS_MAX} VLAN tags",
        errno.ENOSPC: f"its headroom has no {TAG_BYTES} bytes left",
    }
    return InvalidRequest(f"cannot {what} of {length} bytes: {reasons[-code]}", object=f"frame of {length} bytes")
