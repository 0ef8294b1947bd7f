"""Several networks of a container, modes, links: what the engine reserves, changes and takes back.

The host is only remembered.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dnet.errors import Conflict, InvalidRequest, KernelRefused, NotFound
from dnet.model.container_spec import ContainerSpec, EndpointSpec
from dnet.objects.links import Veth
from dnet.objects.object import Object
from dnet.objects.routes import Route
from dnet.objects.sandbox import HostSandbox, Sandbox
from tests.support.engine_on_fakes import Machine, remembered
from tests.support.fakes import refusal

PUBLISH = ("publish4", "tcp . 8080")


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Iterator[Machine]:
    """Yield a machine with networks blue, red, of both families six, and apart, whose containers may not talk."""
    with remembered(tmp_path, monkeypatch) as made:
        made.engine.create_network("blue", subnet="10.1.0.0/24")
        made.engine.create_network("red", subnet="10.2.0.0/24")
        made.engine.create_network("six", subnet="10.6.0.0/24", subnet6="fd00:6::/64")
        made.engine.create_network("apart", subnet="10.3.0.0/24", subnet6="fd00:3::/64", icc=False)
        yield made


def default_routes(machine: Machine, name: str) -> dict[int, str]:
    """Return the gateways of a container's default routes, by family; more than one of a family is a failure."""
    routes = [item for item in machine.kernel.objects if isinstance(item, Route) and item.sandbox == name]
    found = [item for item in routes if item.destination.prefixlen == 0]
    assert len({item.destination for item in found}) == len(found)
    return {item.destination.version: str(item.gateway) for item in found}


def elements(machine: Machine, *names: str) -> list[str]:
    """Return the elements of some sets of the table, with their values."""
    return [
        f"{key} : {value}" if value else key
        for (name, key), value in sorted(machine.nft.elements_by_key.items())
        if name in names
    ]


def hosts(machine: Machine, name: str) -> list[str]:
    """Return the lines of a container's hosts that are not about the loopback."""
    path = machine.directory / "etc-netns" / name / "hosts"
    return [line for line in path.read_text().splitlines() if not line.startswith(("127.", "::1", "fe00", "ff0"))]


def interfaces(machine: Machine, name: str) -> dict[str, str]:
    """Return the bridges that a container's interfaces are joined to."""
    return {
        item.peer: item.master
        for item in machine.kernel.objects
        if isinstance(item, Veth) and item.peer_sandbox == name
    }


# Several networks


def test_networks_in_the_order_given(machine):
    """Interfaces are eth0, eth1, ... in the order of the networks; the default route is where Docker has it."""
    engine = machine.engine
    made = engine.create("web", network=["red", "blue", "six"], publish=["8080:80"])
    assert [(end.interface, end.network) for end in made.endpoints] == [
        ("eth0", "red"),
        ("eth1", "blue"),
        ("eth2", "six"),
    ]
    assert interfaces(machine, "web") == {end.interface: engine.network(end.network).device for end in made.endpoints}
    assert default_routes(machine, "web") == {4: "10.6.0.1", 6: "fd00:6::1"}
    assert elements(machine, "publish4", "publish6") == ["tcp . 8080 : 10.6.0.2 . 80", "tcp . 8080 : fd00:6::2 . 80"]
    assert engine.container("web") == made


def test_connect_and_disconnect(machine):
    """Joining a network and leaving it again leaves everything as it was, but for the counter of indexes."""
    machine.engine.create_many([ContainerSpec(name=name, network="red", publish=["8080"]) for name in ("a", "b")])
    before = machine.everything()
    joined = machine.engine.connect(["a", "b"], "blue")
    assert [machine.engine.container(item.name) for item in joined] == joined
    assert [[end.network for end in item.endpoints] for item in joined] == [["red", "blue"]] * 2
    assert machine.phases() == {"ready"}
    left = [machine.engine.disconnect(name, "blue") for name in ("a", "b")]
    assert [machine.engine.container(item.name) for item in left] == left
    assert machine.everything() == before


MOVES = {
    "to a name that comes first": ("red", "blue", {4: "10.1.0.1"}, "10.1.0.2"),
    "not to one that comes later": ("blue", "red", {4: "10.1.0.1"}, "10.1.0.2"),
    "to both families": ("blue", "six", {4: "10.6.0.1", 6: "fd00:6::1"}, "10.6.0.2"),
    "to the priority": (
        "six",
        EndpointSpec(network="red", gateway_priority=1),
        {4: "10.2.0.1", 6: "fd00:6::1"},
        "10.2.0.2",
    ),
}


