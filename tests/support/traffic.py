"""Who reaches whom: servers, questions, refusals, and the flows that the kernel tracks."""

from __future__ import annotations

import contextlib
import selectors
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from tests.support import conversation
from tests.support.hosts import FakeHost, Namespace, Neighbour, NoAnswer

HOST = {4: "192.0.2.1", 6: "2001:db8::1"}
PEER = {4: "192.0.2.2", 6: "2001:db8::2"}
FAR = {4: "198.51.100.1", 6: "2001:db8:1::1"}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
ANYWHERE = {4: "0.0.0.0", 6: "::"}
# How long a test waits for what shall not come, and for what shall.
REFUSAL_S = 0.3
PATIENCE_S = 3.0


def neighbour(host: FakeHost, name: str, *subnets: str) -> Neighbour:
    """Add a neighbour to which the host can forward IPv6 at once."""
    found = host.neighbour(name, *subnets)
    # Who forwards asks for neighbours from a link-local address, and the kernel's own is not usable for a second.
    host.ip(
        f"link set {name} addrgenmode none",
        f"address flush dev {name} scope link",
        f"address add fe80::1/64 dev {name} nodad",
    )
    return found


def reach(space: Namespace, address: str, port: int, protocol: str = "tcp", **options: Any) -> str:
    """Return which peer a server saw when `space` asked it; empty when there was no answer."""
    try:
        return str(space.ask(address, port, protocol, **{"timeout_s": PATIENCE_S, **options})["peer"])
    except NoAnswer:
        return ""


def is_refused(space: Namespace, address: str, port: int, protocol: str = "tcp", **options: Any) -> bool:
    """Whether `space` gets no answer, within a time in which it would have come long ago."""
    return not reach(space, address, port, protocol, timeout_s=REFUSAL_S, **options)


@contextlib.contextmanager
def serving(space: Namespace, *ports: int) -> Iterator[None]:
    """Serve ports over tcp and udp, on all addresses of both families, while the block runs."""
    with space.background(conversation.serve_many, ports) as line:
        assert line == "ready", line
        yield


def answering(space: Namespace, target: str, *ports: int, within_s: float = REFUSAL_S) -> list[str]:
    """Ask an address over icmp, and each port of it over tcp and udp, side by side; return what answered.

    Returns as soon as everything has.
    """
    found: list[str] = space.call(_answering, target, ports, within_s)
    return found


def all_answers(*ports: int) -> list[str]:
    """Return what `answering` returns when all of it answers."""
    return ["icmp", *(f"{port}/{protocol}" for port in ports for protocol in ("tcp", "udp"))]


def _answering(target: str, ports: tuple[int, ...], within_s: float) -> list[str]:
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    waiting: dict[socket.socket, str] = {}
    found = []
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:

        def ask(name: str, kind: int, protocol: int, port: int, text: bytes) -> None:
            sock = stack.enter_context(socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol))
            with contextlib.suppress(OSError):
                sock.connect_ex((target, port))
                waiting[sock] = name
                selector.register(sock, selectors.EVENT_READ)
                if text:
                    sock.send(text)

        echo = (b"\x80\0\0\0\0\1\0\0", 58) if family == socket.AF_INET6 else (b"\x08\0\xf7\xfe\0\1\0\0", 1)
        ask("icmp", socket.SOCK_RAW, echo[1], 0, echo[0])
        for port in ports:
            ask(f"{port}/tcp", socket.SOCK_STREAM, 0, port, b"")
            ask(f"{port}/udp", socket.SOCK_DGRAM, 0, port, b"hello")
        deadline = time.monotonic() + within_s
        while waiting and time.monotonic() < deadline:
            for key, _ in selector.select(deadline - time.monotonic()):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                try:
                    data = sock.recv(1000)
                except OSError:
                    data = b""
                # A raw socket also sees other ICMP messages, neighbour discovery among them.
                if waiting[sock] == "icmp" and data[:1] != b"\x81" and data[20:21] != b"\0":
                    continue
                if data:
                    found.append(waiting[sock])
                selector.unregister(sock)
                waiting.pop(sock)
    return sorted(found, key=["icmp", *(f"{port}/{name}" for port in ports for name in ("tcp", "udp"))].index)


def filter_bridged(host: FakeHost, number: int) -> None:
    """Set whether br_netfilter passes frames between bridge ports to the IP firewall."""
    for name in ("iptables", "ip6tables"):
        host.run("sh", "-c", f"echo {number} >/proc/sys/net/bridge/bridge-nf-call-{name}")


def set_number(host: Namespace, path: str, text: str) -> None:
    """Write a sysctl, named by its path below /proc/sys."""
    host.run("sh", "-c", f"echo {text} >/proc/sys/{path}")


@contextlib.contextmanager
def listening(space: Namespace, address: str, port: int, protocol: str = "tcp") -> Iterator[int]:
    """Have a process listen while the block runs; yields its pid."""
    with space.background(conversation.listen, address, port, protocol) as line:
        yield int(line)


def ping_all(*pairs: tuple[Namespace, str]) -> list[bool]:
    """Whether pings from namespaces to addresses are answered within a second, all asked side by side."""
    command = ("ping", "-n", "-q", "-c", "1", "-W", "1")
    processes = [space.start(*command, address, stdout=subprocess.DEVNULL) for space, address in pairs]
    return [process.wait() == 0 for process in processes]


def flows(host: FakeHost) -> list[dict[str, str]]:
    """Return the connection tracking entries: protocol, and src, dst, sport, dport of the original direction.

    The reply direction's are r_src, r_dst, r_sport, r_dport.
    """
    found = []
    for line in host.run("cat /proc/net/nf_conntrack").stdout.splitlines():
        words = line.split()
        entry = {"protocol": words[2]}
        for key, value in (word.split("=", 1) for word in words if "=" in word):
            entry[f"r_{key}" if key in entry else key] = value
        found.append(entry)
    return found
