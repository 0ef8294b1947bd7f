"""`dnet run` in the foreground: status, streams, signals and terminal pass through, and what is left afterwards."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess

import pytest

from tests.support.container_processes import (
    PATIENCE_S,
    Terminal,
    detached,
    inspected,
    is_alive,
    pid_of,
    remains,
    require_runtime,
    statuses,
)
from tests.support.dnet_commands import run, settled_snapshot
from tests.support.hosts import FakeHost, program, wait_until

# Says that it is ready, and waits for a signal, whose number it prints.
# Go programs, runc among them, send themselves SIGURG, which may still be pending when they become the container's.
WAITER = """
import signal
every = set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}
signal.pthread_sigmask(signal.SIG_BLOCK, every)
print("ready", flush=True)
print(signal.sigwait(every - {signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG}).name, flush=True)
raise SystemExit(7)
"""


@pytest.fixture(autouse=True)
def _runtime() -> None:
    require_runtime()


def begun(host: FakeHost, *words: str) -> subprocess.Popen[str]:
    """Start `dnet run` of a program that says "ready", and return when it has."""
    process = host.start_dnet("run", *words)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()
    return process


# What passes through


def test_status_and_streams(host: FakeHost) -> None:
    """The program's status is dnet's; its input, output and errors are dnet's own, and nothing is added to them."""
    host.dnet("create", "first")
    done = host.run(program(), "run", "-i", "sh", "-c", "cat; echo no >&2; exit 3", stdin="one\ntwo", code=3)
    assert (done.stdout, done.stderr) == ("one\ntwo", "no\n")


def test_no_input_unless_asked_for(host: FakeHost) -> None:
    """Without -i the program's input is empty."""
    assert host.run(program(), "run", "--rm", "cat", stdin="one\n").stdout == ""


def test_output_is_not_held_back(host: FakeHost) -> None:
    """What the program writes comes at once, byte for byte, and so does what it is told."""
    process = host.start(program(), "run", "--rm", "-i", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for text in ("one\n", "zwei \N{SNOWMAN}\n"):
        process.stdin.write(text)
        process.stdin.flush()
        assert process.stdout.readline() == text
    process.stdin.close()
    assert process.wait(PATIENCE_S) == 0


def test_much_output(host: FakeHost) -> None:
    """Ten megabytes pass through unharmed."""
    command = f"{program()} run --rm -i cat | sha256sum"
    script = f"head -c 10000000 /dev/urandom | tee {host.directory}/data | {command}; sha256sum <{host.directory}/data"
    first, second = host.run("sh", "-c", script).stdout.splitlines()
    assert first == second


@pytest.mark.parametrize("number", ["INT", "TERM", "HUP", "QUIT", "USR1"])
def test_signals_reach_the_program(host: FakeHost, number: str) -> None:
    """A signal that dnet gets is the program's, which decides what becomes of it."""
    process = begun(host, "--rm", "python3", "-c", WAITER)
    process.send_signal(signal.Signals[f"SIG{number}"])
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, stdout) == (7, f"SIG{number}\n"), stderr


def test_killed_program(host: FakeHost) -> None:
    """When a signal ends the program, the status is 128 more than its number."""
    process = begun(host, "--name", "web", "sh", "-c", "echo ready; exec sleep 1000")
    os.kill(pid_of(host, "web"), signal.SIGKILL)
    assert process.wait(PATIENCE_S) == 137
    assert statuses(host) == {"web": "exited (137)"}


def test_killed_dnet(host: FakeHost) -> None:
    """When dnet itself is killed, its program goes on and is shown as running; it can be ended and removed."""
    process = begun(host, "--name", "web", "sh", "-c", "echo ready; exec sleep 1000")
    process.kill()
    process.wait()
    pid = pid_of(host, "web")
    assert is_alive(pid)
    assert statuses(host) == {"web": "running"}
    host.dnet("stop", "-t", "0", "web")
    assert not is_alive(pid)
    assert statuses(host)["web"].startswith("exited")
    host.dnet("rm", "web")


def test_reconcile_collects(host: FakeHost) -> None:
    """A container that was to go with its program is removed by `reconcile` if nobody was there to do it."""
    host.dnet("run", "--name", "first", "true")
    before = settled_snapshot(host)
    process = begun(host, "--rm", "--name", "web", "sh", "-c", "echo ready; exec sleep 1000")
    identity = inspected(host, "web")["Id"]
    process.kill()
    process.wait()
    host.dnet("reconcile")
    assert statuses(host)["web"] == "running"
    os.kill(pid_of(host, "web"), signal.SIGKILL)
    wait_until(lambda: statuses(host)["web"].startswith("exited"), "the end", PATIENCE_S)
    assert "web" in host.dnet("reconcile", "--dry-run", code=10).stdout
    assert statuses(host).keys() == {"first", "web"}
    host.dnet("reconcile")
    assert host.changes(before) == ""
    assert remains(identity) == []


