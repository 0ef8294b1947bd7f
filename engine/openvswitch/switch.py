"""Open vSwitch: look at, create, change and delete its bridges and ports, in its database.

N ports are one transaction, and one wait until ovs-vswitchd has them. Whatever dnet makes carries its mark in
`external_ids`; nothing without the mark is changed or deleted. Knows objects, nothing of networks or state.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from dnet.errors import Conflict, DnetError, InvalidRequest, NotFound, OvsError, Unsupported
from dnet.objects.openvswitch import NETDEV, SYSTEM, OvsBridge, OvsMac, OvsPort
from dnet.openvswitch import rows
from dnet.openvswitch.ovsdb import DATABASE, ConnectionLost, Operation, Ovsdb, Refusal, SwitchAbsent
from dnet.openvswitch.remote import Remote
from dnet.openvswitch.rows import EMPTY_SET, Row, named, owner_of, select

MODULE_PATH = "/sys/module/openvswitch"
# ovs-vswitchd closes a packet socket for each port that goes, 13 ms apiece, in the thread that also forwards: so few
# at a time, and packets pass in between.
DELETE_TOGETHER = 20
# So many rows are asked for by name; for more, reading the whole table is quicker (older servers have no index for it).
NAMES_MAX = 8
_DATAPATH_HINT = "the kernel's datapath (system) needs its module openvswitch; netdev works on every kernel"
_DEVICE_HINT = "ovs-vswitchd looks for devices in its own network namespace; its log may say more"


def connect(where: Remote) -> OpenVSwitch:
    """Return the Open vSwitch of a database; it connects when it is first asked something."""
    return OpenVSwitch(Ovsdb(where))


class Switch(NamedTuple):
    """What Open vSwitch says of itself. `wants_tso` takes effect when ovs-vswitchd starts."""

    version: str
    datapath_types: tuple[str, ...]
    wants_tso: bool


class SeenBridge(NamedTuple):
    """An existing bridge. `owner` is empty when it is not dnet's; `tag` is the VLAN of its own port, or 0.

    `mac` is what its own port is told to have, empty when that takes the MAC address of another port.
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
        """Connect, and raise OvsError unless both the database and ovs-vswitchd run."""
        self._database.require_switch("reach Open vSwitch")

    def reach(self) -> None:
        """Connect, and raise OvsError unless the database can be asked; ovs-vswitchd need not run."""
        self._database.read([], "reach Open vSwitch")

    # Looking

    def switch(self) -> Switch:
        """Return what Open vSwitch says of itself."""
        what, columns = "look at Open vSwitch", ["ovs_version", "datapath_types", "other_config"]
        [found] = self._read([select(DATABASE, columns)], what)
        row = self._database.only_row(found, what)
        wants_tso = rows.as_dict(row["other_config"]).get("userspace-tso-enable") == "true"
        return Switch(rows.text_of(row["ovs_version"]), tuple(sorted(rows.set_of(row["datapath_types"]))), wants_tso)

    def datapath_type(self) -> str:
        """Return the datapath's type to choose: the kernel's when its module is loaded, else that in user space."""
        return SYSTEM if SYSTEM in self.switch().datapath_types and os.path.isdir(MODULE_PATH) else NETDEV

    def observed(self) -> list[OvsBridge | OvsPort]:
        """Return the bridges and ports that carry dnet's mark, as objects equal to those that made them."""
        operations = [
            select("Bridge", ["name", "ports", "datapath_type", "other_config", "external_ids"]),
            select("Port", ["_uuid", "name", "tag", "vlan_mode", "trunks", "protected", "external_ids"]),
            select("Interface", ["name", "mtu_request"], [["type", "==", "internal"]]),
        ]
        return rows.observed(*self._read(operations, "list bridges and ports"))

    def bridge_names(self) -> dict[str, str]:
        """Return every bridge's datapath type by its name, dnet's or not."""
        [bridges] = self._read([select("Bridge", ["name", "datapath_type"])], "list bridges")
        return {row["name"]: row["datapath_type"] or SYSTEM for row in bridges}

    def bridge(self, name: str) -> SeenBridge | None:
        """Return a bridge, dnet's or not; None when there is none."""
        columns = ["datapath_type", "external_ids", "other_config"]
        operations = [select("Bridge", columns, named(name)), select("Port", ["tag"], named(name))]
        bridges, ports = self._read(operations, f"look at bridge {name}")
        tag = next((rows.number_of(row["tag"]) for row in ports), 0)
        for row in bridges:
            return SeenBridge(row["datapath_type"] or SYSTEM, owner_of(row), tag, rows.hwaddr_of(row))
        return None

    def holder(self, port: str) -> tuple[str, str] | None:
        """Return the bridge that has a port, and the owner in the port's mark; None when there is no such port."""
        operations = [select("Port", ["_uuid", "external_ids"], named(port)), select("Bridge", ["name", "ports"])]
        ports, bridges = self._read(operations, f"look at port {port}")
        for row in ports:
            for bridge in bridges:
                if row["_uuid"][1] in rows.uuids(bridge["ports"]):
                    return bridge["name"], owner_of(row)
        return None

    def port_names(self, bridge: str) -> list[str]:
        """Return the ports of a bridge, dnet's or not, without its own."""
        operations = [select("Bridge", ["ports"], named(bridge)), select("Port", ["_uuid", "name"])]
        bridges, ports = self._read(operations, f"look at bridge {bridge}")
        members = {uuid for row in bridges for uuid in rows.uuids(row["ports"])}
        return sorted(row["name"] for row in ports if row["_uuid"][1] in members and row["name"] != bridge)

    # Bridges

    def create_bridges(self, bridges: Sequence[OvsBridge]) -> dict[str, int]:
        """Create bridges, all or none, and return the ifindexes of their devices.

        Bridges that exist with the same owner's mark are changed; bridges without an owner have to exist.
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
        """Raise when a bridge cannot be created; return the names of the bridges that exist."""
        columns = ["name", "datapath_type", "external_ids"]
        [found] = self._read([select("Bridge", columns)], "look at bridges")
        existing = {row["name"]: row for row in found}
        types = self.switch().datapath_types
        for item in bridges:
            row = existing.get(item.bridge)
            if not item.owner:
                _check_foreign(item, row, existing)
                continue
            if row and owner_of(row) != item.owner:
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
            self._database.change(rows.bridge_operations(bridges, existing), what)
        except ConnectionLost:  # it may have been run
            self._database.change(rows.bridge_operations(bridges, self._check_bridges(bridges)), what)
        errors = self._errors(item.bridge for item in bridges)
        for item in bridges:
            if item.bridge in errors:
                reason = errors[item.bridge] or "ovs-vswitchd could not make its datapath, and its log says why"
                raise OvsError(f"cannot create {item}: {reason}", object=str(item), hint=_DATAPATH_HINT)

    def disown_bridge(self, item: OvsBridge) -> None:
        """Take dnet's mark off a bridge, which belongs to others from then on."""
        self._repeat(rows.disown_operations(item), f"give away {item}")

    def delete_bridges(self, bridges: Sequence[OvsBridge]) -> None:
        """Delete bridges with all their ports; ignore bridges that do not exist or have another owner."""
        wanted = {item.bridge: item.owner for item in bridges if item.owner}
        if not wanted:
            return
        what = f"delete {', '.join(map(str, bridges))}"
        [found] = self._read([select("Bridge", ["_uuid", "name", "external_ids"])], what)
        ours = [row for row in found if wanted.get(row["name"], "") == owner_of(row) != ""]
        if any(_has_device(row["name"]) for row in ours):
            self._database.require_switch(what)  # or the devices would stay
        if ours:
            self._remove([rows.remove_members(DATABASE, "bridges", ours)], what)

    # Ports

    def create_ports(
        self, ports: Sequence[OvsPort], *, keep_going: bool = False, macs: Sequence[OvsMac] = ()
    ) -> list[DnetError | None]:
        """Create ports and set bridges' MAC addresses, in one transaction; return an error or None for each port.

        Without `keep_going` the first failure is raised and no port is left; with it, failed ports are removed.
        A port that exists with the same owner's mark is changed.
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
        """Write the rows, first as if none existed; return an error for each port whose name is taken."""
        what = f"create {ports[0]}" + (f" and {len(ports) - 1} more" if len(ports) > 1 else "")
        try:
            self._database.change([*rows.port_operations(ports, ()), *rows.mac_operations(macs)], what)
        except ConnectionLost:
            pass  # it may have been run
        except Refusal as refusal:
            if refusal.position is not None:
                raise _refused(ports, refusal) from refusal
            if refusal.kind != "constraint violation":
                raise
        else:
            return {}
        owners = {row["name"]: owner_of(row) for row in self._ports(item.port for item in ports)}
        errors: dict[str, DnetError] = {}
        for item in ports:
            if owners.get(item.port, item.owner) != item.owner:
                sentence = f"cannot create {item}: a port of this name exists already, and is not this endpoint's"
                errors[item.port] = Conflict(sentence, object=item.port, hint="remove it, say by `ovs-vsctl del-port`")
        if errors and not keep_going:
            raise next(iter(errors.values()))
        left = [item for item in ports if item.port not in errors]
        if left:
            self._database.change([*rows.port_operations(left, owners), *rows.mac_operations(macs)], what)
        return errors

    def delete_ports(self, ports: Sequence[OvsPort], on_progress: Callable[[int], None] | None = None) -> None:
        """Delete ports, a few at a time; ignore ports that do not exist or have another owner.

        `on_progress` is called with the number of deleted ports; what it raises ends the work between two transactions.
        """
        ours = self._own_ports(ports)
        done = len(ports) - len(ours)
        for start in range(0, len(ours), DELETE_TOGETHER):
            if on_progress:
                on_progress(done + start)
            some = ours[start : start + DELETE_TOGETHER]
            self._remove([rows.remove_members("Bridge", "ports", some)], f"delete {len(ours)} ports")
        if on_progress:
            on_progress(len(ports))

    def release_ports(self, ports: Sequence[OvsPort], macs: Sequence[OvsMac]) -> None:
        """Delete ports, as `delete_ports` does, and set bridges' MAC addresses in the same transaction."""
        ours = self._own_ports(ports)
        operations = [rows.remove_members("Bridge", "ports", ours)] if ours else []
        self._remove([*operations, *rows.mac_operations(macs)], f"delete {', '.join(map(str, ports))}")

    def set_vlans(self, ports: Sequence[OvsPort]) -> None:
        """Give existing ports their tag, trunks and native VLAN, all or none; raise NotFound for a missing port."""
        ours = {row["name"] for row in self._own_ports(ports)}
        for item in ports:
            if item.port not in ours:
                sentence = f"there is no port {item.port} of dnet's on Open vSwitch bridge {item.bridge}"
                raise NotFound(sentence, object=item.port, hint="`dnet reconcile` makes it again")
        if ports:
            self._repeat([rows.port_update(item) for item in ports], f"set the VLANs of {len(ports)} ports")

    # Talking

    def _read(self, operations: Sequence[Operation], what: str) -> list[list[Row]]:
        """Return the rows that each operation selects."""
        return [result["rows"] for result in self._database.read(operations, what)]

    def _ports(self, names: Iterable[str]) -> list[Row]:
        """Return the rows of the ports of these names."""
        wanted, columns = set(names), ["_uuid", "name", "external_ids"]
        if len(wanted) <= NAMES_MAX:
            operations = [select("Port", columns, named(name)) for name in wanted]
        else:
            operations = [select("Port", columns)]
        return [row for found in self._read(operations, "look for ports") for row in found if row["name"] in wanted]

    def _own_ports(self, ports: Sequence[OvsPort]) -> list[Row]:
        """Return the rows of those ports that exist with their owner's mark."""
        owners = {item.port: item.owner for item in ports}
        return [row for row in self._ports(owners) if owner_of(row) == owners[row["name"]]]

    def _errors(self, names: Iterable[str]) -> dict[str, str]:
        """Return ovs-vswitchd's errors about interfaces, by name; an empty error when it has not taken one yet."""
        operations = [
            select("Interface", ["name", "error"], [["error", "!=", EMPTY_SET]]),
            select("Interface", ["name"], [["ofport", "==", EMPTY_SET]]),
        ]
        failed, pending = self._read(operations, "look for errors")
        errors = {row["name"]: "" for row in pending} | {row["name"]: rows.text_of(row["error"]) for row in failed}
        return {name: errors[name] for name in names if name in errors}

    def _repeat(self, operations: Sequence[Operation], what: str) -> None:
        """Run operations that may be run twice, which they are when the connection is lost."""
        try:
            self._database.change(operations, what)
        except ConnectionLost:
            self._database.change(operations, what)

    def _remove(self, operations: Sequence[Operation], what: str) -> None:
        """Run operations that remove rows; ovs-vswitchd need not run: it follows when it starts."""
        with suppress(SwitchAbsent):
            self._repeat(operations, what)


def _check_foreign(item: OvsBridge, row: Row | None, others: Collection[str]) -> None:
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
    """Return the error of the object whose operation was refused, by the order of rows.port_operations."""
    bridges = list(dict.fromkeys(item.bridge for item in ports))
    position = refusal.position or 0
    if position < len(bridges):
        name = bridges[position]
        return NotFound(f"there is no Open vSwitch bridge {name}", object=name, hint="see `ovs-vsctl list-br`")
    item = ports[min((position - len(bridges)) // 2, len(ports) - 1)]
    return OvsError(f"cannot create {item}: {refusal.details or refusal.kind}", object=item.port)


def _undo(cause: DnetError, undo: Callable[[], None]) -> None:
    """Undo what was made before `cause`; add a note to it when that fails."""
    try:
        undo()
    except DnetError as error:
        cause.add_note(f"and while undoing it: {error}")
