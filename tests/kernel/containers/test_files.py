"""A container's hosts, hostname and resolv.conf, as programs in its namespace read them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.etc_files import FILES, NEW, SERVER, directories, read, servers
from tests.support.hosts import FakeHost
from tests.support.state_diff import inside, inspect, resolved

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
        assert resolved(host, "web", name) == ["10.1.0.2", "fd00:1::2"]
    assert "127.0.0.1" in resolved(host, "web", "localhost")
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
    assert resolved(host, "web", "db") == ["10.9.0.5", "fd00:9::5"]
    gateways = resolved(host, "web", "gate")
    assert inspect(host, "web")["NetworkSettings"]["Gateway"] in gateways
    assert [address for address in gateways if not host.sandbox("web").can_ping(address)] == []
    assert resolved(host, "web", "cache") == []
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
    assert resolved(host, "a", "db") == ["10.9.0.5"]
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
