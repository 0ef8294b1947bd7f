"""VLAN tags on frames. The oracles are scapy's and tshark's readings, and inserting by slices."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy import utils
from scapy.layers import l2

from dnet import vlan
from dnet._core import ffi, lib
from dnet.errors import InvalidRequest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "tag_pcap.py"
ADDRESSES = bytes.fromhex("02000000000b02000000000a")
PLAIN = ADDRESSES + b"\x08\x00" + bytes(range(50))
TPIDS = (vlan.CUSTOMER, vlan.SERVICE)
FUZZ_ITERATIONS = 100_000

vids = st.integers(0, vlan.VID_MAX)
tags = st.builds(vlan.Tag, vids, st.integers(0, 7), st.booleans(), st.sampled_from(TPIDS))
# EtherTypes and lengths that are no TPID.
ethertypes = st.integers(0, 0xFFFF).filter(lambda number: number not in TPIDS)


@st.composite
def stacks(draw, most: int = 8) -> tuple[bytes, list[vlan.Tag], int]:
    """Make a frame by hand: its bytes, its tags outermost first, its EtherType."""
    found, ethertype = draw(st.lists(tags, max_size=most)), draw(ethertypes)
    frame = draw(st.binary(min_size=12, max_size=12))
    for tag in found:
        frame += struct.pack("!HH", tag.tpid, tag.priority << 13 | tag.drop_eligible << 12 | tag.vid)
    return frame + struct.pack("!H", ethertype) + draw(st.binary(max_size=64)), found, ethertype


# Frames, stacks of tags, such ones cut off, and bytes.
anything = st.one_of(
    stacks().map(lambda made: made[0]),
    st.tuples(stacks(10), st.integers(0, 70)).map(lambda made: made[0][0][: made[1]]),
    st.binary(max_size=70),
)


def insert(frame: bytes, tag: vlan.Tag) -> bytes:
    """Put a tag in front, by slices."""
    return frame[:12] + struct.pack("!HH", tag.tpid, tag.tci) + frame[12:]


def push(frame: bytes, tag: vlan.Tag) -> bytes:
    """Push a tag by dnet."""
    return vlan.push(frame, tag.vid, priority=tag.priority, drop_eligible=tag.drop_eligible, tpid=tag.tpid)


def result(call, *arguments, **keywords):
    """Return what a call returns, or the sentence of its refusal without the frame's number."""
    try:
        return call(*arguments, **keywords)
    except InvalidRequest as error:
        return str(error)


@given(stacks(most=7), tags)
def test_push_inserts_four_bytes(made, tag):
    """A push changes no byte of a frame, it inserts the tag behind the addresses; a pop takes it off again."""
    frame, _, _ = made
    tagged = push(frame, tag)
    assert tagged == insert(frame, tag)
    assert vlan.pop(tagged) == frame


@given(stacks())
def test_classify_reads_what_was_written(made):
    """Tags, EtherType and payload are found whatever the stack, and the outermost tag's VLAN is the frame's."""
    frame, written, ethertype = made
    seen = vlan.classify(frame)
    assert seen == vlan.Tags(tuple(written), ethertype, 14 + 4 * len(written))
    assert seen.vid == (written[0].vid if written else 0)


@given(stacks(most=7), tags, tags, st.sets(st.sampled_from(["vid", "priority", "drop_eligible", "tpid"])))
def test_rewrite_changes_what_is_named(made, old, new, names):
    """A rewrite changes the named parts of the outermost tag and nothing else."""
    frame, _, _ = made
    changes = {name: getattr(new, name) for name in names}
    kept = {name: getattr(old, name) for name in {"vid", "priority", "drop_eligible", "tpid"} - names}
    assert vlan.rewrite(insert(frame, old), **changes) == insert(frame, vlan.Tag(**kept, **changes))


@given(stacks(most=3), tags)
def test_scapy_reads_the_same(made, tag):
    """Scapy reads of a pushed frame the tag that was pushed, in front of what it reads of the frame itself."""
    frame, written, _ = made
    layer = l2.Ether(push(frame, tag))
    assert bytes.fromhex(layer.dst.replace(":", "") + layer.src.replace(":", "")) == frame[:12]
    for wanted in (tag, *written):
        assert layer.type == wanted.tpid
        layer = layer.payload
        assert isinstance(layer, l2.Dot1AD if wanted.tpid == vlan.SERVICE else l2.Dot1Q)
        assert (layer.vlan, layer.prio, bool(layer.dei)) == (wanted.vid, wanted.priority, wanted.drop_eligible)
    if vlan.classify(frame).payload_offset < len(frame):
        assert layer.type == vlan.classify(frame).ethertype


