"""Processes in the foreground, started by crun or runc: files, status, signals, terminals."""

from __future__ import annotations

import os
import signal
import subprocess
import termios
from typing import Any

import pytest

from tests.support.hosts import FakeHost, Raised, wait_until
from tests.support.runtime_box import (
    TIMEOUT_S,
    Box,
    at_terminal,
    read_until,
    settled,
)


def test_exit_status_and_files(each: Box) -> None:
    """A process has the caller's stdin, stdout and stderr, and its exit status is returned and remembered."""
    script = "cat; echo oops >&2; exit 3"
    assert each.run("sh", "-c", script, stdin=b"hello\n", is_interactive=True) == [3, "hello\n", "oops\n"]
    assert each.status()[::2] == ("exited", 3)
    assert each.run("true") == [0, "", ""]


def test_input_needs_i(box: Box) -> None:
    """Without -i there is nothing to read, whatever the caller's standard input holds."""
    assert box.run("cat", stdin=b"hello\n") == [0, "", ""]


@pytest.mark.parametrize("verb", ["run", "start"])
@pytest.mark.parametrize(
    ("program", "code"), [("nosuch", 127), ("/bin/nosuch", 127), ("/etc/passwd", 126), ("/etc", 126)]
)
def test_programs_that_cannot_be_run(box: Box, program: str, code: int, verb: str) -> None:
    """What is missing is 127, what cannot be executed 126; nothing of it is left."""
    before = box.host.snapshot()
    kind, sentence, found = box.refusal(program, verb=verb)
    assert (kind, found) == ("RuntimeFailed", code)
    assert program in sentence
    assert box.status() == ("created", 0, None)
    assert box.host.changes(before) == ""
    assert box.remains() == []


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "Terminated"), (signal.SIGINT, "Interrupt")])
def test_runtime_that_is_ended(host: FakeHost, number: signal.Signals, name: str) -> None:
    """A signal that the OCI runtime dies of before it has started the program is told as a shell would."""
    program = host.directory / "runtime"
    program.write_text(f'#!/bin/sh\ncase "$*" in *" run "*) kill -{int(number)} $$; esac\n', encoding="utf-8")
    program.chmod(0o755)
    box = Box(host, str(program))
    box.create()
    kind, sentence, code = box.refusal("true")
    assert (kind, code) == ("RuntimeFailed", 128 + number)
    assert sentence == f"cannot start container web: {name} came before it had been started"
    assert box.status() == ("created", 0, None)
    assert box.remains() == []


@pytest.mark.parametrize("verb", ["run", "start"])
def test_programs_that_only_the_runtime_misses(each: Box, verb: str) -> None:
    """A program that dnet sees but the container does not, is refused by the runtime, as 127, and nothing is left."""
    each.host.run("cp", "/bin/true", "/run/hidden")
    kind, sentence, code = each.refusal("/run/hidden", verb=verb)
    assert (kind, code) == ("RuntimeFailed", 127)
    assert "/run/hidden" in sentence
    assert each.status() == ("created", 0, None)
    settled(each)


@pytest.mark.parametrize(
    ("words", "wishes"),
    [
        ("/nosuch is not a directory", {"rootfs": "/nosuch"}),
        ("no user nosuch", {"user": "nosuch"}),
        ("no group nosuch", {"user": "root:nosuch"}),
        ("not a terminal", {"has_terminal": True, "is_interactive": True}),
    ],
)
def test_refused_before_anything_is_touched(box: Box, words: str, wishes: dict[str, Any]) -> None:
    """What can be seen to be wrong is refused in one sentence, and nothing has been made."""
    before = box.host.snapshot()
    with pytest.raises(Raised, match=words) as caught:
        box.run("true", **wishes)
    assert caught.value.kind == "InvalidRequest"
    assert box.host.changes(before) == ""


