"""Moving what an interface is on the network to the bridge that it becomes a port of, and back. Rank 5, pure.

`adopting` and `releasing` are the messages, in the order in which they go out, one batch each. What the kernel does by
itself (local routes, the route to an address's subnet) is left to it, what is there beside that is sent again as it was
reported. The order is argued for in docs/decisions/0011-adopting.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dnet import messages
from dnet.messages import SETTINGS
from dnet.model import IPAddress, IPNetwork
from dnet.objects import Message, Object, Sysctl
from dnet.reports import (
    DADFAILED,
    GENERATION_NONE,
    NODAD,
    PROTOCOL_KERNEL,
    TENTATIVE,
    Address,
    Link,
    Route,
    subnet_routes,
)
from dnet.snapshots import LEARNING, Snapshot

# Of net.ipv4.conf, the bridge gets the interface's values, except of these, which are about forwarding for containers.
_LEFT = {"forwarding", "mc_forwarding", "bc_forwarding", "route_localnet", "arp_notify", "tag", "medium_id"}
CARRIED = tuple(name for name in SETTINGS if name not in _LEFT)

Key = tuple[IPNetwork, int, IPAddress | None]


def adopting(snapshot: Snapshot) -> tuple[Object, ...]:
    """Return what makes the interface a port of the bridge, and the bridge what the interface was."""
    return tuple(_adopting(snapshot))


def _adopting(snapshot: Snapshot) -> Iterator[Object]:
    interface, bridge = snapshot.interface, snapshot.bridge
    yield from _sysctls(snapshot, _wanted_sysctls(snapshot))
    values = _wanted_settings(snapshot)
    if values:
        yield messages.settings(bridge, values)
    yield from _leaving(snapshot, interface)
    if interface.address_generation not in (None, GENERATION_NONE):
        yield messages.address_generation(interface, GENERATION_NONE)
    yield messages.port(interface, bridge)
    if not interface.is_up:
        yield messages.up(interface)
    if interface.mtu < bridge.mtu:
        yield messages.mtu(bridge, interface.mtu)
    if _changes_mac(snapshot):
        yield messages.mac(bridge, interface.mac)
    for item in snapshot.displaced:
        yield messages.no_address(item, bridge.name, bridge)
    yield from _arriving(snapshot, bridge)


def releasing(snapshot: Snapshot, *, is_rollback: bool = False) -> tuple[Object, ...]:
    """Return what makes everything as the snapshot says it was; for a rollback, however far the adopting came."""
    return tuple(_releasing(snapshot, is_rollback=is_rollback))


def _releasing(snapshot: Snapshot, *, is_rollback: bool) -> Iterator[Object]:
    interface, bridge = snapshot.interface, snapshot.bridge
    if bridge.index:
        yield from _leaving(snapshot, bridge)
        if interface.index:
            yield messages.no_port(interface, bridge)
        if interface.mtu != bridge.mtu:
            yield messages.mtu(bridge, bridge.mtu)
        if _changes_mac(snapshot):
            yield messages.mac(bridge, bridge.mac)
        for item in snapshot.displaced:
            yield messages.address(item, bridge.name, bridge, item.flags)
        values = _wanted_settings(snapshot)
        if values:
            yield messages.settings(bridge, {name: _setting(bridge, name) for name in values})
    if interface.index:
        yield from _regaining(snapshot, is_rollback=is_rollback)
    if bridge.index:
        before = {name: snapshot.bridge_sysctls[name] for name in _wanted_sysctls(snapshot)}
        yield from _sysctls(snapshot, dict(reversed(before.items())))


def _regaining(snapshot: Snapshot, *, is_rollback: bool) -> Iterator[Object]:
    interface = snapshot.interface
    if is_rollback:
        yield from _leaving(snapshot, interface)
    if interface.address_generation not in (None, GENERATION_NONE):
        yield messages.address_generation(interface, interface.address_generation or 0)
    if not interface.is_up:
        yield messages.up(interface, is_up=False)
    yield from _arriving(snapshot, interface)


def _changes_mac(snapshot: Snapshot) -> bool:
    return snapshot.takes_mac and snapshot.interface.mac != snapshot.bridge.mac


def _setting(link: Link, name: str) -> int:
    return link.settings[SETTINGS.index(name)]


def _wanted_settings(snapshot: Snapshot) -> dict[str, int]:
    """Return what of the bridge's net.ipv4.conf has to change."""
    count = min(len(snapshot.interface.settings), len(snapshot.bridge.settings), len(SETTINGS))
    known = [name for name in CARRIED if SETTINGS.index(name) < count]
    values = {name: _setting(snapshot.interface, name) for name in known}
    if _changes_mac(snapshot) and "arp_notify" in SETTINGS[:count]:
        values["arp_notify"] = 1  # the bridge's neighbours are told its new MAC address
    return {name: value for name, value in values.items() if value != _setting(snapshot.bridge, name)}


