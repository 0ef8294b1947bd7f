"""Containers that run by themselves: `run -d`, logs, start, stop, exec, rm, and what ps and inspect say meanwhile."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.support.container_processes import (
    PATIENCE_S,
    detached,
    execute,
    fetch,
    inspected,
    is_alive,
    pid_of,
    remains,
    require_runtime,
    statuses,
    wait_for_log,
    wait_for_removal,
    wait_for_status,
)
from tests.support.dnet_commands import run, settled_snapshot
from tests.support.hosts import FakeHost, program, wait_until

FOREVER = ("sleep", "1000")
# A program that the first signal does not end.
STUBBORN = ("sh", "-c", "trap : TERM; echo ready; while :; do sleep 1000 & wait; done")
TIMESTAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+([+-]\d\d:\d\d|Z)"


@pytest.fixture(autouse=True)
def _runtime() -> None:
    require_runtime()


# What is shown


def test_created_running_exited(host: FakeHost) -> None:
    """`ps` and `inspect` tell created, running and exited with the status, in text and JSON."""
    run(host, "create", "made")
    identity = detached(host, "web", "-p", "8080:80", *FOREVER)
    detached(host, "over", "sh", "-c", "exit 3")
    wait_for_status(host, "over", "exited (3)")
    assert statuses(host) == {"made": "created", "web": "running", "over": "exited (3)"}
    lines = run(host, "ps").stdout.splitlines()
    found = {line.split()[1]: re.split(r" {3,}", line)[-1] for line in lines[1:]}
    assert found == {"made": "created", "web": "running", "over": "exited (3)"}
    assert re.fullmatch("[0-9a-f]{64}", identity)
    assert inspected(host, "web")["Id"] == identity
    states = {name: inspected(host, name)["State"] for name in found}
    assert [(state["Status"], state["Running"]) for state in states.values()] == [
        ("created", False),
        ("running", True),
        ("exited", False),
    ]
    assert (states["over"]["ExitCode"], states["over"]["Pid"]) == (3, 0)
    words = Path(f"/proc/{states['web']['Pid']}/cmdline").read_text(encoding="ascii").split("\0")
    assert words[:2] == list(FOREVER)


def test_running_in_the_sandbox(host: FakeHost) -> None:
    """The process that `inspect` names is in the namespace that SandboxKey leads to, and `ip netns pids` knows it."""
    detached(host, "web", *FOREVER)
    document = inspected(host, "web")
    pid, key = document["State"]["Pid"], document["NetworkSettings"]["SandboxKey"]
    assert os.stat(f"/proc/{pid}/ns/net").st_ino == int(host.run("stat", "-L", "-c", "%i", key).stdout)
    assert str(pid) in host.run("ip netns pids web").stdout.split()


def test_network_stays_when_it_ends(host: FakeHost) -> None:
    """A container whose program has ended keeps its address, its port and its files until it is removed."""
    detached(host, "web", "-p", "8080:80", "true")
    wait_for_status(host, "web", "exited (0)")
    assert host.can_ping("172.17.0.2")
    assert run(host, "port", "web").stdout == "80/tcp -> 0.0.0.0:8080\n"
    assert "8080" in run(host, "run", "-p", "8080:80", "true", code=125).stderr
    run(host, "rm", "web")
    run(host, "run", "-d", "-p", "8080:80", "--name", "web", *FOREVER)


def test_inspect_tells_what_was_asked_for(host: FakeHost) -> None:
    """`inspect` has the command, its variables, user, directory and the options of the process."""
    options = ("-e", "A=1", "-w", "/usr", "-u", "nobody", "-t", "--read-only", "--rm", "--label", "tier=front")
    detached(host, "web", *options, *FOREVER)
    document = inspected(host, "web")
    config = document["Config"]
    assert (config["Cmd"], config["Env"], config["WorkingDir"]) == (list(FOREVER), ["A=1"], "/usr")
    assert (config["User"], config["Tty"], config["Labels"]) == ("nobody", True, {"tier": "front"})
    assert (document["HostConfig"]["AutoRemove"], document["HostConfig"]["ReadonlyRootfs"]) == (True, True)


# Logs


def test_logs(host: FakeHost) -> None:
    """`logs` gives what was written, output and errors apart, byte for byte; --tail the last lines of it."""
    script = r"echo one; echo two >&2; printf 'three \303\244\nno end'; echo four >&2"
    detached(host, "web", "sh", "-c", script)
    wait_for_status(host, "web", "exited (0)")
    done = host.dnet("logs", "web")
    assert (done.stdout, done.stderr) == ("one\nthree \N{LATIN SMALL LETTER A WITH DIAERESIS}\nno end", "two\nfour\n")
    assert host.dnet("logs", "--tail", "0", "web").stdout == ""
    last = host.dnet("logs", "--tail", "2", "web")
    assert len((last.stdout + last.stderr).splitlines()) == 2
    assert host.dnet("logs", "--tail", "99", "web").stdout == done.stdout


def test_long_lines(host: FakeHost) -> None:
    """A line of a hundred thousand characters comes as one, and counts as one."""
    detached(host, "web", "python3", "-c", "print('first'); print('x' * 100_000)")
    wait_for_status(host, "web", "exited (0)")
    assert host.dnet("logs", "web").stdout == f"first\n{'x' * 100_000}\n"
    assert host.dnet("logs", "--tail", "1", "web").stdout == "x" * 100_000 + "\n"
    assert re.fullmatch(f"{TIMESTAMP} first\n{TIMESTAMP} x{{100000}}\n", host.dnet("logs", "-t", "web").stdout)


def test_log_times(host: FakeHost) -> None:
    """With -t each line begins with the time of its writing."""
    began = time.time()
    detached(host, "web", "sh", "-c", "echo one; echo two")
    wait_for_status(host, "web", "exited (0)")
    one, two = host.dnet("logs", "-t", "web").stdout.splitlines()
    assert re.fullmatch(f"{TIMESTAMP} one", one)
    assert re.fullmatch(f"{TIMESTAMP} two", two)
    seconds = float(host.run("date", "-d", one.split()[0], "+%s.%N").stdout)
    assert began - 1 < seconds < time.time() + 1


def test_followed_log(host: FakeHost) -> None:
    """`logs -f` shows lines as they are written, from the first on, and ends with the program."""
    detached(host, "web", "sh", "-c", "echo one; trap 'echo two; exit 0' TERM; sleep 1000 & wait")
    process = host.start_dnet("logs", "-f", "web")
    assert process.stdout is not None
    assert process.stdout.readline() == "one\n"
    assert process.poll() is None
    os.kill(pid_of(host, "web"), signal.SIGTERM)
    assert process.communicate(timeout=PATIENCE_S) == ("two\n", "")
    assert process.returncode == 0
    assert host.dnet("logs", "-f", "web").stdout == "one\ntwo\n"


def test_following_is_interrupted(host: FakeHost) -> None:
    """Ctrl-C ends `logs -f`, and not the program."""
    detached(host, "web", "sh", "-c", "echo one; exec sleep 1000")
    process = host.start_dnet("logs", "-f", "web")
    assert process.stdout is not None
    assert process.stdout.readline() == "one\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)
    assert statuses(host) == {"web": "running"}


def test_log_of_a_terminal(host: FakeHost) -> None:
    """A detached program with -t has a terminal, and what it shows is in the log."""
    detached(host, "web", "-t", "sh", "-c", "tty; echo no >&2")
    wait_for_status(host, "web", "exited (0)")
    done = host.dnet("logs", "web")
    assert (done.stdout.split(), done.stderr) == (["/dev/pts/0", "no"], "")


# Stopping and starting


def test_stop_is_heard(host: FakeHost) -> None:
    """`stop` sends TERM, which the program may answer; its status is the program's own, and it is gone at once."""
    detached(host, "web", "sh", "-c", "trap 'echo bye; exit 5' TERM; echo ready; sleep 1000 & wait")
    wait_for_log(host, "web", "ready")
    pid = pid_of(host, "web")
    assert host.dnet("stop", "web").stdout == "web\n"
    assert not is_alive(pid)
    assert statuses(host) == {"web": "exited (5)"}
    assert host.dnet("logs", "web").stdout == "ready\nbye\n"


