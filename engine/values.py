"""Frozen values, cheap to define: a program that lives for a tenth of a second defines a hundred. Rank 0, pure.

Making a class a dataclass takes 0.1 ms, with frozen=True 0.3 ms, and a command makes values of every fourth class. So
one of these becomes a dataclass when its first value is made, with an `__init__` of its own, and shares the rest.
`dataclasses.fields` and `asdict` take its values, and `replace` those whose `__init__` is not of the class's own.
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

    def __setattr__(self, name: str, value: object) -> None:
        if name in self.__dict__ or name not in type(self).__dataclass_fields__:  # type: ignore[attr-defined]
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        self.__dict__[name] = value

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


class _Fields:
    """Stands for the fields of a class until somebody asks for them, which makes the class a dataclass."""

    def __init__(self, kind: Any, *, kw_only: bool) -> None:
        self._kind = kind
        self._options = {"kw_only": kw_only, "init": "__init__" not in vars(kind)}

        def first(self: object, *arguments: Any, **named: Any) -> None:
            fields(kind)
            kind.__init__(self, *arguments, **named)

        if self._options["init"]:
            kind.__init__ = first

    def __get__(self, _value: object, _kind: type) -> Any:
        """Two threads may be here at once: each puts the same in place."""
        kind, own = self._kind, vars(self._kind)
        # Without a docstring, it would be given one, which takes longer than all else.
        names = ("__doc__", "__module__", "__annotations__", "__post_init__", *own.get("__annotations__", ()))
        draft = type(kind.__name__, kind.__bases__, {name: own[name] for name in names if name in own})
        made: Any = dataclass(eq=False, repr=False, match_args=False, **self._options)(draft)
        if self._options["init"]:
            kind.__init__ = made.__init__
        kind.__dataclass_params__, kind.__dataclass_fields__ = made.__dataclass_params__, made.__dataclass_fields__
        return made.__dataclass_fields__


@overload
def frozen(kind: type[T], /) -> type[T]: ...
@overload
def frozen(*, kw_only: bool = ...) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True)
def frozen(kind: type[T] | None = None, /, *, kw_only: bool = False) -> type[T] | Callable[[type[T]], type[T]]:
    """Make a subclass of Value a dataclass, by the time that it has a value; its annotations are its fields."""

    def make(kind: type[T]) -> type[T]:
        kind.__dataclass_fields__ = _Fields(kind, kw_only=kw_only)  # type: ignore[attr-defined]
        return kind

    return make if kind is None else make(kind)
