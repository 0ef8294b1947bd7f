"""The engine on a host that is only remembered: what is reserved, applied and kept, and what is taken back."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path

import pytest

import dnet
from dnet import etcfiles, wanted
from dnet.engine import Engine
from dnet.errors import Conflict, Exhausted, InvalidRequest, KernelRefused, NotFound, StateError, Unsupported
from dnet.objects import Object, Sandbox, Veth
from dnet.specs import ContainerSpec, NetworkSpec
from tests.support.engine_on_fakes import EMPTY, Machine, remembered, specs
from tests.support.fakes import refusal, snapshot
from tests.support.faults import faulty_files


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Iterator[Machine]:
    """Yield a machine on which nothing exists yet."""
    with remembered(tmp_path, monkeypatch) as made:
        yield made


def planned(machine: Machine) -> list[Object]:
    """Return the objects of two containers, the default network being there."""
    return [item for item in machine.engine.plan(specs(2)) if item.backend == "kernel"]


# Networks


def test_first_container_makes_the_network(machine):
    """The network `bridge`, on the device dnet0, makes itself on first use, with Docker's first subnet."""
    web = machine.engine.create("web")
    net = machine.engine.network("bridge")
    assert (net.device, str(net.subnet), str(net.gateway)) == ("dnet0", "172.17.0.0/16", "172.17.0.1")
    assert machine.kernel.device_index("dnet0") == net.device_index
    assert str(web.endpoints[0].address) == "172.17.0.2/16"
    assert machine.phases() == {"ready"}


def test_automatic_subnet_avoids_the_host(machine):
    """An automatic subnet overlaps neither a route nor a nameserver of the host, nor another network."""
    machine.kernel.routes = [IPv4Network("172.17.4.0/24")]
    Path(etcfiles.RESOLV_CONF).write_text("search x\nnameserver 172.18.0.53\nnameserver fd00::1\nnameserver\n")
    subnets = [str(machine.engine.create_network(name).subnet) for name in ("one", "two")]
    assert subnets == ["172.19.0.0/16", "172.20.0.0/16"]


def test_given_subnet_must_not_overlap(machine):
    """A given subnet that overlaps a route or another network is a Conflict that names it, and leaves nothing."""
    machine.kernel.routes = [IPv4Network("10.9.0.0/16")]
    machine.engine.create_network("blue", subnet="10.1.0.0/16")
    before = machine.everything()
    with pytest.raises(Conflict, match=r"10\.9\.0\.0/16"):
        machine.engine.create_network("red", subnet="10.9.5.0/24")
    with pytest.raises(Conflict, match="network blue"):
        machine.engine.create_network("red", subnet="10.0.0.0/8")
    with pytest.raises(Conflict, match="network blue"):
        machine.engine.create_network("red", subnet="10.1.0.0/16")
    assert machine.everything() == before


def test_network_name_taken(machine):
    """A second network of a name is a Conflict."""
    machine.engine.create_network("blue")
    before = machine.everything()
    with pytest.raises(Conflict, match="blue"):
        machine.engine.create_network("blue")
    assert machine.everything() == before


def test_unknown_driver(machine):
    """A driver that does not exist is Unsupported, and its name is told."""
    with pytest.raises(Unsupported, match="macvlan"):
        machine.engine.create_network("blue", driver="macvlan")
    assert machine.rows() == EMPTY[1]


def test_foreign_device_is_left_alone(machine):
    """When somebody else has a device of the name that dnet needs, that is a Conflict, and the device stays."""
    machine.kernel.device_index = lambda name: 5 if name == "dnet0" else None  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="dnet0"):
        machine.engine.create("web")
    assert machine.everything() == EMPTY


def test_failed_network_leaves_nothing(machine):
    """Whichever object of a first network is refused, neither kernel, nftables nor database keep anything of it."""
    count = len([item for item in machine.engine.plan_network(NetworkSpec(name="blue")) if item.backend == "kernel"])
    for index in range(count):
        countdown = iter(range(count))
        machine.kernel.refuses = lambda _, at=index, numbers=countdown: next(numbers) == at
        with pytest.raises(KernelRefused):
            machine.engine.create_network("blue")
        assert machine.everything() == EMPTY, f"object {index}"


