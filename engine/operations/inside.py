"""A look into a container, and the record of a change inside it, which outlives a killed process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from dnet.drivers import desired
from dnet.drivers.displaced_route import with_displaced
from dnet.errors import InvalidRequest
from dnet.model.container import MODE_HOST, Container
from dnet.model.default_route import with_defaults
from dnet.model.record import ContainerHead
from dnet.objects.observed import Observed
from dnet.transaction.context import Context

AnyContainer = TypeVar("AnyContainer", bound=Container | ContainerHead)


def look_into(context: Context, container: Container) -> Observed:
    """Return what is in a container's namespace; of its routes, those of the main table.

    Raises NotFound when the namespace is gone, or has been replaced by another one.
    """
    with context.kernel.looking_into(desired.sandbox_of(container)) as sight:
        routes = [route for route in sight.routes() if route.is_main]
        return Observed(sight.links(), sight.addresses(), routes)


@contextmanager
def changing(context: Context, members: Sequence[Container | ContainerHead]) -> Iterator[None]:
    """Run the block in a transaction that also marks containers as being changed by this process.

    If this process is killed, the next command makes them what the store says.
    """
    with context.store.write(is_intent=True):
        yield
        context.store.set_phase("container", [item.id for item in members], "changing", context.store.new_owner())


def mark_changing(context: Context, container: Container) -> None:
    """Mark a container as `changing` does, in a transaction of its own."""
    with changing(context, [container]):
        pass


@contextmanager
def changing_stored(context: Context, reference: str) -> Iterator[Container]:
    """Yield a container as it is stored, and mark it, all in one transaction, as `changing` does.

    Raises Conflict when another process is changing it.
    """
    with context.store.write(is_intent=True):
        container = context.store.containers.get(reference)
        context.store.check_not_changing([container])
        yield container
        context.store.set_phase("container", [container.id], "changing", context.store.new_owner())


def check_unchanged(context: Context, members: Sequence[Container | ContainerHead]) -> None:
    """Raise Conflict when another process is changing containers, or has changed them since they were read.

    Foreign containers that are not stored yet are inserted. Inside a transaction.
    """
    read = [item for item in members if isinstance(item, Container)]
    foreign = [item for item in read if item.target]
    context.store.check_ready([item for item in members if item not in foreign])
    context.store.check_current(read)
    known = {item.id for item in context.store.containers.foreign()} if foreign else set()
    context.store.containers.insert([item for item in foreign if item.id not in known], context.store.new_owner())


def check_own_sandbox(container: AnyContainer) -> AnyContainer:
    """Return a container that has a network of its own; raise when it has another container's, or the host's."""
    if container.shares or container.mode == MODE_HOST:
        whose = "another container's" if container.shares else "the host's"
        raise InvalidRequest(
            f"container {container.name} has {whose} network and cannot join one itself",
            object=container.name,
            hint="create it with --network NETWORK",
        )
    return container


def choose_default_routes(
    context: Context, changes: Iterable[tuple[Container, Container]], insides: Mapping[str, Observed]
) -> list[Container]:
    """Return containers, each given before and after a change, with the interface of their default routes chosen.

    `insides` is what is in containers, by their ids. Routes there that the default routes displace are stored, so
    that they are restored even if this process is killed. Inside a transaction.
    """
    networks = context.store.networks.by_id()
    chosen = []
    for before, after in changes:
        new = with_defaults(after, networks)
        if before.id in insides:
            new = with_displaced(before, new, insides[before.id])
            context.store.containers.update(new, "displaced")
            if new.target:
                context.store.containers.update(new, "name", "target")
        chosen.append(new)
    return chosen


def gateway_priority(container: Container, *, is_default: bool) -> int:
    """Return a priority for a new interface that gives it the default route, or leaves that where it is."""
    known = [endpoint.gateway_priority for endpoint in container.endpoints]
    known += [item.gateway_priority for item in container.attachments if item.default_gateways]
    if is_default:
        return max([*known, 0]) + 1
    return 0 if container.target else min([*known, 1]) - 1
