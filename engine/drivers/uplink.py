"""Moving what an interface is on the network to the bridge that it becomes a port of, and back.

`adopting` and `releasing` are the messages, in the order in which they go out, one batch each. What the kernel does by
itself (local routes, the route to an address's subnet) is left to it, what is there beside that is sent again as it was
reported. The order is argued for in docs/decisions/0011-adopting.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dnet.drivers.uplink_snapshot import LEARNING, Snapshot
from dnet.model.address import IPAddress, IPNetwork
from dnet.objects import replay
from dnet.objects.host import Message, Sysctl
from dnet.objects.links import Merging
from dnet.objects.object import Object
from dnet.objects.observed import DADFAILED, GENERATION_NONE, PROTOCOL_KERNEL, Address, Link, Route, subnet_routes
from dnet.objects.openvswitch import NoOvsPort, OvsMac, OvsPort
from dnet.objects.replay import SETTINGS
from dnet.objects.vlans import NoVlanEntry, NoVlanFilter, VlanEntry, VlanFilter

# Of net.ipv4.conf, the bridge gets the interface's values, except of these, which are about forwarding for containers.
_LEFT = {"forwarding", "mc_forwarding", "bc_forwarding", "route_localnet", "arp_notify", "tag", "medium_id"}
CARRIED = tuple(name for name in SETTINGS if name not in _LEFT)

ARP_SILENT = 8  # of arp_ignore: no answer, for whatever address

Key = tuple[IPNetwork, int, IPAddress | None]


def adopting(snapshot: Snapshot, port: Sequence[Object]) -> tuple[Object, ...]:
    """Return what makes the interface a port of the bridge, by the objects of `port`, and the bridge what it was."""
    return tuple(_adopting(snapshot, port))


def _adopting(snapshot: Snapshot, port: Sequence[Object]) -> Iterator[Object]:
    interface, bridge = snapshot.interface, snapshot.bridge
    # In the map first, so that all messages go out together.
    yield from (item for item in port if item.backend == "bpf")
    yield from _sysctls(snapshot, _wanted_sysctls(snapshot))
    values = _wanted_settings(snapshot)
    if values:
        yield replay.settings(bridge, values)
    if _is_switched(snapshot):  # which takes some time, and the host goes on by the interface meanwhile
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
    elif _deafens(snapshot):
        yield replay.settings(interface, {"arp_ignore": ARP_SILENT})
    for item in snapshot.displaced:
        yield replay.no_address(item, bridge.name, bridge)
    yield from _arriving(snapshot, bridge)


def _switching(snapshot: Snapshot, port: Sequence[Object]) -> Iterator[Object]:
    """Yield what makes the interface a port of Open vSwitch's, the bridge's MAC address last."""
    interface = snapshot.interface
    if snapshot.merging:
        yield Merging(interface.name, interface.index, "", 0)
    yield from port
    if snapshot.takes_mac:
        yield OvsMac(snapshot.bridge.name, interface.mac)


def _becoming(interface: Link, bridge: Link, *, takes_mac: bool) -> Iterator[Message]:
    """Yield what of the interface a Linux bridge has to have; one of Open vSwitch gets it from that."""
    if interface.mtu < bridge.mtu:
        yield replay.mtu(bridge, interface.mtu)
    if takes_mac:
        yield replay.mac(bridge, interface.mac)


def releasing(snapshot: Snapshot, port: Sequence[Object], *, is_rollback: bool = False) -> tuple[Object, ...]:
    """Return what makes everything as the snapshot says it was; for a rollback, however far the adopting came.

    `port` are the objects that make the interface a port, those tc hooks left out that are not there.
    """
    return tuple(_releasing(snapshot, port, is_rollback=is_rollback))


def parting(snapshot: Snapshot, port: Sequence[Object]) -> Iterator[Object]:
    """Yield what ends the interface's being a port, and nothing else."""
    for item in port:
        if isinstance(item, OvsPort):
            yield NoOvsPort.instead(item)
    if snapshot.switch_mac is not None and snapshot.takes_mac:
        yield OvsMac(snapshot.bridge.name, snapshot.switch_mac)
    if not snapshot.interface.index:
        return
    if snapshot.bridge.index and not _is_switched(snapshot):
        yield replay.no_port(snapshot.interface, snapshot.bridge)
    yield from (NoVlanFilter.instead(item) for item in port if isinstance(item, VlanFilter))


def _releasing(snapshot: Snapshot, port: Sequence[Object], *, is_rollback: bool) -> Iterator[Object]:
    interface, bridge = snapshot.interface, snapshot.bridge
    if bridge.index:
        yield from _leaving(snapshot, bridge)
    if interface.index and _is_switched(snapshot):
        yield from _regaining(snapshot, is_rollback=is_rollback)
    yield from parting(snapshot, port)
    if bridge.index:
        if interface.mtu != bridge.mtu and not _is_switched(snapshot):
            yield replay.mtu(bridge, bridge.mtu)
        if _changes_mac(snapshot) and not _is_switched(snapshot):
            yield replay.mac(bridge, bridge.mac)
        for item in snapshot.displaced:
            yield replay.address(item, bridge.name, bridge, item.flags)
        values = _wanted_settings(snapshot)
        if values:
            yield replay.settings(bridge, {name: _setting(bridge, name) for name in values})
    if interface.index and not _is_switched(snapshot):
        yield from _regaining(snapshot, is_rollback=is_rollback)
    if bridge.index:
        before = {name: snapshot.bridge_sysctls[name] for name in _wanted_sysctls(snapshot)}
        yield from _sysctls(snapshot, dict(reversed(before.items())))
    yield from (NoVlanEntry.instead(item) for item in port if isinstance(item, VlanEntry))


def _regaining(snapshot: Snapshot, *, is_rollback: bool) -> Iterator[Object]:
    interface = snapshot.interface
    if is_rollback:
        yield from _leaving(snapshot, interface)
    if snapshot.merging:
        yield Merging(interface.name, interface.index, "", snapshot.merging)
    if _deafens(snapshot):
        yield replay.settings(interface, {"arp_ignore": _setting(interface, "arp_ignore")})
    if interface.address_generation not in (None, GENERATION_NONE):
        yield replay.address_generation(interface, interface.address_generation or 0)
    if not interface.is_up:
        yield replay.up(interface, is_up=False)
    yield from _arriving(snapshot, interface)


def _is_switched(snapshot: Snapshot) -> bool:
    """Whether the bridge is Open vSwitch's."""
    return snapshot.switch_mac is not None


def _deafens(snapshot: Snapshot) -> bool:
    """Whether the interface has to stop answering ARP.

    What Open vSwitch reads in user space, the host's own stack gets as well; of IP, the table drops that.
    """
    position = SETTINGS.index("arp_ignore")
    known = snapshot.interface.settings
    return _is_switched(snapshot) and position < len(known) and known[position] != ARP_SILENT


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
    if any(item.interface.version == 6 for item in snapshot.addresses):
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
        yield replay.no_route(item, interface, link, snapshot.names)
    for address in reversed(_ordered(snapshot)):
        yield replay.no_address(address, interface.name, link)


def _arriving(snapshot: Snapshot, link: Link) -> Iterator[Object]:
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


def _ordered(snapshot: Snapshot) -> list[Address]:
    """Return addresses in the order to add them in: the kernel lists IPv4's oldest first, IPv6's newest first."""
    fours = [item for item in snapshot.addresses if item.interface.version == 4]
    return fours + [item for item in reversed(snapshot.addresses) if item.interface.version != 4]


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
            yield replay.no_subnet_route(link, *key)
