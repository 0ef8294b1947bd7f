"""What the kernel tells of links, addresses and routes, out of the messages of a dump. Rank 3, pure.

Field numbers and flags are those of linux/rtnetlink.h, if_link.h and if_addr.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_address
from typing import NamedTuple

from dnet.model import IPAddress, IPInterface, IPNetwork

VERSIONS = {2: 4, 10: 6}  # AF_INET, AF_INET6
NLMSG_BYTES = 16
LINK_BYTES, ADDRESS_BYTES, ROUTE_BYTES = 16 + 16, 16 + 8, 16 + 12
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO, IFLA_IFALIAS = 1, 3, 4, 10, 18, 20
IFLA_INFO_KIND, IFLA_AF_SPEC, AF_INET6 = 1, 26, 10
IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_MODE_NONE = 8, 1
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_TABLE, RTA_MULTIPATH = 1, 4, 5, 6, 15, 9
RT_TABLE_MAIN, RTN_UNICAST = 254, 1
RTM_F_CLONED = 0x200
RTPROT_KERNEL, RTPROT_RA = 2, 9
IFF_UP, IFF_LOOPBACK = 1, 8
IFA_F_PERMANENT = 0x80
METRIC6 = 1024  # what the kernel makes of IPv6's metric 0: IP6_RT_PRIO_USER
HARDWARE_INFINIBAND = 32


class Link(NamedTuple):
    """A device. `kind` is empty for physical ones, `hardware` one of ARPHRD_*, `master` an index or 0.

    A quiet one has no IPv6 autoconfiguration.
    """

    name: str
    ifindex: int
    kind: str
    master: int
    mac: str
    mtu: int
    is_up: bool
    is_loopback: bool
    hardware: int
    alias: str
    is_quiet: bool


class HeldAddress(NamedTuple):
    """An address of a device. Kept is what somebody has set, unlike what comes by itself and goes by itself.

    `message` is how the kernel told it.
    """

    ifindex: int
    interface: IPInterface
    is_kept: bool
    message: bytes


class HeldRoute(NamedTuple):
    """A unicast route of the main table. `ifindex` is 0 where it leads through several devices.

    `protocol` is one of RTPROT_*; `message` is how the kernel told it.
    """

    destination: IPNetwork
    gateway: IPAddress | None
    ifindex: int
    metric: int
    protocol: int
    message: bytes

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.destination.version


def attributes(message: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """Yield the attributes of a message from `offset` on, each by its type."""
    while offset + 4 <= len(message):
        size, kind = struct.unpack_from("=HH", message, offset)
        if size < 4:  # noqa: PLR2004  a header's own length
            return
        yield kind & 0x3FFF, message[offset + 4 : offset + size]
        offset += (size + 3) & ~3


def link(message: bytes) -> Link:
    """Read a message about a device."""
    _, hardware, index, flags = struct.unpack_from("=BxHiI", message, NLMSG_BYTES)
    found = dict(attributes(message, LINK_BYTES))
    info = dict(attributes(found.get(IFLA_LINKINFO, b""), 0))
    inet6 = dict(attributes(dict(attributes(found.get(IFLA_AF_SPEC, b""), 0)).get(AF_INET6, b""), 0))
    return Link(
        name=_text(found[IFLA_IFNAME]),
        ifindex=index,
        kind=_text(info.get(IFLA_INFO_KIND, b"")),
        master=_number(found.get(IFLA_MASTER)),
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        mtu=_number(found.get(IFLA_MTU)),
        is_up=bool(flags & IFF_UP),
        is_loopback=bool(flags & IFF_LOOPBACK),
        hardware=hardware,
        alias=_text(found.get(IFLA_IFALIAS, b"")),
        is_quiet=inet6.get(IFLA_INET6_ADDR_GEN_MODE) == bytes([ADDR_GEN_MODE_NONE]),
    )


def address(message: bytes) -> HeldAddress | None:
    """Read a message about an address, None when it is of another family than IP."""
    family, length, flags, _, index = struct.unpack_from("=BBBBI", message, NLMSG_BYTES)
    found = dict(attributes(message, ADDRESS_BYTES))
    packed = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
    flags = _number(found[IFA_FLAGS]) if IFA_FLAGS in found else flags
    if family not in VERSIONS or not packed:
        return None
    made = IPv4Interface if VERSIONS[family] == 4 else IPv6Interface  # noqa: PLR2004
    return HeldAddress(index, made((packed, length)), bool(flags & IFA_F_PERMANENT), message)


def route(message: bytes) -> HeldRoute | None:
    """Read a message about a route, None when it is not a unicast one of the main table."""
    family, length, _, _, table, protocol, _, kind = struct.unpack_from("=8B", message, NLMSG_BYTES)
    (flags,) = struct.unpack_from("=I", message, NLMSG_BYTES + 8)
    found = dict(attributes(message, ROUTE_BYTES))
    table = _number(found[RTA_TABLE]) if RTA_TABLE in found else table
    if family not in VERSIONS or table != RT_TABLE_MAIN or kind != RTN_UNICAST or flags & RTM_F_CLONED:
        return None
    is_four = VERSIONS[family] == 4  # noqa: PLR2004
    packed = found.get(RTA_DST, bytes(4 if is_four else 16))
    gateway = found.get(RTA_GATEWAY)
    return HeldRoute(
        destination=IPv4Network((packed, length)) if is_four else IPv6Network((packed, length)),
        gateway=ip_address(gateway) if gateway else None,
        ifindex=0 if RTA_MULTIPATH in found else _number(found.get(RTA_OIF)),
        metric=_number(found.get(RTA_PRIORITY)),
        protocol=protocol,
        message=message,
    )


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="surrogateescape")


def _number(value: bytes | None) -> int:
    return int(struct.unpack("=I", value[:4])[0]) if value else 0
