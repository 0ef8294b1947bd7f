"""Questions to Docker and Podman, asked of stand-ins that behave badly; test_targets_docker.py has a real one."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dnet.errors import InvalidRequest, NeedsRoot, Unsupported
from dnet.runtime import docker
from dnet.runtime.docker import Daemon, DaemonNotFound, Event, Events, InspectedContainer, daemons, inspect

FULL_ID = "4f2a9c0e1b7d" + "0" * 52
DOCUMENT = {
    "Id": FULL_ID,
    "Name": "/web",
    "State": {"Running": True, "Pid": 4711},
    "NetworkSettings": {"SandboxKey": "/var/run/docker/netns/abc"},
}
FOUND = InspectedContainer(FULL_ID, "web", True, 4711, "/var/run/docker/netns/abc")
TIMEOUT_S = 0.2


def answer(body: object, status: str = "200 OK") -> bytes:
    """Return an answer as Docker gives it to HTTP/1.0."""
    text = body if isinstance(body, str) else json.dumps(body)
    return f"HTTP/1.0 {status}\r\nContent-Type: application/json\r\nServer: Docker\r\n\r\n{text}\n".encode()


def without(*keys: str, **more: object) -> dict:
    """Return the document with some keys left out, or other values."""
    return {key: value for key, value in (DOCUMENT | more).items() if key not in keys}


@contextlib.contextmanager
def serving(path: Path, serve: Callable[[socket.socket], None]) -> Iterator[Daemon]:
    """Serve connections at a socket, one after the other, and yield the daemon that is to be asked there."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def loop() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(4096)
                        serve(connection)

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        yield Daemon("docker", "Docker", str(path))
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.fixture
def quick(monkeypatch) -> None:
    """Wait less for answers."""
    monkeypatch.setattr(docker, "TIMEOUT_S", TIMEOUT_S)


def test_question_and_answer(tmp_path):
    """What is asked is one GET of HTTP/1.0 for the container, and what comes back is what is needed of it."""
    asked = []

    def loop(listener):
        connection, _ = listener.accept()
        with connection:
            asked.append(connection.recv(4096))
            connection.sendall(answer(DOCUMENT))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen()
        thread = threading.Thread(target=loop, args=(listener,))
        thread.start()
        assert inspect(Daemon("docker", "Docker", str(tmp_path / "sock")), "web") == FOUND
        thread.join()
    assert asked == [b"GET /containers/web/json HTTP/1.0\r\nHost: localhost\r\n\r\n"]


@pytest.mark.parametrize("size", [1, 7])
def test_answer_in_pieces(tmp_path, size):
    """An answer may come in however small pieces."""

    def serve(connection):
        data = answer(DOCUMENT)
        for start in range(0, len(data), size):
            connection.sendall(data[start : start + size])

    with serving(tmp_path / "sock", serve) as daemon:
        assert inspect(daemon, "web") == FOUND


@pytest.mark.parametrize(
    ("document", "found"),
    [
        (without("NetworkSettings"), InspectedContainer(FULL_ID, "web", True, 4711, "")),
        (without(NetworkSettings=None), InspectedContainer(FULL_ID, "web", True, 4711, "")),
        (without(Name="web"), InspectedContainer(FULL_ID, "web", True, 4711, "/var/run/docker/netns/abc")),
        (
            without(State={"Running": False, "Pid": 0}),
            InspectedContainer(FULL_ID, "web", False, 0, "/var/run/docker/netns/abc"),
        ),
    ],
)
def test_documents(tmp_path, document, found):
    """Containers that do not run, Podman's names without a slash, and hosts without sandboxes are described as well."""
    with serving(tmp_path / "sock", lambda connection: connection.sendall(answer(document))) as daemon:
        assert inspect(daemon, "web") == found


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"\n",
        b"220 mail.example ESMTP\r\n",
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.0 2OO OK\r\n\r\n{}",
        b"HTTP/2 200\r\n\r\n{}",
        answer(""),
        answer("<html>"),
        answer("[]"),
        answer("null"),
        answer("{}"),
        answer(DOCUMENT)[:-40],
        answer(without("Id")),
        answer(without("State")),
        answer(without(State=[])),
        answer(without(State={"Running": "yes", "Pid": 4711})),
        answer(without(State={"Running": True, "Pid": "4711"})),
        answer(without(Name=None)),
        answer(without(NetworkSettings=["x"])),
        answer("not found", "404 Not InspectedContainer"),
        answer({}, "404 Not InspectedContainer"),
        answer({"message": 5}, "500 Internal Server Error"),
        b"HTTP/1.0 200 OK\r\n\r\n\xff\xfe",
    ],
)
def test_garbage(tmp_path, reply):
    """Whatever else answers at the socket is said not to be Docker; the hint is how to do without."""
    with serving(tmp_path / "sock", lambda connection: connection.sendall(reply)) as daemon:
        with pytest.raises(Unsupported, match=r"what answers at .*/sock is not Docker") as caught:
            inspect(daemon, "web")
        assert "pid:N" in caught.value.hint


