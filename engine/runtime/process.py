"""Starts processes in containers' sandboxes through an OCI runtime, and ends them; conmon looks after them.

Every mount is made by the OCI runtime in the container's own mount namespace, and goes with it: a process that dies
leaves files and control groups, which `remove` or the next start finds.
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
from dnet.runtime.paths import END_TIMEOUT_S, Place

if TYPE_CHECKING:
    from dnet.runtime.logs import Entry


STOP_TIMEOUT_S = 10.0  # Docker's


class Runtime:
    """Processes of the containers of one state directory; `program` is an OCI runtime to use instead of our choice."""

    def __init__(self, state_dir: str, run_dir: str, program: str = "") -> None:
        self._state_dir = os.path.abspath(state_dir)
        self._run_dir = os.path.abspath(run_dir)
        self._programs = oci.Programs(f"{self._run_dir}/runtime/states", program)

    def _place(self, container: Container) -> Place:
        name = container.id[:12]
        return Place(name, f"{self._state_dir}/containers/{name}", f"{self._run_dir}/runtime/{name}")

    # Looking

    def status(self, container: Container) -> Status:
        """Return whether a container's process runs, or how it ended; a few reads of files."""
        return self._place(container).status()

    def is_begun(self, container: Container) -> bool:
        """Whether a container's process has ever been started, or is being started by somebody."""
        place = self._place(container)
        return place.status().state != "created" or place.is_kept()

    def log(self, container: Container, *, is_followed: bool = False) -> Iterator[Entry]:
        """Yield what a detached container wrote, in all its runs; when followed, go on until its process ends."""
        place = self._place(container)
        if not os.path.exists(place.log):
            hint = "only containers that were started detached (-d) have one"
            raise NotFound(f"container {container.name} has no log", object=container.name, hint=hint)
        from dnet.runtime import logs

        return logs.read(place.log, place.open_keeper) if is_followed else logs.read(place.log)

    def check(self, process: Process, *, is_detached: bool = False) -> None:
        """Raise what speaks against starting such a process, before anything is touched."""
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

        Signals are passed on. Raises RuntimeFailed where nothing could be run; then nothing is left of it.
        """
        with self._beginning(container, process, is_detached=False) as place:
            files.write(place.keeper, str(os.getpid()))
            arguments = ("run", f"--bundle={place.state}", f"--pid-file={place.pid}", place.name)
            command = self._programs.command(self._programs.choose(), place.error, *arguments)
            is_fit = rootfs.is_fit(_program_of(process))
            code = _attend(command, process, place.pid)
            if not os.path.exists(place.pid):
                raise oci.failure(place.error, f"start container {container.name}", code)
            if code < 0:
                self._end(place)
            code = oci.shell_code(code, place.error, is_fit=is_fit)
            files.write(place.exit, str(code))
        return code

    def start(self, container: Container, process: Process, on_exit: Sequence[str] = ()) -> int:
        """Start a process that outlives the caller, and return its pid; raises RuntimeFailed as `run` does.

        When it has ended, conmon executes `on_exit`: an absolute path, and arguments. Its output is thrown away.
        """
        with self._beginning(container, process, is_detached=True) as place:
            command = self._programs.command(self._programs.choose(), place.error)
            pid = oci.create_kept(place, command, process, on_exit)
            if not pid or spawn.wait(spawn.spawn([*command, "start", place.name], files=oci.NOWHERE)):
                raise oci.failure(place.error, f"start container {container.name}")
        return pid

    def execute(self, container: Container, process: Process) -> int:
        """Run one more process in a running container, as `run` does; user, directory and variables are the first's.

        Those of `process` come before; its root directory and what is to be read-only mean nothing here.
        """
        place = self._place(container)
        pid = place.status().pid
        if not pid:
            raise _not_running(container)
        _check_input(process)
        root = f"/proc/{pid}/root"
        user = rootfs.find_user(root, process.user) if process.user else None
        first = json.loads(files.read(place.config))["process"]
        document = bundle.further_process(first, process, user, spawn.terminal_size())
        path = next((text[5:] for text in document["env"] if text.startswith("PATH=")), bundle.PATH)
        is_fit = rootfs.is_fit(rootfs.find_program(root, process.args[0], path, document["cwd"]))
        descriptor = os.memfd_create("process", 0)
        error, pid_file = (f"{place.run}/exec-{os.getpid()}-{descriptor}.{kind}" for kind in ("error", "pid"))
        try:
            os.write(descriptor, json.dumps(document).encode(errors="surrogateescape"))
            arguments = ("exec", f"--process=/proc/self/fd/{descriptor}", f"--pid-file={pid_file}", place.name)
            command = self._programs.command(self._programs.chosen_for(place), error, *arguments)
            code = _attend(command, process, pid_file)
            if not os.path.exists(pid_file):
                raise oci.failure(error, f"execute {process.args[0]} in container {container.name}", code)
            return oci.shell_code(code, error, is_fit=is_fit)
        finally:
            os.close(descriptor)
            files.unlink(error, pid_file)

    # Ending

    def stop(self, container: Container, timeout_s: float = STOP_TIMEOUT_S) -> bool:
        """End a process by SIGTERM, after `timeout_s` by SIGKILL; return when it is gone, False if none was there."""
        place = self._place(container)
        opened = place.open_process()
        if opened is None:
            return False
        try:
            _signal(opened, signal.SIGTERM)
            if not spawn.has_ended(opened, timeout_s):
                _signal(opened, signal.SIGKILL)
                spawn.has_ended(opened, END_TIMEOUT_S)
        finally:
            os.close(opened)
        place.await_exit()
        return True

    def kill(self, container: Container, number: int = signal.SIGKILL) -> None:
        """Send a signal to a container's first process."""
        opened = self._place(container).open_process()
        if opened is None:
            raise _not_running(container)
        try:
            _signal(opened, number)
        finally:
            os.close(opened)

    def remove(self, container: Container) -> None:
        """Remove all that is left of a container's process, running or not; what is missing is no failure."""
        place = self._place(container)
        if os.path.isdir(place.state) or os.path.isdir(place.run):
            self._end(place)
            place.await_exit()
            files.remove(place.state, place.run)

    def _end(self, place: Place) -> None:
        """Kill what still runs, and have the OCI runtime forget the container."""
        # Killed by ourselves: a runtime looks whether it has ended in steps of 100 ms (runc 1.1).
        _kill(place.open_process())
        self._programs.forget(place)

    # What surrounds a start

    @contextmanager
    def _beginning(self, container: Container, process: Process, *, is_detached: bool) -> Iterator[Place]:
        """Make all that starting needs and hold the lock; a failure leaves nothing, or what an earlier run wrote."""
        self.check(process, is_detached=is_detached)
        place = self._place(container)
        if place.status().state == "running":
            raise Conflict(f"container {container.name} is running", object=container.name, hint="stop it first")
        is_first = not os.path.exists(place.config)
        try:
            for directory in (place.state, place.run):
                os.makedirs(directory, mode=0o700, exist_ok=True)
            lock = spawn.hold(place.lock)
        except OSError as error:
            raise _refused(container, error) from error
        if lock is None:
            sentence = f"container {container.name} is being started by another process"
            raise Conflict(sentence, object=container.name, hint="wait for it")
        try:
            self._end(place)
            files.unlink(place.pid, place.keeper, place.error)
            self._write_bundle(place, container, process)
            files.unlink(place.exit)
            yield place
        except BaseException as error:
            self._take_back(place, error, is_first=is_first)
            if isinstance(error, OSError) and not isinstance(error, DnetError):
                raise _refused(container, error) from error
            raise
        finally:
            os.close(lock)

    def _take_back(self, place: Place, error: BaseException, *, is_first: bool) -> None:
        """Undo a start; a container that had been started before counts as ended, as with Docker."""
        try:
            keeper = files.read_number(place.keeper)
            # Before the container's process, so that it does not execute what is to follow that one's end.
            _kill(spawn.open_process(keeper) if keeper and keeper != os.getpid() else None)
            self._end(place)
            if is_first:
                files.remove(place.state, place.run)
            else:
                files.write(place.exit, str(getattr(error, "exit_code", oci.EXIT_FAILED)))
        except (DnetError, OSError) as another:
            error.add_note(f"and what was begun is not taken back: {another}")

    def _write_bundle(self, place: Place, container: Container, process: Process) -> None:
        hidden: list[str] = []
        layers: list[bundle.Layer] = []
        if not process.rootfs:
            hidden = [path for path in (self._state_dir, self._run_dir) if not bundle.is_below(path, ["/run"])]
            layers = rootfs.lay_out(place.state, hidden)
        text = bundle.config(
            container,
            process,
            rootfs.find_user(process.rootfs.rstrip("/"), process.user),
            root=process.rootfs or f"{place.state}/rootfs",
            cgroup=place.cgroup,
            layers=layers,
            directory=place.state,
            hidden=hidden,
            size=spawn.terminal_size(),
        )
        files.write(place.config, text)


def _program_of(process: Process) -> str:
    """Return the file of a container's first program; RuntimeFailed if there is none."""
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
