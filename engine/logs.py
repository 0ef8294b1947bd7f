"""Reads the log that conmon writes of a container, and waits for changes of files. Rank 2, IO.

A line of the log is `TIME STREAM F TEXT`, or P instead of F where conmon had no whole line yet (its format k8s-file).
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple, Self

from dnet.errors import KernelRefused, StateError

# IN_MODIFY, IN_CLOSE_WRITE and IN_MOVED_TO of inotify(7).
WATCHED_EVENTS = 0x2 | 0x8 | 0x80
EVENT_BYTES = 1 << 12
# A line of conmon's: time, stream, whether the line ended there (F) or was cut (P), and what was written.
FIELDS = 4
KINDS = (b"F", b"P")


class Entry(NamedTuple):
    """What a process wrote at one time (RFC 3339) to `stdout` or `stderr`; with a terminal all is stdout."""

    time: str
    stream: str
    data: bytes


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


def read(path: str, open_keeper: Callable[[], int | None] = lambda: None) -> Iterator[Entry]:
    """Yield a log's entries; if there is a keeper (a pidfd, closed here), go on until that process has ended."""
    keeper = open_keeper()
    if keeper is None:
        with open(path, "rb") as file:
            yield from _entries(file, [])
        return
    rest: list[bytes] = []
    try:
        with open(path, "rb") as file, Watch(path) as watch:
            is_last = False
            while not is_last:
                # Looked at before reading: what is written before the end is read after it.
                is_last = bool(select.select([keeper], [], [], 0)[0])
                yield from _entries(file, rest)
                if not is_last:
                    watch.wait(keeper)
    finally:
        os.close(keeper)


def _entries(file: IO[bytes], rest: list[bytes]) -> Iterator[Entry]:
    """Yield the entries up to the end of the file; an incomplete last line is left in `rest`."""
    for piece in file:
        rest.append(piece)
        if piece.endswith(b"\n"):
            line = b"".join(rest)
            rest.clear()
            words = line.split(b" ", FIELDS - 1)
            if len(words) != FIELDS or words[2] not in KINDS:
                sentence = f"{file.name} has a line that is not conmon's: {line[:40]!r}"
                raise StateError(sentence, object=file.name, hint="remove it; what is before and after is whole")
            time, stream, kind, data = words
            written = data if kind == b"F" else data[:-1]
            yield Entry(time.decode(errors="replace"), stream.decode(errors="replace"), written)
