"""A bridge under test, frames on its wires, and what IEEE 802.1Q says of them. The captures are AF_PACKET's.

Tags are written outermost first: `100` is a C-tag, `100p5` one with priority 5, `s100` an S-tag, `100+200` two, and the
empty text no tag at all.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import selectors
import socket
import struct
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

from dnet.model.vlan import PortVlans
from dnet.objects.links import Bridge, LinkUp, NoAutoconf
from dnet.objects.object import Object
from tests.support.hosts import FakeHost, Namespace, wait_until

BROADCAST = "ff:ff:ff:ff:ff:ff"
FIRST_INDEX = 1000
BRIDGE_INDEX = 1 << 21
NUMBERS = 50  # for each bridge
NOBODY = "02:00:00:00:ff:ff"
ETHERTYPE = 0x88B5  # IEEE 802's for experiments
C_TAG, S_TAG = 0x8100, 0x88A8
VETHS_MAX = 4
# Of linux/if_packet.h.
SOL_PACKET, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING = 263, 8, 23
TP_STATUS_VLAN_VALID = 0x10
ETH_P_ALL = 3
SO_RCVBUFFORCE = 33
BUFFER_BYTES = 64 << 20
PATIENCE_S = 20.0
PACKET_OTHERHOST = 3


class Switch(ABC):
    """Bridge `number` on a fake host, the device sw0 or sw1; every realisation of VLANs has one of these.

    Its ports are the host's ends of veths, whose other ends are eth0 of namespaces of the same name. `vlans` tells what
    each port is, and the bridge's own end by the bridge's name. Nothing sends of its own accord.
    """

    # How long nothing must arrive for nothing to be on its way, where frames pass another process.
    quiet_s: ClassVar[float] = 0.08

    def __init__(self, host: FakeHost, number: int = 0) -> None:
        self.host = host
        self.number = number
        self.device = f"sw{number}"
        self.vlans: dict[str, PortVlans] = {self.device: PortVlans()}
        self.numbers: dict[str, int] = {}
        self.make()

    # What a realisation does

    @abstractmethod
    def make(self) -> None:
        """Make the bridge, up, its own end in no VLAN."""

    @abstractmethod
    def join(self, ports: Mapping[str, PortVlans]) -> None:
        """Make existing devices ports, and up."""

    @abstractmethod
    def apply(self, name: str, vlans: PortVlans) -> None:
        """Give a port, or by the bridge's name its own end, other VLANs."""

    # What all do alike

    def add(self, **ports: PortVlans) -> None:
        """Add ports, each with its namespace."""
        lines = ["set -e", "ip -batch - <<END"]
        for number, name in enumerate(ports, self.number * NUMBERS + len(self.numbers) + 1):
            self.numbers[name] = number
            lines.append(f"netns add {name}")
            # Of a veth whose ends have the same index the kernel tells a second late that it is up.
            pair = f"{name} index {FIRST_INDEX + number} type veth peer name eth0 address {_mac(number)} netns {name}"
            lines += [f"link add name {pair}", f"link set dev {name} addrgenmode none"]
        lines.append("END")
        for name in ports:
            lines += [f"ip -netns {name} -batch - <<END", "link set eth0 addrgenmode none", "link set eth0 up", "END"]
        self.host.run("sh", "-c", "\n".join(lines) + "\n")
        self.connect(**ports)

    def connect(self, **ports: PortVlans) -> None:
        """Make existing devices ports."""
        self.join(ports)
        self.vlans.update(ports)
        wait_until(lambda: self._is_up(ports), "the ports are up")

    def _is_up(self, names: Iterable[str]) -> bool:
        shown = self.host.json("ip", "-j", "link", "show", "up")  # with an empty document for each that is down
        states = {link["ifname"]: link["operstate"] for link in shown if link}
        return all(states.get(name) == "UP" for name in names)

    def change(self, name: str, vlans: PortVlans) -> None:
        """Give a port, or by the bridge's name its own end, other VLANs."""
        self.apply(name, vlans)
        self.vlans[name] = vlans

    def add_addresses(self) -> None:
        """Give every port's namespace, and the bridge's own end, addresses: see `address`."""
        for name in (*self.numbers, self.device):
            space, device = (self.inside(name), "eth0") if name in self.numbers else (self.host, name)
            lines = [f"address add {self.address(name)}/24 dev {device}"]
            lines += [f"address add {self.address(name, 6)}/64 dev {device} nodad", ""]
            space.run("ip", "-batch", "-", stdin="\n".join(lines))

    def inside(self, name: str) -> Namespace:
        """Return the namespace of a port."""
        return self.host.sandbox(name)

    def address(self, name: str, family: int = 4) -> str:
        """Return the address of a port's namespace, or of the bridge's own end."""
        number = self.numbers.get(name, (self.number + 1) * NUMBERS)
        return f"10.9.0.{number}" if family == 4 else f"fd09::{number}"

    def mac(self, name: str) -> str:
        """Return the MAC of a port's namespace, or of the bridge's own end."""
        if name in self.numbers:
            return _mac(self.numbers[name])
        [link] = self.host.json("ip", "-j", "link", "show", "dev", name)
        return str(link["address"])

    def send(self, *frames: tuple[str, ...], others: Iterable[str] = ()) -> list[dict[str, str]]:
        """Send frames one after the other; return for each who got it, and with which tags.

        A frame is (port, tags), perhaps with its destination, which is a port's name or a MAC and else everybody, and
        its source, else the port's MAC. With the bridge's name for the port the host sends it. `others` are names of
        more namespaces to listen in.
        """
        written = []
        for number, frame in enumerate(frames):
            port, tags, target, source = (*frame, *(BROADCAST, self.mac(frame[0]))[len(frame) - 2 :])
            head = bytes.fromhex((target if ":" in target else self.mac(target)).replace(":", ""))
            head += bytes.fromhex(source.replace(":", "")) + tag_bytes(tags) + struct.pack("!H", ETHERTYPE)
            written.append((port, (head + f"frame {number}.".encode().ljust(46, b"\0")).hex()))
        found: list[dict[str, str]] = [{} for _ in frames]
        for name, packets in self.exchange(written, others).items():
            for packet in packets:
                label = re.search(rb"frame (\d+)\.", packet)
                assert label, f"{name} got something else: {packet.hex()}"
                heard = found[int(label[1])]
                assert name not in heard, f"{name} got frame {label[1].decode()} twice"
                heard[name] = tags_of(packet)
        return found

    def exchange(self, frames: Sequence[tuple[str, str]], others: Iterable[str] = ()) -> dict[str, list[bytes]]:
        """Send frames, each a port's name and bytes in hexadecimal; return what each port, and the host, got."""
        heard = self.host.call(_exchange, self.device, [*self.numbers, *others], frames, self.quiet_s)
        return {name: [bytes.fromhex(text) for text in packets] for name, packets in heard.items()}


