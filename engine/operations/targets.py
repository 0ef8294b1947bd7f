"""Targets in the user's words, and the containers that they mean. Nothing is changed here."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

from dnet.errors import InvalidRequest
from dnet.model.container import MODE_FOREIGN, Container, Settings
from dnet.model.values import replace
from dnet.operations.inside import check_own_sandbox
from dnet.transaction.context import Context
from dnet.transaction.identity import new_id

if TYPE_CHECKING:
    from dnet.runtime.targets import Target


class Lookup(NamedTuple):
    """The container that a text means, as it is stored; a new one is not stored yet."""

    container: Container
    target: Target | None = None  # what the text means now; None for containers of dnet's own
    is_new: bool = False

    @property
    def is_stale(self) -> bool:
        """Whether the container has another namespace now than the one that is stored."""
        target = self.target
        return target is not None and _identity(self.container) != (target.inode, target.cookie)


def look_up(context: Context, text: str) -> Lookup:
    """Find the container that a text means: one of dnet's own, or a foreign one."""
    if _may_be_own(text) and context.store.containers.find(text):
        return Lookup(check_own_sandbox(context.store.containers.get(text)))
    from dnet.runtime import targets

    target = targets.find(text)
    known = _known(context, target)
    if known:
        return Lookup(known, target)
    own = _own_at(context, target)
    return Lookup(own) if own else Lookup(_container(target), target, is_new=True)


def remembered(context: Context, text: str) -> Container | None:
    """Return the stored container that a text means, whether or not it still exists; None if none is stored."""
    if _may_be_own(text) and context.store.containers.find(text):
        return context.store.containers.get(text)
    known = [item for item in context.store.containers.foreign() if _is_called(item, text)]
    if len(known) > 1:
        names = ", ".join(item.name for item in known)
        raise InvalidRequest(f"{text} may be any of {names}", object=text, hint="write the name in full")
    return known[0] if known else None


def _known(context: Context, target: Target) -> Container | None:
    """Return the stored foreign container of the same namespace, or else of the same reference."""
    known = context.store.containers.foreign()
    same = [item for item in known if _identity(item) == (target.inode, target.cookie)]
    same += [
        item
        for item in known
        if reference_of(item) == (target.kind, target.reference)
        and (target.kind != "pid" or item.target["started"] == target.started)
    ]
    return same[0] if same else None


def _own_at(context: Context, target: Target) -> Container | None:
    """Return dnet's own container whose sandbox a process is in, or a path is of."""
    from dnet.runtime import targets

    if target.kind not in {targets.PATH, targets.PID}:
        return None
    own = [item for item in context.store.containers.all() if not item.target and not item.shares]
    return next((check_own_sandbox(item) for item in own if _inode(item.sandbox) == target.inode), None)


def at_target(container: Container, target: Target) -> Container:
    """Return a container with the name and the namespace that a target has now."""
    return replace(container, name=f"{target.kind}:{target.name}", sandbox=target.path, target=asdict(target))


def _container(target: Target) -> Container:
    return at_target(
        Container(
            id=new_id(),
            name="",
            mode=MODE_FOREIGN,
            sandbox="",
            files="",
            settings=Settings(hostname=""),
            created=time.time(),
            status="",
            mtu=0,
            labels={},
            publish_all=False,
            exposed=(),
            ports=(),
            endpoints=(),
        ),
        target,
    )


def _may_be_own(text: str) -> bool:
    return "/" not in text and ":" not in text


def _identity(container: Container) -> tuple[int, int]:
    return container.target["inode"], container.target["cookie"]


def reference_of(container: Container) -> tuple[str, str]:
    """Return kind and reference of a foreign container."""
    return container.target["kind"], container.target["reference"]


def _is_called(container: Container, text: str) -> bool:
    """Whether a text is the name or the id of a foreign container, with or without the kind before it."""
    kind, reference = reference_of(container)
    given, _, rest = text.rpartition(":")
    if given and given != kind:
        return False
    return rest in {container.target["name"], reference} or (kind not in {"path", "pid"} and reference.startswith(rest))


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0
