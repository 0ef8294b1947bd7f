"""What is on the wire of access ports and trunks, frame by frame, and VLANs that are changed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from types import TracebackType
from typing import Any, Self

import pytest

from tests.support.hosts import Raised
from tests.support.openvswitch import Lab, Ovs, bridge, port, reaches

# Broadcasts of an EtherType for experiments (0x88b5, IEEE 802), with a letter to know them by.
HEAD = "ff" * 6 + "020000000001"
CAPTURE = """
import json, select, socket, struct, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
sock.bind(("eth0", 0))
sock.setsockopt(263, 8, 1)  # SOL_PACKET, PACKET_AUXDATA: the kernel tells the outer tag beside the frame
sock.setblocking(False)
print(flush=True)
sys.stdin.read()
seen = []
while True:
    try:
        frame, [(_, _, beside)], _, _ = sock.recvmsg(2000, 256)
    except BlockingIOError:
        break
    status, _, _, _, _, tci, tpid = struct.unpack("IIIHHHH", beside[:20])
    frame = frame[:12] + (struct.pack("!HH", tpid, tci) if status & 16 else b"") + frame[12:]
    tags, at = [], 12
    while frame[at : at + 2] == b"\\x81\\x00":
        tags.append(int.from_bytes(frame[at + 2 : at + 4]) & 4095)
        at += 4
    if frame[at : at + 2] == b"\\x88\\xb5":
        seen.append([chr(frame[at + 2]), *tags])
print(json.dumps(sorted(seen)))
"""


def frame(letter: str, *vids: int) -> str:
    """Return a broadcast with 802.1Q tags, outermost first."""
    return HEAD + "".join(f"8100{vid:04x}" for vid in vids) + f"88b5{ord(letter):02x}" + "00" * 60


def send(frames: list[str]) -> None:
    """Send frames through eth0."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("eth0", 0))
        for text in frames:
            sock.send(bytes.fromhex(text))


class Captures:
    """What containers receive while the block runs, and afterwards, in `seen`: letters with the tags they came with."""

    def __init__(self, ovs: Ovs, numbers: tuple[int, ...]) -> None:
        self.seen: dict[int, list[Any]] = {}
        pipe = subprocess.PIPE
        self._processes = {
            number: ovs.host.sandbox(f"c-{number}").start(sys.executable, "-c", CAPTURE, stdin=pipe, stdout=pipe)
            for number in numbers
        }

    def __enter__(self) -> Self:
        for process in self._processes.values():
            assert process.stdout
            assert process.stdout.readline() == "\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seen = {number: json.loads(process.communicate()[0]) for number, process in self._processes.items()}


def test_frames_on_access_ports_and_trunks(ovs: Ovs):
    """Tagged frames stay out of access ports; a trunk passes its VLANs tagged, its native one untagged, no others."""
    lab = Lab(ovs)
    lab.create(lab.network())
    trunk = {"trunks": ((100, 100), (200, 201)), "native": 1}
    strict = {"trunks": ((100, 100), (200, 201))}
    vlans = {2: {"tag": 100}, 3: {"tag": 201}, 4: {"tag": 1}, 5: {"tag": 300}, 6: {}, 7: trunk, 8: strict}
    senders = {9: {"tag": 100}, 10: trunk, 11: strict}
    lab.create(*(lab.group(number, **given) for number, given in (vlans | senders).items()))
    access, native, tagged = (ovs.host.sandbox(f"c-{number}") for number in senders)
    assert reaches(access, "10.1.0.2")
    assert reaches(native, "10.1.0.4")
    with Captures(ovs, tuple(vlans)) as captures:
        access.call(send, [frame("a", 100), frame("b", 300), frame("c", 100, 300), frame("d", 0), frame("e")])
        native.call(send, [frame("f", 100), frame("g", 201), frame("h", 300), frame("i"), frame("j", 100, 300)])
        tagged.call(send, [frame("k", 100), frame("l", 1), frame("m"), frame("n", 0)])
        # A ping behind the frames: with its answer, they have been where they go.
        assert reaches(access, "10.1.0.2")
        assert reaches(native, "10.1.0.4")
    assert captures.seen == {
        2: [["d"], ["e"], ["f"], ["j", 300], ["k"]],
        3: [["g"]],
        4: [["i"]],
        5: [],
        6: [],
        7: [["d", 100], ["e", 100], ["f", 100], ["g", 201], ["i"], ["j", 100, 300], ["k", 100]],
        8: [["d", 100], ["e", 100], ["f", 100], ["g", 201], ["j", 100, 300], ["k", 100]],
    }