class LinuxBridge(Switch):
    """A Linux bridge, made and told of its ports by objects of dnet's."""

    quiet_s = 0.0

    @abstractmethod
    def filtering(self) -> Sequence[Object]:
        """Return what makes the bridge keep VLANs apart, its own end in none."""

    @abstractmethod
    def membership(self, name: str, vlans: PortVlans) -> Sequence[Object]:
        """Return what puts a port, or the bridge's own end, into VLANs."""

    @abstractmethod
    def create(self, *objects: Object) -> None:
        """Create objects by a process of its own."""

    def make(self) -> None:
        self.index = (self.number + 1) * BRIDGE_INDEX
        self.indexes = {self.device: self.index}
        bridge = Bridge(self.device, self.index, "", mac=f"02:00:00:00:01:{self.number:02x}", mtu=0)
        quiet, up = NoAutoconf(self.device, self.index, ""), LinkUp(self.device, self.index, "")
        self.create(bridge, *self.filtering(), quiet, up)

    def join(self, ports: Mapping[str, PortVlans]) -> None:
        lines = [f"link set dev {name} master {self.device}\n" for name in ports]
        self.host.run("ip", "-batch", "-", stdin="".join(lines))
        self.indexes |= {link["ifname"]: link["ifindex"] for link in self.host.json("ip -j link")}
        found: list[Object] = []
        for name, vlans in ports.items():
            found += [*self.membership(name, vlans), LinkUp(name, self.indexes[name], "")]
        self.create(*found)


def _mac(number: int) -> str:
    """Return the MAC of port number so and so."""
    return f"02:00:00:00:00:{number:02x}"


def tag_bytes(tags: str) -> bytes:
    """Return the bytes of tags."""
    found = b""
    for service, vid, priority in re.findall(r"(s?)(\d+)(?:p(\d))?", tags):
        found += struct.pack("!HH", S_TAG if service else C_TAG, int(priority or 0) << 13 | int(vid))
    return found


def tags_of(packet: bytes) -> str:
    """Return the tags of a frame."""
    found, offset = [], 12
    while (kind := int.from_bytes(packet[offset : offset + 2])) in {C_TAG, S_TAG}:
        tci = int.from_bytes(packet[offset + 2 : offset + 4])
        priority = f"p{tci >> 13}" if tci >> 13 else ""
        found.append(f"{'s' if kind == S_TAG else ''}{tci & 0xFFF}{priority}")
        offset += 4
    return "+".join(found)


