"""Types of IP addresses, and the MAC address that follows from one."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

IPV4_BYTES = 4


def mac_of(address: IPv4Address) -> str:
    """Return the MAC that goes with an address: 02:42 and its four bytes, as Docker chose them up to release 27.

    An address that changes hands keeps its MAC, so no neighbour cache is ever wrong.
    """
    return "02:42:" + address.packed.hex(":")


IPAddress = IPv4Address | IPv6Address
IPInterface = IPv4Interface | IPv6Interface
IPNetwork = IPv4Network | IPv6Network
