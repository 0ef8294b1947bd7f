"""Detached processes, looked after by conmon: ends, starts, logs, and the command at the end."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

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


def test_detached(each: Box) -> None:
    """A detached process outlives its caller, with nothing open but its standard files; each stream is logged apart."""
    script = "ls /proc/self/fd | wc -l; echo oops >&2; printf partial; read x; echo $x; exit 3"
    pid = each.start("sh", "-c", script, is_interactive=True)
    wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sh\n", "it runs")
    assert each.status() == ("running", pid, None)
    sandbox = cli(each.host, "inspect", "web").json[0]["NetworkSettings"]["SandboxKey"]
    assert os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat(each.host.inside(sandbox)).st_ino
    wait_until(lambda: each.log()["stderr"] and each.log()["stdout"], "the output is logged")
    each.call(lambda runtime, container: runtime.kill(container, signal.SIGKILL))
    assert each.await_exit() == 137
    assert each.log() == {"stdout": "4\npartial", "stderr": "oops\n"}


def test_ends_are_noticed(each: Box) -> None:
    """A process that ends by itself is seen as running, and then as exited with its status, and nothing in between."""

    def watch(runtime: Runtime, container: Container) -> list[Any]:
        found = []
        for number in range(5):
            runtime.start(container, check_process(["sh", "-c", f"exit {number}"]))
            while (status := runtime.status(container)).state == "running":
                pass
            found.append([status.state, status.exit_code])
        return found

    assert each.call(watch) == [["exited", number] for number in range(5)]


def test_started_again(box: Box) -> None:
    """A container that has ended can be started again: with what it wrote, its log going on, and one exit status."""
    box.start("sh", "-c", "echo first; echo data >/etc/kept; exit 1")
    assert box.await_exit() == 1
    box.start("sh", "-c", "cat /etc/kept; exit 2")
    assert box.await_exit() == 2
    assert box.log()["stdout"] == "first\ndata\n"
    assert box.run("cat", "/etc/kept") == [0, "data\n", ""]
    assert box.status()[2] == 0
    assert box.refusal("nosuch", verb="start")[2] == 127
    assert box.status()[2] == 0
    box.host.run("cp", "/bin/true", "/run/hidden")
    assert box.refusal("/run/hidden", verb="start")[2] == 127
    assert box.status()[2] == 127
    assert box.run("cat", "/etc/kept") == [0, "data\n", ""]


def test_start_of_a_running_container(box: Box) -> None:
    """A container that runs is not started again."""
    pid = box.start("sleep", "60")
    for verb in ("start", "run"):
        kind, sentence, _ = box.refusal("true", verb=verb)
        assert (kind, sentence) == ("Conflict", "container web is running")
    assert box.status() == ("running", pid, None)


def test_two_starts_at_once(box: Box) -> None:
    """Of starts of one container at the same time one succeeds, the others are conflicts."""
    commands = [box.drive("run", args=["sh", "-c", "echo started; sleep 0.5"]) for _ in range(3)]
    pipe = subprocess.PIPE
    racing = [box.host.start(*command, stdout=pipe, stderr=pipe) for command in commands]
    outcomes = [process.communicate(timeout=TIMEOUT_S) for process in racing]
    assert sorted(out for out, _ in outcomes) == ["", "", "started\n"]
    assert sum("Conflict" in errors for _, errors in outcomes) == 2
    assert sorted(process.returncode for process in racing) == [0, 1, 1]


def test_detached_terminal(each: Box) -> None:
    """Detached with -t, a process has a terminal too, and waits for what nobody types."""
    each.start("sh", "-c", "tty; read x; echo never", has_terminal=True, is_interactive=True)
    wait_until(lambda: "/dev/" in each.log()["stdout"], "the terminal is named")
    assert each.status()[0] == "running"
    assert each.log()["stdout"].endswith("\r\n")


def test_following_the_log(box: Box) -> None:
    """Followed, the log gives what is written when it is written, with its time, and ends with the process."""

    def follow(runtime: Runtime, container: Container) -> list[Any]:
        script = "echo one; while ! test -s /tmp/gate; do sleep 0.01; done; echo two >&2"
        runtime.start(container, check_process(["sh", "-c", script]))
        found = []
        for entry in runtime.log(container, follow=True):
            found.append([entry.time[:2], entry.stream, entry.data.decode()])
            if entry.data == b"one\n":
                runtime.execute(container, check_process(["sh", "-c", "echo go >/tmp/gate"]))
        return [*found, runtime.status(container).state]

    assert box.call(follow) == [["20", "stdout", "one\n"], ["20", "stderr", "two\n"], "exited"]


def test_no_log(box: Box) -> None:
    """What ran in the foreground, or never, has no log, and the error says so."""
    box.run("true")
    with pytest.raises(Raised, match="web has no log") as caught:
        box.log()
    assert caught.value.kind == "NotFound"


def test_command_at_the_end(box: Box) -> None:
    """When a process ends, the command that was given is executed, and finds the exit status."""
    out = box.host.directory / "ended"
    command = ("/bin/sh", "-c", f'echo "$0" "$@" >{out}.new && mv {out}.new {out}', "--rm", "-f", "x y")
    box.start("true", on_exit=command)
    wait_until(out.exists, "the command has been executed")
    assert out.read_text() == "--rm -f x y\n"
    assert box.status()[2] == 0


def test_removed_at_the_end(box: Box) -> None:
    """Removal as the command at the end, which is --rm, leaves nothing, whether the process ends or is stopped."""
    command = tuple(box.drive("remove"))
    box.start("sh", "-c", "exit 3", on_exit=command)
    settled(box)
    assert box.status() == ("created", 0, None)
    box.start("sleep", "60", on_exit=command)
    assert box.call(lambda runtime, container: runtime.stop(container, 0.1)) is True
    settled(box)


def test_failed_start_executes_no_command(box: Box) -> None:
    """A start that fails or is interrupted leaves nothing, and what was to follow the end is not executed."""
    out = box.host.directory / "ended"
    command = ["/usr/bin/touch", str(out)]

    def interrupt(runtime: Runtime, container: Container) -> str:
        create = oci.create_kept

        def interrupted(*arguments: Any) -> int:
            create(*arguments)
            raise KeyboardInterrupt

        oci.create_kept = interrupted
        try:
            runtime.start(container, check_process(["sleep", "60"]), command)
        except KeyboardInterrupt:
            return runtime.status(container).state
        return "started"

    assert box.call(interrupt) == "created"
    settled(box)
    assert not out.exists()
