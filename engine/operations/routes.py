"""Routes of containers that the user asks for: added, taken away, shown."""

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
    """A route in a container. `origin` is `dnet` for those that `route add` added, `missing` if it is not there."""

    destination: str
    gateway: str
    interface: str
    metric: int
    origin: str


def add(context: Context, target: str, way: StaticRoute) -> Container:
    """Add a route, and remember it."""
    check_metric(way.metric)
    prepare(context)
    container = reattach.find(context, target)
    inside = look_into(context, container)
    way = _placed(container, _leading(container, way, inside), inside)
    _check_free(container, way, inside)
    with changing(context, [container]):
        check_unchanged(context, [container])
        context.store.containers.insert_routes(container.id, [way], "creating")
    return change_or_revert(context, [container], [replace(container, routes=(*container.routes, way))])[0]


def delete(context: Context, target: str, way: StaticRoute) -> Container:
    """Take a route away again; what is left open of it does not matter."""
    prepare(context)
    container = targets.remembered(context, target) or reattach.find(context, target)
    found = [item for item in container.routes if is_meant(item, way)]
    if not found:
        _raise_missing(context, container, way)
    if len(found) > 1:
        several = "; ".join(map(str, found))
        raise InvalidRequest(f"{label(container)} has several: {several}", object=str(way), hint="add its metric")
    with changing(context, [container]):
        context.store.check_current([container])
        context.store.containers.insert_routes(container.id, found, "deleting")
    remaining = tuple(item for item in container.routes if item not in found)
    return change_or_revert(context, [container], [replace(container, routes=remaining)])[0]


def has(context: Context, target: str, way: StaticRoute) -> bool:
    """Whether there is a route of dnet's that is meant."""
    return any(is_meant(item, way) for item in _known(context, target).routes)


def _known(context: Context, target: str) -> Container:
    """Return a container as the store has it, or a new one, changing nothing."""
    return targets.remembered(context, target) or targets.look_up(context, target).container


def _raise_missing(context: Context, container: Container, way: StaticRoute) -> None:
    inside = look_into(context, container)
    for held in inside.routes:
        if held.destination == way.destination:
            sentence = f"the route {_words(held, inside)} of {label(container)} was not added by `dnet route`"
            hint = "remove it where it comes from: a network, an attachment, or the container itself"
            raise InvalidRequest(sentence, object=str(way), hint=hint)
    raise NotFound(f"{label(container)} has no route {way}", object=str(way), hint="`dnet route ls` lists them")


def listed(context: Context, target: str) -> list[ShownRoute]:
    """Return the routes that are in a container, and those that should be."""
    context.kernel.require_privilege()
    container = _known(context, target)
    inside = look_into(context, container)
    shown, there = [], set()
    for held in inside.routes:
        own = [item for item in container.routes if is_same(item, held)]
        there.update(own)
        gateway, device = str(held.gateway or ""), inside.name_of(held.index) if held.index else ""
        destination = _destination(held.destination.prefixlen, str(held.destination))
        shown.append(ShownRoute(destination, gateway, device, held.metric, "dnet" if own else ""))
    for item in container.routes:
        if item not in there:
            destination = _destination(item.destination.prefixlen, str(item.destination))
            shown.append(ShownRoute(destination, str(item.gateway or ""), item.interface, item.metric, "missing"))
    return shown


def is_meant(item: StaticRoute, way: StaticRoute) -> bool:
    """Whether a route is the one that `way` describes, what is left open apart."""
    return (
        item.destination == way.destination
        and way.gateway in {None, item.gateway}
        and way.interface in {"", item.interface}
        and way.metric in {0, item.metric}
    )


def is_same(item: StaticRoute, held: ObservedRoute) -> bool:
    """Whether the kernel's route is one that was asked for."""
    return (item.destination, item.gateway, _metric(item)) == (held.destination, held.gateway, held.metric)


def _metric(way: StaticRoute) -> int:
    return way.metric or (METRIC6 if way.destination.version == 6 else 0)


def _placed(container: Container, way: StaticRoute, inside: Observed) -> StaticRoute:
    """Return a route with the index of its interface, if that is not dnet's."""
    if not way.interface or way.interface in desired.inner_indexes(container):
        return way
    index = next((link.index for link in inside.links if link.name == way.interface), 0)
    if not index:
        names = ", ".join(link.name for link in inside.links)
        raise NotFound(
            f"{label(container)} has no interface {way.interface}", object=way.interface, hint=f"it has {names}"
        )
    return replace(way, index=index)


def _check_free(container: Container, way: StaticRoute, inside: Observed) -> None:
    for held in inside.routes:
        if (held.destination, held.metric) == (way.destination, _metric(way)):
            sentence = f"{label(container)} has a route {_words(held, inside)} already"
            hint = "take that away first, or give this one another metric"
            raise Conflict(sentence, object=str(way), hint=hint)


def _leading(container: Container, way: StaticRoute, inside: Observed) -> StaticRoute:
    """Return a route with the interface that its gateway is behind; raise when there is none, as the kernel would."""
    if way.gateway is None or way.gateway.is_link_local:
        return way
    near = [held for held in inside.routes if held.gateway is None and held.index and way.gateway in held.destination]
    if way.interface:
        near = [held for held in near if inside.name_of(held.index) == way.interface]
    if not near:
        where = f"behind {way.interface} of" if way.interface else "on a network of"
        hint = "add a route to the gateway first: `dnet route add TARGET GATEWAY dev INTERFACE`"
        sentence = f"gateway {way.gateway} is not {where} {label(container)}"
        raise InvalidRequest(sentence, object=str(way.gateway), hint=hint)
    nearest = max(near, key=lambda held: (held.destination.prefixlen, -held.metric))
    return replace(way, interface=inside.name_of(nearest.index))


def _words(held: ObservedRoute, inside: Observed) -> str:
    words = [_destination(held.destination.prefixlen, str(held.destination))]
    words += [f"via {held.gateway}"] if held.gateway else []
    words += [f"dev {inside.name_of(held.index)}"] if held.index else []
    return " ".join(words)


def _destination(length: int, text: str) -> str:
    return text if length else "default"
