"""Builds sandboxes through the C core, lot by lot.

A group without a sandbox goes out on the host socket. Groups with one are built side by side: the C core makes
namespaces on one thread and links on another.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self

from dnet._core import ffi, lib
from dnet.errors import DnetError
from dnet.linux.encode import ends_segment, mac_bytes
from dnet.linux.netlink import (
    TEXT_BYTES,
    Sockets,
    c_text,
    device_name,
    entered,
    has_offloads,
    identity,
    new_batch,
    refusal,
    refused,
)
from dnet.linux.send import Sender
from dnet.linux.threads import LongCall
from dnet.objects.links import Announcement, NoTransmitOffloads
from dnet.objects.object import Absent, Device, Object
from dnet.objects.sandbox import HostSandbox, JoinedSandbox, Sandbox

Progress = Callable[[int], None]

# Calls longer than this many sandboxes run on a thread, so that the caller's can react to signals and report.
SUPERVISED_FROM = 9
PROGRESS_INTERVAL_S = 0.05
# Devices deleted in one message: many enough to share the kernel's grace period of some 17 ms, few enough (0.15 s)
# for Ctrl-C to be heard.
DELETE_TOGETHER = 256
DELETE_GROUP_BASE = 1 << 30


class Builder:
    """Groups that are being created lot by lot: while the kernel works on one, the next can be thought out.

    What goes wrong stops the rest soon after, unless it is to keep going. When the `with` statement is left, by an
    exception too, the kernel has come to rest.
    """

    def __init__(self, sender: Sender, *, keep_going: bool, on_progress: Progress | None) -> None:
        self._sender = sender
        self._keep_going = keep_going
        self._on_progress = on_progress
        self._errors: list[DnetError | None] = []
        self._build: _Build | None = None
        self._places: list[int] = []  # in `_errors`, of the groups of the build that is under way

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop what is under way."""
        if self._build:
            self._build.rest()

    @property
    def has_failed(self) -> bool:
        """Whether no further lots are wanted."""
        return any(self._errors) and not self._keep_going

    def put(self, groups: Sequence[Sequence[Object]]) -> None:
        """Begin with one more lot when all others have been created, unless one has failed."""
        has_sandbox = [any(isinstance(item, Sandbox) for item in group) for group in groups]
        built = [group for group, is_built in zip(groups, has_sandbox, strict=True) if is_built]
        build = _Build(self._sender, built) if built else None
        self._await_rest()
        if self.has_failed:
            return
        start = len(self._errors)
        for group, is_built in zip(groups, has_sandbox, strict=True):
            self._errors.append(None if is_built else self._sender.create_on_host(group))
            if self.has_failed:
                return
        if build:
            self._build = build
            self._places = [start + place for place, is_built in enumerate(has_sandbox) if is_built]
            build.start(keep_going=self._keep_going, is_supervised=bool(self._on_progress))

    def errors(self) -> list[DnetError | None]:
        """Wait until all is created, and return an error or None for each group of the lots that were begun with."""
        self._await_rest()
        return self._errors

    def _await_rest(self) -> None:
        if self._build:
            before, on_progress = self._places[0], self._on_progress
            outcome = self._build.finish(on_progress and (lambda done: on_progress(before + done)))
            self._build = None
            for place, error in zip(self._places, outcome, strict=True):
                self._errors[place] = error


class _Build:
    """One call of the C core's maker: groups encoded into segments, and results mapped back to objects."""

    def __init__(self, sender: Sender, groups: Sequence[Sequence[Object]]) -> None:
        self._sender = sender
        self._groups = groups
        self._sandboxes = [next(item for item in group if isinstance(item, Sandbox)) for group in groups]
        self._array, self._alive = sandbox_array(self._sandboxes)
        self._call = LongCall(ffi.new("struct dnet_control *"), PROGRESS_INTERVAL_S)
        self._text = ffi.new("char[]", TEXT_BYTES)
        self._offloads: dict[str, bool] = {}  # by the bridge's name
        # For each group, the positions in it of the objects of each segment.
        self._positions: list[list[list[int]]] = []
        batch, self._data = new_batch(sum(map(len, groups)))
        for index, group in enumerate(groups):
            self._encode_group(index, group, batch)

    def _encode_group(self, index: int, group: Sequence[Object], batch: Any) -> None:
        segments: list[tuple[int, int]] = []  # kind, first byte
        positions: list[list[int]] = []
        is_open = False
        for position, item in enumerate(group):
            if isinstance(item, Sandbox) or (
                isinstance(item, NoTransmitOffloads) and self._takes_incomplete(item.switch)
            ):
                continue
            made = item.item if isinstance(item, Absent) else item
            is_inside, is_names = isinstance(made, Device) and bool(made.sandbox), isinstance(item, NoTransmitOffloads)
            kind = _SEGMENTS[is_names][is_inside]
            if not is_open or segments[-1][0] != kind:
                segments.append((kind, batch.length))
                positions.append([])
            self._sender.encode(item, batch)
            positions[-1].append(position)
            is_open = not ends_segment(item)
        self._positions.append(positions)
        array = ffi.new("struct dnet_segment[]", len(segments))
        ends = [*(start for _, start in segments), batch.length][1:]
        for target, (kind, start), end, members in zip(array, segments, ends, positions, strict=True):
            target.data = self._data + start
            target.length = end - start
            target.count = len(members)
            target.kind = kind
        self._alive.append(array)
        sandbox = self._array[index]
        sandbox.make = _MAKE[type(self._sandboxes[index])]
        sandbox.segments = array
        sandbox.segment_count = len(segments)

    def _takes_incomplete(self, switch: str) -> bool:
        if switch not in self._offloads:
            self._offloads[switch] = has_offloads(self._sender.sockets, switch)
        return self._offloads[switch]

    def start(self, *, keep_going: bool, is_supervised: bool) -> None:
        """Begin to build; a few, of which nobody wants to hear, are built by the time that this returns."""
        fd, count = self._sender.sockets.open(is_for_builder=True), len(self._groups)
        control, text = self._call.control, self._text
        self._call.start(
            lambda: lib.dnet_build(fd, self._array, count, keep_going, control, text, TEXT_BYTES),
            is_short=count < SUPERVISED_FROM and not is_supervised,
        )

    def rest(self) -> None:
        """Stop, and return when all has come to rest."""
        self._call.rest()

    def finish(self, on_progress: Progress | None) -> list[DnetError | None]:
        """Wait, and return an error or None for each group; those not reached have None."""
        code = self._call.finish(on_progress)
        if code:
            raise refusal("build sandboxes", -code, "")
        words = c_text(self._text)
        outcome = [self._error(index, words) if item.error else None for index, item in enumerate(self._array)]
        for group, error in zip(self._groups, outcome, strict=True):
            if not error:
                _advertise(group)
        return outcome

    def _error(self, index: int, text: str) -> DnetError:
        sandbox = self._array[index]
        if sandbox.failed_segment < 0:
            return refused(self._sandboxes[index], -sandbox.error, text)
        position = self._positions[index][sandbox.failed_segment][sandbox.failed_message]
        return refused(self._groups[index][position], -sandbox.error, text)