def test_network_in_use_stays(machine):
    """A network with containers is not removed, and the error names them; nor is any other of the same call."""
    machine.engine.create_network("free")
    machine.engine.create_network("used")
    machine.engine.create("web", network="used")
    before = machine.everything()
    with pytest.raises(Conflict, match="web"):
        machine.engine.delete_networks(["free", "used"])
    assert machine.everything() == before


def test_last_network_takes_the_table(machine):
    """The table goes with the last network, not before."""
    machine.engine.create_network("one")
    machine.engine.create_network("two")
    machine.engine.delete_networks(["one"])
    assert machine.nft.has_made_table
    machine.engine.delete_networks(["two"])
    assert not machine.nft.has_made_table
    assert machine.nft.elements_by_key == {}
    assert machine.rows() == EMPTY[1]


def test_table_outlives_one_of_two_engines(machine, tmp_path):
    """The table stays with the last network of one engine when another one of the same host has networks in it."""
    machine.engine.create_network("one", subnet="10.1.0.0/24")
    state, run = str(tmp_path / "state2"), str(tmp_path / "run2")
    with Engine(state, run, machine.notices.append, machine.kernel, machine.nft) as other:  # type: ignore[arg-type]
        other.create_network("two", subnet="10.2.0.0/24")
        before = snapshot(machine.kernel, machine.nft)
        machine.engine.delete_networks(["one"])
        assert machine.nft.has_made_table
        assert ("bridges", f'"{other.network("two").device}"') in machine.nft.elements_by_key
        assert len(machine.nft.elements_by_key) < len(before[1])
        other.delete_networks(["two"])
    assert not machine.nft.has_made_table


def test_prune_removes_what_is_unused(machine):
    """Pruning removes the networks without containers, and only them."""
    for name in ("a", "b", "c"):
        machine.engine.create_network(name)
    machine.engine.create("web", network="b")
    assert [net.name for net in machine.engine.prune_networks()] == ["a", "c"]
    assert [net.name for net in machine.engine.networks()] == ["b"]


@pytest.mark.parametrize("reference", ["nope", "", "g" * 64])
def test_unknown_network(machine, reference):
    """A reference to no network is NotFound, an empty one too, even when there is only one network to remove."""
    machine.engine.create_network("blue")
    before = machine.everything()
    with pytest.raises(NotFound):
        machine.engine.delete_networks([reference])
    with pytest.raises(NotFound):
        machine.engine.network(reference)
    assert machine.everything() == before


def test_missing_bridge_is_made_again(machine):
    """After a reboot, when the bridge is gone, the next container on the network makes it again, with its rules."""
    machine.engine.create_network("blue")
    whole = snapshot(machine.kernel, machine.nft)
    machine.kernel.objects.clear()
    machine.nft.flush_ruleset()
    machine.engine.create("web", network="blue")
    machine.engine.delete("web")
    assert snapshot(machine.kernel, machine.nft) == whole


def test_failed_mending_is_tried_again(machine):
    """A bridge that could be made again only in part does not pass for the network: the next container mends it."""
    machine.engine.create_network("blue")
    whole = snapshot(machine.kernel, machine.nft)
    count = len(machine.kernel.objects)
    for index in range(count):
        machine.kernel.objects.clear()
        countdown = iter(range(2 * count))
        machine.kernel.refuses = lambda _, at=index, numbers=countdown: next(numbers) == at
        with pytest.raises(KernelRefused):
            machine.engine.create("web", network="blue")
        machine.kernel.refuses = lambda _: False
        machine.engine.create("web", network="blue")
        machine.engine.delete("web")
        assert snapshot(machine.kernel, machine.nft) == whole, f"object {index}"


# Containers


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
def test_failure_after_the_kernel_work(machine, problem, monkeypatch):
    """When the last commit fails, or Ctrl-C comes right before it, what the kernel has made is taken back too."""
    machine.engine.create("first")
    before = machine.everything()

    def set_ready(*_arguments: object) -> None:
        raise problem

    monkeypatch.setattr(machine.engine._store, "set_ready", set_ready)
    with pytest.raises(type(problem)):
        machine.engine.create_many(specs(2))
    assert machine.everything() == before


def test_network_fails_after_the_kernel_work(machine, monkeypatch):
    """When the last commit of a network fails, its bridge and elements are taken back too."""
    machine.engine.create_network("first")
    before = machine.everything()

    def set_ready(*_arguments: object) -> None:
        raise StateError("the disk is full")

    monkeypatch.setattr(machine.engine._store, "set_ready", set_ready)
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


