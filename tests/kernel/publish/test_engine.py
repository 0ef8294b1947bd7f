"""Engine.publish and Engine.unpublish: ports of a container that is there already."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

import dnet
from dnet.engine import Engine
from dnet.linux.kernel import Kernel
from tests.support.dnet_commands import network, ports_of, run, settled_snapshot
from tests.support.faults import FaultyNft
from tests.support.hosts import FakeHost, Neighbour, Raised
from tests.support.nft_listing import elements, generation, published
from tests.support.traffic import HOST, is_refused, listening, reach


@pytest.fixture
def host(host: FakeHost, lan: Neighbour) -> FakeHost:
    """Return a host with two containers on a network of both families; db publishes port 5432."""
    assert lan
    network(host, "six", "--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64")
    run(host, "create", "--network", "six", "web")
    run(host, "create", "--network", "six", "-p", "5432:5432", "db")
    return host


def publish(directories: tuple[str, str], name: str, ports: Sequence[str]) -> list[str]:
    """Publish ports and return the container's mappings as Engine.publish tells them."""
    with dnet.open(*directories) as engine:
        return [str(item) for item in engine.publish(name, ports).ports]


def unpublish(directories: tuple[str, str], name: str, ports: Sequence[str]) -> list[str]:
    """Take back the mappings that are written so, and return those that are left."""
    with dnet.open(*directories) as engine:
        doomed = [item for item in engine.container(name).ports if str(item) in ports]
        return [str(item) for item in engine.unpublish(name, doomed).ports]


