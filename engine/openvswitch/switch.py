"""Creates, changes and deletes what is Open vSwitch's: bridges and ports, in its database.

N ports are one transaction, and one wait until ovs-vswitchd has them. Whatever dnet makes carries its mark in
`external_ids`, and nothing without it is changed or deleted. Knows objects, nothing of networks or state.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from dnet.errors import Conflict, DnetError, InvalidRequest, NotFound, OvsError, Unsupported
from dnet.objects.openvswitch import OvsBridge, OvsMac, OvsPort
from dnet.objects.vlans import ALL_VLANS, VlanRanges
from dnet.openvswitch.ovsdb import DATABASE, ConnectionLost, Operation, Ovsdb, Refusal, SwitchAbsent

MARK = "dnet"  # the key in external_ids; its value is the object's owner
HWADDR = "hwaddr"  # the key in a bridge's other_config
NETDEV, SYSTEM = "netdev", "system"
MODULE_PATH = "/sys/module/openvswitch"
# ovs-vswitchd closes a packet socket for each port that goes, 13 ms apiece, in the thread that also forwards: so few
# at a time, and packets pass in between.
DELETE_TOGETHER = 20
# So many rows are asked for by name; for more, reading the whole table is quicker (older servers have no index for it).
NAMES_MAX = 8
EVERYTHING: list[Any] = []  # no condition
EMPTY_SET: list[Any] = ["set", []]


_Row = Mapping[str, Any]


class Switch(NamedTuple):
    """What Open vSwitch says of itself. `wants_tso` takes effect when ovs-vswitchd starts."""

    version: str
    datapath_types: tuple[str, ...]
    wants_tso: bool


class SeenBridge(NamedTuple):
    """A bridge that there is; `owner` is empty when it is not dnet's, `tag` that of its own port, or 0.

    `mac` is the MAC address that its own port is to have, empty where that is one of the others' ports'.
    """

    datapath_type: str
    owner: str
    tag: int
    mac: str = ""


class OpenVSwitch:
    """Bridges and ports of the Open vSwitch whose database this talks to."""

    def __init__(self, database: Ovsdb) -> None:
        self._database = database

    def close(self) -> None:
        """Close the connection; a later call opens it again."""
        self._database.close()

    def prepare(self) -> None:
        """Connect, and raise OvsError when there is nobody who would do what is going to be asked."""
        self._database.require_switch("reach Open vSwitch")

    def reach(self) -> None:
        """Connect, and raise OvsError when the database cannot be asked; whether ovs-vswitchd runs does not matter."""
        self._database.read([], "reach Open vSwitch")

    # Looking

    def switch(self) -> Switch:
        """Return what Open vSwitch says of itself."""
        what, columns = "look at Open vSwitch", ["ovs_version", "datapath_types", "other_config"]
        [rows] = self._select([(DATABASE, EVERYTHING, columns)], what)
        row = self._database.only_row(rows, what)
        wants_tso = _map(row["other_config"]).get("userspace-tso-enable") == "true"
        return Switch(_text(row["ovs_version"]), tuple(sorted(_set(row["datapath_types"]))), wants_tso)

    def datapath_type(self) -> str:
        """Return the type of datapath to choose: the kernel's where it has the module, or else that in user space."""
        return SYSTEM if SYSTEM in self.switch().datapath_types and os.path.isdir(MODULE_PATH) else NETDEV

    def observed(self) -> list[OvsBridge | OvsPort]:
        """Return the bridges and ports that carry dnet's mark, as objects equal to those that made them."""
        bridges, ports, interfaces = self._select(
            [
                ("Bridge", EVERYTHING, ["name", "ports", "datapath_type", "other_config", "external_ids"]),
                ("Port", EVERYTHING, ["_uuid", "name", "tag", "vlan_mode", "trunks", "protected", "external_ids"]),
                ("Interface", [["type", "==", "internal"]], ["name", "mtu_request"]),
            ],
            "list bridges and ports",
        )
        by_uuid = {row["_uuid"][1]: row for row in ports}
        mtus = {row["name"]: row["mtu_request"] for row in interfaces}
        found: list[OvsBridge | OvsPort] = []
        for row in bridges:
            members = [by_uuid[uuid] for uuid in _uuids(row["ports"]) if uuid in by_uuid]
            if _owner(row):
                found.append(_observed_bridge(row, members, mtus))
            found += [_observed_port(row["name"], port) for port in members if _owner(port) and not _is_own(row, port)]
        return found

    def bridge_names(self) -> dict[str, str]:
        """Return every bridge's datapath type by its name, dnet's or not."""
        [rows] = self._select([("Bridge", EVERYTHING, ["name", "datapath_type"])], "list bridges")
        return {row["name"]: row["datapath_type"] or SYSTEM for row in rows}

    def bridge(self, name: str) -> SeenBridge | None:
        """Return what there is of a bridge, dnet's or not."""
        where = [["name", "==", name]]
        bridges, ports = self._select(
            [("Bridge", where, ["datapath_type", "external_ids", "other_config"]), ("Port", where, ["tag"])],
            f"look at bridge {name}",
        )
        tag = next((_number(row["tag"]) for row in ports), 0)
        found = (
            SeenBridge(row["datapath_type"] or SYSTEM, _owner(row), tag, _map(row["other_config"]).get(HWADDR, ""))
            for row in bridges
        )
        return next(found, None)

    def holder(self, port: str) -> tuple[str, str] | None:
        """Return the bridge that has a port of this name, and whose mark the port carries; None when there is none."""
        rows, bridges = self._select(
            [
                ("Port", [["name", "==", port]], ["_uuid", "external_ids"]),
                ("Bridge", EVERYTHING, ["name", "ports"]),
            ],
            f"look at port {port}",
        )
        found = (
            (item["name"], _owner(row)) for row in rows for item in bridges if row["_uuid"][1] in _uuids(item["ports"])
        )
        return next(found, None)

    def port_names(self, bridge: str) -> list[str]:
        """Return the ports of a bridge, dnet's or not, without its own."""
        what = f"look at bridge {bridge}"
        bridges, ports = self._select(
            [("Bridge", [["name", "==", bridge]], ["ports"]), ("Port", EVERYTHING, ["_uuid", "name"])], what
        )
        members = {uuid for row in bridges for uuid in _uuids(row["ports"])}
        return sorted(row["name"] for row in ports if row["_uuid"][1] in members and row["name"] != bridge)

    # Bridges

    def create_bridges(self, bridges: Sequence[OvsBridge]) -> dict[str, int]:
        """Create bridges, all or none, and return the ifindexes of their devices, which are there then.

        Those that exist under the same owner's mark are made what they should be; those without an owner have to exist.
        """
        existing = self._check_bridges(bridges)
        wanted = [item for item in bridges if item.owner]
        try:
            if wanted:
                self._write_bridges(wanted, existing)
            return {item.bridge: _index_of(item) for item in bridges}
        except DnetError as error:
            _undo(error, lambda: self.delete_bridges([item for item in wanted if item.bridge not in existing]))
            raise

    def _check_bridges(self, bridges: Sequence[OvsBridge]) -> set[str]:
        """Refuse what cannot be, and return the names of the bridges that exist."""
        columns = ["name", "datapath_type", "external_ids"]
        [rows] = self._select([("Bridge", EVERYTHING, columns)], "look at bridges")
        existing = {row["name"]: row for row in rows}
        types = self.switch().datapath_types
        for item in bridges:
            row = existing.get(item.bridge)
            if not item.owner:
                _check_foreign(item, row, existing)
                continue
            if row and _owner(row) != item.owner:
                sentence = f"cannot create {item}: it exists already, and is not this network's"
                hint = "choose another name, or use it as an existing bridge"
                raise Conflict(sentence, object=item.bridge, hint=hint)
            if item.datapath_type and types and item.datapath_type not in types:
                sentence = f"Open vSwitch has no datapath of type {item.datapath_type} here, only {', '.join(types)}"
                raise Unsupported(sentence, object=item.bridge, hint=_DATAPATH_HINT)
        return set(existing)

    def _write_bridges(self, bridges: Sequence[OvsBridge], existing: Collection[str]) -> None:
        what = f"create {', '.join(map(str, bridges))}"
        try:
            self._database.change(_bridge_operations(bridges, existing), what)
        except ConnectionLost:  # it may have been run
            self._database.change(_bridge_operations(bridges, self._check_bridges(bridges)), what)
        errors = self._errors(item.bridge for item in bridges)
        for item in bridges:
            if item.bridge in errors:
                reason = errors[item.bridge] or "ovs-vswitchd could not make its datapath, and its log says why"
                raise OvsError(f"cannot create {item}: {reason}", object=str(item), hint=_DATAPATH_HINT)

    def disown_bridge(self, item: OvsBridge) -> None:
        """Take dnet's mark off a bridge, which is others' from then on."""
        mutation = ["external_ids", "delete", _as_map({MARK: item.owner})]
        where = [["name", "==", item.bridge]]
        operations: list[Operation] = [
            {"op": "mutate", "table": table, "where": where, "mutations": [mutation]} for table in ("Bridge", "Port")
        ]
        self._repeat(operations, f"give away {item}")

    def delete_bridges(self, bridges: Sequence[OvsBridge]) -> None:
        """Delete bridges with all their ports; those that are not there, or not their owner's, are left alone."""
        wanted = {item.bridge: item.owner for item in bridges if item.owner}
        if not wanted:
            return
        what = f"delete {', '.join(map(str, bridges))}"
        [rows] = self._select([("Bridge", EVERYTHING, ["_uuid", "name", "external_ids"])], what)
        ours = {row["name"]: row["_uuid"] for row in rows if wanted.get(row["name"], "") == _owner(row) != ""}
        if any(map(_has_device, ours)):
            self._database.require_switch(what)  # or the devices would stay
        if ours:
            self._remove([_mutation(DATABASE, "bridges", "delete", list(ours.values()))], what)

    # Ports

    def create_ports(
        self, ports: Sequence[OvsPort], *, keep_going: bool = False, macs: Sequence[OvsMac] = ()
    ) -> list[DnetError | None]:
        """Create ports in one transaction, bridges' MAC addresses set in the same; return an error or None for each.

        Without `keep_going` the first failure is raised and no port is left; with it, those that failed are removed.
        A port that exists under the same owner's mark is made what it should be.
        """
        if not ports:
            return []
        try:
            errors = self._write_ports(ports, macs, keep_going=keep_going)
            left = {item.port: item for item in ports if item.port not in errors}
            for name, words in self._errors(left).items():
                reason = words or "ovs-vswitchd has not taken it, and its log says why"
                errors[name] = OvsError(f"cannot create {left[name]}: {reason}", object=name, hint=_DEVICE_HINT)
            first = next((errors[item.port] for item in ports if item.port in errors), None)
            if first and not keep_going:
                raise first
        except DnetError as error:
            _undo(error, lambda: self.delete_ports(ports))
            raise
        self.delete_ports([item for item in ports if item.port in errors])
        return [errors.get(item.port) for item in ports]

    def _write_ports(
        self, ports: Sequence[OvsPort], macs: Sequence[OvsMac], *, keep_going: bool
    ) -> dict[str, DnetError]:
        """Write the rows, at first as if there were none of them; return whose names are taken."""
        what = f"create {ports[0]}" + (f" and {len(ports) - 1} more" if len(ports) > 1 else "")
        try:
            self._database.change([*_port_operations(ports, ()), *_mac_operations(macs)], what)
        except ConnectionLost:
            pass  # it may have been run
        except Refusal as refusal:
            if refusal.position is not None:
                raise _refused(ports, refusal) from refusal
            if refusal.kind != "constraint violation":
                raise
        else:
            return {}
        owners = {row["name"]: _owner(row) for row in self._rows(item.port for item in ports)}
        errors: dict[str, DnetError] = {}
        for item in ports:
            if owners.get(item.port, item.owner) != item.owner:
                sentence = f"cannot create {item}: a port of this name exists already, and is not this endpoint's"
                errors[item.port] = Conflict(sentence, object=item.port, hint="remove it, say by `ovs-vsctl del-port`")
        if errors and not keep_going:
            raise next(iter(errors.values()))
        left = [item for item in ports if item.port not in errors]
        if left:
            self._database.change([*_port_operations(left, owners), *_mac_operations(macs)], what)
        return errors

    def delete_ports(self, ports: Sequence[OvsPort], on_progress: Callable[[int], None] | None = None) -> None:
        """Delete ports, a few at a time; those that are not there, or not their owner's, are left alone.

        `on_progress` hears how many are gone; what it raises ends the work between two transactions.
        """
        owners = {item.port: item.owner for item in ports}
        rows = [row for row in self._rows(owners) if _owner(row) == owners[row["name"]]]
        done = len(ports) - len(rows)
        for start in range(0, len(rows), DELETE_TOGETHER):
            if on_progress:
                on_progress(done + start)
            some = [row["_uuid"] for row in rows[start : start + DELETE_TOGETHER]]
            self._remove([_mutation("Bridge", "ports", "delete", some)], f"delete {len(rows)} ports")
        if on_progress:
            on_progress(len(ports))

    def release_ports(self, ports: Sequence[OvsPort], macs: Sequence[OvsMac]) -> None:
        """Delete ports, as `delete_ports` does, and in the same transaction say which MAC addresses bridges have."""
        owners = {item.port: item.owner for item in ports}
        some = [row["_uuid"] for row in self._rows(owners) if _owner(row) == owners[row["name"]]]
        operations = [_mutation("Bridge", "ports", "delete", some)] if some else []
        self._remove([*operations, *_mac_operations(macs)], f"delete {', '.join(map(str, ports))}")

    def set_vlans(self, ports: Sequence[OvsPort]) -> None:
        """Give ports that exist their tag, trunks and native VLAN, all or none; NotFound names one that is missing."""
        rows = {row["name"]: row for row in self._rows(item.port for item in ports)}
        for item in ports:
            if item.port not in rows or _owner(rows[item.port]) != item.owner:
                sentence = f"there is no port {item.port} of dnet's on Open vSwitch bridge {item.bridge}"
                raise NotFound(sentence, object=item.port, hint="`dnet reconcile` makes it again")
        if ports:
            self._repeat([_port_update(item) for item in ports], f"set the VLANs of {len(ports)} ports")

    # Talking

    def _select(self, wanted: Iterable[tuple[str, list[Any], list[str]]], what: str) -> list[list[dict[str, Any]]]:
        """Return the rows of each table that meet conditions, with some columns."""
        operations = [
            {"op": "select", "table": table, "where": where, "columns": columns} for table, where, columns in wanted
        ]
        return [result["rows"] for result in self._database.read(operations, what)]

    def _rows(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """Return the rows of the ports of these names."""
        wanted = set(names)
        columns = ["_uuid", "name", "external_ids"]
        conditions = [[["name", "==", name]] for name in wanted] if len(wanted) <= NAMES_MAX else [EVERYTHING]
        found = self._select([("Port", where, columns) for where in conditions], "look for ports")
        return [row for rows in found for row in rows if row["name"] in wanted]

    def _errors(self, names: Iterable[str]) -> dict[str, str]:
        """Return what ovs-vswitchd says against interfaces, by name; empty words when it has not said."""
        wanted = set(names)
        failed, pending = self._select(
            [
                ("Interface", [["error", "!=", EMPTY_SET]], ["name", "error"]),
                ("Interface", [["ofport", "==", EMPTY_SET]], ["name"]),
            ],
            "look for errors",
        )
        errors = {row["name"]: "" for row in pending} | {row["name"]: _text(row["error"]) for row in failed}
        return {name: words for name, words in errors.items() if name in wanted}

    def _repeat(self, operations: Sequence[Operation], what: str) -> None:
        """Change something in a way that does no harm when it is done twice."""
        try:
            self._database.change(operations, what)
        except ConnectionLost:
            self._database.change(operations, what)

    def _remove(self, operations: Sequence[Operation], what: str) -> None:
        """Take rows away. An ovs-vswitchd that does not run will not miss them when it starts."""
        with suppress(SwitchAbsent):
            self._repeat(operations, what)


_DATAPATH_HINT = "the kernel's datapath (system) needs its module openvswitch; netdev works on every kernel"
_DEVICE_HINT = "ovs-vswitchd looks for devices in its own network namespace; its log may say more"


def _check_foreign(item: OvsBridge, row: dict[str, Any] | None, others: Collection[str]) -> None:
    if row is None:
        there = f"there are: {', '.join(sorted(others))}" if others else "there are none"
        sentence = f"there is no Open vSwitch bridge {item.bridge}"
        raise NotFound(sentence, object=item.bridge, hint=f"{there}; `ovs-vsctl add-br {item.bridge}` makes it")
    kind = row["datapath_type"] or SYSTEM
    if item.datapath_type not in {"", kind}:
        sentence = f"bridge {item.bridge} has a datapath of type {kind}, not {item.datapath_type}"
        raise InvalidRequest(sentence, object=item.bridge, hint="leave the datapath's type out")


def _index_of(item: OvsBridge) -> int:
    try:
        return socket.if_nametoindex(item.bridge)
    except OSError as error:
        sentence = f"{item} exists, but its device is not in this network namespace"
        raise OvsError(sentence, object=item.bridge, hint="run dnet where ovs-vswitchd runs") from error


def _has_device(name: str) -> bool:
    with suppress(OSError):
        return bool(socket.if_nametoindex(name))
    return False


def _refused(ports: Sequence[OvsPort], refusal: Refusal) -> DnetError:
    """Name the object of a refused operation, by the order of _port_operations: bridges, two rows for each port."""
    bridges = list(dict.fromkeys(item.bridge for item in ports))
    position = refusal.position or 0
    if position < len(bridges):
        name = bridges[position]
        return NotFound(f"there is no Open vSwitch bridge {name}", object=name, hint="see `ovs-vsctl list-br`")
    item = ports[min((position - len(bridges)) // 2, len(ports) - 1)]
    return OvsError(f"cannot create {item}: {refusal.details or refusal.kind}", object=item.port)


def _undo(cause: DnetError, undo: Callable[[], None]) -> None:
    """Take back what was made before `cause`; what goes wrong in that is noted there."""
    try:
        undo()
    except DnetError as error:
        cause.add_note(f"and while undoing it: {error}")


# Rows as operations


def _bridge_operations(bridges: Sequence[OvsBridge], existing: Collection[str]) -> list[Operation]:
    operations: list[Operation] = []
    for number, item in enumerate(bridges):
        operations += _bridge_update(item) if item.bridge in existing else _bridge_insert(number, item)
    return operations


def _bridge_insert(number: int, item: OvsBridge) -> list[Operation]:
    interface, port, bridge = (f"{kind}{number}" for kind in ("interface", "port", "bridge"))
    return [
        _insert("Interface", interface, {"name": item.bridge, "type": "internal", **_mtu(item)}),
        _insert(
            "Port",
            port,
            {"name": item.bridge, "interfaces": ["named-uuid", interface], **_mark(item), **_internal_vlan(item)},
        ),
        _insert("Bridge", bridge, {"name": item.bridge, "ports": ["named-uuid", port], **_bridge_columns(item)}),
        _mutation(DATABASE, "bridges", "insert", [["named-uuid", bridge]]),
    ]


def _bridge_update(item: OvsBridge) -> list[Operation]:
    where = [["name", "==", item.bridge]]
    return [
        {"op": "update", "table": "Bridge", "where": where, "row": _bridge_columns(item)},
        {"op": "update", "table": "Port", "where": where, "row": {**_mark(item), **_internal_vlan(item)}},
        {"op": "update", "table": "Interface", "where": where, "row": _mtu(item)},
    ]


def _bridge_columns(item: OvsBridge) -> dict[str, Any]:
    # Without an address of its own the device would take its lowest port's; in-band control is for controllers.
    config = {HWADDR: item.mac, "disable-in-band": "true"}
    return {
        "datapath_type": item.datapath_type,
        "fail_mode": "standalone",
        "other_config": _as_map(config),
        **_mark(item),
    }


def _mtu(item: OvsBridge) -> dict[str, Any]:
    return {"mtu_request": item.mtu or EMPTY_SET}


def _internal_vlan(item: OvsBridge) -> dict[str, Any]:
    return _vlan(item.tag, (), 0)


def _mark(item: OvsBridge | OvsPort) -> dict[str, Any]:
    return {"external_ids": _as_map({MARK: item.owner})}


def _port_operations(ports: Sequence[OvsPort], existing: Collection[str]) -> list[Operation]:
    """Return what makes ports, those that exist apart, which are changed; refused when a bridge is missing."""
    bridges = dict.fromkeys(item.bridge for item in ports)
    checks: list[Operation] = [
        {
            "op": "wait",
            "timeout": 0,
            "table": "Bridge",
            "where": [["name", "==", bridge]],
            "columns": ["name"],
            "until": "==",
            "rows": [{"name": bridge}],
        }
        for bridge in bridges
    ]
    rows: list[Operation] = []
    members: dict[str, list[list[str]]] = {bridge: [] for bridge in bridges}
    for number, item in enumerate(ports):
        if item.port in existing:
            rows.append(_port_update(item))
            continue
        interface, port = f"interface{number}", f"port{number}"
        rows.append(_insert("Interface", interface, {"name": item.port}))
        columns = {"name": item.port, "interfaces": ["named-uuid", interface], **_mark(item), **_port_columns(item)}
        rows.append(_insert("Port", port, columns))
        members[item.bridge].append(["named-uuid", port])
    joins = [_mutation("Bridge", "ports", "insert", some, [["name", "==", bridge]]) for bridge, some in members.items()]
    return [*checks, *rows, *joins]


def _mac_operations(macs: Sequence[OvsMac]) -> list[Operation]:
    return [
        {
            "op": "mutate",
            "table": "Bridge",
            "where": [["name", "==", item.bridge]],
            "mutations": [
                ["other_config", "delete", ["set", [HWADDR]]],
                *([["other_config", "insert", _as_map({HWADDR: item.mac})]] if item.mac else []),
            ],
        }
        for item in macs
    ]


def _port_update(item: OvsPort) -> Operation:
    return {"op": "update", "table": "Port", "where": [["name", "==", item.port]], "row": _port_columns(item)}


def _port_columns(item: OvsPort) -> dict[str, Any]:
    return {"protected": item.is_protected, **_vlan(item.tag, item.trunks, item.native)}


def _vlan(tag: int, trunks: VlanRanges, native: int) -> dict[str, Any]:
    """Return the columns that say which VLANs a port is in. An empty set of trunks would mean all of them."""
    if not trunks:
        return {"vlan_mode": "access", "tag": tag or native, "trunks": EMPTY_SET}
    numbers = [] if trunks == ALL_VLANS else sorted({vid for first, last in trunks for vid in range(first, last + 1)})
    mode = {"vlan_mode": "native-untagged", "tag": native} if native else {"vlan_mode": "trunk", "tag": EMPTY_SET}
    return {**mode, "trunks": ["set", numbers]}


def _insert(table: str, name: str, row: dict[str, Any]) -> Operation:
    return {"op": "insert", "table": table, "uuid-name": name, "row": row}


def _mutation(
    table: str, column: str, mutator: str, members: Sequence[Any], where: list[Any] = EVERYTHING
) -> Operation:
    """Return an operation that adds members to a set, or takes them out of it, without reading or sending the rest."""
    mutation = [column, mutator, ["set", list(members)]]
    return {"op": "mutate", "table": table, "where": where, "mutations": [mutation]}


# Rows as objects


def _observed_bridge(row: _Row, members: Iterable[_Row], mtus: Mapping[str, Any]) -> OvsBridge:
    name = row["name"]
    tag = next((_number(port["tag"]) for port in members if port["name"] == name), 0)
    mac = _map(row["other_config"]).get(HWADDR, "")
    return OvsBridge(name, _owner(row), row["datapath_type"], mac, _number(mtus.get(name, EMPTY_SET)), tag)


def _observed_port(bridge: str, row: _Row) -> OvsPort:
    trunks, tag, native = tuple(_ranges(sorted(_set(row["trunks"])))), _number(row["tag"]), 0
    match _text(row["vlan_mode"]) or ("access" if tag else "trunk"):
        case "access":
            trunks = ()
        case "trunk":
            trunks, tag = trunks or ALL_VLANS, 0
        case _:
            trunks, tag, native = trunks or ALL_VLANS, 0, tag
    return OvsPort(row["name"], bridge, _owner(row), tag, trunks, native, is_protected=bool(row["protected"]))


def _ranges(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    first = last = None
    for number in numbers:
        if first is not None and last is not None and number == last + 1:
            last = number
            continue
        if first is not None and last is not None:
            yield first, last
        first = last = number
    if first is not None and last is not None:
        yield first, last


def _is_own(bridge: Mapping[str, Any], port: Mapping[str, Any]) -> bool:
    """Whether a port is the bridge's internal one."""
    return bool(bridge["name"] == port["name"])


def _owner(row: _Row) -> str:
    return _map(row["external_ids"]).get(MARK, "")


# The notation of RFC 7047: a set of one member may stand as that member alone, an optional value is a set.


def _as_map(values: Mapping[str, str]) -> list[Any]:
    return ["map", [[key, value] for key, value in values.items()]]


def _map(value: Any) -> dict[str, str]:
    return dict(value[1])


def _set(value: Any) -> list[Any]:
    return list(value[1]) if isinstance(value, list) and value[0] == "set" else [value]


def _uuids(value: Any) -> list[str]:
    return [uuid for _, uuid in _set(value)]


def _text(value: Any) -> str:
    return "".join(_set(value))


def _number(value: Any) -> int:
    return next(iter(_set(value)), 0)