# Somebody else's nft flush ruleset


def test_flushed_ruleset_is_made_again(machine):
    """When somebody has flushed the ruleset, the next creation makes the table again with all that belongs in it."""
    machine.engine.create_network("blue", subnet="10.1.0.0/24")
    machine.engine.create("web", network="blue", publish=["8080:80"])
    before = dict(machine.nft.elements_by_key)
    machine.nft.flush_ruleset()
    machine.engine.create("db", network="blue", publish=["8081:80"])
    assert machine.nft.has_made_table
    assert before.items() <= machine.nft.elements_by_key.items()
    assert machine.nft.elements_by_key["publish4", "tcp . 8081"] == "10.1.0.3 . 80"
    assert any("inet dnet" in notice for notice in machine.notices)


def test_flushed_ruleset_is_no_obstacle_to_deleting(machine):
    """When somebody has flushed the ruleset, containers and networks can be removed all the same."""
    machine.engine.create("web", publish=["8080:80"])
    machine.nft.flush_ruleset()
    machine.engine.delete("web")
    machine.engine.delete_networks(["bridge"])
    assert machine.rows() == EMPTY[1]


# Ports


@pytest.fixture
def blue(machine) -> Machine:
    """Return a machine with a network `blue`, 10.1.0.0/24."""
    machine.engine.create_network("blue", subnet="10.1.0.0/24")
    return machine


def test_published_port_is_an_element(blue):
    """A published port is an element that leads to the container's address, and part of the container."""
    made = blue.engine.create("web", network="blue", publish=["8080:80", "127.0.0.1:5300:53/udp"])
    assert blue.nft.elements_by_key["publish4", "tcp . 8080"] == "10.1.0.2 . 80"
    assert blue.nft.elements_by_key["publish4_on", "127.0.0.1 . udp . 5300"] == "10.1.0.2 . 53"
    assert {str(item) for item in made.ports} == {"127.0.0.1:5300->53/udp", "0.0.0.0:8080->80/tcp"}


def test_answer_is_what_is_remembered(blue):
    """What creating answers is what asking later answers, ports in the same order."""
    made = blue.engine.create_many(
        [
            ContainerSpec(
                network="blue", publish=["90:90/udp", "8080:80", "81", "127.0.0.1:80:80"], expose=["7", "5/udp"]
            )
        ]
    )
    assert blue.engine.containers() == list(made.containers)


@pytest.mark.parametrize("second", ["8080:80", "127.0.0.1:8080:81", "8080:9000/tcp"])
def test_taken_port(blue, second):
    """A port that another container has, on that address or on all, is a Conflict that names it."""
    blue.engine.create("web", network="blue", publish=["8080:80"])
    before = blue.everything()
    with pytest.raises(Conflict, match=r"8080.*web"):
        blue.engine.create_many([*specs(2, network="blue"), ContainerSpec(network="blue", publish=[second])])
    assert blue.everything() == before


def test_port_given_twice(blue):
    """Two containers of a bulk that want one port are a Conflict before anything is touched."""
    before = blue.everything()
    with pytest.raises(Conflict, match="8080"):
        blue.engine.create_many(specs(2, network="blue", publish=["8080:80"]))
    assert blue.everything() == before


def test_automatic_ports_go_on(blue):
    """Automatic ports come from the host's range, each behind the last one given, and wrap around at its end."""
    made = blue.engine.create_many(specs(30, network="blue", publish=["80"])).containers
    assert [item.ports[0].host_port for item in made] == list(range(32768, 32798))
    blue.engine.delete_many(["c-1", "c-2"])
    more = blue.engine.create_many([ContainerSpec(network="blue", publish=["80"]) for _ in range(4)]).containers
    assert [item.ports[0].host_port for item in more] == [32798, 32799, 32768, 32769]


def test_automatic_ports_run_out(blue):
    """More automatic ports than the host's range has are refused, and nothing has changed."""
    before = blue.everything()
    with pytest.raises(Exhausted, match="ip_local_port_range"):
        blue.engine.create_many(specs(33, network="blue", publish=["80"]))
    assert blue.everything() == before


def test_range_is_shared_out(blue):
    """The containers of a bulk share out a range of host ports; one container too many is refused."""
    made = blue.engine.create_many(specs(5, network="blue", publish=["20000-20004:80"])).containers
    assert [item.ports[0].host_port for item in made] == [20000, 20001, 20002, 20003, 20004]
    with pytest.raises(Exhausted, match="20000-20004"):
        blue.engine.create("more", network="blue", publish=["20000-20004:80"])


