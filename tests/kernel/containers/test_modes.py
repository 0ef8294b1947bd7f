"""The modes host, none and container:NAME: whose namespace and files a container has, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

import dnet
from dnet.engine import Engine
from tests.support.dnet_commands import created, run
from tests.support.faults import FaultyKernel, faulty_files
from tests.support.hosts import FakeHost, Neighbour
from tests.support.nft_listing import published
from tests.support.state_diff import (
    addresses_by_device,
    check_refusals,
    differences,
    glance,
    hosts,
    inside,
    inspect,
    is_as_before,
    listed,
    resolved,
    whole,
)
from tests.support.traffic import HOST, reach

WARNING = "dnet: published ports are discarded in mode "


def inode(host: FakeHost, name: str) -> str:
    """Return the network namespace of a program that `ip netns exec` runs."""
    return inside(host, name, "readlink", "/proc/self/ns/net").strip()


def prepared(host: FakeHost) -> FakeHost:
    """Return the host, on which dnet's directories and database exist."""
    run(host, "network", "prune")
    return host


# Host


def test_host(host: FakeHost, lan: Neighbour) -> None:
    """In mode host a container is in the host's namespace: its interfaces, its ports; and is gone without a trace."""
    before = whole(prepared(host))
    run(host, "create", "--network", "host", "web")
    assert inode(host, "web") == host.run("readlink /proc/self/ns/net").stdout.strip()
    web = host.sandbox("web")
    assert [link["ifname"] for link in web.json("ip -j link")] == [link["ifname"] for link in host.json("ip -j link")]
    with web.serve(80):
        assert reach(lan, HOST[4], 80)
        assert reach(host, "127.0.0.1", 80)
    with host.serve(81, address="127.0.0.1"):
        assert reach(web, "127.0.0.1", 81)
    run(host, "rm", "web")
    assert differences(host, before) == ""


def test_files_in_mode_host(host: FakeHost) -> None:
    """In mode host a container has copies of the host's hosts, resolv.conf and host name, and what is added to them."""
    host.run("sh", "-c", "echo '192.0.2.9 printer' >>/etc/hosts; echo 'nameserver 127.0.0.53' >/etc/resolv.conf")
    run(host, "create", "--network", "host", "--add-host", "db:10.0.0.5", "--add-host", "me:host-gateway", "web")
    run(host, "create", "--network", "host", "-h", "front", "--dns", "192.0.2.53", "other")
    text = host.run("cat /etc/hosts").stdout
    assert inside(host, "web", "cat", "/etc/hosts") == f"{text}10.0.0.5\tdb\n127.0.0.1\tme\n"
    assert resolved(host, "web", "printer") == ["192.0.2.9"]
    assert inside(host, "web", "cat", "/etc/hostname") == host.run("uname -n").stdout
    assert "nameserver 127.0.0.53" in inside(host, "web", "cat", "/etc/resolv.conf").splitlines()
    assert inside(host, "other", "cat", "/etc/hostname") == "front\n"
    assert "nameserver 192.0.2.53" in inside(host, "other", "cat", "/etc/resolv.conf").splitlines()


@pytest.mark.parametrize("mode", ["host", "none"])
def test_ports_are_discarded(host: FakeHost, mode: str) -> None:
    """In modes host and none -p and -P warn and publish nothing; the ports stay exposed."""
    run(host, "create", "first")
    for name, options in (("web", ["-p", "8080:80"]), ("other", ["-P", "--expose", "81"])):
        done = run(host, "create", "--network", mode, *options, name)
        assert (done.stdout, done.stderr) == (f"{name}\n", f"{WARNING}{mode}\n")
        assert run(host, "port", name).stdout == ""
    assert published(host) == []
    assert [row["kind"] for row in run(host, "nat", "show", "--json").json] == ["masquerade"]
    assert inspect(host, "web")["NetworkSettings"]["Ports"] == {"80/tcp": None}
    assert listed(host)["web"]["ports"] == []
    quiet = run(host, "bulk-create", "--count", "3", "--prefix", "q", "--network", mode, "-p", "80", "--json")
    assert quiet.json["created"] == 3
    assert quiet.stderr == f"{WARNING}{mode}\n"


# None


def test_none(host: FakeHost) -> None:
    """In mode none there is the loopback, which works, and nothing else; and files as of any container."""
    before = whole(prepared(host))
    run(host, "create", "--network", "none", "-h", "front", "--dns", "192.0.2.53", "web")
    web = host.sandbox("web")
    assert [(link["ifname"], "UP" in link["flags"]) for link in web.json("ip -j link")] == [("lo", True)]
    with web.serve(80, address="::"):
        assert reach(web, "127.0.0.1", 80)
        assert reach(web, "::1", 80)
    assert web.json("ip -j route") == []
    assert hosts(host, "web") == []
    assert inside(host, "web", "cat", "/etc/hostname") == "front\n"
    run(host, "rm", "web")
    assert differences(host, before) == ""


