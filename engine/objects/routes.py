"""Addresses and routes, as objects."""

from __future__ import annotations

from typing import ClassVar

from dnet.model.address import IPAddress, IPInterface, IPNetwork
from dnet.model.values import frozen
from dnet.objects.host import Dumped
from dnet.objects.object import Device


@frozen
class LocalRouting(Device):
    """net.ipv4.conf.DEVICE.route_localnet: replies to what came from 127.0.0.1 may arrive through the device."""

    owned: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"route_localnet on {self.place}"


@frozen
class LoopbackRoute(Device):
    """The route `local ::1 dev DEVICE`: what LocalRouting does for 127.0.0.1, for ::1."""

    owned: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"route local ::1 dev {self.place}"


@frozen
class Address(Device):
    """An address with its prefix length; a bare one brings no route to its subnet."""

    owned: ClassVar[bool] = True
    interface: IPInterface
    is_bare: bool = False

    def __str__(self) -> str:
        return f"address {self.interface} on {self.place}"


@frozen
class Route(Device):
    """A route through a device, or with index 0 the one that leads to `gateway`; None means directly connected.

    Metric 0 is the kernel's own choice: 0 for IPv4, 1024 for IPv6.
    """

    owned: ClassVar[bool] = True
    destination: IPNetwork
    gateway: IPAddress | None
    metric: int = 0

    def __str__(self) -> str:
        via = f" via {self.gateway}" if self.gateway else ""
        metric = f" metric {self.metric}" if self.metric else ""
        return f"route {_destination(self)}{via} {_through(self)}{metric}"


@frozen
class NoRoute(Route):
    """The absence of a route."""

    @classmethod
    def of(cls, route: Route) -> NoRoute:
        """Return the absence of this route."""
        return cls(route.device, route.index, route.sandbox, route.destination, route.gateway, route.metric)

    def __str__(self) -> str:
        return f"no route {_destination(self)} {_through(self)}"


@frozen
class DisplacedRoute(Dumped):
    """The absence of a route that another one has the place of. Deleted, the route is there again."""

    owned: ClassVar[bool] = False

    def __str__(self) -> str:
        return f"no {self.text} on {self.place}"


@frozen
class AdvertisedRoute(Device):
    """An IPv6 route as the kernel makes it of a router's advertisement, which only an ioctl can make otherwise.

    One that netlink makes is not the router's: the kernel then ignores all that further advertisements say
    (ndisc_router_discovery). `preference` is RFC 4191's, `expires_s` None for never.
    """

    owned: ClassVar[bool] = True
    destination: IPNetwork
    gateway: IPAddress
    metric: int
    preference: int
    expires_s: int | None

    def __str__(self) -> str:
        destination = "default" if self.destination.prefixlen == 0 else str(self.destination)
        return f"route {destination} via {self.gateway} dev {self.place} metric {self.metric}, advertised"


def _destination(route: Route) -> str:
    return "default" if route.destination.prefixlen == 0 else str(route.destination)


def _through(route: Route) -> str:
    return f"dev {route.place}" if route.device else f"in sandbox {route.sandbox}"
