"""Command lines of OCI runtimes and conmon, and their errors."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from contextlib import suppress

from dnet.errors import RuntimeFailed, Unsupported
from dnet.linux import files, spawn
from dnet.model.container import Process
from dnet.runtime.paths import ContainerPaths

HYBRID_CONTROLLERS = "/sys/fs/cgroup/unified/cgroup.controllers"
# A shell's exit statuses.
EXIT_FAILED, EXIT_UNFIT, EXIT_MISSING = 125, 126, 127
# With these variables systemd would take our programs' children for the service that it started.
SYSTEMD_VARIABLES = frozenset({"NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"})
NOWHERE = (os.devnull, os.devnull, os.devnull)


class Programs:
    """The OCI runtimes, which keep their state below the directory `states`; `program` is the one to use, if given."""

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
        # crun refuses to run when some controllers are in cgroups v1 and others in v2.
        is_mixed = bool(files.read(HYBRID_CONTROLLERS).strip())
        found = crun if crun and not is_mixed else spawn.find("runc")
        if found:
            return found
        sentence, hint = "no OCI runtime is installed", "install the package crun, or runc (Debian's names)"
        if crun:
            sentence, hint = "crun cannot work where control groups are of both versions", "install the package runc"
        raise Unsupported(sentence, object="crun", hint=hint)

    def chosen_for(self, paths: ContainerPaths) -> str:
        """Return the path of the OCI runtime that started a container, else of that for new ones."""
        with suppress(FileNotFoundError):
            for name in os.listdir(self._states):
                if os.path.isdir(f"{self._states}/{name}/{paths.name}"):
                    is_ours = name == os.path.basename(self._program)
                    return spawn.require(self._program if is_ours else name, name)
        return self.choose()

    def command(self, program: str, error: str, *arguments: str) -> list[str]:
        """Return a command line of an OCI runtime; it logs to the file `error`."""
        state = f"{self._states}/{os.path.basename(program)}"
        return [program, f"--root={state}", f"--log={error}", "--log-format=json", *arguments]

    def forget(self, paths: ContainerPaths) -> None:
        """Have the OCI runtime remove its state and the control groups of a container whose process has ended."""
        program = self.chosen_for(paths)
        if os.path.isdir(f"{self._states}/{os.path.basename(program)}/{paths.name}"):
            command = self.command(program, paths.error, "delete", "--force", paths.name)
            if spawn.wait(spawn.spawn(command, files=NOWHERE)):
                raise failure(paths.error, f"remove {paths.name}")


def create_kept(paths: ContainerPaths, runtime: Sequence[str], process: Process, on_exit: Sequence[str]) -> int:
    """Have conmon create a container; return the pid of its process, which waits to be started, or 0 on failure.

    `runtime` is the OCI runtime's command line up to the verb. conmon continues in the background.
    """
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    command = [
        spawn.require("conmon", "conmon"),
        "--api-version=1",
        f"--cid={paths.name}",
        f"--cuuid={paths.name}",
        f"--runtime={runtime[0]}",
        *(f"--runtime-arg={word}" for word in runtime[1:]),
        f"--bundle={paths.state}",
        f"--persist-dir={paths.state}",
        f"--container-pidfile={paths.pid}",
        f"--conmon-pidfile={paths.keeper}",
        f"--log-path=k8s-file:{paths.log}",
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
            files = (os.devnull, os.devnull, paths.error)
            spawn.wait(spawn.spawn(command, files=files, environment=variables))
        finally:
            os.close(writer)
        line = told.readline()
    return max(int(json.loads(line).get("data", 0)), 0) if line.startswith("{") else 0


def environment() -> dict[str, str]:
    """Return the environment of the OCI runtime and conmon; containers see nothing of it."""
    return {key: value for key, value in os.environ.items() if key not in SYSTEMD_VARIABLES}


def failure(error: str, what: str, status: int = 0) -> RuntimeFailed:
    """Return the error of an OCI runtime that failed, from its log, or the signal that ended it.

    `error` is the log file, `status` the exit status, negative after a signal.
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
    """Return a shell's exit status for an OCI runtime's status, which is negative after a signal.

    126 is that of a program that the kernel cannot execute. crun logs this after the start; runc (1.1) exits with 1 and
    tells only the container's standard error, so a program that is not `is_fit` is taken for the reason.
    """
    if code < 0:
        return 128 - code
    return EXIT_UNFIT if code == 1 and (not is_fit or _reason(error).startswith("exec")) else code


def _reason(error: str) -> str:
    """Return the last message of the OCI runtime, else of conmon."""
    lines = files.read(error).splitlines()
    for line in reversed(lines):
        with suppress(ValueError, AttributeError):
            return str(json.loads(line).get("msg", "")).rpartition("unable to start container process: ")[2]
    return lines[-1] if lines else "it gave no reason"