def test_publish_all(blue):
    """-P publishes exactly what is exposed and not published already, on automatic ports."""
    made = blue.engine.create(
        "web", network="blue", publish=["8080:80"], expose=["80", "53/udp", "443"], publish_all=True
    )
    ports = {(item.container_port, item.protocol): item.host_port for item in made.ports}
    assert ports.keys() == {(53, "udp"), (80, "tcp"), (443, "tcp")}
    assert ports[80, "tcp"] == 8080


def test_publishing_later(blue):
    """Ports can be published and taken back later; then host and container are as before."""
    blue.engine.create("web", network="blue", publish=["8080:80"])
    before = blue.everything()
    updated = blue.engine.publish("web", ["9090:90"])
    assert blue.nft.elements_by_key["publish4", "tcp . 9090"] == "10.1.0.2 . 90"
    assert [item.host_port for item in blue.engine.container("web").ports] == [8080, 9090]
    (new,) = [item for item in updated.ports if item.host_port == 9090]
    blue.engine.unpublish("web", [new])
    assert blue.everything()[0] == before[0]
    assert [item.host_port for item in blue.engine.container("web").ports] == [8080]


def test_publishing_answers_what_is_remembered(blue):
    """What publishing answers is the container as asking later answers it."""
    blue.engine.create("web", network="blue", publish=["8080:80"])
    assert blue.engine.publish("web", ["7070:70"]) == blue.engine.container("web")


def test_failed_publishing_leaves_nothing(blue):
    """When nftables refuses a port, neither table nor database has it."""
    blue.engine.create("web", network="blue")
    before = blue.everything()
    problem = refusal("set up nftables", errno.ENOBUFS)
    blue.nft.refuses = lambda text: problem if text.startswith("add") else None
    with pytest.raises(KernelRefused):
        blue.engine.publish("web", ["9090:90"])
    assert blue.everything() == before


def test_failed_unpublishing_leaves_the_port(blue):
    """When nftables refuses to take a port back, the database has it still, as the table does."""
    made = blue.engine.create("web", network="blue", publish=["8080:80"])
    before = blue.everything()
    blue.nft.refuses = lambda text: refusal("remove", errno.EPERM) if text.startswith("delete") else None
    with pytest.raises(KernelRefused):
        blue.engine.unpublish("web", made.ports)
    assert blue.everything() == before


def test_publishing_without_a_network(machine):
    """A container of mode none cannot publish a port later, and says so."""
    machine.engine.create("web", network="none")
    with pytest.raises(InvalidRequest, match="web"):
        machine.engine.publish("web", ["80"])


def test_publishing_in_mode_none_is_discarded(machine):
    """As with Docker, published ports of a container without a network are discarded, and that is told."""
    made = machine.engine.create("web", network="none", publish=["8080:80"])
    assert made.ports == ()
    assert any("discarded" in notice for notice in machine.notices)


def test_deleting_frees_the_ports(blue):
    """The ports of a container that is removed can be had again, and their elements are gone."""
    blue.engine.create("web", network="blue", publish=["8080:80"])
    blue.engine.delete("web")
    assert ("publish4", "tcp . 8080") not in blue.nft.elements_by_key
    assert blue.engine.create("next", network="blue", publish=["8080:80"]).ports[0].host_port == 8080


def test_ipv6(machine):
    """A network with IPv6 has a unique local /64, and its containers addresses of both families and both bindings."""
    net = machine.engine.create_network("six", subnet="10.1.0.0/24", ipv6=True)
    made = machine.engine.create("web", network="six", publish=["8080:80"])
    end = made.endpoints[0]
    assert net.subnet6.subnet_of(IPv6Network("fd00::/8"))
    assert net.subnet6.prefixlen == 64
    assert (end.address6.ip, end.gateway6) == (net.subnet6[2], net.subnet6[1])
    assert machine.nft.elements_by_key["publish6", "tcp . 8080"] == f"{end.address6.ip} . 80"
    assert machine.engine.container("web") == made


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
    assert len(machine.engine.delete_many(["c-1", "nope", "c-2"], is_missing_ok=True)) == 2


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


# Planning


