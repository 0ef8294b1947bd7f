"""Bulks are reserved lot by lot while the kernel works: what happens between the lots leaves no half of a bulk."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dnet
from dnet.engine import Engine
from dnet.linux.builder import Builder
from dnet.linux.nftables import Nft
from dnet.operations import endpoints
from dnet.state.containers import Containers
from dnet.transaction.lots import FIRST_LOT
from tests.support.faults import FaultyKernel
from tests.support.hosts import FakeHost, Raised

COUNT = FIRST_LOT + 2 * FIRST_LOT + 10  # three lots
NAMES = [f"c-{number}" for number in range(1, COUNT + 1)]
LAST = NAMES[-1]


@pytest.fixture
def host(host: FakeHost) -> FakeHost:
    """Return a host with two networks whose bridges are there, and one container."""
    host.dnet("network", "create", "--subnet", "10.1.0.0/16", "blue")
    host.dnet("network", "create", "--subnet", "10.2.0.0/26", "narrow")
    host.dnet("create", "--network", "blue", "--network", "narrow", "first")
    return host


def bulk(engine: Engine) -> None:
    """Create a bulk."""
    engine.create_many([dnet.ContainerSpec(name=name, network="blue") for name in NAMES])


def connect(engine: Engine) -> None:
    """Join all containers of a bulk to a second network."""
    engine.connect(NAMES, dnet.EndpointSpec(network="red"))


def attach(engine: Engine) -> None:
    """Do that by the command for containers of whatever kind."""
    engine.attach_many(NAMES, "red")


CHANGES: dict[str, Callable[[Engine], None]] = {"bulk": bulk, "connect": connect, "attach": attach}


def prepare(host: FakeHost, case: str) -> None:
    """Make what a change needs."""
    if case != "bulk":
        host.dnet("bulk-create", "--count", str(COUNT), "--network", "blue")
        host.dnet("network", "create", "--subnet", "10.3.0.0/16", "red")
        host.dnet("network", "connect", "red", "first")


def assert_made(host: FakeHost, case: str) -> None:
    """Check with the kernel's own answers that a change has been made, in each of its lots."""
    device = host.rows(f"SELECT device FROM network WHERE name = '{'blue' if case == 'bulk' else 'red'}'")[0][0]
    ports = [item for item in host.json("bridge -j link") if item.get("master") == device]
    assert len(ports) == COUNT + 1
    for number in (1, FIRST_LOT, FIRST_LOT + 1, 3 * FIRST_LOT, 3 * FIRST_LOT + 1, COUNT):
        assert host.sandbox("first").can_ping(f"10.{1 if case == 'bulk' else 3}.0.{number + 2}"), number


def end_between(directories: tuple[str, str], case: str, lot: int, number: int, is_after: int) -> None:
    """Make a change in a process that sends itself a signal when a lot's rows are about to be, or are, inserted."""
    insert, calls = Containers.insert_endpoints, itertools.count()

    def ending(containers: Containers, *arguments: Any) -> None:
        is_now = next(calls) == lot
        if is_now and not is_after:
            os.kill(os.getpid(), number)
        insert(containers, *arguments)
        if is_now:
            os.kill(os.getpid(), number)

    with dnet.open(*directories) as engine:
        Containers.insert_endpoints = ending  # type: ignore[method-assign]
        CHANGES[case](engine)


@pytest.mark.parametrize(
    ("number", "is_after"), [(signal.SIGINT, False), (signal.SIGINT, True), (signal.SIGKILL, True)]
)
@pytest.mark.parametrize("case", list(CHANGES))
def test_ended_between(host: FakeHost, case: str, number: signal.Signals, *, is_after: bool) -> None:
    """Ctrl-C or SIGKILL while a later lot is reserved: all is as before the bulk, at once or with the next command."""
    prepare(host, case)
    before = host.snapshot()
    for lot in (1, 2):
        with pytest.raises((Raised, AssertionError), match=r"KeyboardInterrupt|wait status 9"):
            host.call(end_between, host.directories, case, lot, int(number), int(is_after))
        if number == signal.SIGKILL:
            host.dnet("rm", "--force", "nobody")
        assert host.changes(before) == "", lot
        assert host.rows("SELECT phase FROM container UNION SELECT phase FROM endpoint") == [["ready"]], lot
    host.call(make, host.directories, case)
    assert_made(host, case)


def make(directories: tuple[str, str], case: str) -> None:
    """Make a change."""
    with dnet.open(*directories) as engine:
        CHANGES[case](engine)


