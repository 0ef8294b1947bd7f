"""Reader of the logs that conmon writes."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple

from dnet.errors import StateError
from dnet.linux.watch_files import Watch

# A line is: time, stream, F (full line) or P (part of one), and the output.
FIELDS = 4
KINDS = (b"F", b"P")


class Entry(NamedTuple):
    """Output of a process at a time (RFC 3339), to `stdout` or `stderr`; with a terminal all is stdout."""

    time: str
    stream: str
    data: bytes


def read(path: str, open_keeper: Callable[[], int | None] = lambda: None) -> Iterator[Entry]:
    """Yield a log's entries; with a keeper (a pidfd, closed here) go on until that process has ended."""
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
                # Looked at before reading, so that everything written before the end is read.
                is_last = bool(select.select([keeper], [], [], 0)[0])
                yield from _entries(file, rest)
                if not is_last:
                    watch.wait(keeper)
    finally:
        os.close(keeper)


def _entries(file: IO[bytes], rest: list[bytes]) -> Iterator[Entry]:
    """Yield the entries up to the end of the file; keep an incomplete last line in `rest`."""
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
