"""Lots of a bulk operation, and containers that are read lot by lot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar, overload

from dnet.model.container import Container
from dnet.model.record import ContainerHead
from dnet.state.store import Store

T = TypeVar("T")
BulkProgress = Callable[[int, int], None]  # called with how many are done, and of how many
FIRST_LOT = 32  # small, so that the kernel begins early; each lot is twice as large as the one before, up to
LOT = 128  # some 100 ms of the kernel's work


def lots(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield items in lots, so that Python and the kernel can work side by side."""
    rest = iter(items)
    size = FIRST_LOT
    while lot := list(islice(rest, size)):
        yield lot
        size = min(2 * size, LOT)


class LazyContainers(Sequence[Container]):
    """Containers of which some, given as ContainerHead, are read lot by lot, when the first of a lot is asked for.

    Once they are marked as changing, that is the same as reading all of them at once: nobody else changes their
    interfaces or routes, or removes them.
    """

    def __init__(self, store: Store, heads: Iterable[ContainerHead | Container]) -> None:
        self.heads = list({item.id: item for item in heads}.values())
        self._store = store
        self._read: list[Container] = []
        self._unread = lots(self.heads)

    def __len__(self) -> int:
        return len(self.heads)

    @overload
    def __getitem__(self, key: int) -> Container: ...
    @overload
    def __getitem__(self, key: slice) -> list[Container]: ...
    def __getitem__(self, key: int | slice) -> Container | list[Container]:
        asked = range(len(self.heads))[key]
        places = [asked] if isinstance(asked, int) else asked
        while len(self._read) <= max(places, default=-1):
            self._read_lot()
        return self._read[asked] if isinstance(asked, int) else [self._read[place] for place in places]

    def _read_lot(self) -> None:
        lot = next(self._unread)
        found = iter(self._store.containers.ready([item.id for item in lot if isinstance(item, ContainerHead)]))
        self._read += [next(found) if isinstance(item, ContainerHead) else item for item in lot]


def recorded(items: Iterable[T], *lists: list[T]) -> Iterator[T]:
    """Yield items when they are in the lists."""
    for item in items:
        for known in lists:
            known.append(item)
        yield item


def report(on_progress: BulkProgress | None, total: int) -> Callable[[int], None] | None:
    """Return a callback for `apply` that reports to the caller's, which also takes the total."""
    return on_progress and (lambda done: on_progress(done, total))
