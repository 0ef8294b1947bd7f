"""Host interfaces that are uplinks of a network."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dnet.model.record import Adoption
from dnet.state.database import Database
from dnet.state.table import Table

ADOPTION = Table("adoption", Adoption, replaces=True)


class Adoptions:
    """The table of adopted interfaces: those that are ports of a network's bridge."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self, network_ids: Collection[str] | None = None) -> list[Adoption]:
        """Return the adopted interfaces of some networks, or of all, in whatever phase."""
        found = self._database.query(f"SELECT {ADOPTION.select()} FROM adoption ORDER BY interface")
        with self._database.decoding():
            adopted = [ADOPTION.read(row) for row in found]
        return [item for item in adopted if network_ids is None or item.network_id in network_ids]

    def get(self, interface: str) -> Adoption | None:
        """Return the adoption of an interface; None when it is not adopted."""
        return next((item for item in self.all() if item.interface == interface), None)

    def abandoned(self) -> list[Adoption]:
        """Return the adoptions left unfinished by a process that died."""
        return [item for item in self.all() if item.phase != "ready" and not self._database.is_alive(item.owner)]

    def put(self, item: Adoption) -> None:
        """Insert or replace the adoption of an interface; inside a transaction."""
        self._database.execute(ADOPTION.insertion, ADOPTION.row(item))

    def move(self, interface: str, phases: Sequence[str], phase: str, owner: str = "") -> bool:
        """Give an adoption another phase if it is in one of `phases`; return whether it was. Inside a transaction."""
        marks = ",".join("?" * len(phases))
        done = self._database.execute(
            f"UPDATE adoption SET phase = ?, owner = ? WHERE interface = ? AND phase IN ({marks})",
            (phase, owner, interface, *phases),
        )
        return done.rowcount > 0

    def delete(self, interface: str) -> None:
        """Forget an adopted interface; inside a transaction."""
        self._database.execute("DELETE FROM adoption WHERE interface = ?", (interface,))
