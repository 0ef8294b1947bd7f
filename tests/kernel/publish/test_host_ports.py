"""Which host port a container gets, and who holds one already: containers, and processes that listen on the host."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support.dnet_commands import created, host_port, network, ports_of, run, settled_snapshot
from tests.support.hosts import FakeHost, Neighbour
from tests.support.nft_listing import published
from tests.support.traffic import HOST, PEER, listening, set_number

RANGE = "net/ipv4/ip_local_port_range"
RESERVED = "net/ipv4/ip_local_reserved_ports"


def automatic(host: FakeHost, name: str, *options: str) -> int:
    """Create a container with port 80 published on an automatic port, and return that."""
    return host_port(created(host, "-p", "80", *options, name))


def test_automatic_ports_come_from_the_hosts_range(host: FakeHost) -> None:
    """Automatic ports are those of net.ipv4.ip_local_port_range, in order; when they are used up, that is said."""
    set_number(host, RANGE, "40000 40002")
    assert [automatic(host, name) for name in "abc"] == [40000, 40001, 40002]
    before = settled_snapshot(host)
    refused = run(host, "create", "-p", "80", "d", code=5)
    assert "net.ipv4.ip_local_port_range" in refused.stderr
    assert host.changes(before) == ""
    run(host, "rm", "b")
    assert automatic(host, "d") == 40001


def test_automatic_ports_do_not_come_back_at_once(host: FakeHost) -> None:
    """The next automatic port follows the last one, although an earlier one is free again, as with Docker."""
    assert automatic(host, "a") == 32768
    run(host, "rm", "a")
    assert automatic(host, "a") == 32769


def test_reserved_ports_are_skipped(host: FakeHost) -> None:
    """Ports of net.ipv4.ip_local_reserved_ports are not chosen; asked for by number they are given."""
    set_number(host, RANGE, "40000 40009")
    set_number(host, RESERVED, "40000-40002,40004")
    assert [automatic(host, name) for name in "ab"] == [40003, 40005]
    run(host, "create", "-p", "40000:80", "c")
    assert ports_of(host, "c") == ["80/tcp -> 0.0.0.0:40000"]


def test_ports_of_containers_are_skipped(host: FakeHost) -> None:
    """An automatic port is none that another container has, on whichever address; udp ports do not count for tcp."""
    set_number(host, RANGE, "40000 40009")
    run(host, "create", "-p", "40000:80", "-p", "127.0.0.1:40001:81", "-p", "40002:53/udp", "db")
    assert automatic(host, "web") == 40002


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "192.0.2.1", "::", "::ffff:127.0.0.1"])
def test_ports_of_host_processes_are_skipped(host: FakeHost, lan: Neighbour, address: str) -> None:
    """An automatic port is none that a process of the host listens on, at whichever address."""
    assert lan
    with listening(host, address, 32768):
        assert automatic(host, "web") == 32769
        assert "53/udp -> 0.0.0.0:32770" in ports_of_udp(host)


def ports_of_udp(host: FakeHost) -> list[str]:
    """Create a container with an automatic udp port."""
    run(host, "create", "-p", "53/udp", "udp")
    return ports_of(host, "udp")


@pytest.mark.parametrize("address", ["127.0.0.1", "2001:db8::1", "::1"])
def test_one_number_for_both_families(host: FakeHost, lan: Neighbour, address: str) -> None:
    """IPv4 and IPv6 get the same automatic port: one that is taken in either family only is skipped in both."""
    assert lan
    network(host, "six", "--ipv6")
    with listening(host, address, 32768):
        run(host, "create", "--network", "six", "-p", "80", "web")
    assert ports_of(host, "web") == ["80/tcp -> 0.0.0.0:32769", "80/tcp -> [::]:32769"]


def test_first_free_of_a_range(host: FakeHost) -> None:
    """8000-8010:80 is the first port of the range that neither a container nor a process has."""
    run(host, "create", "-p", "8000:80", "db")
    with listening(host, "127.0.0.1", 8001):
        run(host, "create", "-p", "8000-8010:80", "web")
    assert ports_of(host, "web") == ["80/tcp -> 0.0.0.0:8002"]


def test_range_that_is_used_up(host: FakeHost) -> None:
    """When every port of a range is taken, that is Exhausted (exit 5), and nothing changed."""
    run(host, "create", "-p", "8000-8001:80-81", "db")
    before = settled_snapshot(host)
    refused = run(host, "create", "-p", "8000-8001:80", "web", code=5)
    assert "8000-8001" in refused.stderr
    assert host.changes(before) == ""


CLASHES = [
    ("8080:80", "8080:80"),
    ("8080:80", "127.0.0.1:8080:80"),
    ("127.0.0.1:8080:80", "8080:81"),
    ("127.0.0.1:8080:80", "127.0.0.1:8080:80"),
    ("8080:80", "8079-8081:79-81"),
    ("8000-8100:8000-8100", "8050:80"),
    ("8080:80/udp", "8080:80/udp"),
    ("8080:80/sctp", "8080:80/sctp"),
    ("[::]:8080:80", "8080:80"),
    ("[::]:8080:80", "[::1]:8080:80"),
]


def test_ports_of_other_containers(host: FakeHost) -> None:
    """A port that another container has is a Conflict (exit 4) that names port and container; nothing changed."""
    network(host, "six", "--ipv6")
    run(host, "create", "--network", "six", "first")
    for held, wanted in CLASHES:
        run(host, "create", "--network", "six", "-p", held, "holder")
        before = settled_snapshot(host)
        refused = run(host, "create", "--network", "six", "-p", wanted, "web", code=4)
        assert re.search(r"port 80\d\d/(tcp|udp|sctp) on .* is in use by container holder", refused.stderr)
        assert host.changes(before) == "", (held, wanted)
        run(host, "rm", "holder")


LISTENERS = [
    ("tcp", "0.0.0.0", "8080:80"),
    ("tcp", "127.0.0.1", "8080:80"),
    ("tcp", "192.0.2.1", "8080:80"),
    ("tcp", "192.0.2.1", "192.0.2.1:8080:80"),
    ("tcp", "0.0.0.0", "127.0.0.1:8080:80"),
    ("tcp", "::", "8080:80"),
    ("tcp", "::", "127.0.0.1:8080:80"),
    ("tcp", "::", "[::1]:8080:80"),
    ("tcp", "::1", "[::]:8080:80"),
    ("tcp", "2001:db8::1", "8080:80"),
    ("udp", "0.0.0.0", "8080:80/udp"),
    ("udp", "127.0.0.1", "8080:80/udp"),
    ("udp", "::", "127.0.0.1:8080:80/udp"),
    ("udp", "::1", "[::1]:8080:80/udp"),
]


def test_ports_of_host_processes(host: FakeHost, lan: Neighbour) -> None:
    """A port that a process of the host listens on is a Conflict that names program and pid; nothing changed."""
    assert lan
    network(host, "six", "--ipv6")
    run(host, "create", "--network", "six", "first")
    before = settled_snapshot(host)
    for protocol, address, wanted in LISTENERS:
        with listening(host, address, 8080, protocol) as pid:
            refused = run(host, "create", "--network", "six", "-p", wanted, "web", code=4)
            program = host.run(f"cat /proc/{pid}/comm").stdout.strip()
        holder = f"{program} (pid {pid})"
        assert f"port 8080/{protocol}" in refused.stderr, (protocol, address, wanted)
        assert refused.stderr.splitlines()[0].endswith(f" in use by {holder}"), (protocol, address, wanted)
    assert host.changes(before) == ""
    run(host, "create", "--network", "six", "-p", "8080:80", "web")


FREE = [
    ("tcp", "127.0.0.1", "192.0.2.1:8080:80"),
    ("tcp", "0.0.0.0", "8080:80/udp"),
    ("udp", "0.0.0.0", "8080:80"),
    ("tcp", "0.0.0.0", "[::]:8080:80"),
    ("tcp", "0.0.0.0", "8081:8080"),
    ("tcp", "::1", "0.0.0.0:8080:80"),
    ("tcp", "::1", "[2001:db8::1]:8080:80"),
]


def test_no_clash(host: FakeHost, lan: Neighbour) -> None:
    """Another protocol, address or family does not clash, neither with a process nor with a container."""
    assert lan
    network(host, "six", "--ipv6")
    for protocol, address, wanted in FREE:
        with listening(host, address, 8080, protocol):
            run(host, "create", "--network", "six", "-p", wanted, "web")
        held = f"[{address}]" if ":" in address else address
        run(host, "create", "--network", "six", "-p", f"{held}:8080:80/{protocol}", "db")
        assert ports_of(host, "db") == [f"80/{protocol} -> {held}:8080"]
        run(host, "rm", "web", "db")


def test_listeners_elsewhere_do_not_count(host: FakeHost, lan: Neighbour) -> None:
    """What listens inside a container, or on another machine, takes no port of the host."""
    run(host, "create", "a")
    with listening(host.sandbox("a"), "0.0.0.0", 8080), listening(lan, "0.0.0.0", 8080):
        run(host, "create", "-p", "8080:80", "web")


def test_a_port_is_free_again_with_its_container(host: FakeHost) -> None:
    """A port can be had again as soon as its container is removed."""
    run(host, "create", "-p", "8080:80", "a")
    run(host, "rm", "a")
    run(host, "create", "-p", "8080:80", "b")
    assert ports_of(host, "b") == ["80/tcp -> 0.0.0.0:8080"]


def test_race_for_a_port(host: FakeHost) -> None:
    """Of several processes that want the same port at once, one succeeds and the others get a Conflict."""
    racers = [host.start_dnet("create", "-p", "8080:80", f"c-{number}") for number in range(4)]
    errors = [racer.communicate()[1] for racer in racers]
    assert sorted(racer.returncode for racer in racers) == [0, 4, 4, 4], errors
    assert len(published(host)) == 1
    assert len(host.pins()) == 1


def test_race_for_automatic_ports(host: FakeHost) -> None:
    """Several processes that want an automatic port at once get different ones."""
    racers = [host.start_dnet("bulk-create", "--count", "5", "--prefix", f"p{n}", "-p", "80") for n in range(4)]
    errors = [racer.communicate()[1] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0, 0], errors
    assert sorted(key[1] for key, _ in published(host)) == [str(port) for port in range(32768, 32788)]


_CLIENT = """
import socket, sys
server, port, local = sys.argv[1:]
client = socket.create_connection((server, int(port)), 2, ("", int(local)))
print(flush=True)
sys.stdin.readline()
print(client.recv(100).decode(), flush=True)
"""
_SERVER = """
import socket, sys
listener = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print(flush=True)
connection = listener.accept()[0]
sys.stdin.readline()
connection.sendall(b"late")
sys.stdin.readline()
"""


@pytest.mark.parametrize("wanted", ["80", "32768:80"])
def test_connections_of_the_host_survive(host: FakeHost, lan: Neighbour, wanted: str) -> None:
    """A connection that the host made before its first network goes on, its local port being published or not."""
    pipe = subprocess.PIPE
    server = lan.start(sys.executable, "-c", _SERVER, "7000", stdin=pipe, stdout=pipe)
    assert server.stdout is not None
    assert server.stdin is not None
    server.stdout.readline()
    client = host.start(sys.executable, "-c", _CLIENT, PEER[4], "7000", "32768", stdin=pipe, stdout=pipe)
    assert client.stdout is not None
    assert client.stdin is not None
    client.stdout.readline()
    run(host, "create", "-p", wanted, "web")
    server.stdin.write("\n")
    server.stdin.flush()
    assert client.communicate("\n", timeout=3)[0] == "late\n"


def test_addresses_of_the_host(host: FakeHost, lan: Neighbour) -> None:
    """An address that no interface has is refused by name (exit 2), nothing changed; all of 127/8 is."""
    assert lan
    run(host, "create", "first")
    before = settled_snapshot(host)
    for foreign in (PEER[4], "203.0.113.7", "[2001:db8::77]", "172.17.0.9", "255.255.255.255", "224.0.0.1"):
        refused = run(host, "create", "-p", f"{foreign}:8080:80", "web", code=2)
        assert foreign.strip("[]") in refused.stderr
    assert host.changes(before) == ""
    run(host, "create", "-p", "127.8.8.8:8080:80", "-p", f"{HOST[4]}:8080:80", "web")
    assert len(published(host)) == 2
