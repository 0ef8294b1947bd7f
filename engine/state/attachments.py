"""Stored attachments, and the bridges that dnet made for them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_interface
from typing import Any

from dnet.model.attachment import Attachment
from dnet.model.record import MadeBridge
from dnet.state.database import Database
from dnet.state.table import VLANS, Table

ATTACHMENT = Table(
    "attachment",
    Attachment,
    fields=("id", "interface", "device", "host_index"),
    others=("container_id", "details", "phase"),
)
MADE_BRIDGE = Table("made_bridge", MadeBridge, replaces=True)


class Attachments:
    """The table of attachments, and that of the bridges made for them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def insert(self, attachments: Iterable[tuple[str, Attachment]]) -> None:
        """Insert attachments in phase `creating`, each with the id of its container; inside a transaction."""
        self._database.execute_many(
            ATTACHMENT.insertion,
            [ATTACHMENT.row(item, container_id, details_of(item), "creating") for container_id, item in attachments],
        )

    def update(self, item: Attachment) -> None:
        """Replace the details of an attachment; inside a transaction."""
        self._database.execute("UPDATE attachment SET details = ? WHERE id = ?", (details_of(item), item.id))

    def users_of(self, device: str) -> dict[str, str]:
        """Return the ids of attachments to a device of the host, in whatever phase, each with its container's name."""
        sql = "SELECT a.id, c.name FROM attachment a JOIN container c ON c.id = a.container_id WHERE a.device = ?"
        return dict(map(tuple, self._database.query(sql, (device,))))

    def made_bridges(self) -> dict[str, MadeBridge]:
        """Return the bridges that dnet made for attachments, by their devices."""
        found = [
            MADE_BRIDGE.read(row) for row in self._database.query(f"SELECT {MADE_BRIDGE.select()} FROM made_bridge")
        ]
        return {item.device: item for item in found}

    def insert_made_bridge(self, made: MadeBridge) -> None:
        """Remember that dnet makes a bridge; inside a transaction."""
        self._database.execute(MADE_BRIDGE.insertion, MADE_BRIDGE.row(made))

    def forget_made_bridge(self, device: str) -> None:
        """Forget that dnet made a bridge."""
        with self._database.write():
            self._database.execute("DELETE FROM made_bridge WHERE device = ?", (device,))


def read_attachment(columns: Sequence[Any]) -> Attachment:
    """Return the attachment of the columns of `ATTACHMENT.select`, and its details behind them."""
    *own, details = columns
    fields = ATTACHMENT.decode(own) | json.loads(details)
    return Attachment(
        **fields
        | {
            "addresses": tuple(map(ip_interface, fields["addresses"])),
            "gateways": tuple(map(ip_address, fields["gateways"])),
            "vlans": VLANS.read(fields.get("vlans", "")),
        }
    )


def details_of(item: Attachment) -> str:
    """Return what an attachment has besides its columns, as JSON text."""
    fields = {name: value for name, value in vars(item).items() if name not in {*ATTACHMENT.fields, "defaults"}}
    fields |= {name: list(map(str, fields[name])) for name in ("addresses", "gateways")}
    return json.dumps(fields | {"vlans": VLANS.write(item.vlans)})
