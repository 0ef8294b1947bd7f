"""Running processes in containers: the network's half and the runtime's put together."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dnet.drivers import nat_table
from dnet.drivers.link_environment import environment
from dnet.errors import Conflict, DnetError, InvalidRequest, RuntimeFailed
from dnet.model.container import Container, Process
from dnet.model.container_spec import ContainerSpec
from dnet.model.values import replace
from dnet.operations.containers import Containers
from dnet.runtime.process import Runtime
from dnet.transaction.context import Writer

if TYPE_CHECKING:
    from dnet.runtime.logs import Entry


class Running:
    """Starting, stopping and watching containers' processes."""

    def __init__(self, writer: Writer, runtime: Runtime, state_directory: str) -> None:
        self._writer = writer
        self._store = writer.store
        self._runtime = runtime
        self._state_directory = state_directory

    def run(self, spec: ContainerSpec, *, is_detached: bool) -> tuple[Container, int]:
        """Create a container and start its process; return its exit status, or its pid when it is detached."""
        process = _process_of(spec.name or "the container", spec.process)
        self._runtime.check(process, is_detached=is_detached)
        (container,) = Containers(self._writer).create_many([spec], is_starting=True).containers
        try:
            if is_detached:
                return container, self._start(container, process)
            code = self._runtime.run(_placed(container), self._linked(container, process))
        except BaseException as error:
            # As with Docker, a container that failed to start stays, except with --rm.
            if process.removes_itself or not isinstance(error, RuntimeFailed):
                self._remove(container, error)
            raise
        if process.removes_itself:
            Containers(self._writer).delete_many([container.id], is_missing_ok=True, is_forced=True)
        return container, code

    def _remove(self, container: Container, cause: BaseException) -> None:
        try:
            Containers(self._writer).delete_many([container.id], is_missing_ok=True, is_forced=True)
        except DnetError as error:
            cause.add_note(f"and while removing container {container.name}: {error}")

    def _start(self, container: Container, process: Process) -> int:
        on_exit: list[str] = []
        if process.removes_itself:
            directories = ["--state-dir", self._state_directory, "--run-dir", self._writer.run_directory]
            on_exit = [sys.executable, "-m", "dnet.cli", *directories, "rm", "--force", container.id]
        return self._runtime.start(_placed(container), self._linked(container, process), on_exit)

    def _linked(self, container: Container, process: Process) -> Process:
        """Return the process with the variables of its container's links, which its own ones override."""
        found: dict[str, str] = {}
        peers = self._writer.peers([container]) if container.links else {}
        for link in container.links:
            child = peers.get(link.child)
            ends = nat_table.link_ends(container, child) if child else None
            if child and ends:
                found |= environment(link, child, ends[1].address.ip)
        return replace(process, env=tuple((found | dict(process.env)).items()))

    def start(self, references: Sequence[str]) -> list[Container]:
        """Start the processes of containers anew, detached; those that run are left alone."""
        self._writer.prepare()
        found = [self._store.container(reference) for reference in references]
        processes = [_process_of(item.name, item.process) for item in found]
        for item, process in zip(found, processes, strict=True):
            if self._runtime.status(item).state != "running":
                self._start(item, process)
        return found

    def stop(self, references: Sequence[str], timeout_s: float) -> list[Container]:
        """End the processes of containers: SIGTERM, then SIGKILL after `timeout_s`; return when they are gone."""
        found = [self._store.container(reference) for reference in references]
        for item in found:
            self._check_running(item)
        for item in found:
            self._runtime.stop(item, timeout_s)
        return found

    def execute(self, reference: str, process: Process) -> int:
        """Run one more process in a running container, and return its exit status."""
        container = self._store.container(reference)
        self._check_running(container)
        return self._runtime.execute(container, process)

    def logs(self, reference: str, *, is_followed: bool) -> Iterator[Entry]:
        """Yield what a detached container's process wrote."""
        container = self._store.container(reference)
        _process_of(container.name, container.process)
        return self._runtime.log(container, is_followed=is_followed)

    def _check_running(self, container: Container) -> None:
        _process_of(container.name, container.process)
        status = self._runtime.status(container)
        if status.state != "running":
            raise Conflict(
                f"container {container.name} is not running ({status})",
                object=container.name,
                hint=f"start it with `dnet start {container.name}`",
            )


def with_statuses(containers: Sequence[Container], runtime: Runtime) -> list[Container]:
    """Return containers with the status of their processes."""
    found = []
    for item in containers:
        status = runtime.status(item) if item.process else None
        found.append(replace(item, status=str(status), pid=status.pid, exit_code=status.exit_code) if status else item)
    return found


def _placed(container: Container) -> Container:
    """Return the container as its runtime shall see it: in mode host, or sharing such a one, without a sandbox."""
    try:
        is_host = os.path.samefile(container.sandbox, "/proc/self/ns/net")
    except FileNotFoundError as error:
        sentence = f"the sandbox of container {container.name} is gone"
        raise Conflict(sentence, object=container.name, hint="`dnet reconcile` makes it again") from error
    return replace(container, sandbox="") if is_host else container


def _process_of(name: str, process: Process | None) -> Process:
    if process is None:
        hint = "`dnet run` makes containers with a process; join this one's network by its sandbox's path"
        raise InvalidRequest(f"container {name} has no process of dnet's, only a network", object=name, hint=hint)
    return process
