"""Several networks of a container: interfaces, the one default route, ports and files, and what moves them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import dnet
from tests.support.dnet_commands import created, network, run
from tests.support.hosts import FakeHost, Namespace, Neighbour
from tests.support.nft_listing import elements
from tests.support.state_diff import (
    add_line,
    addresses_by_device,
    check_refusals,
    default_routes,
    differences,
    hosts,
    inside,
    inspect,
    resolved,
    whole,
)
from tests.support.traffic import HOST, PEER, reach

# name: subnets, options. Docker prefers networks of both families, then the name that comes first.
NETWORKS: dict[str, dict[str, Any]] = {
    "blue": {"subnet": "10.1.0.0/24"},
    "red": {"subnet": "10.2.0.0/24"},
    "apart": {"subnet": "10.3.0.0/24", "subnet6": "fd00:3::/64", "icc": False},
    "inner": {"subnet": "10.4.0.0/24", "subnet6": "fd00:4::/64", "internal": True},
    "six": {"subnet": "10.6.0.0/24", "subnet6": "fd00:6::/64"},
}


@pytest.fixture
def host(host: FakeHost, lan: Neighbour) -> FakeHost:
    """Return a host with the LAN and the networks above."""
    assert lan
    host.call(make_networks, host.directories)
    return host


IFNAME = "driver-opt=com.docker.network.endpoint.ifname"


def make_networks(directories: tuple[str, str]) -> None:
    """Create the networks."""
    with dnet.open(*directories) as engine:
        for name, wish in NETWORKS.items():
            engine.create_network(name, **wish)


def gateway(name: str, family: int) -> str:
    """Return a network's gateway: the first address of its subnet."""
    subnet: str = NETWORKS[name]["subnet" if family == 4 else "subnet6"]
    return subnet.replace("0/24", "1").replace("/64", "1")


def check(host: FakeHost, name: str, *order: str) -> None:
    """Check that `inspect`, the interfaces and the default routes of a container agree.

    `order` are networks in the order in which Docker would take the default route of each family.
    """
    space = host.sandbox(name)
    shown = inspect(host, name)["NetworkSettings"]["Networks"]
    links = {link["ifname"]: link for link in space.json("ip -j address") if link["ifname"] != "lo"}
    by_address = {info["local"]: link for link in links.values() for info in link["addr_info"]}
    assert len(shown) == len(links)
    able: dict[int, list[tuple[str, str]]] = {4: [], 6: []}
    for net in order:
        document = shown[net]
        link = by_address[document["IPAddress"]]
        assert link["address"] == document["MacAddress"]
        assert [link["ifname"], document["IPAddress"]] == [
            by_address[document["GlobalIPv6Address"] or document["IPAddress"]]["ifname"],
            document["IPAddress"],
        ]
        [port] = host.json("ip", "-j", "link", "show", document["HostInterface"])
        assert port["ifindex"] == link["link_index"]
        assert space.can_ping(gateway(net, 4))
        for family in (4, 6) if document["GlobalIPv6Address"] else (4,):
            if not NETWORKS[net].get("internal"):
                able[family].append((gateway(net, family), link["ifname"]))
    assert set(shown) == set(order)
    assert default_routes(space) == {family: ways[0] for family, ways in able.items() if ways}


# Creating


CHOICES = {
    "by name": (["red", "blue"], ["blue", "red"]),
    "both families first": (["blue", "six"], ["six", "blue"]),
    "priority before all": (["six", "name=red,gw-priority=1", "blue"], ["red", "six", "blue"]),
    "priority below zero": (["name=blue,gw-priority=-1", "red"], ["red", "blue"]),
    "never an internal one": (["name=inner,gw-priority=9", "blue"], ["inner", "blue"]),
    "internal ones alone": (["inner"], ["inner"]),
    "where none may talk": (["blue", "apart", "six"], ["apart", "six", "blue"]),
}


def test_default_route(host: FakeHost, lan: Neighbour) -> None:
    """Interfaces come in the order given, with one default route per family, chosen as Docker chooses it; it works."""
    for number, (given, order) in enumerate(CHOICES.values()):
        name = f"c-{number}"
        run(host, "create", *(f"--network={text}" for text in given), name)
        check(host, name, *order)
        space = host.sandbox(name)
        names = [text.partition(",")[0].removeprefix("name=") for text in given]
        firsts = [NETWORKS[net]["subnet"].removesuffix("0/24") for net in names]
        assert [
            found[0].startswith(first) for found, first in zip(addresses_by_device(space).values(), firsts, strict=True)
        ]
        assert list(addresses_by_device(space)) == [f"eth{position}" for position in range(len(given))]
        assert space.can_ping(PEER[4]) == bool(default_routes(space))
    assert lan


