"""VLAN tags on frames in memory: frames per second on one core, beside memmove of the same bytes and beside scapy.

    python -m benchmarks.frames [--quick] [--repeat K] [--output DIR]

Needs no root and no namespaces. A turn measures everybody once, so that those who are compared are neighbours in time.
memmove, the limit, is one call for all the bytes of a batch, from one buffer to another; calling it for each frame
would be slower than it is here.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import mmap
import statistics
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import machine, report
from benchmarks.report import Finding, Key, Results
from benchmarks.timed_process import ContestantFailedError
from dnet import vlan

TASK = "frames"
QUANTITY = "frames_per_s"
SIZES = (64, 1514)  # bytes; the first is the one that the target is for
BATCH = 10_000
ONE_BY_ONE = 200  # frames, for those who need microseconds each
QUICK_BATCH = 500
TURNS = 15
CALLS = 9  # of a batch within a turn; their median counts
TARGET = round(1 / 3, 3)
_VID = 100
_TAG = struct.pack("!HH", vlan.CUSTOMER, _VID)
# Locally administered addresses and the EtherType for experiments, whose payload scapy does not take apart.
_HEADER = bytes.fromhex("02000000000b02000000000a88b5")

LIMIT = "memmove"
PUSH = "dnet, batch push"
_BATCHES = (PUSH, "dnet, batch pop", "dnet, batch rewrite")
_SCAPY = "scapy"
Timed = dict[str, list[float]]


def measure(results: Results, *, is_quick: bool, turns: int = TURNS) -> None:
    """Add frames per second of every contestant and size."""
    for _ in range(1 if is_quick else turns):
        for size in SIZES:
            frame = _HEADER + bytes(size - len(_HEADER))
            for name, rate in _turn(frame, QUICK_BATCH if is_quick else BATCH):
                results.add(Key(TASK, name, size, QUANTITY), rate)


def _turn(frame: bytes, count: int) -> Iterator[tuple[str, float]]:
    timed = _time_batches(frame, count)
    for name, seconds in timed.items():
        yield name, count / statistics.median(seconds)
    for name, push in _one_by_one().items():
        if push(frame) != frame[:12] + _TAG + frame[12:]:
            raise ContestantFailedError(f"{name} did not tag a frame of {len(frame)} bytes")
        begun = time.perf_counter()
        for _ in range(ONE_BY_ONE):
            push(frame)
        yield name, ONE_BY_ONE / (time.perf_counter() - begun)


def _time_batches(frame: bytes, count: int) -> Timed:
    """Return seconds for calls that take all frames at once: memmove, push, rewrite and pop, in turns."""
    batch = vlan.Batch.pack([frame] * count)
    size = len(frame) * count
    # Page-aligned: how fast memmove is depends on where two buffers lie to each other, and this is where it is fastest.
    source, target = mmap.mmap(-1, size), mmap.mmap(-1, size)
    source[:], target[:] = frame * count, b"\1" * size
    here, there = (ctypes.c_char.from_buffer(buffer) for buffer in (source, target))
    push, pop, rewrite = _BATCHES
    timed: Timed = {name: [] for name in (LIMIT, *_BATCHES)}

    def time_call(name: str, call: Callable[[], object]) -> None:
        begun = time.perf_counter()
        done = call()
        timed[name].append(time.perf_counter() - begun)
        if name != LIMIT and done != count:
            raise ContestantFailedError(f"{name}: {done} of {count} frames")

    for _ in range(CALLS):
        time_call(LIMIT, lambda: ctypes.memmove(ctypes.addressof(there), ctypes.addressof(here), size))
        time_call(push, lambda: batch.push(_VID))
        time_call(rewrite, lambda: batch.rewrite(vid=_VID + 1))
        time_call(pop, batch.pop)
    if target[:] != frame * count or any(one != frame for one in batch):
        raise ContestantFailedError("a frame came back changed")
    return timed


def _one_by_one() -> dict[str, Callable[[bytes], bytes]]:
    """Return those who take one frame and return it tagged; scapy where it is installed."""
    found: dict[str, Callable[[bytes], bytes]] = {
        "Python's slices": lambda frame: frame[:12] + _TAG + frame[12:],
        "dnet, single push": lambda frame: vlan.push(frame, _VID),
    }
    if importlib.util.find_spec("scapy"):
        from scapy.layers.l2 import Dot1Q, Ether

        def push(frame: bytes) -> bytes:
            packet = Ether(frame)
            payload, ethertype = packet.payload, packet.type
            packet.remove_payload()
            packet.type = vlan.CUSTOMER
            return bytes(packet / Dot1Q(vlan=_VID, type=ethertype) / payload)

        found[_SCAPY] = push
    return found


def findings(results: Results, *, is_quick: bool = False) -> list[Finding]:
    """Return the ratios of neighbours in time."""
    found = []
    for size in SIZES:
        pushed = results.values.get(Key(TASK, PUSH, size, QUANTITY), [])
        at_least = TARGET if size == SIZES[0] else None
        for peer, least in ((LIMIT, at_least), (_SCAPY, None)):
            rates = results.values.get(Key(TASK, peer, size, QUANTITY), [])
            values = [one / other for one, other in zip(pushed, rates, strict=False)]
            if values:
                sentence = f"batch push of {size}-byte frames / {peer}" + " of the same bytes" * (peer == LIMIT)
                found.append(Finding(sentence, values, at_least=least, at_target_size=not is_quick))
    return found


def table(results: Results) -> str:
    """Return millions of frames per second of everybody; empty without measurements."""
    rows = [["frames on one core", "bytes", "million/s", "least", "most", "ns each"]]
    for key, rates in results.values.items():
        if key.task == TASK:
            cells = [f"{cell(rates) / 1e6:.3f}" for cell in (statistics.median, min, max)]
            rows.append([key.contestant, str(key.count), *cells, f"{1e9 / statistics.median(rates):.1f}"])
    return report.table(rows, numbers_from=1) if len(rows) > 1 else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write frames.json; 1 when a contestant did not do its job."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.frames", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small batches, one turn: does it still work?")
    parser.add_argument("--repeat", type=int, default=TURNS, metavar="K", help=f"turns ({TURNS})")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results", metavar="DIR")
    options = parser.parse_args(argv)
    results = Results(machine.describe(Path(sys.executable).parent / "dnet"))
    try:
        measure(results, is_quick=options.quick, turns=options.repeat)
    except ContestantFailedError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    found = findings(results, is_quick=options.quick)
    print(f"{table(results)}\n\n{report.finding_table(found)}\n")
    if not importlib.util.find_spec("scapy"):
        print("not installed: scapy\n")
    options.output.mkdir(parents=True, exist_ok=True)
    report.write_json(options.output / "frames.json", results, found)
    print(f"wrote {options.output / 'frames.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
