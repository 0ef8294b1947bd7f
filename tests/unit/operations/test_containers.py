"""Containers on a host that is only remembered: what is reserved, applied and kept, and what is taken back."""

from __future__ import annotations

import errno

import pytest

from dnet.errors import Conflict, Exhausted, InvalidRequest, KernelRefused, NotFound, StateError
from dnet.model.container_spec import ContainerSpec
from dnet.objects.links import Veth
from dnet.objects.object import Object
from dnet.objects.sandbox import Sandbox
from tests.support.engine_on_fakes import EMPTY, Machine, specs
from tests.support.fakes import refusal
from tests.support.faults import before_ready, faulty_files


def planned(machine: Machine) -> list[Object]:
    """Return the objects of two containers, the default network being there."""
    return [item for item in machine.engine.plan(specs(2)) if item.backend == "kernel"]


def test_addresses_are_given_lowest_first(machine):
    """Containers get the lowest free addresses; one that is removed frees its own at once."""
    machine.engine.create_network("blue", subnet="10.1.0.0/24")
    made = machine.engine.create_many(specs(3, network="blue")).containers
    assert [str(item.endpoints[0].address.ip) for item in made] == ["10.1.0.2", "10.1.0.3", "10.1.0.4"]
    machine.engine.delete("c-2")
    assert str(machine.engine.create("again", network="blue").endpoints[0].address.ip) == "10.1.0.3"


def test_given_and_automatic_addresses_do_not_meet(machine):
    """An address asked for in a bulk is given to nobody else in it, wherever in the list it is asked for."""
    machine.engine.create_network("blue", subnet="10.1.0.0/24")
    wishes = [
        ContainerSpec(network="blue"),
        ContainerSpec(network="blue"),
        ContainerSpec(network="blue", ip="10.1.0.2"),
    ]
    made = machine.engine.create_many(wishes).containers
    assert sorted(str(item.endpoints[0].address.ip) for item in made) == ["10.1.0.2", "10.1.0.3", "10.1.0.4"]
    assert str(made[2].endpoints[0].address.ip) == "10.1.0.2"


def test_container_has_what_was_asked_for(machine):
    """Address, MAC, MTU and labels are those asked for, in the answer, in the database and in the kernel."""
    machine.engine.create_network("blue", subnet="10.1.0.0/24")
    mac = "02:00:00:00:00:07"
    made = machine.engine.create("web", network="blue", ip="10.1.0.77", mac=mac, mtu=1400, labels={"a": "b"})
    assert (str(made.endpoints[0].address), made.endpoints[0].mac, made.labels) == ("10.1.0.77/24", mac, {"a": "b"})
    assert machine.engine.container("web") == made
    (veth,) = [item for item in machine.kernel.objects if isinstance(item, Veth)]
    assert (veth.peer_mac, veth.mtu) == (mac, 1400)


def test_mode_none(machine):
    """A container of mode none has a sandbox and its loopback, nothing else, and needs no network."""
    made = machine.engine.create("web", network="none")
    assert (made.mode, made.endpoints) == ("none", ())
    assert [str(item) for item in machine.kernel.objects][1:] == ["up lo in sandbox web"]
    assert machine.engine.networks() == []


def test_random_names_differ(machine):
    """Containers that are given no name get different ones, also where many have been given already."""
    made = machine.engine.create_many([ContainerSpec(network="none") for _ in range(400)]).containers
    more = machine.engine.create_many([ContainerSpec(network="none") for _ in range(400)]).containers
    assert len({item.name for item in (*made, *more)}) == 800


