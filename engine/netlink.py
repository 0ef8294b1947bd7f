"""What the kernel is told and tells over netlink: objects as messages, refusals as errors, dumps as values. Rank 4, IO.

Knows objects, nothing of networks or state, and decides nothing: kernel.py says what goes where and in which order.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from dnet import reports, texts
from dnet._core import ffi, lib
from dnet.errors import Conflict, DnetError, Exhausted, KernelRefused, NeedsRoot, NotFound, Unsupported
from dnet.model import IPAddress
from dnet.objects import (
    Addition,
    Address,
    AddressMessage,
    AdvertisedRoute,
    Alias,
    Announced,
    ArpNotify,
    Bridge,
    BridgeFiltering,
    BridgePort,
    BridgeVlans,
    DisplacedRoute,
    Dummy,
    Dumped,
    Identity,
    JoinedSandbox,
    LinkMessage,
    LocalRouting,
    LoopbackRoute,
    MacEntry,
    Macvlan,
    Membership,
    Message,
    MovedDevice,
    NoBridgeFiltering,
    NoBridgeVlans,
    NoDevice,
    NoMacEntry,
    NoRoute,
    NoVlanFilter,
    Object,
    Offloads,
    Quiet,
    Route,
    RouteMessage,
    Sandbox,
    Settled,
    Up,
    Veth,
    VlanFilter,
    VlanProgram,
)

AF_UNSPEC = 0
FAMILIES = {4: 2, 6: 10}  # AF_INET, AF_INET6
RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE = 18, 22, 26
# Flags of linux/route.h and linux/ipv6_route.h: up, by a gateway; as a default router, or a route, that is advertised.
RTF_GATEWAY, RTF_DEFAULT, RTF_ROUTEINFO, RTF_EXPIRES = 0x3, 0x50000, 0x840000, 0x400000
RTF_PREFERENCE_SHIFT = 27
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}  # linux/if_link.h
# linux/netfilter/nfnetlink.h and nf_tables.h. A message begins with its header, and family, version and resource.
NFNL_HEADER = struct.Struct("=IHHIIBBH")
NLM_F_REQUEST = 1
NFT_MSG_NEWGEN, NFT_MSG_GETGEN = 0x0A0F, 0x0A10
NFTA_GEN_ID = 1
ANSWER_BYTES = 4096
LEGACY_TABLES_PATH = "/proc/net/ip_tables_names"
# Longest message: SETLINK with an alias of 255 bytes, or with 16 ranges of VLANs.
MESSAGE_BYTES_MAX = 448
DUMP_BYTES = 1 << 15
FORWARDING_PATHS = {4: "/proc/sys/net/ipv4/ip_forward", 6: "/proc/sys/net/ipv6/conf/all/forwarding"}
IPV6_MTU_MIN = 1280  # RFC 8200, section 5


def new_batch(messages: int, further_bytes: int = 0) -> tuple[Any, Any]:
    """Return a batch with room for so many messages of dnet's own, and the memory it writes to."""
    capacity = messages * MESSAGE_BYTES_MAX + further_bytes
    data = ffi.new("uint8_t[]", capacity)
    batch = ffi.new("struct dnet_batch *", {"data": data, "capacity": capacity})
    return batch, data


# Objects as messages


def ends_segment(item: Object) -> bool:
    """Whether what follows must wait until `item` is known to exist, since it goes by the index chosen for it.

    Were it sent along and `item` refused because somebody has that index, it would hit somebody's device.
    """
    return isinstance(item, (Bridge, Veth, Macvlan, MovedDevice, Dummy))


def _put_bridge(item: Bridge, batch: Any) -> int:
    return int(lib.dnet_put_bridge(batch, item.index, item.device.encode(), mac_bytes(item.mac), item.mtu))


def _put_veth(item: Veth, batch: Any) -> int:
    peer = item.peer.encode()
    return int(
        lib.dnet_put_veth(
            batch,
            item.index,
            item.device.encode(),
            item.master_index,
            item.peer_index,
            peer,
            mac_bytes(item.peer_mac),
            item.mtu,
        )
    )


def _put_quiet(item: Quiet, batch: Any) -> int:
    has_ipv6 = _host_has_ipv6() and not 0 < item.mtu < IPV6_MTU_MIN
    return int(lib.dnet_put_quiet(batch, item.index, item.alias.encode() if item.alias else ffi.NULL, has_ipv6))


def _put_up(item: Up, batch: Any) -> int:
    return int(lib.dnet_put_up(batch, item.index))


