"""Scripts that make N container networks without dnet: for `ip -batch` and for a shell. Writes text, runs nothing.

Each script does the same job as dnet: a bridge with an address, N namespaces named c-1 to c-N, each with a veth on
the bridge, lo and eth0 up, an address and a default route.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

BRIDGE = "peer0"
GATEWAY = IPv4Address("10.19.0.1")
PREFIX_LENGTH = 16


def address(number: int) -> str:
    """Return the address of container `number`, counted from 1."""
    return f"{GATEWAY + number}/{PREFIX_LENGTH}"


def write_ip_batch(directory: Path, count: int) -> Path:
    """Write batch files and the script that runs them: one `ip -batch` for the host, one for each namespace.

    One process cannot do it all: a batch stays in the namespace that `ip` was started in. `ip -n` and `nsenter ip`
    take the same time (measured at 50 and 500).
    """
    host = [
        f"link add {BRIDGE} type bridge",
        f"address add {GATEWAY}/{PREFIX_LENGTH} dev {BRIDGE}",
        f"link set {BRIDGE} up",
    ]
    for number in range(1, count + 1):
        host += [
            f"netns add c-{number}",
            f"link add veth{number} master {BRIDGE} type veth peer name eth0 netns c-{number}",
            f"link set veth{number} up",
        ]
        _write_lines(directory / f"c-{number}", _inside(number))
    _write_lines(directory / "host", host)
    return _write_lines(directory / "run.sh", [f"cd {directory}", "ip -batch host", *_batch_in_each_namespace(count)])


def write_tuned_ip_batch(directory: Path, count: int) -> Path:
    """As write_ip_batch, with what dnet knows of the kernel and `ip` can say.

    No IPv6 autoconfiguration, no multicast snooping, one queue, the host ends up last.
    """
    queues = "numtxqueues 1 numrxqueues 1"
    host = [
        f"link add {BRIDGE} type bridge mcast_snooping 0",
        f"address add {GATEWAY}/{PREFIX_LENGTH} dev {BRIDGE}",
        f"link set {BRIDGE} addrgenmode none",
        f"link set {BRIDGE} up",
    ]
    for number in range(1, count + 1):
        host += [
            f"netns add c-{number}",
            f"link add veth{number} master {BRIDGE} {queues} type veth peer name eth0 netns c-{number} {queues}",
            f"link set veth{number} addrgenmode none",
        ]
        _write_lines(directory / f"c-{number}", ["link set eth0 addrgenmode none", *_inside(number)])
    _write_lines(directory / "host", host)
    _write_lines(directory / "up", [f"link set veth{number} up" for number in range(1, count + 1)])
    return _write_lines(
        directory / "run.sh",
        [f"cd {directory}", "ip -batch host", *_batch_in_each_namespace(count), "ip -batch up"],
    )


def write_shell(directory: Path, count: int) -> Path:
    """Write the script that people write: one `ip` a step, the container's end made on the host and moved."""
    return _write_shell(
        directory,
        count,
        "ip link add veth{0} type veth peer name peer{0}",
        "ip link set peer{0} netns c-{0} name eth0",
        "ip link set veth{0} master {1}",
    )


def write_shell_in_place(directory: Path, count: int) -> Path:
    """As write_shell, with the container's end made where it belongs."""
    return _write_shell(directory, count, "ip link add veth{0} master {1} type veth peer name eth0 netns c-{0}")


def _write_shell(directory: Path, count: int, *make_veth: str) -> Path:
    steps = [
        f"ip link add {BRIDGE} type bridge",
        f"ip address add {GATEWAY}/{PREFIX_LENGTH} dev {BRIDGE}",
        f"ip link set {BRIDGE} up",
    ]
    for number in range(1, count + 1):
        steps += [
            f"ip netns add c-{number}",
            *(step.format(number, BRIDGE) for step in make_veth),
            f"ip link set veth{number} up",
            *(f"ip -n c-{number} {step}" for step in _inside(number)),
        ]
    return _write_lines(directory / "run.sh", steps)


def _inside(number: int) -> list[str]:
    return [
        "link set lo up",
        f"address add {address(number)} dev eth0",
        "link set eth0 up",
        f"route add default via {GATEWAY}",
    ]


def _batch_in_each_namespace(count: int) -> Iterator[str]:
    return (f"ip -n c-{number} -batch c-{number}" for number in range(1, count + 1))


def _write_lines(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path