def _wanted_sysctls(snapshot: Snapshot) -> dict[str, str]:
    """Return what of the bridge's net.ipv6.conf has to change."""
    own, other = snapshot.sysctls, snapshot.bridge_sysctls
    wanted = {name: own[name] for name in (*LEARNING, "accept_redirects", "use_tempaddr") if name in own}
    if "accept_ra" in own:
        # 1 means: unless the host forwards, which dnet may switch on later; the interface's answer of today counts.
        is_learning = own["accept_ra"] == "2" or (own["accept_ra"] == "1" and own.get("forwarding") == "0")
        wanted["accept_ra"] = "2" if is_learning else "0"
    if any(item.interface.version == 6 for item in snapshot.addresses):  # noqa: PLR2004
        wanted = {"disable_ipv6": "0"} | wanted
    if _changes_mac(snapshot):
        wanted["ndisc_notify"] = "1"
    return {name: value for name, value in wanted.items() if other.get(name, value) != value}


def _sysctls(snapshot: Snapshot, values: Mapping[str, str]) -> Iterator[Sysctl]:
    bridge = snapshot.bridge
    return (Sysctl(bridge.name, bridge.index, "", key, value) for key, value in values.items())


def _leaving(snapshot: Snapshot, link: Link) -> Iterator[Message]:
    """Yield the absence of all addresses and routes from a device, in reverse."""
    interface = snapshot.interface
    for item, _ in reversed(_explicit(snapshot, link)):
        yield messages.no_route(item, interface, link, snapshot.names)
    for address in reversed(_ordered(snapshot)):
        yield messages.no_address(address, interface.name, link)


def _arriving(snapshot: Snapshot, link: Link) -> Iterator[Object]:
    """Yield all addresses and routes on a device."""
    interface = snapshot.interface
    for address in _ordered(snapshot):
        if address.interface.version == 4:  # noqa: PLR2004
            yield messages.address(address, interface.name, link, address.flags)
        elif not address.flags & DADFAILED or link.index == interface.index:
            # It has proved unique already, and a connection cannot wait for another second of proving.
            is_proved = not address.flags & (TENTATIVE | DADFAILED)
            yield messages.address(address, interface.name, link, address.flags | (NODAD if is_proved else 0))
            if is_proved and not address.flags & NODAD:
                yield messages.address(address, interface.name, link, address.flags, is_update=True)
    yield from _corrections(snapshot, link)
    for item, is_last in _explicit(snapshot, link):
        if not item.is_advertised:
            yield messages.route(item, interface, link, snapshot.names, is_last=is_last)
    for item in snapshot.routes:
        if item.is_advertised:
            yield messages.advertised(item, link)


def _ordered(snapshot: Snapshot) -> list[Address]:
    """Return addresses in the order to add them in: the kernel lists IPv4's oldest first, IPv6's newest first."""
    fours = [item for item in snapshot.addresses if item.interface.version == 4]  # noqa: PLR2004
    return fours + [item for item in reversed(snapshot.addresses) if item.interface.version != 4]  # noqa: PLR2004


def _implied(snapshot: Snapshot, link: Link) -> set[Key]:
    """Return the routes that the kernel adds on a device with the addresses."""
    found: set[Key] = set()
    for item in snapshot.addresses:
        if item.flags & DADFAILED and link.index != snapshot.interface.index:
            continue
        made = subnet_routes(item)
        if link.index == snapshot.bridge.index:
            # Beside a primary address of the same subnet it is a secondary one.
            made = {key for key in made if str(key[0]) not in snapshot.bridge_subnets}
        found |= made
    return found


def _key(route: Route) -> Key:
    return route.destination, route.metric, route.source


def _explicit(snapshot: Snapshot, link: Link) -> list[tuple[Route, bool]]:
    """Return the routes that have to be sent for a device, nearest first, each with whether it goes behind its like.

    Those that go before the others of their kind are sent last one first.
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


def _corrections(snapshot: Snapshot, link: Link) -> Iterator[Message]:
    """Yield the absence of routes that the kernel adds with the addresses, and that were not there or come in front."""
    own = {_key(item): number for number, item in enumerate(snapshot.routes) if item.protocol == PROTOCOL_KERNEL}
    for key in sorted(_implied(snapshot, link), key=str):
        is_misplaced = own.get(key) in snapshot.ahead
        if snapshot.interface.is_up and (key not in own or is_misplaced):
            yield messages.no_subnet_route(link, *key)