def _put_address(item: Address, batch: Any) -> int:
    interface = item.interface
    family, prefix = FAMILIES[interface.version], interface.network.prefixlen
    return int(lib.dnet_put_address(batch, 1, item.index, family, interface.packed, prefix, item.is_bare))


def _put_route(item: Route, batch: Any) -> int:
    is_new = not isinstance(item, NoRoute)
    gateway = item.gateway.packed if item.gateway else ffi.NULL
    destination = item.destination
    family, packed = FAMILIES[destination.version], destination.network_address.packed
    return int(
        lib.dnet_put_route(batch, is_new, item.index, family, packed, destination.prefixlen, gateway, item.metric)
    )


def _put_dumped(item: Dumped, batch: Any) -> int:
    is_new = not isinstance(item, DisplacedRoute)
    return int(lib.dnet_put_dumped(batch, is_new, item.index, item.message, len(item.message)))


def _put_macvlan(item: Macvlan, batch: Any) -> int:
    mac = mac_bytes(item.peer_mac) if item.peer_mac else ffi.NULL
    mode, peer = MACVLAN_MODES[item.mode], item.peer.encode()
    return int(lib.dnet_put_macvlan(batch, item.peer_index, peer, item.index, mode, mac, item.mtu))


def _put_moved_device(item: MovedDevice, batch: Any) -> int:
    return int(lib.dnet_put_move(batch, item.index, -1, item.peer.encode(), item.peer_index))


def _put_dummy(item: Dummy, batch: Any) -> int:
    mac = mac_bytes(item.mac) if item.mac else ffi.NULL
    return int(lib.dnet_put_dummy(batch, item.index, item.device.encode(), mac, item.mtu))


def _put_no_device(item: NoDevice, batch: Any) -> int:
    return int(lib.dnet_put_delete(batch, item.index))


def _put_identity(item: Identity, batch: Any) -> int:
    mac = mac_bytes(item.mac) if item.mac else ffi.NULL
    return int(lib.dnet_put_identity(batch, item.index, ffi.NULL, mac, item.mtu))


def _put_alias(item: Alias, batch: Any) -> int:
    return int(lib.dnet_put_quiet(batch, item.index, item.alias.encode(), 0))


def _put_arp_notify(item: ArpNotify, batch: Any) -> int:
    return int(lib.dnet_put_arp_notify(batch, item.index))


def _put_settled(item: Settled, batch: Any) -> int:
    return int(lib.dnet_put_ask(batch, item.index, ffi.NULL))


def _put_announced(item: Announced, batch: Any) -> int:
    return int(lib.dnet_put_identity(batch, item.index, ffi.NULL, mac_bytes(item.mac), 0))


def _put_membership(item: Membership, batch: Any) -> int:
    return int(lib.dnet_put_master(batch, item.index, item.master_index))


def _put_bridge_port(item: BridgePort, batch: Any) -> int:
    return int(lib.dnet_put_bridge_port(batch, item.index, item.hairpin, item.isolated))


def _put_loopback_route(item: LoopbackRoute, batch: Any) -> int:
    return int(lib.dnet_put_loopback_route(batch, item.index))


def _put_local_routing(item: LocalRouting, batch: Any) -> int:
    return int(lib.dnet_put_route_localnet(batch, item.index))


def _put_offloads(item: Offloads, batch: Any) -> int:
    return int(lib.dnet_put_name(batch, item.device.encode()))


def _put_mac_entry(item: MacEntry, batch: Any) -> int:
    return int(lib.dnet_put_mac_entry(batch, not isinstance(item, NoMacEntry), item.index, mac_bytes(item.mac)))


def _put_vlan_filter(item: VlanFilter, batch: Any) -> int:
    is_new = not isinstance(item, NoVlanFilter)
    return int(lib.dnet_put_clsact(batch, is_new, item.index, *item.blocks))


def _put_bridge_filtering(item: BridgeFiltering, batch: Any) -> int:
    return int(lib.dnet_put_bridge_filtering(batch, not isinstance(item, NoBridgeFiltering), item.index))


def _put_bridge_vlans(item: BridgeVlans, batch: Any) -> int:
    is_new = not isinstance(item, NoBridgeVlans)
    ranges = ffi.new("uint16_t[]", [vid for pair in item.ranges for vid in pair])
    count = len(item.ranges)
    return int(lib.dnet_put_bridge_vlans(batch, is_new, item.index, item.is_bridge, ranges, count, item.untagged))