# By whether a segment is names of devices, and whether it is for the inside of the sandbox.
_SEGMENTS = ((lib.DNET_TO_HOST, lib.DNET_TO_SANDBOX), (lib.DNET_NAMES_ON_HOST, lib.DNET_NAMES_IN_SANDBOX))
_MAKE: dict[type[Object], int] = {
    Sandbox: lib.DNET_MAKE,
    HostSandbox: lib.DNET_PIN_OWN,
    JoinedSandbox: lib.DNET_ENTER,
}


def _advertise(group: Sequence[Object]) -> None:
    """Tell neighbours about IPv6 addresses. Nobody is worse off for not being told, so that a failure is none."""
    for item in group:
        if isinstance(item, Announcement) and item.addresses6:
            sandbox = next(other for other in group if isinstance(other, Sandbox))
            addresses = b"".join(address.packed for address in item.addresses6)
            with suppress(DnetError), entered(sandbox) as (namespace, _):
                lib.dnet_advertise(namespace, item.index, mac_bytes(item.mac), addresses, len(item.addresses6))


def sandbox_array(sandboxes: Sequence[Sandbox]) -> tuple[Any, list[Any]]:
    """Return the C array, and what must be kept alive with it."""
    array = ffi.new("struct dnet_sandbox[]", len(sandboxes))
    alive: list[Any] = []
    for target, item in zip(array, sandboxes, strict=True):
        pin = ffi.new("char[]", os.fsencode(item.path))
        name = ffi.new("char[]", os.fsencode(item.name_path)) if item.name_path else ffi.NULL
        target.pin = pin
        target.name = name
        target.inode, target.cookie = identity(item)
        alive += (pin, name)
    return array, alive


def supervise(work: Callable[[Any], int], count: int, on_progress: Progress | None) -> int:
    """Run work on so many things, which takes its control structure, such that signals are heard meanwhile."""
    call = LongCall(ffi.new("struct dnet_control *"), PROGRESS_INTERVAL_S)
    with call:
        call.start(lambda: work(call.control), is_short=count < SUPERVISED_FROM and on_progress is None)
        return call.finish(on_progress)


# Deleting


def unpin(sandboxes: Sequence[Sandbox], on_progress: Progress | None) -> None:
    """Remove sandboxes: their pins and names, and with the last process in them the namespaces."""
    array, _alive = sandbox_array(sandboxes)
    code = supervise(lambda control: lib.dnet_unpin(array, len(sandboxes), control), len(sandboxes), on_progress)
    if code:
        raise refusal("remove sandboxes", -code, "")
    for item, result in zip(sandboxes, array, strict=True):
        if result.error:
            raise refusal(f"remove {item}", -result.error, "")


def delete_devices(sockets: Sockets, devices: Sequence[Device]) -> None:
    """Delete those that are still there: gathered into a group that the kernel deletes at one stroke.

    Explicitly, although a veth goes with its sandbox: that happens later and only when no process is left in it.
    """
    left = [item for item in devices if item.device and device_name(item.index) == item.device]

    def work(control: Any) -> int:
        for start in range(0, len(left), DELETE_TOGETHER):
            if control.cancel:
                return -errno.ECANCELED
            _delete_together(sockets, left[start : start + DELETE_TOGETHER])
        return 0

    supervise(work, len(left), None)


def _delete_together(sockets: Sockets, devices: Sequence[Device]) -> None:
    batch, _data = new_batch(len(devices) + 1)
    if len(devices) == 1:
        lib.dnet_put_delete(batch, devices[0].index)
    else:
        group = DELETE_GROUP_BASE + devices[0].index % DELETE_GROUP_BASE
        for item in devices:
            lib.dnet_put_group(batch, item.index, group)
        lib.dnet_put_delete_group(batch, group)
    codes, text = sockets.transact(batch)
    for index, code in enumerate(codes):
        if code not in (0, -errno.ENODEV):
            raise refusal(f"delete {devices[min(index, len(devices) - 1)]}", -code, text)
