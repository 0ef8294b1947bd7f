"""Tables whose rows are values: one list of columns, from which a row is inserted and decoded."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, Generic, NamedTuple, TypeVar

from dnet.errors import InvalidRequest, NotFound
from dnet.model.attachment import KernelRoute
from dnet.model.container import Container, Process, Settings
from dnet.model.network import Network
from dnet.model.values import Value, make
from dnet.model.vlan import PortVlans

V = TypeVar("V", bound=Value)
T = TypeVar("T", Container, Network)


class Codec(NamedTuple):
    """How a field is written to a column, and read from it."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def same(value: Any) -> Any:
    """Return the value itself: the codec of what SQLite holds as it is."""
    return value


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _value(kind: type[Value], fields: Mapping[str, Any]) -> Any:
    return kind(**{name: _tuples(value) if value.__class__ is list else value for name, value in fields.items()})


def _cached(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Share what is read: rows have much in common. For immutable values only."""
    return lru_cache(maxsize=64)(read)


def _optional(write: Callable[[Any], Any], read: Callable[[Any], Any]) -> Codec:
    """Return the codec that writes nothing as the empty text."""
    return Codec(lambda value: write(value) if value else "", _cached(lambda text: read(text) if text else None))


_ANY = {"IPAddress": "ip_address", "IPNetwork": "ip_network", "IPv4Address | IPv6Address": "ip_address"}
_IPS = {
    name: getattr(ipaddress, _ANY.get(name, name))
    for name in (*_ANY, "IPv4Address", "IPv4Network", "IPv6Address", "IPv6Network")
}
# The text of no VLANs, where none were asked for, is empty.
VLANS = _optional(lambda vlans: json.dumps(vars(vlans)), lambda text: _value(PortVlans, json.loads(text)))
_LIST = Codec(lambda items: json.dumps(items) if items else "[]", _cached(lambda text: _tuples(json.loads(text))))
_MAPPING = Codec(
    lambda items: json.dumps({**items}) if items else "{}", lambda text: dict(json.loads(text)) if text != "{}" else {}
)
# By the types of fields, as their classes write them.
_CODECS = {
    **dict.fromkeys(("str", "int"), Codec(same, same)),
    "bool": Codec(same, bool),
    "float": Codec(same, float),
    **{name: Codec(str, _cached(kind)) for name, kind in _IPS.items()},
    **{f"{name} | None": _optional(str, kind) for name, kind in _IPS.items()},
    **dict.fromkeys(("tuple[str, ...]", "tuple[tuple[int, str], ...]"), _LIST),
    "Mapping[str, str]": _MAPPING,
    "Mapping[str, IPAddress]": Codec(
        lambda items: json.dumps({key: str(value) for key, value in items.items()}),
        lambda text: {key: ipaddress.ip_address(value) for key, value in dict(json.loads(text)).items()},
    ),
    "PortVlans | None": VLANS,
    "Settings": Codec(lambda value: json.dumps(vars(value)), _cached(lambda text: _value(Settings, json.loads(text)))),
    "Process | None": _optional(lambda value: json.dumps(vars(value)), lambda text: _value(Process, json.loads(text))),
    "tuple[KernelRoute, ...]": Codec(
        lambda items: json.dumps([vars(item) for item in items]) if items else "[]",
        _cached(lambda text: tuple([_value(KernelRoute, fields) for fields in json.loads(text)])),
    ),
    # Where a foreign container is; empty for others.
    "Mapping[str, Any]": Codec(
        lambda items: json.dumps({**items}) if items else "", lambda text: json.loads(text) if text else {}
    ),
}


class Table(Generic[V]):
    """One table of the database, whose columns are fields of a class and are written and read by their types.

    `fields` are those that have a column; all unless given. `renamed` gives a field's column another name, `codecs`
    another form. `others` are the columns that are no fields; `row` takes their values. A table that `replaces`
    overwrites the row of the same key.
    """

    def __init__(
        self,
        name: str,
        kind: type[V],
        *,
        fields: Collection[str] = (),
        others: Sequence[str] = (),
        renamed: Mapping[str, str] | None = None,
        codecs: Mapping[str, Codec] | None = None,
        replaces: bool = False,
    ) -> None:
        self.name, self.others = name, others
        self.fields = tuple(fields or kind.__annotations__)
        self.columns = tuple((renamed or {}).get(field, field) for field in self.fields)
        self._kind = kind
        own = codecs or {}
        self._codecs = {field: own.get(field) or _CODECS[kind.__annotations__[field]] for field in self.fields}
        self._fields_of = itemgetter(*self.fields)
        self._writers = [(place, how.write) for place, how in enumerate(self._codecs.values()) if how.write is not same]
        self._readers = [(field, how.read) for field, how in self._codecs.items() if how.read is not same]
        columns = (*self.columns, *others)
        verb = "INSERT OR REPLACE" if replaces else "INSERT"
        self.insertion = f"{verb} INTO {name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"

    def select(self, alias: str = "") -> str:
        """Return the columns of the fields for a SELECT, in which the table may have an alias."""
        return ", ".join(f"{alias or self.name}.{column}" for column in self.columns)

    def row(self, value: V, *others: Any) -> list[Any]:
        """Return a row for `insertion`: the columns of a value, and the values of the other columns."""
        columns = [*self._fields_of(vars(value)), *others]
        for place, write in self._writers:
            columns[place] = write(columns[place])
        return columns

    def update(self, value: V, *fields: str) -> tuple[str, list[Any]]:
        """Return the statement that changes columns of the row with a value's id, and its parameters."""
        assignments = ", ".join(f"{field} = ?" for field in fields)
        parameters = [self._codecs[field].write(getattr(value, field)) for field in (*fields, "id")]
        return f"UPDATE {self.name} SET {assignments} WHERE id = ?", parameters

    def decode(self, columns: Iterable[Any]) -> dict[str, Any]:
        """Return the fields that the columns of `select` have."""
        found = dict(zip(self.fields, columns, strict=True))
        for field, read in self._readers:
            found[field] = read(found[field])
        return found

    def read(self, columns: Iterable[Any]) -> V:
        """Return the value of which `select` gives all fields."""
        return make(self._kind, self.decode(columns))


def only(found: Sequence[T], reference: str, what: str) -> T:
    """Return the one network or container that `reference` means; an exact name comes before a prefix of an id."""
    if not found:
        hint = f"`dnet {'ps' if what == 'container' else 'network ls'}` lists them"
        raise NotFound(f"there is no {what} {reference}", object=reference, hint=hint)
    if len(found) > 1 and reference not in (found[0].name, found[0].id):
        count = len(found)
        raise InvalidRequest(f"{what} id prefix {reference} is not unique ({count} begin so)", object=reference)
    return found[0]
