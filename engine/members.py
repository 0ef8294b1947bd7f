"""Containers that are read lot by lot. Rank 5, IO."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import overload

from dnet.model import Container
from dnet.rows import Head
from dnet.store import Store

READ_FIRST, READ_MAX = 32, 128


class Members(Sequence[Container]):
    """Containers of which only what they are called is known, each read with its lot when it is first asked for.

    Once they are marked as changing that is the same as reading all of them at once, since nobody else changes them.
    """

    def __init__(self, store: Store, heads: Iterable[Head | Container]) -> None:
        self.heads = list({item.id: item for item in heads}.values())
        self._store = store
        self._read: list[Container] = []

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
        start = len(self._read)
        lot = self.heads[start : start + min(READ_FIRST + start, READ_MAX)]
        found = iter(self._store.ready([item.id for item in lot if isinstance(item, Head)]))
        self._read += [next(found) if isinstance(item, Head) else item for item in lot]
