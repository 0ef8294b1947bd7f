"""Networks whose addresses the outside sees, and networks that leave under an address of choice."""

from __future__ import annotations

import pytest

from tests.support.dnet_commands import address, gateway, network, run
from tests.support.hosts import FakeHost, Namespace, Neighbour
from tests.support.nft_listing import elements
from tests.support.traffic import FAR, HOST, PATIENCE_S, PEER, all_answers, answering, is_refused, reach, serving

FAMILIES = pytest.mark.parametrize("family", [4, 6])
SUBNETS = ("--subnet", "10.3.0.0/24", "--subnet", "fd00:3::/64")
SNAT = {4: "192.0.2.99", 6: "2001:db8::99"}
OFF = ["--masquerade=false", "-o com.docker.network.bridge.enable_ip_masquerade=false"]


@pytest.fixture
def routed(host: FakeHost, lan: Neighbour) -> Namespace:
    """Return a container on a network without masquerading, to which the LAN has a route, with ports published."""
    network(host, "routed", *SUBNETS, "--masquerade=false")
    run(host, "create", "--network", "routed", "-p", "8080:80", "-p", "127.0.0.1:8443:443", "-p", "53:53/udp", "web")
    lan.run("ip", "route", "add", "10.3.0.0/24", "via", HOST[4])
    lan.run("ip", "route", "add", "fd00:3::/64", "via", HOST[6])
    return host.sandbox("web")


@FAMILIES
def test_the_outside_sees_the_container(host: FakeHost, lan: Neighbour, routed: Namespace, family: int) -> None:
    """What leaves keeps the container's own address, near and far."""
    own = address(host, "web", family)
    for protocol in ("tcp", "udp"):
        with lan.serve(4000, protocol, "::"):
            for target in (PEER[family], FAR[family]):
                assert reach(routed, target, 4000, protocol).removeprefix("::ffff:") == own


@pytest.mark.parametrize("option", OFF)
def test_by_both_names(host: FakeHost, option: str) -> None:
    """The network's bridge is in the set of routed ones, and its subnet in none of those that are translated."""
    document = network(host, "routed", *SUBNETS, *option.split())
    assert elements(host, "routed") == [((document["Segments"][0]["Device"],), ())]
    assert elements(host, "masquerade4", "masquerade6", "snat4", "snat6") == []


@FAMILIES
def test_published_ports_at_the_containers_address(
    host: FakeHost, lan: Neighbour, routed: Namespace, family: int
) -> None:
    """Published ports are open at the container's own address by the container's number, and ping; others are not."""
    with serving(routed, 53, 80, 81, 8080):
        found = answering(lan, address(host, "web", family), 53, 80, 81, 8080, within_s=1.0)
    assert found == ["icmp", "53/udp", "80/tcp"]


def test_a_port_published_on_the_loopback(host: FakeHost, lan: Neighbour, routed: Namespace) -> None:
    """A port published on 127.0.0.1 only is not open at the container's address: it is the host's alone."""
    with routed.serve(443):
        assert is_refused(lan, address(host, "web"), 443)
        assert reach(host, "127.0.0.1", 8443)


@FAMILIES
def test_published_ports_at_the_hosts_address(host: FakeHost, lan: Neighbour, routed: Namespace, family: int) -> None:
    """Published ports are reached at the host's address too, and the service sees the real source."""
    with routed.serve(80, address="::"):
        assert reach(lan, HOST[family], 8080).removeprefix("::ffff:") == PEER[family]
        assert reach(host, HOST[family], 8080).removeprefix("::ffff:") == HOST[family]
        assert reach(routed, HOST[family], 8080).removeprefix("::ffff:") == gateway(host, "web", family)


@FAMILIES
def test_other_networks_and_a_routed_one(host: FakeHost, lan: Neighbour, routed: Namespace, family: int) -> None:
    """Unpublished ports of a routed network are closed to other networks, and it has no way to theirs."""
    assert lan
    network(host, "other", "--subnet", "10.4.0.0/24", "--subnet", "fd00:4::/64")
    run(host, "create", "--network", "other", "db")
    db = host.sandbox("db")
    with serving(routed, 81), serving(db, 81):
        assert [name for name in answering(db, address(host, "web", family), 81) if name != "icmp"] == []
        assert answering(routed, address(host, "db", family), 81) == []


