"""Bridges and ports as rows of Open vSwitch's database: operations that write them, and objects read from them; pure.

The notation is that of RFC 7047: a set of one member may stand as that member alone, and an optional value is a set.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from dnet.objects.openvswitch import OvsBridge, OvsMac, OvsPort
from dnet.objects.vlans import ALL_VLANS, VlanRanges
from dnet.openvswitch.ovsdb import DATABASE, Operation

Row = Mapping[str, Any]

MARK = "dnet"  # the key in external_ids; its value is the object's owner
HWADDR = "hwaddr"  # the key in a bridge's other_config
EVERYTHING: list[Any] = []  # no condition
EMPTY_SET: list[Any] = ["set", []]


# Operations


def named(name: str) -> list[Any]:
    """Return the condition that a row has a name."""
    return [["name", "==", name]]


def select(table: str, columns: Sequence[str], where: list[Any] = EVERYTHING) -> Operation:
    """Return the operation that reads some columns."""
    return {"op": "select", "table": table, "where": where, "columns": list(columns)}


def mutate(table: str, where: list[Any], *mutations: list[Any]) -> Operation:
    """Return the operation that changes parts of sets and maps, whose other members are neither read nor sent."""
    return {"op": "mutate", "table": table, "where": where, "mutations": list(mutations)}


def remove_members(table: str, column: str, rows: Iterable[Row]) -> Operation:
    """Return the operation that takes rows out of a set of references; rows that nothing refers to are deleted."""
    return mutate(table, EVERYTHING, [column, "delete", ["set", [row["_uuid"] for row in rows]]])


def _insert(table: str, uuid_name: str, row: Row) -> Operation:
    return {"op": "insert", "table": table, "uuid-name": uuid_name, "row": row}


def _update(table: str, name: str, row: Row) -> Operation:
    return {"op": "update", "table": table, "where": named(name), "row": row}


def bridge_operations(bridges: Sequence[OvsBridge], existing: Collection[str]) -> list[Operation]:
    """Return what creates bridges, and changes those that exist."""
    operations: list[Operation] = []
    for number, item in enumerate(bridges):
        rows = _bridge_rows(item)
        if item.bridge in existing:
            operations += [_update(table, item.bridge, row) for table, row in rows.items()]
            continue
        interface, port, bridge = (f"{kind}{number}" for kind in ("interface", "port", "bridge"))
        links: dict[str, Row] = {
            "Bridge": {"ports": ["named-uuid", port]},
            "Port": {"interfaces": ["named-uuid", interface]},
            "Interface": {"type": "internal"},
        }
        names = {"Bridge": bridge, "Port": port, "Interface": interface}
        operations += [
            _insert(table, names[table], {"name": item.bridge, **links[table], **rows[table]}) for table in rows
        ]
        operations.append(mutate(DATABASE, EVERYTHING, ["bridges", "insert", ["set", [["named-uuid", bridge]]]]))
    return operations


def _bridge_rows(item: OvsBridge) -> dict[str, Row]:
    """Return the columns of a bridge, and of its port and interface, that have the same name."""
    # Without an address of its own the device would take its lowest port's; in-band control is for controllers.
    config = {HWADDR: item.mac, "disable-in-band": "true"}
    bridge = {"datapath_type": item.datapath_type, "fail_mode": "standalone", "other_config": _as_map(config)}
    return {
        "Bridge": bridge | _mark(item),
        "Port": _mark(item) | _vlan(item.tag, (), 0),
        "Interface": {"mtu_request": item.mtu or EMPTY_SET},
    }


def disown_operations(item: OvsBridge) -> list[Operation]:
    """Return what takes dnet's mark off a bridge and its port."""
    mutation = ["external_ids", "delete", _as_map({MARK: item.owner})]
    return [mutate(table, named(item.bridge), mutation) for table in ("Bridge", "Port")]


