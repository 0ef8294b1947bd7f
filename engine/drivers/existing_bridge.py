"""Bridges of the user's own: what a network takes over from a bridge that exists already.

The bridge's addresses become gateways and subnets, as with dockerd's `-b`. An address that the network needs and the
bridge does not have is added, and removed with the network. Nothing else on the bridge is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import TypeVar

from dnet.errors import InvalidRequest, NotFound
from dnet.model.address import IPAddress, IPNetwork
from dnet.model.network import Network
from dnet.model.network_spec import NetworkSpec
from dnet.model.values import Value, frozen, replace
from dnet.objects.observed import (
    PERMANENT,
    SECONDARY,
    TABLE_LOCAL,
    Observed,
    ObservedAddress,
    ObservedLink,
    ObservedRoute,
)
from dnet.objects.replay import SETTINGS

MTU_DEFAULT = 1500

Interface = TypeVar("Interface", IPv4Interface, IPv6Interface)


@frozen(kw_only=True)
class FoundBridge(Value):
    """What a network takes over from the host; the fields are those of Network.

    `owns_device` is False if the bridge is the user's. `mac` is the bridge's MAC address. `vlan` is the VLAN of the
    bridge's own device, or 0. `options` include those that were chosen for the network.
    """

    subnet: IPv4Network | None = None
    gateway: IPv4Address | None = None
    subnet6: IPv6Network | None = None
    gateway6: IPv6Address | None = None
    mtu: int = 0
    mac: str = ""
    vlan: int = 0
    found: tuple[str, ...] = ()
    owns_device: bool = True
    options: Mapping[str, str] = field(default_factory=dict)


def check(link: ObservedLink) -> None:
    """Raise unless a device is a Linux bridge."""
    if link.kind == "openvswitch":
        hint = "name a Linux bridge, or another name for a new one"
        raise InvalidRequest(
            f"{link.name} is a bridge of Open vSwitch, not a Linux bridge", object=link.name, hint=hint
        )
    if link.kind != "bridge":
        what = f"a {link.kind} device" if link.kind else "an interface"
        hint = "name a bridge, or another name for a new one"
        raise InvalidRequest(f"{link.name} is no bridge but {what}", object=link.name, hint=hint)


def examine(spec: NetworkSpec, link: ObservedLink, report: Observed) -> FoundBridge:
    """Return what a network takes over from a Linux bridge of the host; raise if they do not fit."""
    check(link)
    if spec.vlan or spec.vlan_backend:
        hint = "let dnet make the bridge, or leave VLANs out"
        raise InvalidRequest(f"bridge {link.name} is not dnet's, and keeps no VLANs apart", object=link.name, hint=hint)
    addresses, routes = report.addresses_of(link), report.routes
    four, six = gateways(spec, addresses)
    mtu = spec.mtu or (link.mtu if link.mtu != MTU_DEFAULT else 0)
    return FoundBridge(
        subnet=four.network if four else None,
        gateway=four.ip if four else None,
        subnet6=six.network if six else None,
        gateway6=six.ip if six else None,
        mtu=mtu,
        mac=link.mac,
        found=(*(["gateway"] if four else []), *(["gateway6"] if six else []), *found_on(link, addresses, routes)),
        owns_device=False,
        options=spec.options,
    )


def gateways(
    spec: NetworkSpec, addresses: Iterable[ObservedAddress]
) -> tuple[IPv4Interface | None, IPv6Interface | None]:
    """Return the addresses of a bridge that become a network's gateways; None where it has none of that IP version."""
    usable = [item.interface for item in addresses if _is_usable(item)]
    four, six = IPv4Interface, IPv6Interface
    return (
        _choose(spec.bridge, [item for item in usable if isinstance(item, four)], spec.subnet, spec.gateway),
        _choose(spec.bridge, [item for item in usable if isinstance(item, six)], spec.subnet6, spec.gateway6),
    )


def found_on(
    link: ObservedLink, addresses: Iterable[ObservedAddress], routes: Iterable[ObservedRoute]
) -> tuple[str, ...]:
    """Return which settings that a network needs a bridge has already, by the names in Network's `found`."""
    position = SETTINGS.index("route_localnet")
    local_routes = [item for item in routes if item.table == TABLE_LOCAL and link.index in item.indexes()]
    names = {
        "route_localnet": position < len(link.settings) and link.settings[position] == 1,
        "link_local": any(item.interface.version == 6 and item.interface.is_link_local for item in addresses),
        "loopback_route": any(item.destination == IPv6Network("::1") for item in local_routes),
    }
    return tuple(name for name, is_there in names.items() if is_there)


def refreshed(network: Network, report: Observed) -> Network:
    """Return a network whose bridge has been created anew under the same name; raise if there is no such bridge."""
    link = report.link(network.device)
    if link is None:
        made = f"ip link add {network.device} type bridge; ip link set {network.device} up"
        gateway = f"{network.gateway}/{network.subnet.prefixlen}"
        raise NotFound(
            f"bridge {network.device} of network {network.name}, which is not dnet's, is gone",
            object=network.device,
            hint=f"make it again: {made}; ip address add {gateway} dev {network.device}",
        )
    check(link)
    own = report.addresses_of(link)
    present = {item.interface.ip for item in own}
    gateways = {"gateway": network.gateway, "gateway6": network.gateway6}
    kept = [name for name, address in gateways.items() if address in present]
    kept += found_on(link, own, report.routes)
    return replace(network, device_index=link.index, device_mac=link.mac, found=tuple(kept))


def _is_usable(item: ObservedAddress) -> bool:
    """Whether an address can be the gateway of containers: not a link-local one, nor an IPv6 one that changes."""
    if item.interface.is_link_local:
        return False
    if item.interface.version == 4:
        return not item.flags & SECONDARY
    return bool(item.flags & PERMANENT)


def _choose(
    bridge: str, present: Sequence[Interface], subnet: IPNetwork | None, gateway: IPAddress | None
) -> Interface | None:
    """Return the address of a bridge that becomes a network's gateway, or None if one has to be added."""
    if not present:
        return None
    listed = ", ".join(map(str, present))
    fitting = [item for item in present if gateway in (None, item.ip) and subnet in (None, item.network)]
    if not fitting:
        wanted = f"gateway {gateway}" if gateway else f"subnet {subnet}"
        hint = f"leave it out, or add the address first: ip address add ADDRESS/LENGTH dev {bridge}"
        raise InvalidRequest(f"{wanted} is none of bridge {bridge}, which has {listed}", object=bridge, hint=hint)
    if len({item.network for item in fitting}) > 1:
        hint = "choose one with --gateway"
        raise InvalidRequest(f"bridge {bridge} has several addresses: {listed}", object=bridge, hint=hint)
    return fitting[0]
