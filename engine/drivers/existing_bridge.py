"""Bridges of the user's own: what a network takes from one that exists already.

Its addresses are gateways and subnets, as with dockerd's `-b`. An address that the network needs and the bridge does
not have is added to it, and goes with the network; everything else on the bridge is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from dnet.errors import InvalidRequest, NotFound
from dnet.model.address import IPAddress, IPInterface, IPNetwork
from dnet.model.network import Network
from dnet.model.network_spec import NetworkSpec
from dnet.model.values import Value, frozen, replace
from dnet.objects.observed import PERMANENT, SECONDARY, TABLE_LOCAL, Address, Link, Report, Route
from dnet.objects.replay import SETTINGS

MTU_USUAL = 1500
LOOPBACK6 = IPv6Network("::1/128")


@frozen(kw_only=True)
class Taken(Value):
    """What a network has because of what there is; `found` is Network's.

    Without `owns_device` the bridge is somebody's. `options` are Network's, with what was chosen; `vlan` is the VLAN
    that the host's end of the bridge is in, or 0.
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


def check(link: Link) -> None:
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


def take(spec: NetworkSpec, link: Link, report: Report) -> Taken:
    """Return what a network takes from a bridge of the host's."""
    check(link)
    if spec.vlan or spec.vlan_backend:
        hint = "let dnet make the bridge, or leave VLANs out"
        raise InvalidRequest(f"bridge {link.name} is not dnet's, and keeps no VLANs apart", object=link.name, hint=hint)
    addresses, routes = report.addresses_of(link), report.routes
    four, six = gateways(spec, addresses)
    mtu = spec.mtu or (link.mtu if link.mtu != MTU_USUAL else 0)
    found = found_on(link, addresses, routes)
    return Taken(
        subnet=four.network if four else None,
        gateway=four.ip if four else None,
        subnet6=six.network if six else None,
        gateway6=six.ip if six else None,
        mtu=mtu,
        mac=link.mac,
        found=(*(["gateway"] if four else []), *(["gateway6"] if six else []), *found),
        owns_device=False,
        options=spec.options,
    )


def gateways(spec: NetworkSpec, addresses: Iterable[Address]) -> tuple[IPv4Interface | None, IPv6Interface | None]:
    """Return the addresses of a bridge that a network's gateways are, None for a family that it has none of."""
    fit = [item.interface for item in addresses if _is_for_gateway(item)]
    four = _choose(spec.bridge, [item for item in fit if isinstance(item, IPv4Interface)], spec.subnet, spec.gateway)
    six = _choose(spec.bridge, [item for item in fit if isinstance(item, IPv6Interface)], spec.subnet6, spec.gateway6)
    return four if isinstance(four, IPv4Interface) else None, six if isinstance(six, IPv6Interface) else None


def found_on(link: Link, addresses: Iterable[Address], routes: Iterable[Route]) -> tuple[str, ...]:
    """Return which of the settings that a network needs a bridge has already, as Network's `found` calls them."""
    position = SETTINGS.index("route_localnet")
    has_loopback_route = any(
        item.destination == LOOPBACK6 and item.table == TABLE_LOCAL and link.index in item.indexes() for item in routes
    )
    names = {
        "route_localnet": position < len(link.settings) and link.settings[position] == 1,
        "link_local": any(item.interface.version == 6 and item.interface.is_link_local for item in addresses),
        "loopback_route": has_loopback_route,
    }
    return tuple(name for name, is_there in names.items() if is_there)


def again(network: Network, report: Report) -> Network:
    """Return a network as it is now that its bridge is another device of the same name; raise when there is none."""
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
    found = tuple(name for name, address in gateways.items() if address in present)
    found = (*found, *found_on(link, own, report.routes))
    return replace(network, device_index=link.index, device_mac=link.mac, found=found)


def _is_for_gateway(item: Address) -> bool:
    """Whether containers can have an address as their gateway: not a link-local one, nor an IPv6 one that changes."""
    if item.interface.is_link_local:
        return False
    if item.interface.version == 4:
        return not item.flags & SECONDARY
    return bool(item.flags & PERMANENT)


def _choose(
    bridge: str, present: Sequence[IPInterface], subnet: IPNetwork | None, gateway: IPAddress | None
) -> IPInterface | None:
    """Return the address of a bridge that a network's gateway is, or None where one has to be added."""
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
