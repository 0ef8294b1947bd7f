"""Containers really communicate: with each other, with the host, and, masqueraded, with the world beyond."""

from __future__ import annotations

import pytest

from tests.support.hosts import FakeHost, Neighbour, NoAnswer

FORWARDING = "/proc/sys/net/ipv4/ip_forward"


def address(host: FakeHost, name: str) -> str:
    """Return a container's address, as its own namespace shows it."""
    [device] = host.sandbox(name).json("ip -j -4 address show dev eth0")
    return str(device["addr_info"][0]["local"])


def test_containers_reach_each_other(host: FakeHost) -> None:
    """Two containers of a network ping each other and talk over TCP and UDP, under their own addresses."""
    host.dnet("bulk-create", "--count", "2")
    one, two = host.sandbox("c-1"), host.sandbox("c-2")
    assert one.can_ping(address(host, "c-2"))
    assert two.can_ping(address(host, "c-1"))
    for protocol in ("tcp", "udp"):
        with two.serve(8000, protocol):
            answer = one.ask(address(host, "c-2"), 8000, protocol, text="across")
        assert (answer["server"], answer["text"], answer["peer"]) == ("c-2", "across", address(host, "c-1"))


def test_host_and_container_reach_each_other(host: FakeHost) -> None:
    """The host reaches a container by its address, and the container the host by its gateway's."""
    host.dnet("create", "web")
    web = host.sandbox("web")
    with web.serve(80):
        answer = host.ask(address(host, "web"), 80)
    assert answer["peer"] == "172.17.0.1"
    with host.serve(53, "udp"):
        answer = web.ask("172.17.0.1", 53, "udp")
    assert answer["peer"] == address(host, "web")


@pytest.mark.parametrize("beyond", ["192.0.2.2", "198.51.100.1"])
def test_outside_is_reached_masqueraded(host: FakeHost, outside: Neighbour, beyond: str) -> None:
    """A host beyond, near or far, sees the host's address as the source, and its reply reaches the container."""
    host.dnet("create", "web")
    web = host.sandbox("web")
    assert web.can_ping(beyond)
    for protocol in ("tcp", "udp"):
        with outside.serve(4000, protocol):
            answer = web.ask(beyond, 4000, protocol)
        assert (answer["server"], answer["peer"]) == ("outside", outside.host_address)


def test_masquerading_follows_the_way_out(host: FakeHost, outside: Neighbour) -> None:
    """Through whichever interface traffic leaves, it gets that interface's address."""
    host.dnet("create", "web")
    other = host.neighbour("other", "203.0.113.0/24")
    for neighbour in (outside, other):
        with neighbour.serve(4000):
            answer = host.sandbox("web").ask(neighbour.address, 4000)
        assert answer["peer"] == neighbour.host_address


def test_neighbours_on_the_network_are_not_masqueraded(host: FakeHost) -> None:
    """Between containers of one network, and from the host to a container, addresses stay what they are."""
    host.run("ip address add 10.9.9.9/32 dev lo")
    host.dnet("create", "web")
    with host.sandbox("web").serve(80):
        answer = host.ask(address(host, "web"), 80, source="10.9.9.9")
    assert answer["peer"] == "10.9.9.9"


def test_no_masquerade(host: FakeHost, outside: Neighbour) -> None:
    """With --masquerade=false the outside sees the container's own address, once it knows a route to that."""
    host.dnet("network", "create", "--subnet", "10.1.0.0/24", "--masquerade=false", "routed")
    host.dnet("create", "--network", "routed", "web")
    web = host.sandbox("web")
    assert not web.can_ping(outside.address)
    outside.run("ip route add 10.1.0.0/24 via 192.0.2.1")
    with outside.serve(4000):
        answer = web.ask(outside.address, 4000)
    assert answer["peer"] == address(host, "web")


def test_internal_network_has_no_way_out(host: FakeHost, outside: Neighbour) -> None:
    """On an --internal network containers reach each other, have no default route, and reach nothing beyond."""
    host.dnet("network", "create", "--internal", "--subnet", "10.1.0.0/24", "inner")
    host.dnet("bulk-create", "--count", "2", "--network", "inner")
    one = host.sandbox("c-1")
    assert one.can_ping(address(host, "c-2"))
    assert [route["dst"] for route in one.json("ip -j route")] == ["10.1.0.0/24"]
    with outside.serve(4000), pytest.raises(NoAnswer):
        one.ask(outside.address, 4000)
    one.run("ip route add default via 10.1.0.1")
    with outside.serve(4000), pytest.raises(NoAnswer):
        one.ask(outside.address, 4000, timeout_s=0.5)


def test_forwarding_is_switched_on_and_said(host: FakeHost) -> None:
    """The first network turns on IPv4 forwarding and says so; where it was on, nothing is said."""
    assert host.run("cat", FORWARDING).stdout == "0\n"
    first = host.dnet("create", "web")
    assert host.run("cat", FORWARDING).stdout == "1\n"
    assert "net.ipv4.ip_forward" in first.stderr
    second = host.dnet("network", "create", "--subnet", "10.1.0.0/16", "blue")
    assert second.stderr == ""


def test_forwarding_that_was_on(host: FakeHost) -> None:
    """Where somebody has turned forwarding on before, dnet says nothing, and its failures leave it on."""
    host.run("sh", "-c", f"echo 1 >{FORWARDING}")
    assert host.dnet("create", "web").stderr == ""
    host.dnet("rm", "web")
    host.dnet("network", "rm", "bridge")
    assert host.run("cat", FORWARDING).stdout == "1\n"


def test_containers_of_one_large_network_reach_each_other(host: FakeHost) -> None:
    """In a bulk, the first container reaches the last, and the last the first."""
    made = host.dnet("bulk-create", "--count", "60", "--json").json["containers"]
    assert host.sandbox("c-1").silent([item["ip"] for item in made]) == []
    assert host.sandbox("c-60").can_ping(made[0]["ip"])


def test_large_segments_survive(host: FakeHost) -> None:
    """A megabyte sent over TCP from one container to another arrives whole."""
    host.dnet("bulk-create", "--count", "2")
    code = (
        "import socket, sys\n"
        "listener = socket.create_server(('0.0.0.0', 9000)); print('ready', flush=True)\n"
        "connection = listener.accept()[0]; total = 0\n"
        "while block := connection.recv(65536): total += len(block)\n"
        "connection.sendall(str(total).encode())\n"
    )
    server = host.sandbox("c-2").start("python3", "-c", code, stdout=-1)
    assert server.stdout.readline() == "ready\n"  # type: ignore[union-attr]
    client = (
        "import socket, sys\n"
        "s = socket.create_connection((sys.argv[1], 9000), 5); s.sendall(b'x' * 1000000); s.shutdown(1)\n"
        "print(s.recv(100).decode())\n"
    )
    assert host.sandbox("c-1").python(client, address(host, "c-2")).stdout == "1000000\n"
