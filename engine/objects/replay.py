"""Observed settings, addresses and routes as messages to send again.

What dnet makes from nothing has objects of its own, and the C core writes their messages; here is what is taken from a
report and sent again, and the settings that go with it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping

from dnet.model.address import IPAddress, IPNetwork
from dnet.objects.host import AddressMessage, LinkMessage, Message, RouteMessage
from dnet.objects.observed import (
    DADFAILED,
    GENERATION_NONE,
    IFF_UP,
    IFLA_ADDRESS,
    IFLA_AF_SPEC,
    IFLA_INET6_ADDR_GEN_MODE,
    IFLA_INET_CONF,
    IFLA_MASTER,
    IFLA_MTU,
    INET,
    INET6,
    NODAD,
    PROTOCOL_KERNEL,
    RTA_DST,
    RTA_OIF,
    RTA_PREFSRC,
    RTA_PRIORITY,
    SCOPE_LINK,
    TABLE_MAIN,
    TENTATIVE,
    UNICAST,
    Observed,
    ObservedAddress,
    ObservedLink,
    ObservedRoute,
    Pair,
    packed,
)
from dnet.objects.routes import AdvertisedRoute

RTM_SETLINK, RTM_NEWADDR, RTM_DELADDR, RTM_NEWROUTE, RTM_DELROUTE = 19, 20, 21, 24, 25
REPLACE, EXCLUSIVE, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800  # NLM_F_...
GENERATIONS = ("eui64", "none", "stable_secret", "random")  # IN6_ADDR_GEN_MODE_..., as ip-link(8) calls them
NESTED = 0x8000  # NLA_F_NESTED
# net.ipv4.conf's names in the kernel's order (IPV4_DEVCONF_... of linux/ip.h), the first of which is number 1.
SETTINGS = """
    forwarding mc_forwarding proxy_arp accept_redirects secure_redirects send_redirects shared_media rp_filter
    accept_source_route bootp_relay log_martians tag arp_filter medium_id disable_xfrm disable_policy
    force_igmp_version arp_announce arp_ignore promote_secondaries arp_accept arp_notify accept_local src_valid_mark
    proxy_arp_pvlan route_localnet igmpv2_unsolicited_report_interval igmpv3_unsolicited_report_interval
    ignore_routes_with_linkdown drop_unicast_in_l2_multicast drop_gratuitous_arp bc_forwarding arp_evict_nocarrier
""".split()  # noqa: SIM905


def u32(value: int) -> bytes:
    """Return an integer as the kernel has it."""
    return struct.pack("=I", value)


# Links


def _link(
    link: ObservedLink, text: str, attributes: Iterable[Pair] = (), state: tuple[int, int] = (0, 0)
) -> LinkMessage:
    """Return a message that sets attributes, and the flags of `state` (new flags, which of them)."""
    body = struct.pack("=BBHiII", 0, 0, 0, link.index, *state) + packed(attributes)
    return LinkMessage(link.name, link.index, "", RTM_SETLINK, 0, body, text)


def up(link: ObservedLink, *, is_up: bool = True) -> LinkMessage:
    """Return the administrative state of a device."""
    return _link(link, f"{'up' if is_up else 'down'} {link.name}", state=(IFF_UP if is_up else 0, IFF_UP))


def no_port(link: ObservedLink, bridge: ObservedLink) -> LinkMessage:
    """Return the message that takes a device out of its bridge."""
    return _link(link, f"no port {link.name} of {bridge.name}", [(IFLA_MASTER, u32(0))])


def mac(link: ObservedLink, text: str) -> LinkMessage:
    """Return a device's MAC address."""
    return _link(link, f"MAC address {text} on {link.name}", [(IFLA_ADDRESS, bytes.fromhex(text.replace(":", "")))])


def mtu(link: ObservedLink, size: int) -> LinkMessage:
    """Return a device's MTU, in bytes."""
    return _link(link, f"MTU {size} on {link.name}", [(IFLA_MTU, u32(size))])


def address_generation(link: ObservedLink, mode: int) -> LinkMessage:
    """Return how a device makes IPv6 addresses of its own."""
    name = GENERATIONS[mode] if mode < len(GENERATIONS) else str(mode)
    inet6 = packed([(INET6 | NESTED, packed([(IFLA_INET6_ADDR_GEN_MODE, bytes([mode]))]))])
    return _link(link, f"addr_gen_mode {name} on {link.name}", [(IFLA_AF_SPEC | NESTED, inet6)])


def settings(link: ObservedLink, values: Mapping[str, int]) -> LinkMessage:
    """Return values of net.ipv4.conf.DEVICE, by name."""
    words = ", ".join(f"{name}={value}" for name, value in values.items())
    return _link(link, f"{words} on {link.name}", [_inet_settings(values)])