@pytest.mark.parametrize("mode", ["host", "none"])
def test_shown_without_a_network(host: FakeHost, mode: str) -> None:
    """`inspect` and `ps` show the mode, and no addresses."""
    run(host, "create", "--network", mode, "web")
    document = inspect(host, "web")
    settings = document["NetworkSettings"]
    assert document["HostConfig"]["NetworkMode"] == mode
    assert (settings["Networks"], settings["IPAddress"], settings["Gateway"], settings["MacAddress"]) == (
        {},
        "",
        "",
        "",
    )
    assert len(same(host, settings["SandboxKey"], "/run/netns/web")) == 1
    entry = listed(host)["web"]
    assert (entry["mode"], entry["networks"], entry["ips"], entry["status"]) == (mode, [], [], "created")
    assert run(host, "ps").stdout.splitlines()[1].split() == [document["Id"][:12], "web", mode, "created"]


# Container


def test_sharer(host: FakeHost, lan: Neighbour) -> None:
    """A sharer is in the other's namespace: the same addresses and ports; the two talk over lo."""
    made = created(host, "-p", "8080:80", "-h", "front", "--add-host", "db:10.0.0.5", "web")
    before = whole(host, "web")
    run(host, "create", "--network", "container:web", "side")
    web, side = host.sandbox("web"), host.sandbox("side")
    assert inode(host, "side") == inode(host, "web") != host.run("readlink /proc/self/ns/net").stdout.strip()
    assert (
        addresses_by_device(side)
        == addresses_by_device(web)
        == {"eth0": [f"{made['NetworkSettings']['IPAddress']}/16"]}
    )
    for server, asker in ((web, side), (side, web)):
        with server.serve(81, address="127.0.0.1"):
            assert reach(asker, "127.0.0.1", 81) == "127.0.0.1"
    with side.serve(80):
        assert reach(lan, HOST[4], 8080)
    run(host, "network", "create", "--subnet", "10.1.0.0/24", "blue")
    run(host, "network", "connect", "blue", "web")
    assert list(addresses_by_device(side)) == ["eth0", "eth1"]
    run(host, "network", "disconnect", "blue", "web")
    run(host, "network", "rm", "blue")
    run(host, "rm", "side")
    assert differences(host, before) == ""


def test_files_of_a_sharer(host: FakeHost) -> None:
    """A sharer has the very files of the other, so that what either writes the other reads."""
    run(host, "create", "-h", "front", "--domainname", "example.org", "--dns", "192.0.2.53", "web")
    run(host, "create", "--network", "container:web", "side")
    for file in ("hosts", "hostname", "resolv.conf"):
        assert len(same(host, *(f"/etc/netns/{name}/{file}" for name in ("web", "side")))) == 1
    host.run("sh", "-c", "echo '10.0.0.5 db' >>/etc/netns/side/hosts")
    assert resolved(host, "web", "db") == ["10.0.0.5"]
    assert inside(host, "side", "cat", "/etc/hostname") == "front\n"


def same(host: FakeHost, *paths: str) -> set[str]:
    """Return the files that paths lead to, by device and inode."""
    return set(host.run("stat", "-L", "-c", "%d:%i", *paths).stdout.split())


def test_sharers_as_shown(host: FakeHost) -> None:
    """`inspect` and `ps` of a sharer show whose network it has, by id and by name; the name may change."""
    web = created(host, "web")
    side = created(host, "--network", f"container:{web['Id'][:9]}", "side")
    last = created(host, "--network", "container:side", "last")
    for document in (side, last):
        assert document["HostConfig"]["NetworkMode"] == f"container:{web['Id']}"
        assert document["Config"]["Hostname"] == web["Config"]["Hostname"]
        for key in ("HostsPath", "HostnamePath", "ResolvConfPath"):
            assert document[key] == web[key]
        assert document["NetworkSettings"]["SandboxKey"] == web["NetworkSettings"]["SandboxKey"]
    assert {name: item["mode"] for name, item in listed(host).items()} == {
        "web": "bridge",
        "side": "container:web",
        "last": "container:web",
    }
    run(host, "rename", "web", "front")
    run(host, "rename", "side", "beside")
    assert [line.split()[1:3] for line in run(host, "ps").stdout.splitlines()[1:]] == [
        ["front", "bridge"],
        ["beside", "container:front"],
        ["last", "container:front"],
    ]
    assert inode(host, "beside") == inode(host, "front") == inode(host, "last")


@pytest.mark.parametrize("mode", ["host", "none"])
def test_sharer_of_one_without_a_network(host: FakeHost, mode: str) -> None:
    """A container of mode host or none can be shared as well."""
    before = whole(prepared(host))
    run(host, "create", "--network", mode, "web")
    run(host, "create", "--network", "container:web", "side")
    assert inode(host, "side") == inode(host, "web")
    assert inside(host, "side", "cat", "/etc/hosts") == inside(host, "web", "cat", "/etc/hosts")
    run(host, "rm", "side", "web")
    assert differences(host, before) == ""


