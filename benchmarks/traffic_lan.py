"""A namespace as the LAN of a fake host, and traffic from there to a container."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

from benchmarks.peers import Setting
from benchmarks.timed_process import ContestantFailedError, run

HOST = IPv4Address("198.51.100.1")  # TEST-NET-2, as no network of dnet's or of a peer's
_CLIENT = HOST + 1
_PREFIX_LENGTH = 24
_NAME = "lan"
NAMESPACE = Path("/run/netns") / _NAME
_STOP_TIMEOUT_S = 5.0


def make(directory: Path) -> None:
    """Make the LAN with one other machine on it, which has this host as its gateway, and let the host forward."""
    for command in (
        f"ip netns add {_NAME}",
        f"ip link add lan0 type veth peer name eth0 netns {_NAME}",
        f"ip address add {HOST}/{_PREFIX_LENGTH} dev lan0",
        "ip link set lan0 up",
        f"ip -n {_NAME} address add {_CLIENT}/{_PREFIX_LENGTH} dev eth0",
        f"ip -n {_NAME} link set eth0 up",
        f"ip -n {_NAME} route add default via {HOST}",
    ):
        run(command.split(), directory)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1\n", encoding="ascii")


@contextmanager
def server(traffic: Path, sandbox: Path, port: int) -> Iterator[None]:
    """Run the server in a container until the end of the block. It ends by itself when this process is killed."""
    process = subprocess.Popen(
        ["nsenter", f"--net={sandbox}", str(traffic), "serve", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise ContestantFailedError(f"the server in {sandbox} does not start")
        yield
    finally:
        process.communicate(timeout=_STOP_TIMEOUT_S)


def rates(
    setting: Setting, load: str, address: IPv4Address, port: int, duration_s: float, namespaces: Sequence[Path]
) -> list[list[float]]:
    """Return how many "connections" or "bytes" a second each block of a load had, by the namespace it came from."""
    program = [str(setting.traffic), "send" if load == "bytes" else "connect", str(address), str(port)]
    finished = run([*program, str(duration_s), *map(str, namespaces)], setting.directory)
    answer = json.loads(finished.output)
    return [[answer[load] / seconds for seconds in blocks] for blocks in answer["seconds"]]
