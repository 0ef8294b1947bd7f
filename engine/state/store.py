"""What dnet remembers: the rows of its database.

Intent first: a row is inserted with phase `creating`, the kernel work is done without any transaction open, then
the row becomes `ready`; deletion goes through `deleting`. Every row that is not ready names the operation that
owns it, a file that its process holds locked; a row whose owner is dead is somebody's interrupted work, which the
next writer removes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

from dnet.errors import Conflict
from dnet.model import record
from dnet.model.address import IPAddress, IPNetwork
from dnet.model.attachment import Attachment, StaticRoute
from dnet.model.container import MODE_CONTAINER, MODE_FOREIGN, Container, Endpoint, Link
from dnet.model.network import Network, Uplink
from dnet.model.published_port import PortMapping
from dnet.model.record import Adoption
from dnet.model.vlan import PortVlans
from dnet.state import rows
from dnet.state.database import Database
from dnet.state.schema import INDEX_BITS

# Parameters in one statement; SQLite's own limit is 32,766.
PARAMETERS_MAX = 500


_CONTAINERS = """
SELECT c.*, e.id AS endpoint_id, e.network_id, e.interface, e.address, e.address6, e.mac, e.host_index, e.aliases,
    e.gateway_priority, e.vlans
FROM container c LEFT JOIN endpoint e ON e.container_id = c.id
"""
_READY = "WHERE c.phase IN ('ready', 'changing')"
_OWN = f"{_READY} AND c.mode <> '{MODE_FOREIGN}'"
_PARTS = ("port_mapping", "link", "attachment", "route")
_PORTS = "SELECT p.* FROM port_mapping p JOIN container c ON c.id = p.container_id"
_ATTACHMENTS = "SELECT a.* FROM attachment a JOIN container c ON c.id = a.container_id"
_ROUTES = "SELECT r.* FROM route r JOIN container c ON c.id = r.container_id"
_HAS = f"SELECT {', '.join(f'EXISTS (SELECT 1 FROM {name}) AS {name}' for name in _PARTS)}"
# Of a snapshot, what a bridge's description needs.
_UPLINKS = """
SELECT network_id, interface, vlans, json_extract(snapshot, '$.interface.index') AS device_index,
    json_extract(snapshot, '$.interface.mac') AS mac, json_extract(snapshot, '$.takes_mac') AS takes_mac
