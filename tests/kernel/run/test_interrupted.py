"""`dnet run --rm` ended by a signal at each stage of its start: nothing is left, at once or after `reconcile`."""

from __future__ import annotations

import contextlib
import glob
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.container_processes import (
    PATIENCE_S,
    busybox_tree,
    remains,
    require_runtime,
    statuses,
    wait_for_removal,
)
from tests.support.dnet_commands import run, settled_snapshot
from tests.support.hosts import FakeHost, wait_until


@pytest.fixture(autouse=True)
def _runtime() -> None:
    require_runtime()


def has_network(host: FakeHost) -> bool:
    """Whether the container's network is ready."""
    return bool(host.rows("SELECT 1 FROM container WHERE name = 'web' AND phase = 'ready'"))


def has_bundle(host: FakeHost) -> bool:
    """Whether what the OCI runtime needs is there."""
    return len(glob.glob(f"{host.state_dir}/containers/*/config.json")) > 1


def has_process(host: FakeHost) -> bool:
    """Whether the OCI runtime has made the process."""
    return len(glob.glob(f"{host.run_dir}/runtime/*/pid")) > 1


STAGES: dict[str, Callable[[FakeHost], bool]] = {"network": has_network, "bundle": has_bundle, "process": has_process}
KINDS = {"foreground": [], "detached": ["-d"]}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a root directory whose /etc/passwd is read by whoever waits for it to be written."""
    root = busybox_tree(tmp_path / "tree")
    (root / "etc" / "passwd").unlink()
    os.mkfifo(root / "etc" / "passwd")
    return root


def begun(host: FakeHost, tree: Path, stage: str, *options: str) -> tuple[subprocess.Popen[str], str]:
    """Start `dnet run --rm`, and return it, and the container's id, when it has come to a stage.

    It stops at the first one, where it looks for the user again, until it is let on.
    """
    script = "trap 'exit 9' TERM; sleep 1000 & wait"
    words = ("--rm", *options, "--name", "web", "-p", "8080:80", "--rootfs", str(tree), "sh", "-c", script)
    process = host.start_dnet("run", *words)

    def has_come() -> bool:
        if process.poll() is not None or (stage != "network" and STAGES[stage](host)):
            return True
        with contextlib.suppress(OSError):  # nobody reads
            users = os.open(tree / "etc" / "passwd", os.O_WRONLY | os.O_NONBLOCK)
            try:
                if stage == "network" and has_network(host):
                    return True
                os.write(users, b"root:x:0:0::/:/bin/sh\n")
            finally:
                os.close(users)
        return False

    wait_until(has_come, stage, PATIENCE_S)
    [[identity]] = host.rows("SELECT id FROM container WHERE name = 'web'")
    return process, identity


def terminated(process: subprocess.Popen[str]) -> str:
    """Send SIGTERM until the process has ended, and return what it said.

    Python hears of one that comes just before a call that blocks only after that call, or when another one comes: here
    reading the list of users, which nobody writes any more.
    """
    for _ in range(4):
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=PATIENCE_S / 4)[1]
    raise AssertionError("it goes on")


def has_ended(host: FakeHost) -> bool:
    """Whether the container does not run; if it does, stop it, as somebody would who knows nothing of all this."""
    if statuses(host).get("web") == "running":
        run(host, "stop", "-t", "0", "web", code=None)
        return False
    return True


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_terminated(host: FakeHost, tree: Path, stage: str, options: list[str]) -> None:
    """SIGTERM takes back what was begun, or reaches the program; a detached one that runs already goes on."""
    run(host, "run", "--name", "first", "true")
    before = settled_snapshot(host)
    process, identity = begun(host, tree, stage, *options)
    stderr = terminated(process)
    # 125 is for an OCI runtime that was told to end before the program had been started.
    assert process.returncode in {0, 9, 125, 143}, stderr
    assert "Traceback" not in stderr
    wait_until(lambda: has_ended(host), "the end", PATIENCE_S)
    wait_for_removal(host, "web", identity)
    assert host.changes(before) == ""


@pytest.mark.parametrize("stage", ["network", "process"])
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_killed(host: FakeHost, tree: Path, stage: str, options: list[str]) -> None:
    """After SIGKILL, and not before, `reconcile` removes what is left, once the program has ended if it ever ran."""
    run(host, "run", "--name", "first", "true")
    before = settled_snapshot(host)
    process, identity = begun(host, tree, stage, *options)
    run(host, "reconcile")
    assert "web" in statuses(host)
    process.kill()
    process.wait()
    wait_until(lambda: has_ended(host), "the end", PATIENCE_S)
    run(host, "reconcile")
    assert "web" not in statuses(host)
    wait_until(lambda: not remains(identity), "nothing is left", PATIENCE_S)
    assert host.changes(before) == ""
