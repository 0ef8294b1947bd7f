"""Objects as netlink messages."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

from dnet._core import ffi, lib
from dnet.linux.netlink import (
    FAMILIES,
    RTF_DEFAULT,
    RTF_EXPIRES,
    RTF_GATEWAY,
    RTF_PREFERENCE_SHIFT,
    RTF_ROUTEINFO,
)
from dnet.linux.sysctl import FORWARDING_PATHS
from dnet.objects import observed
from dnet.objects.host import Addition, AddressMessage, Dumped, LinkMessage, Message, RouteMessage
from dnet.objects.links import (
    Alias,
    Announced,
    ArpNotify,
    Bridge,
    BridgePort,
    Dummy,
    Identity,
    Macvlan,
    Membership,
    MovedDevice,
    NoDevice,
    Offloads,
    Quiet,
    Settled,
    Up,
    Veth,
)
from dnet.objects.object import Object
from dnet.objects.routes import Address, AdvertisedRoute, DisplacedRoute, LocalRouting, LoopbackRoute, NoRoute, Route
from dnet.objects.vlans import (
    BridgeFiltering,
    BridgeVlans,
    MacEntry,
    NoBridgeFiltering,
    NoBridgeVlans,
    NoMacEntry,
    NoVlanFilter,
    VlanFilter,
)

MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}  # linux/if_link.h
IPV6_MTU_MIN = 1280  # RFC 8200, section 5


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


def advertised_route(item: AdvertisedRoute) -> bytes:
    """Return a struct in6_rtmsg of linux/ipv6_route.h."""
    flags = RTF_GATEWAY | (RTF_DEFAULT if item.destination.prefixlen == 0 else RTF_ROUTEINFO)
    flags |= item.preference << RTF_PREFERENCE_SHIFT
    flags |= 0 if item.expires_s is None else RTF_EXPIRES
    ticks = (item.expires_s or 0) * observed.TICKS_PER_S
    numbers = struct.pack("@IHHILIi", 0, item.destination.prefixlen, 0, item.metric, ticks, flags, item.index)
    return item.destination.network_address.packed + bytes(16) + item.gateway.packed + numbers
