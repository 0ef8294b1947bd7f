"""Containers' processes, started by crun or runc and looked after by conmon; each call in a child inside the host."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dnet
from dnet.linux import spawn
from dnet.model.container import Container
from dnet.model.container_spec import check_process
from dnet.runtime.process import Runtime
from tests.support.dnet_commands import run as cli
from tests.support.hosts import FakeHost, wait_until

STATUS = ("state", "pid", "exit_code")
TIMEOUT_S = 30.0
UNIFIED = "/sys/fs/cgroup/unified"


def require_installed(*programs: str) -> None:
    """Skip the test, or fail it where CI=true, unless the programs are installed."""
    missing = [name for name in programs if not spawn.find(name)]
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"not installed: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


# Calls the runtime for a container with its own standard files.
DRIVER = """
import json, sys, dnet
from dnet.model.container_spec import check_process
from dnet.runtime.process import Runtime
state, run, program, name, verb, wish = sys.argv[1:]
with dnet.open(state, run) as engine:
    container = engine.container(name)
runtime = Runtime(state, run, program)
wish = json.loads(wish)
process = check_process(wish.pop("args", ["true"]), **wish)
arguments = (container, process) if verb in ("run", "execute") else (container,)
sys.exit(getattr(runtime, verb)(*arguments))
"""


class Box:
    """Containers of a fake host, and what the runtime does with them; each call in a child inside the host."""

    def __init__(self, host: FakeHost, program: str) -> None:
        self.host = host
        self.program = program

    def create(self, name: str = "web", *options: str) -> dict[str, Any]:
        """Create a container's network; return `inspect`'s document of it."""
        document: dict[str, Any] = cli(self.host, "create", "--json", *options, name).json
        return document

    def call(self, function: Callable[[Runtime, Container], Any], name: str = "web") -> Any:
        """Call a function with the runtime and a container."""

        def inside() -> Any:
            with dnet.open(*self.host.directories) as engine:
                container = engine.container(name)
            return function(Runtime(*self.host.directories, self.program), container)

        return self.host.call(inside)

    def run(self, *args: str, name: str = "web", stdin: bytes = b"", verb: str = "run", **wishes: Any) -> Any:
        """Run a process in the foreground; return its exit status, and what it wrote to stdout and stderr."""
        files = [self.host.directory / file for file in ("in", "out", "err")]
        files[0].write_bytes(stdin)

        def inside(runtime: Runtime, container: Container) -> list[Any]:
            for number, file in enumerate(files):
                flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
                os.dup2(os.open(file, flags), number)
            code = getattr(runtime, verb)(container, check_process(args, **wishes))
            return [code, *(file.read_text() for file in files[1:])]

        return self.call(inside, name)

    def output(self, *args: str, **wishes: Any) -> str:
        """Run a process in the foreground and return what it wrote; it has to succeed."""
        code, out, errors = self.run(*args, **wishes)
        assert code == 0, out + errors
        return str(out)

    def start(self, *args: str, name: str = "web", on_exit: tuple[str, ...] = (), **wishes: Any) -> int:
        """Start a detached process and return its pid."""
        process = check_process(args, **wishes)
        pid: int = self.call(lambda runtime, container: runtime.start(container, process, on_exit), name)
        return pid

    def drive(self, verb: str, name: str = "web", prefix: tuple[str, ...] = (), **wish: Any) -> list[str]:
        """Return a command line that does something with a container, with its own standard files."""
        directories = self.host.directories
        return [*prefix, sys.executable, "-c", DRIVER, *directories, self.program, name, verb, json.dumps(wish)]

    def status(self, name: str = "web") -> tuple[str, int, int | None]:
        """Return state, pid and exit code of a container's process."""
        found = self.call(lambda r, c: [getattr(r.status(c), field) for field in STATUS], name)
        return tuple(found)

    def await_exit(self, name: str = "web") -> int | None:
        """Wait until a container's process has ended; return its exit status."""
        wait_until(lambda: self.status(name)[0] == "exited", f"{name} has ended")
        return self.status(name)[2]

    def log(self, name: str = "web") -> dict[str, str]:
        """Return what a container wrote, by stream."""

        def inside(runtime: Runtime, container: Container) -> dict[str, str]:
            found = {"stdout": "", "stderr": ""}
            for entry in runtime.log(container):
                found[entry.stream] += entry.data.decode()
            return found

        streams: dict[str, str] = self.call(inside, name)
        return streams

    def refusal(self, *args: str, verb: str = "run", name: str = "web", **wishes: Any) -> tuple[str, str, int | None]:
        """Return kind, sentence and exit code of the error that something ends with."""

        def inside(runtime: Runtime, container: Container) -> list[Any]:
            os.dup2(os.open(os.devnull, os.O_RDWR), 2)
            try:
                getattr(runtime, verb)(container, check_process(args, **wishes))
            except dnet.DnetError as error:
                return [type(error).__name__, str(error), getattr(error, "exit_code", None)]
            return ["nothing", "", None]

        return tuple(self.call(inside, name))

    def remove(self, name: str = "web") -> None:
        """Remove all of a container's process."""
        self.call(lambda runtime, container: runtime.remove(container), name)

    def remains(self) -> list[str]:
        """Return what is left of any container's process: files, control groups, processes."""
        kept = self.host.state_dir / "containers"
        running = Path(self.host.inside(self.host.run_dir / "runtime"))
        found = [str(path) for path in kept.iterdir()] if kept.exists() else []
        found += [str(path) for path in running.iterdir() if path.name != "states"] if running.exists() else []
        found += [str(path) for path in running.glob("states/*/*")]
        names = [row[0][:12] for row in self.host.rows("SELECT id FROM container")]
        groups = subprocess.run(
            ["find", "/sys/fs/cgroup", "-name", "dnet-*"], capture_output=True, text=True, check=False
        )
        found += [path for path in groups.stdout.split() if path.rpartition("dnet-")[2] in names]
        commands = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        found += [line for line in commands.splitlines() if "conmon" in line and any(name in line for name in names)]
        return found


def boxed(host: FakeHost, program: str) -> Iterator[Box]:
    """Yield the containers of a host; afterwards every process of them is gone."""
    require_installed(program, "conmon")
    if program == "crun" and os.path.isdir(UNIFIED):
        # crun refuses controllers of both versions; without the second one, it takes the first for all there is.
        host.run("mount", "-t", "tmpfs", "hidden", UNIFIED)
    made = Box(host, program)
    try:
        yield made
    finally:
        for (name,) in host.rows("SELECT name FROM container"):
            made.remove(name)
    wait_until(lambda: not made.remains(), "nothing is left of the containers' processes")


def settled(box: Box) -> None:
    """Wait for conmon's last steps."""
    wait_until(lambda: not box.remains(), "nothing is left")


@contextlib.contextmanager
def at_terminal(box: Box, verb: str, **wish: Any) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Run something with a terminal of 101 columns and 33 lines; yields our end of it."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (33, 101))
    files = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    process = box.host.start(*box.drive(verb, prefix=("setsid", "--ctty", "--wait"), **wish), **files)
    os.close(theirs)
    try:
        yield ours, process
    finally:
        os.close(ours)


def read_until(ours: int, text: str) -> str:
    """Read from a terminal up to a text."""
    found = ""
    while text not in found:
        assert select.select([ours], [], [], TIMEOUT_S)[0], f"nothing comes after {found!r}"
        try:
            found += os.read(ours, 1).decode()
        except OSError:
            raise AssertionError(f"the terminal is closed after {found!r}") from None
    return found
