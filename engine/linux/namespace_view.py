"""What a network namespace has: devices, addresses, routes, hooks and forwarding entries."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from dnet.linux.netlink import AF_UNSPEC, dump
from dnet.model.address import IPAddress, IPNetwork
from dnet.objects import observed
from dnet.objects.observed import (
    IFA_ADDRESS,
    IFA_LOCAL,
    IFLA_MASTER,
    RTA_DST,
    TABLE_LOCAL,
    UNICAST,
    number,
    pairs,
)

RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH, RTM_GETQDISC = 18, 22, 26, 30, 38
AF_BRIDGE, NDA_LLADDR, NTF_STICKY = 7, 2, 0x40
TCA_KIND, TCA_INGRESS_BLOCK, TCA_EGRESS_BLOCK = 1, 13, 14


class NamespaceView:
    """What one network namespace has, asked over a socket in it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def links(self) -> list[observed.ObservedLink]:
        """Return the devices."""
        return [observed.link(message) for message in dump(self._fd, RTM_GETLINK, AF_UNSPEC)]

    def addresses(self) -> list[observed.ObservedAddress]:
        """Return the addresses, of both families."""
        found = [observed.address(message) for message in dump(self._fd, RTM_GETADDR, AF_UNSPEC)]
        return [item for item in found if item.version]

    def routes(self) -> list[observed.ObservedRoute]:
        """Return the routes of all tables, of both families."""
        found = [observed.route(message) for message in dump(self._fd, RTM_GETROUTE, AF_UNSPEC)]
        return [item for item in found if item.version]

    def report(self) -> observed.Observed:
        """Return all of that."""
        return observed.Observed(self.links(), self.addresses(), self.routes())

    def masters(self) -> dict[int, int]:
        """Return the host's devices, each with the index of the bridge or bond that it is a port of, or 0."""
        found = {}
        for message in dump(self._fd, RTM_GETLINK, AF_UNSPEC):
            found[_index_of(message)] = number(dict(pairs(message, 32)).get(IFLA_MASTER, b""))
        return found

    def clsact_hooks(self) -> set[tuple[int, int, int]]:
        """Return the host's devices with tc hooks: their index, and their blocks of ingress and egress, 0 for none."""
        found = set()
        for message in dump(self._fd, RTM_GETQDISC, AF_UNSPEC):
            attributes = dict(pairs(message, 36))
            if attributes.get(TCA_KIND, b"").startswith((b"clsact", b"ingress")):
                ingress, egress = (number(attributes.get(key, b"")) for key in (TCA_INGRESS_BLOCK, TCA_EGRESS_BLOCK))
                found.add((_index_of(message), ingress, egress))
        return found

    def mac_entries(self) -> set[tuple[int, str]]:
        """Return the MACs in bridges' forwarding tables that stay at their ports: the port's index, and the MAC."""
        found = set()
        for message in dump(self._fd, RTM_GETNEIGH, AF_BRIDGE):
            if message[26] & NTF_STICKY:  # ndm_flags
                mac = dict(pairs(message, 28)).get(NDA_LLADDR, b"")
                found.add((_index_of(message), mac.hex(":")))
        return found

    def routed_subnets(self) -> list[IPNetwork]:
        """Return the destinations of the host's unicast routes, default routes left out."""
        found = []
        for message in dump(self._fd, RTM_GETROUTE, AF_UNSPEC):
            length, table, kind = message[17], message[20], message[23]
            if not length or table == TABLE_LOCAL or kind != UNICAST:
                continue
            for attribute, value in pairs(message, 28):
                if attribute == RTA_DST:
                    network = ip_network((value, length), strict=False)
                    if not network.is_link_local and not network.is_multicast:
                        found.append(network)
        return found

    def local_addresses(self) -> set[IPAddress]:
        """Return the addresses of the host's interfaces."""
        found = set()
        for message in dump(self._fd, RTM_GETADDR, AF_UNSPEC):
            attributes = dict(pairs(message, 24))
            packed = attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS)
            if packed:
                found.add(ip_address(packed))
        return found


def _index_of(message: bytes) -> int:
    """Return ifi_index of a message about a link; other kinds have theirs in the same place."""
    return number(message[20:24])
