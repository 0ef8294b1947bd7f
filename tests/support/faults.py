"""Faults on demand: a kernel, an nftables and files that refuse one thing of those they are told."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from dnet.errors import KernelRefused
from dnet.linux import files
from dnet.linux.builder import Builder, Progress
from dnet.linux.kernel import Kernel
from dnet.linux.nftables import Nft
from dnet.linux.send import Sender
from dnet.linux.sysctl import Sysctls
from dnet.objects.host import Flows, Forwarding
from dnet.objects.object import Object
from dnet.objects.sandbox import Sandbox
from dnet.state.store import Store

# A message type beyond every one that rtnetlink has: the kernel answers EOPNOTSUPP.
ABSENT_TYPE = 0x7FFF


class _FaultyBuilder(Builder):
    def put(self, groups: Sequence[Sequence[Object]]) -> None:
        sender = self._sender
        assert isinstance(sender, _FaultySender)
        super().put([[sender.kernel.count(item) for item in group] for group in groups])


class _FaultySender(Sender):
    """Spoils the object that its kernel refuses."""

    def __init__(self, kernel: FaultyKernel, sender: Sender) -> None:
        super().__init__(sender.sockets, kernel.sysctls)
        self.kernel = kernel

    def encode(self, item: Object, batch: Any) -> None:
        """Append the object's message, with a type that does not exist if it is the one."""
        start = batch.length
        super().encode(item, batch)
        if item is self.kernel.refused:
            # nlmsg_type follows nlmsg_len (linux/netlink.h).
            batch.data[start + 4], batch.data[start + 5] = struct.pack("=H", ABSENT_TYPE)

    def perform(self, item: Object) -> None:
        """Make so what no message can, unless that is what shall fail."""
        if item is self.kernel.refused:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        super().perform(item)


class _FaultySysctls(Sysctls):
    def __init__(self, kernel: FaultyKernel, on_notice: Callable[[str], None]) -> None:
        super().__init__(on_notice)
        self._kernel = kernel

    def switch_forwarding(self, version: int) -> None:
        """Switch forwarding on, unless that is what shall fail."""
        refused = self._kernel.refused
        if isinstance(refused, Forwarding) and refused.version == version:
            raise KernelRefused(f"create {refused}", errno.EROFS)
        super().switch_forwarding(version)


class FaultyKernel(Kernel):
    """A kernel that refuses one object: number `fail_at`, counted from 0, of those that it is told to create.

    The object's message reaches the real kernel spoiled; a sandbox gets a pin that cannot be made. Or else, number
    `fail_at_flows` of the calls that clear the way of flows fails.
    """

    def __init__(self, on_notice: Callable[[str], None], fail_at: int = -1, *, fail_at_flows: int = -1) -> None:
        super().__init__(on_notice)
        self._countdown = fail_at
        self._flows_countdown = fail_at_flows
        self.refused: Object | None = None
        self.sysctls = _FaultySysctls(self, on_notice)
        self.sender = _FaultySender(self, self.sender)

    def builder(self, *, keep_going: bool = False, on_progress: Progress | None = None) -> Builder:
        """Return what creates the groups with the fault in them, if it falls there."""
        return _FaultyBuilder(self.sender, keep_going=keep_going, on_progress=on_progress)

    def count(self, item: Object) -> Object:
        """Return an object, or what is refused in its place."""
        self._countdown -= 1
        if self._countdown != -1:
            return item
        self.refused = replace(item, path=f"{item.path}/absent") if isinstance(item, Sandbox) else item
        return self.refused

    def drop_flows(self, items: Sequence[Flows], *, is_new: bool) -> None:
        """Drop connection tracking entries, or refuse."""
        if is_new and items:
            self._flows_countdown -= 1
            if self._flows_countdown == -1:
                self.refused = items[0]
                raise KernelRefused(f"create {items[0]}", errno.ENOMEM)
        super().drop_flows(items, is_new=is_new)


@contextlib.contextmanager
def faulty_files(fail_at: int) -> Iterator[None]:
    """Refuse one file, directory or link of dnet's while the block runs: number `fail_at`, counted from 0."""
    create, numbers = files.create, itertools.count()

    def spoiled(items: Iterable[Object]) -> None:
        create(_until(items, numbers, fail_at))

    files.create = spoiled
    try:
        yield
    finally:
        files.create = create


def _until(items: Iterable[Object], numbers: Iterator[int], fail_at: int) -> Iterator[Object]:
    for item in items:
        if next(numbers) == fail_at:
            raise KernelRefused(f"create {item}", errno.ENOSPC)
        yield item


class FaultyNft(Nft):
    """An nftables of which transaction number `fail_at`, counted from 0, holds a command that the kernel refuses."""

    def __init__(self, fail_at: int = -1) -> None:
        super().__init__()
        self._countdown = fail_at

    def run(self, commands: Sequence[str], what: str) -> None:
        """Run the commands, or the spoiled ones."""
        if commands:
            self._countdown -= 1
            if self._countdown == -1:
                # "File exists", once the other commands have made the table if there was none.
                commands = [*commands, "create table inet dnet"]
        super().run(commands, what)


def before_ready(store: Store, happen: Callable[[], None]) -> None:
    """Let something happen whenever a store is about to mark containers or networks as existing."""
    set_phase = store.set_phase

    def spoiled(table: str, identities: Iterable[str], phase: str, owner: str = "") -> None:
        if phase == "ready" and not owner and table in {"container", "network"}:
            happen()
        set_phase(table, identities, phase, owner)

    store.set_phase = spoiled  # type: ignore[method-assign]
