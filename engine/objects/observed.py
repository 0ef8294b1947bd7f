"""What the kernel reports of links, addresses and routes.

Addresses and routes keep their messages as they came, so that one can be sent again for another device with nothing
changed but what names the device. Numbers are those of linux/if_link.h, linux/if_addr.h and linux/rtnetlink.h.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network

from dnet.model.address import IPAddress, IPInterface, IPNetwork
from dnet.model.values import Value, frozen

HEADER_BYTES = 16  # struct nlmsghdr
RTM_NEWADDR, RTM_NEWROUTE = 20, 24
INET, INET6 = 2, 10  # AF_INET, AF_INET6
VERSIONS = {INET: 4, INET6: 6}

IFF_UP, IFF_LOOPBACK = 0x1, 0x8
ETHERNET, INFINIBAND = 1, 32  # ARPHRD_...
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 3, 4, 5, 10
IFLA_LINKINFO, IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_INFO_KIND, IFLA_INFO_DATA = 18, 20, 26, 1, 2
IFLA_BR_FORWARD_DELAY, IFLA_BR_STP_STATE = 1, 5
IFLA_INET_CONF, IFLA_INET6_ADDR_GEN_MODE = 1, 8
GENERATION_NONE = 1  # IN6_ADDR_GEN_MODE_NONE

IFA_ADDRESS, IFA_LOCAL, IFA_LABEL, IFA_CACHEINFO, IFA_FLAGS, IFA_RT_PRIORITY, IFA_PROTO = 1, 2, 3, 6, 8, 9, 11
SECONDARY, NODAD, DADFAILED, TENTATIVE, PERMANENT = 0x01, 0x02, 0x08, 0x40, 0x80  # IFA_F_...
NOPREFIXROUTE = 0x200
LABEL_CHARACTERS_MAX = 15  # IFNAMSIZ
FOREVER = 0xFFFFFFFF  # of a lifetime
PROTO_ADVERTISED = 2  # IFAPROT_KERNEL_RA

RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_MULTIPATH, RTA_CACHEINFO = 1, 4, 5, 6, 7, 9, 12
RTA_TABLE, RTA_VIA, RTA_PREF, RTA_EXPIRES, RTA_NH_ID = 15, 18, 20, 23, 30
RTNH_F_ONLINK, RTM_F_CLONED = 4, 0x200
METRIC6 = 1024  # what the kernel makes of IPv6's metric 0: IP6_RT_PRIO_USER
TABLE_LOCAL, TABLE_MAIN = 255, 254
UNICAST = 1  # RTN_UNICAST
SCOPE_LINK = 253
PROTOCOL_KERNEL, PROTOCOL_BOOT, PROTOCOL_ADVERTISED = 2, 3, 9  # RTPROT_KERNEL, RTPROT_BOOT, RTPROT_RA
TICKS_PER_S = 100  # USER_HZ, in which rta_cacheinfo counts on every architecture that dnet knows
TYPES = ("", "", "local ", "broadcast ", "anycast ", "multicast ", "blackhole ", "unreachable ", "prohibit ", "throw ")

Pair = tuple[int, bytes]


def pairs(data: bytes, offset: int = 0) -> Iterator[Pair]:
    """Yield the attributes in `data`, kind and value; what is malformed ends them."""
    while offset + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, offset)
        if size < 4:  # a header's own length
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + size]
        offset += (size + 3) & ~3


def packed(attributes: Iterable[Pair]) -> bytes:
    """Return attributes as they stand in a message."""
    return b"".join(
        struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4) for kind, value in attributes
    )


def number(value: bytes) -> int:
    """Return an integer in the machine's byte order."""
    return int.from_bytes(value, sys.byteorder)


def _message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", HEADER_BYTES + len(body), kind, 0, 0, 0) + body


def _u32(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder)