def test_plan_is_what_is_created(machine):
    """A plan lists, in order, exactly the kinds of objects that creating then makes."""
    plan = machine.engine.plan(specs(2))
    machine.engine.create_many(specs(2))
    made = [item for kind, item in machine.kernel.log if kind == "create"]
    assert [type(item) for item in plan if item.backend == "kernel"] == [type(item) for item in made]


def test_plan_touches_nothing(machine):
    """Planning leaves host and database as they were, indexes included."""
    machine.engine.create("first")
    before = machine.everything()
    first, second = machine.engine.plan(specs(2)), machine.engine.plan(specs(2))
    assert [type(item) for item in first] == [type(item) for item in second]
    assert {item.index for item in first if isinstance(item, Veth)} == {
        item.index for item in second if isinstance(item, Veth)
    }
    machine.engine.plan_network(NetworkSpec(name="blue"))
    assert machine.everything() == before


def test_plan_removes_no_file(machine):
    """Planning leaves the stale name of a sandbox that is gone where it is; creating takes it over."""
    path = Path(wanted.NAME_DIRECTORY) / "web"
    path.symlink_to(machine.directory / "run" / "netns" / "0123456789ab")
    machine.engine.plan([ContainerSpec(name="web", network="none")])
    assert path.is_symlink()
    machine.engine.create("web", network="none")
    assert not path.is_symlink()


@pytest.mark.parametrize("kind", ["file", "link to something that exists", "link to nowhere"])
def test_foreign_name_is_left_alone(machine, kind):
    """A name in `ip netns` that is somebody else's is a Conflict, and stays."""
    path = Path(wanted.NAME_DIRECTORY) / "web"
    if kind == "file":
        path.touch()
    else:
        path.symlink_to("/proc/self/ns/net" if "exists" in kind else "/nowhere/at/all")
    with pytest.raises(Conflict, match="web"):
        machine.engine.create("web", network="none")
    assert os.path.lexists(path)
    assert machine.rows() == EMPTY[1]


# Looking


def test_find_containers(machine):
    """A container is found by name, id and the beginning of its id."""
    web = machine.engine.create("web")
    assert (
        machine.engine.container("web")
        == machine.engine.container(web.id)
        == machine.engine.container(web.id[:8])
        == web
    )
    for reference in ("", "nope", web.id + "0"):
        with pytest.raises(NotFound):
            machine.engine.container(reference)


def test_members(machine):
    """The members of a network are the containers with an endpoint on it."""
    blue = machine.engine.create_network("blue")
    machine.engine.create("inside", network="blue")
    machine.engine.create("elsewhere")
    machine.engine.create("nowhere", network="none")
    assert [item.name for item in machine.engine.members(blue)] == ["inside"]


def test_closed_engine_leaves_everything(machine):
    """What was created stays when the engine is closed; another one finds it."""
    with machine.another_engine() as other:
        made = other.create("web")
    assert machine.engine.containers() == [made]


def test_public_open_reads_the_environment(tmp_path, monkeypatch):
    """`dnet.open()` takes its directories from the environment, and arguments before that."""
    monkeypatch.setenv("DNET_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("DNET_RUN_DIR", str(tmp_path / "run"))
    with dnet.open() as engine:
        assert engine.containers() == []
    assert (tmp_path / "state" / "state.db").exists()
    with dnet.open(str(tmp_path / "other"), str(tmp_path / "run")):
        assert (tmp_path / "other" / "state.db").exists()


def test_values_are_what_ipaddress_knows(machine):
    """Addresses of networks and containers are values of Python's ipaddress."""
    net = machine.engine.create_network("blue", subnet=IPv4Network("10.1.0.0/24"), gateway=IPv4Address("10.1.0.254"))
    assert (net.subnet, net.gateway) == (IPv4Network("10.1.0.0/24"), IPv4Address("10.1.0.254"))
    end = machine.engine.create("web", network="blue", ip=IPv4Address("10.1.0.1")).endpoints[0]
    assert end.address.ip == IPv4Address("10.1.0.1")
    assert end.gateway == net.gateway


@pytest.mark.parametrize("time_s", [-1.0, 1e10, float("inf"), float("nan")])
def test_no_time_to_confirm(blue, time_s):
    """A time that nobody can wait for is refused before anything is touched."""
    with pytest.raises(InvalidRequest, match="no time to wait for"):
        blue.engine.adopt("blue", "eth1", confirm_within_s=time_s, confirm=lambda _: True)
