"""Rollback of a failed change, which no interrupt stops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dnet.linux.threads import Background
from dnet.transaction.apply import delete_groups, noted
from dnet.transaction.context import Context, Group


@contextmanager
def reverting(back: Callable[[], object], afterwards: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Run the block; when it fails, take the change back by `back`, then call `afterwards`.

    Further interrupts do not stop the rollback. What goes wrong in it is noted on the failure and does not hide that;
    `afterwards` is not called then, so that what is left remains on record.
    """
    try:
        yield
    except BaseException as cause:
        _run_uninterrupted(cause, back, afterwards)
        raise


def _run_uninterrupted(cause: BaseException, back: Callable[[], object], afterwards: Callable[[], object]) -> None:
    def work() -> None:
        try:
            back()
            afterwards()
        except Exception as error:  # noqa: BLE001  whatever it is, the cause is what gets raised
            noted(cause, error)

    background = Background(work)
    try:
        background.start()
    finally:
        background.wait_uninterrupted()


@contextmanager
def undoing(context: Context, owner: str) -> Iterator[list[Group]]:
    """Yield a list for the groups that the block creates; when it fails, delete them and what `owner` reserved."""
    groups: list[Group] = []

    def back() -> None:
        # Nothing was reserved, or all of it was finished before the interrupt came, when the owner has no rows.
        if context.store.owns_rows(owner):
            delete_groups(context, groups, is_rollback=True)
            context.store.forget_owned(owner)

    with reverting(back):
        yield groups