@pytest.mark.parametrize(("first", "second", "routes", "target"), MOVES.values(), ids=MOVES)
def test_default_route_moves(machine, first, second, routes, target):
    """Joining a network moves the default route and the published ports where Docker has them; leaving, back."""
    engine = machine.engine
    engine.create("web", network=first, publish=["0.0.0.0:8080:80"])
    before = (default_routes(machine, "web"), elements(machine, *PUBLISH))
    engine.connect(["web"], second)
    assert default_routes(machine, "web") == routes
    assert elements(machine, *PUBLISH) == [f"tcp . 8080 : {target} . 80"]
    name = second if isinstance(second, str) else second.network
    engine.disconnect("web", name)
    assert (default_routes(machine, "web"), elements(machine, *PUBLISH)) == before
    engine.connect(["web"], second)
    engine.disconnect("web", first)
    gateway = str(engine.network(name).gateway)
    assert default_routes(machine, "web")[4] == gateway
    assert elements(machine, *PUBLISH) == [f"tcp . 8080 : {engine.container('web').endpoints[0].address.ip} . 80"]


def test_last_network(machine):
    """A container that has left its last network keeps its sandbox and its ports, which come back with a network."""
    engine = machine.engine
    engine.create("web", network="blue", publish=["8080:80"])
    left = engine.disconnect("web", "blue")
    assert (left.endpoints, left.ports) == ((), engine.container("web").ports)
    assert elements(machine, *PUBLISH) == []
    assert [str(item) for item in machine.kernel.objects if getattr(item, "sandbox", "") == "web"][1:] == [
        "up lo in sandbox web"
    ]
    engine.connect(["web"], "red")
    assert elements(machine, *PUBLISH) == ["tcp . 8080 : 10.2.0.2 . 80"]
    assert hosts(machine, "web") == [f"10.2.0.2\t{left.settings.hostname}"]
    engine.delete("web")


def test_container_of_mode_none_is_connected(machine):
    """A container of mode none may join a network."""
    machine.engine.create("web", network="none")
    before = machine.everything()
    machine.engine.connect(["web"], "blue")
    assert interfaces(machine, "web") == {"eth0": machine.engine.network("blue").device}
    machine.engine.disconnect("web", "blue")
    assert machine.everything() == before


def test_interfaces_are_numbered_anew(machine):
    """A new interface has the lowest number that is free, or the name that was asked for."""
    engine = machine.engine
    engine.create("web", network=["blue", "red", "six"])
    engine.disconnect("web", "red")
    engine.connect(["web"], EndpointSpec(network="apart", interface="front0"))
    engine.connect(["web"], "red")
    assert [(end.interface, end.network) for end in engine.container("web").endpoints] == [
        ("eth0", "blue"),
        ("front0", "apart"),
        ("eth1", "red"),
        ("eth2", "six"),
    ]


