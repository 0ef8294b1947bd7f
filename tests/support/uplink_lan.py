"""A LAN: a switch in a namespace of its own, and what is plugged into it; and a connection that has to survive."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dnet
from dnet.engine import Engine
from dnet.linux.nftables import Nft
from tests.support.faults import FaultyKernel
from tests.support.hosts import FakeHost, Namespace, wait_until
from tests.support.traffic import ping_all

# Settles at once: no duplicate address detection, no router to be looked for.
QUIET = "ip link set {0} addrgenmode none; ip link set {0} up"


class Switch:
    """A bridge in a third namespace, as the physical one between hosts; frames between its ports are its business."""

    def __init__(self, host: FakeHost, *, is_wire: bool = False) -> None:
        """On a wire, frames are complete: a veth leaves checksums, and cutting into segments, to the receiver."""
        self._is_wire = is_wire
        self._host = host
        self._count = 0
        self.space = self._bare("switch")
        self.space.run("sh", "-c", "ip link add sw type bridge mcast_snooping 0; ip link set sw up")

    def _bare(self, name: str) -> Namespace:
        space = self._host.neighbour(name)
        self._host.run(f"ip link delete {name}")
        return space

    def plug(self, space: Namespace, name: str, *addresses: str, is_quiet: bool = True) -> None:
        """Give a namespace an interface that is connected to the switch, up, with these addresses."""
        pid = self.space.pid  # type: ignore[attr-defined]
        self._count += 1
        port = f"p{self._count}"
        space.run(f"ip link add {name} type veth peer name {port} netns {pid}")
        self.space.run("sh", "-c", f"ip link set {port} master sw; {QUIET.format(port)}")
        script = QUIET.format(name) if is_quiet else f"ip link set {name} up"
        for address in addresses:
            script += f"; ip address add {address} dev {name}{' nodad' if ':' in address else ''}"
        script += f"; ethtool -K {name} tx off >/dev/null" if self._is_wire else ""
        space.run("sh", "-c", script)

    def machine(self, name: str, *addresses: str) -> Namespace:
        """Add a machine to the LAN, its interface eth0."""
        space = self._bare(name)
        self.plug(space, "eth0", *addresses)
        return space


# Lines of 4 KiB that begin with a number, each answered by the same line. The output is the last number, in a file.
_LISTENER = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listener = socket.socket(family)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((sys.argv[1], 7777))
listener.listen()
print(flush=True)
connection, _ = listener.accept()
stream = connection.makefile("rwb")
for line in stream:
    stream.write(line)
    stream.flush()
"""
_TALKER = """
import os, select, socket, sys
stream = socket.create_connection((sys.argv[1], 7777), 5)
stream.settimeout(20)
lines, number = stream.makefile("rb"), 0
while not select.select([sys.stdin], [], [], 0.0005)[0]:
    line = b"%08d" % number + b"x" * 4087 + b"\\n"
    stream.sendall(line)
    assert lines.readline() == line, number
    number += 1
    os.pwrite(1, b"%08d" % number, 0)
"""


class Stream:
    """One TCP connection on which numbered lines go there and back; a line that is lost or repeated breaks it."""

    def __init__(self, path: Path, talker: object) -> None:
        self._path = path
        self._talker = talker

    def count(self) -> int:
        """Return how many lines have come back."""
        return int(self._path.read_text(encoding="ascii") or 0) if self._path.exists() else 0

    def flows(self) -> None:
        """Check that further lines come back, on the connection that was there all along."""
        target = self.count() + 40
        wait_until(lambda: self.count() >= target or self._talker.poll() is not None, "lines on the connection")  # type: ignore[attr-defined]
        assert self._talker.poll() is None  # type: ignore[attr-defined]


@contextlib.contextmanager
def streaming(server: Namespace, address: str, client: Namespace, path: Path) -> Iterator[Stream]:
    """Keep a connection from `client` to `address` of `server` busy while the block runs; `path` is a file for it."""
    pipe = subprocess.PIPE
    listener = server.start(sys.executable, "-I", "-c", _LISTENER, address, stdout=pipe)
    assert listener.stdout is not None
    assert listener.stdout.readline() == "\n"
    with path.open("w", encoding="ascii") as file:
        talker = client.start(sys.executable, "-I", "-c", _TALKER, address, stdin=pipe, stdout=file)
    stream = Stream(path, talker)
    try:
        stream.flows()
        yield stream
        stream.flows()
        talker.communicate("\n")
        assert talker.returncode == 0
    finally:
        for process in (talker, listener):
            process.kill()
            process.wait()