def test_removing_what_is_shared(host: FakeHost) -> None:
    """What others share is not removed before them, unless together with them or by force; then nothing is left."""
    run(host, "create", "first")
    before = whole(host, "first")

    def create() -> None:
        run(host, "create", "web")
        for name in ("side", "last"):
            run(host, "create", "--network", "container:web", name)

    create()
    check_refusals(
        host, [(4, "last, side", "rm web"), (4, "last", "rm web side"), (4, "side", "bulk-delete web")], "first", "web"
    )
    run(host, "rm", "web", "last", "side")
    assert differences(host, before) == ""
    create()
    run(host, "rm", "last")
    run(host, "rm", "side")
    run(host, "bulk-delete", "web")
    assert differences(host, before) == ""


def test_removing_what_is_shared_by_force(host: FakeHost) -> None:
    """By force the first goes and the others stay without a network; removed in their turn they leave nothing."""
    run(host, "create", "first")
    before = whole(host, "first")
    run(host, "create", "web")
    for name in ("side", "last"):
        run(host, "create", "--network", "container:web", name)
    run(host, "rm", "-f", "web")
    assert set(listed(host)) == {"first", "side", "last"}
    check_refusals(host, [(3, "no container", "create --network container:side more")], "first")
    run(host, "rm", "side")
    run(host, "create", "web")
    run(host, "rm", "last", "web")
    assert differences(host, before) == ""


OF_THE_OTHER = ("-p 80", "-P", "--expose 80", "-h front", "--domainname example.org", "--dns 192.0.2.53")
OF_THE_OTHER += ("--dns-search example.org", "--dns-option rotate", "--add-host db:10.0.0.5", "--link first")
OF_AN_ENDPOINT = (
    "--ip 172.17.0.9",
    "--ip6 fd00::9",
    "--mac-address 02:00:00:00:00:09",
    "--network-alias x",
    "--mtu 1400",
)


def test_refused_options(host: FakeHost) -> None:
    """What makes no sense in a mode is refused with exit 2, by the names of option and mode; nothing is touched."""
    run(host, "create", "first")
    run(host, "create", "--network", "container:first", "side")
    run(host, "create", "--network", "host", "hosted")
    flags = {"-P": "-p", "-h": "--hostname", "--domainname": "--hostname", "--ip6": "--ip"}
    flags |= {"--dns-search": "--dns", "--dns-option": "--dns"}
    commands = []
    for mode, options in (
        ("container:first", OF_THE_OTHER + OF_AN_ENDPOINT),
        ("container:side", OF_THE_OTHER),
        ("host", ("--link first", *OF_AN_ENDPOINT)),
        ("none", ("--link first", *OF_AN_ENDPOINT)),
    ):
        for option in options:
            flag = option.split()[0]
            words = f"{flags.get(flag, flag)} and the network mode {mode}"
            commands.append((2, words, f"create --network {mode} {option} web"))
    commands += [(2, "beside others", f"create --network {mode} --network bridge web") for mode in ("host", "none")]
    commands += [
        (2, "beside others", "create --network bridge --network container:first web"),
        (2, "container name", "create --network container: web"),
        (3, "nobody", "create --network container:nobody web"),
        (3, "nobody", "bulk-create --count 3 --network container:nobody"),
        (4, "side", "create --network container:first side"),
        (2, "another container's network", "network connect bridge side"),
        (2, "the host's network", "network connect bridge hosted"),
        (3, "not on network", "network disconnect bridge side"),
        (3, "not on network", "network disconnect bridge hosted"),
    ]
    check_refusals(host, commands, "first", "side")


@pytest.mark.parametrize("place", ["/run/netns", "/etc/netns"])
def test_taken_names(host: FakeHost, place: str) -> None:
    """A name that is somebody else's in one of the places where one looks for it is a conflict, and stays theirs."""
    run(host, "create", "first")
    host.run(f"mkdir -p {place}/web")
    check_refusals(
        host,
        [(4, f"{place}/web", f"create --network {mode} web") for mode in ("host", "none", "container:first")],
        "first",
    )


def create_with_fault(directories: tuple[str, str], mode: str, fault: dict[str, int]) -> str:
    """Create a container of a mode with a fault; return the error's sentence, or nothing when there was none."""
    kernel = FaultyKernel(print, fault.get("kernel", -1))
    with Engine(*directories, print, kernel) as engine, faulty_files(fault.get("files", -1)):
        try:
            engine.create("web", network=mode)
        except dnet.DnetError as error:
            return str(error)
    return ""


@pytest.mark.parametrize("mode", ["host", "none", "container:first"])
def test_failures(host: FakeHost, mode: str) -> None:
    """Whichever object of a container of a mode is refused, nothing of it is left."""
    run(host, "create", "first")
    before, seen = whole(host, "first"), glance(host, "first")
    counts: dict[str, Any] = {}
    for backend in ("files", "kernel"):
        for index in range(20):
            if not host.call(create_with_fault, host.directories, mode, {backend: index}):
                run(host, "rm", "web")
                break
            assert is_as_before(host, seen), (backend, index, differences(host, before))
        counts[backend] = index
    assert counts == {"files": 2 if mode == "container:first" else 5, "kernel": {"host": 1, "none": 2}.get(mode, 0)}
    assert differences(host, before) == ""
