"""How published ports are looked at: `ps`, `inspect`, `nat show` with its counters, and nft's own listing."""

from __future__ import annotations

import json
from typing import Any

from tests.support.dnet_commands import created, network, run
from tests.support.hosts import FakeHost, Neighbour
from tests.support.traffic import FAR, HOST, PEER, serving


def rows(host: FakeHost, *options: str) -> list[dict[str, Any]]:
    """Return `nat show --json`."""
    found: list[dict[str, Any]] = run(host, "nat", "show", "--json", *options).json
    return found


def count(host: FakeHost, source: str) -> int:
    """Return the packet counter of the row about a port or subnet."""
    [number] = [row["packets"] for row in rows(host) if row["source"] == source]
    return int(number)


def two_networks(host: FakeHost) -> None:
    """Create web on network six and db on network blue, with a port each."""
    network(host, "six", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64")
    network(host, "blue", "--subnet", "10.2.0.0/24")
    run(host, "create", "--network", "six", "-p", "8080:80", "web")
    run(host, "create", "--network", "blue", "-p", "127.0.0.1:5300:53/udp", "db")


def test_ps(host: FakeHost) -> None:
    """`ps` shows the mappings as Docker does, `ps --json` as documents."""
    two_networks(host)
    lines = run(host, "ps").stdout.splitlines()
    assert "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp" in lines[1]
    assert "127.0.0.1:5300->53/udp" in lines[2]
    found = {row["name"]: row["ports"] for row in run(host, "ps", "--json").json}
    assert found["db"] == [{"host_ip": "127.0.0.1", "host_port": 5300, "container_port": 53, "protocol": "udp"}]
    assert [port["host_ip"] for port in found["web"]] == ["0.0.0.0", "::"]


def test_port_as_json(host: FakeHost) -> None:
    """`port --json` prints the mappings as documents."""
    two_networks(host)
    assert run(host, "port", "--json", "db").json == [
        {"host_ip": "127.0.0.1", "host_port": 5300, "container_port": 53, "protocol": "udp"}
    ]


def test_inspect(host: FakeHost) -> None:
    """`inspect` shows the bindings by Docker's names, and takes them in a template."""
    two_networks(host)
    [document] = run(host, "inspect", "web").json
    bindings = [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}]
    assert document["NetworkSettings"]["Ports"] == {"80/tcp": bindings}
    text = run(host, "inspect", "-f", "{{ json .NetworkSettings.Ports }}", "web").stdout
    assert json.loads(text) == {"80/tcp": bindings}


def test_bulk_document(host: FakeHost) -> None:
    """`bulk-create --json` tells each container's ports."""
    made = run(host, "bulk-create", "--count", "2", "-p", "80", "--json").json["containers"]
    assert [item["ports"] for item in made] == [
        [{"host_ip": "0.0.0.0", "host_port": port, "container_port": 80, "protocol": "tcp"}] for port in (32768, 32769)
    ]


def test_nat_show(host: FakeHost) -> None:
    """`nat show` has a line for every published port and every masqueraded subnet, of one network when asked."""
    two_networks(host)
    keys = ("kind", "network", "container", "source", "target")
    found = {tuple(row[key] for key in keys) for row in rows(host)}
    six = {
        ("masquerade", "six", "", "10.1.0.0/24", "(interface)"),
        ("masquerade", "six", "", "fd00:1::/64", "(interface)"),
        ("publish", "six", "web", "0.0.0.0:8080/tcp", "10.1.0.2:80"),
    }
    assert six < found
    assert ("publish", "blue", "db", "127.0.0.1:5300/udp", "10.2.0.2:53") in found
    [other] = [row for row in found if row[3] == "[::]:8080/tcp"]
    assert "fd00:1::2" in other[4]
    assert len(found) == 6
    assert {row["network"] for row in rows(host, "--network", "blue")} == {"blue"}
    run(host, "nat", "show", "--network", "green", code=3)


def test_ipv6_targets_are_in_brackets(host: FakeHost) -> None:
    """An IPv6 address with a port is written in brackets, on both sides."""
    two_networks(host)
    [row] = [row for row in rows(host) if row["source"] == "[::]:8080/tcp"]
    assert row["target"] == "[fd00:1::2]:80"


