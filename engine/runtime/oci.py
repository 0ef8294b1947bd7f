"""The programs that start containers: which OCI runtime, how it and conmon are called, what they say."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from contextlib import suppress

from dnet.errors import RuntimeFailed, Unsupported
from dnet.linux import files, spawn
from dnet.model.container import Process
from dnet.runtime.paths import Place

HYBRID_CONTROLLERS = "/sys/fs/cgroup/unified/cgroup.controllers"
# A shell's exit statuses.
EXIT_FAILED, EXIT_UNFIT, EXIT_MISSING = 125, 126, 127
# Variables by which systemd would be told of our programs' children instead of whom it started.
SYSTEMD_VARIABLES = frozenset({"NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"})
NOWHERE = (os.devnull, os.devnull, os.devnull)


class Programs:
    """OCI runtimes that remember their containers below the directory `states`; `program` is to be used, if given."""

    def __init__(self, states: str, program: str) -> None:
        self._states = states
        self._program = program
        self._chosen = ""

    def choose(self) -> str:
        """Return the path of the OCI runtime for new containers."""
        self._chosen = self._chosen or self._find()
        return self._chosen

    def _find(self) -> str:
        if self._program:
            return spawn.require(self._program, os.path.basename(self._program))
        crun = spawn.find("crun")
        # crun refuses where some controllers are in cgroups v1 and others in v2.
        is_mixed = bool(files.read(HYBRID_CONTROLLERS).strip())
        found = crun if crun and not is_mixed else spawn.find("runc")
        if found:
            return found
        sentence, hint = "no OCI runtime is installed", "install the package crun, or runc (Debian's names)"
        if crun:
            sentence, hint = "crun cannot work where control groups are of both versions", "install the package runc"
        raise Unsupported(sentence, object="crun", hint=hint)

    def chosen_for(self, place: Place) -> str:
        """Return the path of the OCI runtime that has a container, or that a new one would get."""
        with suppress(FileNotFoundError):
            for name in os.listdir(self._states):
                if os.path.isdir(f"{self._states}/{name}/{place.name}"):
                    is_ours = name == os.path.basename(self._program)
                    return spawn.require(self._program if is_ours else name, name)
        return self.choose()

    def command(self, program: str, error: str, *arguments: str) -> list[str]:
        """Return a command line for an OCI runtime, what it has to say going to the file `error`."""
        state = f"{self._states}/{os.path.basename(program)}"
        return [program, f"--root={state}", f"--log={error}", "--log-format=json", *arguments]

    def forget(self, place: Place) -> None:
        """Have the OCI runtime remove what it has of a container whose process has ended: notes, and control groups."""
        program = self.chosen_for(place)
        if os.path.isdir(f"{self._states}/{os.path.basename(program)}/{place.name}"):
            command = self.command(program, place.error, "delete", "--force", place.name)
            if spawn.wait(spawn.spawn(command, files=NOWHERE)):
                raise failure(place.error, f"remove {place.name}")


def create_kept(place: Place, runtime: Sequence[str], process: Process, on_exit: Sequence[str]) -> int:
    """Have conmon create a container; return the pid of its process, which waits for the start, or 0.

    `runtime` is the OCI runtime's command line up to the verb. conmon goes on as a process of its own.
    """
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    command = [
        spawn.require("conmon", "conmon"),
        "--api-version=1",
        f"--cid={place.name}",
        f"--cuuid={place.name}",
        f"--runtime={runtime[0]}",
        *(f"--runtime-arg={word}" for word in runtime[1:]),
        f"--bundle={place.state}",
        f"--persist-dir={place.state}",
        f"--container-pidfile={place.pid}",
        f"--conmon-pidfile={place.keeper}",
        f"--log-path=k8s-file:{place.log}",
        "--no-sync-log",
        "--full-attach",
        *(["--terminal"] if process.has_terminal else []),
        *(["--stdin", "--leave-stdin-open"] if process.is_interactive else []),
        *(f"--exit-command={word}" for word in on_exit[:1]),
        *(f"--exit-command-arg={word}" for word in on_exit[1:]),
    ]
    with open(reader, encoding="utf-8", errors="replace") as told:
        try:
            variables = environment() | {"_OCI_SYNCPIPE": str(writer)}
            files = (os.devnull, os.devnull, place.error)
            spawn.wait(spawn.spawn(command, files=files, environment=variables))
        finally:
            os.close(writer)
        line = told.readline()
    return max(int(json.loads(line).get("data", 0)), 0) if line.startswith("{") else 0


def environment() -> dict[str, str]:
    """Return the variables that the programs get; containers see none of them."""
    return {key: value for key, value in os.environ.items() if key not in SYSTEMD_VARIABLES}


def failure(error: str, what: str, status: int = 0) -> RuntimeFailed:
    """Build the error of something that an OCI runtime refused, from what it has said last, or the signal it died of.

    `status` is its exit status, negative after a signal.
    """
    if status < 0:
        sentence = f"cannot {what}: {signal.strsignal(-status) or -status} came before it had been started"
        return RuntimeFailed(sentence, object=what, exit_code=128 - status)
    reason = _reason(error)
    code = EXIT_FAILED
    if "executable file" in reason or "exec: " in reason:
        code = EXIT_MISSING if "not found" in reason or "no such file" in reason.lower() else EXIT_UNFIT
    return RuntimeFailed(f"cannot {what}: {reason}", object=what, exit_code=code)


def shell_code(code: int, error: str, *, is_fit: bool) -> int:
    """Return a shell's exit status for that of an OCI runtime, negative after a signal.

    A program that was found but that the kernel could not execute is 126 to a shell. crun says so after the start; runc
    (1.1) exits with 1, and tells only the container's standard error: then it is so if the program is not `is_fit`.
    """
    if code < 0:
        return 128 - code
    return EXIT_UNFIT if code == 1 and (not is_fit or _reason(error).startswith("exec")) else code


def _reason(error: str) -> str:
    """Return the OCI runtime's last words, or conmon's where it has none."""
    lines = files.read(error).splitlines()
    for line in reversed(lines):
        with suppress(ValueError, AttributeError):
            return str(json.loads(line).get("msg", "")).rpartition("unable to start container process: ")[2]
    return lines[-1] if lines else "it gave no reason"