# Terminals


def test_terminal(host: FakeHost) -> None:
    """With -it the program has a terminal of its own, of the size of ours, that echoes and knows Ctrl-C."""
    terminal = Terminal(host, "run", "--rm", "-it", "sh")
    terminal.wait(r"# ")
    terminal.type("tty; stty size; echo $TERM\n")
    terminal.wait(r"tty; stty size.*\r\n/dev/pts/0\r\n30 100\r\nxterm\r\n# ")
    # When cat has answered, it is what Ctrl-C ends, and not the shell on its way there.
    terminal.type("trap 'echo heard' INT; cat\nhello\n")
    terminal.wait(r"hello\r\n[\s\S]*hello\r\n")
    terminal.type("\x03")
    terminal.wait(r"heard")
    terminal.type("exit 5\n")
    assert terminal.end() == 5


def test_terminal_of_exec(host: FakeHost) -> None:
    """`exec -it` has a terminal of its own too, in the same container."""
    detached(host, "web", "sleep", "1000")
    terminal = Terminal(host, "exec", "-it", "web", "sh")
    terminal.wait(r"# ")
    terminal.type("tty; stty size; hostname; exit 6\n")
    terminal.wait(rf"exit 6\r\n/dev/pts/\d+\r\n30 100\r\n{inspected(host, 'web')['Id'][:12]}\r\n")
    assert terminal.end() == 6


def test_terminal_that_is_resized(host: FakeHost) -> None:
    """When the window's size changes, the program's terminal has the new one."""
    terminal = Terminal(
        host, "run", "--rm", "-it", "sh", "-c", "trap 'stty size; exit 0' WINCH; echo ok; sleep 1000 & wait"
    )
    terminal.wait("ok\r\n")
    terminal.resize(77, 22, terminal.process)
    terminal.wait("22 77")
    assert terminal.end() == 0


def test_terminal_is_given_back(host: FakeHost) -> None:
    """Afterwards our terminal echoes and edits lines, as it did before."""
    script = f"stty -a; {program()} run --rm -it true; stty -a; echo over"
    ours, theirs = pty.openpty()
    process = host.start("setsid", "--ctty", "sh", "-c", script, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = ""
    while "over" not in seen:
        assert select.select([ours], [], [], PATIENCE_S)[0], seen
        seen += os.read(ours, 4096).decode()
    process.wait(PATIENCE_S)
    os.close(ours)
    before, after = re.findall(r"speed.*?-extproc", seen, re.DOTALL)
    assert before == after


# Afterwards


def test_removed_with_its_program(host: FakeHost) -> None:
    """With --rm nothing is left when the program has ended, whatever its status: no file, rule, interface, group."""
    host.dnet("run", "--name", "first", "true")
    before = settled_snapshot(host)
    done = host.dnet("run", "--rm", "-p", "8080:80", "sh", "-c", "cat /proc/1/cgroup; exit 4", code=4)
    assert host.changes(before) == ""
    assert set(statuses(host)) == {"first"}
    identity = done.stdout.rpartition("dnet-")[2].strip()
    assert re.fullmatch("[0-9a-f]{12}", identity)
    assert remains(identity) == []


def test_kept_without_rm(host: FakeHost) -> None:
    """Without --rm the container stays, its status tells how the program ended, and its network still works."""
    host.dnet("run", "--name", "web", "sh", "-c", "exit 3", code=3)
    table = host.dnet("ps").stdout.splitlines()
    assert re.search(r"web .* exited \(3\)", table[1])
    state = inspected(host, "web")["State"]
    assert (state["Status"], state["Running"], state["Pid"], state["ExitCode"]) == ("exited", False, 0, 3)
    assert host.can_ping("172.17.0.2")
    run(host, "rm", "web")
    assert not host.can_ping("172.17.0.2")
    assert statuses(host) == {}


def test_dashes(host: FakeHost) -> None:
    """Options behind the program are the program's, with or without -- before it."""
    for words in (["echo", "--rm", "-d"], ["--", "echo", "--rm", "-d"]):
        assert host.dnet("run", "--rm", *words).stdout == "--rm -d\n"
