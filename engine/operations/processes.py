"""Processes of containers: run, started, stopped, and programs of the host run in a container's network."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dnet.drivers import nat_table
from dnet.drivers.link_environment import environment
from dnet.errors import Conflict, DnetError, InvalidRequest, RuntimeFailed
from dnet.linux import namespaces
from dnet.model.container import Container, Process
from dnet.model.container_spec import ContainerSpec
from dnet.model.values import replace
from dnet.operations import containers, reattach
from dnet.runtime.process import Runtime
from dnet.transaction.containers import link_peers
from dnet.transaction.context import Context
from dnet.transaction.recovery import prepare

if TYPE_CHECKING:
    from dnet.runtime.logs import Entry


def run(context: Context, spec: ContainerSpec, *, is_detached: bool) -> tuple[Container, int]:
    """Create a container and start its process; return the exit status, or the pid of a detached process."""
    process = _process_of(spec.name or "the container", spec.process)
    context.runtime.check(process, is_detached=is_detached)
    (container,) = containers.create_many(context, [spec], is_starting=True).containers
    try:
        if is_detached:
            return container, _start(context, container, process)
        code = context.runtime.run(_for_runtime(container), _with_link_variables(context, container, process))
    except BaseException as error:
        # As with Docker, a container that failed to start stays, except with --rm.
        if process.removes_itself or not isinstance(error, RuntimeFailed):
            _remove(context, container, error)
        raise
    if process.removes_itself:
        containers.delete_many(context, [container.id], missing_ok=True, force=True)
    return container, code


def _remove(context: Context, container: Container, cause: BaseException) -> None:
    try:
        containers.delete_many(context, [container.id], missing_ok=True, force=True)
    except DnetError as error:
        cause.add_note(f"and while removing container {container.name}: {error}")


def _start(context: Context, container: Container, process: Process) -> int:
    on_exit: list[str] = []
    if process.removes_itself:
        directories = ["--state-dir", context.state_directory, "--run-dir", context.run_directory]
        on_exit = [sys.executable, "-m", "dnet.cli", *directories, "rm", "--force", container.id]
    return context.runtime.start(_for_runtime(container), _with_link_variables(context, container, process), on_exit)


def _with_link_variables(context: Context, container: Container, process: Process) -> Process:
    """Return a process with the variables of its container's links; its own variables override them."""
    variables: dict[str, str] = {}
    peers = link_peers(context, [container]) if container.links else {}
    for link in container.links:
        child = peers.get(link.child)
        endpoints = nat_table.linked_endpoints(container, child) if child else None
        if child and endpoints:
            variables |= environment(link, child, endpoints[1].address.ip)
    return replace(process, env=tuple((variables | dict(process.env)).items()))


def start(context: Context, references: Sequence[str]) -> list[Container]:
    """Start the processes of containers again, detached. Those that run are left alone."""
    prepare(context)
    containers = [context.store.containers.get(reference) for reference in references]
    processes = [_process_of(item.name, item.process) for item in containers]
    for item, process in zip(containers, processes, strict=True):
        if context.runtime.status(item).state != "running":
            _start(context, item, process)
    return containers


def stop(context: Context, references: Sequence[str], timeout_s: float) -> list[Container]:
    """End the processes of containers by SIGTERM, and by SIGKILL after `timeout_s`; return when they are gone."""
    containers = [context.store.containers.get(reference) for reference in references]
    for item in containers:
        _check_running(context, item)
    for item in containers:
        context.runtime.stop(item, timeout_s)
    return containers


def execute(context: Context, reference: str, process: Process) -> int:
    """Run one more process in a running container; return its exit status."""
    container = context.store.containers.get(reference)
    _check_running(context, container)
    return context.runtime.execute(container, process)


def logs(context: Context, reference: str, *, follow: bool) -> Iterator[Entry]:
    """Yield what the process of a detached container wrote."""
    container = context.store.containers.get(reference)
    _process_of(container.name, container.process)
    return context.runtime.log(container, follow=follow)


def _check_running(context: Context, container: Container) -> None:
    _process_of(container.name, container.process)
    status = context.runtime.status(container)
    if status.state != "running":
        raise Conflict(
            f"container {container.name} is not running ({status})",
            object=container.name,
            hint=f"start it with `dnet start {container.name}`",
        )


def with_statuses(containers: Sequence[Container], runtime: Runtime) -> list[Container]:
    """Return containers with the status of their processes."""
    current = []
    for item in containers:
        status = runtime.status(item) if item.process else None
        if status:
            current.append(replace(item, status=str(status), pid=status.pid, exit_code=status.exit_code))
        else:
            current.append(item)
    return current


def _for_runtime(container: Container) -> Container:
    """Return a container as its runtime needs it: without a sandbox if that is the host's network namespace."""
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


def run_program(context: Context, target: str, command: Sequence[str]) -> int:
    """Run a program of the host in a target's network namespace; return its exit status.

    Raises FileNotFoundError when there is no such program.
    """
    import subprocess

    prepare(context)
    container = reattach.find(context, target)
    with _open_namespace(container) as descriptor:
        return namespaces.call(descriptor, lambda: subprocess.run(command, check=False).returncode)


@contextmanager
def _open_namespace(container: Container) -> Iterator[int]:
    if container.target:
        from dnet.runtime.targets import Target, opened

        with opened(Target(**container.target)) as descriptor:
            yield descriptor
        return
    descriptor = namespaces.open_namespace(container.sandbox)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
