"""The inverse of objects inside a sandbox: what to create so that they are gone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dnet.objects.host import ForeignState
from dnet.objects.links import Dummy, Macvlan, MovedDevice, ReturnedDevice, Veth
from dnet.objects.object import Absent, Device, Object
from dnet.objects.routes import DisplacedRoute, Route
from dnet.objects.sandbox import JoinedSandbox, Sandbox


def inner_index(item: Object) -> int:
    """Return the index of the device that an object brings into a sandbox, 0 when it brings none."""
    match item:
        case Veth() | Macvlan() | MovedDevice():
            return item.peer_index
        case Dummy():
            return item.index
        case _:
            return 0


def absence(item: Object) -> Object | None:
    """Return what to create inside a sandbox so that an object is gone; None if it goes with another object."""
    found: Object | None = None
    match item:
        case Route():
            found = Absent(item)
        case Macvlan():
            found = Absent(Device(item.peer, item.peer_index, item.peer_sandbox))
        case Dummy():
            found = Absent(Device(item.device, item.index, item.sandbox))
        case MovedDevice():
            found = ReturnedDevice(item.peer, item.peer_index, item.peer_sandbox, item.device, item.index)
        case DisplacedRoute():
            found = ForeignState(item.device, item.index, item.sandbox, item.text, item.message)
    return found


def of_group(group: Iterable[Object]) -> tuple[Object, ...]:
    """Return the sandbox of a group, to be entered, and what to make in it when the group is deleted."""
    items = list(group)
    sandboxes = [JoinedSandbox.of(item) for item in items if isinstance(item, Sandbox)]
    return (
        (*sandboxes, *filter(None, (absence(item) for item in reversed(items) if not item.owned))) if sandboxes else ()
    )


def of_change(sandbox: Sequence[Object], gone: Sequence[Object]) -> tuple[Object, ...]:
    """Return the sandbox, and what has to be made in it so that nothing of `gone` is left.

    Routes that go with their device are left to that; but where another route is put back in its place, a default
    route goes first, so that there is one at every moment.
    """
    devices = {index for item in gone for index in (inner_index(item),) if index}
    is_put_back = any(isinstance(item, DisplacedRoute) for item in gone)

    def is_wanted(item: Object) -> bool:
        if not isinstance(item, Route):
            return not item.owned
        is_default = item.destination.prefixlen == 0
        return item.index not in devices or (is_default and is_put_back)

    return (*sandbox, *filter(None, (absence(item) for item in reversed(gone) if is_wanted(item))))