@given(st.lists(tags, min_size=1, max_size=3))
def test_scapys_frames_are_read_right(written):
    """What scapy has built is classified as it was meant."""
    packet = l2.Ether(dst="02:00:00:00:00:0b", src="02:00:00:00:00:0a", type=written[0].tpid)
    for tag, inner in zip(written, [*(tag.tpid for tag in written[1:]), 0x0806], strict=True):
        kind = l2.Dot1AD if tag.tpid == vlan.SERVICE else l2.Dot1Q
        packet /= kind(vlan=tag.vid, prio=tag.priority, dei=tag.drop_eligible, type=inner)
    seen = vlan.classify(bytes(packet / l2.ARP()))
    assert (seen.tags, seen.ethertype) == (tuple(written), 0x0806)


def test_tshark_reads_the_same(tmp_path):
    """Tshark, where it is installed, reads ids, priorities and DEI of single and double tags."""
    if not shutil.which("tshark"):
        pytest.skip("tshark is not installed")
    inner = vlan.push(PLAIN, 100, priority=5, drop_eligible=True)
    frames = [inner, vlan.push(inner, 4094, priority=2, tpid=vlan.SERVICE), vlan.push(PLAIN, 0, priority=7)]
    capture = tmp_path / "tagged.pcap"
    capture.write_bytes(pcap(frames))
    fields = [word for name in ("id", "priority", "dei") for word in ("-e", f"vlan.{name}")]
    fields += ["-e", "ieee8021ad.id"]
    done = subprocess.run(
        ["tshark", "-r", str(capture), "-T", "fields", "-E", "separator=;", *fields],
        capture_output=True,
        text=True,
        check=True,
    )
    # Releases write numbers as 1 or True.
    lines = done.stdout.replace("True", "1").replace("False", "0").splitlines()
    assert lines[0] == "100;5;1;"
    assert lines[1] in ("100;5;1;4094", "4094,100;2,5;0,1;")
    assert lines[2] == "0;7;0;"


def pcap(frames: list[bytes], order: str = "<", link_type: int = 1) -> bytes:
    """Write a capture."""
    parts = [struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link_type)]
    for number, frame in enumerate(frames):
        parts += [struct.pack(order + "IIII", 1_700_000_000 + number, number, len(frame), len(frame) + 100), frame]
    return b"".join(parts)


# What is refused


@pytest.mark.parametrize("length", range(71))
@pytest.mark.parametrize("depth", range(4))
def test_every_length(length, depth):
    """A frame cut off anywhere is refused where a tag or its header is not whole, and read right elsewhere."""
    frame = PLAIN + bytes(6)
    for tag in (vlan.Tag(7), vlan.Tag(100, 5), vlan.Tag(0, 7, tpid=vlan.SERVICE))[:depth]:
        frame = insert(frame, tag)
    frame = frame[:length]
    head = 14 + 4 * depth
    if length >= head:
        assert len(vlan.classify(frame).tags) == depth
    else:
        with pytest.raises(InvalidRequest, match=f"of {length} bytes"):
            vlan.classify(frame)
    outer_is_whole = length >= (18 if depth else 14)
    if outer_is_whole:
        assert vlan.pop(vlan.push(frame, 5)) == frame
    for call, is_possible in ((vlan.pop, outer_is_whole and depth), (vlan.rewrite, outer_is_whole and depth)):
        if is_possible:
            assert len(call(frame)) == length - 4 * (call is vlan.pop)
        else:
            with pytest.raises(InvalidRequest):
                call(frame)
    if not outer_is_whole:
        with pytest.raises(InvalidRequest, match=f"cannot push a VLAN tag on a frame of {length} bytes"):
            vlan.push(frame, 5)


