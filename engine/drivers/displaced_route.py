"""Default routes of others that give way to one of dnet."""

from __future__ import annotations

from collections.abc import Iterator

from dnet.model.attachment import KernelRoute
from dnet.model.container import Container
from dnet.objects.observed import Report, Route

MESSAGE_BYTES_MAX = 400  # of a route that can be put back; more is a route through a dozen gateways


def default_versions(container: Container) -> Iterator[int]:
    """Yield the versions of IP that dnet has given a default route in a container."""
    for end in container.endpoints:
        yield from [4] if end.gateway else []
        yield from [6] if end.gateway6 else []
    for item in container.attachments:
        yield from item.defaults if item.device_index or not item.device else ()


def kernel_route(way: Route, inside: Report) -> KernelRoute:
    """Return a route that somebody else made, as what is displaced by a default route of dnet's."""
    device = inside.name_of(way.index)
    words = ["route default", f"via {way.gateway}" if way.gateway else "", f"metric {way.metric}" if way.metric else ""]
    text = " ".join(filter(None, words))
    return KernelRoute(version=way.version, device=device, index=way.index, text=text, message=way.message.hex())
