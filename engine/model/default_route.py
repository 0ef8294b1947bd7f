"""The choice of the interface that carries a container's default route."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address

from dnet.model.container import MODE_FOREIGN, Container, Endpoint
from dnet.model.network import Network
from dnet.model.values import replace


def order(interface: str) -> tuple[int, str]:
    """Return a key that sorts a container's interfaces: eth2 before eth10."""
    number = interface.lstrip("abcdefghijklmnopqrstuvwxyz")
    return (int(number), interface) if number.isdecimal() else (1 << 31, interface)


def with_gateways(endpoints: Sequence[Endpoint], networks: Mapping[str, Network]) -> tuple[Endpoint, ...]:
    """Return a container's endpoints, with gateways only for those that carry a default route.

    The choice is Docker's (libnetwork's Sandbox.getGatewayEndpoint): the highest priority, then networks with IPv6,
    then the first name. It is made for IPv4 and IPv6 apart; an internal network has no gateway. `networks` are by id.
    """
    if len(endpoints) == 1 and (endpoints[0].gateway or networks[endpoints[0].network_id].internal):
        return tuple(endpoints)
    able = [endpoint for endpoint in endpoints if not networks[endpoint.network_id].internal]
    able.sort(key=lambda endpoint: (-endpoint.gateway_priority, endpoint.address6 is None, endpoint.network))
    first = next((endpoint.id for endpoint in able), "")
    first6 = next((endpoint.id for endpoint in able if endpoint.address6), "")
    return tuple(
        _with_gateways(
            endpoint,
            networks[endpoint.network_id].gateway if endpoint.id == first else None,
            networks[endpoint.network_id].gateway6 if endpoint.id == first6 else None,
        )
        for endpoint in sorted(endpoints, key=lambda endpoint: order(endpoint.interface))
    )


def _with_gateways(endpoint: Endpoint, gateway: IPv4Address | None, gateway6: IPv6Address | None) -> Endpoint:
    is_same = (endpoint.gateway, endpoint.gateway6) == (gateway, gateway6)
    return endpoint if is_same else replace(endpoint, gateway=gateway, gateway6=gateway6)


def with_defaults(container: Container, networks: Mapping[str, Network]) -> Container:
    """Return a container in which at most one interface carries the default route of each family.

    An attachment with a gateway precedes endpoints of the same priority. In a foreign container an endpoint carries a
    default route only if its priority is above 0. `networks` are by id.
    """
    is_foreign = container.mode == MODE_FOREIGN
    endpoints = with_gateways(container.endpoints, networks) if container.endpoints else ()
    if not container.attachments and not is_foreign:
        is_same = all(map(operator.is_, endpoints, container.endpoints))  # what stays is the same object
        return container if is_same else replace(container, endpoints=endpoints)
    won: dict[int, str] = {}
    for version in (4, 6):
        able = [
            item
            for item in container.attachments
            if any(gateway.version == version for gateway in item.default_gateways)
        ]
        first = max(able, key=lambda item: item.gateway_priority, default=None)
        rivals = [endpoint for endpoint in endpoints if (endpoint.gateway if version == 4 else endpoint.gateway6)]
        if first and all(endpoint.gateway_priority <= first.gateway_priority for endpoint in rivals):
            won[version] = first.id
    kept = [_without_gateways(endpoint, won, is_foreign=is_foreign) for endpoint in endpoints]
    wired = [
        replace(item, defaults=tuple(version for version, identity in won.items() if identity == item.id))
        for item in sorted(container.attachments, key=lambda item: order(item.interface))
    ]
    return replace(container, endpoints=tuple(kept), attachments=tuple(wired))


def _without_gateways(endpoint: Endpoint, versions: Collection[int], *, is_foreign: bool) -> Endpoint:
    """Return an endpoint without its gateways of some versions of IP: those that attachments carry."""
    unasked = is_foreign and endpoint.gateway_priority <= 0
    return _with_gateways(
        endpoint,
        None if unasked or 4 in versions else endpoint.gateway,
        None if unasked or 6 in versions else endpoint.gateway6,
    )
