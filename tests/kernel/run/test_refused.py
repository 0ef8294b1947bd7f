"""What `run`, `start`, `stop`, `exec` and `logs` refuse: by which status, in one sentence, nothing left behind."""

from __future__ import annotations

import functools
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.container_processes import (
    PATIENCE_S,
    detached,
    remains,
    require,
    require_runtime,
    statuses,
    wait_for_removal,
    wait_for_status,
)
from tests.support.dnet_commands import network, run, settled_snapshot
from tests.support.hosts import FakeHost, program
from tests.support.plugin import require_root

FOREVER = ("sleep", "1000")


@pytest.fixture(autouse=True)
def _runtime() -> None:
    require_runtime()


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHost]:
    """Yield a host with a container that runs, one that has ended, and two without a process; nothing changes it."""
    require_root()
    require_runtime()
    with FakeHost(tmp_path_factory.mktemp("settled")) as host:
        network(host, "blue", "--subnet", "10.1.0.0/24")
        detached(host, "runs", "-p", "8080:80", *FOREVER)
        host.dnet("run", "--name", "over", "true")
        run(host, "create", "bare")
        run(host, "create", "--network", "blue", "elsewhere")
        (host.directory / "text").write_text("no program\n", encoding="ascii")
        (host.directory / "script").write_text("#!/no/such/interpreter\n", encoding="ascii")
        (host.directory / "script").chmod(0o755)
        (host.directory / "plain").write_text("no program\n", encoding="ascii")
        (host.directory / "plain").chmod(0o755)
        head = Path(sys.executable).read_bytes()[:64]
        (host.directory / "foreign").write_bytes(head[:18] + b"\xff\xff" + head[20:])
        (host.directory / "foreign").chmod(0o755)
        yield host


@functools.cache
def as_it_was(host: FakeHost) -> dict[str, Any]:
    """Return what a host looks like, of which no test that asks may leave anything changed."""
    return settled_snapshot(host)


def check_refused(host: FakeHost, *words: str, code: int, says: str) -> None:
    """Assert that a command is refused in one sentence, perhaps with a hint, and that nothing is changed by it."""
    before = as_it_was(host)
    refused = host.run(program(), *(word.replace("HERE", str(host.directory)) for word in words), code=code)
    assert refused.stdout == ""
    lines = refused.stderr.splitlines()
    assert lines[0].startswith("dnet: ")
    assert says in lines[0]
    assert len(lines) <= 2
    assert "Traceback" not in refused.stderr
    assert host.changes(before) == ""


# Programs that cannot be run


@pytest.mark.parametrize("options", [(), ("--rm",), ("-d",), ("-d", "--rm")], ids=" ".join)
@pytest.mark.parametrize("word", ["no-such-program", "/no/such/program", "HERE/absent"])
def test_missing_program(settled: FakeHost, options: tuple[str, ...], word: str) -> None:
    """A program that is missing exits 127, and no container, network or file is left."""
    check_refused(settled, "run", *options, "-p", "8081:80", word, code=127, says="no program")


@pytest.mark.parametrize("word", ["HERE/text", "/etc", "/etc/passwd"])
def test_program_that_cannot_be_executed(settled: FakeHost, word: str) -> None:
    """A file without permission to execute, or a directory, exits 126."""
    check_refused(settled, "run", "--rm", word, code=126, says=word.replace("HERE", str(settled.directory)))


def test_program_that_fails_to_start(settled: FakeHost) -> None:
    """A script whose interpreter is missing fails only in the kernel; with --rm nothing is left, detached or not."""
    before = settled_snapshot(settled)
    refused = settled.dnet("run", "--rm", f"{settled.directory}/script", code=None)
    # runc exits with 1, as with Docker; a shell has 126 or 127.
    assert refused.code in {1, 126, 127}
    assert "script" in refused.stderr
    assert settled.changes(before) == ""
    done = settled.dnet("run", "-d", "--name", "web", "--rm", f"{settled.directory}/script", code=None)
    wait_for_removal(settled, "web", done.stdout.strip() or "web")
    assert settled.changes(before) == ""


@pytest.mark.parametrize("words", [("run", "--rm"), ("exec", "runs")], ids=" ".join)
@pytest.mark.parametrize("name", ["plain", "foreign"])
def test_file_that_is_no_program(settled: FakeHost, words: tuple[str, ...], name: str) -> None:
    """A file that may be executed, but neither is a script nor for this processor, exits 126."""
    before = settled_snapshot(settled)
    refused = settled.dnet(*words, f"{settled.directory}/{name}", code=126)
    assert refused.stdout == ""
    assert "exec format error" in refused.stderr.lower()
    assert settled.changes(before) == ""