@frozen(kw_only=True)
class ObservedLink(Value):
    """A network device. `master` is the bridge or bond that it is a port of, `parent` the device that it is made on.

    Both are indexes, 0 for none. `kind` is empty for physical devices, `type` one of ARPHRD_*. `settings` are
    net.ipv4.conf's in the kernel's order; `address_generation` is None where the device has no IPv6. `forward_delay_s`
    is how long a new port of a bridge passes nothing, 0 without the spanning tree protocol.
    """

    index: int
    name: str
    kind: str = ""
    type: int = ETHERNET
    flags: int = IFF_UP
    mac: str = ""
    mtu: int = 1500
    master: int = 0
    parent: int = 0
    alias: str = ""
    address_generation: int | None = None
    forward_delay_s: float = 0.0
    settings: tuple[int, ...] = ()

    @property
    def is_up(self) -> bool:
        """Its administrative state."""
        return bool(self.flags & IFF_UP)

    @property
    def is_quiet(self) -> bool:
        """Whether it makes itself no IPv6 addresses."""
        return self.address_generation == GENERATION_NONE


def link(message: bytes) -> ObservedLink:
    """Read an RTM_NEWLINK."""
    _, _, kind, index, flags, _ = struct.unpack_from("=BBHiII", message, HEADER_BYTES)
    found = dict(pairs(message, HEADER_BYTES + 16))
    info = dict(pairs(found.get(IFLA_LINKINFO, b"")))
    kind_data = dict(pairs(info.get(IFLA_INFO_DATA, b"")))
    is_bridge = _text(info.get(IFLA_INFO_KIND, b"")) == "bridge"
    has_spanning_tree = is_bridge and number(kind_data.get(IFLA_BR_STP_STATE, b"")) != 0
    families = dict(pairs(found.get(IFLA_AF_SPEC, b"")))
    inet = dict(pairs(families.get(INET, b""))).get(IFLA_INET_CONF, b"")
    generation = dict(pairs(families.get(INET6, b""))).get(IFLA_INET6_ADDR_GEN_MODE)
    return ObservedLink(
        index=index,
        name=_text(found.get(IFLA_IFNAME, b"")),
        kind=_text(info.get(IFLA_INFO_KIND, b"")),
        type=kind,
        flags=flags,
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        mtu=number(found.get(IFLA_MTU, b"")),
        master=number(found.get(IFLA_MASTER, b"")),
        parent=number(found.get(IFLA_LINK, b"")),
        alias=_text(found.get(IFLA_IFALIAS, b"")),
        address_generation=None if generation is None else generation[0],
        # Listening, then learning, each for the delay, which is in hundredths of a second.
        forward_delay_s=number(kind_data.get(IFLA_BR_FORWARD_DELAY, b"")) / 50 if has_spanning_tree else 0.0,
        settings=struct.unpack(f"={len(inet) // 4}I", inet[: len(inet) & ~3]),
    )


def _text(value: bytes) -> str:
    return value.partition(b"\0")[0].decode(errors="surrogateescape")


