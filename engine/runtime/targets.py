"""Targets: the network namespaces that users attach to, found by their words and found again after a restart.

    /run/netns/blue, path:/run/netns/blue     a namespace by its path
    pid:4711                                  that of a process
    docker:web, podman:web                    that of a container, by name, id or the unique beginning of an id
    web                                       the same; Docker is asked first, then Podman

The engine looks for dnet's own containers before. A container is remembered by its full id, not by its name, since
another one may get its name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from dnet.errors import DnetError, InvalidRequest, NotFound, Unsupported
from dnet.linux import namespaces
from dnet.model.values import Value, frozen
from dnet.runtime import docker
from dnet.runtime.docker import Daemon, DaemonNotFound, InspectedContainer

PATH, PID = "path", "pid"
PREFIXES = (PATH, PID, *docker.TITLES)
PID_DIGITS_MAX = 10
START_FIELD = 22  # of /proc/PID/stat, in clock ticks since boot: proc(5)


@frozen(kw_only=True)
class Target(Value):
    """A network namespace that is not dnet's. All fields are text and numbers, to be stored.

    `kind` and `reference` find it again: a path, a pid, or a container's full id, asked for at `socket`. `name` is for
    people. `path` opens it; `pid` is the process in that path (0 for none), `started` the start time of the process.
    `inode` and `cookie` are the namespace's identity (namespaces.NamespaceIdentity).
    """

    kind: str
    reference: str
    socket: str
    name: str
    path: str
    pid: int
    started: int
    inode: int
    cookie: int

    def __str__(self) -> str:
        return _describe(self.kind, self.name)


class TargetState(StrEnum):
    """What has become of a target since it was found."""

    SAME = "same"
    CHANGED = "changed"  # it has another namespace: what was in the old one is gone
    STOPPED = "stopped"  # it has no namespace: a container that can be started again
    GONE = "gone"


@frozen
class ResolvedTarget(Value):
    """A target that was looked at again; `target` is None when there is no namespace."""

    state: TargetState
    target: Target | None


def split(text: str) -> tuple[str, str]:
    """Return the kind that a text begins with, empty for a bare name, and the rest.

    Raises InvalidRequest when the rest is missing, or is not of that kind.
    """
    if text.startswith("/"):
        return PATH, text
    kind, colon, rest = text.partition(":")
    if not colon or kind not in PREFIXES:
        kind, rest = "", text
    if not rest:
        raise _unreadable(text, "it names nothing")
    if kind == PATH and not rest.startswith("/"):
        raise _unreadable(text, "the path is not absolute")
    if kind == PID and not (rest.isascii() and rest.isdecimal() and len(rest) <= PID_DIGITS_MAX and int(rest)):
        raise _unreadable(text, f"{rest!r} is not the number of a process")
    if kind not in {PATH, PID} and not docker.REFERENCE_PATTERN.match(rest):
        raise _unreadable(text, f"{rest!r} is not a container's name or id")
    return kind, rest


def find(text: str) -> Target:
    """Return the target that a text means.

    Raises NotFound when there is none or its container does not run, InvalidRequest when the text is malformed or
    ambiguous or means the host's own namespace, Unsupported when a daemon does not answer, NeedsRoot.
    """
    kind, rest = split(text)
    match kind:
        case "path":
            return _of_path(rest)
        case "pid":
            return _of_process(str(int(rest)))
        case _:
            return _of_container(*_ask(rest, [one for one in docker.daemons() if kind in {"", one.kind}]))


def resolve(target: Target) -> ResolvedTarget:
    """Look at a target again; a daemon is asked only when the target's process has ended.

    Raises Unsupported when that daemon does not answer.
    """
    if _is_same(target):
        return ResolvedTarget(TargetState.SAME, target)
    try:
        match target.kind:
            case "path":
                now = _of_path(target.reference)
            case "pid":
                if _started(target.pid) != target.started:
                    return ResolvedTarget(TargetState.GONE, None)
                now = _of_process(target.reference)
            case _:
                daemon = docker.daemon_at(target.kind, target.socket)
                container = docker.inspect(daemon, target.reference)
                if not container:
                    return ResolvedTarget(TargetState.GONE, None)
                if not container.is_running or not container.pid:
                    return ResolvedTarget(TargetState.STOPPED, None)
                now = _of_container(daemon, container)
    except (NotFound, InvalidRequest):
        return ResolvedTarget(TargetState.GONE if target.kind in {PATH, PID} else TargetState.STOPPED, None)
    is_same = (now.inode, now.cookie) == (target.inode, target.cookie)
    return ResolvedTarget(TargetState.SAME if is_same else TargetState.CHANGED, now)


@contextmanager
def opened(target: Target) -> Iterator[int]:
    """Open a target's namespace for a while; raise NotFound when the target has another one by now."""
    descriptor = namespaces.open_namespace(target.path)
    try:
        if namespaces.identify(descriptor) != namespaces.NamespaceIdentity(target.inode, target.cookie):
            hint = "run it again; `dnet reconcile` attaches to what has been restarted"
            raise NotFound(f"{target} has another network namespace by now", object=target.name, hint=hint)
        yield descriptor
    finally:
        os.close(descriptor)


