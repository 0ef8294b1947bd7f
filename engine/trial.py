"""Gives an interface back unless told in time that all is well: what `dnet.operations.trial` starts.

    python -m dnet.trial STATE_DIR RUN_DIR INTERFACE SECONDS

Everything that giving back needs is loaded before it says that it is ready, since the
change may take away what it would be loaded from. It ends when its standard input says that all is well; when that
ends without a word, when the time is over, or when it is asked to terminate, it gives the interface back first.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from dnet.engine import Engine
from dnet.errors import DnetError
from dnet.operations.trial import ALL_WELL, READY


class _Asked(Exception):
    """SIGTERM: whoever ends the session shall find everything as it was."""


def _on_termination(_number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Asked


def _is_well(timeout_s: float) -> bool:
    """Wait until standard input says that all is well, or ends, or the time is over."""
    deadline = time.monotonic() + timeout_s
    said = b""
    try:
        while said != ALL_WELL:
            readable, _, _ = select.select([0], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(0, len(ALL_WELL) - len(said)) if readable else b""
            if not part:
                return False
            said += part
    except _Asked:
        return False
    return True


def main(arguments: Sequence[str]) -> int:
    """Watch, and give back; what goes wrong is said on standard output."""
    state_directory, run_directory, interface, seconds = arguments
    os.setsid()  # out of reach of the terminal's signals
    os.chdir("/")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Engine(state_directory, run_directory) as engine:
        engine.prepare()
        signal.signal(signal.SIGTERM, _on_termination)
        os.write(1, READY)
        if _is_well(float(seconds)):
            return 0
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            engine.release_unconfirmed(interface)
        except DnetError as error:
            os.write(1, f"{error}\n".encode())
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