@pytest.mark.parametrize("name", ["INT", "TERM"])
def test_signals_are_passed_on(each: Box, name: str) -> None:
    """A signal to whoever runs the process reaches the process, once; its exit status comes back."""
    script = f"trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.01; done"
    process = each.host.start(*each.drive("run", args=["sh", "-c", script]), stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    wait_until(lambda: each.status()[0] == "running", "it is known to run")
    process.send_signal(getattr(signal, f"SIG{name}"))
    assert process.communicate(timeout=TIMEOUT_S)[0] == f"got {name}\n"
    assert process.returncode == 9
    assert each.status()[2] == 9


def test_signals_end_the_process(box: Box) -> None:
    """A process that a signal ends is 128 + its number."""
    process = box.host.start(*box.drive("run", args=["sh", "-c", "echo ready; sleep 60"]), stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    wait_until(lambda: box.status()[0] == "running", "it is known to run")
    box.call(lambda runtime, container: runtime.kill(container, signal.SIGKILL))
    assert process.wait(TIMEOUT_S) == 137
    assert box.status()[::2] == ("exited", 137)


# Tells the size of its terminal at the start and at each change, and what it reads; ends after the second line.
SIZES = """
import os, select, signal
changed, told = os.pipe()
os.set_blocking(told, False)
signal.set_wakeup_fd(told)
signal.signal(signal.SIGWINCH, lambda *_: None)
lines = 0
while lines < 2:
    print("size", *os.get_terminal_size(), flush=True)
    ready, _, _ = select.select([0, changed], [], [])
    if 0 in ready:
        lines += 1
        print("read", os.read(0, 100).decode().strip(), flush=True)
    else:
        os.read(changed, 100)
raise SystemExit(7)
"""


@pytest.mark.parametrize("verb", ["run", "execute"])
def test_terminal(each: Box, verb: str) -> None:
    """With -it a process has a terminal of the caller's size, which follows it; what is typed is read, echoed once."""
    if verb == "execute":
        each.start("sleep", "60")
    wish = {"args": ["/usr/bin/python3", "-c", SIZES], "has_terminal": True, "is_interactive": True}
    with at_terminal(each, verb, **wish) as (ours, process):
        before = termios.tcgetattr(ours)
        assert read_until(ours, "\n") == "size 101 33\r\n"
        os.write(ours, b"hello\r")
        assert read_until(ours, "read hello\r\n").split() == ["hello", "read", "hello"]
        termios.tcsetwinsize(ours, (44, 120))
        read_until(ours, "size 120 44")
        os.write(ours, b"done\r")
        assert process.wait(TIMEOUT_S) == 7
        after = termios.tcgetattr(ours)
    assert after[:4] == before[:4]


def test_interrupt_at_terminal(each: Box) -> None:
    """With -it Ctrl-C is typed into the container's terminal: its foreground process is interrupted, once."""
    script = "trap 'echo got INT' INT; echo ready; until read word; do :; done; echo \"read $word\"; exit 4"
    wish = {"args": ["sh", "-c", script], "has_terminal": True, "is_interactive": True}
    with at_terminal(each, "run", **wish) as (ours, process):
        read_until(ours, "ready\r\n")
        os.write(ours, b"\x03")
        read_until(ours, "got INT\r\n")
        os.write(ours, b"word\r")
        assert read_until(ours, "read word\r\n").split() == ["word", "read", "word"]
        assert process.wait(TIMEOUT_S) == 4


def test_terminal_without_input(each: Box) -> None:
    """With -t alone a process has a terminal, also where the caller has none; nothing is read from the caller."""
    # crun (1.8) may end before it has passed on what was written last.
    script = "test -t 0 && test -t 1 && tty; echo $TERM; sleep 0.5"
    code, out, _ = each.run("sh", "-c", script, has_terminal=True, stdin=b"x\n")
    assert (code, out.split()[1:]) == (0, ["xterm"])
    assert out.startswith("/dev/")