def execute(directories: tuple[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Execute a command in a process of its own."""
    command = [sys.executable, "-m", "dnet.cli", "--state-dir", directories[0], "--run-dir", directories[1], *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def make_beside(directories: tuple[str, str], case: str, words: list[str]) -> dict[str, Any]:
    """Make a change while another process executes a command after the first lot; return what came of both."""
    put, calls, told = Builder.put, itertools.count(), []

    def beside(*arguments: Any) -> None:
        put(*arguments)
        if next(calls) == 0:
            done = execute(directories, *words)
            told.append((done.returncode, done.stderr))

    Builder.put = beside  # type: ignore[method-assign]
    outcome: dict[str, Any] = {"error": "", "notes": []}
    try:
        make(directories, case)
    except dnet.DnetError as error:
        outcome = {"error": f"{type(error).__name__}: {error}", "notes": getattr(error, "__notes__", [])}
    [(outcome["code"], outcome["told"])] = told
    return outcome


def test_name_taken_between(host: FakeHost) -> None:
    """Who takes a name between the lots keeps it, and the bulk is a conflict that names the holder."""
    before = host.snapshot()
    outcome = host.call(make_beside, host.directories, "bulk", ["create", "--network", "narrow", LAST])
    assert (outcome["code"], outcome["notes"]) == (0, [])
    assert outcome["error"].startswith(f"Conflict: name {LAST} is in use by container")
    assert host.sandbox(LAST).can_ping("10.2.0.1")
    host.dnet("rm", LAST)
    assert host.changes(before) == ""


@pytest.mark.parametrize("case", ["connect", "attach"])
def test_address_taken_between(host: FakeHost, case: str) -> None:
    """An address that somebody takes between the lots is theirs, and all others get others."""
    prepare(host, case)
    taken = f"10.3.0.{FIRST_LOT + 3}"
    words = ["create", "--network", "red", "--ip", taken, "other"]
    outcome = host.call(make_beside, host.directories, case, words)
    assert (outcome["code"], outcome["error"]) == (0, "")
    addresses = [
        row[0]
        for row in host.rows(
            "SELECT address FROM endpoint WHERE network_id = (SELECT id FROM network WHERE name = 'red')"
        )
    ]
    assert len(set(addresses)) == COUNT + 2
    assert host.sandbox("other").can_ping("10.3.0.1")
    assert host.silent([f"10.3.0.{number}" for number in range(2, COUNT + 4)], within_s=30) == []


@pytest.mark.parametrize(
    ("words", "sentence"), [(["network", "rm", "red"], "red"), (["rm", LAST], "being changed by another")]
)
@pytest.mark.parametrize("case", ["connect", "attach"])
def test_removed_between(host: FakeHost, case: str, words: list[str], sentence: str) -> None:
    """A network cannot be removed under a bulk that is joining it, nor a container that belongs to it."""
    prepare(host, case)
    outcome = host.call(make_beside, host.directories, case, words)
    assert (outcome["code"], outcome["error"]) == (4, "")
    assert sentence in outcome["told"]
    assert_made(host, case)


def refusal(directories: tuple[str, str], network: str, names: list[str], is_join: int) -> str:
    """Ask for a bulk where the kernel would refuse whatever it is asked for; return the error that comes before."""
    with Engine(*directories, print, FaultyKernel(print, 0), Nft()) as engine:
        try:
            if is_join:
                engine.connect(names, dnet.EndpointSpec(network=network))
            else:
                engine.create_many([dnet.ContainerSpec(name=name, network=network) for name in names])
        except dnet.DnetError as error:
            return f"{type(error).__name__}: {error}"
    return ""


def test_refused_before_the_first(host: FakeHost) -> None:
    """What is wrong with the last of a bulk, or with all of them together, is said before the first one is made."""
    before = host.snapshot()
    words = (
        ([*NAMES, "first"], "blue", "Conflict: name first is in use by container"),
        ([*NAMES, NAMES[0]], "blue", "InvalidRequest: name c-1 is given twice"),
        (NAMES, "narrow", f"Exhausted: {COUNT} more addresses are needed in 10.2.0.0/26 of network narrow"),
    )
    for names, network, sentence in words:
        assert host.call(refusal, host.directories, network, names, 0).startswith(sentence)
        assert host.changes(before) == ""
    prepare(host, "connect")
    before = host.snapshot()
    host.dnet("network", "connect", "red", LAST)
    host.dnet("network", "disconnect", "red", LAST)
    words = (
        ([*NAMES, "first"], "red", "Conflict: container first is on network red already"),
        ([*NAMES, "nobody"], "red", "NotFound: there is no container nobody"),
        (NAMES, "narrow", f"Exhausted: {COUNT} more addresses are needed in 10.2.0.0/26 of network narrow"),
    )
    for names, network, sentence in words:
        assert host.call(refusal, host.directories, network, names, 1).startswith(sentence)
        assert host.changes(before) == ""


def test_members_refer_to_each_other(host: FakeHost, tmp_path: Path) -> None:
    """In a bulk of several lots the first can be linked to the last, and the last share the first one's sandbox."""
    listed: list[dict[str, Any]] = [{"name": name, "network": "blue"} for name in NAMES]
    listed[0]["link"] = [f"{LAST}:tail"]
    listed[-2]["network"] = f"container:{NAMES[0]}"
    path = tmp_path / "bulk.json"
    path.write_text(json.dumps(listed), encoding="utf-8")
    host.dnet("bulk-create", "--file", str(path))
    hosts = host.run("ip", "netns", "exec", NAMES[-2], "cat", "/etc/hosts").stdout
    [line] = [line for line in hosts.splitlines() if "tail" in line]
    assert host.sandbox(NAMES[-2]).can_ping(line.split()[0])


def test_address_asked_for_by_a_later_one(host: FakeHost, tmp_path: Path) -> None:
    """An address or a name that a container of a later lot asks for is not chosen for one of an earlier lot."""
    listed: list[dict[str, str]] = [{"network": "blue"} for _ in NAMES]
    listed[-1] = {"network": "blue", "name": "late", "ip": "10.1.0.5"}
    path = tmp_path / "bulk.json"
    path.write_text(json.dumps(listed), encoding="utf-8")
    made = host.dnet("bulk-create", "--file", str(path), "--json").json["containers"]
    assert len({item["ip"] for item in made}) == len({item["name"] for item in made}) == COUNT
    assert host.sandbox("first").can_ping("10.1.0.5")
    assert host.sandbox("late").json("ip -j -4 address show eth0")[0]["addr_info"][0]["local"] == "10.1.0.5"


def test_stale_names(host: FakeHost) -> None:
    """Links that a lost state directory has left under the names of a bulk are replaced, whatever lot they are of."""
    stale = (NAMES[0], NAMES[FIRST_LOT], LAST)
    for name in stale:
        for directory, kind in (("/run/netns", "netns"), ("/etc/netns", "etc")):
            host.run("ln", "-s", f"{host.run_dir}/{kind}/deadbeef0000", f"{directory}/{name}")
    host.dnet("bulk-create", "--count", str(COUNT), "--network", "blue")
    for name in stale:
        assert host.sandbox(name).can_ping("10.1.0.1")
        assert name in host.run("ip", "netns", "exec", name, "cat", "/etc/hostname", "/proc/self/mountinfo").stdout
    host.dnet("reconcile", "--dry-run")


def test_attached_at_once(host: FakeHost) -> None:
    """A container that one process attaches, another one cannot attach meanwhile, nor by what it knew of it before."""
    prepare(host, "attach")
    outcome = host.call(make_beside, host.directories, "attach", ["attach", "--network", "narrow", LAST])
    assert (outcome["code"], outcome["error"]) == (4, "")
    assert "being changed by another" in outcome["told"]
    assert_made(host, "attach")
    sentence = host.call(attach_late, host.directories, LAST)
    assert sentence == f"container {LAST} has just been changed by another dnet process"
    links = [item["ifname"] for item in host.sandbox(LAST).json("ip -j link")]
    assert links == ["lo", "eth0", "eth1", "eth2"]
    assert (
        len(host.rows(f"SELECT 1 FROM endpoint e JOIN container c ON c.id = container_id WHERE name = '{LAST}'")) == 3
    )
    host.dnet("reconcile", "--dry-run")


def attach_late(directories: tuple[str, str], name: str) -> str:
    """Attach a container that another process attaches after this one has read what it is; return the error."""
    repair = endpoints.repair_networks

    def repair_late(*arguments: Any) -> None:
        repair(*arguments)
        execute(directories, "attach", "--network", "narrow", name).check_returncode()

    with dnet.open(*directories) as engine:
        engine.create_network("late")
        endpoints.repair_networks = repair_late  # type: ignore[assignment]
        try:
            engine.attach_many([name], "late")
        except dnet.Conflict as error:
            return str(error)
    return ""


def test_published_ports_are_put_back(host: FakeHost) -> None:
    """When joining fails for one of several containers with published ports, all have what they had."""
    host.dnet("network", "create", "--subnet", "10.3.0.0/16", "aaa")
    host.dnet("create", "--network", "aaa", "third")
    for name in ("one", "two"):
        host.dnet("create", "--network", "blue", "-p", "80", name)
    host.sandbox("two").run("ip", "link", "add", "eth1", "type", "bridge")
    before = host.snapshot()
    routes = [host.sandbox(name).json("ip -j route") for name in ("one", "two")]
    refused = host.dnet("network", "connect", "aaa", "one", "two", code=4)
    assert "undoing" not in refused.stderr
    assert host.changes(before) == ""
    assert routes == [host.sandbox(name).json("ip -j route") for name in ("one", "two")]
    assert host.rows("SELECT phase FROM container UNION SELECT phase FROM endpoint") == [["ready"]]