# An interface with all that one can have


_RICH = """
ip link set eth1 mtu 1400
ip address flush dev eth1
ip link set eth1 addrgenmode eui64
ip link set eth1 down; ip link set eth1 up
ip address add 192.0.2.10/24 brd + dev eth1
ip address add 192.0.2.11/24 dev eth1 label eth1:0
ip address add 192.0.2.12/24 dev eth1 label other
ip address add 203.0.113.5/25 dev eth1 metric 77
ip address add 203.0.113.200/25 dev eth1 noprefixroute
ip address add 10.66.0.1 peer 10.66.0.2/32 dev eth1
ip address add 10.67.0.1/32 dev eth1 scope link
ip address add 2001:db8::10/64 dev eth1 nodad
ip address add 2001:db8::11/64 dev eth1 nodad
ip address add 2001:db8:5::1/64 dev eth1 nodad noprefixroute
ip address change 2001:db8::11/64 dev eth1
ip route add 203.0.113.128/25 dev eth1 src 203.0.113.200 proto kernel scope link metric 30
ip route add 198.18.0.1/32 dev eth1 scope link
ip route add default via 198.18.0.1 dev eth1 metric 100 mtu 1300 proto dhcp
ip route add default via 192.0.2.2 metric 200 src 192.0.2.11 proto static
ip route add 10.8.0.0/16 nexthop via 192.0.2.2 dev eth1 weight 3 nexthop via 172.30.0.2 dev eth2
ip route add 10.9.0.0/16 via 10.99.99.1 dev eth1 onlink table 100
ip route add 10.10.0.0/16 dev eth1 metric 5
ip route append 10.10.0.0/16 dev eth2 metric 5
ip route append 10.11.0.0/16 dev eth2 metric 5
ip route append 10.11.0.0/16 dev eth1 metric 5
ip route add local 10.12.0.0/24 dev eth1 table local
ip route add unicast 10.13.0.0/24 dev eth1 tos 0x10
ip -6 route add 2001:db8:5::/64 dev eth1 proto kernel metric 40
ip -6 route add default via fe80::2 dev eth1 metric 90 proto static
ip -6 route add 2001:db8:8::/48 via 2001:db8::2 metric 12 mtu 1290
ip -6 route add 2001:db8:9::/48 nexthop via 2001:db8::2 nexthop via 2001:db8::3 weight 2
ip -6 route add 2001:db8:a::/48 via 2001:db8::2 table 100 src 2001:db8::11
sysctl -qw net.ipv4.conf.eth1.rp_filter=2 net.ipv4.conf.eth1.arp_ignore=1 net.ipv6.conf.eth1.accept_ra=1
"""


def enrich(host: Namespace) -> None:
    """Give eth1 of a host all that an interface can have, and wait until it has it."""
    host.run("sh", "-c", "ip link add eth2 type veth peer name eth2b; ip link set eth2b up")
    host.run("sh", "-c", "ip link set eth2 up; ip address add 172.30.0.1/24 dev eth2")
    host.run("sh", "-ec", _RICH)
    tentative = ("ip", "-j", "-6", "address", "show", "tentative")
    wait_until(lambda: not [item for item in host.json(*tentative) if item], "all addresses are proved unique")
    # Of a tap the state is never known.
    links = lambda: [item for item in host.json("ip -d -j link")[1:] if item["linkinfo"]["info_kind"] != "tun"]  # noqa: E731
    wait_until(lambda: "UNKNOWN" not in {item["operstate"] for item in links()}, "states are told")


def adopt_with_fault(directories: tuple[str, str], fail_at: int) -> dict[str, Any]:
    """Adopt eth1 with a fault in one object; return which one, or nothing when there are fewer."""
    kernel = FaultyKernel(lambda _: None, fail_at)
    with Engine(*directories, lambda _: None, kernel, Nft()) as engine:
        try:
            engine.adopt("lan", "eth1", assume_yes=True)
        except dnet.DnetError as error:
            return {"refused": str(kernel.refused), "notes": getattr(error, "__notes__", [])}
        return {}


def adopt_and_die(directories: tuple[str, str], count: Callable[[Any], int]) -> bool:
    """Adopt eth1 in a child that is killed when it has made `count` of a group's objects, unless that is 0."""
    pid = os.fork()
    if not pid:

        class Killed(FaultyKernel):
            def create(self, groups: Any, **options: Any) -> Any:
                [group] = groups
                if count(group):
                    super().create([group[: count(group)]], **options)
                    os.kill(os.getpid(), signal.SIGKILL)
                return [None]

        with Engine(*directories, lambda _: None, Killed(lambda _: None), Nft()) as engine:
            engine.adopt("lan", "eth1", assume_yes=True)
        os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