def test_long_form(host: FakeHost) -> None:
    """Docker's long form of --network sets address, MAC, aliases, priority and the interface's name."""
    blue = "name=blue,ip=10.1.0.77,mac-address=02:00:00:00:00:77,alias=front,alias=w.w,gw-priority=-3"
    six = f"name=six,ip6=fd00:6::66,{IFNAME}=wan"
    document = created(host, f"--network={blue}", f"--network={six}", "--network=red", "web")
    web = host.sandbox("web")
    assert set(addresses_by_device(web)) == {"eth0", "wan", "eth1"}
    assert addresses_by_device(web)["eth0"] == ["10.1.0.77/24"]
    assert "fd00:6::66/64" in addresses_by_device(web)["wan"]
    [link] = web.json("ip -j link show eth0")
    assert link["address"] == "02:00:00:00:00:77"
    shown = document["NetworkSettings"]["Networks"]
    assert {name: item["Aliases"] for name, item in shown.items()} == {"blue": ["front", "w.w"], "red": [], "six": []}
    check(host, "web", "six", "red", "blue")
    run(host, "rm", "web")
    assert [name for name in run(host, "ps", "-q").stdout.split() if name] == []


def test_names_of_the_container(host: FakeHost) -> None:
    """A container finds itself at each of its addresses, and its neighbours on each network are reached."""
    run(host, "create", "--network=six", "--network=blue", "-h", "front", "web")
    assert resolved(host, "web", "front") == ["10.1.0.2", "10.6.0.2", "fd00:6::2"]
    for net, target in (("six", "fd00:6::2"), ("blue", "10.1.0.2")):
        run(host, "create", "--network", net, f"on-{net}")
        with host.sandbox("web").serve(80, address="::"):
            assert reach(host.sandbox(f"on-{net}"), target, 80)


def test_refused(host: FakeHost) -> None:
    """What cannot be is refused with its exit code, and nothing is touched."""
    run(host, "create", "--network=blue", "--network=red", "web")
    run(host, "create", "--network=six", "db")
    commands = [
        (2, "given twice", "create --network blue --network name=blue,ip=10.1.0.9 x"),
        (2, "joins a network once", f"create --network blue --network {network_id(host, 'blue')} x"),
        (3, "nowhere", "create --network blue --network nowhere x"),
        (2, "no field 'color'", "create --network name=blue,color=red x"),
        (2, "names no network", "create --network ip=10.1.0.9 x"),
        (4, "in use by web", "create --network red --network name=blue,ip=10.1.0.2 x"),
        (2, "needs a network with IPv6", "create --network name=blue,ip6=fd00:1::9 x"),
        (2, "no aliases", "create --network-alias x x"),
        (2, "same name", f"create --network name=blue,{IFNAME}=x --network name=red,{IFNAME}=x x"),
        (4, "web is on network blue already", "network connect blue web"),
        (4, "is on network blue already", "network connect blue db web"),
        (3, "nobody", "network connect red db nobody"),
        (3, "nowhere", "network connect nowhere db"),
        (4, "in use by web", "network connect --ip 10.2.0.2 red db"),
        (2, "10.9.0.9", "network connect --ip 10.9.0.9 red db"),
        (2, "needs a network with IPv6", "network connect --ip6 fd00:2::9 red db"),
        (4, "interface eth0", "network connect -i eth0 red db"),
        (2, "interface name", "network connect -i a/b red db"),
        (2, "same address", "network connect --ip 10.6.0.9 six db web"),
        (2, "NAME", "network connect red"),
        (3, "not on network six", "network disconnect six web"),
        (3, "nobody", "network disconnect red nobody"),
        (4, "web", "network rm red"),
    ]
    check_refusals(host, commands, "web", "db")


def network_id(host: FakeHost, name: str) -> str:
    """Return the id of a network."""
    return str(run(host, "network", "inspect", name).json[0]["Id"])


# Connecting and disconnecting


def preferred(*names: str) -> list[str]:
    """Return networks in the order in which Docker takes the default route: both families first, then the name."""
    return sorted(names, key=lambda name: ("subnet6" not in NETWORKS[name], name))


def target(host: FakeHost) -> str:
    """Return the container's address to which port 8080/tcp of the host leads."""
    [found] = [value[0] for key, value in elements(host, "publish4") if key == ("tcp", "8080")]
    return found


