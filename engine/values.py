"""Frozen values, cheap to define: a program that lives for a tenth of a second defines a hundred. Rank 0, pure.

A dataclass with frozen=True compiles six functions of its own, some 0.3 ms; one of these has its own `__init__` only,
and shares the rest. `dataclasses.replace`, `fields` and `asdict` take both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, fields
from typing import NoReturn, TypeVar, dataclass_transform, overload

T = TypeVar("T")


class Value:
    """Base of all: what is set stays, and two are equal that are of one class and have equal fields."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(self, name):
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> NoReturn:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def _values(self) -> tuple[object, ...]:
        return tuple([getattr(self, name) for name in _names(type(self))])

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Value) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        listed = ", ".join(f"{name}={getattr(self, name)!r}" for name in _names(type(self)))
        return f"{type(self).__name__}({listed})"


_NAMES: dict[type, tuple[str, ...]] = {}


def _names(kind: type[Value]) -> tuple[str, ...]:
    if kind not in _NAMES:
        _NAMES[kind] = tuple(field.name for field in fields(kind))  # type: ignore[arg-type]
    return _NAMES[kind]


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
