"""Who takes part, and the command that starts each: dnet, the kernel's floor and the peers. Runs nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path

from benchmarks import peer_iptables, peer_scripts

_NETNS_DIRECTORY = Path("/run/netns")


@dataclass(frozen=True)
class Setting:
    """What a contestant works with: an empty directory of its own, and the programs of this run."""

    directory: Path
    programs: Path
    dnet: Path
    is_quick: bool = False

    @property
    def floor(self) -> Path:
        """The kernel's floor."""
        return self.programs / "floor"

    @property
    def traffic(self) -> Path:
        """The server and load of the topic `publish`."""
        return self.programs / "traffic"

    @property
    def dnet_python(self) -> Path:
        """The interpreter that dnet is installed in."""
        return self.dnet.parent / "python"

    def pins(self) -> Path:
        """Return the directory that the floor mounts its pins on."""
        path = self.directory / "pins"
        path.mkdir(exist_ok=True)
        return path


@dataclass(frozen=True)
class Contestant:
    """One way of making N container networks by one program.

    `largest` and `repeats_over_100` keep slow ones from taking minutes; what was not measured is not reported.
    """

    name: str
    command: Callable[[Setting, int], list[str]]
    sandbox: Callable[[Setting, int], Path]
    largest: int = 1023
    repeats_over_100: int = 1000


def _netns_path(_: Setting, number: int) -> Path:
    return _NETNS_DIRECTORY / f"c-{number}"


def _script(write: Callable[[Path, int], Path]) -> Callable[[Setting, int], list[str]]:
    def command(setting: Setting, count: int) -> list[str]:
        return ["sh", "-e", str(write(setting.directory, count))]

    return command


def _pyroute2(way: str) -> Callable[[Setting, int], list[str]]:
    return lambda _, count: [sys.executable, "-m", "benchmarks.peer_pyroute2", way, str(count)]


def floor_command(task: str) -> Callable[[Setting, int], list[str]]:
    """Return how the floor is started for `task`: create, delete, reap or one."""
    return lambda setting, count: [str(setting.floor), task, str(count), str(setting.pins())]


FLOOR = Contestant("floor", floor_command("create"), lambda setting, number: setting.pins() / f"c-{number}")
DNET = Contestant("dnet", lambda setting, count: [str(setting.dnet), "bulk-create", "--count", str(count)], _netns_path)
DNET_PUBLISHING = replace(DNET, name="dnet, -p 80", command=lambda *args: [*DNET.command(*args), "-p", "80"])
LINKED, NAME_SERVER = "common", "192.0.2.53"
DNET_LINKED = replace(
    DNET,
    name="dnet, -p --dns --link",
    command=lambda *args: [*DNET.command(*args), "-p", "80", "--dns", NAME_SERVER, "--link", LINKED],
)
DOCKER_IMAGE = "small"
DOCKER = Contestant("docker", lambda _, __: ["docker", "run", "--rm", DOCKER_IMAGE, "true"], _netns_path)
IP_BATCH = Contestant("ip -batch", _script(peer_scripts.write_ip_batch), _netns_path, repeats_over_100=3)
TUNED_IP_BATCH = Contestant(
    "ip -batch, tuned", _script(peer_scripts.write_tuned_ip_batch), _netns_path, repeats_over_100=3
)
SHELL = Contestant("shell ip", _script(peer_scripts.write_shell), _netns_path, largest=500, repeats_over_100=1)
SHELL_IN_PLACE = replace(SHELL, name="shell ip, in place", command=_script(peer_scripts.write_shell_in_place))
PYROUTE2 = Contestant("pyroute2", _pyroute2("moved"), _netns_path, largest=500, repeats_over_100=1)
PYROUTE2_IN_PLACE = replace(PYROUTE2, name="pyroute2, in place", command=_pyroute2("in-place"))

CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        FLOOR,
        DNET,
        IP_BATCH,
        TUNED_IP_BATCH,
        SHELL,
        SHELL_IN_PLACE,
        PYROUTE2,
        PYROUTE2_IN_PLACE,
    )
}


@dataclass(frozen=True)
class Publisher:
    """One way of publishing ports of a container c-1 at /run/netns/c-1.

    `create` is a command that makes the container, `publish` one that leaves so many ports published, one of which
    leads to the container's port; `count` one whose output has `count_word` for each. Where `probe` fails, the
    publisher is left out. Without an `address` of its own the load goes to the host's.
    """

    name: str
    create: Callable[[Setting], list[str]]
    publish: Callable[[Setting, int], list[str]]
    count: tuple[str, ...] = ()
    count_word: str = ""
    probe: tuple[str, ...] = ()
    address: IPv4Address | None = None
    port: int = peer_iptables.HOST_PORT


def _dnet_ports(setting: Setting, count: int) -> list[str]:
    return [str(setting.dnet_python), "-m", "benchmarks.engine_publish", "hold", str(count)]


def _one_by_ip_batch(setting: Setting) -> list[str]:
    return ["sh", "-e", str(peer_scripts.write_ip_batch(setting.directory, 1))]


def _iptables(kind: str, who: str, write: Callable[[Path, int], Path]) -> Publisher:
    save = (f"iptables-{kind}-save", "-t", "nat")
    return Publisher(
        f"{who}, iptables-{kind}",
        _one_by_ip_batch,
        lambda setting, count: [f"iptables-{kind}-restore", str(write(setting.directory, count))],
        count=save,
        count_word="-j DNAT",
        probe=save,
    )


# As much forwarding, and no rule: what is left to compare, few ports with many, is the noise.
UNPUBLISHED = Publisher(
    "no NAT",
    _one_by_ip_batch,
    lambda _, __: ["true"],
    address=peer_scripts.GATEWAY + 1,
    port=peer_iptables.CONTAINER_PORT,
)
DNET_PORTS = Publisher(
    "dnet",
    lambda setting: _dnet_ports(setting, 1),
    _dnet_ports,
    count=("nft", "list", "map", "inet", "dnet", "publish4"),
    count_word="tcp . ",
)

PUBLISHERS = {
    publisher.name: publisher
    for publisher in (
        UNPUBLISHED,
        DNET_PORTS,
        _iptables("nft", "Docker", peer_iptables.write_docker),
        _iptables("legacy", "Docker", peer_iptables.write_docker),
        _iptables("nft", "portmap", peer_iptables.write_portmap),
        _iptables("legacy", "portmap", peer_iptables.write_portmap),
    )
}
