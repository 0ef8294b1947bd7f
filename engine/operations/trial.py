"""A process of its own that takes a change back unless it is told in time that all is well.

It outlives the one that started it: whether that is killed, loses its terminal or hangs, its end of a pipe closes or
the time runs out, and the change goes back. What the process does is in `dnet.trial`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from dnet.errors import Unsupported
from dnet.linux import spawn

READY, ALL_WELL = b"ready\n", b"all is well\n"


class Watchdog:
    """The starter's view of one such process."""

    def __init__(self, arguments: Sequence[str]) -> None:
        """Start it with the arguments of `dnet.trial`, and return when it is watching."""
        command = [sys.executable, "-P", "-m", "dnet.trial", *arguments]
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        try:
            self._pid = spawn.spawn(command, files=(theirs_in, theirs_out, os.devnull))
        except OSError as error:
            self._close(self._to, self._from)
            raise Unsupported(f"cannot start {sys.executable}: {error.strerror}", object=sys.executable) from error
        finally:
            self._close(theirs_in, theirs_out)
        said = self._read(len(READY))
        if said != READY:
            self.act()
            raise Unsupported(
                "the process that would take everything back does not start", object=sys.executable, hint="see dmesg"
            )

    @staticmethod
    def _close(*descriptors: int) -> None:
        for descriptor in descriptors:
            os.close(descriptor)

    def _read(self, size: int = -1) -> bytes:
        """Return so many bytes of what it says, or all up to its end."""
        found = b""
        while size < 0 or len(found) < size:
            part = os.read(self._from, 4096 if size < 0 else size - len(found))
            if not part:
                break
            found += part
        return found

    def stand_down(self) -> None:
        """Tell it that all is well, and wait for its end."""
        with suppress(BrokenPipeError):
            os.write(self._to, ALL_WELL)
        self.act()

    def act(self) -> str:
        """Have it take the change back now, and return what went wrong in that, or nothing, when it has ended."""
        os.close(self._to)
        try:
            return self._read().decode(errors="replace").strip()
        finally:
            os.close(self._from)
            spawn.wait(self._pid)