@frozen
class ObservedAddress(Value):
    """An address on a device; `body` is its message without the header."""

    body: bytes
    found: Mapping[int, bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "found", dict(pairs(self.body, 8)))

    @property
    def version(self) -> int:
        """4 or 6; 0 for other families."""
        return VERSIONS.get(self.body[0], 0)

    @property
    def index(self) -> int:
        """The device's."""
        return number(self.body[4:8])

    @property
    def interface(self) -> IPInterface:
        """The address itself with its prefix length."""
        local = self.found.get(IFA_LOCAL) or self.found.get(IFA_ADDRESS, b"")
        return ip_interface((local, self.body[1]))

    @property
    def peer(self) -> IPAddress | None:
        """The other end of a point-to-point address."""
        local, address = self.found.get(IFA_LOCAL), self.found.get(IFA_ADDRESS)
        return ip_address(address) if local and address and local != address else None

    @property
    def flags(self) -> int:
        """IFA_F_... bits."""
        return number(self.found.get(IFA_FLAGS, self.body[2:3]))

    @property
    def message(self) -> bytes:
        """As the kernel has told it, with a header."""
        return _message(RTM_NEWADDR, self.body)

    @property
    def is_kept(self) -> bool:
        """Whether somebody has set it, unlike what comes by itself and goes by itself."""
        return bool(self.flags & PERMANENT)

    @property
    def metric(self) -> int:
        """Of the route to its subnet; 0 for the kernel's choice."""
        return number(self.found.get(IFA_RT_PRIORITY, b""))

    @property
    def lifetime_s(self) -> int | None:
        """How long it stays valid; None for ever."""
        valid = number(self.found.get(IFA_CACHEINFO, _u32(FOREVER) * 2)[4:8])
        return None if valid == FOREVER else valid

    @property
    def is_advertised(self) -> bool:
        """Whether the kernel made it from a router's advertisement (kernels from 5.18 on tell)."""
        return self.found.get(IFA_PROTO) == bytes([PROTO_ADVERTISED])

    @property
    def brings_route(self) -> bool:
        """Whether the kernel adds a route to its subnet with it."""
        return not self.flags & NOPREFIXROUTE

    def on(self, index: int, names: tuple[str, str], flags: int) -> bytes:
        """Return the body for another device with these flags; `names` are the old and the new device's, for labels."""
        old, new = names
        attributes = []
        for kind, value in pairs(self.body, 8):
            if kind == IFA_LABEL:
                label = _text(value)
                label = new + label.removeprefix(old) if label.startswith(old) else label
                if len(label) <= LABEL_CHARACTERS_MAX:  # else it gets the device's name
                    attributes.append((kind, label.encode() + b"\0"))
            elif kind != IFA_FLAGS:
                attributes.append((kind, value))
        attributes.append((IFA_FLAGS, _u32(flags)))
        return self.body[:2] + bytes([flags & 0xFF]) + self.body[3:4] + _u32(index) + packed(attributes)

    def aged(self, other: ObservedAddress) -> ObservedAddress:
        """Return it with the lifetimes that another report of it tells, and proved unique if it is by now."""
        kept = [(kind, value) for kind, value in pairs(self.body, 8) if kind not in {IFA_CACHEINFO, IFA_FLAGS}]
        lifetimes = [(IFA_CACHEINFO, other.found[IFA_CACHEINFO])] if IFA_CACHEINFO in other.found else []
        flags = self.flags & ~TENTATIVE | other.flags & TENTATIVE
        return ObservedAddress(self.body[:8] + packed([*kept, *lifetimes, (IFA_FLAGS, _u32(flags))]))

    def __str__(self) -> str:
        return f"{self.interface}{f' peer {self.peer}' if self.peer else ''}"


def address(message: bytes) -> ObservedAddress:
    """Read an RTM_NEWADDR."""
    return ObservedAddress(message[HEADER_BYTES:])


