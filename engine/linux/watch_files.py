"""Waiting for changes of files, by inotify(7)."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Self

from dnet.errors import KernelRefused

IN_MODIFY, IN_CLOSE_WRITE, IN_MOVED_TO, IN_CREATE = 0x2, 0x8, 0x80, 0x100
WRITTEN = IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_TO
# A file that is being written is not looked at yet.
REPLACED = IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE
EVENT_BYTES = 1 << 16
LINKS_MAX = 40  # the kernel's own limit (MAXSYMLINKS)


class Watch:
    """Waits for changes of files, or of the files of directories."""

    def __init__(self, *paths: str, events: int = WRITTEN) -> None:
        import ctypes

        self._library = ctypes.CDLL(None, use_errno=True)
        self._events = events
        self._descriptor: int = self._library.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        failed = "files" if self._descriptor < 0 else next((path for path in paths if not self.add(path)), "")
        if failed:
            number = ctypes.get_errno()
            self.close()
            raise KernelRefused(f"watch {failed}", number, os.strerror(number))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def add(self, path: str) -> bool:
        """Watch one more file; return whether that is possible."""
        return bool(self._library.inotify_add_watch(self._descriptor, os.fsencode(path), self._events) >= 0)

    def wait(self, *others: int, timeout_s: float | None = None) -> bool:
        """Wait for a change, or until one of the descriptors `others` can be read; False when the time is up."""
        poll = select.poll()
        for descriptor in (self._descriptor, *others):
            poll.register(descriptor, select.POLLIN)
        ready = poll.poll(None if timeout_s is None else timeout_s * 1000)
        with suppress(BlockingIOError):
            os.read(self._descriptor, EVENT_BYTES)
        return bool(ready)


def changes_of(
    paths: Sequence[str],
    others: Callable[[], Sequence[int]] = tuple,
    pause_s: Callable[[], float | None] | None = None,
) -> Iterator[None]:
    """Yield once at the start, and then whenever one of the files may have changed; for ever.

    Watched are the files themselves, and every directory on the way to them through links, since editors and
    resolvers replace files by renaming; of a directory that is missing, the one it will appear in. It is also a
    change when one of the descriptors `others` can be read from, or `pause_s` is over; both are asked each time.
    """
    from dnet.linux.spawn import TIMEOUT_MAX_S

    with Watch(events=REPLACED) as watch:
        while True:
            for place in {place for path in paths for place in _way_to(path)}:
                watch.add(place)
            yield
            pause = pause_s() if pause_s else None
            watch.wait(*others(), timeout_s=None if pause is None else min(max(0, pause), TIMEOUT_MAX_S))


def _way_to(path: str) -> Iterator[str]:
    """Yield a file and what has to change for it to change: each link's directory, or the nearest that exists."""
    for _ in range(LINKS_MAX):
        directory = os.path.dirname(path)
        while not os.path.isdir(directory):
            directory = os.path.dirname(directory)
        yield directory
        if not os.path.islink(path):
            yield path
            return
        path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