def _inet_settings(values: Mapping[str, int]) -> Pair:
    found = packed((1 + SETTINGS.index(name), u32(value)) for name, value in values.items())
    return IFLA_AF_SPEC | NESTED, packed([(INET | NESTED, packed([(IFLA_INET_CONF | NESTED, found)]))])


# Addresses


def address(
    item: ObservedAddress, origin: str, link: ObservedLink, flags: int, *, is_update: bool = False
) -> AddressMessage:
    """Return on a device what has been seen on the device called `origin`; an update changes flags and lifetimes."""
    nodad = " nodad" if flags & NODAD else ""
    text = f"{'flags of ' if is_update else ''}address {item}{nodad} on {link.name}"
    body = item.on(link.index, (origin, link.name), flags)
    return AddressMessage(
        link.name, link.index, "", RTM_NEWADDR, REPLACE if is_update else CREATE | EXCLUSIVE, body, text
    )


def proved_address(item: ObservedAddress, origin: str, link: ObservedLink) -> Iterator[AddressMessage]:
    """Yield an IPv6 address as it was seen: one that has proved unique is not to be proved so again.

    A connection cannot wait for another second of that. The flags that it had come with a second message.
    """
    is_proved = not item.flags & (TENTATIVE | DADFAILED)
    yield address(item, origin, link, item.flags | (NODAD if is_proved else 0))
    if is_proved and not item.flags & NODAD:
        yield address(item, origin, link, item.flags, is_update=True)


def again(report: Observed, link: ObservedLink) -> Iterator[Message | AdvertisedRoute]:
    """Yield what a device has and loses by being down; what the kernel has made by itself, it makes again."""
    makes_link_local = link.address_generation not in (None, GENERATION_NONE)
    for item in reversed(report.addresses_of(link)):
        if item.interface.version == 6 and not (makes_link_local and item.interface.is_link_local):
            yield from proved_address(item, link.name, link)
    names = {item.index: item.name for item in report.links}
    for found in sorted(report.routes_of(link), key=lambda item: -item.scope):
        yield advertised(found, link) if found.is_advertised else route(found, link, link, names)


def no_address(item: ObservedAddress, origin: str, link: ObservedLink) -> AddressMessage:
    """Return the absence of an address from a device."""
    body = item.on(link.index, (origin, link.name), item.flags)
    return AddressMessage(link.name, link.index, "", RTM_DELADDR, 0, body, f"no address {item} on {link.name}")


# Routes


def advertised(item: ObservedRoute, link: ObservedLink) -> AdvertisedRoute:
    """Return a route that a router has advertised, through a device."""
    assert item.gateway is not None  # noqa: S101  or it is not advertised
    place = (link.name, link.index, "")
    return AdvertisedRoute(*place, item.destination, item.gateway, item.metric, item.preference, item.expires_s)


def route(
    item: ObservedRoute, origin: ObservedLink, link: ObservedLink, names: Mapping[int, str], *, is_last: bool = True
) -> RouteMessage:
    """Return a route through a device that has been seen through `origin`: behind others of its kind, or before them.

    `names` are those of the devices that its other next hops go through.
    """
    text = f"route {item.text({**names, origin.index: link.name})}"
    flags = CREATE | (APPEND if is_last else 0)
    body = item.through(origin.index, link.index)
    return RouteMessage(link.name, link.index, "", RTM_NEWROUTE, flags, body, text)


def no_route(item: ObservedRoute, origin: ObservedLink, link: ObservedLink, names: Mapping[int, str]) -> RouteMessage:
    """Return the absence of a route through a device."""
    text = f"no route {item.text({**names, origin.index: link.name})}"
    body = item.through(origin.index, link.index)
    if item.is_advertised:  # whoever the kernel says has made it
        body = body[:5] + b"\0" + body[6:]
    return RouteMessage(link.name, link.index, "", RTM_DELROUTE, 0, body, text)


def no_subnet_route(link: ObservedLink, destination: IPNetwork, metric: int, source: IPAddress | None) -> RouteMessage:
    """Return the absence of a route that the kernel adds with an address."""
    family, scope = (INET, SCOPE_LINK) if destination.version == 4 else (INET6, 0)
    body = struct.pack(
        "=BBBBBBBBI", family, destination.prefixlen, 0, 0, TABLE_MAIN, PROTOCOL_KERNEL, scope, UNICAST, 0
    )
    body += packed([(RTA_DST, destination.network_address.packed), (RTA_OIF, u32(link.index))])
    body += packed([(RTA_PRIORITY, u32(metric))] if metric else [])
    body += packed([(RTA_PREFSRC, source.packed)] if source else [])
    return RouteMessage(link.name, link.index, "", RTM_DELROUTE, 0, body, f"no route {destination} dev {link.name}")
