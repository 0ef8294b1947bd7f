"""What is refused about published ports, in a sentence and without a trace; and failures in the middle, likewise."""

from __future__ import annotations

import pytest

import dnet
from dnet.engine import Engine
from tests.support.dnet_commands import network, run, settled_snapshot
from tests.support.faults import FaultyKernel, FaultyNft
from tests.support.hosts import FakeHost, Neighbour, Raised
from tests.support.nft_listing import generation, published
from tests.support.traffic import HOST, listening

NEVER = 1 << 30
MALFORMED = [
    "",
    "8080:",
    "127.0.0.1:8080:",
    "70000:80",
    "8080:70000",
    "0",
    "8000-8010:9000-9009",
    "8080:80/icmp",
    "[fe80::1%eth0]:8080:80",
    "9000-8000:80",
    "localhost:8080:80",
    "::1:8080:80",
    "http:80",
    "1" * 5000,
]


@pytest.fixture
def busy(host: FakeHost, lan: Neighbour) -> FakeHost:
    """Return a host with a container on network bridge, and one on a network of both families."""
    assert lan
    network(host, "six", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64")
    run(host, "create", "--network", "six", "-p", "9000:80", "holder")
    run(host, "create", "first")
    return host


def test_malformed_ports(busy: FakeHost) -> None:
    """Every malformed -p exits 2 with a sentence that quotes it and a hint with the grammar; nothing changed."""
    before = settled_snapshot(busy)
    for text in MALFORMED:
        refused = run(busy, "create", "-p", text, "web", code=2)
        lines = refused.stderr.splitlines()
        assert lines[0].startswith(f"dnet: invalid port {text!r}: ")
        assert "containerPort" in lines[1]
        assert refused.stdout == ""
    run(busy, "bulk-create", "--count", "2", "-p", "8080:80/icmp", code=2)
    run(busy, "create", "--expose", "70000", "web", code=2)
    assert busy.changes(before) == ""


def test_a_good_and_a_malformed_port(busy: FakeHost) -> None:
    """One malformed -p among good ones refuses the command."""
    before = settled_snapshot(busy)
    run(busy, "create", "-p", "8080:80", "-p", "8081:", "-p", "8082:82", "web", code=2)
    assert busy.changes(before) == ""


def test_a_good_and_a_taken_port(busy: FakeHost) -> None:
    """One taken port among free ones refuses the command, and the others are free again."""
    before = settled_snapshot(busy)
    run(busy, "create", "-p", "8080:80", "-p", "9000:81", "-p", "8082:82", "web", code=4)
    assert busy.changes(before) == ""
    run(busy, "create", "-p", "8080:80", "-p", "8082:82", "web")


def test_one_port_twice(busy: FakeHost) -> None:
    """One container cannot have a host port twice, by a repeated -p or by one on all addresses beside one on one."""
    before = settled_snapshot(busy)
    for pair in (("8080:80", "8080:81"), ("8080:80", "8080:80"), ("8080:80", f"{HOST[4]}:8080:80")):
        refused = run(busy, "create", *(word for text in pair for word in ("-p", text)), "web", code=4)
        assert "8080/tcp" in refused.stderr
    assert busy.changes(before) == ""


def test_an_ipv6_address_on_an_ipv4_network(busy: FakeHost) -> None:
    """A port on an IPv6 address needs a network with IPv6; the error says so."""
    before = settled_snapshot(busy)
    for text in ("[::1]:8080:80", "[::]:8080:80", f"[{HOST[6]}]::80"):
        refused = run(busy, "create", "-p", text, "web", code=2)
        assert "no IPv6" in refused.stderr
        assert "--ipv6" in refused.stderr
    assert busy.changes(before) == ""


def test_ports_of_mode_none(busy: FakeHost) -> None:
    """With --network none published ports are discarded, and that is said, as with Docker."""
    done = run(busy, "create", "--network", "none", "-p", "8080:80", "-P", "web")
    assert "discarded" in done.stderr
    assert run(busy, "port", "web").stdout == ""
    assert [key for key, _ in published(busy)] == [("tcp", "9000")] * 2
    run(busy, "create", "-p", "8080:80", "other")


def test_ports_of_a_sharer(busy: FakeHost) -> None:
    """With --network container:NAME ports are refused, as by Docker, being the other container's; nothing changed."""
    before = settled_snapshot(busy)
    refused = run(busy, "create", "--network", "container:first", "-p", "8080:80", "web", code=2)
    assert "container:first" in refused.stderr
    assert busy.changes(before) == ""


def test_host_bindings_that_are_wrong(busy: FakeHost) -> None:
    """A --host-binding or an address for SNAT that is none of the host's is refused; nothing changed."""
    before = settled_snapshot(busy)
    for options in (
        ("--host-binding", "203.0.113.9"),
        ("--host-binding", "eth0"),
        ("-o", "com.docker.network.bridge.host_binding_ipv4=203.0.113.9"),
        ("-o", "com.docker.network.host_ipv4=203.0.113.9"),
        ("-o", "com.docker.network.host_ipv4=2001:db8::1"),
        ("-o", "com.docker.network.host_ipv6=2001:db8::99"),
    ):
        run(busy, "network", "create", *options, "bound", code=2)
    assert busy.changes(before) == ""


def test_plan_touches_nothing(busy: FakeHost) -> None:
    """`plan` shows the elements that a port would be, and touches nothing, not even the place for automatic ports."""
    before, number = settled_snapshot(busy), generation(busy)
    shown = run(busy, "plan", "create", "-p", "80", "-p", "127.0.0.1:8081:81", "web").stdout
    assert "tcp . 32768 : 172.17.0.3 . 80 of publish4" in shown
    assert "127.0.0.1 . tcp . 8081 : 172.17.0.3 . 81 of publish4_on" in shown
    assert busy.changes(before) == ""
    assert generation(busy) == number
    run(busy, "plan", "create", "-p", "9000:80", "web", code=4)


PORTS = ["8080-8081:80", "127.0.0.1:5300-5301:53/udp", "8100-8199:22"]


def create(directories: tuple[str, str], kernel_fault: int, nft_fault: int) -> list[str]:
    """Create two containers with ports, with a fault in it."""
    with Engine(*directories, print, FaultyKernel(print, kernel_fault), FaultyNft(nft_fault)) as engine:
        specs = [dnet.ContainerSpec(name=name, network="six", publish=PORTS) for name in ("one", "two")]
        return [item.name for item in engine.create_many(specs).containers]


@pytest.mark.parametrize("fault", ["nft", 0, 1, 5, 12, 20])
def test_refused_by_the_kernel(busy: FakeHost, fault: int | str) -> None:
    """Whether nftables or the kernel refuses something in the middle, no port stays, in the table or in the store."""
    before = settled_snapshot(busy)
    with pytest.raises(Raised, match="cannot ") as caught:
        busy.call(create, busy.directories, NEVER if fault == "nft" else fault, 0 if fault == "nft" else NEVER)
    assert caught.value.notes == []
    assert busy.changes(before) == ""
    assert busy.call(create, busy.directories, NEVER, NEVER) == ["one", "two"]


def test_keeping_going(busy: FakeHost) -> None:
    """With --keep-going the containers that failed leave no port behind, and the others have theirs."""
    busy.run("ip netns add c-2")
    run(busy, "bulk-create", "--count", "3", "-p", "20000-20002:80", "--keep-going", code=4)
    busy.run("ip netns delete c-2")
    failed = busy.call(create_one_too_many, busy.directories)
    assert failed == ["c-2"]
    assert [key[1] for key, _ in published(busy)] == ["20000", "20002", "9000", "9000"]
    assert busy.rows("SELECT host_port FROM port_mapping WHERE host_port >= 20000 ORDER BY 1") == [[20000], [20002]]
    run(busy, "create", "-p", "20001:80", "web")


def create_one_too_many(directories: tuple[str, str]) -> list[str]:
    """Create three containers, the second of which the kernel refuses, keeping the others; return who failed."""
    one = 0
    with dnet.open(*directories) as engine:
        one = sum(item.backend == "kernel" for item in engine.plan([dnet.ContainerSpec(name="c-1")]))
    with Engine(*directories, print, FaultyKernel(print, one + 2), FaultyNft(NEVER)) as engine:
        specs = [dnet.ContainerSpec(name=f"c-{number}", publish=["20000-20002:80"]) for number in (1, 2, 3)]
        return [name for name, _ in engine.create_many(specs, keep_going=True).failed]


def test_the_first_network_of_a_refused_container(host: FakeHost) -> None:
    """A refused port on a host without networks leaves no network, table or forwarding behind."""
    with listening(host, "0.0.0.0", 8080):
        links, ruleset = host.json("ip -j link"), host.run("nft list ruleset").stdout
        run(host, "create", "-p", "8080:80", "web", code=4)
        assert host.json("ip -j link") == links
        assert host.run("nft list ruleset").stdout == ruleset == ""
        assert host.run("cat /proc/sys/net/ipv4/ip_forward").stdout == "0\n"
        assert run(host, "network", "ls", "--json").json == []
