"""What dnet remembers: one SQLite database per state directory. Rank 3, IO.

Intent first: a row is inserted with phase `creating`, the kernel work is done without any transaction open, then
the row becomes `ready`; deletion goes through `deleting`. Every row that is not ready names the operation that
owns it, a file that its process holds locked; a row whose owner is dead is somebody's interrupted work, which the
next writer removes.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from dnet.errors import Conflict, DnetError, NeedsRoot, StateError
from dnet.model import Container, Endpoint, Network

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 30.0
# Indexes of dnet's devices: 2^20 of them above a base drawn once per database, far above those that the kernel
# gives out, so that two engines, or an engine and anybody else, do not meet.
INDEX_BITS = 20
# Parameters in one statement; SQLite's own limit is 32,766.
PARAMETERS_MAX = 500

_SCHEMA = """
CREATE TABLE setting (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE network (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, driver TEXT NOT NULL, subnet TEXT NOT NULL,
    gateway TEXT NOT NULL, ip_range TEXT NOT NULL, aux_addresses TEXT NOT NULL, internal INTEGER NOT NULL,
    masquerade INTEGER NOT NULL, mtu INTEGER NOT NULL, device TEXT NOT NULL UNIQUE,
    device_index INTEGER NOT NULL UNIQUE, labels TEXT NOT NULL, options TEXT NOT NULL, created REAL NOT NULL,
    phase TEXT NOT NULL, owner TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE container (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE, mode TEXT NOT NULL,
    mtu INTEGER NOT NULL, labels TEXT NOT NULL, created REAL NOT NULL, phase TEXT NOT NULL, owner TEXT NOT NULL
);
CREATE TABLE endpoint (
    id TEXT PRIMARY KEY, container_id TEXT NOT NULL REFERENCES container(id) ON DELETE CASCADE,
    network_id TEXT NOT NULL REFERENCES network(id), interface TEXT NOT NULL, address INTEGER NOT NULL,
    mac TEXT NOT NULL, host_index INTEGER NOT NULL UNIQUE,
    UNIQUE (network_id, address), UNIQUE (container_id, interface)
) WITHOUT ROWID;
CREATE INDEX container_unready ON container(owner) WHERE phase <> 'ready';
CREATE INDEX network_unready ON network(owner) WHERE phase <> 'ready';
"""

_CONTAINER_COLUMNS = """
SELECT c.id, c.name, c.mode, c.mtu, c.labels, c.created, c.phase,
       e.id, e.network_id, n.name, n.subnet, n.gateway, n.internal, e.interface, e.address, e.mac, e.host_index
FROM container c LEFT JOIN endpoint e ON e.container_id = c.id LEFT JOIN network n ON n.id = e.network_id
"""


def veth_name(host_index: int) -> str:
    """Return the name of a host interface, derived from its index and as unique as that."""
    return f"veth{host_index:x}"


class Store:
    """The database. Safe from several processes; `BEGIN IMMEDIATE` is the lock between them."""

    def __init__(self, directory: str, sandbox_directory: str) -> None:
        self._directory = directory
        self._sandbox_directory = sandbox_directory
        try:
            os.makedirs(os.path.join(directory, "operations"), mode=0o700, exist_ok=True)
            if not os.access(directory, os.W_OK):
                raise PermissionError
        except PermissionError as error:
            hint = "run it as root, or name a directory of your own with --state-dir"
            raise NeedsRoot(
                f"root is needed to use the state directory {directory}", object=directory, hint=hint
            ) from error
        except OSError as error:
            raise StateError(
                f"cannot use the state directory {directory}: {error.strerror}", object=directory
            ) from error
        self._path = os.path.join(directory, "state.db")
        with self._guard():
            self._connection = sqlite3.connect(
                self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._prepare()

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def _prepare(self) -> None:
        execute = self._connection.execute
        (version,) = execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StateError(
                f"{self._path} was written by a newer dnet (schema {version}, this one knows {SCHEMA_VERSION})",
                object=self._path,
                hint="upgrade dnet, or use another --state-dir",
            )
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("PRAGMA foreign_keys = ON")
        if version < SCHEMA_VERSION:
            with self.write():
                if execute("PRAGMA user_version").fetchone()[0] < SCHEMA_VERSION:
                    for statement in _SCHEMA.split(";"):
                        execute(statement)
                    base = secrets.randbelow((1 << (31 - INDEX_BITS)) - 2) + 1
                    execute(
                        "INSERT INTO setting VALUES ('index_base', ?), ('next_index', 0)",
                        (base << INDEX_BITS,),
                    )
                    execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise Conflict(f"another dnet process took it first: {error}") from error
        except sqlite3.OperationalError as error:
            raise StateError(f"cannot use {self._path}: {error}", object=self._path) from error
        except (sqlite3.DatabaseError, ValueError, KeyError) as error:
            if isinstance(error, DnetError):
                raise
            hint = "restore it from a backup, or move it away and begin anew"
            raise StateError(f"{self._path} is damaged: {error}", object=self._path, hint=hint) from error

    @contextmanager
    def write(self, *, is_dry_run: bool = False) -> Iterator[None]:
        """Hold the write lock; commit at the end, or roll back after an error and after a dry run."""
        with self._guard():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("ROLLBACK" if is_dry_run else "COMMIT")

    def _query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        with self._guard():
            return self._connection.execute(sql, parameters).fetchall()

    # Locks and owners

    @contextmanager
    def network_lock(self) -> Iterator[None]:
        """Hold the lock under which networks are made, mended and removed, kernel work included."""
        with open(os.path.join(self._directory, "network.lock"), "w", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def operation(self) -> Iterator[str]:
        """Yield the name of a new owner, alive until the end of the block or of the process."""
        owner = secrets.token_hex(8)
        path = self._owner_path(owner)
        with open(path, "w", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield owner
            os.unlink(path)

    def _owner_path(self, owner: str) -> str:
        return os.path.join(self._directory, "operations", owner)

    def _is_alive(self, owner: str) -> bool:
        try:
            with open(self._owner_path(owner), "r+", encoding="ascii") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        os.unlink(self._owner_path(owner))
        return False

    def abandoned(self) -> tuple[list[Container], list[Network]]:
        """Return the containers and networks whose owner died before they were ready or gone."""
        sql = (
            "SELECT owner FROM container WHERE phase <> 'ready' UNION SELECT owner FROM network WHERE phase <> 'ready'"
        )
        owners = [owner for (owner,) in self._query(sql) if not self._is_alive(owner)]
        containers: list[Container] = []
        networks: list[Network] = []
        for owner in owners:
            containers += self._containers("WHERE c.phase <> 'ready' AND c.owner = ?", (owner,))
            networks += self._networks("WHERE phase <> 'ready' AND owner = ?", (owner,))
        return containers, networks

    def take_indexes(self, count: int) -> list[int]:
        """Return `count` unused interface indexes; inside a transaction."""
        settings = dict(self._query("SELECT key, value FROM setting"))
        base, mask = settings["index_base"], (1 << INDEX_BITS) - 1
        used = {index for (index,) in self._query("SELECT host_index FROM endpoint")}
        used.update(index for (index,) in self._query("SELECT device_index FROM network"))
        found: list[int] = []
        number = settings["next_index"]
        while len(found) < count:
            index = base + (number & mask)
            number += 1
            if index not in used:
                found.append(index)
        self._connection.execute("UPDATE setting SET value = ? WHERE key = 'next_index'", (number & mask,))
        return found

    # Networks

    def networks(self) -> list[Network]:
        """Return the networks that are ready, by name."""
        return self._networks("WHERE phase = 'ready' ORDER BY name")

    def find_networks(self, reference: str) -> list[Network]:
        """Return the ready network of that name or id, or those whose id begins so."""
        return self._networks(
            "WHERE phase = 'ready' AND (name = ?1 OR substr(id, 1, length(?1)) = ?1) ORDER BY name <> ?1",
            (reference,),
        )

    def network_names(self) -> list[tuple[str, IPv4Network]]:
        """Return name and subnet of every network, ready or not."""
        return [(name, IPv4Network(subnet)) for name, subnet in self._query("SELECT name, subnet FROM network")]

    def _networks(self, where: str, parameters: Sequence[Any] = ()) -> list[Network]:
        rows = self._query(
            "SELECT id, name, driver, subnet, gateway, ip_range, aux_addresses, internal, masquerade, mtu, device, "
            f"device_index, labels, options, created FROM network {where}",
            parameters,
        )
        with self._guard():
            return [_network(row) for row in rows]

    def insert_network(self, network: Network, owner: str) -> None:
        """Insert a network in phase `creating`; inside a transaction."""
        self._connection.execute(
            "INSERT INTO network VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'creating', ?)",
            (
                network.id,
                network.name,
                network.driver,
                str(network.subnet),
                str(network.gateway),
                str(network.ip_range or ""),
                json.dumps({key: str(value) for key, value in network.aux_addresses.items()}),
                network.internal,
                network.masquerade,
                network.mtu,
                network.device,
                network.device_index,
                json.dumps(dict(network.labels)),
                json.dumps(dict(network.options)),
                network.created,
                owner,
            ),
        )

    def taken_addresses(self, network_id: str) -> set[int]:
        """Return the addresses of a network's endpoints, as integers."""
        return {value for (value,) in self._query("SELECT address FROM endpoint WHERE network_id = ?", (network_id,))}

    def address_holder(self, network_id: str, address: int) -> str:
        """Return the name of the container that has an address."""
        rows = self._query(
            "SELECT c.name FROM endpoint e JOIN container c ON c.id = e.container_id "
            "WHERE e.network_id = ? AND e.address = ?",
            (network_id, address),
        )
        return str(rows[0][0]) if rows else ""

    # Containers

    def containers(self) -> list[Container]:
        """Return the containers that are ready, in the order of their creation."""
        return self._containers("WHERE c.phase = 'ready' ORDER BY c.number")

    def containers_on(self, network_id: str) -> list[Container]:
        """Return the containers with an endpoint on a network, in whatever phase."""
        return self._containers(
            "WHERE c.id IN (SELECT container_id FROM endpoint WHERE network_id = ?) ORDER BY c.name",
            (network_id,),
        )

    def find_containers(self, reference: str) -> list[Container]:
        """Return the ready container of that name or id, or those whose id begins so; a name comes first."""
        exact = self._containers("WHERE c.phase = 'ready' AND c.name = ?", (reference,))
        if exact or not reference or set(reference) - set("0123456789abcdef"):
            return exact
        return self._containers("WHERE c.phase = 'ready' AND c.id >= ? AND c.id < ?", (reference, reference + "g"))

    def held_names(self, names: Collection[str]) -> dict[str, str]:
        """Return which of `names` are taken, each with its holder's id."""
        held: dict[str, str] = {}
        wanted = list(names)
        for start in range(0, len(wanted), PARAMETERS_MAX):
            chunk = wanted[start : start + PARAMETERS_MAX]
            marks = ",".join("?" * len(chunk))
            held.update(self._query(f"SELECT name, id FROM container WHERE name IN ({marks})", chunk))
        return held

    def _containers(self, where: str, parameters: Sequence[Any] = ()) -> list[Container]:
        rows = self._query(_CONTAINER_COLUMNS + where, parameters)
        with self._guard():
            return _assemble(rows, self._sandbox_directory)

    def insert_containers(self, containers: Iterable[Container], owner: str) -> None:
        """Insert containers and their endpoints in phase `creating`; inside a transaction."""
        members = list(containers)
        self._connection.executemany(
            "INSERT INTO container VALUES (NULL, ?, ?, ?, ?, ?, ?, 'creating', ?)",
            [(c.id, c.name, c.mode, c.mtu, json.dumps(dict(c.labels)), c.created, owner) for c in members],
        )
        self._connection.executemany(
            "INSERT INTO endpoint VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (e.id, c.id, e.network_id, e.interface, int(e.address), e.mac, e.host_index)
                for c in members
                for e in c.endpoints
            ],
        )

    # Phases

    def set_ready(self, table: str, identities: Sequence[str]) -> None:
        """Mark rows of `container` or `network` as existing; inside a transaction."""
        self._update(table, "phase = 'ready', owner = ''", identities)

    def set_deleting(self, table: str, identities: Sequence[str], owner: str) -> None:
        """Mark rows as being removed by `owner`; inside a transaction."""
        self._update(table, f"phase = 'deleting', owner = '{owner}'", identities)

    def _update(self, table: str, assignment: str, identities: Sequence[str]) -> None:
        self._connection.executemany(
            f"UPDATE {table} SET {assignment} WHERE id = ?",
            [(identity,) for identity in identities],
        )

    def forget(self, table: str, identities: Sequence[str]) -> None:
        """Remove rows, a container's endpoints with it."""
        with self.write():
            self._connection.executemany(
                f"DELETE FROM {table} WHERE id = ?",
                [(identity,) for identity in identities],
            )


def _labels(text: str) -> Mapping[str, str]:
    return dict(json.loads(text)) if text != "{}" else {}


def _network(row: Sequence[Any]) -> Network:
    (
        identity,
        name,
        driver,
        subnet,
        gateway,
        ip_range,
        aux,
        internal,
        masquerade,
        mtu,
        device,
        index,
        *rest,
    ) = row
    return Network(
        id=identity,
        name=name,
        driver=driver,
        subnet=IPv4Network(subnet),
        gateway=IPv4Address(gateway),
        ip_range=IPv4Network(ip_range) if ip_range else None,
        aux_addresses={key: IPv4Address(value) for key, value in _labels(aux).items()},
        internal=bool(internal),
        masquerade=bool(masquerade),
        mtu=mtu,
        device=device,
        device_index=index,
        labels=_labels(rest[0]),
        options=_labels(rest[1]),
        created=rest[2],
    )


def _assemble(rows: Iterable[Sequence[Any]], sandbox_directory: str) -> list[Container]:
    """Gather joined rows, one per endpoint, into containers."""
    endpoints: dict[str, list[Endpoint]] = {}
    heads: dict[str, Sequence[Any]] = {}
    networks: dict[str, tuple[int, IPv4Address | None]] = {}
    for row in rows:
        identity = row[0]
        heads.setdefault(identity, row)
        members = endpoints.setdefault(identity, [])
        if row[7] is None:
            continue
        network_id = row[8]
        if network_id not in networks:
            networks[network_id] = (IPv4Network(row[10]).prefixlen, None if row[12] else IPv4Address(row[11]))
        prefix, gateway = networks[network_id]
        members.append(
            Endpoint(
                id=row[7],
                network_id=network_id,
                network=row[9],
                interface=row[13],
                address=IPv4Interface((row[14], prefix)),
                gateway=gateway,
                mac=row[15],
                host_index=row[16],
                host_interface=veth_name(row[16]),
            )
        )
    return [
        Container(
            id=identity,
            name=row[1],
            mode=row[2],
            sandbox=os.path.join(sandbox_directory, identity[:12]),
            created=row[5],
            status="created",
            mtu=row[3],
            labels=_labels(row[4]),
            endpoints=tuple(sorted(endpoints[identity], key=lambda end: end.interface)),
        )
        for identity, row in heads.items()
    ]
