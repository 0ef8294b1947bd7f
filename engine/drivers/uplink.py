"""Uplinks: moving the addresses and routes of an interface to the bridge that it becomes a port of, and back.

`adopting` and `releasing` return the messages of one batch, in their order; docs/decisions/0011-adopting.md gives the
reasons for it. What the kernel adds by itself (local routes, the route to an address's subnet) is left to it;
everything else is sent again as it was reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dnet.drivers.uplink_snapshot import LEARNING, Snapshot
from dnet.model.address import IPAddress, IPNetwork
from dnet.objects import replay
from dnet.objects.host import Message, Sysctl
from dnet.objects.links import ReceiveOffloads
from dnet.objects.object import Absent, Object
from dnet.objects.observed import (
    DADFAILED,
    GENERATION_NONE,
    PROTOCOL_KERNEL,
    ObservedAddress,
    ObservedLink,
    ObservedRoute,
    subnet_routes,
)
from dnet.objects.openvswitch import OvsMac, OvsPort
from dnet.objects.replay import SETTINGS
from dnet.objects.vlans import ClsactHooks, VlanMapEntry

# The bridge gets the interface's values of net.ipv4.conf, except these, which concern forwarding for containers.
_NOT_CARRIED = {"forwarding", "mc_forwarding", "bc_forwarding", "route_localnet", "arp_notify", "tag", "medium_id"}
CARRIED = tuple(name for name in SETTINGS if name not in _NOT_CARRIED)

ARP_SILENT = 8  # of arp_ignore: no answer for any address

Key = tuple[IPNetwork, int, IPAddress | None]


def adopting(snapshot: Snapshot, port: Sequence[Object]) -> tuple[Object, ...]:
    """Return what makes the interface a port, by the objects of `port`, and the bridge what the interface was."""
    return tuple(_adopting(snapshot, port))


def _adopting(snapshot: Snapshot, port: Sequence[Object]) -> Iterator[Object]:
    interface, bridge = snapshot.interface, snapshot.bridge
    # In the map first, so that all messages go out together.
    yield from (item for item in port if item.backend == "bpf")
    yield from _sysctls(snapshot, _changed_sysctls(snapshot))
    values = _changed_settings(snapshot)
    if values:
        yield replay.settings(bridge, values)
    if _is_switched(snapshot):  # this takes some time, in which the host still uses the interface
        yield from _switching(snapshot, port)
    yield from _leaving(snapshot, interface)
    if interface.address_generation not in (None, GENERATION_NONE):
        yield replay.address_generation(interface, GENERATION_NONE)
    if not _is_switched(snapshot):
        yield from (item for item in port if item.backend == "kernel")
    if not interface.is_up:
        yield replay.up(interface)
    if not _is_switched(snapshot):
        yield from _becoming(interface, bridge, takes_mac=_changes_mac(snapshot))
    elif _silences_arp(snapshot):
        yield replay.settings(interface, {"arp_ignore": ARP_SILENT})
    for item in snapshot.displaced:
        yield replay.no_address(item, bridge.name, bridge)
    yield from _arriving(snapshot, bridge)


def _switching(snapshot: Snapshot, port: Sequence[Object]) -> Iterator[Object]:
    """Yield what makes the interface a port of Open vSwitch, and then the bridge's MAC address."""
    interface = snapshot.interface
    if snapshot.merging:
        yield ReceiveOffloads(interface.name, interface.index, "", 0)
    yield from port
    if snapshot.takes_mac:
        yield OvsMac(snapshot.bridge.name, interface.mac)


def _becoming(interface: ObservedLink, bridge: ObservedLink, *, takes_mac: bool) -> Iterator[Message]:
    """Yield the MTU and MAC address that a Linux bridge takes over; ovs-vswitchd sets those of its bridges."""
    if interface.mtu < bridge.mtu:
        yield replay.mtu(bridge, interface.mtu)
    if takes_mac:
        yield replay.mac(bridge, interface.mac)


def releasing(snapshot: Snapshot, port: Sequence[Object], *, is_rollback: bool = False) -> tuple[Object, ...]:
    """Return what restores everything from the snapshot; for a rollback, however far the adoption came.

    `port` are the objects that make the interface a port, without tc hooks that are gone.
    """
    return tuple(_releasing(snapshot, port, is_rollback=is_rollback))


