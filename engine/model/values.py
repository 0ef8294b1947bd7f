"""Immutable values whose classes are cheap to define; a command defines about a hundred.

Making a class a dataclass takes 0.1 ms, with frozen=True 0.3 ms, and a command makes values of every fourth class only.
A class here gets its `__init__` with its first value, and each value takes a quarter of a frozen dataclass's time. It
becomes a dataclass when `dataclasses.fields`, `asdict` or `replace` ask for one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field
from operator import attrgetter
from typing import Any, NoReturn, TypeVar, cast, dataclass_transform, overload

T = TypeVar("T")
E = TypeVar("E")
V = TypeVar("V", bound="Value")


class Value:
    """Base of all values: immutable, and equal to others of the same class with equal fields.

    As in a dataclass, `field(compare=False, repr=False)` leaves a field out of the comparison or of the text.
    """

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        kind = type(self)
        if kind is not type(other):
            return NotImplemented
        key = _KEYS.get(kind) or _key(kind)
        return bool(key(self) == key(other))

    def __hash__(self) -> int:
        kind = type(self)
        return hash((_KEYS.get(kind) or _key(kind))(self))

    def __repr__(self) -> str:
        shown = [name for name, how in _fields(type(self)).items() if how.repr]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"


def replace(value: V, **changes: Any) -> V:
    """Return a value that differs in some fields. Unlike `dataclasses.replace`, it does not call `__init__`."""
    kind = type(value)
    fields = _FIELDS.get(kind) or _fields(kind)
    if unknown := [name for name in changes if name not in fields]:
        raise TypeError(f"{kind.__name__} has no field {', '.join(sorted(unknown))}")
    made = object.__new__(kind)
    own = made.__dict__
    own.update(value.__dict__)
    own.update(changes)
    if hasattr(kind, "__post_init__"):
        made.__post_init__()  # type: ignore[attr-defined]
    return made


def make(kind: type[V], fields: Mapping[str, Any]) -> V:
    """Make the value of which these are all the fields, defaults included; without its class's `__init__`."""
    made = object.__new__(kind)
    made.__dict__.update(fields)
    return made


# Fields that are read from keywords, for classes whose `__init__` calls `fill`.


def reads(reader: Callable[[Any], T], default: Any = MISSING) -> T:
    """Declare a field that `fill` sets to what the reader returns for the keyword, or for `default` without one."""
    return cast("T", field(default=default, metadata={"reader": reader}))


def optional(reader: Callable[[str], T], empty: E) -> T | E:
    """Declare a field that `fill` reads from a keyword's text; it is `empty` when that is empty or not given."""
    return reads(lambda given: reader(str(given)) if given else empty, empty)


def fill(value: Value, keywords: Mapping[str, Any]) -> None:
    """Set the fields of a value that is being initialized; TypeError when a keyword is unknown or missing."""
    kind = type(value)
    readers = _READERS.get(kind)
    if not readers:
        _READERS[kind] = readers = {
            name: (how.metadata.get("reader"), how.default, how.init) for name, how in _fields(kind).items()
        }
    for name in keywords:
        if name not in readers or not readers[name][2]:
            raise TypeError(f"{kind.__name__}.__init__() got an unexpected keyword argument {name!r}")
    own = value.__dict__
    for name, (reader, default, _) in readers.items():
        given = keywords.get(name, default)
        if given is MISSING:
            raise TypeError(f"{kind.__name__}.__init__() missing required keyword-only argument: {name!r}")
        own[name] = reader(given) if reader else given


_KEYWORD_ONLY: set[type] = set()
_READERS: dict[type, dict[str, tuple[Any, Any, bool]]] = {}  # by field: reader, default, whether it is a keyword
_FIELDS: dict[type, dict[str, Field[Any]]] = {}
_KEYS: dict[type, Callable[[object], Any]] = {}


