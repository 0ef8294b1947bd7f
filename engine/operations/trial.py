"""The process that reverts a change unless it is confirmed in time, seen from the process that starts it.

It outlives the one that started it. Whether that is killed, loses its terminal or hangs: the pipe between them closes
or the time is over, and the change is reverted. What the process does is in `dnet.trial`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from dnet.errors import Unsupported
from dnet.linux import spawn
from dnet.linux.threads import Background

READY, ALL_WELL = b"ready\n", b"all is well\n"


class Trial:
    """A change on trial, as seen by the process that makes it."""

    def __init__(self, arguments: Sequence[str]) -> None:
        """Start the process with the arguments of `dnet.trial`, and return when it is ready to revert the change."""
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
            self._end()
            raise Unsupported(
                "the process that would take everything back does not start", object=sys.executable, hint="see dmesg"
            )

    @staticmethod
    def _close(*descriptors: int) -> None:
        for descriptor in descriptors:
            os.close(descriptor)

    def _read(self, size: int = -1) -> bytes:
        """Return so many bytes of what the process says, or all up to its end."""
        said = b""
        while size < 0 or len(said) < size:
            part = os.read(self._from, 4096 if size < 0 else size - len(said))
            if not part:
                break
            said += part
        return said

    def confirm(self) -> None:
        """Keep the change: tell the process that all is well, and wait for its end."""
        with suppress(BrokenPipeError):
            os.write(self._to, ALL_WELL)
        self._end()

    def revert(self, cause: BaseException | None = None) -> str:
        """Have the change reverted now, whatever interrupts; return what went wrong, and note it on the cause."""
        background = Background(self._end)
        try:
            background.start()
        finally:
            background.wait_uninterrupted()
        said = background.result()
        if said and cause:
            cause.add_note(f"and while undoing it: {said}")
        return said

    def _end(self) -> str:
        """Close the pipe, which reverts an unconfirmed change; wait for the process's end, and return what it says."""
        os.close(self._to)
        try:
            return self._read().decode(errors="replace").strip()
        finally:
            os.close(self._from)
            spawn.wait(self._pid)
