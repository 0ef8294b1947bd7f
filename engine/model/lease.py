"""DHCP leases, and how the options of a server are read.

Options are checked: an invalid domain, or an address that no host can have, is ignored as if it had not been sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from dnet.errors import InvalidRequest
from dnet.model.parse import MTU_MIN, check_domain
from dnet.model.values import Value, frozen

FOREVER = -1  # the largest 32-bit number: RFC 2131, section 3.3
RENEW_SHARE, REBIND_SHARE = 0.5, 0.875  # RFC 2131, section 4.4.5
ADDRESS_BYTES, ADDRESS_BITS = 4, 32
POINTER_BITS = 0xC0  # RFC 1035, section 4.1.4

Routes = tuple[tuple[IPv4Network, IPv4Address | None], ...]


@frozen(kw_only=True)
class Lease(Value):
    """An address that a DHCP server has granted for some time, and the options that came with it.

    classless_routes: (destination, gateway) pairs that take the place of `routers`; None as gateway is the link
    mtu: bytes; 0 when the server has sent none
    mac: of the interface
    server_mac: of the server, or of the router that leads to it
    acquired_at: when it was asked for, in seconds since the epoch
    lease_time_s, t1_s, t2_s: seconds from then to its end, to its renewal by the server, and by any server; None is
        for ever
    """

    address: IPv4Interface
    routers: tuple[IPv4Address, ...]
    classless_routes: Routes
    dns: tuple[IPv4Address, ...]
    domain: str
    search: tuple[str, ...]
    mtu: int
    server: IPv4Address
    server_mac: str
    mac: str
    hostname: str
    acquired_at: float
    lease_time_s: int | None
    t1_s: int | None
    t2_s: int | None

    @property
    def routes(self) -> Routes:
        """The routes to create: `classless_routes`, or else a default route to the first router (RFC 3442)."""
        if self.classless_routes:
            return self.classless_routes
        return tuple((IPv4Network("0.0.0.0/0"), router) for router in self.routers[:1])

    def document(self) -> dict[str, Any]:
        """Return it as JSON carries it, for `from_document`."""
        return {
            "address": str(self.address),
            "routers": [str(item) for item in self.routers],
            "classless_routes": [
                [str(network), gateway and str(gateway)] for network, gateway in self.classless_routes
            ],
            "dns": [str(item) for item in self.dns],
            "domain": self.domain,
            "search": list(self.search),
            "mtu": self.mtu,
            "server": str(self.server),
            "server_mac": self.server_mac,
            "mac": self.mac,
            "hostname": self.hostname,
            "acquired_at": self.acquired_at,
            "lease_time_s": self.lease_time_s,
            "t1_s": self.t1_s,
            "t2_s": self.t2_s,
        }


def from_document(document: Mapping[str, Any]) -> Lease:
    """Return the lease of which this is the document."""
    fields = dict(document) | {
        "address": IPv4Interface(document["address"]),
        "routers": tuple(map(IPv4Address, document["routers"])),
        "classless_routes": tuple(
            (IPv4Network(network), IPv4Address(gateway) if gateway else None)
            for network, gateway in document["classless_routes"]
        ),
        "dns": tuple(map(IPv4Address, document["dns"])),
        "search": tuple(document["search"]),
        "server": IPv4Address(document["server"]),
    }
    return Lease(**fields)


def read_lease(
    address: str,
    options: Mapping[str, Any],
    *,
    server_mac: str,
    mac: str,
    hostname: str,
    acquired_at: float,
) -> Lease | None:
    """Return the lease that an acknowledgement grants, or None when it cannot be used.

    `options` have the names and types of pyroute2.dhcp.dhcp4msg; RFC 2132 defines them.
    """
    own = _usable_addresses([address])
    server = _usable_addresses([options.get("server_id", "")])
    seconds = options.get("lease_time")
    if not own or not server or not isinstance(seconds, int) or seconds == 0:
        return None
    lease_time = _seconds(seconds)
    t1, t2 = _timers(lease_time, options.get("renewal_time"), options.get("rebinding_time"))
    mtu = options.get("interface_mtu", 0)
    return Lease(
        address=IPv4Interface((own[0], _prefix_length(options.get("subnet_mask", "")))),
        routers=_usable_addresses(options.get("router", ())),
        classless_routes=read_classless_routes(bytes(options.get("classless_static_route", b""))),
        dns=_usable_addresses(options.get("name_server", ())),
        domain="".join(_domains([str(options.get("domain_name", ""))])),
        search=read_names(bytes(options.get("domain_search", b""))),
        mtu=mtu if mtu >= MTU_MIN else 0,
        server=server[0],
        server_mac=server_mac,
        mac=mac,
        hostname=hostname,
        acquired_at=acquired_at,
        lease_time_s=lease_time,
        t1_s=t1,
        t2_s=t2,
    )


def read_classless_routes(data: bytes) -> Routes:
    """Read option 121 (RFC 3442): prefix length, the bytes of the prefix, gateway; 0.0.0.0 is the link."""
    routes, at = [], 0
    while at < len(data):
        length = data[at]
        size = (length + 7) // 8
        network, gateway = data[at + 1 : at + 1 + size], data[at + 1 + size : at + 1 + size + ADDRESS_BYTES]
        if length > ADDRESS_BITS or len(gateway) < ADDRESS_BYTES:
            return ()
        number = int.from_bytes(network.ljust(ADDRESS_BYTES, b"\0"))
        via = IPv4Address(gateway)
        routes.append((IPv4Network((number, length), strict=False), None if via.is_unspecified else via))
        at += 1 + size + ADDRESS_BYTES
    return tuple(routes)


def read_names(data: bytes) -> tuple[str, ...]:
    """Read option 119 (RFC 3397): names as in DNS messages, which may end in a pointer to an earlier one."""
    names, at = [], 0
    while at < len(data):
        labels, at = _labels(data, at)
        if not labels:
            break
        names.append(b".".join(labels).decode("ascii", errors="replace"))
    return tuple(_domains(names))


def _labels(data: bytes, start: int) -> tuple[list[bytes], int]:
    """Return the labels of the name at `start`, none when it is malformed, and where the next name begins."""
    labels: list[bytes] = []
    at, end, limit = start, 0, start
    while at < len(data):
        size = data[at]
        if size & POINTER_BITS == POINTER_BITS and at + 1 < len(data):
            end = end or at + 2
            at = (size & ~POINTER_BITS) << 8 | data[at + 1]
            # A pointer leads back, so that the loop ends.
            if at >= limit:
                break
            limit = at
        elif size & POINTER_BITS:
            break
        elif not size:
            return labels, end or at + 1
        else:
            labels.append(data[at + 1 : at + 1 + size])
            at += 1 + size
    return [], len(data)


def _domains(texts: Iterable[str]) -> list[str]:
    """Return the domains that are valid in resolv.conf."""
    domains = []
    for text in texts:
        try:
            domains.append(check_domain(text.rstrip(".\0")))
        except InvalidRequest:
            continue
    return domains


def _usable_addresses(texts: Iterable[str]) -> tuple[IPv4Address, ...]:
    addresses = [IPv4Address(text) for text in texts if text]
    return tuple(
        one for one in addresses if not (one.is_unspecified or one.is_multicast or one.is_loopback or one.is_reserved)
    )


def _prefix_length(mask: str) -> int:
    """Return the length of a mask, or of a host's if the mask is invalid."""
    try:
        return IPv4Network(f"0.0.0.0/{mask}").prefixlen
    except ValueError:
        return ADDRESS_BITS


def _seconds(value: int) -> int | None:
    """Return a time as it was sent; pyroute2 reads it as a signed number."""
    return None if value == FOREVER else value & 0xFFFFFFFF


def _timers(lease_time: int | None, t1: Any, t2: Any) -> tuple[int | None, int | None]:
    """Return the times of renewing and rebinding: the server's, or the defaults if they are missing or in disorder."""
    if lease_time is None:
        return None, None
    first = _seconds(t1) if isinstance(t1, int) else None
    second = _seconds(t2) if isinstance(t2, int) else None
    if first is None or second is None or not 0 < first <= second <= lease_time:
        return int(lease_time * RENEW_SHARE), int(lease_time * REBIND_SHARE)
    return first, second
