"""What the host itself does with ports: its automatic range, and which processes listen. Rank 4, IO."""

from __future__ import annotations

import os
from ipaddress import IPv4Address, IPv6Address

from dnet.model import IPAddress

RANGE_PATH = "/proc/sys/net/ipv4/ip_local_port_range"
RESERVED_PATH = "/proc/sys/net/ipv4/ip_local_reserved_ports"
TCP_LISTEN = "0A"
# The kernel's own fallback where the file cannot be read (inet_init_net).
FALLBACK_RANGE = (32768, 60999)

Listeners = dict[tuple[str, int], dict[IPAddress, int]]


def automatic_ports(after: int) -> list[int]:
    """Return the ports to choose automatic ones from, beginning behind `after` and wrapping, reserved ones left out."""
    try:
        with open(RANGE_PATH, encoding="ascii") as file:
            first, last = map(int, file.read().split())
        with open(RESERVED_PATH, encoding="ascii") as file:
            reserved = _ranges(file.read().strip())
    except OSError:
        (first, last), reserved = FALLBACK_RANGE, set()
    start = after + 1 if first <= after < last else first
    return [port for part in (range(start, last + 1), range(first, start)) for port in part if port not in reserved]


def _ranges(text: str) -> set[int]:
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def listeners() -> Listeners:
    """Return the host's listening sockets: (protocol, port) -> address -> inode. Read from /proc/net."""
    found: Listeners = {}
    for name in ("tcp", "tcp6", "udp", "udp6"):
        try:
            with open(f"/proc/net/{name}", encoding="ascii") as file:
                next(file)
                for line in file:
                    words = line.split()
                    # The kernel lists listening sockets first; the connections behind them may be many.
                    if name.startswith("tcp") and words[3] != TCP_LISTEN:
                        break
                    address_text, port_text = words[1].split(":")
                    port, inode = int(port_text, 16), int(words[9])
                    at = found.setdefault((name[:3], port), {})
                    for address in _addresses(address_text):
                        at[address] = inode
        except OSError:
            continue
    _add_sctp(found)
    return found


def _add_sctp(found: Listeners) -> None:
    """Add listening SCTP sockets; the file exists only where the kernel has SCTP."""
    try:
        with open("/proc/net/sctp/eps", encoding="ascii") as file:
            next(file)
            for line in file:
                words = line.split()
                for text in words[8:]:
                    address = IPv6Address(text) if ":" in text else IPv4Address(text)
                    found.setdefault(("sctp", int(words[5])), {})[address] = int(words[7])
    except (OSError, ValueError, IndexError):
        return


def _addresses(text: str) -> list[IPAddress]:
    """Read an address of /proc/net, words in the machine's order; `::` usually takes IPv4 as well."""
    packed = b"".join(bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8))
    if len(packed) == 4:  # noqa: PLR2004
        return [IPv4Address(packed)]
    address = IPv6Address(packed)
    if address.is_unspecified:
        return [address, IPv4Address(0)]
    return [address.ipv4_mapped] if address.ipv4_mapped else [address]


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