@pytest.mark.parametrize(
    "reply", [b"", b"220 mail.example ESMTP\r\n\r\n", b"HTTP/1.0 200 OK\r\n", answer("", "404 No")]
)
def test_no_stream(tmp_path, reply):
    """What does not begin as a stream of events is not listened to."""
    server = serving(tmp_path / "sock", lambda connection: connection.sendall(reply))
    with server as daemon, pytest.raises(Unsupported, match="is not Docker"):
        Events(daemon)


def test_endless_answer(tmp_path, monkeypatch):
    """An answer without an end is not read without an end."""
    monkeypatch.setattr(docker, "ANSWER_BYTES_MAX", 1 << 20)

    def serve(connection):
        with contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
            while True:
                connection.sendall(b"x" * 65536)

    with serving(tmp_path / "sock", serve) as daemon, pytest.raises(Unsupported, match="is not Docker"):
        inspect(daemon, "web")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("ask", [lambda daemon: inspect(daemon, "web"), Events], ids=["inspect", "events"])
def test_silence(tmp_path, ask):
    """A socket at which somebody listens and never answers is given up on; the error names it and the time."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        listener.listen()
        with pytest.raises(Unsupported, match=r"Docker at .*/sock did not answer within 0\.2 s") as caught:
            ask(Daemon("docker", "Docker", str(tmp_path / "sock")))
    assert caught.value.object == str(tmp_path / "sock")
    assert caught.value.hint


@pytest.mark.usefixtures("quick")
def test_full_queue(tmp_path):
    """A socket whose queue of connections is full, since nobody accepts them, does not answer either."""
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
        listener.bind(str(tmp_path / "sock"))
        listener.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(str(tmp_path / "sock"))
        with pytest.raises(Unsupported, match="did not answer"):
            inspect(Daemon("docker", "Docker", str(tmp_path / "sock")), "web")


@pytest.mark.usefixtures("quick")
def test_dripping(tmp_path):
    """A byte now and then does not prolong the time that an answer has."""
    stop = threading.Event()

    def serve(connection):
        with contextlib.suppress(OSError):
            while not stop.wait(TIMEOUT_S / 10):
                connection.sendall(b"x")

    with serving(tmp_path / "sock", serve) as daemon:
        began = time.monotonic()
        with pytest.raises(Unsupported, match="did not answer within"):
            inspect(daemon, "web")
        stop.set()
    assert time.monotonic() - began < TIMEOUT_S * 20


def test_nobody_there(tmp_path):
    """No socket means no Docker; one that nobody listens at means that it has ended; a long path is an error, too."""
    daemon = Daemon("docker", "Docker", str(tmp_path / "sock"))
    with pytest.raises(DaemonNotFound, match=r"Docker is not on this host: no socket .*/sock"):
        inspect(daemon, "web")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
    with pytest.raises(Unsupported, match="nobody listens there") as caught:
        inspect(daemon, "web")
    assert not isinstance(caught.value, DaemonNotFound)
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / ("x" * 200)):
        with pytest.raises(Unsupported, match="cannot ask Docker at"):
            inspect(Daemon("docker", "Docker", str(path)), "web")


def test_forbidden(tmp_path):
    """A socket that this user may not reach needs root."""
    with serving(tmp_path / "sock", lambda _: None) as daemon:
        tmp_path.chmod(0)
        try:
            with as_nobody(), pytest.raises(NeedsRoot, match=r"cannot ask Docker at .*/sock: Permission denied"):
                inspect(daemon, "web")
        finally:
            tmp_path.chmod(0o755)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Do without root's privileges for a while, where there are any."""
    before = os.geteuid()
    if not before:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.mark.parametrize(
    ("status", "message", "outcome"),
    [
        ("404 Not InspectedContainer", "No such container: web", None),
        ("500 Internal Server Error", "Multiple IDs found with provided prefix: 4", InvalidRequest),
        ("400 Bad Request", "multiple IDs found with provided prefix: 4", InvalidRequest),
        ("500 Internal Server Error", "more than one result for container name or ID 4", InvalidRequest),
        ("500 Internal Server Error", "disk on fire", Unsupported),
        ("403 Forbidden", "authorization denied by plugin", Unsupported),
    ],
)
def test_refusals(tmp_path, status, message, outcome):
    """Docker's refusals are understood, or passed on in its words."""
    reply = answer({"message": message}, status)
    with serving(tmp_path / "sock", lambda connection: connection.sendall(reply)) as daemon:
        if outcome is None:
            assert inspect(daemon, "web") is None
        elif outcome is InvalidRequest:
            with pytest.raises(InvalidRequest, match="several Docker containers"):
                inspect(daemon, "4")
        else:
            with pytest.raises(Unsupported, match=message):
                inspect(daemon, "web")