REFUSED = {
    "VLAN id 4095": lambda: vlan.push(PLAIN, 4095),
    "VLAN id -1": lambda: vlan.push(PLAIN, -1),
    "VLAN id 65536": lambda: vlan.rewrite(vlan.push(PLAIN, 1), vid=65536),
    "VLAN id '100'": lambda: vlan.push(PLAIN, "100"),
    "priority 8": lambda: vlan.push(PLAIN, 1, priority=8),
    "priority -1": lambda: vlan.rewrite(vlan.push(PLAIN, 1), priority=-1),
    "TPID 0x9100": lambda: vlan.push(PLAIN, 1, tpid=0x9100),
    "TPID 0x0000": lambda: vlan.rewrite(vlan.push(PLAIN, 1), tpid=0),
    "TPID None": lambda: vlan.push(PLAIN, 1, tpid=None),
    "frame of 64 bytes": lambda: vlan.pop(PLAIN),
    "frame of 0 bytes": lambda: vlan.classify(b""),
    "headroom -1": lambda: vlan.Batch.pack([PLAIN], headroom=-1),
    "memory": lambda: vlan.Batch(bytes(64), [(0, 0, 64)]),
    "frame 1": lambda: vlan.Batch(bytearray(64), [(0, 0, 64), (0, 1, 64)]),
}


@pytest.mark.parametrize("thing", REFUSED)
def test_refusals_name_the_thing(thing):
    """Whatever cannot be done is an InvalidRequest that names the argument or frame."""
    with pytest.raises(InvalidRequest) as caught:
        REFUSED[thing]()
    assert caught.value.object == thing
    assert thing in str(caught.value)


@pytest.mark.parametrize(
    "span", [(4, 0, 60), (0, 0, 65), (0, 65, 0), (-1, 0, 4), (0, 60, -1), (0, 2**32, 0), (0, 4, 2**32)]
)
def test_spans_outside_are_refused(span):
    """A span that does not lie in its buffer is refused before anything is changed."""
    with pytest.raises(InvalidRequest, match="not inside the 64 bytes"):
        vlan.Batch(bytearray(64), [(0, 0, 64), span])


def test_nine_tags_are_refused():
    """Eight tags are read, a ninth is not believed."""
    frame = PLAIN
    for _ in range(8):
        frame = vlan.push(frame, 1)
    assert len(vlan.classify(frame).tags) == 8
    with pytest.raises(InvalidRequest, match="more than 8 VLAN tags"):
        vlan.classify(vlan.push(frame, 1))


def test_reserved_vid_is_shown():
    """A tag with VID 4095, which must not be on a wire, is shown as it is."""
    assert vlan.classify(insert(PLAIN, vlan.Tag(4095))).vid == 4095


@pytest.mark.parametrize(
    "kind", [bytes, bytearray, memoryview, lambda frame: memoryview(bytes(frame) * 2)[: len(frame)]]
)
def test_frames_are_bytes_of_any_kind(kind):
    """Frames may be bytes, bytearrays or views; the results are bytes, and the argument is left alone."""
    frame, tagged = kind(PLAIN), insert(PLAIN, vlan.Tag(9))
    assert vlan.push(frame, 9) == tagged
    assert vlan.classify(frame).ethertype == 0x0800
    assert vlan.pop(kind(tagged)) == PLAIN
    assert vlan.rewrite(kind(tagged), vid=10) == insert(PLAIN, vlan.Tag(10))
    assert bytes(frame) == PLAIN


# Batches


@given(st.lists(anything, max_size=12), tags, tags)
def test_batch_equals_single(frames, first, second):
    """A batch does to each frame what the single call does, and gives the same reasons where it does not."""
    batch = vlan.Batch.pack(frames)
    for single, bulk in (
        (lambda frame: push(frame, first), lambda: batch.push(first.vid, **rest(first))),
        (lambda frame: vlan.rewrite(frame, vid=second.vid), lambda: batch.rewrite(vid=second.vid)),
        (lambda frame: vlan.rewrite(frame, **rest(second)), lambda: batch.rewrite(**rest(second))),
        (vlan.pop, batch.pop),
        (vlan.pop, batch.pop),
    ):
        before = list(batch)
        wanted = [result(single, frame) for frame in before]
        assert bulk() == sum(isinstance(one, bytes) for one in wanted)
        refused = {index: one for index, one in enumerate(wanted) if isinstance(one, str)}
        assert {index: anonymous(error) for index, error in batch.failures.items()} == refused
        assert list(batch) == [one if isinstance(one, bytes) else old for old, one in zip(before, wanted, strict=True)]


