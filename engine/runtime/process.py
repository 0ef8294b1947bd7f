"""The processes of dnet's own containers: started by an OCI runtime, monitored by conmon, ended, removed.

The OCI runtime makes every mount in the container's own mount namespace, so mounts vanish with the process. What a dead
process leaves are files and control groups, which `remove` or the next start finds.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from dnet.errors import Conflict, DnetError, InvalidRequest, KernelRefused, NotFound
from dnet.linux import files, spawn
from dnet.model.container import Container, Process, Status
from dnet.runtime import bundle, oci, rootfs
from dnet.runtime.paths import END_TIMEOUT_S, ContainerPaths

if TYPE_CHECKING:
    from dnet.runtime.logs import Entry


STOP_TIMEOUT_S = 10.0  # Docker's


class Runtime:
    """The processes of one state directory's containers; `program` is the OCI runtime to use, empty for our choice."""

    def __init__(self, state_dir: str, run_dir: str, program: str = "") -> None:
        self._state_dir = os.path.abspath(state_dir)
        self._run_dir = os.path.abspath(run_dir)
        self._programs = oci.Programs(f"{self._run_dir}/runtime/states", program)

    def _paths(self, container: Container) -> ContainerPaths:
        return ContainerPaths(container.id, self._state_dir, self._run_dir)

    # Looking

    def status(self, container: Container) -> Status:
        """Return whether a container's process runs, or how it ended; costs a few reads of files."""
        return self._paths(container).status()

    def is_begun(self, container: Container) -> bool:
        """Whether a container's process has ever been started, or somebody is starting it."""
        paths = self._paths(container)
        return paths.status().state != "created" or paths.is_kept()

    def log(self, container: Container, *, follow: bool = False) -> Iterator[Entry]:
        """Yield the output of a detached container, of all its runs; when followed, go on until its process ends."""
        paths = self._paths(container)
        if not os.path.exists(paths.log):
            hint = "only containers that were started detached (-d) have one"
            raise NotFound(f"container {container.name} has no log", object=container.name, hint=hint)
        from dnet.runtime import logs

        return logs.read(paths.log, paths.open_keeper) if follow else logs.read(paths.log)

    def check(self, process: Process, *, is_detached: bool = False) -> None:
        """Raise an error when such a process cannot be started; nothing is touched."""
        self._programs.choose()
        if is_detached:
            spawn.require("conmon", "conmon")
        else:
            _check_input(process)
        rootfs.check_root(process.rootfs, self._state_dir)
        _program_of(process)
        rootfs.find_user(process.rootfs.rstrip("/"), process.user)

    # Starting

    def run(self, container: Container, process: Process) -> int:
        """Run a process with the caller's standard files until it ends, and return its exit status (128 + signal).

        Signals are passed on. Raises RuntimeFailed when the process could not be run; then nothing of it is left.
        """
        with self._starting(container, process, is_detached=False) as paths:
            files.write(paths.keeper, str(os.getpid()))
            arguments = ("run", f"--bundle={paths.state}", f"--pid-file={paths.pid}", paths.name)
            command = self._programs.command(self._programs.choose(), paths.error, *arguments)
            is_fit = rootfs.is_fit(_program_of(process))
            code = _attend(command, process, paths.pid)
            if not os.path.exists(paths.pid):
                raise oci.failure(paths.error, f"start container {container.name}", code)
            if code < 0:
                self._end(paths)
            code = oci.shell_code(code, paths.error, is_fit=is_fit)
            files.write(paths.exit, str(code))
        return code

    def start(self, container: Container, process: Process, on_exit: Sequence[str] = ()) -> int:
        """Start a process that outlives the caller, and return its pid; raise RuntimeFailed as `run` does.

        When the process has ended, conmon executes `on_exit`, an absolute path and arguments, and discards its output.
        """
        with self._starting(container, process, is_detached=True) as paths:
            command = self._programs.command(self._programs.choose(), paths.error)
            pid = oci.create_kept(paths, command, process, on_exit)
            if not pid or spawn.wait(spawn.spawn([*command, "start", paths.name], files=oci.NOWHERE)):
                raise oci.failure(paths.error, f"start container {container.name}")
        return pid

    def execute(self, container: Container, process: Process) -> int:
        """Run one more process in a running container, as `run` does.

        User, directory and variables that `process` does not give are those of the container's first process. Its
        root directory and its being read-only are ignored.
        """
        paths = self._paths(container)
        pid = paths.status().pid
        if not pid:
            raise _not_running(container)
        _check_input(process)
        root = f"/proc/{pid}/root"
        user = rootfs.find_user(root, process.user) if process.user else None
        first = json.loads(files.read(paths.config))["process"]
        document = bundle.further_process(first, process, user, spawn.terminal_size())
        path = next((text[5:] for text in document["env"] if text.startswith("PATH=")), bundle.PATH)
        is_fit = rootfs.is_fit(rootfs.find_program(root, process.args[0], path, document["cwd"]))
        descriptor = os.memfd_create("process", 0)
        error, pid_file = (f"{paths.run}/exec-{os.getpid()}-{descriptor}.{kind}" for kind in ("error", "pid"))
        try:
            os.write(descriptor, json.dumps(document).encode(errors="surrogateescape"))
            arguments = ("exec", f"--process=/proc/self/fd/{descriptor}", f"--pid-file={pid_file}", paths.name)
            command = self._programs.command(self._programs.chosen_for(paths), error, *arguments)
            code = _attend(command, process, pid_file)
            if not os.path.exists(pid_file):
                raise oci.failure(error, f"execute {process.args[0]} in container {container.name}", code)
            return oci.shell_code(code, error, is_fit=is_fit)
        finally:
            os.close(descriptor)
            files.unlink(error, pid_file)

    # Ending

    def stop(self, container: Container, timeout_s: float = STOP_TIMEOUT_S) -> bool:
        """End a process by SIGTERM, after `timeout_s` by SIGKILL, and wait for its end; return False if none ran."""
        paths = self._paths(container)
        opened = paths.open_process()
        if opened is None:
            return False
        try:
            _signal(opened, signal.SIGTERM)
            if not spawn.has_ended(opened, timeout_s):
                _signal(opened, signal.SIGKILL)
                spawn.has_ended(opened, END_TIMEOUT_S)
        finally:
            os.close(opened)
        paths.await_exit()
        return True

    def kill(self, container: Container, number: int = signal.SIGKILL) -> None:
        """Send a signal to a container's first process."""
        opened = self._paths(container).open_process()
        if opened is None:
            raise _not_running(container)
        try:
            _signal(opened, number)
        finally:
            os.close(opened)

    def remove(self, container: Container) -> None:
        """Kill a container's process, if it runs, and remove its files and control groups, as far as they exist."""
        paths = self._paths(container)
        if os.path.isdir(paths.state) or os.path.isdir(paths.run):
            self._end(paths)
            paths.await_exit()
            files.remove(paths.state, paths.run)

    def _end(self, paths: ContainerPaths) -> None:
        """Kill the process, if it runs, and have the OCI runtime forget the container."""
        # Not killed through the runtime, which polls for the end every 100 ms (runc 1.1).
        _kill(paths.open_process())
        self._programs.forget(paths)

    # The surroundings of a start

    @contextmanager
    def _starting(self, container: Container, process: Process, *, is_detached: bool) -> Iterator[ContainerPaths]:
        """Prepare a start and hold the lock; on failure remove everything but what an earlier run wrote."""
        self.check(process, is_detached=is_detached)
        paths = self._paths(container)
        if paths.status().state == "running":
            raise Conflict(f"container {container.name} is running", object=container.name, hint="stop it first")
        is_first = not os.path.exists(paths.config)
        try:
            for directory in (paths.state, paths.run):
                os.makedirs(directory, mode=0o700, exist_ok=True)
            lock = spawn.hold(paths.lock)
        except OSError as error:
            raise _refused(container, error) from error
        if lock is None:
            sentence = f"container {container.name} is being started by another process"
            raise Conflict(sentence, object=container.name, hint="wait for it")
        try:
            self._end(paths)
            files.unlink(paths.pid, paths.keeper, paths.error)
            self._write_bundle(paths, container, process)
            files.unlink(paths.exit)
            yield paths
        except BaseException as error:
            self._undo(paths, error, is_first=is_first)
            if isinstance(error, OSError) and not isinstance(error, DnetError):
                raise _refused(container, error) from error
            raise
        finally:
            os.close(lock)

    def _undo(self, paths: ContainerPaths, error: BaseException, *, is_first: bool) -> None:
        """Undo a start; a container that had been started before is then an exited one, as with Docker."""
        try:
            keeper = files.read_number(paths.keeper)
            # Killed before the container's process, or it would execute its exit command.
            _kill(spawn.open_process(keeper) if keeper and keeper != os.getpid() else None)
            self._end(paths)
            if is_first:
                files.remove(paths.state, paths.run)
            else:
                files.write(paths.exit, str(getattr(error, "exit_code", oci.EXIT_FAILED)))
        except (DnetError, OSError) as another:
            error.add_note(f"and what was begun is not taken back: {another}")

    def _write_bundle(self, paths: ContainerPaths, container: Container, process: Process) -> None:
        hidden: list[str] = []
        layers: list[bundle.Layer] = []
        if not process.rootfs:
            hidden = [path for path in (self._state_dir, self._run_dir) if not bundle.is_below(path, ["/run"])]
            layers = rootfs.lay_out(paths.state, hidden)
        text = bundle.config(
            container,
            process,
            rootfs.find_user(process.rootfs.rstrip("/"), process.user),
            root=process.rootfs or f"{paths.state}/rootfs",
            cgroup=paths.cgroup,
            layers=layers,
            directory=paths.state,
            hidden=hidden,
            size=spawn.terminal_size(),
        )
        files.write(paths.config, text)