def test_uplink_of_all_vlans(ovs: Ovs):
    """A port that is a trunk of all VLANs carries each of them tagged, and what has none untagged."""
    lab = Lab(ovs)
    lab.create(lab.network())
    lab.create(lab.group(2, trunks=((0, 4095),)), lab.group(3, tag=4094), lab.group(4))
    box = ovs.host.sandbox("c-4")
    assert reaches(box, "10.1.0.2")
    with Captures(ovs, (2,)) as captures:
        for number in (3, 4):
            ovs.host.sandbox(f"c-{number}").call(send, [frame(str(number))])
        assert reaches(box, "10.1.0.2")
    assert captures.seen == {2: [["3", 4094], ["4"]]}


def test_vlans_in_the_database(ovs: Ovs):
    """The database has the tags, trunks and modes that ovs-vsctl would have set."""
    ports = [
        port("v1", tag=100),
        port("v2", trunks=((100, 100), (200, 202))),
        port("v3", trunks=((100, 101),), native=5),
        port("v4", trunks=((0, 4095),)),
        port("v5"),
        port("v6", native=7),
    ]
    ovs.veths(*(item.port for item in ports))
    ovs.call(lambda switch: [switch.create_bridges([bridge()]), switch.create_ports(ports)][:0])
    columns = "--columns=name,vlan_mode,tag,trunks"
    table = json.loads(ovs.vsctl("--format=json", columns, "find", "Port", "name!=ovs0"))
    empty = ["set", []]
    assert sorted(table["data"]) == [
        ["v1", "access", 100, empty],
        ["v2", "trunk", empty, ["set", [100, 200, 201, 202]]],
        ["v3", "native-untagged", 5, ["set", [100, 101]]],
        ["v4", "trunk", empty, empty],
        ["v5", "access", 0, empty],
        ["v6", "access", 7, empty],
    ]


def test_vlans_are_changed(ovs: Ovs):
    """Ports are given other VLANs in one transaction, and at once only their new members are reached."""
    lab = Lab(ovs)
    lab.create(lab.network())
    groups = {number: lab.group(number, tag=tag) for number, tag in ((2, 100), (3, 200), (4, 200))}
    lab.create(*groups.values())
    box = ovs.host.sandbox("c-3")
    assert reaches(box, "10.1.0.4")
    before = int(ovs.vsctl("get", "Open_vSwitch", ".", "next_cfg"))
    changed = [lab.group(2, trunks=((300, 300),), native=100)[-1], lab.group(3, tag=100)[-1]]
    ovs.call(lambda switch: switch.set_vlans(changed))
    assert int(ovs.vsctl("get", "Open_vSwitch", ".", "next_cfg")) == before + 1
    assert reaches(box, "10.1.0.2")
    assert not box.can_ping("10.1.0.4")
    ovs.call(lambda switch: switch.set_vlans([lab.group(number)[-1] for number in (3, 4)]))
    assert reaches(box, "10.1.0.4")
    assert reaches(box, "10.1.0.1")


def test_vlans_of_a_missing_port(ovs: Ovs):
    """When one of several ports is missing, or is somebody else's, NotFound names it and none is changed."""
    ovs.veths("v1", "v2")
    ovs.call(lambda switch: [switch.create_bridges([bridge()]), switch.create_ports([port("v1", tag=100)])][:0])
    ovs.vsctl("add-port", "ovs0", "v2", "tag=5")
    for name in ("v2", "v3"):
        with pytest.raises(Raised, match=f"there is no port {name} of dnet's on Open vSwitch bridge ovs0") as caught:
            ovs.call(lambda switch, name=name: switch.set_vlans([port("v1", tag=200), port(name, tag=200)]))
        assert caught.value.kind == "NotFound"
    assert (ovs.vsctl("get", "Port", "v1", "tag"), ovs.vsctl("get", "Port", "v2", "tag")) == ("100", "5")