def parting(snapshot: Snapshot, port: Sequence[Object]) -> Iterator[Object]:
    """Yield what takes the interface out of the bridge, and nothing else."""
    for item in port:
        if isinstance(item, OvsPort):
            yield Absent(item)
    if snapshot.switch_mac is not None and snapshot.takes_mac:
        yield OvsMac(snapshot.bridge.name, snapshot.switch_mac)
    if not snapshot.interface.index:
        return
    if snapshot.bridge.index and not _is_switched(snapshot):
        yield replay.no_port(snapshot.interface, snapshot.bridge)
    yield from (Absent(item) for item in port if isinstance(item, ClsactHooks))


def _releasing(snapshot: Snapshot, port: Sequence[Object], *, is_rollback: bool) -> Iterator[Object]:
    interface, bridge = snapshot.interface, snapshot.bridge
    if bridge.index:
        yield from _leaving(snapshot, bridge)
    if interface.index and _is_switched(snapshot):
        yield from _restoring(snapshot, is_rollback=is_rollback)
    yield from parting(snapshot, port)
    if bridge.index:
        if interface.mtu != bridge.mtu and not _is_switched(snapshot):
            yield replay.mtu(bridge, bridge.mtu)
        if _changes_mac(snapshot) and not _is_switched(snapshot):
            yield replay.mac(bridge, bridge.mac)
        for item in snapshot.displaced:
            yield replay.address(item, bridge.name, bridge, item.flags)
        values = _changed_settings(snapshot)
        if values:
            yield replay.settings(bridge, {name: _setting(bridge, name) for name in values})
    if interface.index and not _is_switched(snapshot):
        yield from _restoring(snapshot, is_rollback=is_rollback)
    if bridge.index:
        before = {name: snapshot.bridge_sysctls[name] for name in _changed_sysctls(snapshot)}
        yield from _sysctls(snapshot, dict(reversed(before.items())))
    yield from (Absent(item) for item in port if isinstance(item, VlanMapEntry))


def _restoring(snapshot: Snapshot, *, is_rollback: bool) -> Iterator[Object]:
    interface = snapshot.interface
    if is_rollback:
        yield from _leaving(snapshot, interface)
    if snapshot.merging:
        yield ReceiveOffloads(interface.name, interface.index, "", snapshot.merging)
    if _silences_arp(snapshot):
        yield replay.settings(interface, {"arp_ignore": _setting(interface, "arp_ignore")})
    if interface.address_generation not in (None, GENERATION_NONE):
        yield replay.address_generation(interface, interface.address_generation or 0)
    if not interface.is_up:
        yield replay.up(interface, is_up=False)
    yield from _arriving(snapshot, interface)


def _is_switched(snapshot: Snapshot) -> bool:
    return snapshot.switch_mac is not None


def _silences_arp(snapshot: Snapshot) -> bool:
    """Whether the interface has to stop answering ARP.

    The host's own stack also receives what Open vSwitch reads in user space; nftables drops only the IP part of that.
    """
    position = SETTINGS.index("arp_ignore")
    known = snapshot.interface.settings
    return _is_switched(snapshot) and position < len(known) and known[position] != ARP_SILENT


def _changes_mac(snapshot: Snapshot) -> bool:
    return snapshot.takes_mac and snapshot.interface.mac != snapshot.bridge.mac


def _setting(link: ObservedLink, name: str) -> int:
    return link.settings[SETTINGS.index(name)]


def _changed_settings(snapshot: Snapshot) -> dict[str, int]:
    """Return the settings in the bridge's net.ipv4.conf that have to change."""
    count = min(len(snapshot.interface.settings), len(snapshot.bridge.settings), len(SETTINGS))
    known = [name for name in CARRIED if SETTINGS.index(name) < count]
    values = {name: _setting(snapshot.interface, name) for name in known}
    if _changes_mac(snapshot) and "arp_notify" in SETTINGS[:count]:
        values["arp_notify"] = 1  # tell neighbours the bridge's new MAC address
    return {name: value for name, value in values.items() if value != _setting(snapshot.bridge, name)}


