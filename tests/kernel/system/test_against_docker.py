"""The same commands given to a real dockerd and to dnet, each on a host of its own: files, variables, documents, ports.

The dockerd is Docker 20.10, Debian 12's. Where the two may differ, ALLOWED and the tests say why.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.support.container_processes import PATH, busybox_tree, require, require_runtime
from tests.support.hosts import FakeHost, program
from tests.support.plugin import require_root

VERSION = "20.10."
START_TIMEOUT_S = 30.0
# Programs that come from the same package, whatever else is installed.
DOCKER_PATH = f"/usr/bin:/usr/sbin:{PATH}"
# Set by busybox's shell, which prints the variables.
SHELL_VARIABLES = {"SHLVL", "PWD", "OLDPWD", "_"}
FIRST_AUTOMATIC = 32768
Result = TypeVar("Result")
IDENTITY = re.compile(r"\b([0-9a-f]{64}|[0-9a-f]{12})\b")


@dataclass
class Side:
    """One of the two: its host, its command, and what stands for the image there."""

    host: FakeHost
    command: tuple[str, ...]
    before: tuple[str, ...] = ()
    image: tuple[str, ...] = ()
    started: list[str] = field(default_factory=list)

    def do(self, *words: str) -> str:
        """Run a command of it, and return what it prints."""
        return self.host.run(*self.command, *words).stdout

    def start(self, name: str, *options: str) -> None:
        """Start a container that does nothing."""
        self.started.append(name)
        self.do("run", "-d", "--name", name, *self.before, *options, *self.image, "sleep", "1000")

    def shows(self, options: Sequence[str], script: str) -> str:
        """Return what a script prints in a container, ids replaced by a word."""
        words = (*self.before, *options, *self.image, "sh", "-c", script)
        return IDENTITY.sub("ID", self.do("run", "--rm", *words))

    def inspected(self, name: str) -> dict[str, Any]:
        """Return `inspect`'s document."""
        [document] = json.loads(self.do("inspect", name))
        return dict(document)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root directory with a static busybox: Docker's image and dnet's --rootfs."""
    require_root()
    require_runtime()
    require(dockerd="docker.io", docker="docker.io", tar="tar")
    return busybox_tree(tmp_path_factory.mktemp("box") / "tree")


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory, tree: Path) -> Iterator[Side]:
    """Yield a host where a dockerd runs, with its image."""
    with FakeHost(tmp_path_factory.mktemp("docker")) as host, dockerd(host, tree) as side:
        yield side


@pytest.fixture(scope="module")
def dnet(tmp_path_factory: pytest.TempPathFactory, tree: Path) -> Iterator[Side]:
    """Yield a host for dnet."""
    with FakeHost(tmp_path_factory.mktemp("dnet")) as host:
        yield Side(host, (program(),), before=("--rootfs", str(tree)))


@contextlib.contextmanager
def dockerd(host: FakeHost, tree: Path) -> Iterator[Side]:
    """Run a dockerd that shares nothing with the machine's; all that it has started ends with it."""
    place = host.directory
    daemon_path, client = (str(shutil.which(name, path=DOCKER_PATH)) for name in ("dockerd", "docker"))
    if VERSION not in host.run(daemon_path, "--version").stdout:
        pytest.skip(f"dockerd is not of version {VERSION}x, with which dnet is compared")
    # /run is the fake host's own; the path of a socket has to be short.
    directories = (f"--data-root={place}/data", "--exec-root=/run/docker", f"--pidfile={place}/docker.pid")
    address = f"unix://{place}/docker.sock"
    with (place / "log").open("w", encoding="utf-8") as log:
        daemon = host.start(daemon_path, "--storage-driver=vfs", *directories, f"--host={address}", stderr=log)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while "API listen on" not in (said := (place / "log").read_text(encoding="utf-8")):
            assert daemon.poll() is None, said
            assert time.monotonic() < deadline, said
        side = Side(host, (client, "--host", address), before=("--stop-signal", "KILL"), image=("box",))
        host.run("sh", "-c", f"tar -C {tree} -c . | {client} --host {address} import - box")
        yield side
    finally:
        # It ends its containers, and its own children, first.
        daemon.terminate()
        daemon.wait(START_TIMEOUT_S)


def both(sides: Iterable[Side], ask: Callable[[Side], Result]) -> list[Result]:
    """Ask the two side by side, and return what they say."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(ask, sides))


def hosts_lines(text: str) -> list[tuple[str, ...]]:
    """Return the lines of a hosts file without their order: addresses as numbers, names in order.

    Docker 20.10 writes fe00::0 where later ones, and dnet, write fe00::. dnet has links below the container's own
    line, where they come and go.
    """
    words = [line.split() for line in text.splitlines() if line.strip()]
    return sorted((str(ip_address(address)), *names) for address, *names in words)


def resolver(text: str) -> dict[str, list[str]]:
    """Return what a resolv.conf says, in the order in which it counts; not in which order the kinds come."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        kind, *words = line.split() or ["#"]
        if kind[0] not in "#;":
            found.setdefault(kind, []).extend(words)
    return found


