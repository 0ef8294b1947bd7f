"""Leases by DHCP for an interface in a network namespace: acquired, renewed, released.

Configures nothing: a lease is a value, what to do about it is the engine's. Messages and their packets are pyroute2's;
the conversation is our own, since that of pyroute2's client ends at the first message that is not as it expects, and
cannot go on with a lease that another process has got (docs/decisions/0010-dhcp.md).
"""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from dnet.errors import DnetError, InvalidRequest, KernelRefused, NeedsRoot, NotFound
from dnet.linux import namespaces
from dnet.linux.wait import IFREQ, SIOCGIFFLAGS
from dnet.model.lease import Lease, read_lease
from dnet.model.parse import check_hostname
from dnet.model.values import Value, frozen

if TYPE_CHECKING:
    import asyncio


TIMEOUT_S = 20.0
# RFC 2131, section 4.1, begins with 4 s. A bridge or tunnel that has just been made often loses the first packet.
FIRST_PAUSE_S, LAST_PAUSE_S = 1.0, 16.0
JITTER = 0.1
# How often an offer is asked for before others are looked for.
TRIES = 4
CLIENT_PORT = 68
MESSAGE_BYTES_MIN = 300  # of BOOTP, which some relays insist on: RFC 1542, section 2.1
MESSAGE_BYTES_MAX = 1500
BOOTREQUEST, BOOTREPLY = 1, 2
BROADCAST_FLAG = 0x8000
SECS_MAX = 0xFFFF
ETHERNET = 1
DISCOVER, OFFER, REQUEST, ACK, NAK, RELEASE = 1, 2, 3, 5, 6, 7  # RFC 2132, section 9.6
# Subnet mask, routes, routers, name servers, domain, MTU, lease time, T1, T2, search list. RFC 3442 wants its routes
# to come before the routers.
WANTED_OPTIONS = (1, 121, 3, 6, 15, 26, 51, 58, 59, 119)
VENDOR = "dnet"
IFF_UP = 1


def acquire(
    namespace_path: str,
    interface: str,
    *,
    hostname: str = "",
    timeout_s: float = TIMEOUT_S,
    previous: Lease | None = None,
) -> Lease:
    """Get a lease for an interface that is up; `hostname` is sent along, the address of `previous` is asked for.

    NotFound when no server has granted one in time, and when the namespace or the interface is gone; InvalidRequest
    when the interface is down.
    """
    wish = previous.address.ip if previous else None
    return _converse(namespace_path, interface, hostname, timeout_s, lambda client: client.acquire(wish))


def renew(namespace_path: str, interface: str, lease: Lease, *, timeout_s: float = TIMEOUT_S) -> Lease:
    """Return a lease that goes on from `lease`: the same address, or another one where the server refuses that.

    Its server is asked, from T2 on any. When the address is not on the interface, as after a reboot, any is asked to
    confirm it, and when the lease has run out, for a new one. Errors are those of `acquire`; with any of them the old
    lease is as good as before.
    """
    return _converse(namespace_path, interface, lease.hostname, timeout_s, lambda client: client.renew(lease))


def release(namespace_path: str, interface: str, lease: Lease) -> None:
    """Give a lease back, by one message that is never answered. Errors are those of `acquire`."""
    _converse(namespace_path, interface, lease.hostname, TIMEOUT_S, lambda client: client.release(lease))


