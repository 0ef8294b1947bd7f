"""Addresses and routes, as objects."""

from __future__ import annotations

from dnet.model.address import IPAddress, IPInterface, IPNetwork
from dnet.model.values import frozen
from dnet.objects.host import ForeignState
from dnet.objects.object import Setting


@frozen
class LocalRouting(Setting):
    """net.ipv4.conf.DEVICE.route_localnet: replies to what came from 127.0.0.1 may arrive through the device."""

    def __str__(self) -> str:
        return f"route_localnet on {self.place}"


@frozen
class LoopbackRoute(Setting):
    """The route `local ::1 dev DEVICE`: what LocalRouting does for 127.0.0.1, for ::1."""

    def __str__(self) -> str:
        return f"route local ::1 dev {self.place}"


@frozen
class Address(Setting):
    """An address with its prefix length; a bare one brings no route to its subnet."""

    interface: IPInterface
    is_bare: bool = False

    def __str__(self) -> str:
        return f"address {self.interface} on {self.place}"


@frozen
class Route(Setting):
    """A route through a device, or with index 0 the one that leads to `gateway`; None means directly connected.

    Metric 0 is the kernel's own choice: 0 for IPv4, 1024 for IPv6.
    """

    destination: IPNetwork
    gateway: IPAddress | None
    metric: int = 0

    def __str__(self) -> str:
        via = f" via {self.gateway}" if self.gateway else ""
        metric = f" metric {self.metric}" if self.metric else ""
        return f"route {self._destination}{via} {self._through}{metric}"

    @property
    def absence(self) -> str:
        """The phrase for its absence."""
        return f"no route {self._destination} {self._through}"

    @property
    def _destination(self) -> str:
        return "default" if self.destination.prefixlen == 0 else str(self.destination)

    @property
    def _through(self) -> str:
        return f"dev {self.place}" if self.device else f"in sandbox {self.sandbox}"


@frozen
class DisplacedRoute(ForeignState, owned=False):
    """The absence of a route that another one has the place of. Deleted, the route is there again."""

    def __str__(self) -> str:
        return f"no {self.text} on {self.place}"


@frozen
class AdvertisedRoute(Setting):
    """An IPv6 route as the kernel makes it of a router's advertisement, which only an ioctl can make otherwise.

    One that netlink makes is not the router's: the kernel then ignores all that further advertisements say
    (ndisc_router_discovery). `preference` is RFC 4191's, `expires_s` None for never.
    """

    destination: IPNetwork
    gateway: IPAddress
    metric: int
    preference: int
    expires_s: int | None

    def __str__(self) -> str:
        destination = "default" if self.destination.prefixlen == 0 else str(self.destination)
        return f"route {destination} via {self.gateway} dev {self.place} metric {self.metric}, advertised"
