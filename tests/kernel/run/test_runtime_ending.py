"""Processes that are stopped, removed, joined, or whose keepers were killed; and programs that are missing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

import dnet
from dnet.linux import spawn
from dnet.model.container import Container
from dnet.model.container_spec import check_process
from dnet.runtime import oci
from dnet.runtime.process import Runtime
from tests.support.dnet_commands import run as cli
from tests.support.hosts import Raised, wait_until
from tests.support.runtime_box import (
    TIMEOUT_S,
    Box,
    settled,
)


def test_stop(each: Box) -> None:
    """A process is asked to end, and its own exit status is known at once; there is nothing to stop afterwards."""
    each.start("sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done")
    wait_until(lambda: each.log()["stdout"] == "ready\n", "it listens")

    def stop(runtime: Runtime, container: Container) -> list[Any]:
        is_first = runtime.stop(container)
        status = runtime.status(container)
        return [is_first, status.state, status.exit_code, runtime.stop(container)]

    assert each.call(stop) == [True, "exited", 5, False]


def test_stop_by_force(box: Box) -> None:
    """A process that does not listen is killed when the time is up; all others in the container go with it."""
    pid = box.start("sh", "-c", "trap '' TERM; sleep 61 & exec sleep 62")
    wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n", "it sleeps")
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=True).stdout.split()
    assert len(children) == 1

    def stop(runtime: Runtime, container: Container) -> list[Any]:
        is_first = runtime.stop(container, 0.2)
        return [is_first, runtime.status(container).state, runtime.status(container).exit_code]

    assert box.call(stop) == [True, "exited", 137]
    wait_until(lambda: not os.path.exists(f"/proc/{children[0]}"), "its child has gone")


def test_signals(box: Box) -> None:
    """Any signal can be sent to a process that runs, to one that does not it is a conflict."""
    box.start("sh", "-c", "trap 'exit 6' USR1; echo ready; while :; do sleep 0.01; done")
    wait_until(lambda: box.log()["stdout"] == "ready\n", "it listens")
    box.call(lambda runtime, container: runtime.kill(container, signal.SIGUSR1))
    assert box.await_exit() == 6
    with pytest.raises(Raised, match="web is not running") as caught:
        box.call(lambda runtime, container: runtime.kill(container, signal.SIGUSR1))
    assert caught.value.kind == "Conflict"


def test_remove(each: Box) -> None:
    """After removal nothing is left: processes, mounts, control groups, files; again is no failure."""
    before = each.host.snapshot()
    pid = each.start("sh", "-c", "mkdir -p /etc/a/b && chmod 0 /etc/a; rm /etc/hostname; sleep 61 & exec sleep 62")
    wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n", "it sleeps")
    assert each.remains()
    mounts = each.host.run("findmnt", "--list", "--noheadings", "--output", "TARGET").stdout.splitlines()
    assert sorted(mounts) == sorted(line.split()[0] for line in before["mounts"])
    each.remove()
    assert not os.path.exists(f"/proc/{pid}")
    settled(each)
    each.remove()
    shutil.rmtree(each.host.inside(each.host.run_dir / "runtime"))
    (each.host.state_dir / "containers").rmdir()
    assert each.host.changes(before) == ""


def test_removal_of_what_has_ended(box: Box) -> None:
    """A container whose process has ended is removed like one that runs, and one that never ran is no failure."""
    box.remove()
    box.start("true")
    box.await_exit()
    box.remove()
    settled(box)
    assert box.status() == ("created", 0, None)


# Further processes


def test_execute(each: Box) -> None:
    """A further process is in the same container, with its own files and exit status."""
    each.start("sleep", "60", env={"A": "1"}, workdir="/srv")
    script = "cat; echo $$ >&2; pwd; echo $A $B; ps -e -o args= | grep -c '^sleep 60'; exit 5"
    code, out, errors = each.run(
        "sh", "-c", script, verb="execute", stdin=b"hello\n", is_interactive=True, env={"B": "2"}
    )
    assert (code, out.split()) == (5, ["hello", "/srv", "1", "2", "1"])
    assert int(errors) > 1
    assert each.run("sh", "-c", "kill -9 $$", verb="execute")[0] == 137
    out = each.output("sh", "-c", "id -un; pwd; echo $HOME", verb="execute", user="nobody", workdir="/usr")
    assert out.split() == ["nobody", "/usr", "/nonexistent"]


@pytest.mark.parametrize(("program", "code"), [("nosuch", 127), ("/etc/passwd", 126)])
def test_execute_what_cannot_be_run(each: Box, program: str, code: int) -> None:
    """A further process that cannot be executed is 126 or 127, and leaves nothing."""
    each.start("sleep", "60")
    before = each.remains()
    kind, sentence, found = each.refusal(program, verb="execute")
    assert (kind, found) == ("RuntimeFailed", code)
    assert program in sentence
    assert each.remains() == before


def test_execute_needs_a_running_container(box: Box) -> None:
    """In a container that never ran, or has ended, nothing further is run."""
    for _ in range(2):
        kind, sentence, _ = box.refusal("true", verb="execute")
        assert (kind, sentence) == ("Conflict", "container web is not running")
        box.run("true")


def test_execute_passes_signals_on(box: Box) -> None:
    """Signals to whoever waits for a further process reach that one, not the container's first."""
    pid = box.start("sleep", "60")
    script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done"
    process = box.host.start(*box.drive("execute", args=["sh", "-c", script]), stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT_S) == 9
    assert box.status() == ("running", pid, None)