@frozen
class ObservedRoute(Value):
    """A route; `body` is its message without the header."""

    body: bytes
    found: Mapping[int, bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "found", dict(pairs(self.body, 12)))

    @property
    def version(self) -> int:
        """4 or 6; 0 for other families."""
        return VERSIONS.get(self.body[0], 0)

    @property
    def table(self) -> int:
        """The routing table's number."""
        return number(self.found.get(RTA_TABLE, self.body[4:5]))

    @property
    def destination(self) -> IPNetwork:
        """Where it leads."""
        size = 4 if self.version == 4 else 16
        return ip_network((self.found.get(RTA_DST, bytes(size)), self.body[1]))

    @property
    def protocol(self) -> int:
        """RTPROT_..., who made it."""
        return self.body[5]

    @property
    def scope(self) -> int:
        """RT_SCOPE_..., higher the nearer."""
        return self.body[6]

    @property
    def type(self) -> int:
        """RTN_..."""
        return self.body[7]

    @property
    def metric(self) -> int:
        """Lower goes first."""
        return number(self.found.get(RTA_PRIORITY, b""))

    @property
    def source(self) -> IPAddress | None:
        """The address that packets of the host's own leave under."""
        packed_source = self.found.get(RTA_PREFSRC)
        return ip_address(packed_source) if packed_source else None

    @property
    def key(self) -> tuple[object, ...]:
        """What is the same of routes among which only their order decides."""
        return self.version, self.table, self.destination, self.body[3], self.metric

    @property
    def is_kernels(self) -> bool:
        """Whether it comes and goes with a device or an address, and cannot be made otherwise."""
        return self.table == TABLE_LOCAL and self.protocol == PROTOCOL_KERNEL

    @property
    def is_default(self) -> bool:
        """Whether it leads everywhere."""
        return self.body[1] == 0 and self.type == UNICAST

    @property
    def expires_s(self) -> int | None:
        """When it ends; None for never."""
        if RTA_EXPIRES in self.found:
            return number(self.found[RTA_EXPIRES])
        ticks: int = struct.unpack_from("=i", self.found.get(RTA_CACHEINFO, bytes(12)), 8)[0]
        return max(1, ticks // TICKS_PER_S) if ticks > 0 else None

    @property
    def gateway(self) -> IPAddress | None:
        """The next hop of its own family, if there is one only."""
        found = self.found.get(RTA_GATEWAY)
        return ip_address(found) if found else None

    @property
    def preference(self) -> int:
        """A router's, as it advertises it."""
        return number(self.found.get(RTA_PREF, b""))

    @property
    def is_advertised(self) -> bool:
        """Whether a router's advertisement has made it, or AdvertisedRoute, of which the kernel says that root has."""
        if self.version != 6 or self.table != TABLE_MAIN or not self.gateway:
            return False
        is_again = self.is_default and self.protocol == PROTOCOL_BOOT and self.expires_s is not None
        return self.protocol == PROTOCOL_ADVERTISED or is_again

    @property
    def is_learned(self) -> bool:
        """Whether a router's advertisement has made it, or it will expire."""
        return self.protocol == PROTOCOL_ADVERTISED or self.expires_s is not None

    @property
    def nexthop_object(self) -> int:
        """The id of the kernel's nexthop object that it goes by, or 0."""
        return number(self.found.get(RTA_NH_ID, b""))

    @property
    def message(self) -> bytes:
        """As the kernel has told it, with a header."""
        return _message(RTM_NEWROUTE, self.body)

    @property
    def is_main(self) -> bool:
        """Whether it is a unicast one of the main table."""
        is_cloned = number(self.body[8:12]) & RTM_F_CLONED
        return bool(self.version and self.table == TABLE_MAIN and self.type == UNICAST and not is_cloned)

    @property
    def index(self) -> int:
        """The device's; 0 where it leads through several."""
        return 0 if RTA_MULTIPATH in self.found else number(self.found.get(RTA_OIF, b""))

    def indexes(self) -> set[int]:
        """Return the devices that it goes through."""
        found = {number(self.found[RTA_OIF])} if RTA_OIF in self.found else set()
        return found | {hop[0] for hop in _hops(self.found.get(RTA_MULTIPATH, b""))}

    def through(self, old: int, new: int) -> bytes:
        """Return the body with device `new` in place of `old`, fit to be sent: without what only reports say."""
        attributes = []
        for kind, value in pairs(self.body, 12):
            if kind == RTA_OIF:
                attributes.append((kind, _u32(new) if number(value) == old else value))
            elif kind == RTA_MULTIPATH:
                attributes.append((kind, b"".join(_packed_hop(hop, old, new) for hop in _hops(value))))
            elif kind not in {RTA_CACHEINFO, RTA_EXPIRES}:
                attributes.append((kind, value))
        if self.expires_s is not None:
            attributes.append((RTA_EXPIRES, _u32(self.expires_s)))
        flags = number(self.body[8:12]) & RTNH_F_ONLINK
        return self.body[:8] + _u32(flags) + packed(attributes)

    def text(self, names: Mapping[int, str]) -> str:
        """Return it in the words of ip-route(8), devices by their names."""
        leads = "default" if self.body[1] == 0 else str(self.destination)
        hops = list(_hops(self.found.get(RTA_MULTIPATH, b"")))
        device = names.get(number(self.found.get(RTA_OIF, b"")), "")
        words = [f"{TYPES[self.type] if self.type < len(TYPES) else ''}{leads}", _via(self.found, device)]
        words += [f"nexthop {_via(dict(pairs(rest)), names.get(index, str(index)))}" for index, _, _, rest in hops]
        words += [f"src {self.source}"] if self.source else []
        words += [f"metric {self.metric}"] if self.metric else []
        words += [f"table {self.table}"] if self.table != TABLE_MAIN else []
        return " ".join(word for word in words if word)


def _hops(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield the next hops of a route: index, flags, weight less one, attributes."""
    offset = 0
    while offset + 8 <= len(data):
        size, flags, weight, index = struct.unpack_from("=HBBi", data, offset)
        if size < 8:  # a header's own length
            return
        yield index, flags, weight, data[offset + 8 : offset + size]
        offset += (size + 3) & ~3


def _packed_hop(hop: tuple[int, int, int, bytes], old: int, new: int) -> bytes:
    index, flags, weight, rest = hop
    header = struct.pack("=HBBi", 8 + len(rest), flags & RTNH_F_ONLINK, weight, new if index == old else index)
    return header + rest + bytes(-len(rest) % 4)


def _via(found: Mapping[int, bytes], device: str) -> str:
    gateway = found.get(RTA_GATEWAY) or found.get(RTA_VIA, b"")[2:]
    via = f"via {ip_address(gateway)} " if len(gateway) in {4, 16} else ""
    return f"{via}dev {device}" if device else via.strip()


def route(message: bytes) -> ObservedRoute:
    """Read an RTM_NEWROUTE."""
    return ObservedRoute(message[HEADER_BYTES:])


def subnet_routes(item: ObservedAddress) -> set[tuple[IPNetwork, int, IPAddress | None]]:
    """Return destination, metric and source of the routes that the kernel adds with an address.

    fib_add_ifaddr and inet6_addr_add of the kernel; those of the table `local` are left out.
    """
    local = item.interface
    if not item.brings_route:
        return set()
    if isinstance(local.ip, IPv4Address):
        far = item.peer or local.ip
        subnet = ip_network((far, local.network.prefixlen), strict=False)
        if item.flags & SECONDARY or (subnet.prefixlen == 32 and not item.peer) or int(far) >> 24 == 0:
            return set()
        return {(subnet, item.metric, local.ip)}
    metric = item.metric or 256  # IP6_RT_PRIO_ADDRCONF
    found: set[tuple[IPNetwork, int, IPAddress | None]] = {(local.network, metric, None)}
    return found | {(ip_network(item.peer), metric, None)} if item.peer else found


@frozen
class Observed(Value):
    """What the kernel has told: devices, addresses and routes of a network namespace, in its order."""

    links: Sequence[ObservedLink] = ()
    addresses: Sequence[ObservedAddress] = ()
    routes: Sequence[ObservedRoute] = ()

    def link(self, name: str) -> ObservedLink | None:
        """Return the device of that name."""
        return next((item for item in self.links if item.name == name), None)

    def has(self, name: str, index: int) -> bool:
        """Whether there is a device of that name and index."""
        return any((item.name, item.index) == (name, index) for item in self.links)

    def name_of(self, index: int) -> str:
        """Return the name of a device, or what ip(8) calls one that has none here."""
        return next((item.name for item in self.links if item.index == index), f"if{index}")

    def addresses_of(self, link: ObservedLink) -> tuple[ObservedAddress, ...]:
        """Return a device's addresses."""
        return tuple(item for item in self.addresses if item.index == link.index)

    def routes_of(self, link: ObservedLink) -> tuple[ObservedRoute, ...]:
        """Return the routes through a device, those apart that come with it and its addresses."""
        return tuple(item for item in self.routes if link.index in item.indexes() and not item.is_kernels)
