"""Where Open vSwitch's database is; to find that out loads nothing and connects to nothing."""

from __future__ import annotations

import os
from typing import NamedTuple

from dnet.errors import InvalidRequest

SOCKET_PATH_MAX = 107  # struct sockaddr_un
SOCKETS = ("/run/openvswitch/db.sock", "/var/run/openvswitch/db.sock")


class Remote(NamedTuple):
    """Where a server is: `unix:PATH`, `tcp:HOST:PORT` or `ssl:HOST:PORT`, the last with three files in PEM."""

    address: str
    private_key: str = ""
    certificate: str = ""
    ca_certificate: str = ""


def remote(address: str = "", private_key: str = "", certificate: str = "", ca_certificate: str = "") -> Remote:
    """Check an address and its files; without an address return this system's own server.

    Raises InvalidRequest.
    """
    address = address or f"unix:{_default_socket()}"
    _check_address(address)
    files = {"private key": private_key, "certificate": certificate, "CA's certificate": ca_certificate}
    if address.startswith("ssl:"):
        for name, path in files.items():
            if not os.path.isfile(path):
                wrong = f"there is no file {path!r}" if path else f"the {name} is missing"
                hint = (
                    "-o ovsdb_private_key=, ovsdb_certificate= and ovsdb_ca_certificate= name three files in PEM; "
                    "ovs-pki makes them"
                )
                raise InvalidRequest(f"cannot connect to {address}: {wrong}", object=address, hint=hint)
    elif any(files.values()):
        raise InvalidRequest(f"keys and certificates are of use with ssl only, not with {address}", object=address)
    # Processes in other directories will read what is stored of this.
    return Remote(address, *(os.path.abspath(path) if path else "" for path in files.values()))


def _check_address(address: str) -> None:
    kind, _, rest = address.partition(":")
    if kind == "unix":
        if not rest.startswith("/"):
            raise InvalidRequest(f"the path of a database's socket is not absolute: {rest!r}", object=address)
        if len(rest.encode()) > SOCKET_PATH_MAX:  # the ovs package would not stop trying (3.1)
            hint = "reach it by a link with a shorter name"
            raise InvalidRequest(
                f"a socket's path has {SOCKET_PATH_MAX} bytes at most: {rest}", object=address, hint=hint
            )
    elif kind in {"tcp", "ssl"}:
        host, _, port = rest.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            hint = f"write {kind}:HOST:PORT; ovsdb-server's usual port is 6640"
            raise InvalidRequest(f"a database's address has no host and port: {address!r}", object=address, hint=hint)
    else:
        hint = "write unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT"
        raise InvalidRequest(f"there is no way to a database called {address!r}", object=address, hint=hint)


def is_here() -> bool:
    """Whether this system's own server seems to run."""
    return os.path.exists(_default_socket())


def _default_socket() -> str:
    directory = os.environ.get("OVS_RUNDIR")
    if directory:
        return f"{directory}/db.sock"
    return next((path for path in SOCKETS if os.path.exists(path)), SOCKETS[0])
