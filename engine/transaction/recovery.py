"""Recovery: the next command that writes finishes or removes what a killed process left half done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from dnet.drivers import desired
from dnet.errors import DnetError
from dnet.model.container import Container
from dnet.model.network import Network
from dnet.transaction.containers import finish_change, remove_containers
from dnet.transaction.context import Context
from dnet.transaction.networks import remove_networks
from dnet.transaction.vlans import ENABLING, finish_enabling, repair_all_vlans


def prepare(context: Context) -> None:
    """Check the privilege, create the directories, and recover from killed processes; raise NeedsRoot."""
    if not context.is_prepared:
        context.kernel.require_privilege()
        for directory in (f"{context.run_directory}/netns", f"{context.run_directory}/etc", desired.NAME_DIRECTORY):
            context.kernel.prepare_directory(directory)
        context.kernel.prepare_shared_directory(desired.ETC_DIRECTORY)
        context.is_prepared = True
        context.ruleset.look()
    context.left_over = _recover(context)
    for what, error in context.left_over:
        context.notice(f"what a killed process left half done is still there: {what}: {error}")


def _recover(context: Context) -> list[tuple[str, DnetError]]:
    """Return what could neither be finished nor removed, with the error; it stays on record."""
    containers, changing, networks = context.store.abandoned()
    failed: list[tuple[str, DnetError]] = []
    for what, finish in _half_done(context, containers, changing, networks):
        try:
            finish()
        except DnetError as error:
            failed.append((what, error))
    if (containers or networks) and not failed:
        context.notice(
            f"removed {len(containers)} containers and {len(networks)} networks, left half done by a killed process"
        )
    return failed


def _half_done(
    context: Context, containers: Sequence[Container], changing: Sequence[Container], networks: Sequence[Network]
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield what is half done, in words, with the function that finishes or removes it, in the order to call them."""
    adopted = context.store.adoptions.abandoned()
    if adopted:
        from dnet.transaction import uplinks

        yield "adopted interfaces", lambda: _locked(context, lambda: uplinks.undo_abandoned(context, adopted))
    if containers:
        yield from _removals(context, containers)
    for item in changing:
        yield f"container {item.name}", partial(finish_change, context, item)
    if context.store.setting(ENABLING):
        yield "networks' VLANs", partial(finish_enabling, context)
    if changing:  # the store has the VLANs that their ports are to have
        yield "ports' VLANs", partial(repair_all_vlans, context)
    if networks:
        yield "networks", lambda: _locked(context, lambda: remove_networks(context, networks, force=True))


def _locked(context: Context, work: Callable[[], None]) -> None:
    with context.store.network_lock():
        work()


def _removals(context: Context, containers: Sequence[Container]) -> Iterator[tuple[str, Callable[[], None]]]:
    """Remove half-made containers together; when that fails, yield each alone, because one must not keep the others."""
    try:
        remove_containers(context, containers, force=True)
    except DnetError:
        for item in containers:
            yield f"container {item.name}", partial(remove_containers, context, [item], force=True)
