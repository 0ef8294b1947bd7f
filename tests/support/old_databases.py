"""What earlier versions of dnet left on a host: their databases, and their table in nftables."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

# Version 1, word for word.
SCHEMA_1 = """
CREATE TABLE setting (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE network (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, driver TEXT NOT NULL, subnet TEXT NOT NULL,
    gateway TEXT NOT NULL, ip_range TEXT NOT NULL, subnet6 TEXT NOT NULL, gateway6 TEXT NOT NULL,
    aux_addresses TEXT NOT NULL, internal INTEGER NOT NULL, icc INTEGER NOT NULL, masquerade INTEGER NOT NULL,
    host_binding TEXT NOT NULL, snat TEXT NOT NULL, snat6 TEXT NOT NULL, mtu INTEGER NOT NULL,
    device TEXT NOT NULL UNIQUE, device_index INTEGER NOT NULL UNIQUE, labels TEXT NOT NULL, options TEXT NOT NULL,
    created REAL NOT NULL, phase TEXT NOT NULL, owner TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE container (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE, mode TEXT NOT NULL,
    mtu INTEGER NOT NULL, publish_all INTEGER NOT NULL, exposed TEXT NOT NULL, settings TEXT NOT NULL,
    labels TEXT NOT NULL, created REAL NOT NULL, phase TEXT NOT NULL, owner TEXT NOT NULL
);
CREATE TABLE endpoint (
    id TEXT PRIMARY KEY, container_id TEXT NOT NULL REFERENCES container(id) ON DELETE CASCADE,
    network_id TEXT NOT NULL REFERENCES network(id), interface TEXT NOT NULL, address INTEGER NOT NULL,
    address6 TEXT, mac TEXT NOT NULL, host_index INTEGER NOT NULL UNIQUE,
    UNIQUE (network_id, address), UNIQUE (network_id, address6), UNIQUE (container_id, interface)
) WITHOUT ROWID;
CREATE TABLE port_mapping (
    protocol TEXT NOT NULL, host_port INTEGER NOT NULL, host_ip TEXT NOT NULL,
    container_id TEXT NOT NULL REFERENCES container(id) ON DELETE CASCADE, container_port INTEGER NOT NULL,
    PRIMARY KEY (protocol, host_port, host_ip)
) WITHOUT ROWID;
CREATE INDEX port_of_container ON port_mapping(container_id);
CREATE INDEX endpoint_of_container ON endpoint(container_id);
CREATE INDEX container_unready ON container(owner) WHERE phase <> 'ready';
CREATE INDEX network_unready ON network(owner) WHERE phase <> 'ready';
PRAGMA journal_mode = WAL;
PRAGMA user_version = 1;
"""
TABLES_1 = ("setting", "network", "container", "endpoint", "port_mapping")

# What version 1 had in the chain that has other rules now; it had no chain `redirects`, no sets `links4`, `links6`.
FORWARD_1 = """
ct state established,related accept
iifname . oifname @within_network accept
iifname @bridges oifname @docker_bridges ct status & dnat != dnat counter drop
iifname @internal counter drop
oifname @internal counter drop
oifname @bridges ct status dnat accept
oifname @bridges ip daddr . meta l4proto . th dport @open4 accept
oifname @bridges ip6 daddr . meta l4proto . th dport @open6 accept
oifname @routed meta l4proto { 1, 58 } accept
oifname @bridges counter drop
"""


def make_database_1(path: Path, *statements: str) -> None:
    """Write a database as version 1 did, and run statements on it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(SCHEMA_1)
        for statement in statements:
            connection.execute(statement)


def take_back_to_1(path: Path) -> None:
    """Turn a database into one of version 1 with the same content, what version 1 did not know left out."""
    old = path.with_suffix(".1")
    make_database_1(old)
    with contextlib.closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("ATTACH ? AS now", (str(path),))
        for table in TABLES_1:
            names = ", ".join(row[1] for row in connection.execute(f"PRAGMA main.table_info({table})"))
            connection.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM now.{table}")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}{suffix}")
    old.rename(path)


def table_commands_1() -> str:
    """Return nft's commands that turn the table into version 1's, which has the same elements."""
    lines = ["flush chain inet dnet forward"]
    lines += [f"add rule inet dnet forward {rule}" for rule in FORWARD_1.strip().splitlines()]
    lines += ["delete chain inet dnet redirects", "delete set inet dnet links4", "delete set inet dnet links6"]
    return "\n".join(lines) + "\n"