def _program_of(process: Process) -> str:
    """Return the file of a container's first program; raise RuntimeFailed if there is none."""
    root, path = process.rootfs.rstrip("/"), dict(process.env).get("PATH", bundle.PATH)
    return rootfs.find_program(root, process.args[0], path, process.workdir or "/")


def _attend(command: Sequence[str], process: Process, pid_file: str) -> int:
    """Have an OCI runtime run a process in the foreground."""
    is_interactive, has_terminal = process.is_interactive, process.has_terminal
    with spawn.standard_input(is_interactive=is_interactive, has_terminal=has_terminal) as file:
        return spawn.attend(
            lambda: spawn.spawn(command, files=(file,), environment=oci.environment()),
            lambda: spawn.resize(files.read_number(pid_file) or 0) if has_terminal else None,
        )


def _check_input(process: Process) -> None:
    if process.has_terminal and process.is_interactive and not os.isatty(0):
        hint = "leave out -t, or call it from a terminal"
        raise InvalidRequest("standard input is not a terminal", object="-t", hint=hint)


def _signal(opened: int, number: int) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(opened, number)


def _kill(opened: int | None) -> None:
    """Kill a process, wait for its end and close its descriptor."""
    if opened is not None:
        try:
            _signal(opened, signal.SIGKILL)
            spawn.has_ended(opened, END_TIMEOUT_S)
        finally:
            os.close(opened)


def _not_running(container: Container) -> Conflict:
    hint = f"start it: dnet start {container.name}"
    return Conflict(f"container {container.name} is not running", object=container.name, hint=hint)


def _refused(container: Container, error: OSError) -> KernelRefused:
    return KernelRefused(f"start container {container.name}", error.errno or 0, str(error.strerror))
