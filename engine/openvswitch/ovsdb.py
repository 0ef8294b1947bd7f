"""Client of Open vSwitch's database; the only module that touches the ovs package.

The package provides the streams (unix, tcp, ssl). JSON-RPC (RFC 7047) is framed here by the standard library's parser,
which is 3 times as fast as the package's in C and 80 times as fast as its in Python; poll(2) waits for it, since the
package's select(2) fails from descriptor 1024 on (decision 0009). Knows transactions, and the numbers by which
ovs-vswitchd says what it has applied; nothing of bridges and ports.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import select
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from itertools import count
from typing import Any, NoReturn

from dnet.errors import OvsError, Unsupported
from dnet.openvswitch.remote import Remote

Operation = dict[str, Any]

DATABASE = "Open_vSwitch"
DISTRIBUTION_PATHS = ("/usr/lib/python3/dist-packages/ovs", "/usr/lib/python3/site-packages/ovs")
# The lock in the database that ovs-vswitchd holds as long as it runs (bridge_init).
SWITCH_LOCK = "ovs_vswitchd"

CONNECT_S = 5.0
RECONNECT_S = 10.0  # a server that restarts reads its file first: 0.1 s for 1,000 ports
RETRY_S = 0.02
# After a restart of the server ovs-vswitchd may take so long to reconnect (reconnect.c: at most 8 s a try).
SETTLE_S = 10.0
REPLY_S = 30.0
# How long ovs-vswitchd may apply a change before it is asked whether it runs, and before we give up: the largest
# change measured, 1,000 ports deleted in one transaction, took 16 s.
PATIENCE_S = 1.0
SWITCH_S = 120.0
RECEIVE_BYTES = 1 << 18
SSL_SOURCES = re.compile(r"\[[^]]*\] | \(_ssl\.c:\d+\)")  # in the words of Python's ssl
SSL_ERRORS = {1, 5, 6, 8}  # SSL, SYSCALL, ZERO_RETURN, and Python's EOF
_START_HINT = "start Open vSwitch: `systemctl start openvswitch-switch` (Debian), `systemctl start openvswitch`"


class Refusal(OvsError):
    """The server refused a transaction; nothing of it was done.

    `kind` is the error's name in RFC 7047, `position` that of the operation, or None when the commit failed.
    """

    def __init__(self, what: str, kind: str, details: str, position: int | None) -> None:
        super().__init__(f"cannot {what}: {kind}{f': {details}' if details else ''}", object=what)
        self.kind = kind
        self.details = details
        self.position = position


class ConnectionLost(OvsError):
    """The connection broke before the answer: the request may have been executed, or not."""


class SwitchAbsent(OvsError):
    """The transaction was committed, but no ovs-vswitchd runs that would apply it."""


def _load_streams() -> Any:
    """Return the module ovs.stream of this interpreter's package, or else of the distribution's.

    The latter comes with Open vSwitch itself (Debian: python3-openvswitch, which openvswitch-switch depends on).
    """
    try:
        import ovs.stream
    except ImportError as error:
        spec = PathFinder.find_spec("ovs", list(map(os.path.dirname, DISTRIBUTION_PATHS)))
        if spec is None or spec.loader is None:
            sentence = "the Python package of Open vSwitch is not installed"
            hint = "install python3-openvswitch (Debian's name), or ovs from PyPI"
            raise Unsupported(sentence, object="ovs", hint=hint) from error
        sys.modules["ovs"] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules["ovs"])
        import ovs.stream
    return ovs.stream


class Ovsdb:
    """A connection to a server, opened on first use and again after it was lost. Not safe for threads."""

    def __init__(self, where: Remote) -> None:
        self._where = where
        self._stream: Any = None
        self._poll = select.poll()
        self._numbers = count()
        self._input = b""
        self._replies: dict[int, dict[str, Any]] = {}
        # The number of the configuration that ovs-vswitchd has applied.
        self._current = -1
        self._patience_s = PATIENCE_S
        self._back_since = -math.inf  # when a lost connection was made again

    @property
    def address(self) -> str:
        """Where the server is."""
        return self._where.address

    def close(self) -> None:
        """Close the connection; a later call opens it again."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            stream.close()

    # Transactions

    def transact(self, operations: Sequence[Operation], what: str) -> list[Any]:
        """Run a transaction and return each operation's result; `what` names the transaction in errors.

        Raises Refusal, or ConnectionLost when it may have been committed.
        """
        with self._intact():
            self._connect()
            results: list[Any] = self._call("transact", [DATABASE, *operations])
        for position, result in enumerate(results):
            if result and "error" in result:
                at = position if position < len(operations) else None
                raise Refusal(what, result["error"], result.get("details", ""), at)
        return results

    def read(self, operations: Sequence[Operation], what: str) -> list[Any]:
        """Run a transaction as `transact` does, and once more when the connection is lost."""
        try:
            return self.transact(operations, what)
        except ConnectionLost:
            return self.transact(operations, what)

    def change(self, operations: Sequence[Operation], what: str) -> list[Any]:
        """Run a transaction as `transact` does, and wait until ovs-vswitchd has applied it.

        Raises SwitchAbsent when ovs-vswitchd does not run, ConnectionLost when the commit is uncertain.
        """
        numbering: list[Operation] = [
            {"op": "mutate", "table": DATABASE, "where": [], "mutations": [["next_cfg", "+=", 1]]},
            {"op": "select", "table": DATABASE, "where": [], "columns": ["next_cfg"]},
        ]
        *results, _, root = self.transact([*operations, *numbering], what)
        with self._intact():
            self._wait_for(self.only_row(root["rows"], what)["next_cfg"], what)
        return results

    def only_row(self, rows: Sequence[Mapping[str, Any]], what: str) -> Mapping[str, Any]:
        """Return the only row of the table of the switch itself."""
        if not rows:
            sentence = f"cannot {what}: the database at {self.address} is that of no switch"
            raise OvsError(sentence, object=self.address, hint="`ovs-vsctl init` makes it one")
        return rows[0]

    def _wait_for(self, number: int, what: str) -> None:
        """Wait until ovs-vswitchd has applied a configuration, whose number it then writes to `cur_cfg`."""
        deadline = time.monotonic() + SWITCH_S
        misses = 0
        while self._current < number:
            try:
                self._connect()
                if self._current >= number or self._receive(time.monotonic() + self._patience_s):
                    continue
                misses = 0 if self._is_switch_running() else misses + 1
            except ConnectionLost:
                continue
            if self._is_gone(misses):
                self._patience_s = 0.0  # the next change need not wait as long
                raise self._absent(what)
            if time.monotonic() > deadline:
                sentence = f"cannot {what}: ovs-vswitchd has not done it within {SWITCH_S:.0f} s"
                raise OvsError(sentence, object=self.address, hint="see the log of ovs-vswitchd")
        self._patience_s = PATIENCE_S

    def require_switch(self, what: str) -> None:
        """Connect, and raise SwitchAbsent when ovs-vswitchd is not running."""
        with self._intact():
            self._connect()
            misses = 0
            while not self._is_switch_running():
                misses += 1
                if self._is_gone(misses):
                    raise self._absent(what)
                self._receive(time.monotonic() + PATIENCE_S)

    def _is_gone(self, misses: int) -> bool:
        """Whether ovs-vswitchd, found absent so often, is down, not just restarting or reconnecting."""
        return misses > 1 and time.monotonic() > self._back_since + SETTLE_S

    def _absent(self, what: str) -> SwitchAbsent:
        sentence = f"cannot {what}: ovs-vswitchd, which would have to do it, is not running"
        return SwitchAbsent(sentence, object=self.address, hint=_START_HINT)

    def _is_switch_running(self) -> bool:
        is_free = bool(self._call("lock", [SWITCH_LOCK])["locked"])
        self._call("unlock", [SWITCH_LOCK])
        return not is_free

    # Connection

    @contextmanager
    def _intact(self) -> Iterator[None]:
        """Drop the connection when an interrupt may have left a message half sent or half received."""
        try:
            yield
        except OvsError:
            raise
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        """Connect unless connected; wait for a server that was there before."""
        if self._stream is not None:
            # Since the last call the server may have gone, or sent an echo request.
            with suppress(ConnectionLost):
                self._receive(0)
        is_first = self._current < 0
        deadline = time.monotonic() + (CONNECT_S if is_first else RECONNECT_S)
        while self._stream is None:
            try:
                self._open(deadline)
                if not is_first:
                    self._back_since, self._patience_s = time.monotonic(), PATIENCE_S
            except OvsError:
                if is_first or time.monotonic() > deadline:
                    raise
                select.poll().poll(RETRY_S * 1000)  # no event tells when a server is back

    def _open(self, deadline: float) -> None:
        stream = self._open_stream(deadline)
        self._stream, self._input, self._replies = stream, b"", {}
        self._poll = select.poll()
        self._poll.register(stream.socket, select.POLLIN)
        try:
            self._note(self._call("monitor", [DATABASE, "cur_cfg", {DATABASE: {"columns": ["cur_cfg"]}}]))
        except ConnectionLost as error:
            self.close()
            if self._where.private_key:  # in TLS 1.3 the client has finished before the server checks its key
                self._give_up(None, "the server closed it, as when it does not accept the certificate", error)
            raise
        except OvsError:
            self.close()
            raise

    def _open_stream(self, deadline: float) -> Any:
        streams = _load_streams()
        keys = self._where
        if keys.private_key:
            streams.Stream.ssl_set_private_key_file(keys.private_key)
            streams.Stream.ssl_set_certificate_file(keys.certificate)
            streams.Stream.ssl_set_ca_cert_file(keys.ca_certificate)
        stream = None
        try:
            code, stream = streams.Stream.open(self.address)
            # Writable when connected; a handshake after that waits for the server's part.
            events = select.POLLOUT
            while not code and (code := stream.connect()) == errno.EAGAIN and time.monotonic() < deadline:
                waiter = select.poll()
                waiter.register(stream.socket, events)
                waiter.poll(max(0.0, deadline - time.monotonic()) * 1000)
                events, code = select.POLLIN, 0
        except OSError as error:  # also what is wrong with keys and certificates
            words = SSL_SOURCES.sub("", error.strerror or str(error))
            self._give_up(stream, words if stream else f"keys or certificates cannot be used: {words}", error)
        except BaseException:
            if stream is not None:
                stream.close()
            raise
        if code and self._where.private_key:
            self._knock(stream)
        if code:
            self._give_up(stream, self._words(errno.ETIMEDOUT if code == errno.EAGAIN else code), None)
        return stream

    def _knock(self, stream: Any) -> None:
        """Raise when nobody listens at the address, which a failed TLS connection does not tell."""
        host, _, port = self.address.removeprefix("ssl:").rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
        except OSError as error:
            self._give_up(stream, error.strerror or str(error), error, is_trusted=True)

    def _words(self, code: int) -> str:
        """Return the words for a stream's error, which with ssl may be one of SSL_get_error(3)."""
        if self.address.startswith("ssl:") and code in SSL_ERRORS:
            return "the TLS connection failed; one side may not trust the other's certificate"
        return os.strerror(code)

    def _give_up(self, stream: Any, reason: str, cause: Exception | None, *, is_trusted: bool = False) -> NoReturn:
        if stream is not None:
            stream.close()
        sentence = f"cannot connect to Open vSwitch's database at {self.address}: {reason}"
        raise OvsError(sentence, object=self.address, hint=self._hint(is_trusted=is_trusted)) from cause

    def _hint(self, *, is_trusted: bool) -> str:
        """Return what to do without a connection; `is_trusted`: certificates are not the reason."""
        kind, where = self.address.partition(":")[0], self._where
        if kind == "ssl" and not is_trusted:
            return (
                f"{where.certificate}, of the key {where.private_key}, has to be signed by the authority that the "
                f"server knows (`ovs-vsctl get-ssl`), and the server's certificate by {where.ca_certificate}"
            )
        port = self.address.rpartition(":")[2]
        listening = f"; and have it listen: `ovs-vsctl set-manager p{kind}:{port}`" if kind != "unix" else ""
        return _START_HINT + listening

    def _lose(self, reason: str) -> NoReturn:
        self.close()
        sentence = f"lost the connection to Open vSwitch's database at {self.address}: {reason}"
        raise ConnectionLost(sentence, object=self.address, hint=_START_HINT)

    # Messages

    def _call(self, method: str, parameters: Sequence[Any]) -> Any:
        """Call a method of the server and return its result."""
        number = next(self._numbers)
        deadline = time.monotonic() + REPLY_S
        self._send({"method": method, "params": parameters, "id": number})
        while number not in self._replies:
            if not self._receive(deadline):
                self._lose(f"no answer within {REPLY_S:.0f} s")
        reply = self._replies.pop(number)
        if reply.get("error") is not None:
            error = reply["error"]
            words = error.get("details") or error.get("error") if isinstance(error, dict) else error
            raise OvsError(f"Open vSwitch's database at {self.address} refuses {method}: {words}", object=self.address)
        return reply.get("result")

    def _send(self, message: Mapping[str, Any]) -> None:
        data = json.dumps(message, separators=(",", ":")).encode()
        while data:
            sent = self._stream.send(data)
            if sent >= 0:
                data = data[sent:]
            elif sent == -errno.EAGAIN:
                waiter = select.poll()
                waiter.register(self._stream.socket, select.POLLOUT)
                waiter.poll(REPLY_S * 1000)
            else:
                self._lose(self._words(-sent))

    def _receive(self, deadline: float) -> bool:
        """Receive and handle messages, waiting until the deadline; return False when none came."""
        parts = [self._input]
        while True:
            code, data = self._stream.recv(RECEIVE_BYTES)
            if code not in {0, errno.EAGAIN}:
                self._lose(self._words(code))
            if not code and not data:
                self._lose("the server closed it")
            if not code:
                parts.append(data)
                # Every message ends so; if this one has not ended, the rest is about to come.
                if data.endswith(b"}") and self._take(b"".join(parts)):
                    return True
                continue
            self._input = b"".join(parts)
            parts = [self._input]
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not self._poll.poll(left_s * 1000):
                return False

    def _take(self, data: bytes) -> bool:
        """Handle the messages in data; return False when the last one is incomplete."""
        decoder, at = json.JSONDecoder(), 0
        messages = []
        try:
            text = data.decode()
            while at < len(text):
                message, at = decoder.raw_decode(text, at)
                messages.append(message)
        except ValueError:
            if not data.startswith(b"{"):
                self._lose("what answers there is no database server")
            return False
        self._input = b""
        for message in messages:
            self._handle(message)
        return True

    def _handle(self, message: Mapping[str, Any]) -> None:
        match message:
            case {"method": "echo", "params": parameters, "id": number}:
                self._send({"result": parameters, "error": None, "id": number})
            case {"method": "update", "params": [_, updates]}:
                self._note(updates)
            case {"method": _}:
                pass  # `locked`: the lock is released at once
            case {"id": int(number)}:
                self._replies[number] = dict(message)

    def _note(self, updates: Mapping[str, Any]) -> None:
        """Remember the number of the configuration that ovs-vswitchd has applied."""
        for row in updates.get(DATABASE, {}).values():
            if "new" in row:
                self._current = row["new"]["cur_cfg"]
