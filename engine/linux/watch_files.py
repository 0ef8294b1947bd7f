"""Waits for changes of files."""

from __future__ import annotations

import os
import select
from typing import Self

from dnet.errors import KernelRefused

# IN_MODIFY, IN_CLOSE_WRITE and IN_MOVED_TO of inotify(7).
WATCHED_EVENTS = 0x2 | 0x8 | 0x80
EVENT_BYTES = 1 << 12


class Watch:
    """Waits for changes of a file, or of the files of a directory."""

    def __init__(self, path: str) -> None:
        import ctypes

        library = ctypes.CDLL(None, use_errno=True)
        self._descriptor: int = library.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._descriptor < 0 or library.inotify_add_watch(self._descriptor, os.fsencode(path), WATCHED_EVENTS) < 0:
            number = ctypes.get_errno()
            self.close()
            raise KernelRefused(f"watch {path}", number, os.strerror(number))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def wait(self, ending: int, timeout_s: float | None = None) -> bool:
        """Wait for a change, or for the end of the process that `ending` is a pidfd of; False when the time is up."""
        waiting = select.poll()
        for descriptor in (self._descriptor, ending):
            waiting.register(descriptor, select.POLLIN)
        found = waiting.poll(None if timeout_s is None else timeout_s * 1000)
        if any(descriptor == self._descriptor for descriptor, _ in found):
            os.read(self._descriptor, EVENT_BYTES)
        return bool(found)
