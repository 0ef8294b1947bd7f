"""Puts every frame of a capture into a VLAN: `python docs/examples/tag_pcap.py IN OUT VID`.

IN is a pcap file of Ethernet frames (`tcpdump -w`), OUT the same capture with an 802.1Q tag in each frame. A frame
that cannot be tagged, being cut off within its header, is copied as it is and counted. Needs no root.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import dnet
from dnet import vlan

# The first four bytes say byte order and unit of time: microseconds, or nanoseconds.
BYTE_ORDERS = {
    bytes.fromhex("d4c3b2a1"): "<",
    bytes.fromhex("4d3cb2a1"): "<",
    bytes.fromhex("a1b2c3d4"): ">",
    bytes.fromhex("a1b23c4d"): ">",
}
FILE_HEADER = "IHHiIII"  # magic, version (2), zone, accuracy, longest frame, link type
RECORD_HEADER = "IIII"  # seconds, fraction, bytes here, bytes on the wire
ETHERNET = 1
LINK_TYPE_MASK = 0x0FFFFFFF


class BadCaptureError(Exception):
    """The file is no pcap file of Ethernet frames."""


Record = tuple[int, int, int, bytes]


def read(capture: bytes) -> tuple[str, tuple[int, ...], list[Record]]:
    """Return the byte order, the file's header and the records: seconds, fraction, bytes on the wire, frame."""
    order = BYTE_ORDERS.get(capture[:4], "")
    at = struct.calcsize("=" + FILE_HEADER)
    if not order or len(capture) < at:
        raise BadCaptureError("it is no pcap file (pcapng: convert it with editcap -F pcap)")
    header = struct.unpack_from(order + FILE_HEADER, capture)
    if header[-1] & LINK_TYPE_MASK != ETHERNET:
        raise BadCaptureError(f"its link type is {header[-1]}, not Ethernet ({ETHERNET})")
    size = struct.calcsize("=" + RECORD_HEADER)
    records: list[Record] = []
    while at < len(capture):
        if at + size > len(capture):
            raise BadCaptureError(f"record {len(records) + 1} is cut off")
        seconds, fraction, length, wire_length = struct.unpack_from(order + RECORD_HEADER, capture, at)
        at += size + length
        if at > len(capture):
            raise BadCaptureError(f"record {len(records) + 1} is cut off")
        records.append((seconds, fraction, wire_length, capture[at - length : at]))
    return order, header, records


def tag(capture: bytes, vid: int) -> tuple[bytes, int]:
    """Return the capture with its frames in a VLAN, and how many frames could not be tagged."""
    order, header, records = read(capture)
    batch = vlan.Batch.pack((frame for *_, frame in records), headroom=vlan.TAG_BYTES)
    tagged = batch.push(vid)
    *rest, longest, link_type = header
    result = [struct.pack(order + FILE_HEADER, *rest, min(longest + vlan.TAG_BYTES, 0xFFFFFFFF), link_type)]
    for (seconds, fraction, wire_length, frame), changed in zip(records, batch, strict=True):
        more = len(changed) - len(frame)
        result += (struct.pack(order + RECORD_HEADER, seconds, fraction, len(changed), wire_length + more), changed)
    return b"".join(result), len(records) - tagged


def main(arguments: list[str]) -> int:
    """Read, tag, write."""
    match arguments:
        case [source, target, vid] if vid.isdecimal():
            pass
        case _:
            print("usage: tag_pcap.py IN OUT VID", file=sys.stderr)
            return 2
    try:
        capture, left_alone = tag(Path(source).read_bytes(), int(vid))
        Path(target).write_bytes(capture)
    except (BadCaptureError, OSError, dnet.InvalidRequest) as error:
        print(f"cannot tag {source}: {error}", file=sys.stderr)
        return 1
    if left_alone:
        print(f"copied {left_alone} frames untagged: shorter than an Ethernet header", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
