"""What is not reachable, one test per attack. Each shows that the attack fails, then that the rule was the reason.

The second half removes the rule (or asks for what is allowed) and sees the same packets arrive, so that no test
passes because its attack could not have worked anyway.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.dnet_commands import address, bridge_of, gateway, network, run
from tests.support.hosts import FakeHost, Namespace, Neighbour
from tests.support.traffic import (
    FAR,
    HOST,
    PATIENCE_S,
    PEER,
    REFUSAL_S,
    all_answers,
    answering,
    filter_bridged,
    is_refused,
    reach,
    serving,
    set_number,
)

FAMILIES = pytest.mark.parametrize("family", [4, 6])
BRIDGED = pytest.mark.parametrize("bridged", [0, 1], ids=["bridge-nf-0", "bridge-nf-1"])
PROTOCOLS = ("tcp", "udp")
SUBNETS = {"six": ("10.1.0.0/24", "fd00:1::/64"), "other": ("10.2.0.0/24", "fd00:2::/64")}


def network_of_both(host: FakeHost, name: str, *options: str) -> str:
    """Create one of the networks above and return its bridge."""
    four, six = SUBNETS[name]
    return bridge_of(network(host, name, "--subnet", four, "--subnet", six, *options))


def container(host: FakeHost, name: str, net: str, *options: str) -> Namespace:
    """Create a container on a network."""
    run(host, "create", "--network", net, *options, name)
    return host.sandbox(name)


def open_chain(host: FakeHost, name: str) -> None:
    """Take the rules out of one of dnet's chains, so that it lets everything pass."""
    host.run(f"nft flush chain inet dnet {name}")


def answers(asker: Namespace, target: str, server: Namespace, *ports: int, within_s: float = REFUSAL_S) -> list[str]:
    """Return what `asker` gets answered by ports of `server` at an address, a ping included."""
    with serving(server, *ports):
        return answering(asker, target, *ports, within_s=within_s)


def reaches(asker: Namespace, target: str, server: Namespace, port: int) -> bool:
    """Whether all of that is answered."""
    return answers(asker, target, server, port, within_s=PATIENCE_S) == all_answers(port)


def route_through_the_host(lan: Neighbour, *subnets: str) -> None:
    """Have the neighbour on the LAN send what is for containers to the host."""
    for subnet in subnets:
        family = 6 if ":" in subnet else 4
        lan.run("ip", "route", "add", subnet, "via", HOST[family])


def redirect_loopback(space: Namespace, device: str, via: str) -> None:
    """Have a machine send what is for 127.0.0.1 out on a wire, as an attacker does."""
    set_number(space, f"net/ipv4/conf/{device}/route_localnet", "1")
    space.run("ip address delete 127.0.0.1/8 dev lo")
    space.run("ip", "route", "add", "127.0.0.1/32", "via", via, "dev", device)


# Loopback


def test_loopback_port_from_the_lan(host: FakeHost, lan: Neighbour) -> None:
    """A port published on 127.0.0.1 is not reached at the host's address, nor at the gateway's."""
    with container(host, "web", "bridge", "-p", "127.0.0.1:8080:80").serve(80):
        route_through_the_host(lan, "172.17.0.0/16")
        assert is_refused(lan, HOST[4], 8080)
        assert is_refused(lan, "172.17.0.1", 8080)
        assert reach(host, "127.0.0.1", 8080)


@pytest.mark.parametrize("published", ["127.0.0.1:8080:80", "8080:80"])
def test_loopback_port_by_routing_127_0_0_1(host: FakeHost, lan: Neighbour, published: str) -> None:
    """A neighbour that sends packets for 127.0.0.1 to the host reaches no container, also with route_localnet on."""
    web = container(host, "web", "bridge", "-p", published)
    set_number(host, "net/ipv4/conf/lan/route_localnet", "1")
    redirect_loopback(lan, "eth0", HOST[4])
    for protocol in PROTOCOLS:
        with web.serve(80, protocol):
            assert is_refused(lan, "127.0.0.1", 8080, protocol, source=PEER[4])
    # The host's own servers are reached that way: it is the administrator's choice, and the packets do arrive.
    with host.serve(8081, address="127.0.0.1"):
        assert reach(lan, "127.0.0.1", 8081, source=PEER[4]) == PEER[4]


def test_ipv6_loopback_port_from_the_lan(host: FakeHost, lan: Neighbour) -> None:
    """A port published on ::1 is not reached from the LAN, at the host's address or by routing ::1."""
    network_of_both(host, "six")
    web = container(host, "web", "six", "-p", "[::1]:8080:80")
    filter_bridged(host, 0)
    with web.serve(80, address="::"):
        assert is_refused(lan, HOST[6], 8080)
        lan.run("ip address delete ::1/128 dev lo")
        lan.run("ip", "-6", "route", "add", "::1/128", "via", HOST[6], "dev", "eth0")
        assert is_refused(lan, "::1", 8080, source=PEER[6])
        assert reach(host, "::1", 8080)


