"""Which interface of a container carries the default route."""

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


def with_gateways(ends: Sequence[Endpoint], networks: Mapping[str, Network]) -> tuple[Endpoint, ...]:
    """Return a container's endpoints with the gateways of those that the default routes go through.

    As Docker chooses (libnetwork's Sandbox.getGatewayEndpoint): the highest priority, then networks of both
    families, then the first name; for each family by itself, and never an internal network. `networks` are by id.
    """
    if len(ends) == 1 and (ends[0].gateway or networks[ends[0].network_id].internal):
        return tuple(ends)
    able = [end for end in ends if not networks[end.network_id].internal]
    able.sort(key=lambda end: (-end.gateway_priority, end.address6 is None, end.network))
    first = next((end.id for end in able), "")
    first6 = next((end.id for end in able if end.address6), "")
    return tuple(
        _with_gateways(
            end,
            networks[end.network_id].gateway if end.id == first else None,
            networks[end.network_id].gateway6 if end.id == first6 else None,
        )
        for end in sorted(ends, key=lambda end: order(end.interface))
    )


def _with_gateways(end: Endpoint, gateway: IPv4Address | None, gateway6: IPv6Address | None) -> Endpoint:
    is_so = (end.gateway, end.gateway6) == (gateway, gateway6)
    return end if is_so else replace(end, gateway=gateway, gateway6=gateway6)


def with_defaults(container: Container, networks: Mapping[str, Network]) -> Container:
    """Return a container with the default route of each family given to one of its interfaces at most.

    Attachments that ask for it are chosen from before endpoints of the same priority. Into a foreign container only
    what asks for it by a priority above 0 brings a default route.
    """
    is_foreign = container.mode == MODE_FOREIGN
    ends = with_gateways(container.endpoints, networks) if container.endpoints else ()
    if not container.attachments and not is_foreign:
        is_so = all(map(operator.is_, ends, container.endpoints))  # what stays is the same object
        return container if is_so else replace(container, endpoints=ends)
    won: dict[int, str] = {}
    for version in (4, 6):
        able = [item for item in container.attachments if any(way.version == version for way in item.ways)]
        first = max(able, key=lambda item: item.gateway_priority, default=None)
        rivals = [end for end in ends if (end.gateway if version == 4 else end.gateway6)]
        if first and all(end.gateway_priority <= first.gateway_priority for end in rivals):
            won[version] = first.id
    kept = [_without_gateways(end, won, is_foreign=is_foreign) for end in ends]
    wired = [
        replace(item, defaults=tuple(version for version, identity in won.items() if identity == item.id))
        for item in sorted(container.attachments, key=lambda item: order(item.interface))
    ]
    return replace(container, endpoints=tuple(kept), attachments=tuple(wired))


def _without_gateways(end: Endpoint, versions: Collection[int], *, is_foreign: bool) -> Endpoint:
    """Return an endpoint without the gateways of families whose default route goes another way."""
    unasked = is_foreign and end.gateway_priority <= 0
    return _with_gateways(
        end,
        None if unasked or 4 in versions else end.gateway,
        None if unasked or 6 in versions else end.gateway6,
    )
