"""Programs started and waited for: signals, files, ends, locks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dnet.errors import Unsupported
from dnet.linux import spawn
from tests.support.hosts import wait_until


def shell(script: str, **options) -> int:
    """Start a shell and return its pid."""
    return spawn.spawn(["/bin/sh", "-c", script], **options)


def test_find_programs(tmp_path, monkeypatch):
    """A program is found in PATH, or where root's programs are; a directory or a plain file is none."""
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "tool").chmod(0o755)
    (tmp_path / "plain").touch()
    (tmp_path / "directory").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert spawn.find("tool") == str(tmp_path / "tool")
    assert spawn.find("sh") in {"/usr/bin/sh", "/bin/sh"}
    assert [spawn.find(name) for name in ("plain", "directory", "nosuchprogram")] == ["", "", ""]


def test_missing_program():
    """A program that is missing is Unsupported, with the package in the hint."""
    with pytest.raises(Unsupported, match="nosuchprogram") as caught:
        spawn.require("nosuchprogram", "some-package")
    assert "some-package" in caught.value.hint


def test_exit_status():
    """An exit status is the program's own, negative after a signal."""
    assert spawn.wait(shell("exit 7")) == 7
    assert spawn.wait(shell("kill -9 $$")) == -9


def test_files(tmp_path):
    """Paths and descriptors become a program's standard files; a path is appended to."""
    out, inside = tmp_path / "out", tmp_path / "in"
    out.write_text("before\n")
    inside.write_text("hello\n")
    reader, writer = os.pipe()
    assert spawn.wait(shell("cat; echo oops >&2", files=(str(inside), str(out), writer))) == 0
    os.close(writer)
    with open(reader) as errors:
        assert errors.read() == "oops\n"
    assert out.read_text() == "before\nhello\n"


def test_environment(tmp_path):
    """A program gets the variables that it is given and no others."""
    out = tmp_path / "out"
    environment = {"ONE": "1"}
    spawn.wait(spawn.spawn(["/usr/bin/env"], files=(0, str(out)), environment=environment))
    assert out.read_text() == "ONE=1\n"


def signals(pid: int, key: str) -> set[int]:
    """Return the signals of a mask in /proc/PID/status."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        mask = next(int(line.split()[1], 16) for line in file if line.startswith(key))
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def test_signals_are_as_usual():
    """A program ignores and blocks nothing on the interpreter's account."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        pid = spawn.spawn(["/bin/sleep", "60"])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n", "sleep has begun")
    assert {signal.SIGPIPE, signal.SIGXFSZ} <= signals(os.getpid(), "SigIgn")
    assert not {signal.SIGPIPE, signal.SIGXFSZ} & signals(pid, "SigIgn")
    assert signals(pid, "SigBlk") == set()
    os.kill(pid, signal.SIGTERM)
    assert spawn.wait(pid) == -signal.SIGTERM


# Runs a shell script as attend does; what its own handlers hear goes to stderr.
ATTENDING = """
import signal, sys
from dnet.linux import spawn as processes
signal.signal(signal.SIGINT, lambda *_: print("handled", file=sys.stderr))
resizes = []
code = processes.attend(lambda: processes.spawn(["/bin/sh", "-c", sys.argv[1]]), lambda: print("resized", flush=True))
print("code", code)
"""


def attending(script: str) -> subprocess.Popen[str]:
    """Start an interpreter that attends to a shell, which says when it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", ATTENDING, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("name", ["HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM", "CONT"])
def test_signals_are_passed_on(name):
    """A signal reaches the program once, and nothing of it the caller's own handlers."""
    script = f"trap 'echo got {name}; exit 5' {name}; echo ready; while :; do sleep 0.01; done"
    process = attending(script)
    process.send_signal(getattr(signal, f"SIG{name}"))
    assert process.communicate(timeout=10) == (f"got {name}\ncode 5\n", "")


