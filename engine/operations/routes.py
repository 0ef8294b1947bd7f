"""Routes of containers that the user adds, removes and lists."""

from __future__ import annotations

from typing import NamedTuple

from dnet.drivers import desired
from dnet.errors import Conflict, InvalidRequest, NotFound
from dnet.model.attachment import StaticRoute
from dnet.model.attachment_spec import check_metric
from dnet.model.container import Container
from dnet.model.values import replace
from dnet.objects.observed import METRIC6, Observed, ObservedRoute
from dnet.operations import reattach, targets
from dnet.operations.attachment_checks import label
from dnet.operations.inside import changing, check_unchanged, look_into
from dnet.transaction.containers import change_or_revert
from dnet.transaction.context import Context
from dnet.transaction.recovery import prepare


class ShownRoute(NamedTuple):
    """A route in a container. `origin` is `dnet` if `route add` added it, `missing` if it has disappeared since."""

    destination: str
    gateway: str
    interface: str
    metric: int
    origin: str


def add(context: Context, target: str, route: StaticRoute) -> Container:
    """Add a route and store it."""
    check_metric(route.metric)
    prepare(context)
    container = reattach.find(context, target)
    inside = look_into(context, container)
    route = _with_index(container, _with_interface(container, route, inside), inside)
    _check_free(container, route, inside)
    with changing(context, [container]):
        check_unchanged(context, [container])
        context.store.containers.insert_routes(container.id, [route], "creating")
    return change_or_revert(context, [container], [replace(container, routes=(*container.routes, route))])[0]


def delete(context: Context, target: str, route: StaticRoute) -> Container:
    """Remove a route that was added; what the description leaves open may be anything."""
    prepare(context)
    container = targets.remembered(context, target) or reattach.find(context, target)
    meant = [item for item in container.routes if _is_meant(item, route)]
    if not meant:
        _raise_missing(context, container, route)
    if len(meant) > 1:
        several = "; ".join(map(str, meant))
        raise InvalidRequest(f"{label(container)} has several: {several}", object=str(route), hint="add its metric")
    with changing(context, [container]):
        context.store.check_current([container])
        context.store.containers.insert_routes(container.id, meant, "deleting")
    remaining = tuple(item for item in container.routes if item not in meant)
    return change_or_revert(context, [container], [replace(container, routes=remaining)])[0]


def has(context: Context, target: str, route: StaticRoute) -> bool:
    """Return whether a container has an added route of that description. Nothing is changed."""
    return any(_is_meant(item, route) for item in _known(context, target).routes)


def _known(context: Context, target: str) -> Container:
    return targets.remembered(context, target) or targets.look_up(context, target).container


def _raise_missing(context: Context, container: Container, route: StaticRoute) -> None:
    inside = look_into(context, container)
    for held in inside.routes:
        if held.destination == route.destination:
            sentence = f"the route {_words(held, inside)} of {label(container)} was not added by `dnet route`"
            hint = "remove it where it comes from: a network, an attachment, or the container itself"
            raise InvalidRequest(sentence, object=str(route), hint=hint)
    raise NotFound(f"{label(container)} has no route {route}", object=str(route), hint="`dnet route ls` lists them")


def listed(context: Context, target: str) -> list[ShownRoute]:
    """Return the routes that are in a container, and added ones that are missing. Nothing is changed."""
    context.kernel.require_privilege()
    container = _known(context, target)
    inside = look_into(context, container)
    shown, present = [], set()
    for held in inside.routes:
        own = [item for item in container.routes if _is_same(item, held)]
        present.update(own)
        gateway, device = str(held.gateway or ""), inside.name_of(held.index) if held.index else ""
        destination = _destination(held.destination.prefixlen, str(held.destination))
        shown.append(ShownRoute(destination, gateway, device, held.metric, "dnet" if own else ""))
    for item in container.routes:
        if item not in present:
            destination = _destination(item.destination.prefixlen, str(item.destination))
            shown.append(ShownRoute(destination, str(item.gateway or ""), item.interface, item.metric, "missing"))
    return shown


def _is_meant(item: StaticRoute, description: StaticRoute) -> bool:
    return (
        item.destination == description.destination
        and description.gateway in {None, item.gateway}
        and description.interface in {"", item.interface}
        and description.metric in {0, item.metric}
    )


def _is_same(item: StaticRoute, held: ObservedRoute) -> bool:
    """Return whether the kernel's route `held` is an added one."""
    return (item.destination, item.gateway, _metric(item)) == (held.destination, held.gateway, held.metric)


def _metric(route: StaticRoute) -> int:
    return route.metric or (METRIC6 if route.destination.version == 6 else 0)


def _with_index(container: Container, route: StaticRoute, inside: Observed) -> StaticRoute:
    """Return a route with the index of its interface, if that is not dnet's."""
    if not route.interface or route.interface in desired.inner_indexes(container):
        return route
    index = next((link.index for link in inside.links if link.name == route.interface), 0)
    if not index:
        names = ", ".join(link.name for link in inside.links)
        raise NotFound(
            f"{label(container)} has no interface {route.interface}", object=route.interface, hint=f"it has {names}"
        )
    return replace(route, index=index)


def _check_free(container: Container, route: StaticRoute, inside: Observed) -> None:
    for held in inside.routes:
        if (held.destination, held.metric) == (route.destination, _metric(route)):
            sentence = f"{label(container)} has a route {_words(held, inside)} already"
            hint = "take that away first, or give this one another metric"
            raise Conflict(sentence, object=str(route), hint=hint)


def _with_interface(container: Container, route: StaticRoute, inside: Observed) -> StaticRoute:
    """Return a route with the interface of its gateway's subnet. Raise when there is none, as the kernel would."""
    if route.gateway is None or route.gateway.is_link_local:
        return route
    connected = [
        held for held in inside.routes if held.gateway is None and held.index and route.gateway in held.destination
    ]
    if route.interface:
        connected = [held for held in connected if inside.name_of(held.index) == route.interface]
    if not connected:
        where = f"behind {route.interface} of" if route.interface else "on a network of"
        hint = "add a route to the gateway first: `dnet route add TARGET GATEWAY dev INTERFACE`"
        sentence = f"gateway {route.gateway} is not {where} {label(container)}"
        raise InvalidRequest(sentence, object=str(route.gateway), hint=hint)
    nearest = max(connected, key=lambda held: (held.destination.prefixlen, -held.metric))
    return replace(route, interface=inside.name_of(nearest.index))


def _words(held: ObservedRoute, inside: Observed) -> str:
    words = [_destination(held.destination.prefixlen, str(held.destination))]
    words += [f"via {held.gateway}"] if held.gateway else []
    words += [f"dev {inside.name_of(held.index)}"] if held.index else []
    return " ".join(words)


def _destination(length: int, text: str) -> str:
    return text if length else "default"
