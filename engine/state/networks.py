"""Stored networks, their subnets, and the addresses that are taken in them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from ipaddress import IPv6Address, ip_network
from typing import Any

from dnet.model.address import IPAddress, IPNetwork
from dnet.model.network import Network, Uplink
from dnet.state.database import Database
from dnet.state.table import VLANS, Table, only

NETWORK = Table(
    "network",
    Network,
    fields=[field for field in Network.__annotations__ if field != "uplinks"],
    others=("phase", "owner"),
)
# Of a snapshot, what a bridge's description needs.
_UPLINKS = """
SELECT network_id, interface, vlans, json_extract(snapshot, '$.interface.index') AS device_index,
    json_extract(snapshot, '$.interface.mac') AS mac, json_extract(snapshot, '$.takes_mac') AS takes_mac
FROM adoption ORDER BY interface
"""


class Networks:
    """The table of networks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[Network]:
        """Return the networks that are ready, by name."""
        return self.where("WHERE phase = 'ready' ORDER BY name")

    def by_id(self) -> dict[str, Network]:
        """Return every network, ready or not, by id."""
        return {network.id: network for network in self.where("")}

    def get(self, reference: str) -> Network:
        """Return the ready network of that name, id or unique id prefix."""
        return only(self.find(reference), reference, "network")

    def find(self, reference: str) -> list[Network]:
        """Return the ready network of that name or id, or those whose id begins so."""
        if not reference:
            return []
        return self.where(
            "WHERE phase = 'ready' AND (name = ?1 OR substr(id, 1, length(?1)) = ?1) ORDER BY name <> ?1",
            (reference,),
        )

    def where(self, condition: str, parameters: Sequence[Any] = ()) -> list[Network]:
        """Return the networks of a condition in SQL, in whatever phase, with their uplinks."""
        found = self._database.query(f"SELECT {NETWORK.select()} FROM network {condition}", parameters)
        adopted = self._database.query(_UPLINKS)
        uplinks: dict[str, list[Uplink]] = {}
        with self._database.decoding():
            for row in adopted:
                uplinks.setdefault(row["network_id"], []).append(_uplink(row))
            decoded = [NETWORK.decode(row) for row in found]
            return [Network(**fields, uplinks=tuple(uplinks.get(fields["id"], ()))) for fields in decoded]

    def name_on(self, device: str) -> str:
        """Return the name of the network, ready or not, whose bridge a device is; else the empty text."""
        return self._database.text("SELECT name FROM network WHERE device = ?", (device,))

    def phase(self, name: str) -> str:
        """Return `creating`, `ready` or `deleting`; the empty text when there is no such network."""
        return self._database.text("SELECT phase FROM network WHERE name = ?", (name,))

    def subnets(self) -> list[tuple[str, IPNetwork]]:
        """Return name and subnet of every network, ready or not; one of two families comes twice."""
        found = self._database.query("SELECT name, subnet, subnet6 FROM network")
        return [(row["name"], ip_network(text)) for row in found for text in (row["subnet"], row["subnet6"]) if text]

    def has_others(self, identities: Collection[str] = ()) -> bool:
        """Whether there is a network, in whatever phase, besides these."""
        return any(row["id"] not in identities for row in self._database.query("SELECT id FROM network"))

    def insert(self, network: Network, owner: str) -> None:
        """Insert a network in phase `creating`; inside a transaction."""
        self._database.execute(NETWORK.insertion, NETWORK.row(network, "creating", owner))

    def set_device(self, network: Network) -> None:
        """Replace the index of a network's device, and what was found on it; inside a transaction.

        After a reboot another bridge of the user may have the index that is stored for this one. Then that other
        network gets a negative index, which no device has.
        """
        ((lowest,),) = self._database.query("SELECT min(0, min(device_index)) - 1 FROM network")
        self._database.execute(
            "UPDATE network SET device_index = ? WHERE device_index = ? AND id <> ?",
            (lowest, network.device_index, network.id),
        )
        self.update(network, "device_index", "device_mac", "found")

    def update(self, network: Network, *fields: str) -> None:
        """Store some fields of a network anew; inside a transaction."""
        self._database.execute(*NETWORK.update(network, *fields))

    # Addresses

    def taken_addresses(self, network_id: str) -> set[int]:
        """Return the IPv4 addresses of a network's endpoints as integers, one for each endpoint."""
        found = self._database.query("SELECT address FROM endpoint WHERE network_id = ?", (network_id,))
        return {row[0] for row in found}

    def taken_addresses6(self, network_id: str) -> set[int]:
        """Return the IPv6 addresses of a network's endpoints as integers."""
        found = self._database.query(
            "SELECT address6 FROM endpoint WHERE network_id = ? AND address6 IS NOT NULL", (network_id,)
        )
        return {int(IPv6Address(row[0])) for row in found}

    def address_holder(self, network_id: str, address: IPAddress) -> str:
        """Return the name of the container that has an address; the empty text when it is free."""
        return self._database.text(
            "SELECT c.name FROM endpoint e JOIN container c ON c.id = e.container_id "
            "WHERE e.network_id = ? AND (e.address = ? OR e.address6 = ?)",
            (network_id, int(address) if address.version == 4 else -1, str(address)),
        )

    def member_names(self, network_id: str) -> list[str]:
        """Return the names of the containers with an endpoint on a network, in whatever phase."""
        sql = "SELECT c.name FROM endpoint e JOIN container c ON c.id = e.container_id WHERE e.network_id = ?"
        return sorted(row[0] for row in self._database.query(sql, (network_id,)))


def _uplink(row: Any) -> Uplink:
    return Uplink(
        interface=row["interface"],
        index=row["device_index"] or 0,
        mac=row["mac"] if row["takes_mac"] else "",
        vlans=VLANS.read(row["vlans"]),
    )
