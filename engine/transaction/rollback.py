"""Rollback of what has failed, whatever interrupts it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from dnet.linux.threads import Background
from dnet.transaction.apply import delete_all, noted
from dnet.transaction.context import Context, Group


def undo(context: Context, cause: BaseException, groups: Sequence[Group], afterwards: Callable[[], None]) -> None:
    """Remove what a failed creation left, then call `afterwards`; further interrupts do not stop it.

    What goes wrong in that is noted on the cause and hides nothing; `afterwards` is not called then, so that what
    is left remains on record.
    """
    undo_change(cause, lambda: delete_all(context, groups, None, is_rollback=True), afterwards)


def undo_change(cause: BaseException, back: Callable[[], object], afterwards: Callable[[], None]) -> None:
    """Take back by `back` what has failed, such as by the change the other way round; otherwise as `undo`."""

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
def reverting(back: Callable[[], object], afterwards: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Run the block; when it fails, take the change back by `back` and call `afterwards`, whatever interrupts."""
    try:
        yield
    except BaseException as error:
        undo_change(error, back, afterwards)
        raise


@contextmanager
def undoing(context: Context, owner: str) -> Iterator[list[Group]]:
    """Yield a list for the groups that the block creates; when it fails, remove them and what `owner` reserved."""
    groups: list[Group] = []
    try:
        yield groups
    except BaseException as error:
        if not context.store.owns_rows(owner):
            raise  # nothing was reserved, or all of it was finished before the interrupt came
        undo(context, error, groups, lambda: context.store.forget_owned(owner))
        raise