@BRIDGED
def test_containers_do_not_reach_the_hosts_loopback(host: FakeHost, bridged: int) -> None:
    """A container that sends packets for 127.0.0.1 to its gateway does not reach services of the host's loopback."""
    web = container(host, "web", "bridge")
    filter_bridged(host, bridged)
    redirect_loopback(web, "eth0", "172.17.0.1")
    for protocol in PROTOCOLS:
        with host.serve(8081, protocol, "127.0.0.1"):
            assert is_refused(web, "127.0.0.1", 8081, protocol, source="172.17.0.2")
    open_chain(host, "guard")
    with host.serve(8081, address="127.0.0.1"):
        assert reach(web, "127.0.0.1", 8081, source="172.17.0.2") == "172.17.0.2"


def test_containers_do_not_reach_loopback_ports_of_others(host: FakeHost) -> None:
    """Neither do they reach what other containers publish on 127.0.0.1, at that address or the gateway's."""
    db = container(host, "db", "bridge")
    web = container(host, "web", "bridge", "-p", "127.0.0.1:8080:80")
    with web.serve(80):
        assert is_refused(db, "172.17.0.1", 8080)
        redirect_loopback(db, "eth0", "172.17.0.1")
        assert is_refused(db, "127.0.0.1", 8080, source="172.17.0.3")


_SPOOFER = """
import socket, struct, sys
source, target, port = sys.argv[1:]
body = b"hello"
udp = struct.pack("!HHHH", 5555, int(port), 8 + len(body), 0) + body
ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0,
                 socket.inet_aton(source), socket.inet_aton(target))
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
    sock.sendto(ip + udp, (target, 0))
"""
_SINK = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("0.0.0.0", int(sys.argv[1])))
print(flush=True)
while True:
    print(sock.recvfrom(100)[1][0], flush=True)
"""


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2", "127.255.255.254"])
def test_containers_cannot_pretend_to_be_the_loopback(host: FakeHost, source: str) -> None:
    """What a container sends under an address of 127/8 does not reach a service of the host's, which would trust it."""
    web = container(host, "web", "bridge")
    sink = host.start(sys.executable, "-c", _SINK, "5353", stdout=subprocess.PIPE)
    assert sink.stdout is not None
    sink.stdout.readline()
    assert web.can_ping("172.17.0.1")  # so that neither waits for ARP
    web.python(_SPOOFER, source, "172.17.0.1", "5353")
    web.python(_SPOOFER, "172.17.0.2", "172.17.0.1", "5353")
    assert sink.stdout.readline() == "172.17.0.2\n"


# From outside, by routing


@FAMILIES
def test_unpublished_port_by_routing(host: FakeHost, lan: Neighbour, family: int) -> None:
    """A neighbour that routes containers' subnets to the host reaches no unpublished port, and no ping is answered."""
    network_of_both(host, "six")
    web = container(host, "web", "six", "-p", "8080:80")
    route_through_the_host(lan, *SUBNETS["six"])
    target = address(host, "web", family)
    assert answers(lan, target, web, 81) == []
    open_chain(host, "forward")
    assert reaches(lan, target, web, 81)


@FAMILIES
def test_published_port_by_routing(host: FakeHost, lan: Neighbour, family: int) -> None:
    """Nor does it reach a published port at the container's own address: published is the host's."""
    network_of_both(host, "six")
    web = container(host, "web", "six", "-p", "8080:80", "-p", "8080:80/udp", "-p", "8081:8081")
    route_through_the_host(lan, *SUBNETS["six"])
    target = address(host, "web", family)
    assert answers(lan, target, web, 80, 8080, 8081) == []
    open_chain(host, "forward")
    assert reaches(lan, target, web, 80)


def test_spoofed_neighbour_by_routing(host: FakeHost, lan: Neighbour) -> None:
    """A machine outside that pretends to have a neighbour container's address reaches nothing either."""
    web = container(host, "web", "bridge")
    route_through_the_host(lan, "172.17.0.0/16")
    sink = web.start(sys.executable, "-c", _SINK, "5353", stdout=subprocess.PIPE)
    assert sink.stdout is not None
    sink.stdout.readline()
    lan.python(_SPOOFER, "172.17.0.3", "172.17.0.2", "5353")
    host.python(_SPOOFER, "172.17.0.1", "172.17.0.2", "5353")
    assert sink.stdout.readline() == "172.17.0.1\n"


# Networks from each other


