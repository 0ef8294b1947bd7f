"""A container's hosts, hostname and resolv.conf: as programs in its namespace read them, and as the host's changes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dnet
from tests.support.hosts import FakeHost, wait_until

SERVER = "198.51.100.53"  # the fake host's
NEW = "198.51.100.54"
MANY = 1000
# One second is what 1,000 containers may take; the machine that runs this may be busy.
PATIENCE_S = 10.0
FILES = ("hostname", "hosts", "resolv.conf")


def inside(host: FakeHost, name: str, *command: str, code: int | None = 0) -> str:
    """Run a program in a container as `ip netns exec` does, and return what it prints."""
    return host.run("ip", "netns", "exec", name, *command, code=code).stdout


def read(host: FakeHost, name: str, file: str) -> list[str]:
    """Return the lines of a file in a container's /etc."""
    return inside(host, name, "cat", f"/etc/{file}").splitlines()


def servers(host: FakeHost, name: str) -> list[str]:
    """Return a container's name servers."""
    return [line.split()[1] for line in read(host, name, "resolv.conf") if line.startswith("nameserver")]


def addresses(host: FakeHost, name: str, wanted: str) -> list[str]:
    """Return the addresses that a container's resolver finds for a name, without asking any server."""
    lines = inside(host, name, "getent", "-s", "files", "ahosts", wanted, code=None).splitlines()
    return sorted({line.split()[0] for line in lines})


def inspect(host: FakeHost, name: str) -> dict[str, Any]:
    """Return `inspect`'s document of a container."""
    [document] = host.dnet("inspect", name).json
    return dict(document)


def directories(host: FakeHost) -> list[str]:
    """Return the directories with containers' files, and the links to them."""
    places = [host.inside(f"{host.run_dir}/etc"), host.inside("/etc/netns")]
    return [name for place in places if os.path.isdir(place) for name in os.listdir(place)]


def conf(host: FakeHost, name: str) -> Path:
    """Return a container's resolv.conf, as the test process sees it."""
    return Path(host.inside(inspect(host, name)["ResolvConfPath"]))


# The files as they are made


def test_programs_read_the_files(host: FakeHost) -> None:
    """A program in the container reads the container's own three files, not the host's."""
    made = host.dnet("create", "--json", "web").json
    identity = made["Id"][:12]
    assert read(host, "web", "hostname") == [identity]
    assert read(host, "web", "hosts")[0] == "127.0.0.1\tlocalhost"
    assert read(host, "web", "hosts")[-1] == f"{made['NetworkSettings']['IPAddress']}\t{identity}"
    assert servers(host, "web") == [SERVER]
    mounts = inside(host, "web", "findmnt", "--list", "--noheadings", "--output", "TARGET").split()
    assert {f"/etc/{name}" for name in FILES} <= set(mounts)