def test_resizing_is_told():
    """When the terminal's size changes, the caller is told, and the program too."""
    process = attending("trap 'exit 5' WINCH; echo ready; while :; do sleep 0.01; done")
    process.send_signal(signal.SIGWINCH)
    assert process.communicate(timeout=10)[0] == "resized\ncode 5\n"


def test_signals_of_a_terminal_arrive_once():
    """Ctrl-C at a terminal reaches the program once, although the caller is in the same process group."""
    ours, theirs = os.openpty()
    script = "trap 'echo got INT' INT; trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done"
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", sys.executable, "-c", ATTENDING, script],
        stdin=theirs,
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    assert process.stdout.readline() == "ready\n"
    os.write(ours, b"\x03")
    assert process.stdout.readline() == "got INT\n"
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    os.kill(int(children.stdout), signal.SIGTERM)
    assert process.communicate(timeout=10)[0] == "code 5\n"
    os.close(ours)


def test_handlers_are_back_afterwards():
    """After attending, signals go to the caller's own handlers again."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert spawn.attend(lambda: shell("exit 3")) == 3
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    with pytest.raises(FileNotFoundError):
        spawn.attend(lambda: spawn.spawn(["/nosuchprogram"]))
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_attending_on_a_thread():
    """On a thread that signals do not reach, the end of a program is noticed all the same."""
    codes = []
    thread = threading.Thread(target=lambda: codes.append(spawn.attend(lambda: shell("exit 3"))), daemon=True)
    thread.start()
    thread.join(10)
    assert codes == [3]


def test_ends_are_noticed():
    """An open process tells its end, and a timeout that it has not come."""
    pid = spawn.spawn(["/bin/sleep", "60"])
    opened = spawn.open_process(pid)
    assert not spawn.has_ended(opened, 0)
    threading.Timer(0.05, os.kill, (pid, signal.SIGKILL)).start()
    started = time.monotonic()
    assert spawn.has_ended(opened, 30)
    assert time.monotonic() - started < 30
    os.close(opened)
    assert spawn.wait(pid) == -signal.SIGKILL
    assert spawn.open_process(pid) is None
    assert spawn.open_process(0) is None


def test_lock_outlives_its_maker(tmp_path):
    """A lock is held as long as any process has it, also after whoever made it has let go."""
    path = str(tmp_path / "lock")
    assert not spawn.is_held(path)
    reader, writer = os.pipe()
    lock = spawn.hold(path)
    pid = spawn.spawn(["/bin/cat"], files=(reader, os.devnull))
    assert spawn.is_held(path)
    os.close(lock)
    assert spawn.is_held(path)
    assert spawn.hold(path) is None
    os.close(writer)
    os.close(reader)
    assert spawn.wait(pid) == 0
    assert not spawn.is_held(path)
    again = spawn.hold(path)
    assert again is not None
    os.close(again)


def test_looking_takes_no_lock(tmp_path):
    """Whoever only looks whether a lock is held is never in the way of somebody who wants it."""
    path = str(tmp_path / "lock")
    os.close(spawn.hold(path))
    is_over = threading.Event()

    def look() -> None:
        while not is_over.is_set():
            spawn.is_held(path)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(300):
            lock = spawn.hold(path)
            assert lock is not None
            os.close(lock)
    finally:
        is_over.set()
        looking.join()


@pytest.mark.parametrize("is_interactive", [False, True])
def test_silent_terminal(is_interactive):
    """With a terminal but no input of the caller's, a program gets a terminal on which nothing is ever typed."""
    with spawn.standard_input(is_interactive=is_interactive, has_terminal=True) as file:
        assert file == 0 if is_interactive else os.isatty(file)


def test_no_input():
    """Without either, it gets nothing to read."""
    with spawn.standard_input(is_interactive=False, has_terminal=False) as file:
        assert spawn.wait(shell('test -z "$(cat)"', files=(file,))) == 0
