"""The messages to and from a database server, and what may be said of where it is; without a server."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from dnet.errors import InvalidRequest, OvsError, Unsupported
from dnet.openvswitch import ovsdb
from dnet.openvswitch import remote as remote_module
from dnet.openvswitch.ovsdb import ConnectionLost, Ovsdb, Refusal, SwitchAbsent
from dnet.openvswitch.remote import Remote, remote

UPDATE = {"Open_vSwitch": {"u": {"new": {"cur_cfg": 5}}}}


class Stream:
    """A stream as those of ovs.stream, upon a socket pair."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        sock.setblocking(False)

    def send(self, data: bytes) -> int:
        try:
            return self.socket.send(data[:7000])
        except OSError as error:
            return -error.errno

    def recv(self, size: int) -> tuple[int, bytes]:
        try:
            return 0, self.socket.recv(size)
        except OSError as error:
            return error.errno, b""

    def close(self) -> None:
        self.socket.close()


class Server:
    """Answers the requests of one connection after another by a function of method and parameters.

    What that returns is sent: messages, or bytes as they are; None closes the connection.
    """

    def __init__(self, answer: Callable[[str, Any, int], Any]) -> None:
        self._answer = answer
        self.requests: list[dict[str, Any]] = []

    def open_stream(self, _: Any = None, __: float = 0) -> Stream:
        """Return the client's end of a new connection."""
        ours, theirs = socket.socketpair()
        threading.Thread(target=self._run, args=(ours,), daemon=True).start()
        return Stream(theirs)

    def _run(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(ConnectionError):
            self._serve(sock)

    def _serve(self, sock: socket.socket) -> None:
        decoder, text = json.JSONDecoder(), ""
        while data := sock.recv(1 << 16):
            text += data.decode()
            while text:
                try:
                    request, at = decoder.raw_decode(text)
                except ValueError:
                    break
                text = text[at:]
                self.requests.append(request)
                if "method" not in request:
                    continue
                answers = self._answer(request["method"], request["params"], request["id"])
                if answers is None:
                    return
                for part in answers:
                    sock.sendall(part if isinstance(part, bytes) else json.dumps(part).encode())


def connected(monkeypatch: pytest.MonkeyPatch, answer: Callable[[str, Any, int], Any]) -> tuple[Ovsdb, Server]:
    """Return a database whose server answers so; what it is asked to monitor is answered here."""

    def with_monitor(method: str, parameters: Any, number: int) -> Any:
        if method == "monitor":
            return [{"id": number, "result": UPDATE, "error": None}]
        return answer(method, parameters, number)

    server = Server(with_monitor)
    monkeypatch.setattr(Ovsdb, "_open_stream", server.open_stream)
    return Ovsdb(Remote("unix:/run/test.sock")), server


def rows(number: int, *found: Any) -> dict[str, Any]:
    """Return an answer with the rows that a select found."""
    return {"id": number, "result": [{"rows": list(found)}], "error": None}


# Where


@pytest.mark.parametrize(
    "address", ["unix:/run/x/db.sock", "tcp:127.0.0.1:6640", "tcp:[::1]:6640", "tcp:host.example:1"]
)
def test_addresses(address):
    """Sockets and hosts are ways to a database."""
    assert remote(address) == Remote(address)


@pytest.mark.parametrize(
    "address",
    [
        "db.sock",
        "unix:db.sock",
        "unix:",
        "tcp:6640",
        "tcp::6640",
        "tcp:host",
        "tcp:host:0",
        "tcp:host:65536",
        "udp:a:1",
    ],
)
def test_bad_addresses(address):
    """What is no way to a database is refused before anything is tried."""
    with pytest.raises(InvalidRequest) as caught:
        remote(address)
    assert caught.value.object == address


def test_ssl_needs_three_files(tmp_path):
    """With ssl a file that is missing is named, and without ssl there is no use for any."""
    path = tmp_path / "key.pem"
    path.write_text("key")
    with pytest.raises(InvalidRequest, match="the private key is missing"):
        remote("ssl:127.0.0.1:6640")
    with pytest.raises(InvalidRequest, match="there is no file '/absent'"):
        remote("ssl:127.0.0.1:6640", str(path), "/absent", str(path))
    with pytest.raises(InvalidRequest, match="of use with ssl only"):
        remote("tcp:127.0.0.1:6640", str(path))
    assert remote("ssl:127.0.0.1:6640", *[str(path)] * 3).certificate == str(path)


def test_default_address(monkeypatch, tmp_path):
    """Nothing said means the socket in OVS_RUNDIR, or else that of /run or /var/run, whichever exists."""
    monkeypatch.setenv("OVS_RUNDIR", "/run/mine")
    assert remote().address == "unix:/run/mine/db.sock"
    monkeypatch.delenv("OVS_RUNDIR")
    first, second = tmp_path / "run.sock", tmp_path / "var.sock"
    monkeypatch.setattr(remote_module, "SOCKETS", (str(first), str(second)))
    assert remote().address == f"unix:{first}"
    second.touch()
    assert remote().address == f"unix:{second}"


def test_missing_package(monkeypatch):
    """Where the Python package is nowhere, the sentence says which one to install."""
    monkeypatch.setitem(sys.modules, "ovs", None)
    monkeypatch.setattr(ovsdb, "DISTRIBUTION_PATHS", ("/absent/ovs",))
    with pytest.raises(Unsupported) as caught:
        Ovsdb(Remote("unix:/run/test.sock")).read([], "look")
    assert "python3-openvswitch" in caught.value.hint


# Messages


@pytest.mark.parametrize("size", [1, 2, 3, 1000, 1 << 20])
def test_answers_in_pieces(monkeypatch, size):
    """An answer may come in pieces of any size, which may part a letter, and hold braces and brackets."""
    row = {"name": 'ü}{]["\\"', "trunks": ["set", list(range(50 if size < 100 else 5000))]}

    def answer(_method: str, _parameters: Any, number: int) -> Any:
        data = json.dumps(rows(number, row), ensure_ascii=False).encode()
        return [data[at : at + size] for at in range(0, len(data), size)]

    database, _ = connected(monkeypatch, answer)
    assert database.read([], "look") == [{"rows": [row]}]


def test_other_messages_in_between(monkeypatch):
    """Updates, questions whether we are there and others' answers come in between, in the same piece or not."""

    def answer(_method: str, _parameters: Any, number: int) -> Any:
        update = {
            "id": None,
            "method": "update",
            "params": ["cur_cfg", {"Open_vSwitch": {"u": {"new": {"cur_cfg": 9}}}}],
        }
        locked = {"id": None, "method": "locked", "params": ["x"]}
        messages = [
            update,
            {"id": "echo", "method": "echo", "params": [7]},
            locked,
            {"id": 77, "result": 1, "error": None},
        ]
        return [b"".join(json.dumps(item).encode() for item in messages), rows(number, {"a": 1})]

    database, server = connected(monkeypatch, answer)
    assert database.read([], "look") == [{"rows": [{"a": 1}]}]
    assert database._current == 9
    database.read([], "look")
    assert {"result": [7], "error": None, "id": "echo"} in server.requests


def test_long_requests(monkeypatch):
    """A request that is longer than the socket's buffer is sent whole."""
    database, server = connected(monkeypatch, lambda _method, parameters, number: [rows(number, len(parameters))])
    operations = [{"op": "comment", "comment": "x" * 1000} for _ in range(2000)]
    assert database.read(operations, "look") == [{"rows": [2001]}]
    assert server.requests[-1]["params"][1:] == operations


def test_refusals(monkeypatch):
    """A refused operation is told with its position, what is refused in the end without one, in the server's words."""
    at = 1

    def answer(_method: str, _parameters: Any, number: int) -> Any:
        error = {"error": "constraint violation", "details": "5000 is too much"}
        results = [{"count": 1}, {"count": 1}, None]
        results[at] = error
        return [{"id": number, "result": results, "error": None}]

    database, _ = connected(monkeypatch, answer)
    with pytest.raises(Refusal) as caught:
        database.transact([{}, {}], "create port v1")
    assert str(caught.value) == "cannot create port v1: constraint violation: 5000 is too much"
    assert (caught.value.position, caught.value.kind) == (1, "constraint violation")
    at = 2
    with pytest.raises(Refusal) as caught:
        database.transact([{}, {}], "create port v1")
    assert caught.value.position is None


def test_refused_method(monkeypatch):
    """What the server says against a method itself is told."""
    answer = {"error": {"error": "unknown database", "details": "no such database"}}
    database, _ = connected(monkeypatch, lambda _method, _parameters, number: [answer | {"id": number}])
    with pytest.raises(OvsError, match="refuses transact: no such database"):
        database.read([], "look")


def test_nonsense(monkeypatch):
    """What answers, but is no database server, is told at once."""
    database, _ = connected(monkeypatch, lambda *_: [b"HTTP/1.1 400 Bad Request {}"])
    with pytest.raises(OvsError, match="what answers there is no database server"):
        database.read([], "look")


def test_reading_again(monkeypatch):
    """A reading transaction whose answer is lost is run again; another is not, and ConnectionLost says so."""
    answers = [None, True, None, None]

    def answer(_method: str, _parameters: Any, number: int) -> Any:
        return [rows(number, "x")] if answers.pop(0) else None

    database, server = connected(monkeypatch, answer)
    assert database.read([], "look") == [{"rows": ["x"]}]
    with pytest.raises(ConnectionLost, match=r"lost the connection to Open vSwitch's database at unix:/run/test\.sock"):
        database.transact([], "look")
    assert [item["method"] for item in server.requests] == ["monitor", "transact"] * 2 + ["transact"]


def test_interrupted(monkeypatch):
    """An interrupt that may have torn a message drops the connection, and the next call makes another."""

    def answer(_method: str, _parameters: Any, number: int) -> Any:
        return [json.dumps(rows(number, "x")).encode()[:10]] if number < 2 else [rows(number, "y")]

    database, _ = connected(monkeypatch, answer)
    poll = database._receive
    calls = 0

    def interrupted(deadline: float) -> bool:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return poll(deadline)

    monkeypatch.setattr(database, "_receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        database.read([], "look")
    assert database._stream is None
    assert database.read([], "look") == [{"rows": ["y"]}]


# Taking over


def change(monkeypatch, after: list[Any], number: int = 6, *, is_locked: bool = True) -> None:
    """Change something, which is taken over under a number after some messages; the first number is 5."""

    def answer(method: str, _parameters: Any, call: int) -> Any:
        if method == "transact":
            results = [{"count": 1}, {"rows": [{"next_cfg": number}]}]
            return [{"id": call, "result": results, "error": None}, *after]
        return [{"id": call, "result": {"locked": not is_locked} if method == "lock" else {}, "error": None}]

    monkeypatch.setattr(ovsdb, "PATIENCE_S", 0.01)
    monkeypatch.setattr(ovsdb, "SWITCH_S", 0.1)
    database, _ = connected(monkeypatch, answer)
    database.change([], "create port v1")


def taken(number: int) -> dict[str, Any]:
    """Return the message that ovs-vswitchd has taken over a configuration."""
    return {
        "id": None,
        "method": "update",
        "params": ["cur_cfg", {"Open_vSwitch": {"u": {"new": {"cur_cfg": number}}}}],
    }


def test_change_waits(monkeypatch):
    """A change returns when its number, or one above it, has been taken over, also if that was before."""
    change(monkeypatch, [taken(6)])
    change(monkeypatch, [taken(8)])
    change(monkeypatch, [], 5)


def test_change_without_a_switch(monkeypatch):
    """When nobody holds the lock of ovs-vswitchd, it is not running, and nothing is waited for."""
    with pytest.raises(SwitchAbsent, match=r"cannot create port v1: ovs-vswitchd, which .*, is not running"):
        change(monkeypatch, [], is_locked=False)


def test_change_that_takes_too_long(monkeypatch):
    """An ovs-vswitchd that runs, but does not take over a change, is given up."""
    with pytest.raises(OvsError, match="ovs-vswitchd has not done it within"):
        change(monkeypatch, [taken(5)])


def test_long_path_of_a_socket():
    """The path of a socket that no address can hold is refused; the ovs package would try without end."""
    assert remote("unix:/" + "a" * 106).address
    with pytest.raises(InvalidRequest, match="107 bytes at most"):
        remote("unix:/" + "a" * 107)
