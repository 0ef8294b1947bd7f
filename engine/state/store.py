"""What dnet remembers: the tables of its database, and who works on which rows.

Intent first: a row is inserted in phase `creating`, the kernel work is done without an open transaction, then the row
becomes `ready`. Deletion goes through `deleting`. A row that is not ready names its owner, a file that the owner's
process holds locked. When that process has died, the next writer removes what it left unfinished.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dnet.errors import Conflict
from dnet.model.container import Container
from dnet.model.network import Network
from dnet.model.record import ContainerHead, LeftBehind
from dnet.state.adoptions import Adoptions
from dnet.state.attachments import Attachments
from dnet.state.containers import Containers, changed
from dnet.state.database import Database, chunks
from dnet.state.networks import Networks
from dnet.state.schema import INDEX_BITS
from dnet.state.table import Table

LEFT_BEHIND = Table("left_behind", LeftBehind, replaces=True)
_OWNED = ("container", "network")


class Store(Database):
    """All that dnet remembers: a class for each table, and what concerns several of them."""

    def __init__(self, directory: str, run_directory: str) -> None:
        super().__init__(directory)
        self.networks = Networks(self)
        self.containers = Containers(self, self.networks, run_directory)
        self.attachments = Attachments(self)
        self.adoptions = Adoptions(self)

    # Owners

    def is_busy(self, container_id: str) -> bool:
        """Whether another process is working on a container."""
        owner = self.text("SELECT owner FROM container WHERE id = ? AND phase <> 'ready'", (container_id,))
        return bool(owner) and self.is_alive(owner)

    def owns_rows(self, owner: str) -> bool:
        """Whether an operation has reserved rows that are not ready yet."""
        sql = "SELECT 1 FROM container WHERE owner = ?1 UNION SELECT 1 FROM network WHERE owner = ?1"
        return bool(self.query(sql, (owner,)))

    def abandoned(self) -> tuple[list[Container], list[Container], list[Network]]:
        """Return what dead owners left: half-made containers, containers half changed, half-made networks."""
        sql = (
            "SELECT owner FROM container WHERE phase <> 'ready' UNION SELECT owner FROM network WHERE phase <> 'ready'"
        )
        owners = [row["owner"] for row in self.query(sql) if not self.is_alive(row["owner"])]
        containers: list[Container] = []
        changing: list[Container] = []
        networks: list[Network] = []
        for owner in owners:
            containers += self.containers.where("WHERE c.phase IN ('creating', 'deleting') AND c.owner = ?", (owner,))
            changing += self.containers.where("WHERE c.phase = 'changing' AND c.owner = ?", (owner,), is_whole=True)
            networks += self.networks.where("WHERE phase <> 'ready' AND owner = ?", (owner,))
        return containers, changing, networks

    def starter(self) -> str:
        """Return the owner of containers that are ready, and whose processes this process is to start."""
        return f"{self.process_name()}.start"

    def is_start_abandoned(self, container_id: str) -> bool:
        """Whether the process that was to start a container's has died."""
        owner = self.text("SELECT owner FROM container WHERE id = ? AND phase = 'ready'", (container_id,))
        return bool(owner) and not self.is_own(owner) and not self.is_alive(owner)

    def forget_owned(self, owner: str) -> None:
        """Remove what an operation had reserved and did not finish."""
        with self.write():
            for table in _OWNED:
                self.execute(f"DELETE FROM {table} WHERE owner = ? AND phase IN ('creating', 'deleting')", (owner,))

    # Phases

    def set_phase(self, table: str, identities: Iterable[str], phase: str, owner: str = "") -> None:
        """Give rows another phase, and those of `container` and `network` another owner; inside a transaction."""
        sql = f"UPDATE {table} SET phase = ?" + (", owner = ? WHERE" if table in _OWNED else " WHERE phase <> ? AND")
        for chunk, marks in chunks(identities):
            self.execute(f"{sql} id IN ({marks})", (phase, owner if table in _OWNED else phase, *chunk))

    def check_not_changing(self, containers: Iterable[Container | ContainerHead]) -> None:
        """Raise Conflict when another process is changing one of some containers; inside a transaction."""
        # The first condition is that of an index.
        found = self.query("SELECT id, owner FROM container WHERE phase <> 'ready' AND phase = 'changing'")
        owners = {row["id"]: row["owner"] for row in found}
        for item in containers if owners else ():
            if item.id in owners and self.is_alive(owners[item.id]):
                sentence = f"container {item.name} is being changed by another dnet process"
                raise Conflict(sentence, object=item.name, hint="try again when that has ended")

    def check_ready(self, containers: Sequence[Container | ContainerHead]) -> None:
        """Raise as `check_not_changing` does, or when one is gone, or half changed by a process that was killed.

        The next command needs the record of such a half change. A container that this process has marked as changing
        passes. Inside a transaction.
        """
        self.check_not_changing(containers)
        free: set[str] = set()
        for chunk, marks in chunks(item.id for item in containers):
            for row in self.query(f"SELECT id, phase, owner FROM container WHERE id IN ({marks})", chunk):
                is_ours = row["phase"] == "changing" and self.is_own(row["owner"])
                free.update([row["id"]] if is_ours or row["phase"] == "ready" else ())
        for item in containers:
            if item.id not in free:
                raise changed(item.name)

    def check_current(self, containers: Sequence[Container]) -> None:
        """Raise as `check_not_changing` does, or when one has other interfaces than when it was read.

        Inside a transaction.
        """
        self.check_not_changing(containers)
        names = {item.id: item.name for item in containers}
        known = {(endpoint.id, item.id) for item in containers for endpoint in item.endpoints}
        known |= {(attachment.id, item.id) for item in containers for attachment in item.attachments}
        for chunk, marks in chunks(names):
            sql = f"SELECT id, container_id FROM endpoint WHERE container_id IN ({marks})"
            known ^= set(map(tuple, self.query(f"{sql} UNION ALL {sql.replace('endpoint', 'attachment')}", chunk * 2)))
        if known:
            raise changed(names[min(known)[1]])

    def check_not_joined(self, containers: Sequence[Container | ContainerHead], network_id: str) -> None:
        """Raise Conflict when one that was on no such network before is on it now; inside a transaction."""
        joined = set(self.networks.member_names(network_id))
        for item in containers if joined else ():
            if item.name in joined:
                raise changed(item.name)

    def delete(self, table: str, identities: Iterable[str]) -> None:
        """Remove rows, with a container all that belongs to it; inside a transaction."""
        for chunk, marks in chunks(identities):
            self.execute(f"DELETE FROM {table} WHERE id IN ({marks})", chunk)

    def forget(self, table: str, identities: Iterable[str]) -> None:
        """Remove rows as `delete` does, in a transaction of its own."""
        with self.write():
            self.delete(table, identities)

    # Interface indexes

    def take_indexes(self, count: int) -> list[int]:
        """Return `count` unused interface indexes; inside a transaction."""
        base, mask = self.setting("index_base"), (1 << INDEX_BITS) - 1
        if not base:
            raise self.damaged(ValueError("setting index_base is missing"))
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
        """Return the interface indexes from `start` on, and below `end`, that are in use."""
        found = self.query(
            "SELECT host_index FROM endpoint WHERE host_index >= ?1 AND host_index < ?2 "
            "UNION SELECT device_index FROM network WHERE device_index >= ?1 AND device_index < ?2 "
            "UNION SELECT host_index FROM attachment WHERE host_index >= ?1 AND host_index < ?2 "
            "UNION SELECT device_index FROM made_bridge WHERE device_index >= ?1 AND device_index < ?2",
            (start, end),
        )
        return {row[0] for row in found}

    # Open vSwitch

    def uses_switch(self) -> bool:
        """Whether any network, or anything attached by hand, is on Open vSwitch."""
        sql = (
            "SELECT 1 FROM network WHERE driver = 'ovs' UNION ALL "
            """SELECT 1 FROM attachment WHERE details LIKE '%"kind": "ovs"%' LIMIT 1"""
        )
        return bool(self.query(sql))

    def left_behind(self) -> list[LeftBehind]:
        """Return what remains in an Open vSwitch database that could not be reached, and belongs to nothing here."""
        found = self.query(f"SELECT {LEFT_BEHIND.select()} FROM left_behind ORDER BY bridge, name")
        return [LEFT_BEHIND.read(row) for row in found]

    def leave_behind(self, items: Iterable[LeftBehind]) -> None:
        """Remember what is to be removed when its database can be reached; inside a transaction."""
        self.execute_many(LEFT_BEHIND.insertion, [LEFT_BEHIND.row(item) for item in items])

    def forget_left_behind(self, items: Iterable[LeftBehind]) -> None:
        """Forget what has been removed; inside a transaction."""
        marks = [(item.name, item.mark) for item in items]
        self.execute_many("DELETE FROM left_behind WHERE name = ? AND mark = ?", marks)