def _put_message(item: Message, batch: Any) -> int:
    return int(lib.dnet_put_message(batch, item.kind, item.flags, item.body, len(item.body)))


def _put_addition(item: Addition, batch: Any) -> int:
    return ENCODERS[type(item.item)](item.item, batch)


ENCODERS: dict[type[Object], Callable[[Any, Any], int]] = {
    Bridge: _put_bridge,
    Veth: _put_veth,
    Quiet: _put_quiet,
    Up: _put_up,
    Address: _put_address,
    Route: _put_route,
    NoRoute: _put_route,
    Membership: _put_membership,
    MacEntry: _put_mac_entry,
    NoMacEntry: _put_mac_entry,
    VlanFilter: _put_vlan_filter,
    NoVlanFilter: _put_vlan_filter,
    BridgeFiltering: _put_bridge_filtering,
    NoBridgeFiltering: _put_bridge_filtering,
    BridgeVlans: _put_bridge_vlans,
    NoBridgeVlans: _put_bridge_vlans,
    BridgePort: _put_bridge_port,
    LocalRouting: _put_local_routing,
    LoopbackRoute: _put_loopback_route,
    Offloads: _put_offloads,
    Macvlan: _put_macvlan,
    MovedDevice: _put_moved_device,
    Dummy: _put_dummy,
    NoDevice: _put_no_device,
    Identity: _put_identity,
    Alias: _put_alias,
    ArpNotify: _put_arp_notify,
    Settled: _put_settled,
    Announced: _put_announced,
    Dumped: _put_dumped,
    DisplacedRoute: _put_dumped,
    LinkMessage: _put_message,
    AddressMessage: _put_message,
    RouteMessage: _put_message,
    Addition: _put_addition,
}


@cache
def _host_has_ipv6() -> bool:
    """Whether the kernel has IPv6 (it may be built or booted without)."""
    return os.path.exists(FORWARDING_PATHS[6])


def mac_bytes(text: str) -> bytes:
    """Return the six bytes of a MAC address."""
    return bytes.fromhex(text.replace(":", ""))


# Dumps


def dump(fd: int, kind: int, family: int) -> Iterator[bytes]:
    """Yield the messages of an rtnetlink dump, headers included."""
    batch, data = new_batch(1)
    lib.dnet_put_dump(batch, kind, family)
    yield from dump_raw(fd, bytes(ffi.buffer(data, batch.length)))


def dump_raw(fd: int, request: bytes) -> Iterator[bytes]:
    """Yield the messages of the answer to a request for a dump, headers included."""
    data, length = ffi.new("uint8_t[]", request), ffi.new("size_t *")
    capacity = DUMP_BYTES
    while True:
        buffer = ffi.new("uint8_t[]", capacity)
        code = lib.dnet_dump(fd, data, len(request), buffer, capacity, length)
        if code == -errno.ENOBUFS:
            capacity *= 4
        elif code != -errno.EAGAIN:
            break
    if code:
        raise refusal("read the kernel's tables", -code, "")
    view = bytes(ffi.buffer(buffer, length[0]))
    offset = 0
    while offset < len(view):
        (size,) = struct.unpack_from("=I", view, offset)
        yield view[offset : offset + size]
        offset += (size + 3) & ~3


@contextmanager
def entered(sandbox: Sandbox) -> Iterator[tuple[int, int]]:
    """Yield a sandbox's namespace and a netlink socket in it."""
    inode, cookie = identity(sandbox)
    namespace, fd = ffi.new("int *"), ffi.new("int *")
    code = lib.dnet_enter(os.fsencode(sandbox.path), inode, cookie, namespace, fd)
    if code:
        raise refused(sandbox, -code, "")
    try:
        yield int(namespace[0]), int(fd[0])
    finally:
        os.close(namespace[0])
        os.close(fd[0])


def identity(sandbox: Sandbox) -> tuple[int, int]:
    """Return the inode and cookie that a namespace has to have, 0 for any."""
    return (sandbox.inode, sandbox.cookie) if isinstance(sandbox, JoinedSandbox) else (0, 0)


