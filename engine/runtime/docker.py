"""Client of Docker's API, which Podman speaks, too: look up a container, listen to events."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from dnet.errors import AS_ROOT, DnetError, InvalidRequest, NeedsRoot, Unsupported
from dnet.model.values import Value, frozen, replace

if TYPE_CHECKING:
    import socket
    from http.client import HTTPResponse

TIMEOUT_S = 5.0
TITLES = {"docker": "Docker", "podman": "Podman"}
# Programs to ask where there is no socket.
PROGRAMS = {"podman": "podman"}
DOCKER_SOCKET = "/var/run/docker.sock"
PODMAN_SOCKET = "/run/podman/podman.sock"
ANSWER_BYTES_MAX = 1 << 24
READ_BYTES = 1 << 16
# Names and ids, by the rules of both. They need no quoting in a URL.
REFERENCE_PATTERN = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")
OK, NO_SUCH = 200, 404
# What Podman's program says when it has no such container.
UNKNOWN_WORDS = ("no such container", "no such object", "no container with name or id")
# Events by Docker's names and by Podman's, and ours for them.
ACTIONS = {"start": "start", "die": "die", "died": "die", "destroy": "destroy", "remove": "destroy"}
# The filters are quoted JSON: {"type": ["container"], "event": [...]}.
EVENTS_PATH = (
    "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%2C%22event%22%3A%5B"
    + "%2C".join(f"%22{action}%22" for action in ACTIONS)
    + "%5D%7D"
)


class DaemonNotFound(Unsupported):
    """Docker, or Podman, is not on this host."""


@frozen
class Daemon(Value):
    """Docker or Podman on this host. `obstacle`, when set, says why it cannot be asked; `program` may be asked, too."""

    kind: str
    title: str
    socket: str
    program: str = ""
    obstacle: str = ""


@frozen
class InspectedContainer(Value):
    """A container as its daemon describes it. When it does not run, `pid` is 0 and `sandbox` may be empty."""

    id: str
    name: str
    is_running: bool
    pid: int
    sandbox: str


@frozen
class Event(Value):
    """An event of a container; `action` is `start`, `die` or `destroy`."""

    action: str
    id: str
    name: str


def daemons() -> tuple[Daemon, ...]:
    """Return Docker and Podman, where DOCKER_HOST and CONTAINER_HOST say that they are."""
    return (_here("docker", "DOCKER_HOST", DOCKER_SOCKET), _here("podman", "CONTAINER_HOST", PODMAN_SOCKET))


def daemon_at(kind: str, socket: str) -> Daemon:
    """Return the daemon of a kind (`docker`, `podman`) that listens at a socket."""
    return Daemon(kind, TITLES[kind], socket, PROGRAMS.get(kind, ""))


def inspect(daemon: Daemon, reference: str) -> InspectedContainer | None:
    """Return the container of a name, an id or the unique beginning of an id; None when there is none.

    Raises DaemonNotFound when the daemon is not on this host, Unsupported when it does not answer properly within
    TIMEOUT_S, NeedsRoot when the caller may not ask, InvalidRequest when several containers match.
    """
    if not REFERENCE_PATTERN.match(reference):
        return None
    try:
        status, body = _get(daemon, f"/containers/{reference}/json")
    except DaemonNotFound:
        if not daemon.program or daemon.obstacle:
            raise
        return _inspect_by_program(daemon, reference)
    if status == OK:
        return _decode(daemon, _document(daemon, body))
    message = _document(daemon, body).get("message")
    if not isinstance(message, str):
        raise _garbled(daemon)
    if status == NO_SUCH:
        return None
    raise _refusal(daemon, reference, message)


class Events:
    """The events of a daemon's containers from now on; to be polled together with other descriptors."""

    def __init__(self, daemon: Daemon) -> None:
        """Begin to listen; raises what `inspect` raises."""
        self._daemon = daemon
        self._socket, self._response = _ask(daemon, EVENTS_PATH)
        self.is_open = True
        try:
            # Without any header the connection has ended where they should begin.
            if self._response.status != OK or not self._response.headers:
                raise _garbled(daemon)
            self._socket.setblocking(False)
            with _translating(daemon):
                self._data = self._response.fp.peek()  # what came together with the headers
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor, which is readable when there are events or the daemon has gone."""
        return self._socket.fileno()

    def read(self) -> list[Event]:
        """Return the events since the last call, without waiting. At the end of the stream `is_open` becomes false."""
        with suppress(BlockingIOError):
            try:
                while received := self._socket.recv(READ_BYTES):
                    self._data += received
            except ConnectionError:
                pass
            self.is_open = False
        *lines, self._data = self._data.split(b"\n")
        if len(self._data) > ANSWER_BYTES_MAX:
            raise _garbled(self._daemon)
        events = [self._event(line) for line in lines if line.strip()]
        return [event for event in events if event.action]

    def _event(self, line: bytes) -> Event:
        document = _document(self._daemon, line)
        try:
            actor = document["Actor"]
            action = ACTIONS.get(document["Action"], "")
            return Event(action, str(actor["ID"]), str(actor["Attributes"]["name"]))
        except (KeyError, TypeError) as error:
            raise _garbled(self._daemon) from error

    def close(self) -> None:
        """Stop listening."""
        self.is_open = False
        self._response.close()
        self._socket.close()


# Asking


def _here(kind: str, variable: str, default: str) -> Daemon:
    value = os.environ.get(variable, "")
    path = value.removeprefix("unix://") if value else default
    if path.startswith("/"):
        return daemon_at(kind, path)
    obstacle = f"{variable} is {value}, and only a runtime of this host can be asked"
    return replace(daemon_at(kind, ""), obstacle=obstacle)


@contextmanager
def _translating(daemon: Daemon) -> Iterator[None]:
    from http.client import HTTPException

    try:
        yield
    except HTTPException as error:
        raise _garbled(daemon) from error
    except OSError as error:
        raise _failure(daemon, error) from error


def _ask(daemon: Daemon, path: str) -> tuple[socket.socket, HTTPResponse]:
    """Return an open connection, and the response to a request sent over it."""
    if daemon.obstacle:
        raise DaemonNotFound(f"{daemon.title} cannot be asked: {daemon.obstacle}", object=daemon.title)
    from dnet.runtime import unix_http

    with _translating(daemon):
        return unix_http.get(daemon.socket, path, TIMEOUT_S)


def _get(daemon: Daemon, path: str) -> tuple[int, bytes]:
    connection, response = _ask(daemon, path)
    with _translating(daemon), connection, response:
        body = response.read(ANSWER_BYTES_MAX + 1)
    if len(body) > ANSWER_BYTES_MAX:
        raise _garbled(daemon)
    return response.status, body


# Reading


def _document(daemon: Daemon, body: bytes | str) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise _garbled(daemon) from error
    if not isinstance(document, dict):
        raise _garbled(daemon)
    return document


def _decode(daemon: Daemon, document: dict[str, Any]) -> InspectedContainer:
    try:
        state, settings = document["State"], document.get("NetworkSettings") or {}
        return InspectedContainer(
            id=_checked(document["Id"], str),
            name=_checked(document["Name"], str).lstrip("/"),
            is_running=_checked(state["Running"], bool),
            pid=_checked(state["Pid"], int),
            sandbox=_checked(settings.get("SandboxKey") or "", str),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _garbled(daemon) from error


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(value)
    return value


def _inspect_by_program(daemon: Daemon, reference: str) -> InspectedContainer | None:
    import subprocess

    command = [daemon.program, "inspect", "--type", "container", "--", reference]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except FileNotFoundError as error:
        nowhere = f"neither a socket {daemon.socket} nor a program {daemon.program}"
        raise DaemonNotFound(f"{daemon.title} is not on this host: {nowhere}", object=daemon.title) from error
    except subprocess.TimeoutExpired as error:
        raise Unsupported(f"`{' '.join(command)}` did not end within {TIMEOUT_S:g} s", object=daemon.title) from error
    if done.returncode == 0:
        try:
            (document,) = json.loads(done.stdout)
        except (ValueError, TypeError) as error:
            raise _garbled(daemon) from error
        return _decode(daemon, document)
    message = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    if any(words in message.lower() for words in UNKNOWN_WORDS):
        return None
    raise _refusal(daemon, reference, message)


# Errors


def _refusal(daemon: Daemon, reference: str, message: str) -> DnetError:
    if "multiple ids" in message.lower() or "more than one" in message.lower():
        return InvalidRequest(
            f"several {daemon.title} containers have an id that begins with {reference}",
            object=reference,
            hint="write more of the id, or the name",
        )
    return Unsupported(f"{daemon.title} does not say what {reference} is: {message}", object=reference)


def _failure(daemon: Daemon, error: OSError) -> DnetError:
    what = f"ask {daemon.title} at {daemon.socket}"
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return DaemonNotFound(f"{daemon.title} is not on this host: no socket {daemon.socket}", object=daemon.title)
        case TimeoutError() | BlockingIOError():
            return _silent(daemon)
        case PermissionError():
            return NeedsRoot(f"cannot {what}: {error.strerror}", object=daemon.socket, hint=AS_ROOT)
        case ConnectionRefusedError():
            hint = f"is the service running? The socket {daemon.socket} is left from one that has ended"
            return Unsupported(f"cannot {what}: nobody listens there", object=daemon.socket, hint=hint)
        case _:
            return Unsupported(f"cannot {what}: {error.strerror or error}", object=daemon.socket)


def _silent(daemon: Daemon) -> Unsupported:
    return Unsupported(
        f"{daemon.title} at {daemon.socket} did not answer within {TIMEOUT_S:g} s",
        object=daemon.socket,
        hint="is the service well? `pid:N` and a namespace's path do without it",
    )


def _garbled(daemon: Daemon) -> Unsupported:
    address = daemon.socket or daemon.program
    return Unsupported(
        f"what answers at {address} is not {daemon.title}",
        object=address,
        hint="`pid:N` and a namespace's path do without it",
    )
