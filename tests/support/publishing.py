"""What tests of publishing and isolation ask for again and again. The answers are nft's, ip's and the kernel's."""

from __future__ import annotations

import contextlib
import io
import json
import selectors
import shlex
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from dnet import cli
from dnet.cli import (
    nat,  # noqa: F401  loaded here, once for all children
)
from tests.support.hosts import FakeHost, Namespace, Neighbour, NoAnswer, Result, wait_until

HOST = {4: "192.0.2.1", 6: "2001:db8::1"}
PEER = {4: "192.0.2.2", 6: "2001:db8::2"}
FAR = {4: "198.51.100.1", 6: "2001:db8:1::1"}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
ANYWHERE = {4: "0.0.0.0", 6: "::"}
PUBLISH_MAPS = ("publish4", "publish6", "publish4_on", "publish6_on")
# How long a test waits for what shall not come, and for what shall.
REFUSAL_S = 0.3
PATIENCE_S = 3.0

Element = tuple[tuple[str, ...], tuple[str, ...]]


# What dnet is told, and says


def run(host: FakeHost, *arguments: str, code: int | None = 0) -> Result:
    """Run the command line in a child of this process: what `host.dnet` does, without starting an interpreter.

    That is four fifths of what a command costs, and tests of the network give hundreds of commands.
    """
    result = Result(*host.call(_run, arguments))
    if code is not None and result.code != code:
        words = shlex.join(("dnet", *arguments))
        raise AssertionError(f"`{words}` exited with {result.code}, not {code}:\n{result.stdout}{result.stderr}")
    return result


def _run(arguments: Sequence[str]) -> tuple[int, str, str]:
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        code = cli.run(list(arguments))
    return code, stdout.getvalue(), stderr.getvalue()


def created(host: FakeHost, *arguments: str) -> dict[str, Any]:
    """Create a container and return `inspect`'s document of it."""
    document: dict[str, Any] = run(host, "create", "--json", *arguments).json
    return document


def network(host: FakeHost, name: str, *options: str) -> dict[str, Any]:
    """Create a network and return `network inspect`'s document of it."""
    document: dict[str, Any] = run(host, "network", "create", *options, name, "--json").json
    return document


def bridge_of(document: dict[str, Any]) -> str:
    """Return the device of a network."""
    return str(document["Segments"][0]["Device"])


def ports_of(host: FakeHost, name: str) -> list[str]:
    """Return what `dnet port` prints, line by line."""
    return run(host, "port", name).stdout.splitlines()


def host_port(document: dict[str, Any], port: str = "80/tcp") -> int:
    """Return the host port of a container's port, the same for all its addresses."""
    [number] = {binding["HostPort"] for binding in document["NetworkSettings"]["Ports"][port]}
    return int(number)


def address(host: FakeHost, name: str, family: int = 4) -> str:
    """Return a container's address, as its own namespace shows it."""
    [device] = host.sandbox(name).json("ip", "-j", f"-{family}", "address", "show", "dev", "eth0", "scope", "global")
    return str(device["addr_info"][0]["local"])


def gateway(host: FakeHost, name: str, family: int = 4) -> str:
    """Return a container's gateway, as its own namespace shows it."""
    [route] = host.sandbox(name).json("ip", "-j", f"-{family}", "route", "show", "default")
    return str(route["gateway"])


def snapshot(host: FakeHost) -> dict[str, Any]:
    """Return FakeHost.snapshot once the kernel has told the state of every device, which it does a little later."""

    def is_settled() -> bool:
        return all(link["operstate"] != "UNKNOWN" for link in host.json("ip -j link") if link["ifname"] != "lo")

    wait_until(is_settled, "every device is up or down")
    return host.snapshot()


# What nft shows


def elements(host: FakeHost, *names: str) -> list[Element]:
    """Return the elements of maps and sets of the table as (key, value), sorted; the value of a set's is empty."""
    found = []
    for name in names:
        kind = "map" if name.startswith(("publish", "snat")) else "set"
        for item in host.json("nft", "-j", "list", kind, "inet", "dnet", name)["nftables"]:
            for element in item.get(kind, {}).get("elem", []):
                key, value = element if isinstance(element, list) else (element, None)
                found.append((_words(key), () if value is None else _words(value)))
    return sorted(found)


def published(host: FakeHost) -> list[Element]:
    """Return the elements of all maps of published ports."""
    return elements(host, *PUBLISH_MAPS)


def _words(value: Any) -> tuple[str, ...]:
    match value:
        case {"elem": {"val": inner}}:
            return _words(inner)
        case {"concat": [*parts]}:
            return tuple(word for part in parts for word in _words(part))
        case {"prefix": {"addr": start, "len": length}}:
            return (f"{start}/{length}",)
        case _:
            return (str(value),)


def generation(host: FakeHost) -> int:
    """Return the number of the ruleset's generation; each transaction that is committed makes a new one."""
    number: int = host.call(_generation)
    return number