def test_stop_that_is_not_heard(host: FakeHost) -> None:
    """A program that does not mind TERM is killed when the time is up, and not before."""
    detached(host, "web", *STUBBORN)
    wait_for_log(host, "web", "ready")
    began = time.monotonic()
    host.dnet("stop", "-t", "0.7", "web")
    assert time.monotonic() - began >= 0.7
    assert statuses(host) == {"web": "exited (137)"}


def test_stop_several(host: FakeHost) -> None:
    """Several are stopped by one command, which names them; one of them that is not running stops none."""
    for name in ("a", "b"):
        detached(host, name, *FOREVER)
    run(host, "run", "--name", "over", "true")
    refused = run(host, "stop", "-t", "0", "a", "over", "b", code=4)
    assert "over" in refused.stderr
    assert statuses(host) == {"a": "running", "b": "running", "over": "exited (0)"}
    assert host.dnet("stop", "-t", "0", "--json", "a", "b").json == {"stopped": ["a", "b"]}
    assert set(statuses(host).values()) == {"exited (137)", "exited (0)"}


def test_start_again(host: FakeHost) -> None:
    """Started again, a container has its id, address and ports, a new process, and its log goes on."""
    detached(host, "web", "-p", "8080:80", "-e", "A=1", "sh", "-c", "echo up $A; exec sleep 1000")
    wait_for_log(host, "web", "up 1")
    before = inspected(host, "web")
    host.dnet("stop", "-t", "0", "web")
    assert host.dnet("start", "web").stdout == "web\n"
    after = inspected(host, "web")
    assert after["State"]["Status"] == "running"
    assert after["State"]["Pid"] != before["State"]["Pid"]
    assert after | {"State": {}} == before | {"State": {}}
    wait_until(lambda: host.dnet("logs", "web").stdout == "up 1\nup 1\n", "the second line", PATIENCE_S)