REFUSED = {
    "unknown network": ({"network": "nope"}, NotFound, "nope"),
    "name taken": ({"name": "taken", "network": "blue"}, Conflict, "taken"),
    "address taken": ({"network": "blue", "ip": "10.1.0.2"}, Conflict, r"10\.1\.0\.2 .* taken"),
    "gateway's address": ({"network": "blue", "ip": "10.1.0.1"}, Conflict, "gateway"),
    "address outside": ({"network": "blue", "ip": "10.2.0.2"}, InvalidRequest, "outside"),
    "broadcast address": ({"network": "blue", "ip": "10.1.0.255"}, InvalidRequest, "broadcast"),
    "auxiliary address": ({"network": "blue", "ip": "10.1.0.9"}, Conflict, r"10\.1\.0\.9"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("company", [0, 2], ids=["alone", "in a bulk"])
def test_bad_request_touches_nothing(machine, case, company):
    """A request that cannot be is refused with its reason, alone and in a bulk, and nothing at all has changed."""
    wish, kind, words = REFUSED[case]
    machine.engine.create_network("blue", subnet="10.1.0.0/24", aux_addresses={"router": "10.1.0.9"})
    machine.engine.create("taken", network="blue")
    before = machine.everything()
    with pytest.raises(kind, match=words):
        machine.engine.create_many([*specs(company, network="blue"), ContainerSpec(**wish)])
    assert machine.everything() == before


def test_names_given_twice(machine):
    """Two containers of one name in a bulk are refused before anything is touched."""
    with pytest.raises(InvalidRequest, match="web"):
        machine.engine.create_many([ContainerSpec(name="web", network="none")] * 2)
    assert machine.everything() == EMPTY


def test_address_given_twice(machine):
    """Two containers of one address in a bulk are refused before anything is touched."""
    machine.engine.create_network("blue", subnet="10.1.0.0/24")
    before = machine.everything()
    with pytest.raises(Conflict, match=r"10\.1\.0\.5"):
        machine.engine.create_many(specs(2, network="blue", ip="10.1.0.5"))
    assert machine.everything() == before


def test_subnet_too_small_for_a_bulk(machine):
    """More containers than addresses are refused before any is made, and the error says how many fit."""
    machine.engine.create_network("blue", subnet="10.1.0.0/28")
    before = machine.everything()
    with pytest.raises(Exhausted, match=r"14 .* 13 fit"):
        machine.engine.create_many(specs(14, network="blue"))
    assert machine.everything() == before
    assert len(machine.engine.create_many(specs(13, network="blue")).containers) == 13


def test_network_by_id(machine):
    """A network may be given by its id or the beginning of it, as with Docker."""
    net = machine.engine.create_network("blue", subnet="10.1.0.0/24")
    made = [machine.engine.create(network=reference) for reference in ("blue", net.id, net.id[:12])]
    assert [str(item.endpoints[0].address.ip) for item in made] == ["10.1.0.2", "10.1.0.3", "10.1.0.4"]
    assert {(item.mode, item.endpoints[0].network) for item in made} == {("blue", "blue")}


def test_network_by_name_and_id_in_one_bulk(machine):
    """One network under two references in one bulk gives no address twice."""
    net = machine.engine.create_network("blue", subnet="10.1.0.0/24")
    made = machine.engine.create_many([ContainerSpec(network="blue"), ContainerSpec(network=net.id)]).containers
    assert sorted(str(item.endpoints[0].address.ip) for item in made) == ["10.1.0.2", "10.1.0.3"]


def test_failure_at_any_object(machine):
    """Whichever object of a bulk the kernel refuses, kernel, nftables and database are as before."""
    machine.engine.create_network("blue")
    machine.engine.create("first")
    count = len(planned(machine))
    before = machine.everything()
    for index in range(count):
        countdown = iter(range(count))
        machine.kernel.refuses = lambda _, at=index, numbers=countdown: next(numbers) == at
        with pytest.raises(KernelRefused):
            machine.engine.create_many(specs(2))
        assert machine.everything() == before, f"object {index}"


def test_failure_at_any_file(machine):
    """Whichever file, directory or link of a bulk cannot be made, host, database and files are as before."""
    machine.engine.create("first")
    count = len([item for item in machine.engine.plan(specs(2)) if item.backend == "files"])
    before = machine.everything()
    for number in range(count):
        with faulty_files(number), pytest.raises(KernelRefused):
            machine.engine.create_many(specs(2))
        assert machine.everything() == before, f"file {number}"


def test_failures_leave_no_files(machine):
    """Neither a refused request nor a refused object leaves a file behind."""
    machine.engine.create("first")
    before = machine.files()
    with pytest.raises(Conflict):
        machine.engine.create("first")
    machine.kernel.refuses = lambda item: isinstance(item, Veth)
    with pytest.raises(KernelRefused):
        machine.engine.create("second")
    assert machine.files() == before


@pytest.mark.parametrize("problem", [KeyboardInterrupt, RuntimeError])
def test_exception_from_the_callback(machine, problem):
    """Ctrl-C, or an exception from the progress callback, takes all back."""
    machine.engine.create("first")
    before = machine.everything()

    def on_progress(done: int, total: int) -> None:
        assert total == 5
        if done == 3:
            raise problem

    with pytest.raises(problem):
        machine.engine.create_many(specs(5), on_progress=on_progress)
    assert machine.everything() == before


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), StateError("the disk is full")], ids=["Ctrl-C", "disk full"])
def test_failure_after_the_kernel_work(machine, problem):
    """When the last commit fails, or Ctrl-C comes right before it, what the kernel has made is taken back too."""
    machine.engine.create("first")
    before = machine.everything()

    def refuse() -> None:
        raise problem

    before_ready(machine.engine._store, refuse)
    with pytest.raises(type(problem)):
        machine.engine.create_many(specs(2))
    assert machine.everything() == before


def test_network_fails_after_the_kernel_work(machine):
    """When the last commit of a network fails, its bridge and elements are taken back too."""
    machine.engine.create_network("first")
    before = machine.everything()

    def refuse() -> None:
        raise StateError("the disk is full")

    before_ready(machine.engine._store, refuse)
    with pytest.raises(StateError):
        machine.engine.create_network("blue")
    assert machine.everything() == before


