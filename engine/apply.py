"""Creates and deletes groups of objects. Rank 5, IO.

Each group is the tuple of one network or of one sandbox with its endpoints. Backends work in the order files, nftables,
connection tracking, kernel, so that a sandbox is never reachable without its rules. Deletion begins with the kernel,
then come the rules, and connection tracking is last: as long as a rule stands, traffic makes new entries.

Undoing is deleting: what is missing already is no failure, and what is not ours (another index under our name, a
name that leads elsewhere) is left alone, so it does not matter how far a creation came.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import TypeVar

from dnet import files, nat
from dnet.background import Background
from dnet.errors import DnetError, KernelRefused, Unsupported
from dnet.kernel import Kernel, Progress
from dnet.nft import Nft
from dnet.objects import Flows, NftTable, Object

Group = Sequence[Object]
E = TypeVar("E", bound=BaseException)


class Applier:
    """Objects in, objects out, through the backends it is given."""

    def __init__(self, kernel: Kernel, nft: Nft, all_rules: Callable[[], Sequence[Object]]) -> None:
        """Work through `kernel` and `nft`; `all_rules` tells what the table holds when all is well."""
        self._kernel = kernel
        self._nft = nft
        self._all_rules = all_rules
        # Groups whose nftables transaction was refused: nothing of it exists, and what has their keys is others'.
        self._refused: list[Group] = []

    def create(
        self, groups: Sequence[Group], *, keep_going: bool = False, on_progress: Progress | None = None
    ) -> list[DnetError | None]:
        """Create every group and return an error or None for each.

        Without `keep_going` the first failure is raised, and what exists by then is left to `undo`; with it, the
        groups that failed are removed.
        """
        self._nft.prepare()  # its descriptor has to be a low one
        files.create(item for group in groups for item in group if item.backend == "files")
        try:
            self.create_rules([item for group in groups for item in group if item.backend == "nft"])
        except DnetError:
            self._refused = list(groups)
            raise
        self._kernel.drop_flows(_flows(groups), is_new=True)
        parts = [[item for item in group if item.backend == "kernel"] for group in groups]
        errors = self._kernel.create(parts, keep_going=keep_going, on_progress=on_progress)
        failed = [group for group, error in zip(groups, errors, strict=False) if error]
        first = next(filter(None, errors), None)
        if first and not keep_going:
            raise first
        try:
            self.delete(failed)
        except DnetError as error:
            raise _noted(first or error, error) from error
        return errors

    def undo(self, cause: BaseException, groups: Sequence[Group], afterwards: Callable[[], None]) -> None:
        """Remove what a failed creation left, then call `afterwards`; further interrupts do not stop it.

        What goes wrong in that is noted on the cause and hides nothing; `afterwards` is not called then, so that what
        is left remains on record.
        """

        def work() -> None:
            try:
                self._delete(groups, None, is_rollback=True)
                afterwards()
            except Exception as error:  # noqa: BLE001  whatever it is, the cause is what gets raised
                _noted(cause, error)

        background = Background(work)
        try:
            background.start()
        finally:
            background.wait_uninterrupted()

    def delete(self, groups: Sequence[Group], *, on_progress: Progress | None = None) -> None:
        """Delete the un-owned objects of every group; what is missing already is no failure."""
        self._delete(groups, on_progress, is_rollback=False)

    def _delete(self, groups: Sequence[Group], on_progress: Progress | None, *, is_rollback: bool) -> None:
        if not groups:
            return
        parts = [[item for item in group if item.backend == "kernel"] for group in groups]
        self._kernel.delete(parts, is_rollback=is_rollback, on_progress=on_progress)
        made = [group for group in groups if not any(group is refused for refused in self._refused)]
        self._refused = []
        self.delete_rules([item for group in made for item in group if item.backend == "nft"])
        self._kernel.drop_flows(_flows(groups), is_new=False)
        files.delete([item for group in groups for item in group if item.backend == "files"])

    def create_rules(self, rules: Sequence[Object]) -> None:
        """Add nftables objects in one transaction; those that exist already stay.

        When somebody has flushed the ruleset, the table is made again with all that belongs into it.
        """
        try:
            self._nft.run(nat.commands(rules, "add"), "set up nftables")
        except KernelRefused as error:
            if error.errno != errno.ENOENT or self._nft.has_table(nat.TABLE):
                raise
            self._nft.run(nat.commands([*self._all_rules(), *rules], "add"), "set up nftables")

    def delete_rules(self, rules: Sequence[Object]) -> None:
        """Delete nftables objects in one transaction, or, when some are missing, one by one.

        The table goes last, and stays when another engine on this host has networks in it.
        """
        elements = [item for item in rules if not isinstance(item, NftTable)]
        try:
            self._nft.run(nat.commands(elements, "delete"), "remove nftables elements")
        except Unsupported:
            return  # where there is no nftables, there are no rules
        except KernelRefused:
            for item in elements:
                self._delete_rule(item)
        for item in rules:
            if isinstance(item, NftTable) and not self._nft.has_elements(nat.TABLE, "bridges"):
                self._delete_rule(item)

    def _delete_rule(self, item: Object) -> None:
        try:
            self._nft.run(nat.commands([item], "delete"), f"remove {item}")
        except KernelRefused as error:
            if error.errno != errno.ENOENT:
                raise


def _flows(groups: Sequence[Group]) -> list[Flows]:
    return [item for group in groups for item in group if isinstance(item, Flows)]


def _noted(cause: E, error: Exception) -> E:
    """Return `cause` with a note of what went wrong while it was undone."""
    if error is not cause:
        cause.add_note(f"and while undoing it: {error}")
    return cause
