"""Somebody removes dnet's table: the next command makes it again, with all that belongs in it."""

from __future__ import annotations

import pytest

import dnet
from tests.support.dnet_commands import network, run
from tests.support.hosts import FakeHost, Neighbour
from tests.support.nft_listing import as_text, elements, plain, published
from tests.support.traffic import HOST, PATIENCE_S, all_answers, answering, serving

REMOVALS = ["nft flush ruleset", "nft delete table inet dnet"]


@pytest.fixture
def host(host: FakeHost, lan: Neighbour) -> FakeHost:
    """Return a host with three networks and containers with ports on all of them."""
    assert lan
    network(host, "six", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64")
    network(host, "quiet", "--subnet", "10.2.0.0/24", "--icc=false", "--internal")
    network(host, "routed", "--subnet", "10.3.0.0/24", "--masquerade=false")
    run(host, "create", "--network", "six", "-p", "8080:80", "-p", "8080:80/udp", "web")
    run(host, "create", "--network", "routed", "-p", "127.0.0.1:8081:80", "db")
    run(host, "create", "--network", "quiet", "inner")
    return host


def table(host: FakeHost) -> str:
    """Return the table as nft lists it, without counters, its parts in order of their names."""
    items = plain(host.json("nft", "-j", "list", "table", "inet", "dnet")["nftables"])
    for item in items:
        for value in item.values():
            value.pop("elem", None)
    found = [as_text(item) for item in items if "rule" not in item]
    return "\n".join([*sorted(found), *(as_text(item) for item in items if "rule" in item)])


def contents(host: FakeHost) -> dict[str, list[object]]:
    """Return the elements of every set and map."""
    names = ("bridges", "within_network", "internal", "routed", "subnets4", "subnets6", "masquerade4", "masquerade6")
    return {name: list(elements(host, name)) for name in (*names, "open4", "snat4")} | {"": list(published(host))}


@pytest.mark.parametrize("removal", REMOVALS)
def test_create_with_a_port(host: FakeHost, lan: Neighbour, removal: str) -> None:
    """`create -p` works, says what happened, and the ports of the containers from before work again."""
    before, filled = table(host), contents(host)
    host.run(removal)
    done = run(host, "create", "--network", "six", "-p", "9000:80", "new")
    assert "inet dnet" in done.stderr
    assert "somebody" in done.stderr
    with serving(host.sandbox("web"), 80), host.sandbox("new").serve(80):
        assert answering(lan, HOST[4], 8080, within_s=PATIENCE_S) == all_answers(8080)
        assert answering(lan, HOST[6], 8080, within_s=PATIENCE_S) == all_answers(8080)
        assert lan.ask(HOST[4], 9000)["server"] == "new"
    run(host, "rm", "new")
    assert contents(host) == filled
    assert table(host) == before


@pytest.mark.parametrize("removal", REMOVALS)
def test_networks(host: FakeHost, removal: str) -> None:
    """Creating a network does the same."""
    before, filled = table(host), contents(host)
    host.run(removal)
    network(host, "blue", "--subnet", "10.9.0.0/24")
    run(host, "network", "rm", "blue")
    assert contents(host) == filled
    assert table(host) == before


def test_a_bulk(host: FakeHost) -> None:
    """A bulk with ports after a flush has its elements and the earlier ones."""
    host.run("nft flush ruleset")
    run(host, "bulk-create", "--count", "20", "--network", "six", "-p", "80")
    assert len(published(host)) == 45


def test_engine_publish(host: FakeHost) -> None:
    """Engine.publish after a flush has its element and the earlier ones."""
    filled = contents(host)
    host.run("nft flush ruleset")
    host.call(publish, host.directories)
    assert (("tcp", "9000"), ("10.1.0.2", "81")) in published(host)
    host.call(unpublish, host.directories)
    assert contents(host) == filled


def publish(directories: tuple[str, str]) -> None:
    """Publish a port of web."""
    with dnet.open(*directories) as engine:
        engine.publish("web", ["9000:81"])


def unpublish(directories: tuple[str, str]) -> None:
    """Take that port back."""
    with dnet.open(*directories) as engine:
        ports = engine.container("web").ports
        engine.unpublish("web", [item for item in ports if item.container_port == 81])


@pytest.mark.parametrize("removal", REMOVALS)
def test_removal(host: FakeHost, removal: str) -> None:
    """Containers and networks are removed after a flush as without one, and nothing is left."""
    host.run(removal)
    run(host, "bulk-delete", "--all")
    run(host, "network", "rm", "six", "quiet", "routed")
    assert [link["ifname"] for link in host.json("ip -j link")] == ["lo", "lan"]
    assert host.json("nft -j list tables")["nftables"][1:] == []
    assert host.rows("SELECT * FROM port_mapping") == []


def test_an_element_that_somebody_removed(host: FakeHost) -> None:
    """A container is removed although one of its elements is gone, and its other elements go."""
    host.run("nft", "delete element inet dnet publish4 { tcp . 8080 }")
    host.run("nft", "delete element inet dnet masquerade4 { 10.1.0.0/24 }")
    run(host, "rm", "web")
    assert [key for key, _ in published(host)] == [("127.0.0.1", "tcp", "8081")]
    run(host, "network", "rm", "six")
    assert ("10.1.0.0/24",) not in [key[1:] for key, _ in elements(host, "subnets4")]


def test_looking(host: FakeHost) -> None:
    """`nat show` and `port` still tell what should be there; counters are 0."""
    host.run("nft flush ruleset")
    rows = run(host, "nat", "show", "--json").json
    assert len([row for row in rows if row["kind"] == "publish"]) == 5
    assert {row["packets"] for row in rows} == {0}
    assert len(run(host, "port", "web").stdout.splitlines()) == 4
    assert host.json("nft -j list tables")["nftables"][1:] == []


def test_a_container_without_ports(host: FakeHost) -> None:
    """A container without ports needs no table, and makes none; its network is as open as somebody made it."""
    host.run("nft flush ruleset")
    run(host, "create", "--network", "six", "plain")
    assert host.sandbox("plain").can_ping("10.1.0.2")
