"""Snapshots of an interface and of the bridge that takes its place, from which both are restored.

`uplink` tells what is sent to the kernel.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, field

from dnet.errors import Conflict, InvalidRequest, NotFound, Unsupported
from dnet.model.address import IPInterface
from dnet.model.values import Value, frozen, replace
from dnet.objects.observed import (
    ETHERNET,
    IFF_LOOPBACK,
    SECONDARY,
    Observed,
    ObservedAddress,
    ObservedLink,
    ObservedRoute,
)

# The settings in net.ipv6.conf that say how the host learns from routers, and how it sends.
LEARNING = ("accept_ra_defrtr", "accept_ra_pinfo", "accept_ra_rtr_pref", "accept_ra_rt_info_max_plen", "autoconf")
SYSCTLS = ("disable_ipv6", "accept_ra", *LEARNING, "accept_redirects", "use_tempaddr", "ndisc_notify", "forwarding")
# Kinds of devices that receive all frames of their parent, as a bridge does.
RIVALS = frozenset({"macvlan", "macvtap", "ipvlan", "ipvtap"})


@frozen(kw_only=True)
class Snapshot(Value):
    """An interface, and the bridge that takes its place, as they were before. An index of 0 means: the device is gone.

    `addresses` and `routes` are the interface's, in the kernel's order. `behind` are the positions of routes that
    follow a route to the same destination through another device, `ahead` of those that only precede one. `displaced`
    are addresses of the bridge that those of the interface replace. `sysctls` are of net.ipv6.conf. `bridge_subnets`
    are those of primary IPv4 addresses. `bridge_learned` is what the host had learned from routers on the bridge.
    `boot` is the id of the running system. `switch_mac` is the bridge's MAC address in Open vSwitch's database, empty
    for none, and None if it is a Linux bridge. `merging` are receive offloads that have to be off meanwhile.
    """

    interface: ObservedLink
    bridge: ObservedLink
    addresses: tuple[ObservedAddress, ...] = ()
    routes: tuple[ObservedRoute, ...] = ()
    behind: tuple[int, ...] = ()
    ahead: tuple[int, ...] = ()
    displaced: tuple[ObservedAddress, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    bridge_sysctls: Mapping[str, str] = field(default_factory=dict)
    bridge_subnets: tuple[str, ...] = ()
    bridge_learned: tuple[str, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    takes_mac: bool = True
    boot: str = ""
    switch_mac: str | None = None
    merging: int = 0

    @property
    def has_addresses(self) -> bool:
        """Whether others than link-local neighbours reach the host through the interface."""
        return any(not item.interface.ip.is_link_local for item in self.addresses)

    @property
    def carries_default(self) -> bool:
        """Whether a default route goes through the interface."""
        return any(item.is_default for item in self.routes)


# Taking a snapshot


def check(report: Observed, interface: str, bridge: ObservedLink, *, is_wireless: bool) -> ObservedLink:
    """Return the interface if it can become a port of the bridge; otherwise raise."""
    link = report.link(interface)
    if link is None:
        raise NotFound(f"there is no interface {interface}", object=interface, hint="`ip link` lists them")
    why, hint = _unfit(report, link, bridge, is_wireless=is_wireless)
    if why:
        raise InvalidRequest(f"{interface} cannot be adopted: {why}", object=interface, hint=hint)
    if link.master:
        holder = report.name_of(link.master)
        hint = f"take it out first: ip link set {interface} nomaster"
        raise Conflict(f"{interface} is in use by {holder}, as a port of it", object=interface, hint=hint)
    for item in report.links:
        if item.parent == link.index and item.kind in RIVALS:
            hint = f"remove it first: ip link delete {item.name}"
            raise Conflict(f"{interface} is in use by {item.kind} {item.name}", object=interface, hint=hint)
    _check_addresses(report, link)
    for route in report.routes_of(link):
        if route.nexthop_object:
            raise Unsupported(
                f"{interface} cannot be adopted: the route to {route.destination} goes by nexthop object "
                f"{route.nexthop_object}",
                object=interface,
                hint="write the route with its gateway and device instead",
            )
    return link


def _unfit(report: Observed, link: ObservedLink, bridge: ObservedLink, *, is_wireless: bool) -> tuple[str, str]:
    """Return why a device cannot be a port of a bridge, and a remedy; empty texts if it can."""
    reasons = (
        (link.index == bridge.index, "it is the network's bridge itself", ""),
        (link.flags & IFF_LOOPBACK, "it is the loopback", ""),
        (link.kind == "bridge", "it is a bridge, which cannot be a port of another", "join the two by a veth pair"),
        (is_wireless, "it is wireless, and takes no frames for others than itself", "let the host route instead"),
        (link.type != ETHERNET, "it is no Ethernet device", ""),
        (
            link.master == bridge.index,
            f"it is a port of {report.name_of(bridge.index)} already",
            "containers of the network are on its LAN as it is",
        ),
    )
    return next(((why, hint) for is_so, why, hint in reasons if is_so), ("", ""))


def _check_addresses(report: Observed, link: ObservedLink) -> None:
    """Raise if another interface has an address of this one, too: only one of them could go on working."""
    own = {item.interface.ip for item in report.addresses_of(link) if not item.interface.ip.is_link_local}
    for item in report.addresses:
        if item.index != link.index and item.interface.ip in own:
            holder = report.name_of(item.index)
            hint = f"remove it from one of them: ip address delete {item.interface} dev {holder}"
            sentence = f"address {item.interface.ip} of {link.name} is on {holder} too"
            raise Conflict(sentence, object=link.name, hint=hint)


def take(
    report: Observed,
    interface: ObservedLink,
    bridge: ObservedLink,
    *,
    sysctls: Mapping[str, str],
    bridge_sysctls: Mapping[str, str],
    spare: IPInterface | None,
    takes_mac: bool,
    boot: str,
    switch_mac: str | None = None,
    merging: int = 0,
) -> Snapshot:
    """Return a snapshot of two devices; the keywords are its fields.

    `spare` is the link-local address that dnet gave the bridge because it had none. A router on the LAN may have it.
    """
    routes = report.routes_of(interface)
    others = [item for item in report.routes if interface.index not in item.indexes() and not item.is_kernels]
    order = {id(item): number for number, item in enumerate(report.routes)}
    behind, ahead = [], []
    for number, item in enumerate(routes):
        alike = [order[id(other)] for other in others if item.version == 4 and other.key == item.key]
        if any(position < order[id(item)] for position in alike):
            behind.append(number)
        elif alike:
            ahead.append(number)
    used = {index for item in routes for index in item.indexes()}
    addresses = report.addresses_of(interface)
    has_link_local = any(item.interface.version == 6 and item.interface.is_link_local for item in addresses)
    return Snapshot(
        interface=interface,
        bridge=bridge,
        addresses=addresses,
        routes=routes,
        behind=tuple(behind),
        ahead=tuple(ahead),
        displaced=tuple(item for item in report.addresses_of(bridge) if item.interface == spare and has_link_local),
        sysctls={name: sysctls[name] for name in SYSCTLS if name in sysctls},
        bridge_sysctls={name: bridge_sysctls[name] for name in SYSCTLS if name in bridge_sysctls},
        bridge_subnets=tuple(
            str(item.interface.network)
            for item in report.addresses_of(bridge)
            if item.interface.version == 4 and not item.flags & SECONDARY
        ),
        bridge_learned=_learned(report, bridge),
        names={item.index: item.name for item in report.links if item.index in used},
        takes_mac=takes_mac,
        boot=boot,
        switch_mac=switch_mac,
        merging=merging,
    )


def _learned(report: Observed, bridge: ObservedLink) -> tuple[str, ...]:
    addresses = [str(item) for item in report.addresses_of(bridge) if item.is_advertised]
    return (*addresses, *(item.text({}) for item in report.routes_of(bridge) if item.is_learned))


# Restoring from one


def now(snapshot: Snapshot, report: Observed) -> Snapshot:
    """Return the snapshot from which the interface is to be restored now.

    It has the devices' current indexes. Addresses keep what is left of their lifetime, and are dropped if they have
    expired. What the host has learned on the bridge is added, because it learned it through the interface.
    """
    interface, bridge = (report.link(item.name) for item in (snapshot.interface, snapshot.bridge))
    link = replace(snapshot.interface, index=interface.index if interface else 0)
    if bridge is None:
        return replace(snapshot, interface=link, bridge=replace(snapshot.bridge, index=0))
    names = (bridge.name, link.name)
    present = {item.interface: item for item in report.addresses_of(bridge)}
    expired = [item for item in snapshot.addresses if item.lifetime_s is not None and item.interface not in present]
    kept = [
        item.aged(present[item.interface]) if item.interface in present else item
        for item in snapshot.addresses
        if item not in expired
    ]
    own = {item.interface for item in kept}
    learned = [
        ObservedAddress(item.on(link.index, names, item.flags))
        for item in present.values()
        if item.is_advertised and item.interface not in own and str(item) not in snapshot.bridge_learned
    ]
    through = report.routes_of(bridge)
    numbers = [number for number, item in enumerate(snapshot.routes) if not item.is_learned]
    if expired:  # the kernel has removed the routes that needed them
        there = {item.text({}) for item in through}
        numbers = [number for number in numbers if snapshot.routes[number].text({}) in there]
    learned_routes = [
        ObservedRoute(item.through(bridge.index, link.index))
        for item in through
        if item.is_learned and item.text({}) not in snapshot.bridge_learned
    ]
    old = snapshot.interface.index
    return replace(
        snapshot,
        interface=link,
        bridge=replace(snapshot.bridge, index=bridge.index),
        addresses=(*learned, *kept),
        routes=(
            *(ObservedRoute(snapshot.routes[number].through(old, link.index)) for number in numbers),
            *learned_routes,
        ),
        behind=tuple(numbers.index(number) for number in snapshot.behind if number in numbers),
        ahead=tuple(numbers.index(number) for number in snapshot.ahead if number in numbers),
    )


def merged(snapshot: Snapshot, older: Snapshot) -> Snapshot:
    """Return the snapshot with the permanent addresses and routes that only an older one of the same boot has.

    They had moved to a bridge that somebody has deleted since.
    """
    present = {item.interface for item in snapshot.addresses}
    index, old_index = snapshot.interface.index, older.interface.index
    names = (older.interface.name, snapshot.interface.name)
    addresses = [
        ObservedAddress(item.on(index, names, item.flags))
        for item in older.addresses
        if item.lifetime_s is None and item.interface not in present
    ]
    known = {item.key for item in snapshot.routes}
    routes = [item for item in older.routes if not item.is_learned and item.key not in known]
    return replace(
        snapshot,
        addresses=(*snapshot.addresses, *addresses),
        routes=(*snapshot.routes, *(ObservedRoute(item.through(old_index, index)) for item in routes)),
        names={**older.names, **snapshot.names},
    )


# As text


def text(snapshot: Snapshot) -> str:
    """Return a snapshot as JSON."""
    fields = asdict(replace(snapshot, addresses=(), routes=(), displaced=()))
    for name in ("addresses", "routes", "displaced"):
        fields[name] = [item.body.hex() for item in getattr(snapshot, name)]
    return json.dumps(fields)


def read(stored: str) -> Snapshot:
    """Return the snapshot that `text` wrote."""
    fields = json.loads(stored)
    for name in ("addresses", "displaced"):
        fields[name] = tuple(ObservedAddress(bytes.fromhex(item)) for item in fields[name])
    fields["routes"] = tuple(ObservedRoute(bytes.fromhex(item)) for item in fields["routes"])
    for name in ("interface", "bridge"):
        fields[name] = ObservedLink(**{**fields[name], "settings": tuple(fields[name]["settings"])})
    for name in ("behind", "ahead", "bridge_subnets", "bridge_learned"):
        fields[name] = tuple(fields[name])
    return Snapshot(**{**fields, "names": {int(index): name for index, name in fields["names"].items()}})