def test_nat_show_as_text(host: FakeHost) -> None:
    """As text, `nat show` is a table with a heading."""
    two_networks(host)
    lines = run(host, "nat", "show").stdout.splitlines()
    assert lines[0].split() == ["KIND", "NETWORK", "CONTAINER", "FROM", "TO", "PACKETS", "BYTES"]
    assert len(lines) == 7


def test_counters_of_ports(host: FakeHost, lan: Neighbour) -> None:
    """Every new connection to a published port counts once, from wherever it comes; others' count does not move."""
    two_networks(host)
    web = host.sandbox("web")
    with serving(web, 80):
        for number, (asker, target) in enumerate(((lan, HOST[4]), (host, "127.0.0.1"), (web, HOST[4])), 1):
            assert ask(asker, target)
            assert count(host, "0.0.0.0:8080/tcp") == number
        assert count(host, "[::]:8080/tcp") == 0
        assert ask(lan, HOST[6])
    assert count(host, "[::]:8080/tcp") == 1
    assert count(host, "127.0.0.1:5300/udp") == 0
    [size] = [row["bytes"] for row in rows(host) if row["source"] == "[::]:8080/tcp"]
    assert size >= 60


def ask(space: Any, target: str) -> bool:
    """Whether a web server answers at port 8080."""
    script = (
        "import socket, sys; s = socket.create_connection((sys.argv[1], 8080), 3); "
        "sys.exit(0 if s.recv(100) else 'closed')"
    )
    return bool(space.python(script, target, exit_code=None).code == 0)


def test_counters_of_networks(host: FakeHost, lan: Neighbour) -> None:
    """Every connection that leaves masqueraded counts for its network's subnet."""
    two_networks(host)
    web = host.sandbox("web")
    with serving(lan, 8080):
        assert ask(web, PEER[4])
        assert ask(web, FAR[4])
        assert ask(web, PEER[6])
        assert ask(host, PEER[4])
    assert count(host, "10.1.0.0/24") == 2
    assert count(host, "fd00:1::/64") == 1
    assert count(host, "10.2.0.0/24") == 0


def test_counters_survive_other_changes(host: FakeHost, lan: Neighbour) -> None:
    """Creating and removing other containers and networks does not set a port's counter back."""
    two_networks(host)
    with serving(host.sandbox("web"), 80):
        assert ask(lan, HOST[4])
    run(host, "create", "-p", "8081:80", "other")
    run(host, "rm", "other", "db")
    run(host, "network", "rm", "blue", "bridge")
    assert count(host, "0.0.0.0:8080/tcp") == 1


def test_nat_show_without_anything(host: FakeHost) -> None:
    """Before the first network `nat show` is empty, and makes nothing."""
    assert rows(host) == []
    assert host.json("nft -j list tables")["nftables"][1:] == []


def test_everything_in_the_table_has_a_comment(host: FakeHost) -> None:
    """`nft list table inet dnet` explains itself: a comment on the table, each set, each map and each chain."""
    two_networks(host)
    listing = host.run("nft list table inet dnet").stdout
    assert listing.splitlines()[1].strip().startswith("comment ")
    blocks = listing.split("\n\n")
    kinds = {"set": 0, "map": 0, "chain": 0}
    for block in blocks:
        head = next(line.split() for line in block.splitlines() if line.split()[0] in kinds)
        kinds[head[0]] += 1
        assert "comment " in block, head
    assert all(kinds.values()), kinds


def test_containers_add_no_rules(host: FakeHost) -> None:
    """Publishing, networks and containers add elements; chains and rules stay the same."""
    network(host, "six", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64")
    before = rules(host)
    network(host, "blue", "--subnet", "10.2.0.0/24", "--icc=false")
    network(host, "red", "--subnet", "10.3.0.0/24", "--masquerade=false", "--internal")
    created(host, "--network", "six", "-p", "8000-8010:8000-8010", "-p", "127.0.0.1::80", "-p", "53/udp", "web")
    run(host, "bulk-create", "--count", "5", "--network", "blue", "-p", "80")
    assert rules(host) == before


def rules(host: FakeHost) -> list[Any]:
    """Return the rules and chains, without what counts."""
    found = host.json("nft", "-j", "list", "table", "inet", "dnet")["nftables"]
    kept = []
    for item in found:
        if "chain" in item:
            kept.append(item["chain"]["name"])
        if "rule" in item:
            kept.append([part for part in item["rule"]["expr"] if "counter" not in part])
    return kept