def test_own_name_resolves(host: FakeHost) -> None:
    """A container finds itself by name and by full name, and localhost, at each of its addresses."""
    host.dnet("network", "create", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64", "six")
    host.dnet("create", "--network", "six", "-h", "front", "--domainname", "example.org", "web")
    for name in ("front", "front.example.org"):
        assert addresses(host, "web", name) == ["10.1.0.2", "fd00:1::2"]
    assert "127.0.0.1" in addresses(host, "web", "localhost")
    assert inside(host, "web", "getent", "-s", "files", "hosts", "10.1.0.2").split()[1:] == [
        "front.example.org",
        "front",
    ]
    assert read(host, "web", "hostname") == ["front"]


def test_added_hosts_resolve(host: FakeHost) -> None:
    """A host that was added is found at its address, one added twice at both, and host-gateway where the host is."""
    host.dnet("network", "create", "--ipv6", "six")
    options = ["db:10.9.0.5", "db=fd00:9::5", "gate:host-gateway"]
    host.dnet("create", "--network", "six", *(f"--add-host={text}" for text in options), "web")
    assert addresses(host, "web", "db") == ["10.9.0.5", "fd00:9::5"]
    gateways = addresses(host, "web", "gate")
    assert inspect(host, "web")["NetworkSettings"]["Gateway"] in gateways
    assert [address for address in gateways if not host.sandbox("web").can_ping(address)] == []
    assert addresses(host, "web", "cache") == []
    assert inspect(host, "web")["HostConfig"]["ExtraHosts"] == ["db:10.9.0.5", "db:fd00:9::5", "gate:host-gateway"]


def test_own_resolver(host: FakeHost) -> None:
    """--dns, --dns-search and --dns-option are what the container has, in their order, and what inspect shows."""
    dns = ["--dns", "203.0.113.1", "--dns", "2001:db8::1"]
    search = ["--dns-search", "a.example", "--dns-search", "b.example"]
    host.dnet("create", *dns, *search, "--dns-option", "ndots:2", "--dns-option", "rotate", "web")
    lines = [line for line in read(host, "web", "resolv.conf") if not line.startswith("#")]
    assert lines == [
        "nameserver 203.0.113.1",
        "nameserver 2001:db8::1",
        "search a.example b.example",
        "options ndots:2 rotate",
    ]
    config = inspect(host, "web")["HostConfig"]
    assert (config["Dns"], config["DnsSearch"], config["DnsOptions"]) == (
        ["203.0.113.1", "2001:db8::1"],
        ["a.example", "b.example"],
        ["ndots:2", "rotate"],
    )


def test_no_search_domain(host: FakeHost) -> None:
    """--dns-search . leaves out the host's search domains."""
    host.resolv_conf.write_text(f"search corp.example\nnameserver {SERVER}\n", encoding="ascii")
    host.dnet("create", "--dns-search", ".", "none")
    host.dnet("create", "some")
    assert not [line for line in read(host, "none", "resolv.conf") if line.startswith("search")]
    assert "search corp.example" in read(host, "some", "resolv.conf")


def test_loopback_resolver_is_replaced(host: FakeHost) -> None:
    """When the host asks systemd's stub on its loopback, containers get the servers behind it, or public ones."""
    host.resolv_conf.write_text("nameserver 127.0.0.53\noptions edns0\n", encoding="ascii")
    host.dnet("create", "before")
    assert servers(host, "before") == ["8.8.8.8", "8.8.4.4"]
    host.run("mkdir -p /run/systemd/resolve")
    behind = Path(host.inside("/run/systemd/resolve/resolv.conf"))
    behind.write_text(f"nameserver {NEW}\nsearch lan.example\n", encoding="ascii")
    host.dnet("create", "after")
    assert servers(host, "after") == [NEW]
    assert "search lan.example" in read(host, "after", "resolv.conf")


def test_ipv6_servers_only_with_ipv6(host: FakeHost) -> None:
    """The host's IPv6 name servers are given to containers with IPv6 only."""
    host.resolv_conf.write_text(f"nameserver 2001:db8::53\nnameserver {SERVER}\n", encoding="ascii")
    host.dnet("network", "create", "--ipv6", "six")
    host.dnet("create", "--network", "six", "web")
    host.dnet("create", "four")
    assert servers(host, "web") == ["2001:db8::53", SERVER]
    assert servers(host, "four") == [SERVER]


def test_mode_none_has_files(host: FakeHost) -> None:
    """A container without a network has the three files too, with nothing but localhost and what was added."""
    host.dnet("create", "--network", "none", "-h", "alone", "--add-host", "db:10.9.0.5", "web")
    assert read(host, "web", "hostname") == ["alone"]
    assert read(host, "web", "hosts")[-1] == "10.9.0.5\tdb"
    assert servers(host, "web") == [SERVER]


def test_paths_of_inspect(host: FakeHost) -> None:
    """HostsPath, HostnamePath and ResolvConfPath are files that hold what programs in the container read."""
    host.dnet("create", "web")
    document = inspect(host, "web")
    for key, file in zip(("HostnamePath", "HostsPath", "ResolvConfPath"), FILES, strict=True):
        path = document[key]
        assert path.endswith(f"/{file}")
        assert Path(host.inside(path)).read_text(encoding="ascii").splitlines() == read(host, "web", file)
        assert host.run("stat", "--format", "%A %U", path).stdout.split() == ["-rw-r--r--", "root"]


def test_inspect_shows_the_names(host: FakeHost) -> None:
    """inspect shows host name and domain, the host name by default the id's first 12 digits."""
    host.dnet("create", "-h", "front", "--domainname", "example.org", "web")
    host.dnet("create", "db")
    config = inspect(host, "web")["Config"]
    assert (config["Hostname"], config["Domainname"]) == ("front", "example.org")
    document = inspect(host, "db")
    assert (document["Config"]["Hostname"], document["Config"]["Domainname"]) == (document["Id"][:12], "")


def test_files_go_with_the_container(host: FakeHost) -> None:
    """After rm nothing of the files is left; the other container's stay."""
    host.dnet("create", "other")
    before = host.snapshot()
    host.dnet("create", "web")
    assert len(directories(host)) == 4
    host.dnet("rm", "web")
    assert host.changes(before) == ""
    assert servers(host, "other") == [SERVER]
    host.dnet("rm", "other")
    assert directories(host) == []


def test_files_of_a_bulk(host: FakeHost) -> None:
    """Each container of a bulk has files of its own, with the options of all and its own address; then none has."""
    options = ["--dns", "203.0.113.1", "--add-host", "db:10.9.0.5", "-h", "worker"]
    made = host.dnet("bulk-create", "--count", "20", *options, "--json").json["containers"]
    for item in made:
        assert read(host, item["name"], "hosts")[-2:] == ["10.9.0.5\tdb", f"{item['ip']}\tworker"]
        assert servers(host, item["name"]) == ["203.0.113.1"]
    assert len({inspect(host, item["name"])["HostsPath"] for item in made}) == 20
    host.dnet("bulk-delete", "--all")
    assert directories(host) == []


def test_files_of_a_listed_bulk(host: FakeHost, tmp_path: Path) -> None:
    """bulk-create --file takes the options of the files by their long names, each container its own."""
    listing = tmp_path / "some.yaml"
    listing.write_text(
        "- {name: a, hostname: one, domainname: example.org, add-host: ['db:10.9.0.5'], dns: [203.0.113.1]}\n"
        "- {name: b, hostname: two, dns-search: [b.example], dns-option: ['ndots:3']}\n",
        encoding="ascii",
    )
    host.dnet("bulk-create", "--file", str(listing))
    assert read(host, "a", "hosts")[-1].split()[1:] == ["one.example.org", "one"]
    assert addresses(host, "a", "db") == ["10.9.0.5"]
    assert servers(host, "a") == ["203.0.113.1"]
    assert read(host, "b", "hostname") == ["two"]
    assert {"search b.example", "options ndots:3"} <= set(read(host, "b", "resolv.conf"))


def test_own_mount_namespace_keeps_to_itself(host: FakeHost) -> None:
    """In a mount namespace of its own, an engine's links in /etc/netns are seen by nobody outside."""
    host.dnet("create", "fake-hosts-own")
    assert os.listdir(host.inside("/etc/netns")) == ["fake-hosts-own"]
    assert not os.path.lexists("/etc/netns/fake-hosts-own")


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_own_additions(host: FakeHost, kind: str) -> None:
    """What somebody adds to a container's /etc is seen inside, and goes with the container."""
    host.dnet("create", "web")
    before = directories(host)
    added = Path(host.inside(inspect(host, "web")["HostsPath"])).parent / "added"
    host.run("mkdir /etc/added" if kind == "directory" else "touch /etc/added")
    if kind == "directory":
        added.mkdir()
        added /= "more"
    added.write_text("hello\n", encoding="ascii")
    assert inside(host, "web", "cat", "/etc/added/more" if kind == "directory" else "/etc/added") == "hello\n"
    host.dnet("rm", "web")
    assert directories(host) == []
    host.dnet("create", "web")
    assert len(directories(host)) == len(before)


@pytest.mark.parametrize("kind", ["directory", "link"])
def test_foreign_configuration_is_left_alone(host: FakeHost, kind: str) -> None:
    """A configuration in /etc/netns that somebody made for a namespace of that name is a conflict, and stays."""
    host.dnet("create", "first")
    host.run(*(["mkdir", "/etc/netns/web"] if kind == "directory" else ["ln", "-s", "/root", "/etc/netns/web"]))
    before = host.snapshot()
    assert "/etc/netns/web" in host.dnet("create", "web", code=4).stderr
    assert "/etc/netns/web" in host.dnet("rename", "first", "web", code=4).stderr
    assert host.changes(before) == ""


BAD = {
    "host name": ["--hostname", "a b"],
    "host name that begins with a dash": ["--hostname", "-web"],
    "host name of 65": ["--hostname", "a" * 65],
    "host name with a newline": ["--hostname", "web\nx"],
    "domain": ["--domainname", "example..org"],
    "server that is a name": ["--dns", "localhost"],
    "server with a port": ["--dns", "192.0.2.53:53"],
    "server with a zone": ["--dns", "fe80::1%eth0"],
    "server with words behind": ["--dns", "fe80::1%x\nnameserver 203.0.113.1"],
    "empty server": ["--dns", ""],
    "good server, bad server": ["--dns", "192.0.2.53", "--dns", "x"],
    "search domain": ["--dns-search", "a b"],
    "empty search domain": ["--dns-search", ""],
    "resolver option": ["--dns-option", "ndots:2\nnameserver 203.0.113.1"],
    "empty resolver option": ["--dns-option", ""],
    "host without an address": ["--add-host", "db"],
    "host with an empty address": ["--add-host", "db:"],
    "host without a name": ["--add-host", ":10.9.0.5"],
    "host at a name": ["--add-host", "db:cache"],
    "host at another gateway": ["--add-host", "db:gateway-host"],
    "host with a bad name": ["--add-host", "a b:10.9.0.5"],
    "host with words behind": ["--add-host", "db:fe80::1%x y"],
}


@pytest.mark.parametrize("options", BAD.values(), ids=BAD)
def test_bad_values(host: FakeHost, options: list[str]) -> None:
    """A value that cannot be exits 2 with one sentence, in a bulk too, and the host is as it was."""
    before = host.snapshot()
    for command in (["create", "web"], ["bulk-create", "--count", "3"]):
        refused = host.dnet(*command, *options, code=2)
        assert refused.stdout == ""
        assert refused.stderr.startswith("dnet: ")
        assert len(refused.stderr.splitlines()) <= 2
    assert host.changes(before) == ""


# The host's resolver changes


class Watch:
    """A running `dnet watch`, which has said twice already that it has rewritten files."""

    def __init__(self, host: FakeHost) -> None:
        host.dnet("create", "sentinel")
        self._log = host.directory / "watch.log"
        in_place(host, "nameserver 198.51.100.99\n")
        with self._log.open("w", encoding="utf-8") as log:
            self._process = host.start_dnet("watch", stderr=log)
        self.wait(1)
        in_place(host, f"nameserver {SERVER}\n")
        self.wait(2)

    def said(self) -> list[str]:
        """Return what it has said, sentence by sentence."""
        return [line.removeprefix("dnet: ") for line in self._log.read_text(encoding="utf-8").splitlines()]

    def wait(self, count: int) -> None:
        """Wait until it has said so much."""
        wait_until(lambda: len(self.said()) >= count, f"{count} sentences: {self.said()}", PATIENCE_S)

    def end(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it by a signal; until then it has to run."""
        assert self._process.poll() is None, self.said()
        self._process.send_signal(number)
        stdout, _ = self._process.communicate(timeout=PATIENCE_S)
        assert (self._process.returncode, stdout) == (0, "")


def in_place(host: FakeHost, text: str) -> None:
    """Write the host's resolv.conf as an editor that keeps the file does."""
    # Not by way of `resolv_conf`: seen from the test, an absolute link leads to the machine's own files.
    host.run("sh", "-c", 'printf %s "$1" >/etc/resolv.conf', "-", text)


def renamed(host: FakeHost, text: str) -> None:
    """Replace the host's resolv.conf as network managers do."""
    host.run(
        "sh", "-c", 'printf %s "$1" >/etc/.resolv.conf.new && mv /etc/.resolv.conf.new /etc/resolv.conf', "-", text
    )


def removed(host: FakeHost, text: str) -> None:
    """Remove the host's resolv.conf and write another one."""
    host.run("sh", "-c", 'rm /etc/resolv.conf; printf %s "$1" >/etc/resolv.conf', "-", text)


def through_link(host: FakeHost, text: str) -> None:
    """Write the file that the host's resolv.conf leads to."""
    host.run("sh", "-c", 'printf %s "$1" >/run/resolver/real.conf', "-", text)


def through_link_renamed(host: FakeHost, text: str) -> None:
    """Replace the file that the host's resolv.conf leads to."""
    script = 'printf %s "$1" >/run/resolver/new && mv /run/resolver/new /run/resolver/real.conf'
    host.run("sh", "-c", script, "-", text)


def link_turned(host: FakeHost, text: str) -> None:
    """Make the host's resolv.conf lead elsewhere."""
    host.run("sh", "-c", 'printf %s "$1" >/run/other.conf && ln -sfn /run/other.conf /etc/resolv.conf', "-", text)


def inner_link_turned(host: FakeHost, text: str) -> None:
    """Make a link on the way from the host's resolv.conf to the file lead elsewhere."""
    script = 'printf %s "$1" >/run/other.conf && ln -sfn /run/other.conf /run/links/link'
    host.run("sh", "-c", script, "-", text)


PLAIN = "true"
LINK = "ln -sfn /run/resolver/real.conf /etc/resolv.conf"
LINKS = "mkdir /run/links; ln -s /run/resolver/real.conf /run/links/link; ln -sfn /run/links/link /etc/resolv.conf"
WAYS: dict[str, tuple[str, Callable[[FakeHost, str], None]]] = {
    "written in place": (PLAIN, in_place),
    "replaced by rename": (PLAIN, renamed),
    "removed and made again": (PLAIN, removed),
    "through a link": (LINK, through_link),
    "through a link, replaced by rename": (LINK, through_link_renamed),
    "link that leads elsewhere": (LINK, link_turned),
    "link to a link, written in place": (LINKS, through_link),
    "link to a link that leads elsewhere": (LINKS, inner_link_turned),
}


@pytest.mark.parametrize("way", WAYS)
def test_watch(host: FakeHost, way: str) -> None:
    """However the host's resolv.conf changes, containers have the new content, in the same file as before."""
    layout, change = WAYS[way]
    host.run("sh", "-ec", f"mkdir /run/resolver; cp /etc/resolv.conf /run/resolver/real.conf; {layout}")
    host.dnet("bulk-create", "--count", "3")
    paths = [conf(host, f"c-{number}") for number in (1, 2, 3)]
    inodes = [path.stat().st_ino for path in paths]
    watch = Watch(host)
    for count, server in enumerate((NEW, "198.51.100.55"), 3):
        change(host, f"nameserver {server}\n")
        watch.wait(count)
        assert all(server in path.read_text(encoding="ascii") for path in paths)
        assert servers(host, "c-2") == [server]
    assert [path.stat().st_ino for path in paths] == inodes
    watch.end()
    assert watch.said() == ["rewrote resolv.conf of 4 containers"] * 4


def test_watch_reaches_a_thousand(host: FakeHost) -> None:
    """A thousand containers have the new content soon after the host's has changed."""
    host.dnet("bulk-create", "--count", str(MANY))
    place = Path(host.inside(f"{host.run_dir}/etc"))
    watch = Watch(host)
    paths = [item / "resolv.conf" for item in place.iterdir()]
    assert len(paths) == MANY + 1
    renamed(host, f"nameserver {NEW}\n")

    def is_done() -> bool:
        while paths and NEW in paths[-1].read_text(encoding="ascii"):
            paths.pop()
        return not paths

    wait_until(is_done, f"all of {MANY} have it", PATIENCE_S)
    watch.wait(3)
    watch.end()
    assert watch.said()[-1] == f"rewrote resolv.conf of {MANY + 1} containers"


def test_running_program_sees_the_change(host: FakeHost) -> None:
    """A program that has been running in the container since before the change reads the new content."""
    host.dnet("create", "web")
    pipe = subprocess.PIPE
    script = "echo ready; read line; cat /etc/resolv.conf"
    process = host.start("ip", "netns", "exec", "web", "sh", "-c", script, stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    watch = Watch(host)
    renamed(host, f"nameserver {NEW}\n")
    watch.wait(3)
    watch.end()
    stdout, _ = process.communicate("\n", timeout=PATIENCE_S)
    assert f"nameserver {NEW}" in stdout.splitlines()


def test_watch_leaves_some_alone(host: FakeHost) -> None:
    """An edited file, and one made from --dns and --dns-search, are not written to; the others are."""
    for name, options in {"plain": [], "edited": [], "own": ["--dns", "203.0.113.1", "--dns-search", "."]}.items():
        host.dnet("create", *options, name)
    host.run("sh", "-c", f"echo options rotate >>{inspect(host, 'edited')['ResolvConfPath']}")
    plain, edited, own = (conf(host, name) for name in ("plain", "edited", "own"))
    before = [(path.read_text(encoding="ascii"), path.stat().st_mtime_ns) for path in (edited, own)]
    watch = Watch(host)
    in_place(host, f"nameserver {NEW}\n")
    watch.wait(3)
    watch.end()
    assert NEW in plain.read_text(encoding="ascii")
    assert watch.said()[-1] == "rewrote resolv.conf of 2 containers"
    assert [(path.read_text(encoding="ascii"), path.stat().st_mtime_ns) for path in (edited, own)] == before


def test_empty_moment_changes_nothing(host: FakeHost) -> None:
    """While the host's file is empty, or missing, nothing is written; what comes then is."""
    host.dnet("create", "web")
    path = conf(host, "web")
    watch = Watch(host)
    in_place(host, "")
    host.run("rm /etc/resolv.conf")
    in_place(host, "\n")
    in_place(host, f"nameserver {NEW}\n")
    wait_until(lambda: NEW in path.read_text(encoding="ascii"), "the new content", PATIENCE_S)
    watch.wait(3)
    watch.end()
    # Twice at the beginning, once for the new content.
    assert watch.said() == ["rewrote resolv.conf of 2 containers"] * 3


def test_watch_knows_systemd_when_it_comes(host: FakeHost) -> None:
    """When systemd-resolved starts after `dnet watch`, as when booting, containers get the servers behind its stub."""
    host.dnet("create", "web")
    path = conf(host, "web")
    watch = Watch(host)
    in_place(host, "nameserver 127.0.0.53\n")
    wait_until(lambda: "8.8.8.8" in path.read_text(encoding="ascii"), "the public ones", PATIENCE_S)
    script = "mkdir -p /run/systemd/resolve && cd /run/systemd/resolve && echo nameserver $0 >new && mv new resolv.conf"
    host.run("sh", "-c", script, NEW)
    wait_until(lambda: NEW in path.read_text(encoding="ascii"), "systemd's", PATIENCE_S)
    watch.end()


def test_watch_survives_deletions(host: FakeHost) -> None:
    """Containers that come and go while the host's file changes do not end the watching."""
    host.dnet("create", "stays")
    path = conf(host, "stays")
    watch = Watch(host)
    for number in range(5):
        host.dnet("bulk-create", "--count", "30")
        deleting = host.start_dnet("bulk-delete", "--prefix", "c")
        while deleting.poll() is None:
            in_place(host, f"nameserver 198.51.100.{100 + number}\n")
            in_place(host, f"nameserver 198.51.100.{200 + number}\n")
        assert deleting.returncode == 0
    in_place(host, f"nameserver {NEW}\n")
    wait_until(lambda: NEW in path.read_text(encoding="ascii"), "the last content", PATIENCE_S)
    watch.end()


def refresh(where: tuple[str, str]) -> int:
    """Call Engine.refresh_resolvers."""
    with dnet.open(*where) as engine:
        return engine.refresh_resolvers()


def test_refresh_once(host: FakeHost) -> None:
    """The library brings all containers up to date in one call, and says how many it has written."""
    host.dnet("bulk-create", "--count", "3")
    in_place(host, f"nameserver {NEW}\n")
    assert host.call(refresh, host.directories) == 3
    assert host.call(refresh, host.directories) == 0
    assert servers(host, "c-3") == [NEW]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_watch_ends_when_told(host: FakeHost, number: signal.Signals) -> None:
    """`dnet watch` ends at Ctrl-C and SIGTERM, with exit code 0 and without a word about it."""
    watch = Watch(host)
    watch.end(number)
    assert watch.said() == ["rewrote resolv.conf of 1 containers"] * 2


# Renaming


def names(host: FakeHost) -> list[str]:
    """Return the names in `ip netns`, and in /etc/netns, which have to be the same."""
    found = sorted(item["name"] for item in host.json("ip -j netns"))
    assert sorted(os.listdir(host.inside("/etc/netns"))) == found
    return found


def aliases(host: FakeHost) -> str:
    """Return the ifaliases of the host's interfaces."""
    return " ".join(link.get("ifalias", "") for link in host.json("ip -j link") if link["ifname"].startswith("veth"))


@pytest.mark.parametrize("kind", ["name", "id", "prefix"])
def test_rename(host: FakeHost, kind: str) -> None:
    """A renamed container has its new name in `ip netns`, /etc/netns, ifalias and ps, and everything else as before."""
    web = host.dnet("create", "--json", "web").json
    host.dnet("create", "db")
    address = web["NetworkSettings"]["IPAddress"]
    host.dnet("rename", {"name": "web", "id": web["Id"], "prefix": web["Id"][:12]}[kind], "front")
    assert names(host) == ["db", "front"]
    assert host.dnet("inspect", "front").json == [web | {"Name": "front"}]
    assert "front" in aliases(host)
    assert "web" not in aliases(host)
    assert read(host, "front", "hostname") == [web["Config"]["Hostname"]]
    assert host.can_ping(address)
    assert host.sandbox("front").can_ping("172.17.0.3")
    assert host.dnet("inspect", "web", code=3).stdout == ""


def test_old_name_is_free(host: FakeHost) -> None:
    """After renaming, another container can have the old name; each is removed with what is its own."""
    host.dnet("create", "db")
    before = host.snapshot()
    host.dnet("create", "web")
    host.dnet("rename", "web", "front")
    host.dnet("create", "web")
    assert names(host) == ["db", "front", "web"]
    assert inspect(host, "web")["Id"] != inspect(host, "front")["Id"]
    host.dnet("rm", "front")
    assert names(host) == ["db", "web"]
    assert host.sandbox("web").can_ping("172.17.0.1")
    host.dnet("rm", "web")
    assert host.changes(before) == ""


def test_rename_there_and_back(host: FakeHost) -> None:
    """Renaming a container and renaming it back leaves everything as it was, without a network too."""
    host.dnet("create", "web")
    host.dnet("create", "--network", "none", "alone")
    before = host.snapshot()
    for name in ("web", "alone"):
        host.dnet("rename", name, "other")
        host.dnet("rename", "other", name)
    assert host.changes(before) == ""


@pytest.mark.parametrize("name", ["db", "web", "foreign", "a b", "-x", ""])
def test_rename_that_cannot_be(host: FakeHost, name: str) -> None:
    """A name that somebody has is a conflict, one that cannot be is invalid, and nothing changes."""
    for own in ("web", "db"):
        host.dnet("create", own)
    host.run("ip netns add foreign")
    before = host.snapshot()
    code = 4 if name in {"db", "web", "foreign"} else 2
    refused = host.dnet("rename", "--", "web", name, code=code)
    assert (name or "''") in refused.stderr
    assert host.changes(before) == ""


def test_rename_of_nobody(host: FakeHost) -> None:
    """Renaming what does not exist exits 3, and nothing changes."""
    host.dnet("create", "web")
    before = host.snapshot()
    for reference in ("nobody", "", "f" * 64):
        host.dnet("rename", "--", reference, "front", code=3)
    assert host.changes(before) == ""


def test_renaming_while_a_program_runs(host: FakeHost) -> None:
    """A container is renamed while a program runs in it, and the program goes on in the same namespace."""
    host.dnet("create", "web")
    pipe = subprocess.PIPE
    with host.start("ip", "netns", "exec", "web", "cat", stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("in\n")
        process.stdin.flush()
        assert process.stdout.readline() == "in\n"
        host.dnet("rename", "web", "front")
        assert host.run("ip", "netns", "pids", "front").stdout.split() == [str(process.pid)]
        host.dnet("rm", "front")
        assert host.json("ip -j netns") == []
        process.stdin.close()
        assert process.wait(timeout=PATIENCE_S) == 0
