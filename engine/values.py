"""Frozen values, cheap to define: a program that lives for a tenth of a second defines a hundred. Rank 0, pure.

A dataclass with frozen=True compiles six functions of its own, some 0.3 ms; one of these has its own `__init__` only,
and shares the rest. `dataclasses.replace`, `fields` and `asdict` take both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, fields
from operator import attrgetter
from typing import Any, NoReturn, TypeVar, dataclass_transform, overload

T = TypeVar("T")


class Value:
    """Base of all: what is set stays, and two are equal that are of one class and have equal fields.

    As in a dataclass, a field can be left out of that, or of what is shown: `field(compare=False, repr=False)`.
    """

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(self, name):
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> NoReturn:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        key = _key(type(self))
        return bool(key(self) == key(other))

    def __hash__(self) -> int:
        return hash(_key(type(self))(self))

    def __repr__(self) -> str:
        shown = [field.name for field in fields(self) if field.repr]  # type: ignore[arg-type]
        listed = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
        return f"{type(self).__name__}({listed})"


_KEYS: dict[type, Callable[[object], Any]] = {}


def _key(kind: type[Value]) -> Callable[[object], Any]:
    """Return what gives all of a value that counts, its class included."""
    if kind not in _KEYS:
        compared = [field.name for field in fields(kind) if field.compare]  # type: ignore[arg-type]
        _KEYS[kind] = attrgetter("__class__", *compared)
    return _KEYS[kind]


@overload
def frozen(kind: type[T], /) -> type[T]: ...
@overload
def frozen(*, kw_only: bool = ...) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True)
def frozen(kind: type[T] | None = None, /, *, kw_only: bool = False) -> type[T] | Callable[[type[T]], type[T]]:
    """Make a subclass of Value a dataclass; its annotations are its fields."""

    def make(kind: type[T]) -> type[T]:
        return dataclass(slots=True, eq=False, repr=False, match_args=False, kw_only=kw_only)(kind)

    return make if kind is None else make(kind)