# Finding


def _of_path(path: str) -> Target:
    return _target(PATH, path, path, path)


def _of_process(number: str) -> Target:
    try:
        return _target(PID, number, number, f"/proc/{number}/ns/net", int(number))
    except NotFound as error:
        raise NotFound(f"there is no process {number}", object=number) from error


def _of_container(daemon: Daemon, container: InspectedContainer) -> Target:
    label = _describe(daemon.kind, container.name)
    if not container.is_running or not container.pid:
        hint = "start it; what `dnet reconcile` remembers of it is then attached again"
        raise NotFound(f"{label} is not running, so it has no network", object=container.name, hint=hint)
    path, pid = f"/proc/{container.pid}/ns/net", container.pid
    if container.sandbox and _is_elsewhere(path, container.sandbox):
        # The daemon lives in another pid namespace: its pids mean nothing here.
        path, pid = container.sandbox, 0
    try:
        return _target(daemon.kind, container.id, container.name, path, pid, daemon.socket)
    except NotFound as error:
        hint = "it has just ended, or its runtime is in another pid namespace"
        raise NotFound(
            f"the network of {label} is not to be seen at {path}", object=container.name, hint=hint
        ) from error


def _ask(reference: str, asked: list[Daemon]) -> tuple[Daemon, InspectedContainer]:
    """Return the first daemon that has a container, and the container."""
    outcomes: list[str] = []
    failure: DnetError | None = None
    for daemon in asked:
        try:
            found = docker.inspect(daemon, reference)
        except DaemonNotFound as error:
            outcomes.append(str(error))
        except Unsupported as error:
            outcomes.append(str(error))
            failure = failure or error
        else:
            if found:
                return daemon, found
            outcomes.append(f"{daemon.title} has none of that name or id")
    sentence = f"no container {reference} was found: {'; '.join(outcomes)}"
    if failure:
        raise Unsupported(sentence, object=reference, hint=failure.hint) from failure
    raise NotFound(sentence, object=reference, hint="`pid:N` and a namespace's path are targets, too")


def _target(kind: str, reference: str, name: str, path: str, pid: int = 0, socket: str = "") -> Target:
    """Look at a namespace; raise InvalidRequest when it is the host's own."""
    started = _started(pid) if pid else 0
    descriptor = namespaces.open_namespace(path)
    try:
        identity = namespaces.identify(descriptor)
    finally:
        os.close(descriptor)
    if pid and _started(pid) != started:
        raise NotFound(f"process {pid} has just ended", object=name)
    if namespaces.is_own(identity.inode):
        hint = "attach is for containers; for the host's own interfaces there is `dnet network adopt`"
        raise InvalidRequest(f"{_describe(kind, name)} is in the host's own network", object=name, hint=hint)
    return Target(
        kind=kind,
        reference=reference,
        socket=socket,
        name=name,
        path=path,
        pid=pid,
        started=started,
        inode=identity.inode,
        cookie=identity.cookie,
    )


# Looking


def _is_same(target: Target) -> bool:
    """Whether the target's process, or path, still leads to the same namespace."""
    if target.kind != PATH and (not target.pid or _started(target.pid) != target.started):
        return False
    try:
        with opened(target):
            return True
    except (NotFound, InvalidRequest):
        return False


def _started(pid: int) -> int:
    """Return the start time of a process, 0 when there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The second field is a name in parentheses, which may hold anything.
            return int(file.read().rpartition(b")")[2].split()[START_FIELD - 3])
    except OSError:
        return 0


def _is_elsewhere(path: str, sandbox: str) -> bool:
    """Whether the namespace at `sandbox` can be opened, and the one at `path` is another."""
    inodes = []
    for one in (sandbox, path):
        try:
            descriptor = namespaces.open_namespace(one)
        except (NotFound, InvalidRequest):
            inodes.append(0)
        else:
            inodes.append(os.fstat(descriptor).st_ino)
            os.close(descriptor)
    return bool(inodes[0]) and inodes[0] != inodes[1]


def _describe(kind: str, name: str) -> str:
    titles = {PATH: "namespace", PID: "process"} | {key: f"{title} container" for key, title in docker.TITLES.items()}
    return f"{titles[kind]} {name}"


def _unreadable(text: str, why: str) -> InvalidRequest:
    hint = "write a container's name or id (docker: or podman: may go first), pid:N, or a namespace's absolute path"
    return InvalidRequest(f"invalid target {text!r}: {why}", object=text, hint=hint)