REFUSED: dict[str, tuple[Callable[[Any], object], type[Exception], str]] = {
    "already on it": (lambda engine: engine.connect(["a"], "blue"), Conflict, "a is on network blue already"),
    "one of several already on it": (
        lambda engine: engine.connect(["b", "a"], "blue"),
        Conflict,
        "a is on network blue",
    ),
    "unknown container": (lambda engine: engine.connect(["b", "nobody"], "blue"), NotFound, "nobody"),
    "unknown network": (lambda engine: engine.connect(["b"], "nowhere"), NotFound, "nowhere"),
    "mode host": (lambda engine: engine.connect(["b", "hosted"], "blue"), InvalidRequest, "hosted"),
    "sharer": (lambda engine: engine.connect(["side"], "blue"), InvalidRequest, "side"),
    "address taken": (
        lambda engine: engine.connect(["b"], EndpointSpec(network="blue", ip="10.1.0.2")),
        Conflict,
        "a$",
    ),
    "one address for two": (
        lambda engine: engine.connect(["b", "c"], EndpointSpec(network="blue", ip="10.1.0.9")),
        InvalidRequest,
        "same",
    ),
    "one MAC for two": (
        lambda engine: engine.connect(["b", "c"], EndpointSpec(network="blue", mac="02:00:00:00:00:01")),
        InvalidRequest,
        "same",
    ),
    "interface taken": (
        lambda engine: engine.connect(["b"], EndpointSpec(network="blue", interface="eth0")),
        Conflict,
        "eth0",
    ),
    "not on it": (lambda engine: engine.disconnect("b", "blue"), NotFound, "b is not on network blue"),
    "mode host off": (lambda engine: engine.disconnect("hosted", "blue"), NotFound, "hosted"),
    "network in use": (lambda engine: engine.delete_networks(["red"]), Conflict, "b, c"),
    "shared": (lambda engine: engine.delete("a"), Conflict, "side"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_change_touches_nothing(machine, case):
    """A change that cannot be is refused with its reason, and nothing at all is touched."""
    call, kind, words = REFUSED[case]
    engine = machine.engine
    engine.create("a", network="blue")
    engine.create_many([ContainerSpec(name=name, network="red") for name in ("b", "c")])
    engine.create("hosted", network="host")
    engine.create("side", network="container:a")
    before = machine.everything()
    with pytest.raises(kind, match=words):
        call(engine)
    assert machine.everything() == before


FIRST = {"gateway_priority": 1}
# Each of them moves the default route of web, and its published port.
CHANGES: dict[str, Callable[[Any], object]] = {
    "connect": lambda engine: engine.connect(["web", "db"], EndpointSpec(network="blue", **FIRST)),
    "connect to both families": lambda engine: engine.connect(["web", "db"], EndpointSpec(network="six", **FIRST)),
    "disconnect": lambda engine: engine.disconnect("web", "apart"),
    "disconnect the child": lambda engine: engine.disconnect("db", "apart"),
}


def furnish(machine: Machine) -> None:
    """Create a linked pair with published ports on networks apart and red."""
    db = ContainerSpec(name="db", network="apart", expose=[5432])
    web = ContainerSpec(name="web", network=["apart", "red"], publish=["8080:80"], links=["db:database"])
    machine.engine.create_many([db, web])


@pytest.mark.parametrize("change", list(CHANGES))
def test_failure_at_any_object(machine, change):
    """Whichever object of a change the kernel refuses, all is as it was, the links, ports and files included."""
    furnish(machine)
    before = machine.everything()
    for index in range(1000):
        countdown = iter(range(1000))
        machine.kernel.refuses = lambda _, at=index, numbers=countdown: next(numbers) == at
        if attempt(lambda: CHANGES[change](machine.engine)):
            break
        assert machine.everything() == before, f"object {index}"
    assert index > 1 or change == "disconnect the child"


def attempt(call: Callable[[], object]) -> bool:
    """Whether a call works, and is not refused by the kernel."""
    try:
        call()
    except KernelRefused:
        return False
    return True


@pytest.mark.parametrize("change", CHANGES)
def test_refused_rules_of_a_change(machine, change):
    """When nftables refuses its transaction, all is as it was."""
    furnish(machine)
    before = machine.everything()
    refusals = iter([refusal("change nftables", 12)])
    machine.nft.refuses = lambda _: next(refusals, None)
    with pytest.raises(KernelRefused):
        CHANGES[change](machine.engine)
    assert machine.everything() == before
    CHANGES[change](machine.engine)


@pytest.mark.parametrize("change", CHANGES)
def test_flushed_ruleset_is_made_again(machine, change):
    """After a change, and after one in between, `nft flush ruleset` and the next creation lead to the same table."""
    furnish(machine)
    machine.nft.flush_ruleset()
    CHANGES[change](machine.another_engine())
    found = []
    for _ in range(2):
        with contextlib.closing(machine.another_engine()) as engine:
            engine.create("one", network="blue")
            engine.delete("one")
        found.append(dict(machine.nft.elements_by_key))
        machine.nft.flush_ruleset()
    assert found[0] == found[1]
    assert [key for name, key in found[0] if name == "publish4"] == ["tcp . 8080"]


# Modes


def test_mode_host(machine):
    """A container of mode host has the host's own namespace, hosts and host name, and discards published ports."""
    (machine.directory / "hosts").write_text("127.0.0.1\tlocalhost\n192.0.2.9\tprinter\n")
    before = machine.everything()
    made = machine.engine.create("web", network="host", publish=["8080:80"], add_hosts=["db:10.0.0.5"])
    assert (made.mode, made.endpoints, made.ports) == ("host", (), ())
    assert [type(item) for item in machine.kernel.objects if isinstance(item, Sandbox)] == [HostSandbox]
    assert hosts(machine, "web") == ["192.0.2.9\tprinter", "10.0.0.5\tdb"]
    assert any("discarded in mode host" in text for text in machine.notices)
    machine.engine.delete("web")
    assert machine.everything() == before


def test_sharer(machine):
    """A sharer has the other's sandbox and files, also by way of another sharer; its removal takes only its names."""
    engine = machine.engine
    web = engine.create("web", network="blue", hostname="front")
    before = machine.everything()
    side = engine.create("side", network=f"container:{web.id[:10]}")
    last = engine.create("last", network="container:side")
    for item in (side, last):
        assert (item.sandbox, item.files, item.shares, item.settings) == (web.sandbox, web.files, web.id, web.settings)
        assert engine.container(item.name) == item
        assert hosts(machine, item.name) == hosts(machine, "web")
    assert last.mode == f"container:{web.id}"
    with pytest.raises(Conflict, match="last, side"):
        engine.delete("web")
    engine.delete_many(["side", "last"])
    assert machine.everything() == before


def test_sharer_of_a_bulk(machine):
    """A container and those that share its sandbox are created together, and removed together."""
    before = machine.everything()
    specs = [ContainerSpec(name="web", network="blue"), ContainerSpec(name="side", network="container:web")]
    made = machine.engine.create_many(specs).containers
    assert made[0].sandbox == made[1].sandbox
    machine.engine.delete_many(["web", "side"])
    assert machine.everything() == before


def test_removing_the_first_of_sharers_by_force(machine):
    """By force the first is removed before its sharers, which leave nothing either when they are removed."""
    before = machine.everything()
    machine.engine.create("web", network="blue")
    machine.engine.create("side", network="container:web")
    machine.engine.delete_many(["web"], force=True)
    machine.engine.delete("side")
    assert machine.everything() == before


# Links


def test_link(machine):
    """A link is a line in the parent's hosts and, where containers may not talk, an element for each exposed port."""
    furnish(machine)
    db = machine.engine.container("db")
    assert hosts(machine, "web")[-2:] == [
        f"10.3.0.2\tdatabase {db.settings.hostname} db",
        f"fd00:3::2\tdatabase {db.settings.hostname} db",
    ]
    assert elements(machine, "links4", "links6") == [
        "10.3.0.3 . 10.3.0.2 . tcp . 5432",
        "fd00:3::3 . fd00:3::2 . tcp . 5432",
    ]
    assert [str(link) for link in db.linked_by] == ["web/database"]
    machine.engine.publish("db", ["53/udp"])
    assert elements(machine, "links4") == ["10.3.0.3 . 10.3.0.2 . tcp . 5432", "10.3.0.3 . 10.3.0.2 . udp . 53"]


@pytest.mark.parametrize("end", ["web", "db"])
def test_removing_an_end_closes_the_link(machine, end):
    """When either end of a link is removed, what it opened is closed and its line goes."""
    furnish(machine)
    machine.engine.delete(end)
    assert elements(machine, "links4", "links6") == []
    if end == "db":
        assert [line for line in hosts(machine, "web") if "database" in line] == []


def test_recreated_child(machine):
    """A child that comes back with another address is linked again, its line in the parent's hosts replaced."""
    furnish(machine)
    path = machine.directory / "etc-netns" / "web" / "hosts"
    path.write_text(path.read_text() + "192.0.2.77\tmine\n")
    machine.engine.delete("db")
    made = machine.engine.create("db", network="apart", ip="10.3.0.77", hostname="dbhost", expose=["7/udp"])
    assert [str(link) for link in made.linked_by] == ["web/database"]
    assert made == machine.engine.container("db")
    assert [line for line in hosts(machine, "web") if "database" in line] == [
        "10.3.0.77\tdatabase dbhost db",
        "fd00:3::2\tdatabase dbhost db",
    ]
    assert "192.0.2.77\tmine" in hosts(machine, "web")
    assert elements(machine, "links4") == ["10.3.0.3 . 10.3.0.77 . udp . 7"]


@pytest.mark.parametrize(("end", "link"), [("db", "web/database"), ("web", "other/database")])
def test_renaming_an_end(machine, end, link):
    """A link goes by the new name of whichever end is renamed."""
    furnish(machine)
    machine.engine.rename(end, "other")
    parent, child = ("web", "other") if end == "db" else ("other", "db")
    assert [str(item) for item in machine.engine.container(child).linked_by] == [link]
    assert [(item.parent, item.child) for item in machine.engine.container(parent).links] == [(parent, child)]
    lines = [line.split()[1:] for line in hosts(machine, parent) if "database" in line]
    hostname = machine.engine.container(child).settings.hostname
    assert lines == [["database", hostname, child]] * 2
    assert len(elements(machine, "links4", "links6")) == 2
    machine.engine.delete_many([parent, child])
    assert elements(machine, "links4", "links6") == []


def test_link_follows_the_network(machine):
    """A link works through the parent's first network that the child is on too, and moves when that changes."""
    engine = machine.engine
    furnish(machine)
    engine.connect(["db"], "red")
    engine.disconnect("web", "apart")
    assert elements(machine, "links4", "links6") == []
    assert [line.split()[0] for line in hosts(machine, "web") if "database" in line] == ["10.2.0.3"]
    engine.disconnect("db", "red")
    assert [line for line in hosts(machine, "web") if "database" in line] == []
    engine.connect(["web"], "apart")
    assert len(elements(machine, "links4", "links6")) == 2
    assert [line.split()[0] for line in hosts(machine, "web") if "database" in line] == ["10.3.0.2", "fd00:3::2"]


def test_child_that_failed_is_not_in_hosts(machine):
    """When a bulk keeps going without a linked child, its parents know nothing of it."""
    specs = [
        ContainerSpec(name="db", network="apart", expose=[80]),
        ContainerSpec(name="web", network="apart", links=["db"]),
    ]
    machine.kernel.refuses = lambda item: isinstance(item, Veth) and item.peer_sandbox == "db"
    result = machine.engine.create_many(specs, keep_going=True)
    assert [name for name, _ in result.failed] == ["db"]
    assert [line for line in hosts(machine, "web") if "db" in line.split()] == []
    assert elements(machine, "links4", "links6") == []


def test_sharer_of_one_that_failed(machine):
    """When a bulk keeps going without a container, those that were to share its network fail with it."""
    specs = [
        ContainerSpec(name="web", network="blue"),
        ContainerSpec(name="side", network="container:web"),
        ContainerSpec(name="other", network="blue"),
    ]
    machine.engine.create("first", network="blue")
    before = machine.everything()
    machine.kernel.refuses = lambda item: isinstance(item, Veth) and item.peer_sandbox == "web"
    result = machine.engine.create_many(specs, keep_going=True)
    assert sorted(name for name, _ in result.failed) == ["side", "web"]
    machine.engine.delete("other")
    assert machine.everything() == before


REFUSED_LINKS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "unknown": ({"links": ["nobody"]}, NotFound, "nobody"),
    "itself": ({"name": "one", "links": ["one"]}, InvalidRequest, "itself"),
    "across networks": ({"network": "blue", "links": ["db"]}, InvalidRequest, "no network together"),
    "to one of mode none": ({"links": ["alone"]}, InvalidRequest, "no network together"),
    "to a sharer": ({"links": ["side"]}, InvalidRequest, "no network together"),
}


@pytest.mark.parametrize("case", REFUSED_LINKS)
def test_refused_link(machine, case):
    """A link that cannot be is refused with its reason, in a bulk too, and nothing is touched."""
    wish, kind, words = REFUSED_LINKS[case]
    machine.engine.create("db", network="apart")
    machine.engine.create("alone", network="none")
    machine.engine.create("side", network="container:db")
    before = machine.everything()
    with pytest.raises(kind, match=words):
        machine.engine.create_many(
            [ContainerSpec(name="first", network="apart"), ContainerSpec(**({"network": "apart"} | wish))]
        )
    assert machine.everything() == before


def test_link_by_id(machine):
    """A container may be linked by its id, and is then known by its name."""
    db = machine.engine.create("db", network="blue")
    made = machine.engine.create("web", network="blue", links=[f"{db.id[:12]}:database"])
    assert [(link.child, link.alias) for link in made.links] == [("db", "database")]


def planned(machine: Machine) -> list[Object]:
    """Return the objects of a linked pair."""
    return machine.engine.plan(
        [
            ContainerSpec(name="db", network="apart", expose=[1]),
            ContainerSpec(name="web", network="apart", links=["db"]),
        ]
    )


def test_plan_shows_links(machine):
    """A plan has what links would open, and touches nothing."""
    before = machine.everything()
    assert [str(item) for item in planned(machine) if "links4" in str(item)] == [
        "element 10.3.0.3 . 10.3.0.2 . tcp . 1 of links4"
    ] * 2
    assert machine.everything() == before