@pytest.mark.parametrize("reference", ["", "../../etc", "web/json?x=", "web web", "web\r\nX: y", "-web", "wéb"])
def test_references_that_nobody_has(tmp_path, reference):
    """What cannot be a container's name is not sent anywhere."""
    assert inspect(Daemon("docker", "Docker", str(tmp_path / "absent")), reference) is None


def test_where_daemons_are(monkeypatch):
    """DOCKER_HOST and CONTAINER_HOST say where to ask, if that is on this host."""
    for name in ("DOCKER_HOST", "CONTAINER_HOST"):
        monkeypatch.delenv(name, raising=False)
    assert [(one.kind, one.socket, one.obstacle) for one in daemons()] == [
        ("docker", "/var/run/docker.sock", ""),
        ("podman", "/run/podman/podman.sock", ""),
    ]
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/other.sock")
    monkeypatch.setenv("CONTAINER_HOST", "")
    assert [one.socket for one in daemons()] == ["/run/other.sock", "/run/podman/podman.sock"]
    for value in ("tcp://192.0.2.1:2375", "ssh://root@elsewhere", "unix://relative", "npipe:////./pipe/docker_engine"):
        monkeypatch.setenv("DOCKER_HOST", value)
        with pytest.raises(DaemonNotFound, match="Docker cannot be asked: DOCKER_HOST is "):
            inspect(daemons()[0], "web")


# Podman's program


@pytest.fixture
def podman(tmp_path, monkeypatch) -> Callable[[str], Daemon]:
    """Return a function that makes a stand-in for podman and returns the daemon that finds it."""

    def make(script: str) -> Daemon:
        program = tmp_path / "podman"
        program.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n{script}\n', encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        return Daemon("podman", "Podman", str(tmp_path / "absent"), "podman")

    return make


def test_podmans_program(podman, tmp_path):
    """Without Podman's socket its program is asked, which tells the same in a list."""
    (tmp_path / "document").write_text(json.dumps([without(Name="web")]), encoding="utf-8")
    assert inspect(podman(f"cat {tmp_path}/document"), "web") == FOUND
    assert (tmp_path / "asked").read_text(encoding="utf-8") == "inspect --type container -- web\n"