def test_publish(host: FakeHost, lan: Neighbour) -> None:
    """A port that is published later is mapped in one transaction, shown, exposed, and reached."""
    before = generation(host)
    made = host.call(publish, host.directories, "web", ["8080:80", "127.0.0.1::53/udp"])
    assert generation(host) - before == 1
    assert sorted(made) == ["0.0.0.0:8080->80/tcp", "127.0.0.1:32768->53/udp", "[::]:8080->80/tcp"]
    assert ports_of(host, "web") == ["53/udp -> 127.0.0.1:32768", "80/tcp -> 0.0.0.0:8080", "80/tcp -> [::]:8080"]
    [document] = run(host, "inspect", "web").json
    assert document["Config"]["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    with host.sandbox("web").serve(80, address="::"):
        for family in (4, 6):
            assert lan.ask(HOST[family], 8080)["server"] == "web"


def test_unpublish(host: FakeHost, lan: Neighbour) -> None:
    """A mapping that is taken back is gone from the table, from what is shown, and from reach; the others stay."""
    host.call(publish, host.directories, "web", ["8080:80", "8081:80"])
    before = generation(host)
    doomed = ["0.0.0.0:8080->80/tcp", "[::]:8080->80/tcp"]
    left = host.call(unpublish, host.directories, "web", doomed)
    assert generation(host) - before == 1
    assert left == ["0.0.0.0:8081->80/tcp", "[::]:8081->80/tcp"]
    assert ports_of(host, "web") == ["80/tcp -> 0.0.0.0:8081", "80/tcp -> [::]:8081"]
    assert [key for key, _ in elements(host, "publish4")] == [("tcp", "5432"), ("tcp", "8081")]
    with host.sandbox("web").serve(80):
        assert is_refused(lan, HOST[4], 8080)
        assert lan.ask(HOST[4], 8081)["server"] == "web"
    run(host, "create", "--network", "six", "-p", "8080:80", "next")


def test_one_family_of_a_mapping(host: FakeHost) -> None:
    """The IPv6 half of a port can be taken back alone."""
    host.call(publish, host.directories, "web", ["8080:80"])
    host.call(unpublish, host.directories, "web", ["[::]:8080->80/tcp"])
    assert [key for key, _ in elements(host, "publish6")] == [("tcp", "5432")]
    assert len(elements(host, "publish4")) == 2


def test_removal_takes_later_ports_along(host: FakeHost) -> None:
    """A container's removal removes ports that were published later."""
    host.call(publish, host.directories, "web", ["8080:80"])
    run(host, "rm", "web")
    assert [key for key, _ in published(host)] == [("tcp", "5432")] * 2


def test_many_ports_at_once(host: FakeHost) -> None:
    """A thousand ports of one container are one transaction, in and out."""
    before = generation(host)
    made = host.call(publish, host.directories, "web", ["10000-10999:10000-10999"])
    assert len(made) == 2000
    assert len(published(host)) == 2002
    host.call(unpublish, host.directories, "web", made)
    assert generation(host) - before == 2
    assert len(published(host)) == 2


REFUSALS = [
    (["8080:80", "5432:80"], "Conflict", "container db"),
    (["8080:80", "127.0.0.1:5432:80"], "Conflict", "container db"),
    (["8080:80", "8080:81"], "Conflict", "web"),
    (["8080:80", "7000:81"], "Conflict", "pid"),
    (["8080:80", "7000-7000:81"], "Conflict", "pid"),
    (["8080:80", "8081:"], "InvalidRequest", "8081:"),
    (["8080:80", "203.0.113.9:8081:81"], "InvalidRequest", "203.0.113.9"),
]


@pytest.mark.parametrize(("ports", "kind", "words"), REFUSALS, ids=lambda value: str(value)[:40])
def test_all_or_none(host: FakeHost, ports: list[str], kind: str, words: str) -> None:
    """When one of several ports cannot be published, none is, and the error names the holder or the fault."""
    with listening(host, "127.0.0.1", 7000):
        before = settled_snapshot(host)
        with pytest.raises(Raised, match=words) as caught:
            host.call(publish, host.directories, "web", ports)
        assert caught.value.kind == kind
        assert host.changes(before) == ""


def test_unknown_and_unfit_containers(host: FakeHost) -> None:
    """Ports of an unknown container, or of one of mode none, are refused; nothing changed."""
    run(host, "create", "--network", "none", "alone")
    before = settled_snapshot(host)
    for name, kind in (("nobody", "NotFound"), ("alone", "InvalidRequest")):
        with pytest.raises(Raised) as caught:
            host.call(publish, host.directories, name, ["8080:80"])
        assert caught.value.kind == kind
    with pytest.raises(Raised) as caught:
        host.call(unpublish_foreign, host.directories)
    assert caught.value.kind == "NotFound"
    assert host.changes(before) == ""


def unpublish_foreign(directories: tuple[str, str]) -> None:
    """Take back from web a mapping of db's."""
    with dnet.open(*directories) as engine:
        engine.unpublish("web", engine.container("db").ports)


def test_nothing_to_do(host: FakeHost) -> None:
    """Publishing or taking back no ports changes nothing."""
    before, number = settled_snapshot(host), generation(host)
    host.call(publish, host.directories, "web", [])
    host.call(unpublish, host.directories, "web", [])
    assert host.changes(before) == ""
    assert generation(host) == number


def test_refused_by_nftables(host: FakeHost) -> None:
    """When nftables refuses the transaction, neither a mapping nor an exposed port is remembered."""
    before = settled_snapshot(host)
    with pytest.raises(Raised, match="cannot ") as caught:
        host.call(publish_with_fault, host.directories)
    assert caught.value.notes == []
    assert host.changes(before) == ""


def publish_with_fault(directories: tuple[str, str]) -> None:
    """Publish a port through an nftables that refuses its first transaction."""
    with Engine(*directories, print, Kernel(print), FaultyNft(0)) as engine:
        engine.publish("web", ["8080:80"])


def test_on_a_routed_network(host: FakeHost, lan: Neighbour) -> None:
    """On a routed network a port stays open at the container's address as long as any mapping leads to it."""
    network(host, "routed", "--subnet", "10.3.0.0/24", "--masquerade=false")
    run(host, "create", "--network", "routed", "r")
    lan.run("ip", "route", "add", "10.3.0.0/24", "via", HOST[4])
    with host.sandbox("r").serve(80):
        assert is_refused(lan, "10.3.0.2", 80)
        host.call(publish, host.directories, "r", ["8080:80", "8081:80"])
        assert reach(lan, "10.3.0.2", 80)
        host.call(unpublish, host.directories, "r", ["0.0.0.0:8080->80/tcp"])
        assert reach(lan, "10.3.0.2", 80)
        assert len(elements(host, "open4")) == 1
        host.call(unpublish, host.directories, "r", ["0.0.0.0:8081->80/tcp"])
        assert is_refused(lan, "10.3.0.2", 80)
    assert elements(host, "open4") == []


def test_a_mapping_again_on_a_routed_network(host: FakeHost) -> None:
    """Adding a mapping of a port that is open already, and removing the container afterwards, leaves nothing."""
    network(host, "routed", "--subnet", "10.3.0.0/24", "--masquerade=false")
    run(host, "create", "--network", "routed", "-p", "8080:80", "r")
    host.call(publish, host.directories, "r", ["8081:80", "127.0.0.1:8082:80"])
    assert len(elements(host, "open4")) == 1
    run(host, "rm", "r")
    assert elements(host, "open4") == []