def variables(text: str) -> dict[str, str]:
    """Return the variables that `env` has printed."""
    pairs = dict(line.split("=", 1) for line in text.splitlines())
    return {key: value for key, value in pairs.items() if key not in SHELL_VARIABLES}


# Files, names and variables


FILES = "cat /etc/hosts; echo --; cat /etc/resolv.conf; echo --"
OPTIONS = {
    "nothing asked": [],
    "servers": ["-h", "front", "--dns", "203.0.113.1", "--dns", "2001:db8::1"],
    "domain": ["-h", "front", "--domainname", "example.org", "--dns-search", "c.example", "--dns-search", "d.example"],
    "host name with a domain in it": ["-h", "front.example.org", "--dns-search", "."],
    "added hosts": ["--add-host", "db:10.9.0.5", "--add-host", "db:10.9.0.6", "--add-host", "six:fd00::5"],
    "host-gateway": ["--add-host", "gate:host-gateway", "--dns-option", "ndots:5", "--dns-option", "timeout:1"],
    "mode none": ["--network", "none", "-h", "front", "--add-host", "db:10.9.0.5"],
    # Docker 20.10 forgets the host's own lines over an --add-host; later ones do not.
    "mode host": ["--network", "host"],
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_files(docker: Side, dnet: Side, options: list[str]) -> None:
    """hosts, resolv.conf, hostname, the kernel's own names and the variables are Docker's."""
    set_resolver((docker, dnet), RESOLV_CONFS["search and options"])
    script = f"{FILES}; cat /etc/hostname; hostname; cat /proc/sys/kernel/domainname; echo --; env"
    theirs, ours = both((docker, dnet), lambda side: side.shows(options, script).split("--\n"))
    assert hosts_lines(ours[0]) == hosts_lines(theirs[0])
    assert resolver(ours[1]) == resolver(theirs[1])
    assert ours[2] == theirs[2]
    assert variables(ours[3]) == variables(theirs[3])


def test_shared_files(docker: Side, dnet: Side) -> None:
    """In mode container:NAME the files are those of the other, whatever it was asked for."""
    script = f"{FILES}; hostname; cat /etc/hostname"

    def ask(side: Side) -> list[str]:
        side.start("lender", "-h", "lender", "--add-host", "db:10.9.0.5", "--dns", "203.0.113.1")
        return side.shows(["--network", "container:lender"], script).split("--\n")

    theirs, ours = both((docker, dnet), ask)
    assert hosts_lines(ours[0]) == hosts_lines(theirs[0])
    assert resolver(ours[1]) == resolver(theirs[1])
    assert ours[2] == theirs[2]


# The resolver


RESOLV_CONFS = {
    "loopback among others": "nameserver 127.0.0.1\nnameserver 198.51.100.53\nnameserver ::1\n",
    "loopback only": "nameserver 127.0.0.1\nsearch a.example\n",
    "IPv6 on a network without": "nameserver 2001:db8::53\nnameserver 198.51.100.53\n",
    "search and options": "search a.example b.example\nnameserver 198.51.100.53\noptions ndots:2 rotate\n",
    "comments and odd spaces": "# x\n; y\nnameserver\t198.51.100.53   \n\nsearch  a.example\n",
    "several servers": "".join(f"nameserver 198.51.100.{number}\n" for number in (3, 1, 2, 4)),
    "nothing at all": "",
}


def set_resolver(sides: Sequence[Side], text: str) -> None:
    """Write the resolv.conf of the hosts."""
    for side in sides:
        side.host.run("sh", "-c", 'printf %s "$1" >/etc/resolv.conf', "-", text)


@pytest.mark.parametrize("text", RESOLV_CONFS.values(), ids=RESOLV_CONFS)
def test_resolver(docker: Side, dnet: Side, text: str) -> None:
    """What the host's resolv.conf becomes in a container is what Docker makes of it."""
    set_resolver((docker, dnet), text)
    theirs, ours = both((docker, dnet), lambda side: side.shows([], "cat /etc/resolv.conf"))
    assert resolver(ours) == resolver(theirs)


def test_resolver_of_systemd(tmp_path: Path, tree: Path) -> None:
    """Where the host asks systemd's stub, containers get the servers behind it; Docker looks when it starts."""
    found = []
    with FakeHost(tmp_path / "docker") as one, FakeHost(tmp_path / "dnet") as other:
        for host in (one, other):
            host.directory.mkdir()
            script = (
                "mkdir -p /run/systemd/resolve && cd /run/systemd/resolve && echo nameserver 203.0.113.9 >resolv.conf"
            )
            host.run("sh", "-c", f"{script} && echo nameserver 127.0.0.53 >/etc/resolv.conf")
        with dockerd(one, tree) as theirs:
            ours = Side(other, (program(),), before=("--rootfs", str(tree)))
            found = [resolver(side.shows([], "cat /etc/resolv.conf")) for side in (theirs, ours)]
    assert found[1] == found[0] == {"nameserver": ["203.0.113.9"]}


# Links


CHILDREN = {
    "one": ["--expose", "5432"],
    "bare": [],
    "run": ["--expose", "8000-8003", "--expose", "8005-8006", "--expose", "8008-8010"],
    "mixed": ["--expose", "1053/udp", "--expose", "1053", "--expose", "80-81"],
    "datagrams": ["--expose", "53/udp", "--expose", "123"],
    "published": ["-p", "8080:80", "-p", "443", "--expose", "81", "--expose", "79"],
    "settings": ["-e", "A=1", "-e", "TEXT=x y=z", "-e", "HOME=/x", "-e", "PATH=/bin", "-e", "EMPTY=", "-h", "own"],
    "a.b-c_d": ["--expose", "1"],
}


def test_links(docker: Side, dnet: Side) -> None:
    """A parent of many children has the lines and the variables that Docker gives it, one's own -e above them."""
    script = "cat /etc/hosts; echo --; env"
    options = [word for name in CHILDREN for word in ("--link", f"{name}:{name.upper()}-alias")]
    options += ["--link", "one", "--name", "parent", "-h", "parent", "-e", "OWN=1", "-e", "ONE_ALIAS_PORT=mine"]

    def ask(side: Side) -> list[str]:
        for name, child in CHILDREN.items():
            side.start(name, *child)
        return side.shows(options, script).split("--\n")

    (hosts, theirs), (our_hosts, ours) = both((docker, dnet), ask)
    assert hosts_lines(our_hosts) == hosts_lines(hosts)
    expected, actual = variables(theirs), variables(ours)
    # Docker 20.10 takes the lowest number, whatever its protocol; later ones, and dnet, the first of tcp.
    first = [pairs.pop("DATAGRAMS_ALIAS_PORT") for pairs in (expected, actual)]
    assert [text.rpartition(":")[2] for text in first] == ["53", "123"]
    assert actual == expected


# Documents


FIELDS = {
    "": ["Id", "Name", "Created", "HostsPath", "HostnamePath", "ResolvConfPath"],
    "State": ["Status", "Running", "Pid", "ExitCode"],
    "Config": ["Hostname", "Domainname", "Env", "Cmd", "WorkingDir", "User", "Tty", "ExposedPorts", "Labels"],
    "HostConfig": [
        *("NetworkMode", "Links", "PublishAllPorts", "Dns", "DnsSearch", "DnsOptions", "AutoRemove", "ReadonlyRootfs"),
        "ExtraHosts",
    ],
    "NetworkSettings": [
        *("SandboxKey", "IPAddress", "IPPrefixLen", "Gateway", "MacAddress", "Ports", "Networks"),
        *("GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPv6Gateway"),
    ],
}
ENDPOINT_FIELDS = [
    *("IPAddress", "IPPrefixLen", "Gateway", "MacAddress", "EndpointID", "NetworkID", "Aliases"),
    *("GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPv6Gateway"),
]
# Of these only the type is compared, and whether there is something.
IDENTITIES = {"Id", "Created", "HostsPath", "HostnamePath", "ResolvConfPath", "State.Pid", "NetworkSettings.SandboxKey"}
IDENTITIES |= {"Networks.bridge.EndpointID", "Networks.bridge.NetworkID"}
# What dnet does differently, by field: Docker's value, dnet's, and why.
NO_NULLS = "nothing is an empty list or object where Docker has null, so that scripts need no case of their own for it"
ALLOWED: dict[str, tuple[Any, Any, str]] = {
    "Config.Env": (None, [], NO_NULLS),
    "Config.ExposedPorts": (None, {}, NO_NULLS),
    "HostConfig.Links": (None, [], NO_NULLS),
    "HostConfig.ExtraHosts": (None, [], NO_NULLS),
    "Networks.bridge.Aliases": (None, [], NO_NULLS),
    "HostConfig.NetworkMode": ("default", "bridge", "the name that cli.md has; Docker's too when it is given"),
    "NetworkSettings.SandboxKey": ("", str, "in mode container:NAME too it is a path that can be joined"),
    "Networks": (list, [], "host and none are modes of dnet's, not networks"),
}
CONTAINERS = {
    "default": [],
    "asked": [
        *("-h", "front", "--domainname", "example.org", "-e", "A=1", "-w", "/bin", "-u", "0", "--read-only", "-t"),
        *("--label", "tier=front", "--label", "empty=", "--dns", "203.0.113.1", "--dns-search", "c.example"),
        *("--dns-option", "ndots:5", "--add-host", "db:10.9.0.5", "--link", "default:store", "-P", "--expose", "90"),
        *("-p", "8081:80", "-p", "127.0.0.1:5300:53/udp", "--expose", "9/udp"),
    ],
    "none": ["--network", "none"],
    "host": ["--network", "host"],
    "shared": ["--network", "container:default"],
}


def flat(document: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that are compared, by their dotted names; those of modes host and none have no endpoint."""
    found = {}
    for part, names in FIELDS.items():
        values = document[part] if part else document
        found |= {f"{part}.{name}".lstrip("."): values.get(name) for name in names}
    # Docker writes a slash before the name, for its links' sake; every command prints and takes it without.
    found["Name"] = found["Name"].removeprefix("/")
    found["NetworkSettings.Ports"] = ports(found["NetworkSettings.Ports"])
    networks = found.pop("NetworkSettings.Networks")
    found["Networks"] = sorted(networks)
    for key in ENDPOINT_FIELDS if "bridge" in networks else ():
        found[f"Networks.bridge.{key}"] = networks["bridge"].get(key)
    return found


def ports(published: dict[str, list[dict[str, str]] | None]) -> dict[str, list[str] | None]:
    """Return where ports are published; of automatic ones, only that they are.

    Docker's proxy also listens on IPv6 for a network that has none. dnet has no proxy: what is published over IPv6
    is a container with IPv6 (docs/guide.md).
    """
    return {
        port: places
        and [shown(f"{place['HostIp']}:{place['HostPort']}") for place in places if place["HostIp"] != "::"]
        for port, places in published.items()
    }


def shown(place: str) -> str:
    """Return ADDRESS:PORT, without the number of a port that was chosen."""
    address, _, port = place.rpartition(":")
    return f"{address}:automatic" if int(port) >= FIRST_AUTOMATIC else place


def is_allowed(key: str, theirs: Any, ours: Any) -> bool:
    """Whether ALLOWED has this difference."""
    expected = ALLOWED.get(key, (None, None, ""))[:2]
    pairs = zip(expected, (theirs, ours), strict=True)
    return all(isinstance(value, wanted) if isinstance(wanted, type) else value == wanted for wanted, value in pairs)


@pytest.mark.parametrize("name", CONTAINERS)
def test_inspect(docker: Side, dnet: Side, name: str) -> None:
    """`inspect` has Docker's fields with Docker's types and, identities apart, Docker's values; so has `port`."""

    def ask(side: Side) -> dict[str, Any]:
        for needed in ("default", name):
            if needed not in side.started:
                side.start(needed, *CONTAINERS[needed])
        return flat(side.inspected(name))

    theirs, ours = both((docker, dnet), ask)
    assert theirs.keys() == ours.keys()
    for key, value in theirs.items():
        if key in IDENTITIES and bool(value) == bool(ours[key]):
            assert type(value) is type(ours[key]), key
        elif key in {"Config.Hostname", "HostConfig.NetworkMode"}:
            assert IDENTITY.sub("ID", value) == IDENTITY.sub("ID", ours[key]) or is_allowed(key, value, ours[key])
        else:
            assert value == ours[key] or is_allowed(key, value, ours[key]), key


def test_port(docker: Side, dnet: Side) -> None:
    """`port` prints what Docker's does, for all ports and for one; of a port that is not published both say so."""
    options = ("-p", "8090:80", "-p", "8091:80", "-p", "127.0.0.1:5301:53/udp", "-p", "81", "-p", "8092:9")

    def ask(side: Side) -> list[list[str]]:
        side.start("many", *options)
        answers = [side.do("port", "many", *words).splitlines() for words in ([], ["80"], ["53/udp"], ["81/tcp"])]
        # On IPv6 Docker's proxy listens; see `ports`.
        return [sorted(shown(line) for line in lines if ":::" not in line) for lines in answers]

    theirs, ours = both((docker, dnet), ask)
    assert ours == theirs
    assert [len(lines) for lines in ours] == [5, 2, 1, 1]
    for side in (docker, dnet):
        refused = side.host.run(*side.command, "port", "many", "53/tcp", code=None)
        assert refused.code
        assert (refused.stdout, "53" in refused.stderr) == ("", True)