def _changed_sysctls(snapshot: Snapshot) -> dict[str, str]:
    """Return the settings in the bridge's net.ipv6.conf that have to change."""
    own, other = snapshot.sysctls, snapshot.bridge_sysctls
    values = {name: own[name] for name in (*LEARNING, "accept_redirects", "use_tempaddr") if name in own}
    if "accept_ra" in own:
        # 1 means: unless the host forwards. dnet may turn forwarding on later, so what holds now counts.
        is_learning = own["accept_ra"] == "2" or (own["accept_ra"] == "1" and own.get("forwarding") == "0")
        values["accept_ra"] = "2" if is_learning else "0"
    if any(item.interface.version == 6 for item in snapshot.addresses):
        values = {"disable_ipv6": "0"} | values
    if _changes_mac(snapshot):
        values["ndisc_notify"] = "1"
    return {name: value for name, value in values.items() if other.get(name, value) != value}


def _sysctls(snapshot: Snapshot, values: Mapping[str, str]) -> Iterator[Sysctl]:
    bridge = snapshot.bridge
    return (Sysctl(bridge.name, bridge.index, "", key, value) for key, value in values.items())


def _leaving(snapshot: Snapshot, link: ObservedLink) -> Iterator[Message]:
    """Yield the removal of all addresses and routes from a device, in reverse."""
    interface = snapshot.interface
    for item, _ in reversed(_explicit(snapshot, link)):
        yield replay.no_route(item, interface, link, snapshot.names)
    for address in reversed(_ordered(snapshot)):
        yield replay.no_address(address, interface.name, link)


def _arriving(snapshot: Snapshot, link: ObservedLink) -> Iterator[Object]:
    """Yield all addresses and routes on a device."""
    interface = snapshot.interface
    for address in _ordered(snapshot):
        if address.interface.version == 4:
            yield replay.address(address, interface.name, link, address.flags)
        elif not address.flags & DADFAILED or link.index == interface.index:
            yield from replay.proved_address(address, interface.name, link)
    yield from _corrections(snapshot, link)
    for item, is_last in _explicit(snapshot, link):
        if not item.is_advertised:
            yield replay.route(item, interface, link, snapshot.names, is_last=is_last)
    for item in snapshot.routes:
        if item.is_advertised:
            yield replay.advertised(item, link)


def _ordered(snapshot: Snapshot) -> list[ObservedAddress]:
    """Return addresses in the order to add them: the kernel lists the oldest IPv4 and the newest IPv6 address first."""
    fours = [item for item in snapshot.addresses if item.interface.version == 4]
    return fours + [item for item in reversed(snapshot.addresses) if item.interface.version != 4]


def _implied(snapshot: Snapshot, link: ObservedLink) -> set[Key]:
    """Return the routes that the kernel adds on a device with the addresses."""
    keys: set[Key] = set()
    for item in snapshot.addresses:
        if item.flags & DADFAILED and link.index != snapshot.interface.index:
            continue
        made = subnet_routes(item)
        if link.index == snapshot.bridge.index:
            # Beside a primary address of the same subnet it is a secondary one.
            made = {key for key in made if str(key[0]) not in snapshot.bridge_subnets}
        keys |= made
    return keys


def _key(route: ObservedRoute) -> Key:
    return route.destination, route.metric, route.source


def _explicit(snapshot: Snapshot, link: ObservedLink) -> list[tuple[ObservedRoute, bool]]:
    """Return the routes to send for a device, nearest first, each with whether it follows another to the same place.

    Those that precede others are sent in reverse.
    """
    implied = _implied(snapshot, link)
    chosen = [
        (number, item)
        for number, item in enumerate(snapshot.routes)
        if item.protocol != PROTOCOL_KERNEL or _key(item) not in implied or number in snapshot.ahead
    ]
    first = [(item, False) for number, item in reversed(chosen) if number in snapshot.ahead]
    last = [(item, True) for number, item in chosen if number not in snapshot.ahead]
    return sorted([*first, *last], key=lambda pair: -pair[0].scope)


def _corrections(snapshot: Snapshot, link: ObservedLink) -> Iterator[Message]:
    """Yield the removal of routes that the kernel adds with the addresses, but that were absent or in another order."""
    own = {_key(item): number for number, item in enumerate(snapshot.routes) if item.protocol == PROTOCOL_KERNEL}
    for key in sorted(_implied(snapshot, link), key=str):
        is_misplaced = own.get(key) in snapshot.ahead
        if snapshot.interface.is_up and (key not in own or is_misplaced):
            yield replay.no_subnet_route(link, *key)
