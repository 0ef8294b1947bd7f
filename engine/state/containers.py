"""Stored containers, with their endpoints, published ports, links and routes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from ipaddress import ip_address
from typing import Any

from dnet.errors import Conflict
from dnet.model.address import IPAddress
from dnet.model.attachment import StaticRoute
from dnet.model.container import MODE_CONTAINER, MODE_FOREIGN, Container, Endpoint, Link
from dnet.model.published_port import PortMapping
from dnet.model.record import ContainerHead
from dnet.model.vlan import PortVlans
from dnet.state.container_rows import CONTAINER, ENDPOINT, LINK, LINKS, PARTS, PORT, ROUTE, read_containers
from dnet.state.database import Database, chunks
from dnet.state.networks import Networks
from dnet.state.table import VLANS, only

_READY = "WHERE c.phase IN ('ready', 'changing')"
_OWN = f"{_READY} AND c.mode <> '{MODE_FOREIGN}'"
_PHASED = ("endpoint", "attachment", "route")
_HAS = f"SELECT {', '.join(f'EXISTS (SELECT 1 FROM {name}) AS {name}' for name in (*PARTS, 'link'))}"


class Containers:
    """The table of containers, and those of what belongs to them."""

    def __init__(self, database: Database, networks: Networks, run_directory: str) -> None:
        self._database = database
        self._networks = networks
        self._run_directory = run_directory

    def all(self) -> list[Container]:
        """Return the containers that are ready, own and foreign, in the order of their creation."""
        return self.where(f"{_READY} ORDER BY c.number")

    def get(self, reference: str) -> Container:
        """Return the ready container of that name, id or unique id prefix."""
        return only(self.find(reference), reference, "container")

    def find(self, reference: str) -> list[Container]:
        """Return the ready container of that name or id, or those whose id begins so; a name comes first.

        Foreign containers have other names; see `foreign`.
        """
        exact = self.where(f"{_OWN} AND c.name = ?", (reference,))
        if exact or not reference or set(reference) - set("0123456789abcdef"):
            return exact
        return self.where(f"{_OWN} AND c.id >= ? AND c.id < ?", (reference, reference + "g"))

    def foreign(self) -> list[Container]:
        """Return the containers of others that something is attached to."""
        return self.where(f"{_READY} AND c.mode = '{MODE_FOREIGN}' ORDER BY c.number")

    def on_network(self, network_id: str) -> list[Container]:
        """Return the containers with an endpoint on a network, in whatever phase, by name."""
        return self.where(
            "WHERE c.id IN (SELECT container_id FROM endpoint WHERE network_id = ?) ORDER BY c.name",
            (network_id,),
        )

    def named(self, names: Iterable[str]) -> list[Container]:
        """Return the ready containers of these names."""
        return [
            item for chunk, marks in chunks(names) for item in self.where(f"{_READY} AND c.name IN ({marks})", chunk)
        ]

    def reread(self, container_id: str) -> Container:
        """Return a container, own or foreign, as it is now."""
        return only(self.where(f"{_READY} AND c.id = ?", (container_id,)), container_id, "container")

    def ready(self, identities: Sequence[str]) -> list[Container]:
        """Return containers of these ids, in this order, each with those of its parts that are ready."""
        return self._identified(identities, is_whole=False)

    def whole(self, identities: Sequence[str]) -> list[Container]:
        """Return containers of these ids, in this order, each with all its parts, in whatever phase."""
        return self._identified(identities, is_whole=True)

    def _identified(self, identities: Sequence[str], *, is_whole: bool) -> list[Container]:
        found = {
            item.id: item
            for chunk, marks in chunks(identities)
            for item in self.where(f"WHERE c.id IN ({marks})", chunk, is_whole=is_whole)
        }
        lost = next((identity for identity in identities if identity not in found), "")
        if lost:
            raise changed(lost[:12])
        return [found[identity] for identity in identities]

    def where(self, condition: str, parameters: Sequence[Any] = (), *, is_whole: bool = False) -> list[Container]:
        """Return the containers of a condition in SQL, with their ready parts, or with all their parts."""
        query = self._database.query
        phases = {table: "" if is_whole else f" AND {table}.phase = 'ready'" for table in _PHASED}
        found = query(
            f"SELECT {CONTAINER.select('c')}, {ENDPOINT.select()} FROM container c "
            f"LEFT JOIN endpoint ON container_id = c.id{phases['endpoint']} {condition}",
            parameters,
        )
        has = query(_HAS)[0]  # in most databases, most of these tables are empty
        parts = {
            table: query(f"{sql}{phases.get(table, '')} {condition}", parameters) if has[table] else []
            for table, sql in PARTS.items()
        }
        links = [row for sql in LINKS if has["link"] for row in query(f"{sql} {condition}", parameters)]
        networks = self._networks.by_id()
        with self._database.decoding():
            return read_containers(found, parts, links, networks, self._run_directory)

    def heads(self, names: Iterable[str]) -> dict[str, ContainerHead]:
        """Return id, name and mode of the ready containers of these names, by name."""
        return {
            row["name"]: ContainerHead(*row)
            for chunk, marks in chunks(names)
            for row in self._database.query(
                f"SELECT c.id, c.name, c.mode FROM container c {_READY} AND c.name IN ({marks})", chunk
            )
        }

    def held_names(self, names: Collection[str]) -> dict[str, str]:
        """Return which of `names` are taken, in whatever phase, each with its holder's id."""
        return {
            row["name"]: row["id"]
            for chunk, marks in chunks(names)
            for row in self._database.query(f"SELECT name, id FROM container WHERE name IN ({marks})", chunk)
        }

    def sharers(self, container_id: str) -> list[str]:
        """Return the names of the containers that share a container's sandbox."""
        mode = f"{MODE_CONTAINER}{container_id}"
        sql = "SELECT name FROM container WHERE mode = ? AND mode LIKE 'container:%' ORDER BY name"
        return [row["name"] for row in self._database.query(sql, (mode,))]

    def port_holders(self, protocol: str, port: int) -> dict[IPAddress, str]:
        """Return which containers have a host port, by the address they have it on."""
        found = self._database.query(
            "SELECT p.host_ip, c.name FROM port_mapping p JOIN container c ON c.id = p.container_id "
            "WHERE p.protocol = ? AND p.host_port = ?",
            (protocol, port),
        )
        return {ip_address(row["host_ip"]): f"container {row['name']}" for row in found}

    # Links

    def has_links(self) -> bool:
        """Whether any container is linked to another."""
        return bool(self._database.query("SELECT 1 FROM link LIMIT 1"))

    def parents(self, names: Collection[str]) -> list[Container]:
        """Return the ready containers with links to containers of these names."""
        found: dict[str, Container] = {}
        for chunk, marks in chunks(names):
            condition = f"{_READY} AND c.id IN (SELECT parent_id FROM link WHERE child IN ({marks}))"
            found |= {item.id: item for item in self.where(condition, chunk)}
        return list(found.values())

    def links_to(self, names: Collection[str]) -> dict[str, list[Link]]:
        """Return the links of ready containers to containers of these names, by name."""
        found: dict[str, list[Link]] = {}
        for item in self.parents(names) if self.has_links() else ():
            for link in item.links:
                if link.child in names:
                    found.setdefault(link.child, []).append(link)
        return found

    # Changes, inside a transaction each

    def insert(self, containers: Iterable[Container], owner: str) -> None:
        """Insert containers and what belongs to them in phase `creating`."""
        members = list(containers)
        insert = self._database.execute_many
        insert(CONTAINER.insertion, [CONTAINER.row(item, "creating", owner) for item in members])
        self.insert_endpoints([(item.id, end) for item in members for end in item.endpoints], "ready")
        insert(
            LINK.insertion,
            [LINK.row(link, item.id, position) for item in members for position, link in enumerate(item.links)],
        )
        for item in members:
            if item.ports:
                self.insert_ports(item.id, item.ports)

    def insert_endpoints(self, endpoints: Iterable[tuple[str, Endpoint]], phase: str) -> None:
        """Insert endpoints, each with the id of its container."""
        self._database.execute_many(
            ENDPOINT.insertion, [ENDPOINT.row(endpoint, container_id, phase) for container_id, endpoint in endpoints]
        )

    def insert_ports(self, container_id: str, ports: Iterable[PortMapping]) -> None:
        """Insert published ports of a container."""
        self._database.execute_many(PORT.insertion, [PORT.row(item, container_id) for item in ports])

    def delete_ports(self, ports: Iterable[PortMapping]) -> None:
        """Delete published ports."""
        self._database.execute_many(
            "DELETE FROM port_mapping WHERE protocol = ? AND host_port = ? AND host_ip = ?",
            [(item.protocol, item.host_port, str(item.host_ip)) for item in ports],
        )

    def insert_routes(self, container_id: str, routes: Iterable[StaticRoute], phase: str) -> None:
        """Insert routes of a container."""
        self._database.execute_many(ROUTE.insertion, [ROUTE.row(item, container_id, phase) for item in routes])

    def delete_routes(self, container_id: str, routes: Iterable[StaticRoute]) -> None:
        """Delete routes of a container."""
        self._database.execute_many(
            "DELETE FROM route WHERE container_id = ? AND destination = ? AND metric = ?",
            [(container_id, str(item.destination), item.metric) for item in routes],
        )

    def set_vlans(self, endpoint_id: str, vlans: PortVlans | None) -> None:
        """Change the VLANs of an endpoint."""
        self._database.execute("UPDATE endpoint SET vlans = ? WHERE id = ?", (VLANS.write(vlans), endpoint_id))

    def update(self, container: Container, *fields: str) -> None:
        """Store some fields of a container anew."""
        self._database.execute(*CONTAINER.update(container, *fields))

    def rename(self, container_id: str, name: str) -> None:
        """Change a container's name, also in the links to it."""
        self._database.execute(
            "UPDATE link SET child = ?1 WHERE child = (SELECT name FROM container WHERE id = ?2)", (name, container_id)
        )
        self._database.execute("UPDATE container SET name = ? WHERE id = ?", (name, container_id))

    def forget_unused_targets(self) -> None:
        """Forget foreign containers that nothing is attached to and nobody works on."""
        self._database.execute(
            f"DELETE FROM container WHERE mode = '{MODE_FOREIGN}' AND phase = 'ready' AND NOT EXISTS "
            "(SELECT 1 FROM endpoint e WHERE e.container_id = container.id) AND NOT EXISTS "
            "(SELECT 1 FROM attachment a WHERE a.container_id = container.id) AND NOT EXISTS "
            "(SELECT 1 FROM route r WHERE r.container_id = container.id)"
        )


def changed(name: str) -> Conflict:
    """Return the error of a container that another process has changed in the meantime."""
    return Conflict(f"container {name} has just been changed by another dnet process", object=name, hint="try again")
