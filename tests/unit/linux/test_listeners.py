"""What the host does with ports: its automatic range, and its listening sockets. The oracle is a socket of our own."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnet.linux import listeners as hostports
from dnet.linux.kernel import Kernel

LOCAL, ANY = IPv4Address("127.0.0.1"), IPv4Address(0)
LOCAL6, ANY6 = IPv6Address("::1"), IPv6Address(0)


def automatic(tmp_path_factory, first: int, last: int, reserved: str, after: int) -> list[int]:
    """Return the automatic ports of a host that is set so."""
    directory = tmp_path_factory.mktemp("proc")
    (directory / "range").write_text(f"{first}\t{last}\n", encoding="ascii")
    (directory / "reserved").write_text(f"{reserved}\n", encoding="ascii")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hostports, "RANGE_PATH", str(directory / "range"))
        patch.setattr(hostports, "RESERVED_PATH", str(directory / "reserved"))
        return list(hostports.automatic_ports(after))


@pytest.fixture(scope="module")
def tmp(tmp_path_factory):
    """Pass the factory of temporary directories on to property tests."""
    return tmp_path_factory


@given(st.data())
def test_automatic_ports(tmp, data):
    """Automatic ports are those of ip_local_port_range without the reserved ones, each once."""
    first = data.draw(st.integers(1, 65000))
    last = data.draw(st.integers(first, min(first + 60, 65535)))
    reserved = data.draw(st.sets(st.integers(first, last)))
    after = data.draw(st.integers(0, 65535))
    found = automatic(tmp, first, last, ",".join(map(str, sorted(reserved))), after)
    assert sorted(found) == sorted(set(range(first, last + 1)) - reserved)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (0, [100, 101, 102, 103]),
        (99, [100, 101, 102, 103]),
        (100, [101, 102, 103, 100]),
        (102, [103, 100, 101, 102]),
        (103, [100, 101, 102, 103]),
        (5000, [100, 101, 102, 103]),
    ],
)
def test_order_of_automatic_ports(tmp_path_factory, after, expected):
    """The port after the last one given comes first, as with Docker, and the range is gone through to its end."""
    assert automatic(tmp_path_factory, 100, 103, "", after) == expected


def test_reserved_ranges(tmp_path_factory):
    """Reserved ports are written as single ones and as ranges, some of them outside."""
    assert automatic(tmp_path_factory, 100, 109, "7,101-103,105,108-200", 0) == [100, 104, 106, 107]


def test_everything_is_reserved(tmp_path_factory):
    """Where all of the range is reserved there is no automatic port."""
    assert automatic(tmp_path_factory, 100, 109, "1-65535", 0) == []


def test_unreadable_range(monkeypatch):
    """Where the range cannot be read, the kernel's default holds."""
    monkeypatch.setattr(hostports, "RANGE_PATH", "/nonexistent")
    found = list(hostports.automatic_ports(0))
    assert (found[0], found[-1]) == (32768, 60999)


def listeners() -> hostports.Listeners:
    """Return this machine's listening sockets; asking for them needs no privilege."""
    kernel = Kernel(lambda _: None)
    try:
        return hostports.listeners(kernel.dump_sockets)
    finally:
        kernel.close()


def bound(stack: ExitStack, family: int, kind: int, address: str) -> tuple[socket.socket, int, int]:
    """Return a socket bound to a free port, with the port and its inode."""
    try:
        item = stack.enter_context(socket.socket(family, kind))
        item.bind((address, 0))
    except OSError as error:
        pytest.skip(f"needs IPv{6 if family == socket.AF_INET6 else 4} at {address}: {error}")
    return item, item.getsockname()[1], os.fstat(item.fileno()).st_ino


@pytest.mark.parametrize(
    ("family", "address", "expected"),
    [
        (socket.AF_INET, "127.0.0.1", {LOCAL}),
        (socket.AF_INET, "0.0.0.0", {ANY}),
        (socket.AF_INET6, "::1", {LOCAL6}),
        (socket.AF_INET6, "::", {ANY6, ANY}),
        (socket.AF_INET6, "::ffff:127.0.0.1", {LOCAL}),
    ],
)
def test_listening_tcp_sockets(family, address, expected):
    """A listening TCP socket is found with its addresses and inode; `::` takes IPv4 as well, as is the default."""
    with ExitStack() as stack:
        item, port, inode = bound(stack, family, socket.SOCK_STREAM, address)
        item.listen()
        assert listeners()["tcp", port] == dict.fromkeys(expected, inode)
        assert ("udp", port) not in listeners()
    assert ("tcp", port) not in listeners()


