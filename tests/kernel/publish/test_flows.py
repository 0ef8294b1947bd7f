"""Connection tracking at the beginning and the end of a published port. The oracle is /proc/net/nf_conntrack."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from ipaddress import ip_address

import pytest

import dnet
from tests.support.dnet_commands import address, network, run
from tests.support.hosts import FakeHost, Namespace, Neighbour
from tests.support.traffic import FAR, HOST, PATIENCE_S, PEER, REFUSAL_S, flows, is_refused, neighbour, reach, serving

FAMILIES = pytest.mark.parametrize("family", [4, 6])
_KEEPER = """
import socket, sys
server, port, source_port = sys.argv[1:]
sock = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("", int(source_port)))
for line in sys.stdin:
    sock.settimeout(float(line))
    sock.sendto(b"hello", (server, int(port)))
    try:
        print(sock.recv(1000).decode().strip(), flush=True)
    except OSError:
        print("nobody", flush=True)
"""


class Talker:
    """A UDP peer that keeps one source port for ever, as SIP phones and VPN clients do."""

    def __init__(self, space: Namespace, server: str, port: int = 5000) -> None:
        pipe = subprocess.PIPE
        command = (sys.executable, "-c", _KEEPER, server, str(port), "6000")
        self._process = space.start(*command, stdin=pipe, stdout=pipe)

    def talk(self, within_s: float = PATIENCE_S) -> str:
        """Send a datagram and return who answered: the server's name, or nobody."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{within_s}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        return str(json.loads(answer)["server"]) if answer.startswith("{") else answer