class _Client:
    """A conversation about one interface. Every method goes on until it has what it wants, or is cancelled."""

    def __init__(self, library: _Library, packets: Any, hostname: str) -> None:
        self._library = library
        self._packets = packets
        self._hostname = hostname
        self._mac: str = packets.l2addr
        self._xid = random.getrandbits(32)
        self._began = time.monotonic()
        # What there is to tell when the time is over.
        self.progress = "no DHCP server answered"

    async def acquire(self, wish: IPv4Address | None = None) -> Lease:
        """Ask whoever is there for a lease, if they will for a certain address."""
        pauses = _pauses()
        while True:
            discover = self._message(DISCOVER, requested_ip=str(wish) if wish else None)
            offer = await self._ask(discover, lambda answer, kind: answer if kind == OFFER else None, pauses)
            address, server = offer.dhcp["yiaddr"], offer.dhcp["options"]["server_id"]
            self.progress = f"DHCP server {server} offered {address} and then did not confirm it"
            request = self._message(REQUEST, requested_ip=address, server_id=server)
            if lease := await self._request(request, TRIES):
                return lease
            wish = None
            # Not at once: a server that always refuses would be asked without end.
            await self._let_pass(next(pauses))
            self._xid = random.getrandbits(32)

    async def renew(self, lease: Lease) -> Lease:
        """Go on with a lease, by the message that RFC 2131, section 4.3.2, has for each case."""
        address, age_s = str(lease.address.ip), time.time() - lease.acquired_at
        if lease.lease_time_s is not None and age_s >= lease.lease_time_s:
            return await self.acquire(lease.address.ip)
        self.progress = f"DHCP server {lease.server} did not answer"
        if not _has_address(address):
            request = self._message(REQUEST, requested_ip=address)
        elif lease.t2_s is not None and age_s >= lease.t2_s:
            request = self._message(REQUEST, ciaddr=address)
        else:
            request = self._message(REQUEST, ciaddr=address, to=lease)
        return await self._request(request) or await self.acquire()

    async def release(self, lease: Lease) -> Lease:
        """Say that a lease is not needed any more."""
        server = str(lease.server)
        await self._packets.put(self._message(RELEASE, ciaddr=str(lease.address.ip), to=lease, server_id=server))
        return lease

    # Sending and receiving

    async def _request(self, request: Any, tries: int = 0) -> Lease | None:
        """Return what is granted; None when it is refused, or when nothing has come after so many tries."""
        acquired_at = time.time()

        def read(answer: Any, kind: int) -> tuple[Lease | None] | None:
            if kind == NAK:
                self.progress = f"DHCP server {answer.dhcp['options']['server_id']} refused"
                return (None,)
            lease = kind == ACK and read_lease(
                answer.dhcp["yiaddr"],
                answer.dhcp["options"],
                server_mac=answer.eth_src,
                mac=self._mac,
                hostname=self._hostname,
                acquired_at=acquired_at,
            )
            return (lease,) if lease else None

        found = await self._ask(request, read, _pauses(tries))
        return found[0] if found else None

    async def _ask(self, message: Any, read: Callable[[Any, int], Any], pauses: Iterator[float]) -> Any:
        """Send a message until something can be read from an answer; None when there are no more pauses to wait."""
        import asyncio

        for pause_s in pauses:
            message.dhcp["secs"] = min(int(time.monotonic() - self._began), SECS_MAX)
            await self._packets.put(message)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    return await self._receive(read)
        return None

    async def _receive(self, read: Callable[[Any, int], Any]) -> Any:
        """Return what `read` makes of the first answer of which it makes something; other messages are not for us."""
        while True:
            try:
                message = await self._packets.get()
            except OSError:
                raise
            except Exception:  # noqa: BLE001, S112  the library stumbles over some broken messages
                continue
            content, options = message.dhcp, message.dhcp["options"]
            is_answer = (content["op"], content["xid"], content["chaddr"]) == (BOOTREPLY, self._xid, self._mac)
            if is_answer and options.get("server_id") and (found := read(message, options.get("message_type", 0))):
                return found

    async def _let_pass(self, pause_s: float) -> None:
        import asyncio

        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._receive(lambda _, __: None)

    def _message(self, kind: int, *, ciaddr: str = "", to: Lease | None = None, **options: str | None) -> Any:
        """Build a message; with `to` it goes to that lease's server alone, otherwise to all."""
        all_options: dict[str, Any] = {"message_type": kind, "client_id": {"type": ETHERNET, "key": self._mac}}
        all_options |= {name: value for name, value in options.items() if value}
        if kind != RELEASE:
            all_options |= {"max_msg_size": MESSAGE_BYTES_MAX, "vendor_id": VENDOR}
            all_options |= {"host_name": self._hostname} if self._hostname else {}
            all_options |= {"parameter_list": list(WANTED_OPTIONS)}
        content = {
            "op": BOOTREQUEST,
            "xid": self._xid,
            # Where there is no address yet, an answer to it would not be heard.
            "flags": 0 if ciaddr else BROADCAST_FLAG,
            "chaddr": self._mac,
            "options": all_options,
        }
        packet = {"ip_src": ciaddr} if ciaddr else {}
        packet |= {"eth_dst": to.server_mac, "ip_dst": str(to.server)} if to else {}
        return self._library.message(content | ({"ciaddr": ciaddr} if ciaddr else {}), **packet)


def _pauses(tries: int = 0) -> Iterator[float]:
    """Yield how long to wait for each answer, seconds; without `tries` for ever."""
    pause_s, count = FIRST_PAUSE_S, 0
    while not tries or count < tries:
        yield pause_s * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  so that many do not ask in step
        pause_s, count = min(pause_s * 2, LAST_PAUSE_S), count + 1


