"""The contract of a network driver: which objects its networks consist of, and what it can do.

A new driver is a module that ends with a `Driver`, and one line in `desired.DRIVERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dnet.model.container import Container, Endpoint
from dnet.model.network import Network, Uplink
from dnet.model.values import Value, frozen
from dnet.objects.object import Object

Objects = tuple[Object, ...]


def nothing(*_: object) -> Objects:
    """Return no objects."""
    return ()


@frozen(kw_only=True)
class Driver(Value):
    """A driver of networks. Its functions are pure, and return objects in the order in which they are created."""

    # network returns all objects of a network, except the nftables table and what its uplinks need.
    network: Callable[[Network], Objects]
    # endpoint returns all objects of an endpoint of a container, except the sandbox.
    endpoint: Callable[[Network, Container, Endpoint], Objects]
    # port returns what makes the host interface of an endpoint, which exists, a port of the network's bridge.
    port: Callable[[Network, Endpoint], Objects]
    # uplink returns what makes an interface of the host a port of the network's bridge.
    uplink: Callable[[Network, Uplink], Objects]
    # uplink_rules returns the nftables elements that the network needs for its uplinks.
    uplink_rules: Callable[[Network], Objects] = nothing
    # vlans returns those objects of a network that separate VLANs and are not part of the bridge itself.
    vlans: Callable[[Network], Iterable[Object]] = nothing
    # port_vlans returns those objects of an endpoint that set its port's VLANs and are not part of the port itself.
    port_vlans: Callable[[Network, Endpoint], Iterable[Object]] = nothing

    # ports_max is the number of ports that a bridge can have; None if there is no limit.
    ports_max: int | None = None
    # vlan_backends are the ways to separate VLANs, the preferred one first; the last one needs nothing of the kernel.
    vlan_backends: tuple[str, ...]
    # has_vlans_on_existing tells whether VLANs can be separated on a bridge that dnet did not create.
    has_vlans_on_existing: bool
    # needs_switch tells whether the bridge is one of Open vSwitch, which has to run and creates the device.
    needs_switch: bool
