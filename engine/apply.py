"""Creates and deletes groups of objects, all or nothing. Rank 5, IO.

Each group is the tuple of one network or of one sandbox with its endpoints. Backends work in the order nftables,
connection tracking, kernel, so that a sandbox is never reachable without its rules. Deletion begins with the kernel,
then come the rules, and connection tracking is last: as long as a rule stands, traffic makes new entries.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Sequence

from dnet import nat
from dnet.errors import DnetError, KernelRefused
from dnet.kernel import Kernel, Outcome, Progress, join_uninterrupted
from dnet.nft import Nft
from dnet.objects import Flows, Object

Group = Sequence[Object]


class Applier:
    """Objects in, objects out, through the backends it is given."""

    def __init__(self, kernel: Kernel, nft: Nft) -> None:
        self._kernel = kernel
        self._nft = nft

    def create(
        self, groups: Sequence[Group], *, keep_going: bool = False, on_progress: Progress | None = None
    ) -> list[DnetError | None]:
        """Create every group and return an error or None for each.

        Without `keep_going` the first failure removes everything again and is raised; with it, only the groups
        that failed are removed. An exception from outside (Ctrl-C, `on_progress`) removes everything too.
        """
        self._nft.prepare()  # its descriptor has to be a low one
        rules = [item for group in groups for item in group if item.backend == "nft"]
        parts = [[item for item in group if item.backend == "kernel"] for group in groups]
        outcomes: list[Outcome] = []
        self.create_rules(rules)
        try:
            self._kernel.drop_flows(_flows(groups), is_new=True)
            self._kernel.create(parts, outcomes, keep_going=keep_going, on_progress=on_progress)
            first = next((outcome.error for outcome in outcomes if outcome.error), None)
            if first and not keep_going:
                raise first
        except BaseException as error:
            made = [part[: outcome.created] for part, outcome in zip(parts, outcomes, strict=False)]
            self._roll_back(error, made, rules)
            raise
        failed = [index for index, outcome in enumerate(outcomes) if outcome.error]
        if failed:
            self._kernel.delete([parts[index][: outcomes[index].created] for index in failed], is_rollback=True)
            self.delete_rules([item for index in failed for item in groups[index] if item.backend == "nft"])
        return [outcome.error for outcome in outcomes]

    def delete(self, groups: Sequence[Group], *, on_progress: Progress | None = None) -> None:
        """Delete the un-owned objects of every group; what is missing already is no failure."""
        parts = [[item for item in group if item.backend == "kernel" and not item.owned] for group in groups]
        self._kernel.delete(parts, on_progress=on_progress)
        self.delete_rules([item for group in groups for item in group if item.backend == "nft"])
        self._kernel.drop_flows(_flows(groups), is_new=False)

    def create_rules(self, rules: Sequence[Object]) -> None:
        """Add nftables objects in one transaction; those that exist already stay."""
        self._nft.run(nat.commands(rules, "add"), "set up nftables")

    def delete_rules(self, rules: Sequence[Object]) -> None:
        """Delete rules in one transaction, or, when some are missing, one by one."""
        commands = nat.commands(rules, "delete")
        try:
            self._nft.run(commands, "remove nftables elements")
        except DnetError:
            for item in rules:
                try:
                    self._nft.run(nat.commands([item], "delete"), f"remove {item}")
                except KernelRefused as error:
                    if error.errno != errno.ENOENT:
                        raise

    def _roll_back(self, cause: BaseException, made: Sequence[Group], rules: Sequence[Object]) -> None:
        """Remove what a failed create left; whatever goes wrong in that is noted on the cause."""

        def remove(step: Callable[[], None]) -> None:
            try:
                step()
            except DnetError as error:
                cause.add_note(f"and while undoing it: {error}")

        def work() -> None:
            remove(lambda: self._kernel.delete(made, is_rollback=True))
            remove(lambda: self.delete_rules(rules))

        thread = threading.Thread(target=work, name="dnet-rollback")
        thread.start()
        join_uninterrupted(thread)


def _flows(groups: Sequence[Group]) -> list[Flows]:
    return [item for group in groups for item in group if isinstance(item, Flows)]
