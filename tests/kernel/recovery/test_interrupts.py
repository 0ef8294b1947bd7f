"""Ctrl-C, SIGTERM and SIGKILL in the middle: what was begun is taken back, at once or by the next command."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from types import FrameType
from typing import Any

import pytest

import dnet
from tests.support.hosts import FakeHost, wait_until

COUNT = 300
REACTION_S = 2.0


def begun(host: FakeHost, pins: int, *arguments: str) -> subprocess.Popen[str]:
    """Start a bulk-create of 300 and return when the kernel holds at least so many of its namespaces."""
    before = len(host.pins())
    process = host.start_dnet("bulk-create", "--count", str(COUNT), *arguments)
    wait_until(lambda: len(host.pins()) - before >= pins or process.poll() is not None, f"{pins} pins")
    assert process.poll() is None, process.communicate()
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("pins", [1, 100, 250])
def test_signal_in_the_middle(host: FakeHost, number: signal.Signals, code: int, pins: int) -> None:
    """Ctrl-C exits 130 and SIGTERM 143, soon, with nothing left of the bulk."""
    host.dnet("create", "first")
    before = host.snapshot()
    process = begun(host, pins)
    sent = time.monotonic()
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=30)
    reaction_s = time.monotonic() - sent
    assert process.returncode == code, stderr
    assert stdout == ""
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    assert host.changes(before) == ""

    assert reaction_s < REACTION_S


def test_signal_on_a_fresh_host(host: FakeHost) -> None:
    """Ctrl-C in the very first bulk takes the first network back as well."""
    host.dnet("network", "prune")
    before = host.snapshot()
    process = begun(host, 100)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert host.changes(before) == ""


def test_repeated_signals(host: FakeHost) -> None:
    """Pressing Ctrl-C again and again during the roll-back does not break it."""
    host.dnet("create", "first")
    before = host.snapshot()
    process = begun(host, 250)
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.002)
    _, stderr = process.communicate()
    assert process.returncode == 130, stderr
    assert host.changes(before) == ""


def test_signal_and_json(host: FakeHost) -> None:
    """An interrupted bulk prints no document: stdout stays empty."""
    host.dnet("create", "first")
    before = host.snapshot()
    process = begun(host, 100, "--json")
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (130, "")
    assert host.changes(before) == ""


def test_signal_during_bulk_delete(host: FakeHost) -> None:
    """Ctrl-C in a bulk-delete leaves no half: the next command removes what is marked, and says so."""
    host.dnet("create", "first")
    before = host.snapshot()
    host.dnet("bulk-create", "--count", str(COUNT))
    process = host.start_dnet("bulk-delete", "--prefix", "c")
    links = len(host.pins())
    wait_until(lambda: len(host.pins()) < links or process.poll() is not None, "the first pin gone")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode in {0, 130}
    host.dnet("rm", "--force", "nobody")
    assert host.changes(before) == ""


@pytest.mark.parametrize("pins", [0, 1, 100, 290])
def test_kill_in_the_middle(host: FakeHost, pins: int) -> None:
    """After SIGKILL in the middle of a bulk the next command that writes removes the remains, says so, and works."""
    host.dnet("create", "first")
    before = host.snapshot()
    process = begun(host, pins)
    process.kill()
    process.communicate()
    assert [item["name"] for item in host.dnet("ps", "--json").json] == ["first"]
    cleared = host.dnet("create", "c-1")
    assert "killed" in cleared.stderr or not pins
    host.dnet("rm", "c-1")
    assert host.changes(before) == ""


def test_kill_of_the_first_bulk(host: FakeHost) -> None:
    """After SIGKILL in the first bulk of a host, the same bulk succeeds, and all of it communicates."""
    process = begun(host, 20)
    process.kill()
    process.communicate()
    made = host.dnet("bulk-create", "--count", "30", "--json").json["containers"]
    assert host.silent([item["ip"] for item in made]) == []
    assert len(host.pins()) == 30


def test_kill_in_bulk_delete(host: FakeHost) -> None:
    """After SIGKILL in the middle of a bulk-delete the next command that writes finishes it."""
    host.dnet("create", "first")
    before = host.snapshot()
    host.dnet("bulk-create", "--count", "100")
    process = host.start_dnet("bulk-delete", "--prefix", "c")
    wait_until(lambda: len(host.rows("SELECT 1 FROM container WHERE phase = 'deleting'")) == 100, "the mark")
    process.kill()
    process.communicate()
    host.dnet("rm", "--force", "nobody")
    assert host.changes(before) == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_network_between_reservation_and_rules(host: FakeHost, number: signal.Signals) -> None:
    """A process that ends between reserving a network and making it leaves nothing that the next command minds."""
    host.dnet("create", "first")
    before = host.snapshot()
    ended = host.python(STOPPED_BEFORE_NFT, *host.directories, str(int(number)), exit_code=None)
    assert ended.code, ended.stderr
    host.dnet("rm", "--force", "nobody")
    assert host.changes(before) == ""


STOPPED_BEFORE_NFT = """
import os, sys
import dnet
from dnet.linux.nftables import Nft
run = Nft.run
def end(self, commands, what):
    Nft.run = run
    os.kill(os.getpid(), int(sys.argv[3]))
    os.read(os.pipe()[0], 1)