@FAMILIES
@BRIDGED
def test_other_networks(host: FakeHost, bridged: int, family: int) -> None:
    """Containers of two networks do not reach each other, in either direction, published ports or not, nor by ping."""
    network_of_both(host, "six")
    network_of_both(host, "other")
    web = container(host, "web", "six", "-p", "8080:80")
    db = container(host, "db", "other")
    filter_bridged(host, bridged)
    for asker, server in ((web, db), (db, web)):
        target = address(host, server.name, family)
        assert answers(asker, target, server, 80, 81) == []
    open_chain(host, "forward")
    assert reaches(db, address(host, "web", family), web, 81)


def test_gateway_of_another_network(host: FakeHost) -> None:
    """A container reaches the host at the gateways of all networks: they are the host's own addresses."""
    network_of_both(host, "six")
    network_of_both(host, "other")
    web = container(host, "web", "six")
    for target in ("10.1.0.1", "10.2.0.1", "fd00:2::1"):
        with host.serve(8081, address="::"):
            assert reach(web, target, 8081)


# Internal networks


@FAMILIES
def test_outside_from_an_internal_network(host: FakeHost, lan: Neighbour, family: int) -> None:
    """From an --internal network nothing outside is reached, near or far, also when a default route is added inside."""
    network_of_both(host, "six", "--internal")
    web = container(host, "web", "six")
    assert web.json("ip", "-j", f"-{family}", "route", "show", "default") == []
    for target in (PEER[family], FAR[family]):
        assert answers(web, target, lan, 4000) == []
    web.run("ip", "route", "add", "default", "via", ("10.1.0.1", "fd00:1::1")[family == 6])
    for target in (PEER[family], FAR[family]):
        assert answers(web, target, lan, 4000) == []
    open_chain(host, "forward")
    route_through_the_host(lan, *SUBNETS["six"])
    assert reaches(web, PEER[family], lan, 4000)


@FAMILIES
def test_internal_network_from_outside(host: FakeHost, lan: Neighbour, family: int) -> None:
    """Into an --internal network nobody gets by routing, and neither by a published port of the host's address."""
    network_of_both(host, "six", "--internal")
    web = container(host, "web", "six", "-p", "8080:80")
    web.run("ip", "route", "add", "default", "via", ("10.1.0.1", "fd00:1::1")[family == 6])
    route_through_the_host(lan, *SUBNETS["six"])
    assert answers(lan, address(host, "web", family), web, 80) == []
    with web.serve(80, address="::"):
        assert is_refused(lan, HOST[family], 8080)
    open_chain(host, "forward")
    assert reaches(lan, address(host, "web", family), web, 80)


@FAMILIES
def test_internal_network_and_other_networks(host: FakeHost, lan: Neighbour, family: int) -> None:
    """An --internal network and others do not reach each other, by addresses or by published ports."""
    assert lan
    network_of_both(host, "six", "--internal")
    network_of_both(host, "other")
    web = container(host, "web", "six")
    db = container(host, "db", "other", "-p", "8080:80")
    web.run("ip", "route", "add", "default", "via", ("10.1.0.1", "fd00:1::1")[family == 6])
    assert answers(web, address(host, "db", family), db, 80) == []
    assert answers(db, address(host, "web", family), web, 80) == []
    with db.serve(80, address="::"):
        assert is_refused(web, HOST[family], 8080)
        open_chain(host, "forward")
        assert reach(web, HOST[family], 8080)


def test_inside_an_internal_network(host: FakeHost) -> None:
    """Containers of an --internal network reach each other and the host, which reaches them."""
    network_of_both(host, "six", "--internal")
    web, db = container(host, "web", "six"), container(host, "db", "six")
    for family in (4, 6):
        assert reaches(db, address(host, "web", family), web, 80)
        assert reaches(db, ("10.1.0.1", "fd00:1::1")[family == 6], host, 81)
        assert reaches(host, address(host, "web", family), web, 80)


# --icc=false


@pytest.fixture
def pair(host: FakeHost, lan: Neighbour) -> tuple[Namespace, Namespace]:
    """Return two containers of an --icc=false network; db publishes port 80 as 8080, over tcp and udp."""
    assert lan
    network_of_both(host, "six", "--icc=false")
    return container(host, "web", "six"), container(host, "db", "six", "-p", "8080:80", "-p", "8080:80/udp")


@FAMILIES
@BRIDGED
def test_neighbours_without_icc(host: FakeHost, pair: tuple[Namespace, Namespace], bridged: int, family: int) -> None:
    """Containers of an --icc=false network do not reach each other at their addresses, nor by ping."""
    web, db = pair
    filter_bridged(host, bridged)
    target = address(host, "db", family)
    assert answers(web, target, db, 80) == []
    # The frames are kept apart at the bridge's ports; where ports talk, so do the containers.
    for port in host.json("bridge -j link"):
        if port["ifname"].startswith("veth"):
            host.run("bridge", "link", "set", "dev", port["ifname"], "isolated", "off")
    host.run("nft", "insert rule inet dnet forward accept")
    assert reaches(web, target, db, 80)