def _fields(kind: type) -> dict[str, Field[Any]]:
    """Return the fields of a class by their names, those of its bases first."""
    if kind not in _FIELDS:
        fields = {name: how for base in kind.__bases__ if base is not object for name, how in _fields(base).items()}
        own = vars(kind)
        for name, annotation in own.get("__annotations__", {}).items():
            if "ClassVar" not in str(annotation).partition("[")[0]:
                default = own.get(name, MISSING)
                fields[name] = how = default if isinstance(default, Field) else field(default=default)
                how.kw_only = kind in _KEYWORD_ONLY
        _FIELDS[kind] = fields
    return _FIELDS[kind]


def _key(kind: type[Value]) -> Callable[[object], Any]:
    """Return the function that gets a value's class and the fields that are compared."""
    _KEYS[kind] = attrgetter("__class__", *(name for name, how in _fields(kind).items() if how.compare))
    return _KEYS[kind]


def _initializer(kind: type) -> Callable[..., None]:
    """Return the `__init__` of a class. In its source, a default is _NAME, and a default factory is _NAME()."""
    taken = {name: how for name, how in _fields(kind).items() if how.init}
    namespace: dict[str, Any] = {"_missing": MISSING}
    parameters: dict[bool, list[str]] = {False: ["self"], True: []}  # by whether they are keyword-only
    lines = ["own = self.__dict__"]
    for name, how in taken.items():
        value = name
        parameter = name
        if how.default is not MISSING:
            namespace[f"_{name}"] = how.default
            parameter = f"{name}=_{name}"
        elif how.default_factory is not MISSING:
            namespace[f"_{name}"] = how.default_factory
            parameter, value = f"{name}=_missing", f"_{name}() if {name} is _missing else {name}"
        parameters[bool(how.kw_only)].append(parameter)
        lines.append(f"own[{name!r}] = {value}")
    if hasattr(kind, "__post_init__"):
        lines.append("self.__post_init__()")
    listed = parameters[False] + (["*", *parameters[True]] if parameters[True] else [])
    exec(f"def __init__({', '.join(listed)}):\n " + "\n ".join(lines), namespace)  # noqa: S102  as dataclasses do
    made: Callable[..., None] = namespace["__init__"]
    made.__qualname__ = f"{kind.__qualname__}.__init__"
    return made


class _Dataclass:
    """Placeholder for the fields of a class: it makes the class a dataclass when `dataclasses` asks for them."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    def __get__(self, _value: object, _kind: type) -> Any:
        """Make the class a dataclass. Two threads may do so at once; the result is the same."""
        kind, own = self._kind, vars(self._kind)
        # dataclass() would make a missing docstring, which takes longer than all the rest.
        kept = ("__doc__", "__module__", "__annotations__", *own.get("__annotations__", ()))
        draft = type(kind.__name__, kind.__bases__, {name: own[name] for name in kept if name in own})
        options: Any = {"init": False, "eq": False, "repr": False, "match_args": False}
        made: Any = dataclass(**options, kw_only=kind in _KEYWORD_ONLY)(draft)
        kind.__dataclass_params__, kind.__dataclass_fields__ = made.__dataclass_params__, made.__dataclass_fields__
        return made.__dataclass_fields__


@overload
def frozen(kind: type[T], /) -> type[T]: ...
@overload
def frozen(*, kw_only: bool = ...) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(kind: type[T] | None = None, /, *, kw_only: bool = False) -> type[T] | Callable[[type[T]], type[T]]:
    """Make a subclass of Value behave as a frozen dataclass whose fields are its annotations."""

    def make(kind: Any) -> Any:
        if kw_only:
            _KEYWORD_ONLY.add(kind)
        if "__init__" not in vars(kind):

            def first(self: object, *arguments: Any, **named: Any) -> None:
                kind.__init__ = _initializer(kind)
                kind.__init__(self, *arguments, **named)

            kind.__init__ = first
        kind.__dataclass_fields__ = _Dataclass(kind)
        return kind

    return make if kind is None else make(kind)