@given(st.lists(anything, max_size=12))
def test_batch_classifies_like_single(frames):
    """A batch's classification is each frame's own; None, with the reason, where there is none."""
    batch = vlan.Batch.pack(frames)
    wanted = [result(vlan.classify, frame) for frame in frames]
    assert batch.classify() == [None if isinstance(one, str) else one for one in wanted]
    refused = {index: one for index, one in enumerate(wanted) if isinstance(one, str)}
    assert {index: anonymous(error) for index, error in batch.failures.items()} == refused
    assert list(batch) == frames


def rest(tag: vlan.Tag) -> dict[str, object]:
    """Return what a tag has beside its VID, as arguments."""
    return {"priority": tag.priority, "drop_eligible": tag.drop_eligible, "tpid": tag.tpid}


def anonymous(error: InvalidRequest) -> str:
    """Return a refusal of a batch's frame as that of a single one."""
    return re.sub(r"frame \d+,", "a frame", str(error))


def test_batch_touches_only_its_frames():
    """In a buffer of the caller's, a push changes only headroom and addresses; a frame without headroom stays."""
    memory = bytearray(b"\xee" * 3 + b"\xaa" * 4 + PLAIN + b"\xee" * 5 + PLAIN + b"\xee")
    second = 3 + 4 + 64 + 5
    batch = vlan.Batch(memory, [(3, 7, 64), (second - 3, second, 64)])
    assert batch.push(100, priority=1) == 1
    assert [str(error) for error in batch.failures.values()] == [
        "cannot push a VLAN tag on frame 1, of 64 bytes: its headroom has no 4 bytes left"
    ]
    assert memory == b"\xee" * 3 + insert(PLAIN, vlan.Tag(100, 1)) + b"\xee" * 5 + PLAIN + b"\xee"
    assert batch.span(0) == (3, 3, 68)
    assert batch.view(0) == insert(PLAIN, vlan.Tag(100, 1))
    assert batch.pop() == 1
    assert batch.span(0) == (3, 7, 64)
    assert batch[0] == batch[-1] == PLAIN


def test_a_runt_spoils_no_batch():
    """Of 10,000 frames among which every hundredth is a runt, the others are tagged."""
    frames = [PLAIN[:13] if number % 100 == 0 else PLAIN for number in range(10_000)]
    batch = vlan.Batch.pack(frames)
    assert batch.push(100) == 9_900
    assert list(batch.failures) == list(range(0, 10_000, 100))
    assert batch.classify()[1].vid == 100
    assert batch.pop() == 9_900
    assert list(batch) == frames


def test_headroom_is_used_up():
    """Each push takes 4 bytes of headroom; the one that finds none changes nothing."""
    batch = vlan.Batch.pack([PLAIN], headroom=11)
    assert [batch.push(vid) for vid in (1, 2, 3)] == [1, 1, 0]
    assert [tag.vid for tag in vlan.classify(batch[0]).tags] == [2, 1]


def test_empty_batch():
    """A batch without frames, or without memory, is one."""
    for batch in (vlan.Batch.pack([]), vlan.Batch(bytearray(), []), vlan.Batch(bytearray(9), [])):
        assert (batch.push(1), batch.pop(), batch.rewrite(vid=2), batch.classify(), list(batch)) == (0, 0, 0, [], [])


@pytest.mark.parametrize(
    ("tpid", "tci", "keep"), [(0x9100, 1, 0), (0, 4095, 0), (0, 0, 0x0FF0), (0, 0x1000, 0x1000), (0x8100, 1, 0x0FFF)]
)
def test_the_core_checks_for_itself(tpid, tci, keep):
    """The C functions refuse a tag that must not be written, whoever calls them."""
    memory = ffi.new("uint8_t[]", insert(PLAIN, vlan.Tag(1)))
    frames = ffi.new("struct dnet_frame[1]", [(0, 0, 68, 7)])
    assert lib.dnet_vlan_rewrite(memory, 68, tpid, tci, keep) == -errno.EINVAL
    assert lib.dnet_vlan_rewrite_batch(memory, 68, frames, 1, tpid, tci, keep) == -errno.EINVAL
    assert lib.dnet_vlan_push(memory + 4, 64, 0x8100, 4095) == -errno.EINVAL
    assert lib.dnet_vlan_push_batch(memory, 1 << 32, frames, 1, 0x8100, 1) == -errno.EINVAL
    assert lib.dnet_vlan_pop_batch(memory, 68, frames, 1 << 31) == -errno.EINVAL
    assert frames[0].error == 7


