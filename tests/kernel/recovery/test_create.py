"""A failure anywhere leaves the kernel, the files and the database as they were."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import dnet
from dnet.engine import Engine
from dnet.objects.host import NftTable
from dnet.objects.object import Object
from tests.support.faults import FaultyKernel, FaultyNft, before_ready, faulty_files
from tests.support.hosts import FakeHost, Raised


def plan(count: int) -> list[Object]:
    """Return what the first network and `count` containers on it consist of, in the order of creation."""
    view = SimpleNamespace(routed_subnets=list)
    blind = SimpleNamespace(look=lambda: view, device_index=lambda _: None, close=lambda: None)
    with (
        tempfile.TemporaryDirectory() as directory,
        Engine(directory, directory, print, blind, None) as engine,  # type: ignore[arg-type]
    ):
        network = engine.plan_network(dnet.NetworkSpec(name="bridge"))
        specs = [dnet.ContainerSpec(name=f"c-{number}") for number in range(1, count + 1)]
        return engine.plan(specs) if specs else network


PLAN = plan(2)
NETWORK_PLAN = plan(0)
CONTAINER_PLAN = plan(1)[len(NETWORK_PLAN) :]


def create(directories: tuple[str, str], count: int, faults: dict[str, int], mode: str = "") -> Any:
    """Create `count` containers with faults in the backends; return the error, or what was made."""
    notices: list[str] = []
    kernel = FaultyKernel(notices.append, faults.get("kernel", -1), fail_at_flows=faults.get("flows", -1))

    def on_progress(done: int, _total: int) -> None:
        if mode == "progress" and done > count // 2:
            raise RuntimeError("the caller's own failure")

    specs = [dnet.ContainerSpec(name=f"c-{number}") for number in range(1, count + 1)]
    engine = Engine(*directories, notices.append, kernel, FaultyNft(faults.get("nft", -1)))
    with engine, faulty_files(faults.get("files", -1)):
        try:
            result = engine.create_many(specs, keep_going=mode == "keep_going", on_progress=on_progress)
        except dnet.DnetError as error:
            about = {"kind": type(error).__name__, "sentence": str(error), "notes": getattr(error, "__notes__", [])}
            return {"error": about, "refused": str(kernel.refused)}
    failed = [[name, str(error)] for name, error in result.failed]
    return {"made": [item.name for item in result.containers], "failed": failed, "refused": str(kernel.refused)}


def prepared(host: FakeHost) -> dict[str, Any]:
    """Return a snapshot taken when dnet's directories and database exist already."""
    host.dnet("network", "prune")
    return host.snapshot()


def fault(plan: list[Object], index: int) -> dict[str, int]:
    """Return the fault that hits object number `index` of a plan.

    What is not the kernel's goes out at once for all objects of a group: the network's, and all containers'.
    """
    backend = plan[index].backend
    if backend in {"kernel", "files"}:
        return {backend: sum(other.backend == backend for other in plan[:index])}
    is_of_containers = index >= len(NETWORK_PLAN)
    return {backend: int(is_of_containers and backend != "flows")}


@pytest.mark.parametrize("index", range(len(PLAN)), ids=[f"{n}-{type(item).__name__}" for n, item in enumerate(PLAN)])
def test_refused_object(host: FakeHost, index: int) -> None:
    """Whichever object of a first network with two containers is refused, nothing of any of them is left."""
    before = prepared(host)
    outcome = host.call(create, host.directories, 2, fault(PLAN, index))
    assert outcome["error"]["sentence"].startswith("cannot ")
    assert outcome["error"]["notes"] == []
    assert host.changes(before) == ""


@pytest.mark.parametrize("kind", ["File", "Symlink", "Sandbox", "Veth", "Address", "Route", "last"])
def test_refused_object_of_a_large_bulk(host: FakeHost, kind: str) -> None:
    """A failure in the 33rd of 40 containers, beyond the first group that shares sends, leaves none of them."""
    host.dnet("create", "first")
    before = host.snapshot()
    outcome = host.call(create, host.directories, 40, fault_in_container(32, kind))
    assert outcome["error"]["notes"] == []
    assert host.changes(before) == ""