STEPS = ("+six", "+blue", "-six", "+inner", "-blue", "+apart", "-red", "+red", "-apart", "-inner")


def test_changes(host: FakeHost, lan: Neighbour) -> None:
    """After each change all agrees, and published ports have followed the default route, TCP and UDP."""
    run(host, "create", "--network=red", "-p", "8080:80", "-p", "5300:53/udp", "-h", "front", "web")
    web = host.sandbox("web")
    members = ["red"]
    with web.serve(80), web.serve(53, "udp"):
        for step in STEPS:
            verb, name = {"+": "connect", "-": "disconnect"}[step[0]], step[1:]
            assert run(host, "network", verb, name, "web").stdout == ""
            members = [*members, name] if verb == "connect" else [net for net in members if net != name]
            order = preferred(*members)
            check(host, "web", *order)
            outlet = next(net for net in order if net != "inner")
            assert target(host) == inspect(host, "web")["NetworkSettings"]["Networks"][outlet]["IPAddress"]
            assert reach(lan, HOST[4], 8080), step
            assert reach(lan, HOST[4], 5300, "udp"), step
            listed = {address.partition("/")[0] for found in addresses_by_device(web).values() for address in found}
            assert set(resolved(host, "web", "front")) == listed


def test_leaving_is_the_reverse_of_joining(host: FakeHost) -> None:
    """A container that joins networks and leaves them again is as it was, and so is the host."""
    run(host, "create", "--network=red", "-p", "8080:80", "web")
    # A bridge remembers its first port ever, by a multicast route and a larger tso_max_size.
    run(host, "create", *(f"--network={name}" for name in NETWORKS), "first")
    before = whole(host, "web", "first")
    for names in (["six"], ["inner", "blue"], ["apart", "six"]):
        for name in names:
            run(host, "network", "connect", name, "web")
        assert differences(host, before, within_s=0) != ""
        for name in names:
            run(host, "network", "disconnect", name, "web")
        assert differences(host, before) == ""


def test_families_go_their_own_ways(host: FakeHost, lan: Neighbour) -> None:
    """Each family's ports follow its own default route; without an address of a family its ports wait for one."""
    run(host, "create", "--network=six", "-p", "8080:80", "web")
    web = host.sandbox("web")
    with web.serve(80, address="::"):
        run(host, "network", "connect", "--gw-priority=1", "red", "web")
        assert default_routes(web) == {4: ("10.2.0.1", "eth1"), 6: ("fd00:6::1", "eth0")}
        assert (target(host), elements(host, "publish6")) == ("10.2.0.2", [(("tcp", "8080"), ("fd00:6::2", "80"))])
        assert all(reach(lan, HOST[family], 8080) for family in (4, 6))
        run(host, "network", "disconnect", "six", "web")
        assert elements(host, "publish6") == []
        assert reach(lan, HOST[4], 8080)
        assert not reach(lan, HOST[6], 8080, timeout_s=0.3)
        assert "[::]:8080" in run(host, "port", "web").stdout
        run(host, "network", "connect", "six", "web")
        assert all(reach(lan, HOST[family], 8080) for family in (4, 6))


_ECHO = """
import socket, sys
listener = socket.create_server(("", 7))
print(flush=True)
connection, _ = listener.accept()
while data := connection.recv(1000):
    connection.sendall(data)
"""
_CLIENT = """
import socket, sys
with socket.create_connection((sys.argv[1], 7), timeout=5) as connection:
    for line in sys.stdin:
        connection.sendall(line.encode())
        print(connection.recv(1000).decode(), end="", flush=True)
"""


