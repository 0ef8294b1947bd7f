"""Objects as netlink messages."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

from dnet._core import ffi, lib
from dnet.linux.netlink import FAMILIES
from dnet.linux.sysctl import FORWARDING_PATHS
from dnet.objects import host, links, routes, vlans
from dnet.objects.object import Device, Object
from dnet.objects.observed import TICKS_PER_S

IPV6_MTU_MIN = 1280  # RFC 8200, section 5
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}  # linux/if_link.h
# Flags of linux/route.h and linux/ipv6_route.h: up, by a gateway; as a default router, or a route, that is advertised.
RTF_GATEWAY, RTF_DEFAULT, RTF_ROUTEINFO, RTF_EXPIRES = 0x3, 0x50000, 0x840000, 0x400000
RTF_PREFERENCE_SHIFT = 27


def ends_segment(item: Object) -> bool:
    """Whether what follows must wait until `item` is known to exist, because it goes by the index chosen for it.

    Were it sent along and `item` refused because somebody has that index, it would hit somebody's device.
    """
    return isinstance(item, (links.Bridge, links.Veth, links.Macvlan, links.MovedDevice, links.Dummy))


def mac_bytes(text: str) -> bytes:
    """Return the six bytes of a MAC address."""
    return bytes.fromhex(text.replace(":", ""))


def advertised_route(item: routes.AdvertisedRoute) -> bytes:
    """Return a struct in6_rtmsg of linux/ipv6_route.h."""
    flags = RTF_GATEWAY | (RTF_DEFAULT if item.destination.prefixlen == 0 else RTF_ROUTEINFO)
    flags |= item.preference << RTF_PREFERENCE_SHIFT
    flags |= 0 if item.expires_s is None else RTF_EXPIRES
    ticks = (item.expires_s or 0) * TICKS_PER_S
    numbers = struct.pack("@IHHILIi", 0, item.destination.prefixlen, 0, item.metric, ticks, flags, item.index)
    return item.destination.network_address.packed + bytes(16) + item.gateway.packed + numbers


@cache
def _host_has_ipv6() -> bool:
    """Whether the kernel has IPv6 (it may be built or booted without)."""
    return os.path.exists(FORWARDING_PATHS[6])


# Each type's message


def _mac(text: str) -> Any:
    return mac_bytes(text) or ffi.NULL


def _put_veth(item: links.Veth, batch: Any, _: object) -> int:
    host_name, peer, mac = item.device.encode(), item.peer.encode(), mac_bytes(item.peer_mac)
    code = lib.dnet_put_veth(batch, item.index, host_name, item.master_index, item.peer_index, peer, mac, item.mtu)
    return int(code)


def _put_macvlan(item: links.Macvlan, batch: Any, _: object) -> int:
    mode, mac = MACVLAN_MODES[item.mode], _mac(item.peer_mac)
    return int(lib.dnet_put_macvlan(batch, item.peer_index, item.peer.encode(), item.index, mode, mac, item.mtu))


def _put_quiet(item: links.NoAutoconf, batch: Any, _: object) -> int:
    has_ipv6 = _host_has_ipv6() and not 0 < item.mtu < IPV6_MTU_MIN
    return int(lib.dnet_put_quiet(batch, item.index, item.alias.encode() or ffi.NULL, has_ipv6))


def _put_address(item: routes.Address, batch: Any, is_new: int) -> int:
    address, length = item.interface.packed, item.interface.network.prefixlen
    family = FAMILIES[item.interface.version]
    return int(lib.dnet_put_address(batch, is_new, item.index, family, address, length, item.is_bare))


def _put_route(item: routes.Route, batch: Any, is_new: int) -> int:
    address, length = item.destination.network_address.packed, item.destination.prefixlen
    family, gateway = FAMILIES[item.destination.version], item.gateway.packed if item.gateway else ffi.NULL
    return int(lib.dnet_put_route(batch, is_new, item.index, family, address, length, gateway, item.metric))


def _put_bridge_vlans(item: vlans.BridgeVlans, batch: Any, is_new: int) -> int:
    count, ranges = len(item.ranges), ffi.new("uint16_t[]", [vid for pair in item.ranges for vid in pair])
    return int(lib.dnet_put_bridge_vlans(batch, is_new, item.index, item.is_bridge, ranges, count, item.untagged))


def _put_message(item: host.Message, batch: Any, _: object) -> int:
    return int(lib.dnet_put_message(batch, item.type, item.flags, item.body, len(item.body)))


def _put_dumped(item: host.ForeignState, batch: Any, _: object) -> int:
    is_new = not isinstance(item, routes.DisplacedRoute)
    return int(lib.dnet_put_dumped(batch, is_new, item.index, item.message, len(item.message)))


# What appends the message that creates an object of a type, or, if it is not new (the third argument), removes it:
# 0 or a negative errno. Only what builders in C tell apart can be removed.
ENCODERS: dict[type[Object], Callable[[Any, Any, int], int]] = {
    links.Bridge: lambda it, to, _: lib.dnet_put_bridge(to, it.index, it.device.encode(), _mac(it.mac), it.mtu),
    links.Veth: _put_veth,
    links.Macvlan: _put_macvlan,
    links.MovedDevice: lambda it, to, _: lib.dnet_put_move(to, it.index, -1, it.peer.encode(), it.peer_index),
    links.Dummy: lambda it, to, _: lib.dnet_put_dummy(to, it.index, it.device.encode(), _mac(it.mac), it.mtu),
    Device: lambda it, to, _: lib.dnet_put_delete(to, it.index),  # its absence
    links.Identity: lambda it, to, _: lib.dnet_put_identity(to, it.index, ffi.NULL, _mac(it.mac), it.mtu),
    links.Announcement: lambda it, to, _: lib.dnet_put_identity(to, it.index, ffi.NULL, _mac(it.mac), 0),
    links.NoAutoconf: _put_quiet,
    links.Alias: lambda it, to, _: lib.dnet_put_quiet(to, it.index, it.alias.encode(), 0),
    links.ArpNotify: lambda it, to, _: lib.dnet_put_arp_notify(to, it.index),
    links.CarrierSeen: lambda it, to, _: lib.dnet_put_ask(to, it.index, ffi.NULL),
    links.LinkUp: lambda it, to, _: lib.dnet_put_up(to, it.index),
    links.PortOf: lambda it, to, _: lib.dnet_put_master(to, it.index, it.master_index),
    links.BridgePort: lambda it, to, _: lib.dnet_put_bridge_port(to, it.index, it.hairpin, it.isolated),
    links.NoTransmitOffloads: lambda it, to, _: lib.dnet_put_name(to, it.device.encode()),
    routes.Address: _put_address,
    routes.Route: _put_route,
    routes.LocalRouting: lambda it, to, is_new: lib.dnet_put_route_localnet(to, is_new, it.index),
    routes.LoopbackRoute: lambda it, to, is_new: lib.dnet_put_loopback_route(to, is_new, it.index),
    routes.DisplacedRoute: _put_dumped,
    host.ForeignState: _put_dumped,
    host.LinkMessage: _put_message,
    host.AddressMessage: _put_message,
    host.RouteMessage: _put_message,
    vlans.MacEntry: lambda it, to, is_new: lib.dnet_put_mac_entry(to, is_new, it.index, _mac(it.mac)),
    vlans.ClsactHooks: lambda it, to, is_new: lib.dnet_put_clsact(to, is_new, it.index, *it.blocks),
    vlans.BridgeVlanFiltering: lambda it, to, is_new: lib.dnet_put_bridge_filtering(to, is_new, it.index),
    vlans.BridgeVlans: _put_bridge_vlans,
}
