"""Many containers with published ports in one command: distinct ports, few nftables transactions, all or nothing."""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.support.dnet_commands import network, settled_snapshot
from tests.support.hosts import FakeHost, Neighbour, wait_until
from tests.support.nft_listing import elements, generation, published
from tests.support.traffic import HOST, listening, set_number

SOME = (0, 1, 249, 498, 499)


def test_automatic_ports(host: FakeHost, lan: Neighbour) -> None:
    """500 containers with `-p 80` get 500 ports, an nftables transaction for each lot; all are mapped, and answer."""
    host.dnet("create", "first")
    before = generation(host)
    made = host.dnet("bulk-create", "--count", "500", "-p", "80", "--json").json["containers"]
    assert generation(host) - before == 6  # lots of 32, 64, and then of 128
    ports = [item["ports"][0]["host_port"] for item in made]
    assert ports == list(range(32768, 33268))
    expected = [(("tcp", str(item["ports"][0]["host_port"])), (item["ip"], "80")) for item in made]
    assert elements(host, "publish4") == sorted(expected)
    check(host, lan, [(made[number]["name"], ports[number]) for number in SOME])
    before = generation(host)
    host.dnet("bulk-delete", "--prefix", "c")
    assert generation(host) - before == 1
    assert published(host) == []


def check(host: FakeHost, lan: Neighbour, some: list[tuple[str, int]]) -> None:
    """Ask some of the containers from outside."""
    for name, port in some:
        with host.sandbox(name).serve(80):
            assert lan.ask(HOST[4], port)["server"] == name


def test_a_shared_range(host: FakeHost, lan: Neighbour) -> None:
    """With `-p 20000-20499:80` the containers share out the range in order."""
    host.dnet("create", "first")
    made = host.dnet("bulk-create", "--count", "500", "-p", "20000-20499:80", "--json").json["containers"]
    assert [item["ports"][0]["host_port"] for item in made] == list(range(20000, 20500))
    assert len(published(host)) == 500
    check(host, lan, [(f"c-{number + 1}", 20000 + number) for number in SOME])


def test_both_families_together(host: FakeHost) -> None:
    """On a network of both families the ports of both go together, under the same numbers."""
    network(host, "six", "--ipv6")
    before = generation(host)
    host.dnet("bulk-create", "--count", "100", "--network", "six", "-p", "80", "-p", "127.0.0.1::53/udp")
    assert generation(host) - before == 3  # of 32, 64 and 4
    four, six = elements(host, "publish4"), elements(host, "publish6")
    assert [key for key, _ in four] == [key for key, _ in six]
    assert len(four) == len(elements(host, "publish4_on")) == 100


def test_the_first_bulk(host: FakeHost) -> None:
    """A bulk that makes its network too takes one transaction more: the network's, with the table."""
    before = generation(host)
    host.dnet("bulk-create", "--count", "50", "-p", "80")
    assert generation(host) - before == 1 + 2  # of 32, and of 18


def test_a_bulk_without_ports(host: FakeHost) -> None:
    """Containers without published ports take no transaction at all."""
    host.dnet("create", "first")
    before = generation(host)
    host.dnet("bulk-create", "--count", "20")
    host.dnet("bulk-delete", "--all")
    assert generation(host) == before


def test_a_range_that_is_too_small(host: FakeHost) -> None:
    """More containers than ports in the range: Exhausted (exit 5), the range named, nothing changed."""
    host.dnet("create", "first")
    before, number = settled_snapshot(host), generation(host)
    refused = host.dnet("bulk-create", "--count", "11", "-p", "20000-20009:80", code=5)
    assert "20000-20009" in refused.stderr
    assert host.changes(before) == ""
    assert generation(host) == number


def test_a_range_partly_taken(host: FakeHost) -> None:
    """Ports of a range that containers and processes have are left out when it is shared out."""
    host.dnet("create", "-p", "20001:80", "first")
    with listening(host, "127.0.0.1", 20003):
        made = host.dnet("bulk-create", "--count", "3", "-p", "20000-20009:80", "--json").json["containers"]
    assert [item["ports"][0]["host_port"] for item in made] == [20000, 20002, 20004]


def test_too_few_automatic_ports(host: FakeHost) -> None:
    """More containers than automatic ports: Exhausted (exit 5), the setting named, nothing changed."""
    set_number(host, "net/ipv4/ip_local_port_range", "40000 40009")
    host.dnet("create", "first")
    before = settled_snapshot(host)
    refused = host.dnet("bulk-create", "--count", "11", "-p", "80", code=5)
    assert "net.ipv4.ip_local_port_range" in refused.stderr
    assert host.changes(before) == ""
    host.dnet("bulk-create", "--count", "10", "-p", "80")


@pytest.mark.parametrize("port", ["8080:80", "8080-8081:80-81", "127.0.0.1:8080:80", "8080:80/udp"])
def test_one_explicit_port_for_two(host: FakeHost, port: str) -> None:
    """An explicit port with --count 2 is a Conflict (exit 4) that names port and holder, before anything is touched."""
    host.dnet("create", "first")
    before, number = settled_snapshot(host), generation(host)
    refused = host.dnet("bulk-create", "--count", "2", "-p", port, code=4)
    assert "8080/" in refused.stderr
    assert "c-1" in refused.stderr
    assert host.changes(before) == ""
    assert generation(host) == number
    host.dnet("bulk-create", "--count", "1", "-p", port)


def test_publish_all(host: FakeHost) -> None:
    """-P with --expose gives every container an automatic port for each of its exposed ones."""
    made = host.dnet("bulk-create", "--count", "3", "-P", "--expose", "80-81", "--json").json["containers"]
    numbers = [port["host_port"] for item in made for port in item["ports"]]
    assert numbers == list(range(32768, 32774))


def test_removal_in_parts(host: FakeHost) -> None:
    """Removing some of a bulk removes their elements alone."""
    host.dnet("bulk-create", "--count", "10", "-p", "20000-20009:80")
    host.dnet("rm", *(f"c-{number}" for number in range(1, 10)))
    assert published(host) == [(("tcp", "20009"), ("172.17.0.11", "80"))]


def begun(host: FakeHost, *options: str) -> subprocess.Popen[str]:
    """Start a bulk of 300 containers, and return when their ports are in the table."""
    process = host.start_dnet("bulk-create", "--count", "300", *options)
    wait_until(lambda: len(elements(host, "publish4")) >= 300, "the ports are mapped")
    return process


def test_interrupted(host: FakeHost) -> None:
    """Ctrl-C in the middle takes back the ports with the containers."""
    host.dnet("create", "-p", "8080:80", "first")
    process = begun(host, "-p", "20000-20299:80")
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert [key for key, _ in published(host)] == [("tcp", "8080")]
    assert host.rows("SELECT host_port FROM port_mapping") == [[8080]]


def test_killed(host: FakeHost) -> None:
    """What SIGKILL leaves is removed by the next command, and the ports are free."""
    host.dnet("create", "-p", "8080:80", "first")
    process = begun(host, "-p", "20000-20299:80")
    process.kill()
    process.communicate()
    host.dnet("create", "-p", "20150:80", "next")
    assert [key[1] for key, _ in published(host)] == ["20150", "8080"]
    assert host.rows("SELECT host_port FROM port_mapping ORDER BY 1") == [[8080], [20150]]
    assert len(host.pins()) == 2