with dnet.open(*sys.argv[1:3]) as engine:
    Nft.run = end
    engine.create_network("blue", subnet="10.1.0.0/16")
"""


def test_build_is_waited_for(host: FakeHost) -> None:
    """However Ctrl-C arrives while the C core works, it has come to rest before anything is undone."""
    done = host.python(STUBBORN)
    assert done.stdout == "rested, then interrupted\n"


# Thread.join, interrupted by a signal, takes a running thread for ended (bpo-45274); it must not be relied upon.
STUBBORN = """
import os, signal, threading, time
from dnet.linux import builder
def work(control):
    while not control.cancel:
        time.sleep(0.001)
    time.sleep(0.3)
    print("rested", end=", ", flush=True)
    return 0
threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    builder.supervise(work, 100, None)
except KeyboardInterrupt:
    print("then interrupted")
"""


# Lines of the engine's own at which an interrupt is tried: every so many of the distinct ones that a create runs.
STRIDE = 6
MODULES = tuple(
    f"/{name}.py"
    for name in (
        *("engine", "containers", "rollback", "apply", "apply_rules", "apply_vlans", "apply_switch"),
        *("kernel", "builder", "send", "sysctl", "conntrack", "nftables", "store", "networks"),
    )
)


class Interrupter:
    """Raises KeyboardInterrupt when the line number `at`, of the distinct lines of dnet's engine run, is reached."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.seen: set[tuple[str, int]] = set()
        self.where = ""

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> Any:
        path = frame.f_code.co_filename
        # Python swallows what is raised in a generator that is being closed.
        if "/dnet/" not in path or not path.endswith(MODULES) or frame.f_code.co_name == "<genexpr>":
            return None
        place = (path.rsplit("/", 1)[-1], frame.f_lineno)
        if event == "line" and place not in self.seen:
            self.seen.add(place)
            if len(self.seen) > self.at:
                sys.settrace(None)
                self.where = f"{place[0]}:{place[1]} in {frame.f_code.co_name}"
                raise KeyboardInterrupt
        return self


def interrupted(directories: tuple[str, str], what: str, at: int) -> str:
    """Create something, interrupted at a line; return where that was, or nothing when it came to its end."""
    interrupter = Interrupter(at)
    with dnet.open(*directories) as engine:
        sys.settrace(interrupter)
        try:
            if what == "network":
                engine.create_network("blue", subnet="10.1.0.0/16")
            else:
                engine.create_many([dnet.ContainerSpec(name=f"c-{number}") for number in range(12)])
        except KeyboardInterrupt:
            return interrupter.where
        finally:
            sys.settrace(None)
    return ""


@pytest.mark.parametrize("what", ["containers", "network"])
def test_interrupt_at_any_line(host: FakeHost, what: str) -> None:
    """At whichever line Ctrl-C arrives, all of it is there, or none of it after the next command at the latest."""
    host.dnet("create", "first")
    before = host.snapshot()
    facts = light(host)
    leaks = []
    at = 0
    while where := host.call(interrupted, host.directories, what, at):
        host.call(tidy, host.directories)
        if len(host.rows("SELECT 1 FROM container")) == 13 or host.rows("SELECT 1 FROM network WHERE name = 'blue'"):
            # It was complete by then, and stays.
            host.call(remove, host.directories, what)
        if light(host) != facts:
            leaks.append(where)
            break
        at += STRIDE
    assert at > 20
    assert leaks == []
    host.call(remove, host.directories, what)
    assert host.changes(before) == ""


def tidy(directories: tuple[str, str]) -> None:
    """Do what every command that writes does first."""
    with dnet.open(*directories) as engine:
        engine.delete_many(["nobody"], missing_ok=True)


def remove(directories: tuple[str, str], what: str) -> None:
    """Remove what `interrupted` has created."""
    with dnet.open(*directories) as engine:
        if what == "network":
            engine.delete_networks(["blue"])
        else:
            engine.delete_many([f"c-{number}" for number in range(12)])


def light(host: FakeHost) -> list[Any]:
    """Return what tells most cheaply whether anything is left."""
    rows = [host.rows(f"SELECT * FROM {table}") for table in ("container", "endpoint", "network")]
    links = host.run("ip -br link").stdout.count("\n")
    return [rows, links, host.pins(), host.run("ls /run/netns").stdout, host.run("nft list table inet dnet").stdout]