@FAMILIES
@BRIDGED
def test_neighbours_without_icc_through_the_gateway(
    host: FakeHost, pair: tuple[Namespace, Namespace], bridged: int, family: int
) -> None:
    """Nor do they when they send each other's packets to the gateway, which would forward them."""
    web, db = pair
    filter_bridged(host, bridged)
    for asker, other in ((web, "db"), (db, "web")):
        target = address(host, other, family)
        length = ("/32", "/128")[family == 6]
        asker.run("ip", "route", "add", target + length, "via", gateway(host, other, family), "dev", "eth0")
    assert answers(web, address(host, "db", family), db, 80) == []
    open_chain(host, "forward")
    assert reaches(web, address(host, "db", family), db, 80)


@BRIDGED
def test_neighbours_without_icc_by_their_link_local_addresses(
    host: FakeHost, pair: tuple[Namespace, Namespace], bridged: int
) -> None:
    """Nor by their link-local IPv6 addresses; the gateway's is reached."""
    web, db = pair
    filter_bridged(host, bridged)
    [device] = db.json("ip -j -6 address show dev eth0 scope link")
    neighbour = next(item["local"] for item in device["addr_info"] if item)
    assert answering(web, f"{neighbour}%eth0") == []
    assert web.can_ping("fe80::1%eth0")
    assert host.can_ping(f"{neighbour}%{bridge(host)}")


def bridge(host: FakeHost) -> str:
    """Return the bridge of network six."""
    return bridge_of(run(host, "network", "inspect", "six").json[0])


_HEAR = """
import socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
sock.bind((sys.argv[1], 0x88B5))  # an EtherType for experiments (IEEE 802)
print(flush=True)
while True:
    print(sock.recv(100).rstrip(bytes(1)).decode(), flush=True)
"""
_SHOUT = """
import socket, sys
sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
sock.sendto(sys.argv[2].encode().ljust(46, bytes(1)), (sys.argv[1], 0x88B5, 0, 0, b"\\xff" * 6))
"""


@pytest.mark.parametrize(("icc", "heard"), [("true", ["web", "host"]), ("false", ["host"])])
def test_broadcasts(host: FakeHost, icc: str, heard: list[str]) -> None:
    """Broadcasts of a container reach its neighbours, on an --icc=false network only the host; the host's reach all."""
    device = network_of_both(host, "six", f"--icc={icc}")
    web, db = container(host, "web", "six"), container(host, "db", "six")
    ears = [space.start(sys.executable, "-c", _HEAR, name, stdout=-1) for space, name in ((db, "eth0"), (host, device))]
    for ear in ears:
        assert line(ear) == ""
    web.python(_SHOUT, "eth0", "web")
    assert line(ears[1]) == "web"
    host.python(_SHOUT, device, "host")
    assert [line(ears[0]) for _ in heard] == heard


def line(process: subprocess.Popen[str]) -> str:
    """Return the next line that a process writes."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


@FAMILIES
@BRIDGED
def test_the_rest_without_icc(
    host: FakeHost, lan: Neighbour, pair: tuple[Namespace, Namespace], bridged: int, family: int
) -> None:
    """Containers of an --icc=false network reach the outside and the host, and their published ports are reached."""
    web, db = pair
    filter_bridged(host, bridged)
    assert reaches(web, PEER[family], lan, 4000)
    assert reaches(web, gateway(host, "web", family), host, 4000)
    for protocol in PROTOCOLS:
        with db.serve(80, protocol, "::"):
            assert reach(lan, HOST[family], 8080, protocol)
            assert reach(host, HOST[family], 8080, protocol)


@FAMILIES
def test_published_ports_without_icc(host: FakeHost, pair: tuple[Namespace, Namespace], family: int) -> None:
    """Containers of an --icc=false network reach each other's published ports, and their own, through the host."""
    web, db = pair
    filter_bridged(host, 0)
    for protocol in PROTOCOLS:
        with db.serve(80, protocol, "::"):
            assert reach(web, HOST[family], 8080, protocol)
            assert reach(db, HOST[family], 8080, protocol)


@FAMILIES
def test_limit_of_published_ports_without_icc(host: FakeHost, pair: tuple[Namespace, Namespace], family: int) -> None:
    """With bridge-nf-call-iptables=1 they do not, a known limit: the bridge would carry what its ports keep apart."""
    web, db = pair
    filter_bridged(host, 1)
    with db.serve(80, address="::"):
        assert is_refused(web, HOST[family], 8080)
        assert is_refused(db, HOST[family], 8080)