@pytest.mark.parametrize("kind", ["Sandbox", "Veth", "Address", "Route", "last"])
def test_keep_going(host: FakeHost, kind: str) -> None:
    """With keep_going, a failure in the 33rd of 40 containers leaves all the others, and nothing of the 33rd."""
    host.dnet("create", "first")
    ports_before = ports(host)
    outcome = host.call(create, host.directories, 40, fault_in_container(32, kind), "keep_going")
    others = [f"c-{number}" for number in range(1, 41) if number != 33]
    assert outcome["made"] == others
    [[name, sentence]] = outcome["failed"]
    assert name == "c-33"
    assert sentence.startswith("cannot ")
    assert sorted(names(host)) == sorted(["first", *others])
    assert len(host.pins()) == 40
    assert len(ports(host)) - len(ports_before) == 39
    assert sorted(name for (name,) in host.rows("SELECT name FROM container")) == sorted(["first", *others])
    assert host.rows("SELECT count(*) FROM endpoint") == [[40]]
    addresses = [ip for item in host.dnet("ps", "--json").json for ip in item["ips"]]
    assert host.silent(addresses) == []


def test_failing_progress_callback(host: FakeHost) -> None:
    """An exception from the caller's progress callback takes everything back, the first network included."""
    before = prepared(host)
    with pytest.raises(Raised, match="the caller's own failure"):
        host.call(create, host.directories, 100, {}, "progress")
    assert host.changes(before) == ""


def test_failing_commit(host: FakeHost) -> None:
    """When the database cannot be written at the end, what was made in the kernel goes again."""
    host.dnet("create", "first")
    before = host.snapshot()
    with pytest.raises(Raised, match="disk full") as caught:
        host.call(create_with_failing_commit, host.directories)
    assert caught.value.kind == "StateError"
    assert host.changes(before) == ""


def create_with_failing_commit(directories: tuple[str, str]) -> None:
    """Create containers with a database that is full when the work is done."""

    def refuse() -> None:
        raise dnet.StateError("disk full")

    with dnet.open(*directories) as engine:
        before_ready(engine._store, refuse)
        engine.create_many([dnet.ContainerSpec(name=f"c-{number}") for number in range(1, 21)])


@pytest.mark.parametrize("index", range(len(NETWORK_PLAN) - 1))
def test_refused_object_of_a_second_network(host: FakeHost, index: int) -> None:
    """Whichever object of a second network is refused, the first network and its container stay as they were."""
    host.dnet("create", "first")
    before = host.snapshot()
    with pytest.raises(Raised, match="cannot "):
        host.call(create_network, host.directories, fault(plan_without_table(), index))
    assert host.changes(before) == ""
    assert host.sandbox("first").can_ping("172.17.0.1")


def plan_without_table() -> list[Object]:
    """Return what a network consists of that is not the first."""
    return [item for item in NETWORK_PLAN if not isinstance(item, NftTable)]


def create_network(directories: tuple[str, str], faults: dict[str, int]) -> None:
    """Create a second network, with a fault."""
    kernel = FaultyKernel(print, faults.get("kernel", -1))
    with Engine(*directories, print, kernel, FaultyNft(faults.get("nft", -1))) as engine:
        engine.create_network("blue", subnet="10.1.0.0/16")


def test_unpinnable_by_a_foreign_file(host: FakeHost) -> None:
    """A name that somebody takes in /run/netns meanwhile is a Conflict, and their file stays."""
    host.dnet("create", "first")
    before = host.snapshot()
    outcome = host.call(create_with_stolen_name, host.directories)
    assert outcome["kind"] == "Conflict"
    host.run("rm /run/netns/c-33")
    assert host.changes(before) == ""


def create_with_stolen_name(directories: tuple[str, str]) -> dict[str, str]:
    """Create containers while somebody takes the name of one of them."""

    class Thief(FaultyKernel):
        def builder(self, *arguments: Any, **options: Any) -> Any:
            Path("/run/netns/c-33").write_text("theirs", encoding="ascii")
            return super().builder(*arguments, **options)

    with Engine(*directories, print, Thief(print), None) as engine:
        try:
            engine.create_many([dnet.ContainerSpec(name=f"c-{number}") for number in range(1, 41)])
        except dnet.DnetError as error:
            return {"kind": type(error).__name__, "text": Path("/run/netns/c-33").read_text(encoding="ascii")}
    return {}


def names(host: FakeHost) -> list[str]:
    """Return what `ip netns` knows."""
    return [item["name"] for item in host.json("ip -j netns")]


def ports(host: FakeHost) -> list[str]:
    """Return the names of the ports of dnet0."""
    return [item["ifname"] for item in host.json("bridge -j link") if item.get("master") == "dnet0"]


def fault_in_container(number: int, kind: str) -> dict[str, int]:
    """Return the fault that hits the first object of a kind, or the last of all, of one container of a bulk."""
    backend = "files" if kind in {"File", "Symlink"} else "kernel"
    kinds = [type(item).__name__ for item in CONTAINER_PLAN if item.backend == backend]
    return {backend: number * len(kinds) + (len(kinds) - 1 if kind == "last" else kinds.index(kind))}