@pytest.mark.parametrize(("word", "code", "says"), [("no-such", 127, "no-such"), ("/etc/passwd", 126, "/etc/passwd")])
def test_exec_of_what_cannot_be(settled: FakeHost, word: str, code: int, says: str) -> None:
    """`exec` of a missing program exits 127, of one that cannot be executed 126; the container goes on."""
    check_refused(settled, "exec", "runs", word, code=code, says=says)
    assert statuses(settled)["runs"] == "running"


# Requests that cannot be


REQUESTS = {
    "no command": (["run"], "COMMAND"),
    "no command after options": (["run", "-d", "--name", "web"], "COMMAND"),
    "option that does not exist": (["run", "--no-such-option", "true"], "--no-such-option"),
    "option without its value": (["run", "--name"], "--name"),
    "empty command": (["run", ""], "command"),
    "zero in a variable": (["run", "-e", "=x", "true"], "variable"),
    "bad name": (["run", "--name", "a b", "true"], "a b"),
    "name that is taken": (["run", "--name", "runs", "true"], "runs"),
    "port that is taken": (["run", "-p", "8080:80", "true"], "8080"),
    "bad port": (["run", "-p", "http", "true"], "http"),
    "address of no subnet": (["run", "--ip", "10.9.0.1", "true"], "10.9.0.1"),
    "unknown network": (["run", "--network", "red", "true"], "red"),
    "unknown container to share": (["run", "--network", "container:nobody", "true"], "nobody"),
    "port of a shared network": (["run", "--network", "container:runs", "-p", "80", "true"], "-p"),
    "unknown container to link": (["run", "--link", "nobody", "true"], "nobody"),
    "link to itself": (["run", "--name", "web", "--link", "web", "true"], "web"),
    "link across networks": (["run", "--link", "elsewhere", "true"], "elsewhere"),
    "links of one alias": (["run", "--link", "runs:a", "--link", "over:a", "true"], "a"),
    "root directory that is a file": (["run", "--rootfs", "HERE/text", "true"], "text"),
    "root directory that is missing": (["run", "--rootfs", "HERE/absent", "true"], "absent"),
    "unknown user": (["run", "-u", "no-such-user", "true"], "no-such-user"),
    "unknown group": (["run", "-u", "root:no-such-group", "true"], "no-such-group"),
    "bad user": (["run", "-u", "a:b:c", "true"], "a:b:c"),
    "directory that is not absolute": (["run", "-w", "here", "true"], "here"),
    "bad server": (["run", "--dns", "x", "true"], "x"),
    "host without an address": (["run", "--add-host", "db", "true"], "db"),
    "terminal without one": (["run", "-it", "true"], "terminal"),
    "exec of nobody": (["exec", "nobody", "true"], "nobody"),
    "exec without a command": (["exec", "runs"], "COMMAND"),
    "exec in what has ended": (["exec", "over", "true"], "over"),
    "exec without a process": (["exec", "bare", "true"], "bare"),
    "exec by an unknown user": (["exec", "-u", "no-such-user", "runs", "true"], "no-such-user"),
    "exec with a terminal without one": (["exec", "-it", "runs", "true"], "terminal"),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_requests(settled: FakeHost, request_: tuple[list[str], str]) -> None:
    """What `run` and `exec` cannot do exits 125 with a sentence that names what is wrong, and nothing is touched."""
    words, says = request_
    check_refused(settled, *words, code=125, says=says)


OTHERS = {
    "start of nobody": (["start", "nobody"], 3, "nobody"),
    "start of several, one unknown": (["start", "over", "nobody"], 3, "nobody"),
    "start without a process": (["start", "bare"], 2, "bare"),
    "start of several, one without a process": (["start", "over", "bare"], 2, "bare"),
    "stop of nobody": (["stop", "nobody"], 3, "nobody"),
    "stop of what has ended": (["stop", "over"], 4, "over is not running (exited (0))"),
    "stop without a process": (["stop", "bare"], 2, "bare"),
    "stop of several, one has ended": (["stop", "runs", "over"], 4, "over"),
    "stop in less than no time": (["stop", "-t", "-1", "runs"], 2, "-1"),
    "logs of nobody": (["logs", "nobody"], 3, "nobody"),
    "logs of the foreground": (["logs", "over"], 3, "over"),
    "logs without a process": (["logs", "bare"], 2, "bare"),
    "rm of what runs": (["rm", "runs"], 4, "runs is running"),
    "rm of several, one runs": (["rm", "over", "runs"], 4, "runs is running"),
}


@pytest.mark.parametrize("request_", OTHERS.values(), ids=OTHERS)
def test_other_commands(settled: FakeHost, request_: tuple[list[str], int, str]) -> None:
    """What `start`, `stop`, `logs` and `rm` cannot do has the exit code of its kind, and nothing is touched."""
    words, code, says = request_
    check_refused(settled, *words, code=code, says=says)
    assert statuses(settled) == {"runs": "running", "over": "exited (0)", "bare": "created", "elsewhere": "created"}


@pytest.mark.parametrize(("hidden", "options"), [("conmon", ["-d"]), ("crun runc", [])])
def test_missing_runtime(host: FakeHost, hidden: str, options: list[str]) -> None:
    """Without conmon, or an OCI runtime, `run` exits 125 and tells what to install; nothing is left."""
    run(host, "create", "first")
    script = f'for name in {hidden}; do for place in $(which -a $name); do mount --bind /dev/null "$place"; done; done'
    host.run("sh", "-c", script)
    before = settled_snapshot(host)
    refused = host.dnet("run", *options, "true", code=125)
    assert "install the package" in refused.stderr
    assert hidden.split(maxsplit=1)[0] in refused.stderr
    assert host.changes(before) == ""


def test_one_name_for_two(host: FakeHost) -> None:
    """Of two that are started at once under one name one runs, the other is told who has it, and leaves nothing."""
    host.dnet("run", "--name", "first", "true")
    words = ("run", "-d", "--name", "web", "-p", "80", *FOREVER)
    racing = [host.start_dnet(*words) for _ in range(2)]
    outputs = [process.communicate(timeout=PATIENCE_S) for process in racing]
    assert sorted(process.returncode for process in racing) == [0, 125]
    winner = next(position for position, process in enumerate(racing) if process.returncode == 0)
    loser = 1 - winner
    assert outputs[loser][0] == ""
    assert outputs[loser][1].startswith("dnet: ")
    assert "web" in outputs[loser][1]
    assert statuses(host) == {"first": "exited (0)", "web": "running"}
    assert sorted(item["name"] for item in host.json("ip -j netns")) == ["first", "web"]
    assert len([link for link in host.json("ip -j link show type veth") if link]) == 2
    identity = outputs[winner][0].strip()
    containers = {path.name for path in (host.state_dir / "containers").iterdir()}
    assert identity[:12] in containers
    assert len(containers) == 2
    run(host, "rm", "-f", "web")
    assert remains(identity) == []


def test_racing_starts(host: FakeHost) -> None:
    """Of several `start` of one container at once, one starts it; it runs once."""
    host.dnet(
        "run", "--name", "web", "sh", "-c", "echo up; test -e /etc/dnet-again && exec sleep 1000; touch /etc/dnet-again"
    )
    racing = [host.start_dnet("start", "web") for _ in range(3)]
    codes = sorted((process.communicate(timeout=PATIENCE_S), process.returncode)[1] for process in racing)
    assert codes[0] == 0
    assert set(codes) <= {0, 4}
    wait_for_status(host, "web", "running")
    assert host.dnet("logs", "web").stdout == "up\n"


def test_without_root(host: FakeHost) -> None:
    """Without root `run` says so, and exits 125."""
    words = (program(), "run", "true")
    done = host.run("setpriv", "--reuid", "65534", "--clear-groups", "--inh-caps=-all", *words, code=None)
    assert done.code == 125
    assert "root" in done.stderr


def test_pipes_that_close(host: FakeHost) -> None:
    """When the reader of its output goes, the program is told as it would be by a shell; nothing hangs."""
    command = f"{program()} run --rm sh -c 'yes; echo over >&2' | head -1"
    done = host.run("sh", "-c", command)
    assert done.stdout == "y\n"
    assert "over" in done.stderr
    assert statuses(host) == {}


def test_closed_streams(host: FakeHost) -> None:
    """Without standard streams at all a program runs too."""
    host.run("sh", "-c", f"{program()} run --rm --name web sh -c 'exit 6' <&- >&- 2>&-", code=6)
    assert statuses(host) == {}


def test_directory_that_has_gone(host: FakeHost, tmp_path: Path) -> None:
    """When the root directory has been removed, `start` says so, and works again when it is there again."""
    require(busybox="busybox-static")
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    shutil.copy(str(shutil.which("busybox")), tree / "bin" / "sh")
    host.dnet("run", "--name", "web", "--rootfs", str(tree), "sh", "-c", "echo hello")
    tree.rename(tmp_path / "moved")
    check_refused(host, "start", "web", code=2, says=str(tree))
    assert statuses(host) == {"web": "exited (0)"}
    (tmp_path / "moved").rename(tree)
    host.dnet("start", "web")
    wait_for_status(host, "web", "exited (0)")
    assert host.dnet("logs", "web").stdout == "hello\n"
