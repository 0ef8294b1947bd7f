"""The tables of the database.

A new database goes through all versions; one that is older through those that it lacks.
"""

from __future__ import annotations

# Indexes of dnet's devices: 2^20 of them above a base drawn once per database, far above those that the kernel
# gives out, so that two engines, or an engine and anybody else, do not meet.
INDEX_BITS = 20

_SCHEMA_1 = """
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
"""
_SCHEMA_2 = """
ALTER TABLE container ADD COLUMN process TEXT NOT NULL DEFAULT '';
ALTER TABLE endpoint ADD COLUMN aliases TEXT NOT NULL DEFAULT '[]';
ALTER TABLE endpoint ADD COLUMN gateway_priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE endpoint ADD COLUMN phase TEXT NOT NULL DEFAULT 'ready';
ALTER TABLE endpoint ADD COLUMN vlans TEXT NOT NULL DEFAULT '';
ALTER TABLE network ADD COLUMN vlan INTEGER NOT NULL DEFAULT 0;
ALTER TABLE network ADD COLUMN vlan_backend TEXT NOT NULL DEFAULT '';
CREATE INDEX container_sharing ON container(mode) WHERE mode LIKE 'container:%';
CREATE TABLE link (
    parent_id TEXT NOT NULL REFERENCES container(id) ON DELETE CASCADE, alias TEXT NOT NULL, child TEXT NOT NULL,
    position INTEGER NOT NULL, PRIMARY KEY (parent_id, alias)
) WITHOUT ROWID;
CREATE INDEX link_of_child ON link(child);
ALTER TABLE container ADD COLUMN target TEXT NOT NULL DEFAULT '';
ALTER TABLE container ADD COLUMN displaced TEXT NOT NULL DEFAULT '[]';
CREATE TABLE attachment (
    id TEXT PRIMARY KEY, container_id TEXT NOT NULL REFERENCES container(id) ON DELETE CASCADE,
    interface TEXT NOT NULL, device TEXT NOT NULL, host_index INTEGER NOT NULL UNIQUE, details TEXT NOT NULL,
    phase TEXT NOT NULL, UNIQUE (container_id, interface)
) WITHOUT ROWID;
CREATE INDEX attachment_to_device ON attachment(device);
CREATE TABLE made_bridge (device TEXT PRIMARY KEY, device_index INTEGER NOT NULL UNIQUE) WITHOUT ROWID;
CREATE TABLE route (
    container_id TEXT NOT NULL REFERENCES container(id) ON DELETE CASCADE, destination TEXT NOT NULL,
    metric INTEGER NOT NULL, gateway TEXT NOT NULL, interface TEXT NOT NULL, device_index INTEGER NOT NULL,
    phase TEXT NOT NULL,
    PRIMARY KEY (container_id, destination, metric)
) WITHOUT ROWID;
ALTER TABLE network ADD COLUMN owns_device INTEGER NOT NULL DEFAULT 1;
ALTER TABLE network ADD COLUMN device_mac TEXT NOT NULL DEFAULT '';
ALTER TABLE network ADD COLUMN found TEXT NOT NULL DEFAULT '[]';
CREATE TABLE adoption (
    interface TEXT PRIMARY KEY, network_id TEXT NOT NULL REFERENCES network(id) ON DELETE CASCADE,
    snapshot TEXT NOT NULL, phase TEXT NOT NULL, owner TEXT NOT NULL
) WITHOUT ROWID;
"""
# Bridges of Open vSwitch among those that were made, by their mark; what is left in its database of what is gone; and
# the VLANs of adopted interfaces.
_SCHEMA_3 = """
ALTER TABLE made_bridge ADD COLUMN mark TEXT NOT NULL DEFAULT '';
CREATE TABLE left_behind (
    name TEXT NOT NULL, mark TEXT NOT NULL, bridge TEXT NOT NULL, connection TEXT NOT NULL, PRIMARY KEY (name, mark)
) WITHOUT ROWID;
ALTER TABLE adoption ADD COLUMN vlans TEXT NOT NULL DEFAULT '';
"""
# Endpoints in the order of their making, found by their random ids through one index only: where the table itself is in
# the order of these, and every index has them, each lot of a bulk writes nearly all pages.
_SCHEMA_4 = """
CREATE TABLE endpoint_4 (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
    container_id TEXT NOT NULL REFERENCES container(id) ON DELETE CASCADE,
    network_id TEXT NOT NULL REFERENCES network(id), interface TEXT NOT NULL, address INTEGER NOT NULL,
    address6 TEXT, mac TEXT NOT NULL, host_index INTEGER NOT NULL UNIQUE, aliases TEXT NOT NULL,
    gateway_priority INTEGER NOT NULL, phase TEXT NOT NULL, vlans TEXT NOT NULL,
    UNIQUE (network_id, address), UNIQUE (container_id, interface)
);
INSERT INTO endpoint_4 SELECT NULL, id, container_id, network_id, interface, address, address6, mac, host_index,
    aliases, gateway_priority, phase, vlans FROM endpoint ORDER BY host_index;
DROP TABLE endpoint;
ALTER TABLE endpoint_4 RENAME TO endpoint;
CREATE UNIQUE INDEX endpoint_address6 ON endpoint(network_id, address6) WHERE address6 IS NOT NULL;
"""
# What each version adds to the one before.
SCHEMAS = (_SCHEMA_1, _SCHEMA_2, _SCHEMA_3, _SCHEMA_4)
SCHEMA_VERSION = len(SCHEMAS)