# What is on the wire


def tags(space: Namespace, port: str, pings: Mapping[str, Namespace]) -> dict[str, set[str]]:
    """Return the VLANs of the echo requests and ARP that are on a switch's port while addresses are pinged.

    `pings` says from where each address is pinged, all of them side by side.
    """
    pipe = subprocess.PIPE
    command = ("tcpdump", "--immediate-mode", "-lne", "-i", port, "arp or icmp or vlan")
    listener = space.start(*command, stdout=pipe, stderr=pipe)
    assert listener.stdout is not None
    assert listener.stderr is not None
    while "listening" not in listener.stderr.readline():
        pass
    ping_all(*((source, address) for address, source in pings.items()))
    listener.send_signal(signal.SIGINT)
    lines, _ = listener.communicate(timeout=10)
    found: dict[str, set[str]] = {address: set() for address in pings}
    for line in lines.splitlines():
        for address, seen in found.items():
            if re.search(rf"\b{re.escape(address)}\b", line):
                label = re.search(r"vlan (\d+)", line)
                seen.add(label[1] if label else "")
    return found


# How a host is


def addresses(host: Namespace, device: str) -> list[str]:
    """Return a device's addresses."""
    [link] = host.json("ip", "-j", "address", "show", "dev", device)
    return [f"{item['local']}/{item['prefixlen']}" for item in link["addr_info"]]


def link(host: Namespace, device: str) -> dict[str, Any]:
    """Return a device."""
    [found] = host.json("ip", "-d", "-j", "link", "show", "dev", device)
    return dict(found)


def is_adopted(host: FakeHost) -> bool:
    """Whether eth1 is a port and has no address any more."""
    return "master" in link(host, "eth1") and not addresses(host, "eth1")


# In one shell, since the tests look often; and what a device's settings are besides.
_EVERYTHING = """
ip -d -j link; ip -j address; ip -j route show table all; ip -6 -j route show table all; nft -j list ruleset
tc qdisc show | sort | tr '\n' ';'; echo
grep -s . /proc/sys/net/ipv[46]/conf/*/* || true
"""
# Times, counters, and what the kernel derives from a bridge's ports.
_VOLATILE = {"valid_life_time", "preferred_life_time", "expires", "fdb_n_learned", "handle", "packets", "bytes"}
_VOLATILE |= {"operstate", "tso_max_size", "tso_max_segs", "gso_max_size", "gso_max_segs", "index"}
_CARRIER = {"NO-CARRIER", "LOWER_UP", "linkdown"}


def uplink_state(host: FakeHost) -> dict[str, Any]:
    """Return all that adopting could change: devices, addresses, routes, rules, settings and the database."""
    lines = host.run("sh", "-c", _EVERYTHING).stdout.splitlines()
    found = {
        name: _steady(json.loads(line or "[]"))
        for name, line in zip(("links", "addresses", "routes", "routes6", "rules"), lines, strict=False)
    }
    for name in ("routes", "routes6"):
        found[name] = _in_order(found[name])
    hooks, *settings = lines[5:]
    return {**found, "hooks": hooks.split(";"), "settings": settings, "rows": host.all_rows()}


def _in_order(routes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return routes with those to link-local addresses, for which the device is told, in the order of the devices."""
    local = iter(sorted((item for item in routes if item["dst"] == "fe80::/64"), key=lambda item: str(item["dev"])))
    return [next(local) if item["dst"] == "fe80::/64" else item for item in routes]


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in _VOLATILE and not key.endswith("_timer")}
        return {key: _steady(item) for key, item in kept.items()}
    if isinstance(value, list):
        return [_steady(item) for item in value if not (isinstance(item, str) and item in _CARRIER)]
    return value


def uplink_changes(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Return how two snapshots differ, as a diff; the order of what the kernel lists in an order counts."""
    found = []
    for key, value in before.items():
        if value == after[key]:
            continue
        old, new = (json.dumps(side[key], indent=1).splitlines() for side in (before, after))
        lines = difflib.unified_diff(old, new, n=2, lineterm="")
        found += [f"{key}: {line}" for line in lines if line not in {"--- ", "+++ "}]
    return "\n".join(found)