# When nobody was there


def test_keeper_killed(each: Box) -> None:
    """Without conmon a process is still known to run and can be stopped; how it ended nobody knows."""
    pid = each.start("sleep", "60")
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        keeper = int(file.read().rpartition(")")[2].split()[1])
    os.kill(keeper, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{keeper}"), "conmon has gone")
    assert each.status() == ("running", pid, None)
    assert each.call(lambda runtime, container: runtime.stop(container, 0)) is True
    assert each.status() == ("exited", 0, None)
    each.start("true")
    assert each.await_exit() == 0


def test_foreground_caller_killed(box: Box) -> None:
    """When whoever ran a process in the foreground is killed, the process runs on and is known to."""
    process = box.host.start(*box.drive("run", args=["sh", "-c", "echo ready; sleep 60"]), stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.kill()
    process.wait(TIMEOUT_S)
    state, pid, _ = box.status()
    assert (state, Path(f"/proc/{pid}/comm").read_text()) == ("running", "sh\n")
    box.remove()
    assert not os.path.exists(f"/proc/{pid}")
    settled(box)


@pytest.mark.parametrize("is_run_kept", [False, True])
def test_reboot(box: Box, *, is_run_kept: bool) -> None:
    """After a reboot what ran has ended, although its number be somebody else's; what had ended is unchanged."""
    other = box.create("other")["Id"][:12]
    box.start("sh", "-c", "exit 4", name="other")
    assert box.await_exit("other") == 4
    pid = box.start("sh", "-c", "echo data >/etc/kept; sleep 60")
    wait_until(lambda: box.run("test", "-s", "/etc/kept", verb="execute")[0] == 0, "it has written")
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        keeper = int(file.read().rpartition(")")[2].split()[1])
    os.kill(keeper, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "it has gone")
    running = Path(box.host.inside(box.host.run_dir / "runtime"))
    identity = cli(box.host, "inspect", "web").json[0]["Id"][:12]
    if is_run_kept:
        (running / identity / "pid").write_text(str(box.host.pid))
    else:
        shutil.rmtree(running)
        subprocess.run(["find", "/sys/fs/cgroup", "-depth", "-name", f"dnet-{identity}", "-delete"], check=False)
        subprocess.run(["find", "/sys/fs/cgroup", "-depth", "-name", f"dnet-{other}", "-delete"], check=False)
    assert box.status("other")[::2] == ("exited", 4)
    assert box.status() == ("exited", 0, None)
    assert box.call(lambda runtime, container: runtime.stop(container)) is False
    assert box.run("cat", "/etc/kept") == [0, "data\n", ""]


# Programs


def test_missing_programs(box: Box) -> None:
    """Without a runtime, or conmon, the error names the package to install; foreground needs no conmon."""

    def without(*names: str) -> Any:
        def inside(*_: Any) -> list[str]:
            find = spawn.find
            spawn.find = lambda name: "" if name in names else find(name)
            own = Runtime(*box.host.directories)
            try:
                own.check(check_process(["true"]), is_detached="conmon" in names)
            except dnet.DnetError as error:
                return [type(error).__name__, error.hint]
            return []

        return box.call(inside)

    assert without("conmon") == ["Unsupported", "install the package conmon (Debian's name)"]
    kind, hint = without("crun", "runc")
    assert (kind, "crun" in hint) == ("Unsupported", True)
    assert without() == []


def test_runtime_that_does_not_fit(box: Box) -> None:
    """Where control groups are of both versions, crun cannot work: then runc is chosen, or asked for."""
    places = [box.host.directory / "controllers", box.host.directory / "none"]
    places[0].write_text("hugetlb\n")

    def choose(path: Path, *missing: str) -> str:
        def inside(*_: Any) -> str:
            oci.HYBRID_CONTROLLERS = str(path)
            spawn.find = lambda name: "" if name in missing else f"/bin/{name}"
            try:
                return oci.Programs("/", "").choose()
            except dnet.Unsupported as error:
                return error.hint

        chosen_program: str = box.call(inside)
        return chosen_program

    assert choose(places[0]) == "/bin/runc"
    assert choose(places[1]) == "/bin/crun"
    assert choose(places[1], "crun") == "/bin/runc"
    assert choose(places[0], "runc") == "install the package runc"