def test_keep_going(machine):
    """With keep_going, what worked is kept, what failed is listed with its error, and leaves nothing."""
    machine.engine.create("first")
    machine.kernel.refuses = lambda item: isinstance(item, Sandbox) and item.sandbox == "c-2"
    result = machine.engine.create_many(specs(3), keep_going=True)
    assert [item.name for item in result.containers] == ["c-1", "c-3"]
    ((name, error),) = result.failed
    assert (name, error.errno) == ("c-2", errno.ENOMEM)
    assert machine.engine.names() == ["first", "c-1", "c-3"]
    assert machine.phases() == {"ready"}
    assert {item.sandbox for item in machine.kernel.objects if isinstance(item, Sandbox)} == {"first", "c-1", "c-3"}


def test_failed_rollback_is_not_forgotten(machine):
    """What could be neither made nor taken back is not forgotten: the next change removes it."""
    machine.engine.create("first")
    before = machine.everything()
    machine.kernel.refuses = lambda item: isinstance(item, Veth)
    machine.kernel.refuses_deletion = refusal("delete veth1", errno.EBUSY)
    with pytest.raises(KernelRefused):
        machine.engine.create("web")
    machine.kernel.refuses_deletion = None
    machine.engine.prune_networks()
    assert machine.everything() == before


def test_progress(machine):
    """The callback hears how many of how many are done, up to all."""
    heard: list[tuple[int, int]] = []
    machine.engine.create_many(specs(4), on_progress=lambda done, total: heard.append((done, total)))
    assert heard == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_phases_are_timed(machine):
    """A bulk tells how long each phase took, in seconds."""
    phases = machine.engine.create_many(specs(2)).phases
    assert set(phases) >= {"plan", "sandboxes"}
    assert all(0 <= seconds < 60 for seconds in phases.values())


# Deleting


def test_deleting_restores_the_host(machine):
    """A container that is removed leaves kernel, nftables, database and files as they were before it."""
    machine.engine.create("first")
    before = machine.everything(), machine.files()
    machine.engine.create_many(specs(3))
    removed = machine.engine.delete_many(["c-3", "c-1", "c-2"])
    assert [item.name for item in removed] == ["c-3", "c-1", "c-2"]
    assert (machine.everything(), machine.files()) == before


def test_deleting_a_missing_one_removes_none(machine):
    """If one of several containers does not exist, none is removed; unless missing ones are to be passed over."""
    machine.engine.create_many(specs(2))
    before = machine.everything()
    with pytest.raises(NotFound, match="nope"):
        machine.engine.delete_many(["c-1", "nope", "c-2"])
    assert machine.everything() == before
    assert len(machine.engine.delete_many(["c-1", "nope", "c-2"], missing_ok=True)) == 2


def test_deleting_one_under_two_names(machine):
    """A container given twice, by name and by id, is removed once."""
    web = machine.engine.create("web")
    assert machine.engine.delete_many(["web", web.id, web.id[:12]]) == [web]


@pytest.mark.parametrize("who", ["the same engine", "another engine"])
def test_refused_deletion_is_finished_later(machine, who):
    """When the kernel refuses, the container is not forgotten; the next change finishes the work, whoever makes it."""
    machine.engine.create("web")
    machine.kernel.refuses_deletion = refusal("delete veth1", errno.EBUSY)
    with pytest.raises(KernelRefused):
        machine.engine.delete("web")
    assert machine.rows()[1] != []
    machine.kernel.refuses_deletion = None
    if who == "another engine":
        machine.engine.close()
        machine.engine = machine.another_engine()
    machine.engine.create("next")
    assert machine.engine.names() == ["next"]
    assert {item.sandbox for item in machine.kernel.objects if isinstance(item, Sandbox)} == {"next"}
    assert any("removed 1 containers" in notice for notice in machine.notices)


def test_refused_deletion_is_no_obstacle(machine):
    """While a container cannot be removed, others can be made; that it is still there is told, and tried again."""
    machine.engine.create("web")
    machine.kernel.refuses_deletion = refusal("delete veth1", errno.EBUSY)
    with pytest.raises(KernelRefused):
        machine.engine.delete("web")
    assert machine.engine.create("next").name == "next"
    assert any("delete veth1" in notice for notice in machine.notices)
    with pytest.raises(Conflict, match="web"):
        machine.engine.create("web")
    machine.kernel.refuses_deletion = None
    assert machine.engine.create("web").name == "web"


def test_ambiguous_prefix(machine):
    """The beginning of several ids is refused as not unique; nothing is removed."""
    made = machine.engine.create_many([ContainerSpec(network="none") for _ in range(20)]).containers
    firsts = [item.id[0] for item in made]
    twice = next(first for first in firsts if firsts.count(first) > 1)
    with pytest.raises(InvalidRequest, match="not unique"):
        machine.engine.delete_many([twice])
    assert len(machine.engine.containers()) == 20


def test_numbered_names(machine):
    """A prefix means PREFIX-NUMBER exactly, not every name that begins so."""
    for name in ("web-1", "web-22", "web-x", "web-", "web", "webby-1", "web-1-2"):
        machine.engine.create(name, network="none")
    assert machine.engine.names(prefix="web") == ["web-1", "web-22"]
    assert len(machine.engine.names()) == 7
