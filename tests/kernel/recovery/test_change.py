"""Joining and leaving networks: a failure anywhere, an interrupt or a killed process leaves no half of it."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import dnet
from dnet.engine import Engine
from dnet.linux import files
from dnet.linux.kernel import Kernel
from dnet.linux.nftables import Nft
from dnet.state.store import Store
from tests.kernel.networks.test_several import check, make_networks
from tests.support.dnet_commands import run
from tests.support.faults import FaultyKernel, FaultyNft, before_ready
from tests.support.hosts import FakeHost, Raised
from tests.support.state_diff import default_routes, differences, glance, hosts, is_as_before, listed, whole
from tests.support.traffic import reach

MEMBERS = ("web", "db")
# Each change moves the default route and the published port of web, and changes what its link to db is.
CHANGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "connect": ("connect", ("web",)),
    "connect two": ("connect", ("db", "web")),
    "connect to both families": ("connect-six", ("web",)),
    "disconnect": ("disconnect", ("web",)),
    "disconnect the child": ("disconnect", ("db",)),
}


@pytest.fixture
def host(host: FakeHost) -> FakeHost:
    """Return a host with a linked pair on networks apart and red, web having published ports, and every bridge used."""
    host.call(make_networks, host.directories)
    host.call(furnish, host.directories)
    return host


def furnish(directories: tuple[str, str]) -> None:
    """Create containers."""
    with dnet.open(*directories) as engine:
        engine.create("first", network=["blue", "red", "apart", "inner", "six"])
        engine.create("db", network=["apart", "red"], expose=["5432", "53/udp"])
        engine.create("web", network=["apart", "red"], publish=["8080:80", "5300:53/udp"], links=["db:database"])


def change(engine: Engine, what: str, names: tuple[str, ...]) -> None:
    """Join a network, that of the default route then, or leave the one that has it."""
    match what:
        case "connect":
            engine.connect(names, dnet.EndpointSpec(network="blue", gateway_priority=1))
        case "connect-six":
            engine.connect(names, dnet.EndpointSpec(network="six", gateway_priority=1))
        case _:
            engine.disconnect(names[0], "apart")


def attempt(directories: tuple[str, str], case: str, faults: dict[str, int]) -> dict[str, Any]:
    """Make a change with a fault; return the error's sentence and notes, an empty sentence when there was none."""
    kernel = FaultyKernel(print, faults.get("kernel", -1), fail_at_flows=faults.get("flows", -1))
    with Engine(*directories, print, kernel, FaultyNft(faults.get("nft", -1))) as engine:
        try:
            change(engine, *CHANGES[case])
        except dnet.DnetError as error:
            return {"sentence": str(error), "notes": getattr(error, "__notes__", [])}
    return {"sentence": ""}


@pytest.mark.parametrize("case", list(CHANGES))
def test_failures(host: FakeHost, case: str) -> None:
    """Whichever object of a change the kernel refuses, or nftables or connection tracking, nothing has changed."""
    before, seen = whole(host, *MEMBERS), glance(host, *MEMBERS)
    counts = {"nft": 0, "flows": 0, "kernel": 0}
    for backend in ("nft", "flows", "kernel"):
        # Of two containers: some of the first one's objects, some of the other's.
        for index in range(0, 100, 7 if case == "connect two" else 1):
            outcome = host.call(attempt, host.directories, case, {backend: index})
            if not outcome["sentence"]:
                break
            assert outcome["sentence"].startswith("cannot "), (backend, index)
            assert outcome["notes"] == [], (backend, index)
            assert is_as_before(host, seen), (backend, index, differences(host, before))
            counts[backend] += 1
        # What has failed has left nothing: joining and leaving again is all that has happened.
        host.call(revert, host.directories, case)
        if case.startswith("connect"):
            assert differences(host, before) == "", backend
        else:
            before, seen = whole(host, *MEMBERS), glance(host, *MEMBERS)
    assert counts["nft"] == counts["flows"] == 1
    assert counts["kernel"] > 1


def revert(directories: tuple[str, str], case: str) -> None:
    """Make the change the other way round."""
    what, names = CHANGES[case]
    with dnet.open(*directories) as engine:
        for name in names:
            if what == "disconnect":
                engine.connect([name], dnet.EndpointSpec(network="apart", interface="eth0"))
            else:
                engine.disconnect(name, "blue" if what == "connect" else "six")


def test_failing_commit(host: FakeHost) -> None:
    """When the database cannot be written at the end, what was changed in the kernel is changed back."""
    before = whole(host, *MEMBERS)
    for case in CHANGES:
        assert host.call(attempt_with_failing_commit, host.directories, case) == "disk full"
        assert differences(host, before) == "", case


def attempt_with_failing_commit(directories: tuple[str, str], case: str) -> str:
    """Make a change with a database that is full when the work is done, and that works again afterwards."""
    with dnet.open(*directories) as engine:
        store = engine._store
        set_phase = store.set_phase

        def refuse() -> None:
            store.set_phase = set_phase  # type: ignore[method-assign]
            raise dnet.StateError("disk full")

        before_ready(store, refuse)
        try:
            change(engine, *CHANGES[case])
        except dnet.StateError as error:
            return str(error)
    return ""


# Before which calls a process ends.
PLACES = (
    "Kernel.delete",
    "Kernel.remove_inside",
    "Nft.run",
    "Kernel.drop_flows",
    "Kernel.builder",
    "Store.set_phase",
    "files.edit",
)


