"""Default routes of others that a default route of dnet displaces."""

from __future__ import annotations

from collections.abc import Iterator

from dnet.drivers import desired
from dnet.model.attachment import KernelRoute
from dnet.model.container import Container
from dnet.model.values import replace
from dnet.objects.observed import METRIC6, Observed, ObservedRoute

MESSAGE_BYTES_MAX = 400  # of a route that can be put back; a longer one goes through a dozen gateways


def with_displaced(before: Container, after: Container, inside: Observed) -> Container:
    """Return `after` with the routes of others that its default routes displace.

    `inside` is what the kernel reports of the sandbox.
    """
    own = set(desired.inner_indexes(before).values())
    had, has = (set(_default_versions(item)) for item in (before, after))
    displaced = [item for item in before.displaced if item.version in had & has]
    for route in inside.routes:
        metric = 0 if route.version == 4 else METRIC6
        is_in_the_way = route.destination.prefixlen == 0 and route.metric <= metric and route.index not in own
        if is_in_the_way and route.version in has - had and len(route.message) <= MESSAGE_BYTES_MAX:
            displaced.append(_kernel_route(route, inside))
    return replace(after, displaced=tuple(displaced))


def _default_versions(container: Container) -> Iterator[int]:
    """Yield the versions of IP of which dnet has given a container the default route."""
    for endpoint in container.endpoints:
        yield from [4] if endpoint.gateway else []
        yield from [6] if endpoint.gateway6 else []
    for item in container.attachments:
        yield from item.defaults if item.device_index or not item.device else ()


def _kernel_route(route: ObservedRoute, inside: Observed) -> KernelRoute:
    """Return a route of somebody else as a route that is displaced."""
    device = inside.name_of(route.index)
    words = ["route default"]
    words += [f"via {route.gateway}"] if route.gateway else []
    words += [f"metric {route.metric}"] if route.metric else []
    text = " ".join(words)
    return KernelRoute(version=route.version, device=device, index=route.index, text=text, message=route.message.hex())
