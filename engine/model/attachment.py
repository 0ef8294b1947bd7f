"""Interfaces and routes that are added to a container: attachments and static routes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from ipaddress import IPv4Address
from typing import Any

from dnet.model.address import IPAddress, IPInterface, IPNetwork
from dnet.model.values import Value, frozen
from dnet.model.vlan import PortVlans


@frozen(kw_only=True)
class KernelRoute(Value):
    """A route that is not dnet's, as the kernel reported it.

    `device` and `index` are its interface; `text` describes it, `message` is the netlink message in hexadecimal.
    """

    version: int
    device: str
    index: int
    text: str
    message: str


@frozen(kw_only=True)
class Attachment(Value):
    """An interface of a container on a device of the host, not on a network.

    kind: `bridge` or `ovs`, a veth whose device on the host, `host_interface`, is a port of a Linux bridge or of Open
        vSwitch; `macvlan`; `direct`, the host's device itself; or `dummy`, which leads nowhere
    device, device_index: name and ifindex of the host's device; the index is 0 while the host has no such device, and
        then nothing of the attachment exists
    interface: name inside the container
    host_interface, host_index: the device of a veth on the host, empty for other kinds, and the ifindex it is made with
    gateways: those asked for, at most one of each version of IP
    mtu: bytes; 0 is the kernel's default
    gateway_priority: the default route goes through the interface of the highest
    defaults: versions of IP, 4 and 6, whose default route goes through it now
    before: of kind `direct`, what the device had on the host
    lease: what DHCP granted, as lease.Lease writes it
    vlans: of kind `ovs`, the VLANs of the port
    """

    id: str
    kind: str
    device: str
    device_index: int
    interface: str
    host_index: int
    host_interface: str
    addresses: tuple[IPInterface, ...]
    gateways: tuple[IPAddress, ...]
    mac: str
    mtu: int
    macvlan_mode: str = ""
    is_dhcp: bool = False
    hostname: str = ""
    gateway_priority: int = 0
    defaults: tuple[int, ...] = ()
    before: Mapping[str, Any] = field(default_factory=dict)
    lease: Mapping[str, Any] = field(default_factory=dict)
    vlans: PortVlans | None = None

    @property
    def default_gateways(self) -> tuple[IPAddress, ...]:
        """Gateways that a default route may go to: those asked for, and without one of IPv4 that of the lease."""
        if not self.lease or any(gateway.version == 4 for gateway in self.gateways):
            return self.gateways
        routers = self.lease["routers"]
        if routes := self.lease["classless_routes"]:  # which take the place of routers: RFC 3442
            routers = [router for network, router in routes if network == "0.0.0.0/0" and router]
        return (*self.gateways, *map(IPv4Address, routers[:1]))


@frozen
class StaticRoute(Value):
    """A route of a container that the user asked for.

    gateway: None for a destination on the link of the interface
    interface: name inside the container; empty, the one through which the gateway is reached
    metric: 0 is the kernel's choice
    index: ifindex of an interface that is not dnet's, else 0
    """

    destination: IPNetwork
    gateway: IPAddress | None
    interface: str = ""
    metric: int = 0
    index: int = 0

    def __str__(self) -> str:
        words = ["default" if self.destination.prefixlen == 0 else str(self.destination)]
        words += [f"via {self.gateway}"] if self.gateway else []
        words += [f"dev {self.interface}"] if self.interface else []
        words += [f"metric {self.metric}"] if self.metric else []
        return " ".join(words)