def generation(fd: int) -> int:
    """Return the number of nftables' rules, one more after every change, by a NETLINK_NETFILTER socket; 0 for unknown.

    iptables-legacy's rules change without it: where there are any, it is 0.
    """
    if "filter" in texts.read(LEGACY_TABLES_PATH).split():
        return 0
    os.write(fd, NFNL_HEADER.pack(NFNL_HEADER.size, NFT_MSG_GETGEN, NLM_F_REQUEST, 0, 0, AF_UNSPEC, 0, 0))
    answer = os.read(fd, ANSWER_BYTES)
    is_known = NFNL_HEADER.unpack_from(answer)[1] == NFT_MSG_NEWGEN
    return int.from_bytes(dict(reports.pairs(answer, NFNL_HEADER.size))[NFTA_GEN_ID], "big") if is_known else 0


class Sight:
    """What one network namespace has, asked over a socket in it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def links(self) -> list[reports.Link]:
        """Return the devices."""
        return [reports.link(message) for message in dump(self._fd, RTM_GETLINK, AF_UNSPEC)]

    def addresses(self) -> list[reports.Address]:
        """Return the addresses, of both families."""
        found = [reports.address(message) for message in dump(self._fd, RTM_GETADDR, AF_UNSPEC)]
        return [item for item in found if item.version]

    def routes(self) -> list[reports.Route]:
        """Return the routes of all tables, of both families."""
        found = [reports.route(message) for message in dump(self._fd, RTM_GETROUTE, AF_UNSPEC)]
        return [item for item in found if item.version]

    def report(self) -> reports.Report:
        """Return all of that."""
        return reports.Report(self.links(), self.addresses(), self.routes())


# Refusals


def refused(item: Object, code: int, text: str) -> DnetError:
    """Build the error of an object that the kernel refused."""
    what = f"create {item}"
    if isinstance(item, Message):
        what = f"remove {item.text.removeprefix('no ')}" if item.text.startswith("no ") else f"set {item}"
    if isinstance(item, JoinedSandbox) and code in {errno.ENOENT, errno.ESTALE}:
        now = "has another network namespace by now" if code == errno.ESTALE else "has no network namespace any more"
        return NotFound(f"{item.sandbox} {now}", object=item.sandbox, hint="`dnet reconcile` attaches to it again")
    if code == errno.EEXIST and isinstance(item, (Bridge, Veth, Sandbox)):
        return Conflict(
            f"cannot {what}: it exists already, and is not dnet's",
            object=str(item),
            hint="remove or rename it",
        )
    if code == errno.EEXIST and isinstance(item, VlanFilter):
        return Conflict(
            f"cannot {what}: somebody else's tc hooks are there (a clsact or ingress qdisc)",
            object=str(item),
            hint=f"remove them: tc qdisc del dev {item.device} clsact",
        )
    if code == errno.ENOENT and isinstance(item, (VlanFilter, VlanProgram)):
        return Unsupported(
            f"cannot {what}: {text or os.strerror(code)}",
            object=str(item),
            hint="this kernel lacks tc's hooks or BPF classifier (CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_BPF)",
        )
    if code == errno.EXFULL:
        return Exhausted(f"cannot {what}: the bridge has no port left (the kernel's limit is 1,023)", object=str(item))
    return refusal(what, code, text)


def refusal(what: str, code: int, text: str) -> DnetError:
    """Build the error of something that the kernel refused; `text` are its words, if any."""
    if code == errno.EOPNOTSUPP:
        reason = text or os.strerror(code)
        return Unsupported(
            f"cannot {what}: {reason}",
            object=what,
            hint="this kernel lacks the feature; `dnet doctor` lists them",
        )
    if code == errno.EPERM:
        return NeedsRoot(f"cannot {what}: {os.strerror(code)}", object=what, hint="run it as root, with sudo say")
    return KernelRefused(what, code, f"{os.strerror(code)} ({text})" if text else os.strerror(code))


def advertised_route(item: AdvertisedRoute) -> bytes:
    """Return a struct in6_rtmsg of linux/ipv6_route.h."""
    flags = RTF_GATEWAY | (RTF_DEFAULT if item.destination.prefixlen == 0 else RTF_ROUTEINFO)
    flags |= item.preference << RTF_PREFERENCE_SHIFT
    flags |= 0 if item.expires_s is None else RTF_EXPIRES
    ticks = (item.expires_s or 0) * reports.TICKS_PER_S
    numbers = struct.pack("@IHHILIi", 0, item.destination.prefixlen, 0, item.metric, ticks, flags, item.index)
    return item.destination.network_address.packed + bytes(16) + item.gateway.packed + numbers


def mapped(address: IPAddress) -> bytes:
    """Return 16 bytes, IPv4 mapped into IPv6."""
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed  # noqa: PLR2004