def end(directories: tuple[str, str], case: str, place: str, count: int, number: int) -> None:
    """Make a change in a process that sends itself a signal before call `count`, from 0, of a method."""
    name, method_name = place.split(".")
    owner = {"Kernel": Kernel, "Nft": Nft, "Store": Store, "files": files}[name]
    method, calls = getattr(owner, method_name), itertools.count()

    def ending(*arguments: Any, **options: Any) -> Any:
        if next(calls) == count:
            os.kill(os.getpid(), number)
            os.read(os.pipe()[0], 1)
        return method(*arguments, **options)

    with dnet.open(*directories) as engine:
        engine.refresh_resolvers()  # loads what writes
        setattr(owner, method_name, ending)
        change(engine, *CHANGES[case])


def ended(host: FakeHost, case: str, number: signal.Signals) -> Iterator[tuple[str, dict[str, Any]]]:
    """Make a change over and over in a process that is ended by a signal, each time at another place.

    Yields the place and how all was before; what was changed by then is changed back afterwards.
    """
    before = glance(host, *MEMBERS)
    for place in PLACES:
        is_ended, count = True, 0
        while is_ended:
            try:
                host.call(end, host.directories, case, place, count, int(number))
                is_ended = False
            except (Raised, AssertionError) as error:
                if "KeyboardInterrupt" not in str(error) and "wait status 9" not in str(error):
                    raise
                yield f"{place} {count}", before
            if is_made(host, case):
                host.call(revert, host.directories, case)
                before = glance(host, *MEMBERS)
            count += 1


def is_made(host: FakeHost, case: str) -> bool:
    """Whether a change has been made, as `ps` shows it."""
    [entry] = [item for item in run(host, "ps", "--json").json if item["name"] == "web"]
    return ("blue" in entry["networks"]) if case == "connect" else ("apart" not in entry["networks"])


def check_settled(host: FakeHost, case: str, before: dict[str, Any], place: str) -> None:
    """Check that nothing is half done: a change was made in all its parts, or in none."""
    phases = host.rows("SELECT phase FROM container UNION SELECT phase FROM endpoint")
    assert phases == [["ready"]], place
    if not is_made(host, case):
        assert is_as_before(host, before), place
    elif case == "connect":
        check(host, "web", "blue", "apart", "red")
        assert default_routes(host.sandbox("web")) == {4: ("10.1.0.1", "eth2"), 6: ("fd00:3::1", "eth0")}
    else:
        check(host, "web", "red")
        assert [line.split()[0] for line in hosts(host, "web") if "database" in line] == ["10.2.0.3"]


@pytest.mark.parametrize("case", ["connect", "disconnect"])
def test_interrupts(host: FakeHost, case: str) -> None:
    """Wherever Ctrl-C comes in a change, all of it is there, or none of it; nothing is left to be settled."""
    seen = set()
    for place, before in ended(host, case, signal.SIGINT):
        check_settled(host, case, before, place)
        seen.add(place.split()[0])
    assert seen == set(PLACES)


@pytest.mark.parametrize("case", ["connect", "disconnect"])
def test_kills(host: FakeHost, case: str) -> None:
    """Wherever a process is killed in a change, the next command that writes finishes it or takes it back, whole."""
    for place, before in ended(host, case, signal.SIGKILL):
        run(host, "rm", "-f", "nobody")
        check_settled(host, case, before, place)
    with host.sandbox("web").serve(80):
        assert reach(host, "127.0.0.1", 8080)


# A process that waits in the middle of joining web to network blue until it is told to go on.
HELD = """
import sys
import dnet
from dnet.transaction import containers
change = containers.change_in_lots
def held(*arguments, **options):
    print(flush=True)
    sys.stdin.readline()
    return change(*arguments, **options)
with dnet.open(*sys.argv[1:3]) as engine:
    containers.change_in_lots = held
    try:
        engine.connect(["web"], dnet.EndpointSpec(network="blue", gateway_priority=1, interface="wan"))
    except (dnet.Conflict, dnet.NotFound):
        sys.exit(4)
"""
OTHERS = (
    "network connect six web",
    "network connect blue web",
    "network disconnect apart web",
    "rename web front",
    "create --network container:web side",
    "rm web",
    "rm -f web db",
)


@pytest.mark.parametrize("other", OTHERS)
def test_two_changes_at_once(host: FakeHost, other: str) -> None:
    """What another process does to a container that is being changed waits, or is a Conflict; all agrees then."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    holder = host.start(sys.executable, "-c", HELD, *host.directories, **pipes)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "\n"
    second = host.start_dnet(*other.split())
    with contextlib.suppress(subprocess.TimeoutExpired):
        second.wait(3.0)
    holder.communicate("\n")
    _, sentence = second.communicate()
    assert holder.returncode in {0, 4}
    assert second.returncode in {0, 4}, sentence
    assert host.rows("SELECT phase FROM container UNION SELECT phase FROM endpoint") == [["ready"]]
    for name, entry in listed(host).items():
        if name in {"web", "front"}:
            check(host, name, *sorted(entry["networks"], key=["blue", "apart", "six", "red"].index))
    run(host, "bulk-delete", "--all")
    for name in ("blue", "red", "apart", "inner", "six"):
        run(host, "network", "rm", name)
    assert [link["ifname"] for link in host.json("ip -j link")] == ["lo"]
    assert host.run("nft list ruleset").stdout == ""
    assert host.pins() == []
    assert host.run("ls /run/netns /etc/netns").stdout.split() == ["/etc/netns:", "/run/netns:"]