# The module, the example, the fuzzer


def test_vlan_is_an_attribute():
    """`import dnet; dnet.vlan` works without another import."""
    subprocess.run([sys.executable, "-c", "import dnet; dnet.vlan.push(bytes(60), 1)"], check=True)


def run_example(*words: object) -> subprocess.CompletedProcess[str]:
    """Run docs/examples/tag_pcap.py."""
    command = [sys.executable, str(EXAMPLE), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("order", ["<", ">"])
def test_example_tags_a_capture(tmp_path, order):
    """The example's result is a capture that scapy reads: same times, one tag more, lengths to match."""
    frames = [PLAIN, PLAIN[:13], vlan.push(PLAIN, 7), PLAIN * 20]
    source, target = tmp_path / "in.pcap", tmp_path / "out.pcap"
    source.write_bytes(pcap(frames, order))
    done = run_example(source, target, 100)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "copied 1 frames untagged: shorter than an Ethernet header\n"
    seen = list(utils.RawPcapReader(str(target)))
    wanted = [frame if len(frame) < 14 else insert(frame, vlan.Tag(100)) for frame in frames]
    assert [frame for frame, _ in seen] == wanted
    assert [(facts.sec, facts.usec) for _, facts in seen] == [(1_700_000_000 + n, n) for n in range(4)]
    assert [facts.wirelen for _, facts in seen] == [len(frame) + 100 for frame in wanted]
    packets = utils.rdpcap(str(target))
    assert [packet["Dot1Q"].vlan for packet in packets if "Dot1Q" in packet] == [100, 100, 100]


BAD_CAPTURES = {
    "it is no pcap file": b"\x0a\x0d\x0d\x0a" + bytes(100),
    "its link type is 113": pcap([PLAIN], link_type=113),
    "record 1 is cut off": pcap([PLAIN])[:-1],
    "record 2 is cut off": pcap([PLAIN]) + bytes(15),
}


@pytest.mark.parametrize("reason", BAD_CAPTURES)
def test_example_refuses_what_is_no_capture(tmp_path, reason):
    """A file that is no whole capture of Ethernet frames gives a sentence and no result."""
    (tmp_path / "in").write_bytes(BAD_CAPTURES[reason])
    done = run_example(tmp_path / "in", tmp_path / "out", 100)
    assert done.returncode == 1
    assert done.stderr.startswith(f"cannot tag {tmp_path / 'in'}: {reason}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("words", "status"), [((), 2), (("a", "b", "x"), 2), (("missing", "b", "1"), 1)])
def test_example_says_what_it_needs(words, status):
    """Missing words, a VID that is no number and a missing file are told apart from success."""
    done = run_example(*words)
    assert done.returncode == status
    assert done.stderr.count("\n") == 1


def test_example_refuses_a_bad_vid(tmp_path):
    """VID 4095 is refused in the library's words."""
    (tmp_path / "in").write_bytes(pcap([PLAIN]))
    done = run_example(tmp_path / "in", tmp_path / "out", 4095)
    assert done.returncode == 1
    assert "VLAN id 4095 is not a number from 1 to 4094" in done.stderr


def test_fuzzer_finds_nothing(tmp_path):
    """Random frames in heap memory of exactly their size are handled as the model says, under ASan and UBSan."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler:
        assert os.environ.get("CI") != "true"
        pytest.skip("no C compiler is installed")
    program = tmp_path / "fuzz-frame"
    sources = [str(ROOT / "tests/c/fuzz_frame.c"), str(ROOT / "csrc/frame.c")]
    flags = ["-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
    flags += ["-fno-sanitize-recover=all", f"-I{ROOT / 'csrc'}"]
    subprocess.run([compiler, *flags, *sources, "-o", str(program)], check=True)
    done = subprocess.run([str(program), str(FUZZ_ITERATIONS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{FUZZ_ITERATIONS} random inputs" in done.stdout


def test_benchmark_runs(tmp_path):
    """The benchmark's quick variant measures everybody and writes what it found."""
    command = [sys.executable, "-m", "benchmarks.frames", "--quick", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "frames.json").read_text(encoding="utf-8"))
    assert {one["contestant"] for one in found["measurements"]} >= {"memmove", "dnet, batch push", "scapy"}
    assert found["findings"][0]["verdict"] == "not judged"