# Within the namespace


def _converse(
    namespace_path: str,
    interface: str,
    hostname: str,
    timeout_s: float,
    talk: Callable[[_Client], Awaitable[Lease]],
) -> Lease:
    """Run a conversation on a thread inside the namespace; a signal's exception cancels it."""
    if hostname:
        check_hostname(hostname)
    library = _Library.load()
    stop = _Stop()

    def inside() -> Lease:
        import asyncio

        _require_up(interface)
        return asyncio.run(_run(library, interface, hostname, timeout_s, talk, stop))

    descriptor = namespaces.open_namespace(namespace_path)
    try:
        return namespaces.call(descriptor, inside, interrupt=stop.cancel)
    except OSError as error:
        if isinstance(error, DnetError):
            raise
        raise _refusal(interface, error) from error
    finally:
        os.close(descriptor)


async def _run(
    library: _Library,
    interface: str,
    hostname: str,
    timeout_s: float,
    talk: Callable[[_Client], Awaitable[Lease]],
    stop: _Stop,
) -> Lease:
    import asyncio

    stop.arm()
    progress = ""
    try:
        async with asyncio.timeout(timeout_s), library.open_socket(interface) as packets:
            client = _Client(library, packets, hostname)
            try:
                with _held_port(interface):
                    return await talk(client)
            finally:
                progress = client.progress
    except TimeoutError as error:
        raise NotFound(
            f"{progress} on {interface} within {timeout_s:g} s",
            object=interface,
            hint="is the interface connected to the network that the server is on?",
        ) from error


class _Stop:
    """A way to end, from another thread, what runs on a loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._is_wanted = False

    def arm(self) -> None:
        """Let the running task be ended."""
        import asyncio

        self._task, self._loop = asyncio.current_task(), asyncio.get_running_loop()
        if self._is_wanted:
            self.cancel()

    def cancel(self) -> None:
        """End it, or not let it begin."""
        self._is_wanted = True
        if self._loop and self._task:
            # RuntimeError: it has ended.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._task.cancel)


@frozen
class _Library(Value):
    """What is used of pyroute2, which takes a fifth of a second to load."""

    open_socket: Callable[[str], Any]
    message: Callable[..., Any]

    @classmethod
    def load(cls) -> _Library:
        """Load it."""
        from pyroute2 import dhcp
        from pyroute2.dhcp import dhcp4msg, dhcp4socket, messages

        # What a stranger sends to the network is not for our standard error.
        dhcp.LOG.disabled = dhcp4socket.LOG.disabled = True

        class Padded(dhcp4msg.dhcp4msg):  # type: ignore[misc]
            buf: bytes

            def encode(self) -> Any:
                super().encode()
                self.buf = self.buf.ljust(MESSAGE_BYTES_MIN, b"\0")
                return self

        def message(content: dict[str, Any], **packet: Any) -> Any:
            return messages.SentDHCPMessage(dhcp=Padded(content), **packet)

        return cls(dhcp4socket.AsyncDHCP4Socket, message)


@contextmanager
def _held_port(interface: str) -> Iterator[None]:
    """Hold the client's port, unless another client has it: the kernel would refuse answers that only we read."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unread:
        with suppress(OSError):
            unread.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, os.fsencode(interface))
            unread.bind(("", CLIENT_PORT))
        yield


def _has_address(address: str) -> bool:
    """Whether an address is on an interface of the namespace that this thread is in."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            any_socket.bind((address, 0))
        except OSError:
            return False
    return True


def _require_up(interface: str) -> None:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, SIOCGIFFLAGS, IFREQ.pack(os.fsencode(interface), 0))
    if not IFREQ.unpack(answer)[1] & IFF_UP:
        raise InvalidRequest(
            f"interface {interface} is down, so it cannot get an address by DHCP",
            object=interface,
            hint="it has to be up first",
        )


def _refusal(interface: str, error: OSError) -> DnetError:
    match error:
        case PermissionError():
            return NeedsRoot(
                f"cannot use DHCP on {interface}: {error.strerror}", object=interface, hint="run it as root"
            )
        case OSError(errno=19):  # ENODEV
            return NotFound(f"there is no interface {interface} in the network namespace", object=interface)
        case _:
            return KernelRefused(f"use DHCP on {interface}", error.errno or 0, str(error.strerror or error))