def test_start_of_what_runs(host: FakeHost) -> None:
    """Starting what runs already leaves it alone, as Docker does."""
    detached(host, "web", *FOREVER)
    pid = pid_of(host, "web")
    host.dnet("start", "web")
    assert pid_of(host, "web") == pid


def test_start_after_the_foreground(host: FakeHost) -> None:
    """A container that ran in the foreground is started in the background."""
    host.dnet("run", "--name", "web", "sh", "-c", "echo hello")
    host.dnet("start", "web")
    wait_for_status(host, "web", "exited (0)")
    assert host.dnet("logs", "web").stdout == "hello\n"


# One more program


def test_exec(host: FakeHost) -> None:
    """A further program has the first one's namespaces, variables, user and directory; its own options come before."""
    detached(host, "web", "-e", "A=1", "-e", "B=1", "-w", "/usr", "-u", "nobody", *FOREVER)
    script = "echo $A $B; pwd; id -un; hostname"
    name = inspected(host, "web")["Id"][:12]
    assert execute(host, "web", "sh", "-c", script).splitlines() == ["1 1", "/usr", "nobody", name]
    own = host.dnet("exec", "-e", "B=2", "-w", "/var", "-u", "0", "web", "sh", "-c", script).stdout
    assert own.splitlines() == ["1 2", "/var", "root", name]
    pid = pid_of(host, "web")
    for kind in ("pid", "mnt", "uts", "ipc", "net"):
        expected = os.readlink(f"/proc/{pid}/ns/{kind}")
        assert host.dnet("exec", "-u", "0", "web", "readlink", f"/proc/self/ns/{kind}").stdout.strip() == expected


def test_exec_streams(host: FakeHost) -> None:
    """Its input with -i, output, errors and status pass through; without -i its input is empty."""
    detached(host, "web", *FOREVER)
    script = "cat; echo no >&2; exit 3"
    done = host.run(program(), "exec", "-i", "web", "sh", "-c", script, stdin="one\n", code=3)
    assert (done.stdout, done.stderr) == ("one\n", "no\n")
    assert host.run(program(), "exec", "web", "sh", "-c", script, stdin="one\n", code=3).stdout == ""
    assert host.dnet("exec", "web", "sh", "-c", "kill -9 $$", code=137).stderr == ""
    assert statuses(host) == {"web": "running"}


def test_exec_gets_signals(host: FakeHost) -> None:
    """A signal that `exec` gets is its program's, and not the container's first one's."""
    detached(host, "web", *FOREVER)
    script = "trap 'echo heard; exit 6' TERM; echo ready; sleep 1000 >/dev/null 2>&1 & wait"
    process = host.start_dnet("exec", "web", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=PATIENCE_S) == ("heard\n", "")
    assert process.returncode == 6
    assert statuses(host) == {"web": "running"}


def test_exec_sees_the_files(host: FakeHost) -> None:
    """What one program of a container writes, another reads."""
    detached(host, "web", "sh", "-c", "echo hello >/etc/dnet-test; echo ready; exec sleep 1000")
    wait_for_log(host, "web", "ready")
    assert execute(host, "web", "cat", "/etc/dnet-test") == "hello\n"
    assert not os.path.exists(host.inside("/etc/dnet-test"))


# Removing


def test_rm_of_what_runs(host: FakeHost) -> None:
    """Removing what runs is a conflict that leaves it alone; with -f it ends and nothing of it is left."""
    host.dnet("run", "--name", "first", "true")
    before = settled_snapshot(host)
    identity = detached(host, "web", "-p", "8080:80", *STUBBORN)
    pid = pid_of(host, "web")
    refused = run(host, "rm", "web", code=4)
    assert "web is running" in refused.stderr
    assert statuses(host)["web"] == "running"
    run(host, "rm", "-f", "web")
    assert not is_alive(pid)
    assert host.changes(before) == ""
    assert remains(identity) == []