@pytest.mark.parametrize(
    ("family", "address", "expected"),
    [(socket.AF_INET, "127.0.0.1", {LOCAL}), (socket.AF_INET6, "::1", {LOCAL6}), (socket.AF_INET6, "::", {ANY6, ANY})],
)
def test_bound_udp_sockets(family, address, expected):
    """A bound UDP socket counts as listening."""
    with ExitStack() as stack:
        _, port, inode = bound(stack, family, socket.SOCK_DGRAM, address)
        assert listeners()["udp", port] == dict.fromkeys(expected, inode)


def test_v6only_sockets():
    """A socket on `::` that has asked for IPv6 alone leaves IPv4 free."""
    with ExitStack() as stack:
        try:
            item = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_STREAM))
            item.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            item.bind(("::", 0))
        except OSError as error:
            pytest.skip(f"needs IPv6: {error}")
        item.listen()
        assert set(listeners()["tcp", item.getsockname()[1]]) == {ANY6}


def test_a_reused_port():
    """Two sockets that share one address and port by SO_REUSEPORT are one entry, of one of them."""
    with ExitStack() as stack:
        pair = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2)]
        for item in pair:
            item.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        pair[0].bind(("127.0.0.1", 0))
        pair[1].bind(pair[0].getsockname())
        found = listeners()["udp", pair[0].getsockname()[1]]
        assert set(found) == {LOCAL}
        assert found[LOCAL] in {os.fstat(item.fileno()).st_ino for item in pair}


SCTP = """\
 ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS
ffff8880    ffff8881 2   10  29   5000      0 4242 0.0.0.0
ffff8882    ffff8883 0   10  30   5001   1000 4243 192.0.2.1 2001:db8:0000:0000:0000:0000:0000:0001
"""


def test_sctp_endpoints(monkeypatch, tmp_path):
    """SCTP endpoints are read from the kernel's list, each with all its addresses."""
    (tmp_path / "eps").write_text(SCTP, encoding="ascii")
    monkeypatch.setattr(hostports, "SCTP_PATH", str(tmp_path / "eps"))
    found = listeners()
    assert found["sctp", 5000] == {ANY: 4242}
    assert found["sctp", 5001] == {IPv4Address("192.0.2.1"): 4243, IPv6Address("2001:db8::1"): 4243}


def test_no_sctp(monkeypatch):
    """A kernel without SCTP has no list of its endpoints, and none are found."""
    monkeypatch.setattr(hostports, "SCTP_PATH", "/nonexistent")
    assert not [key for key in listeners() if key[0] == "sctp"]


def test_connections_are_no_listeners():
    """The local port of a TCP connection, on the client's side, is not in use for others; the server's is."""
    with ExitStack() as stack:
        server, port, _ = bound(stack, socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1")
        server.listen()
        client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        stack.enter_context(server.accept()[0])
        found = listeners()
        assert ("tcp", client.getsockname()[1]) not in found
        assert ("tcp", port) in found


def test_two_addresses_of_one_port():
    """Two sockets on one port and two addresses are both found, each with its inode."""
    with ExitStack() as stack:
        one, port, first = bound(stack, socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1")
        other = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        other.bind(("127.0.0.2", port))
        one.listen()
        other.listen()
        second = os.fstat(other.fileno()).st_ino
        assert listeners()["tcp", port] == {LOCAL: first, IPv4Address("127.0.0.2"): second}


def test_owner_of_a_socket():
    """The holder of a socket is named by program and pid."""
    with ExitStack() as stack, open("/proc/self/comm", encoding="utf-8") as file:
        _, _, inode = bound(stack, socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1")
        assert hostports.owner_of(inode) == f"{file.read().strip()} (pid {os.getpid()})"


def test_owner_of_nothing():
    """A socket that no visible process has belongs to `a host process`."""
    assert hostports.owner_of(0) == "a host process"