FROM adoption ORDER BY interface
"""
_LINKS = (
    """SELECT c.id AS container_id, c.name AS parent, l.alias, l.child, c.number, l.position
    FROM container c JOIN link l ON l.parent_id = c.id""",
    """SELECT c.id AS container_id, p.name AS parent, l.alias, l.child, p.number, l.position
    FROM container c JOIN link l ON l.child = c.name JOIN container p ON p.id = l.parent_id""",
)


class Store(Database):
    """The rows: networks, containers, and all that belongs to them."""

    def __init__(self, directory: str, run_directory: str) -> None:
        self._run_directory = run_directory
        super().__init__(directory)

    def is_busy(self, container_id: str) -> bool:
        """Whether another process is working on a container."""
        found = self._query("SELECT owner FROM container WHERE id = ? AND phase <> 'ready'", (container_id,))
        return bool(found) and self._is_alive(found[0][0])

    def abandoned(self) -> tuple[list[Container], list[Container], list[Network]]:
        """Return what owners who died left: half-made containers, containers half changed, half-made networks."""
        sql = (
            "SELECT owner FROM container WHERE phase <> 'ready' UNION SELECT owner FROM network WHERE phase <> 'ready'"
        )
        owners = [row[0] for row in self._query(sql) if not self._is_alive(row[0])]
        containers: list[Container] = []
        changing: list[Container] = []
        networks: list[Network] = []
        for owner in owners:
            containers += self._containers("WHERE c.phase IN ('creating', 'deleting') AND c.owner = ?", (owner,))
            changing += self._containers("WHERE c.phase = 'changing' AND c.owner = ?", (owner,), is_whole=True)
            networks += self._networks("WHERE phase <> 'ready' AND owner = ?", (owner,))
        return containers, changing, networks

    def take_indexes(self, count: int) -> list[int]:
        """Return `count` unused interface indexes; inside a transaction."""
        base, mask = self.setting("index_base"), (1 << INDEX_BITS) - 1
        if not base:
            raise self._damaged(ValueError("setting index_base is missing"))
        number = self.setting("next_index") & mask
        found: list[int] = []
        while len(found) < count:
            end = min(number + count - len(found), mask + 1)
            used = self._used_indexes(base + number, base + end)
            found += [index for index in range(base + number, base + end) if index not in used]
            number = end & mask
        self.set_setting("next_index", number)
        return found

    def _used_indexes(self, start: int, end: int) -> set[int]:
        """Return those interface indexes from `start` on, and below `end`, that something has."""
        found = self._query(
            "SELECT host_index FROM endpoint WHERE host_index >= ?1 AND host_index < ?2 "
            "UNION SELECT device_index FROM network WHERE device_index >= ?1 AND device_index < ?2 "
            "UNION SELECT host_index FROM attachment WHERE host_index >= ?1 AND host_index < ?2 "
            "UNION SELECT device_index FROM made_bridge WHERE device_index >= ?1 AND device_index < ?2",
            (start, end),
        )
        return {row[0] for row in found}

    # Networks

    def networks(self) -> list[Network]:
        """Return the networks that are ready, by name."""
        return self._networks("WHERE phase = 'ready' ORDER BY name")

    def networks_by_id(self) -> dict[str, Network]:
        """Return every network, ready or not, by id."""
        return {network.id: network for network in self._networks("")}

    def network(self, reference: str) -> Network:
        """Return the ready network of that name, id or unique id prefix."""
        return rows.only(self.find_networks(reference), reference, "network")

    def find_networks(self, reference: str) -> list[Network]:
        """Return the ready network of that name or id, or those whose id begins so."""
        if not reference:
            return []
        return self._networks(
            "WHERE phase = 'ready' AND (name = ?1 OR substr(id, 1, length(?1)) = ?1) ORDER BY name <> ?1",
            (reference,),
        )

    def network_on(self, device: str) -> str:
        """Return the name of the network, ready or not, whose bridge a device is."""
        found = self._query("SELECT name FROM network WHERE device = ?", (device,))
        return str(found[0][0]) if found else ""

    def reserved_subnets(self) -> list[tuple[str, IPNetwork]]:
        """Return name and subnet of every network, ready or not; one of two families comes twice."""
        found = self._query("SELECT name, subnet, subnet6 FROM network")
        return [(row["name"], ip_network(text)) for row in found for text in (row["subnet"], row["subnet6"]) if text]

    def has_other_networks(self, identities: Collection[str] = ()) -> bool:
        """Whether there is a network, in whatever phase, besides these."""
        return any(row["id"] not in identities for row in self._query("SELECT id FROM network"))

    def network_phase(self, name: str) -> str:
        """Return `creating`, `ready` or `deleting`, or nothing when there is no such network."""
        found = self._query("SELECT phase FROM network WHERE name = ?", (name,))
        return str(found[0][0]) if found else ""

    def _networks(self, where: str, parameters: Sequence[Any] = ()) -> list[Network]:
        found = self._query(f"SELECT * FROM network {where}", parameters)
        uplinks: dict[str, list[Uplink]] = {}
        with self._decoding():
            for row in self._query(_UPLINKS):
                uplinks.setdefault(row["network_id"], []).append(rows.uplink(row))
            return [rows.network(row, uplinks.get(row["id"], ())) for row in found]

    def insert_network(self, network: Network, owner: str) -> None:
        """Insert a network in phase `creating`; inside a transaction."""
        values = (
            network.id,
            network.name,
            network.driver,
            str(network.subnet),
            str(network.gateway),
            str(network.ip_range or ""),
            str(network.subnet6 or ""),
            str(network.gateway6 or ""),
            json.dumps({key: str(value) for key, value in network.aux_addresses.items()}),
            network.internal,
            network.icc,
            network.masquerade,
            str(network.host_binding or ""),
            str(network.snat or ""),
            str(network.snat6 or ""),
            network.mtu,
            network.device,
            network.device_index,
            json.dumps(dict(network.labels)),
            json.dumps(dict(network.options)),
            network.created,
            "creating",
            owner,
            network.vlan,
            network.vlan_backend,
            network.owns_device,
            network.device_mac,
            json.dumps(network.found),
        )
        self._connection.execute(f"INSERT INTO network VALUES ({', '.join('?' * len(values))})", values)

    def set_device(self, network: Network) -> None:
        """Replace the index of a network's device, and what was found on it; inside a transaction.

        After a reboot the index may be the old one of another bridge of the user's, which is not known by it any more.
        """
        execute = self._connection.execute
        (lowest,) = execute("SELECT min(0, min(device_index)) - 1 FROM network").fetchone()
        execute(
            "UPDATE network SET device_index = ? WHERE device_index = ? AND id <> ?",
            (lowest, network.device_index, network.id),
        )
        execute(
            "UPDATE network SET device_index = ?, device_mac = ?, found = ? WHERE id = ?",
            (network.device_index, network.device_mac, json.dumps(network.found), network.id),
        )

    # Interfaces that are ports of a network's bridge

    def adoptions(self, network_ids: Collection[str] | None = None) -> list[Adoption]:
        """Return the adopted interfaces, in whatever phase; of all networks, or of some."""
        found = [Adoption(*row) for row in self._query("SELECT * FROM adoption ORDER BY interface")]
        return [item for item in found if network_ids is None or item.network_id in network_ids]

    def adoption(self, interface: str) -> Adoption | None:
        """Return what is remembered of an interface."""
        return next((item for item in self.adoptions() if item.interface == interface), None)

    def put_adoption(self, item: Adoption) -> None:
        """Insert or replace what is remembered of an interface; inside a transaction."""
        self._connection.execute("INSERT OR REPLACE INTO adoption VALUES (?, ?, ?, ?, ?, ?)", [*vars(item).values()])

    def move_adoption(self, interface: str, phases: Sequence[str], phase: str, owner: str = "") -> bool:
        """Give an adoption another phase if it is in one of some; return whether it was. Inside a transaction."""
        marks = ",".join("?" * len(phases))
        done = self._connection.execute(
            f"UPDATE adoption SET phase = ?, owner = ? WHERE interface = ? AND phase IN ({marks})",
            (phase, owner, interface, *phases),
        )
        return done.rowcount > 0

    def delete_adoption(self, interface: str) -> None:
        """Forget an adopted interface; inside a transaction."""
        self._connection.execute("DELETE FROM adoption WHERE interface = ?", (interface,))

    def abandoned_adoptions(self) -> list[Adoption]:
        """Return those that an owner who died left half done."""
        return [item for item in self.adoptions() if item.phase != "ready" and not self._is_alive(item.owner)]

    def taken_addresses(self, network_id: str) -> set[int]:
        """Return the IPv4 addresses of a network's endpoints, as integers; there are as many as endpoints."""
        found = self._query("SELECT address FROM endpoint WHERE network_id = ?", (network_id,))
        return {row[0] for row in found}

    def taken_addresses6(self, network_id: str) -> set[int]:
        """Return the IPv6 addresses of a network's endpoints, as integers."""
        found = self._query(
            "SELECT address6 FROM endpoint WHERE network_id = ? AND address6 IS NOT NULL", (network_id,)
        )
        return {int(IPv6Address(row[0])) for row in found}

    def address_holder(self, network_id: str, address: IPAddress) -> str:
        """Return the name of the container that has an address."""
        found = self._query(
            "SELECT c.name FROM endpoint e JOIN container c ON c.id = e.container_id "
            "WHERE e.network_id = ? AND (e.address = ? OR e.address6 = ?)",
            (network_id, int(address) if address.version == 4 else -1, str(address)),
        )
        return str(found[0][0]) if found else ""

    def port_holders(self, protocol: str, port: int) -> dict[IPAddress, str]:
        """Return which containers have a host port, by the address they have it on."""
        found = self._query(
            "SELECT p.host_ip, c.name FROM port_mapping p JOIN container c ON c.id = p.container_id "
            "WHERE p.protocol = ? AND p.host_port = ?",
            (protocol, port),
        )
        return {ip_address(row[0]): f"container {row[1]}" for row in found}

    # Containers

    def containers(self) -> list[Container]:
        """Return the containers that are ready, in the order of their creation."""
        return self._containers(f"{_READY} ORDER BY c.number")

    def member_names(self, network_id: str) -> list[str]:
        """Return the names of the containers with an endpoint on a network, in whatever phase."""
        sql = "SELECT c.name FROM endpoint e JOIN container c ON c.id = e.container_id WHERE e.network_id = ?"
        return sorted(row[0] for row in self._query(sql, (network_id,)))

    def container(self, reference: str) -> Container:
        """Return the ready container of that name, id or unique id prefix."""
        return rows.only(self.find_containers(reference), reference, "container")

    def containers_on(self, network_id: str) -> list[Container]:
        """Return the containers with an endpoint on a network, in whatever phase."""
        return self._containers(
            "WHERE c.id IN (SELECT container_id FROM endpoint WHERE network_id = ?) ORDER BY c.name",
            (network_id,),
        )

    def named_containers(self, names: Iterable[str]) -> list[Container]:
        """Return those of some containers that are ready, by their names."""
        return [
            item
            for chunk, marks in _chunks(names)
            for item in self._containers(f"{_READY} AND c.name IN ({marks})", chunk)
        ]

    def find_containers(self, reference: str) -> list[Container]:
        """Return the ready container of that name or id, or those whose id begins so; a name comes first.

        Foreign ones have other names; see `foreign_containers`.
        """
        exact = self._containers(f"{_OWN} AND c.name = ?", (reference,))
        if exact or not reference or set(reference) - set("0123456789abcdef"):
            return exact
        return self._containers(f"{_OWN} AND c.id >= ? AND c.id < ?", (reference, reference + "g"))

    def foreign_containers(self) -> list[Container]:
        """Return somebody else's containers that something is attached to."""
        return self._containers(f"{_READY} AND c.mode = '{MODE_FOREIGN}' ORDER BY c.number")

    def reread(self, container_id: str) -> Container:
        """Return a container, own or foreign, as it is now."""
        return rows.only(self._containers(f"{_READY} AND c.id = ?", (container_id,)), container_id, "container")

    def ready(self, identities: Sequence[str]) -> list[Container]:
        """Return containers of these ids, in this order, each with what is ready of it."""
        return self._identified(identities, is_whole=False)

    def whole(self, identities: Sequence[str]) -> list[Container]:
        """Return containers of these ids, in this order, with all that there is of them, in whatever phase."""
        return self._identified(identities, is_whole=True)

    def _identified(self, identities: Sequence[str], *, is_whole: bool) -> list[Container]:
        found = {
            item.id: item
            for chunk, marks in _chunks(identities)
            for item in self._containers(f"WHERE c.id IN ({marks})", chunk, is_whole=is_whole)
        }
        lost = next((identity for identity in identities if identity not in found), "")
        if lost:
            raise _changed(lost[:12])
        return [found[identity] for identity in identities]

    def heads(self, names: Iterable[str]) -> dict[str, record.ContainerHead]:
        """Return what those of some containers that are ready are called, by their names."""
        return {
            row["name"]: record.ContainerHead(*row)
            for chunk, marks in _chunks(names)
            for row in self._query(
                f"SELECT c.id, c.name, c.mode FROM container c {_READY} AND c.name IN ({marks})", chunk
            )
        }

    def held_names(self, names: Collection[str]) -> dict[str, str]:
        """Return which of `names` are taken, each with its holder's id."""
        held: dict[str, str] = {}
        for chunk, marks in _chunks(names):
            held.update(
                (row[0], row[1])
                for row in self._query(f"SELECT name, id FROM container WHERE name IN ({marks})", chunk)
            )
        return held

    def _containers(self, where: str, parameters: Sequence[Any] = (), *, is_whole: bool = False) -> list[Container]:
        """Return containers with what they have that is ready, or with all that there is of them."""
        phases = {name: "" if is_whole else f" AND {name}.phase = 'ready'" for name in "ear"}
        found = rows.records(self._query(f"{_CONTAINERS}{phases['e']} {where}", parameters))
        # In most databases, most of the others are empty.
        has = self._query(_HAS)[0]
        ports = self._query(f"{_PORTS} {where}", parameters) if has["port_mapping"] else []
        links = [row for half in _LINKS if has["link"] for row in self._query(f"{half} {where}", parameters)]
        attachments = self._query(f"{_ATTACHMENTS}{phases['a']} {where}", parameters) if has["attachment"] else []
        routes = self._query(f"{_ROUTES}{phases['r']} {where}", parameters) if has["route"] else []
        networks = self.networks_by_id()
        with self._decoding():
            return rows.containers(found, ports, links, networks, self._run_directory, attachments, routes)

    def insert_containers(self, containers: Iterable[Container], owner: str) -> None:
        """Insert containers and their endpoints in phase `creating`; inside a transaction."""
        members = list(containers)
        self._connection.executemany(
            "INSERT INTO container VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'creating', ?, ?, ?, '[]')",
            [
                (
                    item.id,
                    item.name,
                    item.mode,
                    item.mtu,
                    item.publish_all,
                    json.dumps(item.exposed),
                    json.dumps(vars(item.settings)),
                    json.dumps(dict(item.labels)),
                    item.created,
                    owner,
                    json.dumps(vars(item.process)) if item.process else "",
                    json.dumps(dict(item.target)) if item.target else "",
                )
                for item in members
            ],
        )
        self.insert_endpoints([(item.id, end) for item in members for end in item.endpoints], "ready")
        self._connection.executemany(
            "INSERT INTO link VALUES (?, ?, ?, ?)",
            [
                (item.id, link.alias, link.child, position)
                for item in members
                for position, link in enumerate(item.links)
            ],
        )
        for item in members:
            if item.ports:
                self.insert_ports(item.id, item.ports)

    def insert_endpoints(self, endpoints: Iterable[tuple[str, Endpoint]], phase: str) -> None:
        """Insert endpoints, each with the id of its container; inside a transaction."""
        self._connection.executemany(
            "INSERT INTO endpoint VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    end.id,
                    container_id,
                    end.network_id,
                    end.interface,
                    int(end.address),
                    str(end.address6.ip) if end.address6 else None,
                    end.mac,
                    end.host_index,
                    json.dumps(end.aliases) if end.aliases else "[]",
                    end.gateway_priority,
                    phase,
                    rows.vlans_text(end.vlans),
                )
                for container_id, end in endpoints
            ],
        )

    def set_vlans(self, endpoint_id: str, vlans: PortVlans | None) -> None:
        """Change the VLANs of an endpoint; inside a transaction."""
        sql = "UPDATE endpoint SET vlans = ? WHERE id = ?"
        self._connection.execute(sql, (rows.vlans_text(vlans), endpoint_id))

    def set_network_vlan(self, network: Network) -> None:
        """Change the VLAN of a network and what keeps its VLANs apart; inside a transaction."""
        sql = "UPDATE network SET vlan = ?, vlan_backend = ? WHERE id = ?"
        self._connection.execute(sql, (network.vlan, network.vlan_backend, network.id))

    def set_endpoint_phase(self, identities: Iterable[str], phase: str, table: str = "endpoint") -> None:
        """Mark endpoints of containers that are changing as `ready`, or to be removed; inside a transaction.

        With `table` "attachment", attachments.
        """
        for chunk, marks in _chunks(identities):
            sql = f"UPDATE {table} SET phase = ? WHERE id IN ({marks}) AND phase <> ?"
            self._connection.execute(sql, (phase, *chunk, phase))

    def insert_attachments(self, attachments: Iterable[tuple[str, Attachment]]) -> None:
        """Insert attachments in phase `creating`, each with the id of its container; inside a transaction."""
        self._connection.executemany(
            "INSERT INTO attachment VALUES (?, ?, ?, ?, ?, ?, 'creating')",
            [
                (item.id, container_id, item.interface, item.device, item.host_index, rows.attachment_details(item))
                for container_id, item in attachments
            ],
        )

    def set_attachment(self, item: Attachment) -> None:
        """Change what is known of an attachment; inside a transaction."""
        sql = "UPDATE attachment SET details = ? WHERE id = ?"
        self._connection.execute(sql, (rows.attachment_details(item), item.id))

    def users_of(self, device: str) -> dict[str, str]:
        """Return the ids of attachments to a device of the host, in whatever phase, each with its container's name."""
        sql = "SELECT a.id, c.name FROM attachment a JOIN container c ON c.id = a.container_id WHERE a.device = ?"
        return {row[0]: row[1] for row in self._query(sql, (device,))}

    def made_bridges(self) -> dict[str, record.MadeBridge]:
        """Return the bridges that dnet made for attachments, by their devices."""
        found = self._query("SELECT device, device_index, mark FROM made_bridge")
        return {row[0]: record.MadeBridge(*row) for row in found}

    def insert_made_bridge(self, made: record.MadeBridge) -> None:
        """Remember a bridge as one that dnet makes; inside a transaction."""
        self._connection.execute("INSERT OR REPLACE INTO made_bridge VALUES (?, ?, ?)", [*vars(made).values()])

    def forget_made_bridge(self, device: str) -> None:
        """Forget that dnet made a bridge."""
        with self.write():
            self._connection.execute("DELETE FROM made_bridge WHERE device = ?", (device,))

    # What is left in the database of an Open vSwitch that could not be reached

    def uses_switch(self) -> bool:
        """Whether any network, or anything attached by hand, is on Open vSwitch."""
        sql = (
            "SELECT 1 FROM network WHERE driver = 'ovs' UNION ALL "
            """SELECT 1 FROM attachment WHERE details LIKE '%"kind": "ovs"%' LIMIT 1"""
        )
        return bool(self._query(sql))

    def left_behind(self) -> list[record.LeftBehind]:
        """Return what is there still although nothing here belongs to it."""
        return [record.LeftBehind(*row) for row in self._query("SELECT * FROM left_behind ORDER BY bridge, name")]

    def leave_behind(self, items: Iterable[record.LeftBehind]) -> None:
        """Remember what is to be removed when it can be; inside a transaction."""
        columns = [[*vars(item).values()] for item in items]
        self._connection.executemany("INSERT OR REPLACE INTO left_behind VALUES (?, ?, ?, ?)", columns)

    def forget_left_behind(self, items: Iterable[record.LeftBehind]) -> None:
        """Forget what has been removed; inside a transaction."""
        marks = [(item.name, item.mark) for item in items]
        self._connection.executemany("DELETE FROM left_behind WHERE name = ? AND mark = ?", marks)

    def insert_routes(self, container_id: str, routes: Iterable[StaticRoute], phase: str) -> None:
        """Insert routes of a container; inside a transaction."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO route VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    container_id,
                    str(item.destination),
                    item.metric,
                    str(item.gateway or ""),
                    item.interface,
                    item.index,
                    phase,
                )
                for item in routes
            ],
        )

    def delete_routes(self, container_id: str, routes: Iterable[StaticRoute]) -> None:
        """Delete routes of a container; inside a transaction."""
        self._connection.executemany(
            "DELETE FROM route WHERE container_id = ? AND destination = ? AND metric = ?",
            [(container_id, str(item.destination), item.metric) for item in routes],
        )

    def set_target(self, container: Container) -> None:
        """Change what a foreign container is called and where its namespace is; inside a transaction."""
        sql = "UPDATE container SET name = ?, target = ? WHERE id = ?"
        self._connection.execute(sql, (container.name, json.dumps(dict(container.target)), container.id))

    def set_displaced(self, container: Container) -> None:
        """Change the default routes that a container's own are in the place of; inside a transaction."""
        text = json.dumps([vars(item) for item in container.displaced])
        self._connection.execute("UPDATE container SET displaced = ? WHERE id = ?", (text, container.id))

    def forget_unused_targets(self) -> None:
        """Forget foreign containers that nothing is attached to and nobody works on; inside a transaction."""
        self._connection.execute(
            f"DELETE FROM container WHERE mode = '{MODE_FOREIGN}' AND phase = 'ready' AND NOT EXISTS "
            "(SELECT 1 FROM endpoint e WHERE e.container_id = container.id) AND NOT EXISTS "
            "(SELECT 1 FROM attachment a WHERE a.container_id = container.id) AND NOT EXISTS "
            "(SELECT 1 FROM route r WHERE r.container_id = container.id)"
        )

    def insert_ports(self, container_id: str, ports: Iterable[PortMapping]) -> None:
        """Insert published ports of a container; inside a transaction."""
        self._connection.executemany(
            "INSERT INTO port_mapping VALUES (?, ?, ?, ?, ?)",
            [(item.protocol, item.host_port, str(item.host_ip), container_id, item.container_port) for item in ports],
        )

    def delete_ports(self, ports: Iterable[PortMapping]) -> None:
        """Delete published ports; inside a transaction."""
        self._connection.executemany(
            "DELETE FROM port_mapping WHERE protocol = ? AND host_port = ? AND host_ip = ?",
            [(item.protocol, item.host_port, str(item.host_ip)) for item in ports],
        )

    def set_exposed(self, container_id: str, exposed: Sequence[tuple[int, str]]) -> None:
        """Replace the exposed ports of a container; inside a transaction."""
        self._connection.execute("UPDATE container SET exposed = ? WHERE id = ?", (json.dumps(exposed), container_id))

    def rename(self, container_id: str, name: str) -> None:
        """Change a container's name, in the links to it too; inside a transaction."""
        self._connection.execute(
            "UPDATE link SET child = ?1 WHERE child = (SELECT name FROM container WHERE id = ?2)", (name, container_id)
        )
        self._connection.execute("UPDATE container SET name = ? WHERE id = ?", (name, container_id))

    def sharers(self, container_id: str) -> list[str]:
        """Return the names of the containers that share a container's sandbox."""
        mode = f"{MODE_CONTAINER}{container_id}"
        sql = "SELECT name FROM container WHERE mode = ? AND mode LIKE 'container:%' ORDER BY name"
        found = self._query(sql, (mode,))
        return [str(row[0]) for row in found]

    def parents(self, names: Collection[str]) -> list[Container]:
        """Return the ready containers with links to containers of these names."""
        found: dict[str, Container] = {}
        for chunk, marks in _chunks(names):
            where = f"{_READY} AND c.id IN (SELECT parent_id FROM link WHERE child IN ({marks}))"
            found |= {item.id: item for item in self._containers(where, chunk)}
        return list(found.values())

    def links_to(self, names: Collection[str]) -> dict[str, list[Link]]:
        """Return the links of ready containers to containers of these names, by name."""
        if not self.has_links():
            return {}
        found: dict[str, list[Link]] = {}
        for item in self.parents(names):
            for link in item.links:
                if link.child in names:
                    found.setdefault(link.child, []).append(link)
        return found

    def has_links(self) -> bool:
        """Whether any container is linked to another."""
        return bool(self._query("SELECT 1 FROM link LIMIT 1"))

    # Phases

    def owns_rows(self, owner: str) -> bool:
        """Whether an operation has reserved rows that are not ready yet."""
        sql = "SELECT 1 FROM container WHERE owner = ?1 UNION SELECT 1 FROM network WHERE owner = ?1"
        return bool(self._query(sql, (owner,)))

    def check_settled(self, containers: Iterable[Container | record.ContainerHead]) -> None:
        """Raise when another process is changing one of some containers; inside a transaction."""
        # The first condition is that of an index.
        changing = dict(self._query("SELECT id, owner FROM container WHERE phase <> 'ready' AND phase = 'changing'"))
        for item in containers if changing else ():
            if item.id in changing and self._is_alive(changing[item.id]):
                sentence = f"container {item.name} is being changed by another dnet process"
                raise Conflict(sentence, object=item.name, hint="try again when that has ended")

    def check_ready(self, containers: Sequence[Container | record.ContainerHead]) -> None:
        """Raise as `check_settled` does, or when one is gone, or half changed by a process that was killed.

        The latter's record is for the next command to read; this process may have marked one already. Inside a
        transaction.
        """
        self.check_settled(containers)
        free: set[str] = set()
        for chunk, marks in _chunks([item.id for item in containers]):
            for row in self._query(f"SELECT id, phase, owner FROM container WHERE id IN ({marks})", chunk):
                is_ours = row["phase"] == "changing" and row["owner"].partition(".")[0] == self._owner_name
                free.update([row["id"]] if is_ours or row["phase"] == "ready" else ())
        for item in containers:
            if item.id not in free:
                raise _changed(item.name)

    def check_current(self, containers: Sequence[Container]) -> None:
        """Raise as `check_settled` does, or when one has other interfaces than when it was read; in a transaction."""
        self.check_settled(containers)
        names = {item.id: item.name for item in containers}
        known = {(end.id, item.id) for item in containers for end in item.endpoints}
        known |= {(wire.id, item.id) for item in containers for wire in item.attachments}
        for chunk, marks in _chunks(names):
            sql = f"SELECT id, container_id FROM endpoint WHERE container_id IN ({marks})"
            known ^= set(map(tuple, self._query(f"{sql} UNION ALL {sql.replace('endpoint', 'attachment')}", chunk * 2)))
        if known:
            raise _changed(names[min(known)[1]])

    def check_not_joined(self, containers: Sequence[Container | record.ContainerHead], network_id: str) -> None:
        """Raise when one that was on no such network before is on it by now; inside a transaction."""
        joined = set(self.member_names(network_id))
        for item in containers if joined else ():
            if item.name in joined:
                raise _changed(item.name)

    def set_changing(self, identities: Sequence[str], owner: str) -> None:
        """Mark containers whose published ports or endpoints are being changed; inside a transaction."""
        self._update("container", f"phase = 'changing', owner = '{owner}'", identities)

    def set_ready(self, table: str, identities: Sequence[str]) -> None:
        """Mark rows of `container` or `network` as existing; inside a transaction."""
        self._update(table, "phase = 'ready', owner = ''", identities)

    def set_starting(self, identities: Sequence[str]) -> None:
        """Mark containers as ready for this process, which is to start theirs; inside a transaction."""
        self._update("container", f"phase = 'ready', owner = '{self._process_name()}.start'", identities)

    def is_forsaken(self, container_id: str) -> bool:
        """Whether another process was to start a container's, and is gone."""
        found = self._query("SELECT owner FROM container WHERE id = ? AND phase = 'ready'", (container_id,))
        owner = found[0][0] if found else ""
        return bool(owner) and owner.partition(".")[0] != self._owner_name and not self._is_alive(owner)

    def set_creating(self, table: str, identities: Sequence[str], owner: str) -> None:
        """Mark rows as being made by `owner`; inside a transaction."""
        self._update(table, f"phase = 'creating', owner = '{owner}'", identities)

    def set_deleting(self, table: str, identities: Sequence[str], owner: str) -> None:
        """Mark rows as being removed by `owner`; inside a transaction."""
        self._update(table, f"phase = 'deleting', owner = '{owner}'", identities)

    def _update(self, table: str, assignment: str, identities: Iterable[str]) -> None:
        for chunk, marks in _chunks(identities):
            self._connection.execute(f"UPDATE {table} SET {assignment} WHERE id IN ({marks})", chunk)

    def forget(self, table: str, identities: Sequence[str]) -> None:
        """Remove rows, a container's endpoints and ports with it."""
        with self.write():
            self.delete(table, identities)

    def delete(self, table: str, identities: Iterable[str]) -> None:
        """Remove rows; inside a transaction."""
        for chunk, marks in _chunks(identities):
            self._connection.execute(f"DELETE FROM {table} WHERE id IN ({marks})", chunk)

    def forget_owned(self, owner: str) -> None:
        """Remove what an operation had reserved and did not finish."""
        with self.write():
            for table in ("container", "network"):
                self._connection.execute(
                    f"DELETE FROM {table} WHERE owner = ? AND phase IN ('creating', 'deleting')", (owner,)
                )


def _changed(name: str) -> Conflict:
    return Conflict(f"container {name} has just been changed by another dnet process", object=name, hint="try again")


def _chunks(values: Iterable[str]) -> Iterator[tuple[list[str], str]]:
    """Yield the values in as many parts as a statement takes, each with its marks for `IN (...)`."""
    listed = list(values)
    for start in range(0, len(listed), PARAMETERS_MAX):
        chunk = listed[start : start + PARAMETERS_MAX]
        yield chunk, ",".join("?" * len(chunk))