def test_podmans_program_knows_none(podman):
    """Podman's words for a container that it does not have are understood."""
    daemon = podman('echo "[]"; echo \'Error: no such container "web"\' >&2; exit 125')
    assert inspect(daemon, "web") is None


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (
            "echo 'Error: database is locked' >&2; exit 125",
            "Podman does not say what web is: Error: database is locked",
        ),
        ("echo 'podman: libsubid.so.4: No such file or directory' >&2; exit 127", "No such file or directory"),
        ("exit 3", "exit status 3"),
        ("echo '[]'", "not Podman"),
        ("echo '{}'", "not Podman"),
        ("echo 5", "not Podman"),
        ("echo '[5]'", "not Podman"),
        ("true", "not Podman"),
    ],
)
def test_podmans_program_fails(podman, script, why):
    """What the program says instead is passed on, and what is no answer is no answer."""
    with pytest.raises(Unsupported, match=why):
        inspect(podman(script), "web")


@pytest.mark.usefixtures("quick")
def test_podmans_program_hangs(podman):
    """A program that does not end is ended."""
    with pytest.raises(Unsupported, match=r"did not end within 0\.2 s"):
        inspect(podman("exec sleep 60"), "web")


def test_no_podman(tmp_path, monkeypatch):
    """Without socket and program there is no Podman; both are named."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DaemonNotFound, match=r"neither a socket .*/absent nor a program podman"):
        inspect(Daemon("podman", "Podman", str(tmp_path / "absent"), "podman"), "web")


# Events


def event_line(action: str, name: str) -> bytes:
    """Return an event as Docker writes it."""
    actor = {"ID": FULL_ID, "Attributes": {"image": "busybox", "name": name}}
    return json.dumps({"Type": "container", "Action": action, "Actor": actor}).encode() + b"\n"


def test_events_in_pieces(tmp_path):
    """Events may come with the head, together, in pieces or after a while; at the end the stream is closed."""
    steps = [threading.Event() for _ in range(3)]

    def serve(connection):
        connection.sendall(answer("")[:-1] + event_line("start", "one") + event_line("die", "one")[:20])
        steps[0].wait(10)
        connection.sendall(event_line("die", "one")[20:])
        steps[1].wait(10)
        connection.sendall(b"\n" + event_line("destroy", "one"))
        steps[2].wait(10)

    def read(events):
        assert select.select([events], [], [], 10)[0]
        return events.read()

    with serving(tmp_path / "sock", serve) as daemon, contextlib.closing(Events(daemon)) as events:
        assert events.read() == [Event("start", FULL_ID, "one")]
        assert events.read() == []
        for step, action in zip(steps, ("die", "destroy"), strict=False):
            step.set()
            assert read(events) == [Event(action, FULL_ID, "one")]
            assert events.is_open
        steps[2].set()
        assert read(events) == []
        assert not events.is_open


def test_podmans_events(tmp_path):
    """Podman has other words for some events; what nobody asked for is left out."""
    data = answer("") + b"".join(event_line(action, "one") for action in ("start", "died", "pause", "remove"))
    with serving(tmp_path / "sock", lambda connection: connection.sendall(data)) as daemon:
        events, heard = Events(daemon), []
        while events.is_open:
            select.select([events], [], [], 10)
            heard += [event.action for event in events.read()]
        events.close()
    assert heard == ["start", "die", "destroy"]


@pytest.mark.parametrize("line", [b"nonsense", b"[]", b"{}", b'{"Action": "start", "Actor": []}'])
def test_broken_events(tmp_path, line):
    """A line that is not an event is not Docker's."""
    data = answer("") + line + b"\n"
    with serving(tmp_path / "sock", lambda connection: connection.sendall(data)) as daemon:
        events = Events(daemon)
        with pytest.raises(Unsupported, match="is not Docker"), contextlib.closing(events):
            while events.is_open:
                select.select([events], [], [], 10)
                events.read()
