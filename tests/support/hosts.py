"""Fake hosts and the world around them: namespaces in which tests run dnet, and programs that judge what it did.

A fake host is a fresh network and mount namespace, kept by a process that ends when the test process does; so
nothing is left behind and the real host stays untouched. What runs in its containers then is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import difflib
import functools
import glob
import json
import os
import select
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from tests.support import conversation

# Where root's programs are, which an ordinary user's PATH leaves out.
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
TIMEOUT_S = 60.0
CARRIERS_S, LOOK_AGAIN_S = 2.0, 0.02
MEMORY, MEMORY_BYTES = "/dev/shm", 1 << 30


# /etc is the real one with a layer of its own above it.
_HOST_SCRIPT = """
set -e
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/.etc/upper /run/.etc/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/.etc/upper,workdir=/run/.etc/work etc /etc
rm -f /etc/resolv.conf
echo nameserver 198.51.100.53 >/etc/resolv.conf
echo 0 >/proc/sys/net/ipv4/ip_forward
ip link set lo up
echo ready
exec cat
"""
_NEIGHBOUR_SCRIPT = "ip link set lo up && echo ready && exec cat"


class NoAnswer(Exception):
    """Nobody answered: the connection was refused, timed out, or there is no route; the text says which."""


class Raised(Exception):
    """What a function raised inside a namespace: the name of its class, its sentence, hint and notes."""

    def __init__(self, about: Mapping[str, Any]) -> None:
        super().__init__(f"{about['kind']}: {about['sentence']}\n{about['trace']}")
        self.kind: str = about["kind"]
        self.sentence: str = about["sentence"]
        self.hint: str = about["hint"]
        self.notes: list[str] = about["notes"]


@dataclass(frozen=True, slots=True)
class Result:
    """How a program ended, and what it wrote."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """What it wrote to stdout, which is one JSON document and nothing else."""
        return json.loads(self.stdout)


class Namespace:
    """A network namespace in which programs and functions run, seeing the mounts of the fake host around it."""

    def __init__(self, name: str, mounts_of: int, path: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self._mounts_of = mounts_of
        self._path = path
        self._environment = environment
        self._cleanup = contextlib.ExitStack()

    # Programs

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a program, its pid the child's own; it is killed with the fake host at the latest.

        A single argument is split into words as a shell does. `options` are Popen's.
        """
        words = shlex.split(command[0]) if len(command) == 1 else list(command)
        prefix = ["nsenter", f"--mount=/proc/{self._mounts_of}/ns/mnt", f"--net={self._path}", "--"]
        environment = {**os.environ, "PATH": PATH, **self._environment, **options.pop("env", {})}
        process: subprocess.Popen[str] = subprocess.Popen([*prefix, *words], text=True, env=environment, **options)
        self._cleanup.callback(_end, process)
        return process

    def run(self, *command: str, code: int | None = 0, stdin: str = "", env: Mapping[str, str] | None = None) -> Result:
        """Run a program to its end; AssertionError unless it exits with `code` (None: with whatever)."""
        pipe = subprocess.PIPE
        process = self.start(*command, stdin=pipe, stdout=pipe, stderr=pipe, env=env or {})
        try:
            stdout, stderr = process.communicate(stdin, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
            raise AssertionError(f"{command} did not end in {TIMEOUT_S} s: {stdout}{stderr}") from None
        if code is not None and process.returncode != code:
            words = shlex.join(command)
            raise AssertionError(f"`{words}` exited with {process.returncode}, not {code}:\n{stdout}{stderr}")
        return Result(process.returncode, stdout, stderr)

    def ip(self, *lines: str) -> None:
        """Run command lines of ip's, given without that word, by one process."""
        self.run("ip", "-batch", "-", stdin="\n".join(lines))

    def json(self, *command: str) -> Any:
        """Run a program and read what it writes as JSON; nothing written is an empty list."""
        return json.loads(self.run(*command).stdout or "[]")

    def python(self, code: str, *arguments: str, exit_code: int | None = 0) -> Result:
        """Run Python code in a fresh interpreter, the one that runs the tests."""
        return self.run(sys.executable, "-c", code, *arguments, code=exit_code)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function in a child process inside the namespace and return its value, which JSON must carry.

        What it raises arrives as Raised.
        """
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reader)
            self._child(function, arguments, writer)
        os.close(writer)
        with open(reader, encoding="utf-8") as file:
            text = file.read()
        _, status = os.waitpid(pid, 0)
        if not text:
            raise AssertionError(f"{function.__name__} died in {self.name}, wait status {status}")
        outcome = json.loads(text)
        if "raised" in outcome:
            raise Raised(outcome["raised"])
        return outcome["value"]

    @contextlib.contextmanager
    def background(self, function: Callable[..., None], *arguments: Any) -> Iterator[str]:
        """Call a function in a child inside the namespace while the block runs; yields the line that it tells.

        The function is called with a file to write that line to, a socket that is readable when it shall end, and
        `arguments`. A child of this process starts in a quarter of the time that an interpreter takes.
        """
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if not pid:
            ours.close()
            self._background(theirs, function, arguments)
        theirs.close()
        with ours:
            try:
                with ours.makefile(encoding="utf-8") as file:
                    line = file.readline().strip()
                yield line
            finally:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def _background(self, end: socket.socket, function: Callable[..., None], arguments: Sequence[Any]) -> NoReturn:
        try:
            os.environ.update(self._environment)
            _enter(f"/proc/{self._mounts_of}/ns/mnt", self._path)
            # Whoever else holds these would not see that somebody has closed them.
            number = end.fileno()
            os.closerange(3, number)
            os.closerange(number + 1, os.sysconf("SC_OPEN_MAX"))
            with end.makefile("w", encoding="utf-8") as file:
                function(file, end, *arguments)
        except BaseException as error:  # noqa: BLE001  it is told, whatever it is
            end.sendall(repr(error).encode())
        os._exit(0)

    def _child(self, function: Callable[..., Any], arguments: Sequence[Any], writer: int) -> NoReturn:
        signal.alarm(round(TIMEOUT_S))
        try:
            os.environ.update(self._environment)
            _enter(f"/proc/{self._mounts_of}/ns/mnt", self._path)
            text = json.dumps({"value": function(*arguments)})
        except BaseException as error:  # noqa: BLE001  it is reported, whatever it is
            about = {
                "kind": type(error).__name__,
                "sentence": str(error),
                "hint": getattr(error, "hint", ""),
                "notes": getattr(error, "__notes__", []),
                "trace": "".join(traceback.format_exception(error)),
            }
            text = json.dumps({"raised": about})
        with open(writer, "w", encoding="utf-8") as file:
            file.write(text)
        os._exit(0)

    # Traffic

    @contextlib.contextmanager
    def serve(self, port: int = 0, protocol: str = "tcp", address: str = "0.0.0.0") -> Iterator[int]:
        """Serve tcp, udp or sctp while the block runs; yields the port, or is a ValueError. `::` is both families."""
        with self.background(conversation.serve, self.name, protocol, address, port) as line:
            yield int(line)

    def ask(
        self,
        address: str,
        port: int,
        protocol: str = "tcp",
        *,
        text: str = "hello",
        source: str = "",
        timeout_s: float = 2.0,
    ) -> dict[str, Any]:
        """Send a line to a server of `serve` and return its answer: {server, peer, peer_port, text}.

        `peer` is the address that the server saw. Raises NoAnswer after `timeout_s`, or when refused.
        """
        answer: dict[str, Any] = self.call(conversation.ask, address, port, protocol, text, source, timeout_s)
        if "no" in answer:
            raise NoAnswer(f"{self.name} got no answer from {address} port {port}/{protocol}: {answer['no']}")
        return answer

    def can_ping(self, address: str) -> bool:
        """Whether `ping` gets a reply within a second."""
        return self.run("ping", "-n", "-c", "1", "-W", "1", address, code=None).code == 0

    def silent(self, addresses: Sequence[str], within_s: float = 20.0) -> list[str]:
        """Return those of many IPv4 addresses that answer no ping, asked side by side and repeatedly."""
        missing: list[str] = self.call(conversation.silent, list(addresses), within_s)
        return missing

    # Ending

    def close(self) -> None:
        """End what was started in here."""
        self._cleanup.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Neighbour(Namespace):
    """A namespace joined to the fake host by a veth of its own; `device` is the host's end of that.

    `address` and `host_address` are of the first subnet, `addresses` and `host_addresses` of all of them.
    """

    def __init__(self, host: FakeHost, name: str, keeper: int, subnets: Sequence[str]) -> None:
        super().__init__(name, host.pid, f"/proc/{keeper}/ns/net", {})
        self.pid = keeper
        self.device = name
        networks = [ip_network(text) for text in subnets]
        self.addresses = [str(network[2]) for network in networks]
        self.host_addresses = [str(network[1]) for network in networks]
        here, there = [f"link add {name} type veth peer name eth0 netns {keeper}"], []
        for network in networks:
            nodad = " nodad" if network.version == 6 else ""
            here.append(f"address add {network[1]}/{network.prefixlen} dev {name}{nodad}")
            there.append(f"address add {network[2]}/{network.prefixlen} dev eth0{nodad}")
        host.ip(*here, f"link set {name} up")
        self.ip(*there, "link set eth0 up")

    @property
    def address(self) -> str:
        """The neighbour's own address."""
        return self.addresses[0]

    @property
    def host_address(self) -> str:
        """The fake host's address on the way to it."""
        return self.host_addresses[0]


class FakeHost(Namespace):
    """A host of its own: network, mounts, /run, /etc, and dnet's directories; `directory` is for the test's files.

    Its only nameserver is 198.51.100.53; `resolv_conf` may be written to, or replaced.
    """

    def __init__(self, directory: Path, *, is_in_memory: bool = True) -> None:
        """Keep dnet's directories in memory if `is_in_memory`; the next host of the same `directory` has them, too."""
        self.directory = directory
        place = _in_memory(directory) if is_in_memory else directory
        self.state_dir = place / "state"
        self.run_dir = place / "run"
        keeper = _keep(["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", _HOST_SCRIPT])
        self.pid = keeper.pid
        environment = {"DNET_STATE_DIR": str(self.state_dir), "DNET_RUN_DIR": str(self.run_dir)}
        super().__init__("host", keeper.pid, f"/proc/{keeper.pid}/ns/net", environment)
        self._cleanup.callback(_end, keeper)
        self._cleanup.callback(_end_containers, self.inside(self.run_dir / "runtime"))

    def dnet(self, *arguments: str, code: int | None = 0, env: Mapping[str, str] | None = None) -> Result:
        """Run the command line that is installed beside the interpreter; AssertionError unless it exits with `code`."""
        return self.run(program(), *arguments, code=code, env=env)

    def start_dnet(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start the command line; stdout and stderr are pipes unless `options`, Popen's, say otherwise."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return self.start(program(), *arguments, **{**pipes, **options})

    def neighbour(self, name: str, *subnets: str) -> Neighbour:
        """Add a namespace that is a neighbour of the host: in each subnet the host is .1 and the neighbour .2."""
        nsenter = ("nsenter", f"--mount=/proc/{self.pid}/ns/mnt", "--")
        keeper = _keep([*nsenter, "unshare", "--net", "sh", "-c", _NEIGHBOUR_SCRIPT])
        self._cleanup.callback(_end, keeper)
        return self._cleanup.enter_context(Neighbour(self, name, keeper.pid, subnets))

    def sandbox(self, reference: str) -> Namespace:
        """Return the namespace of a container by its name in /run/netns, or by the path it is pinned at."""
        path = self.inside(reference if reference.startswith("/") else f"/run/netns/{reference}")
        # An absolute link means a place among the host's mounts, not among the test's.
        if os.path.islink(path):
            path = self.inside(os.readlink(path))
        space = Namespace(reference, self.pid, path, {})
        return self._cleanup.enter_context(space)

    def inside(self, path: str | Path) -> str:
        """Return the path by which the test process sees a file among the fake host's mounts."""
        return f"/proc/{self.pid}/root{path}"

    @property
    def resolv_conf(self) -> Path:
        """The host's /etc/resolv.conf, as the test process sees it."""
        return Path(self.inside("/etc/resolv.conf"))

    @property
    def directories(self) -> tuple[str, str]:
        """The state and the run directory, as dnet.open takes them."""
        return str(self.state_dir), str(self.run_dir)

    def rows(self, query: str) -> list[Any]:
        """Query dnet's database directly."""
        if not (self.state_dir / "state.db").exists():
            return []
        with contextlib.closing(sqlite3.connect(self.state_dir / "state.db")) as connection:
            return [list(row) for row in connection.execute(query)]

    def all_rows(self) -> dict[str, list[Any]]:
        """Return what dnet's database says, by table, without the settings that mean nothing to anybody else."""
        tables = [name for (name,) in self.rows("SELECT name FROM sqlite_master WHERE type = 'table'")]
        unwanted = {"next_index", "ruleset"}
        return {name: [row for row in self.rows(f"SELECT * FROM {name}") if not unwanted & {*row}] for name in tables}

    def pins(self) -> list[str]:
        """Return the names of the files that sandboxes are pinned at."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(os.listdir(self.inside(self.run_dir / "netns")))
        return []

    def snapshot(self) -> dict[str, Any]:
        """Return all that a change of dnet's could have touched, as other programs see it; equal if nothing changed.

        Left out are timers, counters, nft's handles, the counter from which the database numbers devices, the
        rules that it has seen complete, and whether a device has a carrier. Is taken when the kernel has noticed the
        carriers of veths and bridges, which it does within a second, since routes come and go with them.
        """
        deadline = time.monotonic() + CARRIERS_S
        while True:
            links, found = self._look()
            kinds = {link.get("linkinfo", {}).get("info_kind") for link in links if link["operstate"] == "UNKNOWN"}
            if not kinds & {"veth", "bridge"} or time.monotonic() > deadline:
                return found
            time.sleep(LOOK_AGAIN_S)

    def _look(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return the devices as `ip` shows them, and a snapshot."""
        names = [str(self.state_dir), str(self.run_dir), "/run", "/etc/netns"]
        places = [name for name in names if os.path.exists(self.inside(name))]
        unwanted = ("-path", "/run/.etc", "-prune", "-o", "-name", "state.db*", "-o", "-name", "*.lock")
        find = ("find", *places, "(", *unwanted, "-o", "-printf", "%p %y %l\\n", ")")
        commands = {
            "links": "ip -d -j link",
            "addresses": "ip -j address",
            "routes": "ip -j route show table all",
            "routes6": "ip -6 -j route show table all",
            "nftables": "nft -j list ruleset",
            "mounts": "findmnt --list --noheadings --output TARGET,SOURCE,FSTYPE",
            "files": shlex.join(find),
            "forwarding": "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding",
        }
        # By one shell, since this is what most tests spend most of their time on.
        output = self.run("sh", "-ec", "\nprintf '\\0'\n".join(commands.values())).stdout
        texts = dict(zip(commands, output.split("\0"), strict=True))
        found: dict[str, Any] = {name: _steady(json.loads(texts[name] or "[]")) for name in list(commands)[:5]}
        return json.loads(texts["links"]), found | {
            "mounts": texts["mounts"].splitlines(),
            "files": sorted(texts["files"].splitlines()),
            "rows": self.all_rows(),
            "forwarding": texts["forwarding"],
        }

    def changes(self, before: Mapping[str, Any]) -> str:
        """Return how the host differs from an earlier snapshot, as a diff; empty when it does not."""
        after = self.snapshot()
        lines = []
        for key in before:
            old, new = (json.dumps(side[key], indent=1, sort_keys=True).splitlines() for side in (before, after))
            found = difflib.unified_diff(old, new, n=0, lineterm="")
            lines += [f"{key}: {line}" for line in found if line[:2] not in _DIFF_MARKS]
        return "\n".join(lines)


# In a diff, what begins the lines that name the files and the places.
_DIFF_MARKS = frozenset({"--", "++", "@@"})
_VOLATILE = frozenset({"handle", "packets", "bytes", "operstate"})
_CARRIER_FLAGS = frozenset({"NO-CARRIER", "LOWER_UP", "linkdown"})


def program() -> str:
    """Return the path of the command line that is installed beside this interpreter."""
    return os.path.join(os.path.dirname(sys.executable), "dnet")


def wait_until(condition: Callable[[], object], what: str, within_s: float = 10.0) -> None:
    """Wait for something that sends no event; AssertionError when it has not come in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what}")
        time.sleep(0.001)


# Directories in memory


@functools.cache
def _in_memory(directory: Path) -> Path:
    """Return a directory in memory that goes with another one; that one itself where memory has no file system.

    A commit waits 6 ms for a disk, and a command commits three times.
    """
    if not os.path.ismount(MEMORY) or os.statvfs(MEMORY).f_bavail * os.statvfs(MEMORY).f_frsize < MEMORY_BYTES:
        return directory
    _MADE[directory] = tempfile.mkdtemp(prefix="dnet-", dir=MEMORY)
    return Path(_MADE[directory])


_MADE: dict[Path, str] = {}


def free_memory(*directories: Path) -> None:
    """Remove what hosts of these directories, or of all, keep in memory."""
    for directory in directories or list(_MADE):
        shutil.rmtree(_MADE.pop(directory, ""), ignore_errors=True)


# Processes


def _keep(command: Sequence[str]) -> subprocess.Popen[str]:
    """Start a process that keeps its namespaces until its standard input ends, at the latest with this process."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env={**os.environ, "PATH": PATH})
    if _line(process) != "ready":
        _end(process)
        raise AssertionError(f"cannot make namespaces by {shlex.join(command)}")
    return process


def _line(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline().strip() if process.stdout else ""


def _end(process: subprocess.Popen[str]) -> None:
    """Kill a process if it still runs, and close its pipes."""
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
        process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            with contextlib.suppress(OSError):
                stream.close()


def _end_containers(directory: str) -> None:
    """Kill the processes of containers, first those that wait for them, and remove their control groups."""
    for kind in ("keeper", "pid"):
        for path in glob.glob(f"{directory}/*/{kind}"):
            name = path.split("/")[-2]
            with contextlib.suppress(OSError, ValueError):
                _kill(int(Path(path).read_text(encoding="ascii")), name)
    for path in glob.glob(f"{directory}/*/"):
        for hierarchy in ("", "*/"):
            for group in glob.glob(f"/sys/fs/cgroup/{hierarchy}dnet-{path.split('/')[-2]}"):
                with contextlib.suppress(OSError):
                    os.rmdir(group)


def _kill(pid: int, name: str) -> None:
    """Kill a process that is in the container's control group or has its name among its words; wait for its end."""
    descriptor = os.pidfd_open(pid)
    try:
        # Pids are used again.
        if any(name in Path(f"/proc/{pid}/{file}").read_text(errors="replace") for file in ("cgroup", "cmdline")):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            select.select([descriptor], [], [], TIMEOUT_S)
    finally:
        os.close(descriptor)


def _enter(*paths: str) -> None:
    descriptors = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in paths]
    setns = ctypes.CDLL(None, use_errno=True).setns
    for path, descriptor in zip(paths, descriptors, strict=True):
        if setns(descriptor, 0):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
        os.close(descriptor)


def _steady(value: Any) -> Any:
    """Return a JSON value of ip's or nft's without what changes by itself, wherever that is."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if key not in _VOLATILE and not key.endswith("_timer")}
        return {key: _steady(item) for key, item in kept.items()}
    if isinstance(value, list):
        return [_steady(item) for item in value if not (isinstance(item, str) and item in _CARRIER_FLAGS)]
    return value