def port_operations(ports: Sequence[OvsPort], existing: Collection[str]) -> list[Operation]:
    """Return what creates ports, and changes those that exist; the server refuses it when a bridge is missing.

    First comes an operation for each bridge, then two for each new port.
    """
    bridges = dict.fromkeys(item.bridge for item in ports)
    checks: list[Operation] = [
        {
            "op": "wait",
            "timeout": 0,
            "table": "Bridge",
            "where": named(bridge),
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
            rows.append(port_update(item))
            continue
        interface, port = f"interface{number}", f"port{number}"
        columns = {"name": item.port, "interfaces": ["named-uuid", interface]}
        rows.append(_insert("Interface", interface, {"name": item.port}))
        rows.append(_insert("Port", port, columns | _mark(item) | port_columns(item)))
        members[item.bridge].append(["named-uuid", port])
    joins = [mutate("Bridge", named(bridge), ["ports", "insert", ["set", new]]) for bridge, new in members.items()]
    return [*checks, *rows, *joins]


def port_update(item: OvsPort) -> Operation:
    """Return what gives an existing port its VLANs and isolation."""
    return _update("Port", item.port, port_columns(item))


def port_columns(item: OvsPort) -> dict[str, Any]:
    """Return the columns that say how a port forwards."""
    return {"protected": item.is_protected, **_vlan(item.tag, item.trunks, item.native)}


def mac_operations(macs: Sequence[OvsMac]) -> list[Operation]:
    """Return what sets the MAC addresses of bridges' devices, or leaves them to Open vSwitch where there is none."""
    operations = []
    for item in macs:
        mutations: list[list[Any]] = [["other_config", "delete", ["set", [HWADDR]]]]
        if item.mac:
            mutations.append(["other_config", "insert", _as_map({HWADDR: item.mac})])
        operations.append(mutate("Bridge", named(item.bridge), *mutations))
    return operations


def _mark(item: OvsBridge | OvsPort) -> dict[str, Any]:
    return {"external_ids": _as_map({MARK: item.owner})}


def _vlan(tag: int, trunks: VlanRanges, native: int) -> dict[str, Any]:
    """Return the columns that say which VLANs a port is in. An empty set of trunks would mean all of them."""
    if not trunks:
        return {"vlan_mode": "access", "tag": tag or native, "trunks": EMPTY_SET}
    numbers = [] if trunks == ALL_VLANS else sorted({vid for first, last in trunks for vid in range(first, last + 1)})
    mode = {"vlan_mode": "native-untagged", "tag": native} if native else {"vlan_mode": "trunk", "tag": EMPTY_SET}
    return {**mode, "trunks": ["set", numbers]}


# Rows as objects


def observed(bridges: Iterable[Row], ports: Iterable[Row], interfaces: Iterable[Row]) -> list[OvsBridge | OvsPort]:
    """Return the bridges and ports that carry dnet's mark, from all rows of the tables."""
    by_uuid = {row["_uuid"][1]: row for row in ports}
    mtus = {row["name"]: row["mtu_request"] for row in interfaces}
    found: list[OvsBridge | OvsPort] = []
    for row in bridges:
        name, members = row["name"], [by_uuid[uuid] for uuid in uuids(row["ports"]) if uuid in by_uuid]
        if owner_of(row):
            found.append(observed_bridge(row, members, mtus))
        found += [observed_port(name, port) for port in members if owner_of(port) and port["name"] != name]
    return found


def observed_bridge(row: Row, members: Iterable[Row], mtus: Mapping[str, Any]) -> OvsBridge:
    """Return the object of a bridge, from the rows of its ports and the `mtu_request` of all internal interfaces."""
    name = row["name"]
    tag = next((number_of(port["tag"]) for port in members if port["name"] == name), 0)
    return OvsBridge(
        name, owner_of(row), row["datapath_type"], hwaddr_of(row), number_of(mtus.get(name, EMPTY_SET)), tag
    )


def observed_port(bridge: str, row: Row) -> OvsPort:
    """Return the object of a port, for any way in which others may have written its VLANs."""
    trunks, tag, native = tuple(ranges(sorted(set_of(row["trunks"])))), number_of(row["tag"]), 0
    match text_of(row["vlan_mode"]) or ("access" if tag else "trunk"):
        case "access":
            trunks = ()
        case "trunk":
            trunks, tag = trunks or ALL_VLANS, 0
        case _:
            trunks, tag, native = trunks or ALL_VLANS, 0, tag
    return OvsPort(row["name"], bridge, owner_of(row), tag, trunks, native, is_protected=bool(row["protected"]))


def ranges(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of ascending numbers."""
    first = last = None
    for one in numbers:
        if first is None or last is None:
            first = one
        elif one != last + 1:
            yield first, last
            first = one
        last = one
    if first is not None and last is not None:
        yield first, last


# Columns


def owner_of(row: Row) -> str:
    """Return the owner in dnet's mark, empty for rows of others."""
    return as_dict(row["external_ids"]).get(MARK, "")


def hwaddr_of(bridge: Row) -> str:
    """Return the MAC address that a bridge is told to have, empty when it has the one of a port."""
    return as_dict(bridge["other_config"]).get(HWADDR, "")


def as_dict(value: Any) -> dict[str, str]:
    """Return the map of a column."""
    return dict(value[1])


def set_of(value: Any) -> list[Any]:
    """Return the members of a column's set."""
    return list(value[1]) if isinstance(value, list) and value[0] == "set" else [value]


def uuids(value: Any) -> list[str]:
    """Return the references of a column."""
    return [uuid for _, uuid in set_of(value)]


def text_of(value: Any) -> str:
    """Return an optional text, or an empty one."""
    return "".join(set_of(value))


def number_of(value: Any) -> int:
    """Return an optional number, or 0."""
    return next(iter(set_of(value)), 0)


def _as_map(values: Mapping[str, str]) -> list[Any]:
    return ["map", [[key, value] for key, value in values.items()]]
