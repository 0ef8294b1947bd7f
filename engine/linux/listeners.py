"""What the host itself does with ports: its automatic range, and which processes listen.

Listening sockets come from the kernel's socket diagnosis (sock_diag(7), as `ss -l` uses it): it skips established
connections, where reading /proc/net/tcp walks their whole hash table, several milliseconds even when it is empty.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address

from dnet.model.address import IPAddress
from dnet.objects.observed import pairs

RANGE_PATH = "/proc/sys/net/ipv4/ip_local_port_range"
RESERVED_PATH = "/proc/sys/net/ipv4/ip_local_reserved_ports"
SCTP_PATH = "/proc/net/sctp/eps"
# The kernel's own fallback where the file cannot be read (inet_init_net).
FALLBACK_RANGE = (32768, 60999)

SOCK_DIAG_BY_FAMILY = 20
INET_DIAG_SKV6ONLY = 11
AF_INET, AF_INET6 = 2, 10
# Protocol number, and the states in which a socket needs its port for itself: TCP_LISTEN; for UDP both unconnected
# (TCP_CLOSE) and connected (TCP_ESTABLISHED), since its peers' packets look like a container's.
PROTOCOLS = {"tcp": (6, 1 << 10), "udp": (17, 1 << 7 | 1 << 1)}
REQUEST = struct.Struct("=BBBBI48x")  # struct inet_diag_req_v2
HEADER_BYTES, MESSAGE_BYTES = 16, 72  # struct nlmsghdr, struct inet_diag_msg

Listeners = dict[tuple[str, int], dict[IPAddress, int]]


def automatic_ports(after: int) -> Iterator[int]:
    """Yield the ports to choose automatic ones from, beginning behind `after` and wrapping, reserved ones left out."""
    try:
        with open(RANGE_PATH, encoding="ascii") as file:
            first, last = map(int, file.read().split())
        with open(RESERVED_PATH, encoding="ascii") as file:
            reserved = _ranges(file.read().strip())
    except OSError:
        (first, last), reserved = FALLBACK_RANGE, set()
    start = after + 1 if first <= after < last else first
    for part in (range(start, last + 1), range(first, start)):
        yield from (port for port in part if port not in reserved)


def _ranges(text: str) -> set[int]:
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def listeners(dump: Callable[[int, bytes], Iterable[bytes]]) -> Listeners:
    """Return the host's listening sockets: (protocol, port) -> address -> inode.

    `dump(type, body)` yields the messages that answer a request on a NETLINK_SOCK_DIAG socket.
    """
    found: Listeners = {}
    for name, (number, states) in PROTOCOLS.items():
        for family in (AF_INET, AF_INET6):
            for message in dump(SOCK_DIAG_BY_FAMILY, REQUEST.pack(family, number, 0, 0, states)):
                port, addresses, inode = _socket(message)
                at = found.setdefault((name, port), {})
                for address in addresses:
                    at[address] = inode
    _add_sctp(found)
    return found


def _socket(message: bytes) -> tuple[int, list[IPAddress], int]:
    """Read a struct inet_diag_msg: port, the addresses that the socket takes, inode."""
    family = message[HEADER_BYTES]
    (port,) = struct.unpack_from("!H", message, HEADER_BYTES + 4)
    (inode,) = struct.unpack_from("=I", message, HEADER_BYTES + 68)
    packed = message[HEADER_BYTES + 8 : HEADER_BYTES + 24]
    if family == AF_INET:
        return port, [IPv4Address(packed[:4])], inode
    address = IPv6Address(packed)
    if address.ipv4_mapped:
        return port, [address.ipv4_mapped], inode
    if address.is_unspecified and not _is_v6only(message):
        return port, [address, IPv4Address(0)], inode
    return port, [address], inode


def _is_v6only(message: bytes) -> bool:
    return dict(pairs(message, HEADER_BYTES + MESSAGE_BYTES)).get(INET_DIAG_SKV6ONLY) == b"\1"


def _add_sctp(found: Listeners) -> None:
    """Add SCTP endpoints; the file exists only where the kernel has SCTP."""
    try:
        with open(SCTP_PATH, encoding="ascii") as file:
            next(file)
            for line in file:
                words = line.split()
                for text in words[8:]:
                    address = IPv6Address(text) if ":" in text else IPv4Address(text)
                    found.setdefault(("sctp", int(words[5])), {})[address] = int(words[7])
    except (OSError, ValueError, IndexError, StopIteration):
        return


def owner_of(inode: int) -> str:
    """Return the process that has a socket, such as `nginx (pid 812)`; of the kernel or unknown: `a host process`."""
    target = f"socket:[{inode}]"
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if any(os.readlink(entry.path) == target for entry in os.scandir(f"/proc/{pid}/fd")):
                with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                    return f"{file.read().strip()} (pid {pid})"
        except OSError:
            continue
    return "a host process"
