"""HTTP/1.0 over a unix socket, by the standard library's client.

Loading that client takes some 20 ms: only who asks a daemon something imports this module.
"""

from __future__ import annotations

import socket
import time
from http.client import HTTPConnection, HTTPResponse
from typing import Any


class _Socket(socket.socket):
    """A unix socket that receives until a deadline, also when the data come byte by byte."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self._deadline = time.monotonic() + timeout_s
        self.settimeout(timeout_s)

    def recv_into(self, *arguments: Any, **keywords: Any) -> int:
        if self.gettimeout() != 0:
            left_s = self._deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self.settimeout(left_s)
        return super().recv_into(*arguments, **keywords)


class _Connection(HTTPConnection):
    # The answer then ends where the connection ends, and a stream comes as it is, not in chunks.
    _http_vsn, _http_vsn_str = 10, "HTTP/1.0"


def get(address: str, path: str, timeout_s: float) -> tuple[socket.socket, HTTPResponse]:
    """Send a request to the socket at `address`; return the connection and the response, its headers read.

    The caller closes both. The headers, and what is read of the body, have to come within `timeout_s`, unless the
    socket is made non-blocking. Raises OSError or http.client.HTTPException.
    """
    connection = _Connection("localhost")
    connection.sock = opened = _Socket(timeout_s)
    try:
        opened.connect(address)
        connection.putrequest("GET", path, skip_accept_encoding=True)
        connection.putheader("Host", "localhost")
        connection.endheaders()
        return opened, connection.getresponse()
    except BaseException:
        opened.close()
        raise