def network_of_both(host: FakeHost) -> None:
    """Create network six."""
    network(host, "six", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64")


def create(host: FakeHost, name: str, *ports: str) -> Namespace:
    """Create a container on network six."""
    run(host, "create", "--network", "six", *(word for port in ports for word in ("-p", port)), name)
    return host.sandbox(name)


def of(host: FakeHost, text: str) -> list[dict[str, str]]:
    """Return the entries in which an address occurs, in whichever place."""
    wanted = (text, expanded(text))
    return [entry for entry in flows(host) if any(value in wanted for value in entry.values())]


def expanded(text: str) -> str:
    """Return an address as nf_conntrack writes it."""
    return ip_address(text).exploded


@FAMILIES
def test_a_udp_peer_moves_on(host: FakeHost, lan: Neighbour, family: int) -> None:
    """A peer that talks on through the removal of a container reaches the next one on the same port, at once."""
    network_of_both(host)
    peer = Talker(lan, HOST[family])
    with create(host, "one", "5000:5000/udp").serve(5000, "udp", "::"):
        assert peer.talk() == "one"
    run(host, "rm", "one")
    assert peer.talk(REFUSAL_S) == "nobody"
    # So that the next one has another address.
    create(host, "between")
    with create(host, "two", "5000:5000/udp").serve(5000, "udp", "::"):
        assert peer.talk() == "two"


@FAMILIES
@pytest.mark.parametrize("place", ["lan", "host", "container"])
def test_a_udp_peer_that_came_too_early(host: FakeHost, lan: Neighbour, place: str, family: int) -> None:
    """A peer that has asked before the port was published reaches the container at once, wherever it is."""
    network_of_both(host)
    first = create(host, "first")
    peer = Talker({"lan": lan, "host": host, "container": first}[place], HOST[family])
    assert peer.talk(REFUSAL_S) == "nobody"
    assert [entry for entry in flows(host) if entry["dport"] == "5000"]
    with create(host, "web", "5000:5000/udp").serve(5000, "udp", "::"):
        assert peer.talk() == "web"


def test_a_udp_peer_on_the_loopback(host: FakeHost) -> None:
    """So does one on the host that asks 127.0.0.1."""
    network_of_both(host)
    peer = Talker(host, "127.0.0.1")
    assert peer.talk(REFUSAL_S) == "nobody"
    with create(host, "web", "127.0.0.1:5000:5000/udp").serve(5000, "udp"):
        assert peer.talk() == "web"


@FAMILIES
def test_a_udp_peer_before_engine_publish(host: FakeHost, lan: Neighbour, family: int) -> None:
    """So does one that asked before Engine.publish."""
    network_of_both(host)
    web = create(host, "web")
    peer = Talker(lan, HOST[family])
    assert peer.talk(REFUSAL_S) == "nobody"
    host.call(publish, host.directories, "web", "5000:5000/udp")
    with web.serve(5000, "udp", "::"):
        assert peer.talk() == "web"


def publish(directories: tuple[str, str], name: str, port: str) -> None:
    """Publish a port of a container that is there."""
    with dnet.open(*directories) as engine:
        engine.publish(name, [port])


@FAMILIES
def test_a_udp_peer_of_a_port_that_moves(host: FakeHost, lan: Neighbour, family: int) -> None:
    """When Engine.unpublish and Engine.publish move a port to another container, its peers move along."""
    network_of_both(host)
    one, two = create(host, "one", "5000:5000/udp"), create(host, "two")
    peer = Talker(lan, HOST[family])
    with one.serve(5000, "udp", "::"), two.serve(5000, "udp", "::"):
        assert peer.talk() == "one"
        host.call(move, host.directories, "one", "two", "5000:5000/udp")
        assert peer.talk() == "two"


def move(directories: tuple[str, str], source: str, target: str, port: str) -> None:
    """Publish a port for one container that another had."""
    with dnet.open(*directories) as engine:
        engine.unpublish(source, engine.container(source).ports)
        engine.publish(target, [port])


@FAMILIES
def test_removal_drops_a_containers_entries(host: FakeHost, lan: Neighbour, family: int) -> None:
    """With a container go the entries of all its connections: through published ports, to others, from the host."""
    network_of_both(host)
    web, db = create(host, "web", "8080:80", "8080:80/udp"), create(host, "db")
    own = address(host, "web", family)
    with serving(web, 80), serving(lan, 4000):
        for protocol in ("tcp", "udp"):
            assert ask(lan, HOST[family], 8080, protocol)
            assert ask(host, HOST[family], 8080, protocol)
            assert ask(db, HOST[family], 8080, protocol)
            assert ask(host, own, 80, protocol)
            assert ask(web, PEER[family], 4000, protocol)
    assert len(of(host, own)) >= 10
    run(host, "rm", "web")
    assert of(host, own) == []


def ask(space: Namespace, target: str, port: int, protocol: str) -> str:
    """Exchange a packet or two with a server of `serving`; return the peer that it saw."""
    script = (
        "import socket, sys\n"
        "target, port, protocol = sys.argv[1:]\n"
        "kind = socket.SOCK_STREAM if protocol == 'tcp' else socket.SOCK_DGRAM\n"
        "sock = socket.socket(socket.AF_INET6 if ':' in target else socket.AF_INET, kind)\n"
        "sock.settimeout(3); sock.connect((target, int(port)))\n"
        "if protocol == 'udp': sock.send(b'hello')\n"
        "print(sock.recv(100).decode())\n"
    )
    return space.python(script, target, str(port), protocol).stdout.strip()


@FAMILIES
def test_removal_leaves_others_alone(host: FakeHost, lan: Neighbour, family: int) -> None:
    """Entries of other containers, of the host's own and of what it forwards for others, to the same ports, stay."""
    network_of_both(host)
    other = neighbour(host, "other", "203.0.113.0/24", "2001:db8:3::/64")
    other.run("ip", f"-{family}", "route", "add", "default", "via", other.host_addresses[family == 6])
    lan.run("ip", f"-{family}", "route", "add", other_subnet(family), "via", HOST[family])
    web, db = create(host, "web", "8080:80", "8080:80/udp"), create(host, "db", "8081:80", "8081:80/udp")
    exchanges: list[Callable[[], str]] = []
    for protocol in ("tcp", "udp"):
        exchanges += [
            lambda protocol=protocol: ask(lan, HOST[family], 8081, protocol),  # type: ignore[misc]
            lambda protocol=protocol: ask(lan, HOST[family], 80, protocol),  # type: ignore[misc]
            lambda protocol=protocol: ask(lan, other.addresses[family == 6], 8080, protocol),  # type: ignore[misc]
            lambda protocol=protocol: ask(db, PEER[family], 80, protocol),  # type: ignore[misc]
            lambda protocol=protocol: ask(host, PEER[family], 8080, protocol),  # type: ignore[misc]
        ]
    with serving(db, 80), serving(host, 80), serving(other, 8080), serving(lan, 80, 8080):
        assert all(exchange() for exchange in exchanges)
        before = identities(host)
        assert len(before) >= 10
        with serving(web, 80):
            assert ask(lan, HOST[family], 8080, "udp")
        run(host, "rm", "web")
        assert before <= identities(host)
        # Nor does creating one on the same port touch them, its own address and port apart.
        create(host, "new", "8080:80", "8080:80/udp")
        assert before <= identities(host)


def other_subnet(family: int) -> str:
    """Return the subnet of the second neighbour."""
    return "203.0.113.0/24" if family == 4 else "2001:db8:3::/64"


def identities(host: FakeHost) -> set[tuple[tuple[str, str], ...]]:
    """Return the entries as far as they stay the same while they live."""
    keys = ("protocol", "src", "dst", "sport", "dport", "r_src", "r_dst", "r_sport", "r_dport")
    return {tuple((key, entry.get(key, "")) for key in keys) for entry in flows(host)}


def test_a_bulk_drops_its_entries(host: FakeHost, lan: Neighbour) -> None:
    """Removing many containers at once drops the entries of all of them, and no other's."""
    run(host, "bulk-create", "--count", "40", "-p", "20000-20039:80/udp")
    run(host, "create", "-p", "20100:80/udp", "stays")
    for number in [*range(20000, 20040), 20100]:
        reach(lan, HOST[4], number, "udp", timeout_s=0.001)
    entries = [entry for entry in flows(host) if entry["dport"].startswith("20")]
    assert len(entries) == 41
    run(host, "bulk-delete", "--prefix", "c")
    assert [entry["dport"] for entry in flows(host) if entry["dport"].startswith("20")] == ["20100"]


def test_a_long_table(host: FakeHost, lan: Neighbour) -> None:
    """Among thousands of other entries a container's are found, and only they go."""
    run(host, "create", "-p", "5000:5000/udp", "web")
    flood = (
        "import socket, sys\n"
        "for port in range(10000, 13000):\n"
        "    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:\n"
        "        sock.bind(('', port)); sock.sendto(b'x', (sys.argv[1], int(sys.argv[2])))\n"
    )
    lan.python(flood, HOST[4], "5000")
    lan.python(flood, HOST[4], "5001")
    counts = [sum(entry["dport"] == port for entry in flows(host)) for port in ("5000", "5001")]
    assert counts == [3000, 3000]
    run(host, "rm", "web")
    counts = [sum(entry["dport"] == port for entry in flows(host)) for port in ("5000", "5001")]
    assert counts == [0, 3000]


def test_an_open_connection_ends_with_its_container(host: FakeHost, lan: Neighbour) -> None:
    """A TCP connection through a published port does not live on into the next container with the same address."""
    run(host, "create", "--ip", "172.17.0.9", "-p", "8080:80", "one")
    script = (
        "import socket, sys\n"
        "sock = socket.create_connection((sys.argv[1], 8080), 3); sock.settimeout(0.5)\n"
        "print(flush=True); sys.stdin.readline(); sock.send(b'late')\n"
        "try: print(sock.recv(100) or 'closed')\n"
        "except OSError as error: print(type(error).__name__)\n"
    )
    pipe = subprocess.PIPE
    with host.sandbox("one").serve(80):
        client = lan.start(sys.executable, "-c", script, HOST[4], stdin=pipe, stdout=pipe)
        assert client.stdout is not None
        client.stdout.readline()
        run(host, "rm", "one")
    run(host, "create", "--ip", "172.17.0.9", "-p", "8080:80", "two")
    with host.sandbox("two").serve(80):
        assert client.communicate("\n", timeout=5)[0] in {"ConnectionResetError\n", "TimeoutError\n"}


def test_unpublishing_leaves_open_connections(host: FakeHost, lan: Neighbour) -> None:
    """Engine.unpublish lets connections that are open go on, and refuses new ones."""
    run(host, "create", "-p", "5000:5000/udp", "-p", "5001:5001", "web")
    peer = Talker(lan, HOST[4])
    with host.sandbox("web").serve(5000, "udp"):
        assert peer.talk() == "web"
        host.call(unpublish_all, host.directories, "web")
        assert peer.talk() == "web"
        assert is_refused(lan, HOST[4], 5000, "udp")


def unpublish_all(directories: tuple[str, str], name: str) -> None:
    """Take back all ports of a container."""
    with dnet.open(*directories) as engine:
        engine.unpublish(name, engine.container(name).ports)


def test_an_entry_of_another_address_of_the_host(host: FakeHost, lan: Neighbour) -> None:
    """Publishing on one address of the host leaves the entries of a server of the host's at another address."""
    run(host, "create", "first")
    peer = Talker(lan, HOST[4])
    with host.serve(5000, "udp", HOST[4]):
        assert peer.talk() == "host"
        before = identities(host)
        run(host, "create", "-p", "127.0.0.1:5000:5000/udp", "web")
        assert before <= identities(host)
        assert peer.talk() == "host"


def test_forwarded_entries_stay(host: FakeHost, lan: Neighbour) -> None:
    """Publishing a UDP port leaves what containers send to that port elsewhere."""
    run(host, "create", "first")
    with lan.serve(5000, "udp"):
        assert host.sandbox("first").ask(FAR[4], 5000, "udp")
    before = identities(host)
    run(host, "create", "-p", "5000:5000/udp", "web")
    assert before <= identities(host)