def talking(server: Namespace, client: Namespace, address: str) -> Iterator[str]:
    """Yield what comes back over one connection that stays open, line by line."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    echo = server.start(sys.executable, "-c", _ECHO, stdout=subprocess.PIPE)
    assert echo.stdout is not None
    assert echo.stdout.readline() == "\n"
    asker = client.start(sys.executable, "-c", _CLIENT, address, **pipes)
    assert asker.stdin is not None
    assert asker.stdout is not None
    while True:
        asker.stdin.write("hello\n")
        asker.stdin.flush()
        yield asker.stdout.readline()


def test_open_connections_go_on(host: FakeHost) -> None:
    """A connection over one network goes on while others come and go and the default route moves."""
    run(host, "create", "--network=red", "db")
    run(host, "create", "--network=red", "web")
    web, db = host.sandbox("web"), host.sandbox("db")
    lines = talking(db, web, "10.2.0.2")
    assert next(lines) == "hello\n"
    for verb, net, name in (("connect", "six", "web"), ("connect", "blue", "db"), ("disconnect", "six", "web")):
        run(host, "network", verb, net, name)
        assert next(lines) == "hello\n"
    run(host, "network", "disconnect", "red", "web")
    assert not web.can_ping("10.2.0.2")


def test_hosts_follow(host: FakeHost) -> None:
    """The hosts file has the container's names at its addresses as they come and go, and keeps others' lines."""
    run(
        host, "create", "--network=red", "-h", "front", "--domainname", "example.org", "--add-host", "x:10.9.9.9", "web"
    )
    before = hosts(host, "web")
    assert before == ["10.9.9.9\tx", "10.2.0.2\tfront.example.org front"]
    add_line(host, "web", "192.0.2.7 mine")
    inode = host.run("stat -L -c %i /etc/netns/web/hosts").stdout
    run(host, "network", "connect", "six", "web")
    assert hosts(host, "web") == [
        *before,
        "192.0.2.7 mine",
        "10.6.0.2\tfront.example.org front",
        "fd00:6::2\tfront.example.org front",
    ]
    run(host, "network", "disconnect", "red", "web")
    assert resolved(host, "web", "front") == ["10.6.0.2", "fd00:6::2"]
    run(host, "network", "disconnect", "six", "web")
    assert hosts(host, "web") == ["10.9.9.9\tx", "192.0.2.7 mine"]
    assert host.run("stat -L -c %i /etc/netns/web/hosts").stdout == inode


def test_resolver_follows(host: FakeHost) -> None:
    """IPv6 name servers of the host's are in resolv.conf while the container has IPv6; an edited file is left alone."""
    host.run("sh", "-c", "echo 'nameserver 2001:db8::53' >>/etc/resolv.conf")
    for name in ("web", "edited"):
        run(host, "create", "--network=red", name)
    host.run("sh", "-c", "echo 'nameserver 192.0.2.99' >>/etc/netns/edited/resolv.conf")
    for verb, is_there in (("connect", True), ("disconnect", False)):
        run(host, "network", verb, "six", "web")
        run(host, "network", verb, "six", "edited")
        assert ("nameserver 2001:db8::53" in inside(host, "web", "cat", "/etc/resolv.conf")) == is_there
        text = inside(host, "edited", "cat", "/etc/resolv.conf")
        assert text.endswith("nameserver 192.0.2.99\n")
        assert "2001:db8::53" not in text


def test_last_network(host: FakeHost, lan: Neighbour) -> None:
    """A container that has left its last network has only its loopback; it joins one and has its ports again."""
    run(host, "create", "--network=red", "-p", "8080:80", "web")
    web = host.sandbox("web")
    run(host, "network", "disconnect", "red", "web")
    assert addresses_by_device(web) == {}
    assert web.can_ping("127.0.0.1")
    assert elements(host, "publish4") == []
    run(host, "network", "rm", "red")
    assert inspect(host, "web")["NetworkSettings"]["Networks"] == {}
    check_refusals(
        host, [(4, "port 8080", "create -p 8080:80 other"), (2, "no network together", "create --link web x")], "web"
    )
    run(host, "network", "connect", "six", "web")
    check(host, "web", "six")
    with web.serve(80):
        assert reach(lan, HOST[4], 8080)
    run(host, "rm", "web")
    assert network(host, "red", "--subnet=10.2.0.0/24")


def test_many_at_once(host: FakeHost) -> None:
    """Fifty containers join a network in one command, or none of them does, when one is on it already."""
    run(host, "create", "--network=red", "--network=blue", "first")
    before = whole(host, "first")
    run(host, "bulk-create", "--count=50", "--network=red")
    names = [f"c-{number}" for number in range(1, 51)]
    run(host, "network", "connect", "blue", "c-33")
    check_refusals(
        host, [(4, "c-33 is on network blue already", f"network connect blue {' '.join(names)}")], "c-1", "c-33"
    )
    run(host, "network", "disconnect", "blue", "c-33")
    done = run(host, "network", "connect", "--json", "blue", *names)
    assert done.json == {"connected": names}
    members = run(host, "network", "inspect", "blue").json[0]["Containers"].values()
    found = [item["IPv4Address"].partition("/")[0] for item in members]
    assert len(set(found)) == 51
    assert host.silent(found) == []
    assert default_routes(host.sandbox("c-50")) == {4: ("10.1.0.1", "eth1")}
    run(host, "bulk-delete", "--prefix=c")
    assert differences(host, before) == ""
