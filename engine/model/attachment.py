"""Interfaces and routes that were added to a container by hand."""

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
    """A route that is not dnet's, as the kernel told it: through which device, in words, and as it came, in hex."""

    version: int
    device: str
    index: int
    text: str
    message: str


@frozen(kw_only=True)
class Attachment(Value):
    """An interface of a container that belongs to no network of dnet's.

    `kind` says what it is: `bridge`, the inner end of a veth whose other end, `host_interface`, is a port of the
    host's bridge `device`; `ovs`, the same on a bridge of Open vSwitch, where it may have `vlans`; `macvlan` on the
    host's interface `device`, in one of the modes of macvlan; `direct`, that interface itself, `before` being what it
    had on the host; `dummy`, one that leads nowhere. `device_index` is 0 while the host has no such device: then
    nothing of the attachment exists.

    `gateways` are those asked for, one of each family at most; `defaults` the versions of IP whose default route goes
    through it now. `lease` is what DHCP granted, as leases.Lease has it.
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
    def ways(self) -> tuple[IPAddress, ...]:
        """The gateways that a default route may go to: those asked for, and of IPv4 else what DHCP named."""
        if not self.lease or any(way.version == 4 for way in self.gateways):
            return self.gateways
        # Classless routes, where there are any, are all the routes there are: RFC 3442.
        routes = self.lease["classless_routes"]
        named = [way for network, way in routes if network == "0.0.0.0/0" and way] if routes else self.lease["routers"]
        return (*self.gateways, *map(IPv4Address, named[:1]))


@frozen
class StaticRoute(Value):
    """A route of a container that the user asked for.

    Without an `interface` it goes where its gateway is; metric 0 is the kernel's own choice. `index` is that of an
    interface that is not dnet's, 0 for others.
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
