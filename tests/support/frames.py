"""Packets as an attacker writes them, byte by byte, and what of them arrives."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address

from tests.support.hosts import FakeHost, Namespace

UDP = 17
UDP_HEADER_BYTES = 8
BROADCAST = "ff:ff:ff:ff:ff:ff"
# Prints the text of each datagram that reaches one of its ports.
_SINK = """
import select, socket, sys
sockets = []
for port in map(int, sys.argv[1:]):
    sockets.append(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    sockets[-1].bind(("::", port))
print(flush=True)
while True:
    for sock in select.select(sockets, [], [])[0]:
        print(sock.recv(100).decode(), flush=True)
"""
# Prints the number of the protocol of each packet that arrives.
_RAW_SINK = """
import select, socket, sys
sockets = {socket.socket(socket.AF_INET, socket.SOCK_RAW, int(number)): number for number in sys.argv[1:]}
print(flush=True)
while True:
    for sock in select.select(list(sockets), [], [])[0]:
        sock.recv(100)
        print(sockets[sock], flush=True)
"""


def _checksum(data: bytes) -> int:
    """Return the internet checksum (RFC 1071)."""
    padded = data + bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def datagram(source: str, target: str, port: int, text: str) -> bytes:
    """Return an IP packet with a UDP datagram, of the family of its addresses."""
    ends = ip_address(source).packed + ip_address(target).packed
    size = UDP_HEADER_BYTES + len(text)
    udp = struct.pack("!HHHH", 5555, port, size, 0) + text.encode()
    checksum = _checksum(ends + struct.pack("!II", size, UDP) + udp)
    udp = udp[:6] + struct.pack("!H", checksum or 0xFFFF) + udp[8:]
    if ":" in source:
        return struct.pack("!IHBB", 6 << 28, size, UDP, 64) + ends + udp
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + size, 1, 0, 64, UDP, 0) + ends
    return header[:10] + struct.pack("!H", _checksum(header)) + header[12:] + udp


def send_frame(space: Namespace, target_mac: str, packet: bytes) -> None:
    """Send an IP packet out of eth0 to a MAC address of one's choice."""
    space.call(_send_frame, target_mac, packet.hex())


def _send_frame(target_mac: str, packet: str) -> None:
    data = bytes.fromhex(packet)
    kind = 0x86DD if data[0] >> 4 == 6 else 0x0800
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("eth0", kind))
        own = sock.getsockname()[4]
        sock.send(bytes.fromhex(target_mac.replace(":", "")) + own + struct.pack("!H", kind) + data)


def send_protocol(space: Namespace, target: str, protocol: int, port: int) -> None:
    """Send a packet of any IP protocol, which begins as if it had ports."""
    space.call(_send_protocol, target, protocol, port)


def _send_protocol(target: str, protocol: int, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol) as sock:
        sock.sendto(struct.pack("!HHHH", 5555, port, 8, 0), (target, 0))


def ask_from(space: Namespace, source_port: int, target: str, port: int, protocol: str, timeout_s: float) -> bool:
    """Whether a server answers that is asked from a source port of one's choice."""
    return bool(space.call(_ask_from, source_port, target, port, protocol, timeout_s))


def _ask_from(source_port: int, target: str, port: int, protocol: str, timeout_s: float) -> bool:
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, kind) as sock:
        sock.settimeout(timeout_s)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("", source_port))
            sock.connect((target, port))
            sock.sendall(b"hello")
            return bool(sock.recv(100))
        except OSError:
            return False


@contextlib.contextmanager
def arriving(space: Namespace, host: FakeHost, target: str, *ports: int) -> Iterator[Callable[[], list[str]]]:
    """Listen for datagrams while the block runs; yields a function that returns the texts of those that came.

    A datagram from the host, sent after all others, marks the end.
    """

    def end() -> None:
        host.call(_send_datagram, target, ports[0], "end")

    with _hearing(space, _SINK, ports, "end", end) as heard:
        yield heard


def _send_datagram(target: str, port: int, text: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(text.encode(), (target, port))


@contextlib.contextmanager
def arriving_protocols(
    space: Namespace, host: FakeHost, target: str, protocols: Sequence[int]
) -> Iterator[Callable[[], list[str]]]:
    """Listen for packets of IP protocols; yields a function that returns the numbers of those that came."""
    last = 253  # for experiments (RFC 3692)
    with _hearing(
        space, _RAW_SINK, [*protocols, last], str(last), lambda: send_protocol(host, target, last, 0)
    ) as heard:
        yield heard


@contextlib.contextmanager
def _hearing(
    space: Namespace, script: str, arguments: Sequence[int], last: str, end: Callable[[], None]
) -> Iterator[Callable[[], list[str]]]:
    sink = space.start(sys.executable, "-I", "-c", script, *map(str, arguments), stdout=subprocess.PIPE)
    assert sink.stdout is not None
    lines = sink.stdout
    assert lines.readline() == "\n"

    def heard() -> list[str]:
        end()
        return sorted(iter(lambda: lines.readline().strip(), last))

    try:
        yield heard
    finally:
        sink.kill()
        sink.communicate()