def test_rm_after_its_end(host: FakeHost) -> None:
    """A container whose program has ended is removed without force, and its files with it."""
    host.dnet("run", "--name", "first", "true")
    before = settled_snapshot(host)
    identity = detached(host, "web", "sh", "-c", "echo x >/etc/x")
    wait_for_status(host, "web", "exited (0)")
    run(host, "rm", "web")
    assert host.changes(before) == ""
    assert remains(identity) == []


@pytest.mark.parametrize("how", ["by itself", "stopped", "killed", "killed keeper"])
def test_detached_and_removed(host: FakeHost, how: str) -> None:
    """With -d --rm a container goes by itself when its program ends: interface, sandbox, rules, files, all of it."""
    host.dnet("run", "--name", "first", "true")
    before = settled_snapshot(host)
    identity = detached(
        host, "web", "--rm", "-p", "8080:80", "sh", "-c", "trap 'exit 3' TERM; echo ready; sleep 1000 & wait"
    )
    wait_for_log(host, "web", "ready")
    assert "tcp . 8080" in host.run("nft list map inet dnet publish4").stdout
    assert host.changes(before) != ""
    pid = pid_of(host, "web")
    match how:
        case "by itself":
            os.kill(pid, signal.SIGTERM)
        case "stopped":
            host.dnet("stop", "-t", "0", "web")
        case "killed":
            os.kill(pid, signal.SIGKILL)
        case "killed keeper":
            keeper = host.run_dir / "runtime" / identity[:12] / "keeper"
            os.kill(int(keeper.read_text(encoding="ascii")), signal.SIGKILL)
            assert statuses(host)["web"] == "running"
            os.kill(pid, signal.SIGKILL)
            wait_for_status(host, "web", "exited (unknown)")
            host.dnet("reconcile")
    wait_for_removal(host, "web", identity)
    assert host.changes(before) == ""


def test_bulk_delete_of_what_runs(host: FakeHost) -> None:
    """`bulk-delete` ends what runs, and removes all of it."""
    host.dnet("run", "--name", "first", "true")
    before = settled_snapshot(host)
    identities = [detached(host, f"c-{number}", "-p", f"808{number}:80", *FOREVER) for number in (1, 2, 3)]
    run(host, "create", "c-4")
    run(host, "bulk-delete", "--prefix", "c")
    assert host.changes(before) == ""
    assert [remains(identity) for identity in identities] == [[], [], []]


# The machine


def test_files_follow_the_host(host: FakeHost) -> None:
    """A running program sees the host's new name server at once when `reconcile` runs, in the file that is mounted."""
    detached(host, "web", *FOREVER)
    assert "198.51.100.53" in execute(host, "web", "cat", "/etc/resolv.conf")
    host.run("sh", "-c", "echo nameserver 198.51.100.54 >/etc/resolv.conf")
    run(host, "reconcile")
    assert "nameserver 198.51.100.54\n" in execute(host, "web", "cat", "/etc/resolv.conf")


def test_reboot(host: FakeHost) -> None:
    """After a reboot `restore` builds the networks again, `ps` shows what ran as exited, and `start` makes it run."""
    with FakeHost(host.directory / "machine") as before:
        detached(
            before, "web", "-p", "8080:80", "sh", "-c", "cat /etc/x; echo x >/etc/x; exec python3 -m http.server 80"
        )
        run(before, "run", "--name", "over", "sh", "-c", "exit 3", code=3)
        document = inspected(before, "web")
        fetch(before, "http://127.0.0.1:8080/etc/x")
    # A reboot empties /run; state is what is left.
    shutil.rmtree(before.run_dir)
    with FakeHost(host.directory / "machine") as after:
        run(after, "restore")
        assert statuses(after) == {"web": "exited (unknown)", "over": "exited (3)"}
        assert after.can_ping(document["NetworkSettings"]["IPAddress"])
        run(after, "start", "web")
        assert fetch(after, "http://127.0.0.1:8080/etc/x") == "x\n"
        again = inspected(after, "web")
        assert again | {"State": {}} == document | {"State": {}}
        assert run(after, "reconcile", "--dry-run").stdout == ""
        run(after, "bulk-delete", "--all")


def test_many_at_once(host: FakeHost) -> None:
    """Eight that are started side by side all run, each with an address of its own."""
    run(host, "create", "first")
    starting = [host.start_dnet("run", "-d", "--name", f"c-{number}", *FOREVER) for number in range(8)]
    failed = [process.communicate() for process in starting if process.wait(PATIENCE_S)]
    assert failed == []
    rows = run(host, "ps", "--json").json
    assert [row["status"] for row in rows] == ["created"] + ["running"] * 8
    assert len({row["ips"][0] for row in rows}) == 9
    assert len({pid_of(host, f"c-{number}") for number in range(8)}) == 8