def _generation() -> int:
    # NFT_MSG_GETGEN of NFNL_SUBSYS_NFTABLES; NFTA_GEN_ID is attribute 1 of the answer (linux/netfilter/nf_tables.h).
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as sock:  # NETLINK_NETFILTER
        sock.send(struct.pack("=IHHIIBBH", 20, 10 << 8 | 16, 1, 1, 0, 0, 0, 0))
        answer = sock.recv(4096)
    offset = 20
    while offset < len(answer):
        size, kind = struct.unpack_from("=HH", answer, offset)
        if kind == 1:
            return int.from_bytes(answer[offset + 4 : offset + 8])
        offset += (size + 3) & ~3
    raise AssertionError(answer)


# Traffic


def neighbour(host: FakeHost, name: str, *subnets: str) -> Neighbour:
    """Add a neighbour to which the host can forward IPv6 at once."""
    found = host.neighbour(name, *subnets)
    # Who forwards asks for neighbours from a link-local address, and the kernel's own is not usable for a second.
    script = (
        "ip link set $0 addrgenmode none; ip address flush dev $0 scope link; ip address add fe80::1/64 dev $0 nodad"
    )
    host.run("sh", "-c", script, name)
    return found


def reach(space: Namespace, address: str, port: int, protocol: str = "tcp", **options: Any) -> str:
    """Return which peer a server saw when `space` asked it; empty when there was no answer."""
    try:
        return str(space.ask(address, port, protocol, **{"timeout_s": PATIENCE_S, **options})["peer"])
    except NoAnswer:
        return ""


def refused(space: Namespace, address: str, port: int, protocol: str = "tcp", **options: Any) -> bool:
    """Whether `space` gets no answer, within a time in which it would have come long ago."""
    return not reach(space, address, port, protocol, timeout_s=REFUSAL_S, **options)


_SERVERS = """
import select, socket, sys
sockets = []
for port in map(int, sys.argv[1:]):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        sock = socket.socket(socket.AF_INET6, kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, 49, 1)  # IPV6_RECVPKTINFO (linux/in6.h)
        sock.bind(("::", port))
        if kind == socket.SOCK_STREAM:
            sock.listen(64)
        sockets.append(sock)
print(flush=True)
while True:
    readable, _, _ = select.select([*sockets, sys.stdin], [], [])
    if sys.stdin in readable:
        break
    for sock in readable:
        if sock.type == socket.SOCK_STREAM:
            connection, peer = sock.accept()
            connection.sendall(peer[0].encode())
            connection.close()
        else:
            _, [(level, number, info)], _, peer = sock.recvmsg(100, 256)
            sock.sendmsg([peer[0].encode()], [(level, number, info[:16] + bytes(4))], 0, peer)
"""


@contextlib.contextmanager
def serving(space: Namespace, *ports: int) -> Iterator[None]:
    """Serve ports over tcp and udp, on all addresses of both families, while the block runs."""
    pipe = subprocess.PIPE
    process = space.start(sys.executable, "-I", "-c", _SERVERS, *map(str, ports), stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    assert process.stdout.readline() == "\n"
    try:
        yield
    finally:
        process.communicate()


def answering(space: Namespace, target: str, *ports: int, within_s: float = REFUSAL_S) -> list[str]:
    """Ask an address over icmp, and each port of it over tcp and udp, side by side; return what answered.

    Returns as soon as everything has.
    """
    found: list[str] = space.call(_answering, target, ports, within_s)
    return found


def everything(*ports: int) -> list[str]:
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


_HOLDER = """
import socket, sys
protocol, address, port = sys.argv[1:]
kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
sock.bind((address, int(port)))
if protocol == "tcp":
    sock.listen()
print(flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def listening(space: Namespace, address: str, port: int, protocol: str = "tcp") -> Iterator[int]:
    """Have a process listen while the block runs; yields its pid."""
    pipe = subprocess.PIPE
    process = space.start(sys.executable, "-c", _HOLDER, protocol, address, str(port), stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    assert process.stdout.readline() == "\n"
    try:
        yield process.pid
    finally:
        process.communicate()


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


def only_change(before: str, after: str) -> tuple[list[str], list[str]]:
    """Return the lines that went and the lines that came between two listings."""
    old, new = before.splitlines(), after.splitlines()
    return [line for line in old if line not in new], [line for line in new if line not in old]


def plain(ruleset: Any) -> Any:
    """Return nft's JSON without handles and counters."""
    if isinstance(ruleset, dict):
        kept = {key: value for key, value in ruleset.items() if key not in {"handle", "packets", "bytes", "metainfo"}}
        return {key: plain(value) for key, value in kept.items()}
    return [plain(item) for item in ruleset] if isinstance(ruleset, list) else ruleset


def as_text(value: Any) -> str:
    """Return a JSON value as text that can be compared and read."""
    return json.dumps(value, indent=1, sort_keys=True)
