"""Types of IP addresses, and the MAC and link-local addresses made from them."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

IPV4_BYTES = 4


def mac_of(address: IPv4Address) -> str:
    """Return the MAC address for an IPv4 address: 02:42 and its four bytes, as in Docker up to release 27.

    An address keeps its MAC when another container gets it, so that neighbour caches stay right.
    """
    return "02:42:" + address.packed.hex(":")


def link_local(address: IPv6Address) -> IPv6Interface:
    """Return the link-local address with the same interface id, and therefore the same solicited-node group."""
    return IPv6Interface((LINK_LOCAL.network_address + int(address) % 2**64, LINK_LOCAL.prefixlen))


IPAddress = IPv4Address | IPv6Address
IPInterface = IPv4Interface | IPv6Interface
IPNetwork = IPv4Network | IPv6Network

# The destination of a default route, by IP version.
ANYWHERE: Mapping[int, IPNetwork] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}
LINK_LOCAL = IPv6Network("fe80::/64")
