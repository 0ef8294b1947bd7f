"""Adopting for a while: confirmed, or given back when nobody confirms."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.adopted_lan import add_container, make_network
from tests.support.dnet_commands import run
from tests.support.hosts import FakeHost, Namespace, wait_until
from tests.support.uplink_lan import (
    is_adopted,
    uplink_changes,
    uplink_state,
)


def started(host: FakeHost, *options: str, **popen: Any) -> subprocess.Popen[str]:
    """Start an adopting that waits to be confirmed, and return when it does."""
    pipe = subprocess.PIPE
    process = host.start_dnet("network", "adopt", *options, "lan", "eth1", **{"stdin": pipe, **popen})
    wait_until(lambda: is_adopted(host) or process.poll() is not None, "eth1 is adopted")
    assert process.poll() is None, process.communicate()
    return process


def watchdog(process: subprocess.Popen[str]) -> int:
    """Return the process that watches over another."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                parent = int((entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
            except OSError:
                continue
            if b"dnet.trial" in words and parent == process.pid:
                found.append(int(entry.name))
    [pid] = found
    return pid


def has_ended(pid: int) -> bool:
    """Whether a process is gone."""
    return not Path(f"/proc/{pid}").exists()


@pytest.fixture
def trial(host: FakeHost, routed: Namespace) -> dict[str, Any]:  # noqa: ARG001
    """Return how the host is before an adopting."""
    make_network(host)
    add_container(host, "web")
    run(host, "network", "prune")
    return uplink_state(host)


def test_confirmed(host: FakeHost, trial: dict[str, Any]) -> None:  # noqa: ARG001
    """With Enter in time it stays, and nothing watches any more."""
    process = started(host, "--confirm", "30")
    pid = watchdog(process)
    wait_until(lambda: host.rows("SELECT phase FROM adoption") == [["trial"]], "it is on trial")
    _, said = process.communicate("\n", timeout=20)
    assert process.returncode == 0
    assert "press Enter within 30 s" in said
    assert is_adopted(host)
    assert has_ended(pid)
    assert host.rows("SELECT phase, owner FROM adoption") == [["ready", ""]]


def test_not_confirmed_in_time(host: FakeHost, trial: dict[str, Any]) -> None:
    """When the time is over everything is as it was, and the command says so; the end of input is no confirmation."""
    process = started(host, "--confirm", "1.5")
    _, said = process.communicate("", timeout=20)
    assert process.returncode == 130
    assert "eth1 has back what it had" in said
    assert uplink_changes(trial, uplink_state(host)) == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda n: n.name)
def test_killed_while_it_waits(host: FakeHost, trial: dict[str, Any], number: signal.Signals) -> None:
    """Whatever ends the command, its terminal's end included, gives the interface back, before the time is over."""
    process = started(host, "--confirm", "600", start_new_session=True)
    pid = watchdog(process)
    os.killpg(process.pid, number)  # as a terminal does
    process.communicate(timeout=20)
    wait_until(lambda: has_ended(pid), "the watchdog has done its work")
    assert process.returncode in {130, 143, -number}
    run(host, "network", "prune")  # which removes what the dead process was known by
    assert uplink_changes(trial, uplink_state(host)) == ""


def test_killed_together_with_the_watchdog(host: FakeHost, trial: dict[str, Any]) -> None:
    """When both are killed, the next command gives the interface back, and says so."""
    process = started(host, "--confirm", "600")
    os.kill(watchdog(process), signal.SIGKILL)
    process.kill()
    process.communicate()
    assert is_adopted(host)
    said = run(host, "network", "prune").stderr
    assert "gave back interface eth1" in said
    assert uplink_changes(trial, uplink_state(host)) == ""


def test_watchdog_that_is_terminated(host: FakeHost, trial: dict[str, Any]) -> None:
    """The end of a session that terminates the watchdog too gives the interface back at once."""
    process = started(host, "--confirm", "600")
    pid = watchdog(process)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not is_adopted(host), "eth1 is back")
    _, said = process.communicate("\n", timeout=20)
    assert process.returncode == 130
    assert "eth1 has back what it had" in said
    assert uplink_changes(trial, uplink_state(host)) == ""


def test_confirmed_from_elsewhere(host: FakeHost, trial: dict[str, Any]) -> None:  # noqa: ARG001
    """The same command from another terminal confirms what waits."""
    process = started(host, "--confirm", "2")
    run(host, "network", "adopt", "--yes", "lan", "eth1")
    process.communicate("", timeout=20)
    assert process.returncode == 0
    assert is_adopted(host)


def test_undone_while_it_waits(host: FakeHost, trial: dict[str, Any]) -> None:
    """Giving it back from another terminal ends the trial; Enter comes too late."""
    process = started(host, "--confirm", "600")
    run(host, "network", "adopt", "--undo", "lan", "eth1")
    process.communicate("\n", timeout=20)
    assert process.returncode == 130
    assert uplink_changes(trial, uplink_state(host)) == ""


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 2)])
def test_question_on_a_terminal(host: FakeHost, trial: dict[str, Any], answer: str, code: int) -> None:
    """On a terminal, moving the default route is asked about first."""
    ours, theirs = os.openpty()
    process = host.start_dnet("network", "adopt", "lan", "eth1", stdin=theirs)
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    _, said = process.communicate(timeout=20)
    os.close(ours)
    assert process.returncode == code, said
    assert "eth1 carries the default route" in said
    assert is_adopted(host) == (answer == "y")
    if answer == "n":
        assert uplink_changes(trial, uplink_state(host)) == ""


def test_default_route_without_a_terminal(host: FakeHost, trial: dict[str, Any]) -> None:
    """Without a terminal nobody can be asked: it is refused, with the remedy."""
    refusal = run(host, "network", "adopt", "lan", "eth1", code=2)
    assert "eth1 carries the default route" in refusal.stderr
    assert "--confirm" in refusal.stderr
    assert "--yes" in refusal.stderr
    assert uplink_changes(trial, uplink_state(host)) == ""