def test_removal_closes_the_ports(host: FakeHost, lan: Neighbour, routed: Namespace) -> None:
    """With the container its open ports go."""
    assert lan
    assert routed
    assert elements(host, "open4", "open6")
    run(host, "rm", "web")
    assert elements(host, "open4", "open6") == []
    run(host, "network", "rm", "routed")
    assert elements_or_nothing(host) == []


def elements_or_nothing(host: FakeHost) -> list[object]:
    """Return the routed networks, if there is a table at all."""
    tables = host.run("nft list tables").stdout
    return list(elements(host, "routed")) if "dnet" in tables else []


# SNAT to an address of choice


@pytest.fixture
def snat(host: FakeHost, lan: Neighbour) -> Namespace:
    """Return a container on a network that leaves under the host's second addresses, with tcp port 80 published."""
    assert lan
    host.run("ip", "address", "add", f"{SNAT[4]}/24", "dev", "lan")
    host.run("ip", "address", "add", f"{SNAT[6]}/64", "dev", "lan", "nodad")
    options = [f"-o com.docker.network.host_ipv{family}={SNAT[family]}" for family in (4, 6)]
    network(host, "chosen", *SUBNETS, *(word for text in options for word in text.split()))
    run(host, "create", "--network", "chosen", "-p", "8080:80", "web")
    return host.sandbox("web")


@FAMILIES
def test_the_outside_sees_the_chosen_address(lan: Neighbour, snat: Namespace, family: int) -> None:
    """com.docker.network.host_ipv4 and host_ipv6 are what the outside sees, near and far, and answers come back."""
    for protocol in ("tcp", "udp"):
        with lan.serve(4000, protocol, "::"):
            for target in (PEER[family], FAR[family]):
                assert reach(snat, target, 4000, protocol).removeprefix("::ffff:") == SNAT[family]
    assert snat.can_ping(FAR[family])


def test_other_networks_are_masqueraded(host: FakeHost, lan: Neighbour, snat: Namespace) -> None:
    """Another network still leaves under the address of the interface."""
    assert snat
    run(host, "create", "plain")
    with lan.serve(4000):
        assert reach(host.sandbox("plain"), PEER[4], 4000) == HOST[4]


def test_counters_of_snat(host: FakeHost, lan: Neighbour, snat: Namespace) -> None:
    """`nat show` tells the chosen address and counts the connections under it."""
    with lan.serve(4000):
        assert reach(snat, PEER[4], 4000)
    rows = {row["source"]: row for row in run(host, "nat", "show", "--json").json}
    assert (rows["10.3.0.0/24"]["kind"], rows["10.3.0.0/24"]["target"]) == ("snat", SNAT[4])
    assert rows["10.3.0.0/24"]["packets"] == 1
    assert rows["fd00:3::/64"]["target"] == SNAT[6]


@FAMILIES
def test_published_ports_of_a_chosen_address(host: FakeHost, lan: Neighbour, snat: Namespace, family: int) -> None:
    """Published ports work as elsewhere: the real source from outside, the gateway for hairpin and 127.0.0.1."""
    with snat.serve(80, address="::"):
        assert reach(lan, HOST[family], 8080).removeprefix("::ffff:") == PEER[family]
        assert reach(snat, HOST[family], 8080).removeprefix("::ffff:") == gateway(host, "web", family)
    with snat.serve(80):
        assert reach(host, "127.0.0.1", 8080) == "10.3.0.1"


def test_a_chosen_network_is_isolated(host: FakeHost, lan: Neighbour, snat: Namespace) -> None:
    """An address of choice opens nothing: unpublished ports stay closed to who routes to them."""
    lan.run("ip", "route", "add", "10.3.0.0/24", "via", HOST[4])
    with serving(snat, 80):
        assert answering(lan, address(host, "web"), 80) == []
        host.run("nft flush chain inet dnet forward")
        assert answering(lan, address(host, "web"), 80, within_s=PATIENCE_S) == all_answers(80)


def test_removing_a_chosen_network(host: FakeHost, snat: Namespace) -> None:
    """Its elements go with it."""
    assert snat
    run(host, "create", "keeps-the-table")
    run(host, "rm", "web")
    run(host, "network", "rm", "chosen")
    assert elements(host, "snat4", "snat6") == []
