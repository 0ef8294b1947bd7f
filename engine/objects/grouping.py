"""Sorting of objects by class and by backend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeVar

from dnet.objects.object import Object

K = TypeVar("K", bound=Object)
ByKind = Mapping[type[Object], Sequence[Any]]


def by_kind(groups: Iterable[Iterable[Object]]) -> ByKind:
    """Sort the objects of groups; looking for each kind in hundreds of groups would take longer."""
    found: dict[type[Object], list[Any]] = {}
    for group in groups:
        for item in group:
            found.setdefault(type(item), []).append(item)
    return found


def of_kind(kind: type[K], kinds: ByKind) -> list[K]:
    """Return the objects of a kind, those of more special kinds included."""
    return [item for known, items in kinds.items() if issubclass(known, kind) for item in items]


def of_backend(backend: str, kinds: ByKind) -> list[Object]:
    """Return the objects of a backend."""
    return [item for kind, items in kinds.items() if kind.backend == backend for item in items]


def runs(items: Iterable[Object]) -> list[tuple[str, list[Object]]]:
    """Return what follows each other and is of one backend together, with that."""
    return [(backend, list(group)) for backend, group in groupby(items, lambda item: item.backend)]
