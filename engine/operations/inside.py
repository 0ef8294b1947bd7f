"""A look into containers, and the bookkeeping of changes inside them."""

from __future__ import annotations

from collections.abc import Sequence

from dnet.drivers import desired
from dnet.model.container import Container
from dnet.model.record import ContainerHead
from dnet.objects.observed import Report
from dnet.transaction.context import Context


def look_into(context: Context, container: Container) -> Report:
    """Return what is in a container's namespace, of its routes those of the main table.

    Raises NotFound when the namespace has gone, or is another one by now.
    """
    with context.kernel.looking_into(desired.sandbox_of(container)) as sight:
        routes = [way for way in sight.routes() if way.is_main]
        return Report(sight.links(), sight.addresses(), routes)


def begin_change(context: Context, members: Sequence[Container | ContainerHead], owner: str) -> None:
    """Mark containers as being changed; foreign ones that are new are inserted. Inside a transaction.

    Raises where another process changes one of them, or has since it was read.
    """
    read = [item for item in members if isinstance(item, Container)]
    foreign = [item for item in read if item.target]
    context.store.check_ready([item for item in members if item not in foreign])
    context.store.check_current(read)
    known = {item.id for item in context.store.foreign_containers()} if foreign else set()
    context.store.insert_containers([item for item in foreign if item.id not in known], owner)
    context.store.set_changing([item.id for item in members], owner)


def note_displaced(context: Context, after: Container) -> None:
    """Note what a change is about to displace, so that one that is killed can be taken back; in a transaction."""
    context.store.set_displaced(after)
    if after.target:
        context.store.set_target(after)


def gateway_priority(container: Container, *, is_default: bool) -> int:
    """Return the priority with which an interface gets the default route if it shall, or leaves it where it is."""
    known = [end.gateway_priority for end in container.endpoints]
    known += [item.gateway_priority for item in container.attachments if item.default_gateways]
    if is_default:
        return max([*known, 0]) + 1
    return 0 if container.target else min([*known, 1]) - 1
