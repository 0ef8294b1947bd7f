"""A LAN: a switch in a namespace of its own, and what is plugged into it; and a connection that has to survive."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from dnet.testing import FakeHost, Namespace, wait_until

# Settles at once: no duplicate address detection, no router to be looked for.
QUIET = "ip link set {0} addrgenmode none; ip link set {0} up"


class Switch:
    """A bridge in a third namespace, as the physical one between hosts; frames between its ports are its business."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host
        self._space = self._bare("switch")
        self._space.run("sh", "-c", "ip link add sw type bridge mcast_snooping 0; ip link set sw up")

    def _bare(self, name: str) -> Namespace:
        space = self._host.neighbour(name)
        self._host.run(f"ip link delete {name}")
        return space

    def plug(self, space: Namespace, name: str, *addresses: str, is_quiet: bool = True) -> None:
        """Give a namespace an interface that is connected to the switch, up, with these addresses."""
        pid = self._space.pid  # type: ignore[attr-defined]
        port = f"p{len(self._space.json('ip -j link'))}"
        space.run(f"ip link add {name} type veth peer name {port} netns {pid}")
        self._space.run("sh", "-c", f"ip link set {port} master sw; {QUIET.format(port)}")
        script = QUIET.format(name) if is_quiet else f"ip link set {name} up"
        for address in addresses:
            script += f"; ip address add {address} dev {name}{' nodad' if ':' in address else ''}"
        space.run("sh", "-c", script)

    def machine(self, name: str, *addresses: str) -> Namespace:
        """Add a machine to the LAN, its interface eth0."""
        space = self._bare(name)
        self.plug(space, "eth0", *addresses)
        return space


# Lines of 4 KiB that begin with a number, each answered by the same line; the last number is in a file.
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
file = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
lines, number = stream.makefile("rb"), 0
while not select.select([sys.stdin], [], [], 0.0005)[0]:
    line = b"%08d" % number + b"x" * 4087 + b"\\n"
    stream.sendall(line)
    assert lines.readline() == line, number
    number += 1
    os.pwrite(file, b"%08d" % number, 0)
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
    import subprocess

    pipe = subprocess.PIPE
    listener = server.start(sys.executable, "-I", "-c", _LISTENER, address, stdout=pipe)
    assert listener.stdout is not None
    assert listener.stdout.readline() == "\n"
    talker = client.start(sys.executable, "-I", "-c", _TALKER, address, str(path), stdin=pipe)
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