def expected(vlans: Mapping[str, PortVlans], source: str, tags: str) -> dict[str, str]:
    """Return who gets a broadcast, and with which tags, by IEEE 802.1Q-2018 (6.9, 8.6 and 8.8).

    An access port admits no tagged frames (6.9 leaves the choice). S-tags are refused, and so is a frame that would
    leave without its outer tag and with an inner one, which the standard takes for payload.
    """
    outer, _, inner = tags.partition("+")
    found = re.fullmatch(r"(s?)(\d*)((?:p\d)?)", outer)
    assert found
    service, vid, priority = found.groups()
    port, number = vlans[source], int(vid or 0)
    if service or number not in {0, *port.tagged} or (not number and (inner or not port.untagged)):
        return {}
    vlan = number or port.untagged
    tagged = "+".join(filter(None, (f"{vlan}{priority}", inner)))
    return {
        name: "" if vlan == other.untagged else tagged
        for name, other in vlans.items()
        if name != source
        and (vlan in other.tagged or vlan == other.untagged)
        and not (inner and vlan == other.untagged)
    }


_SINK = """
import socket
with socket.create_server(("0.0.0.0", 5000)) as listener:
    print(flush=True)
    connection, _ = listener.accept()
count = 0
while data := connection.recv(1 << 20):
    count += len(data)
print(count)
"""


def transfer(source: Namespace, target: Namespace, address: str, size: int) -> int:
    """Send `size` bytes over TCP and return how many arrived."""
    sink = target.start(sys.executable, "-I", "-c", _SINK, stdout=subprocess.PIPE)
    assert sink.stdout is not None
    assert sink.stdout.readline() == "\n"
    source.call(_send, address, size)
    received, _ = sink.communicate(timeout=PATIENCE_S)
    return int(received)


# What runs inside the fake host


def _send(address: str, size: int) -> None:
    with socket.create_connection((address, 5000), timeout=PATIENCE_S) as connection:
        connection.sendall(bytes(size))


def packet_sockets(stack: contextlib.ExitStack, names: Iterable[str]) -> dict[str, socket.socket]:
    """Return a socket for all that passes eth0 of each namespace."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    found = {}
    for name in names:
        _enter(os.open(f"/run/netns/{name}", os.O_RDONLY))
        found[name] = stack.enter_context(_packet_socket("eth0", ETH_P_ALL))
    _enter(home)
    return found


@contextlib.contextmanager
def on_one_processor() -> Iterator[None]:
    """Keep this thread on one processor; at the end, all that it has sent has got where it goes.

    What a veth takes joins the processor's backlog, in order, for every veth on its way, as does what goes over the
    loopback: when that has come back as many times, nothing sent before is left. A packet that crosses two bridges
    passes three veths.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            for _ in range(VETHS_MAX):
                sock.sendto(b"", sock.getsockname())
                sock.recv(1)
    finally:
        os.sched_setaffinity(0, before)


def received(sockets: Mapping[str, socket.socket], quiet_s: float = 0.0) -> Iterator[tuple[str, bytes, int]]:
    """Yield what has been received, until for a while nothing is: whose it is, the frame, the kernel's word for it."""
    with selectors.DefaultSelector() as selector:
        for name, sock in sockets.items():
            selector.register(sock, selectors.EVENT_READ, name)
        while ready := selector.select(quiet_s):
            for key, _ in ready:
                yield (key.data, *_receive(sockets[key.data]))


def _exchange(
    device: str, names: Sequence[str], frames: Sequence[tuple[str, str]], quiet_s: float
) -> dict[str, list[str]]:
    """Send frames and return what was heard at all places, and what reached the host through the bridge's own end."""
    heard: dict[str, list[str]] = {name: [] for name in (*names, device)}
    with contextlib.ExitStack() as stack:
        listeners = packet_sockets(stack, names)
        senders = {**listeners, device: stack.enter_context(_packet_socket(device, 0))}
        # What is for all EtherTypes is taken before tc, what is for one behind it.
        listeners[device] = stack.enter_context(_packet_socket(device, ETHERTYPE))
        with on_one_processor():
            for source, text in frames:
                # ENOBUFS is how the host learns that tc has dropped what it sent.
                with contextlib.suppress(OSError):
                    senders[source].send(bytes.fromhex(text))
        for name, packet, kind in received(listeners, quiet_s):
            if name != device or kind != PACKET_OTHERHOST:
                heard[name].append(packet.hex())
    return heard


def _enter(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _packet_socket(device: str, protocol: int) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    sock.bind((device, protocol))
    return sock


def _receive(sock: socket.socket) -> tuple[bytes, int]:
    """Return a frame as it was on the wire, its tag back in place, and the kernel's word for its kind."""
    packet, extra, _, address = sock.recvmsg(65536, 256)
    for level, kind, data in extra:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, tci, tpid = struct.unpack_from("=IIIHHHH", data)
            if status & TP_STATUS_VLAN_VALID:
                packet = packet[:12] + struct.pack("!HH", tpid, tci) + packet[12:]
    return packet, address[2]
