"""The process of a trial: releases an interface unless the adoption is confirmed in time.

    python -m dnet.trial STATE_DIR RUN_DIR INTERFACE SECONDS

`dnet.operations.trial` starts it. It loads everything that it needs before it says that it is ready, because the change
may cut it off from its own files. It ends when its standard input says that all is well. When the input ends without
that, the time is over, or SIGTERM comes, it releases the interface first.
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


class _Terminated(Exception):
    """SIGTERM, as when the session ends: the interface is released then, too."""


def _on_termination(_number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Terminated


def _is_confirmed(timeout_s: float) -> bool:
    """Return whether standard input says that all is well before it ends or the time is over."""
    deadline = time.monotonic() + timeout_s
    said = b""
    try:
        while said != ALL_WELL:
            readable, _, _ = select.select([0], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(0, len(ALL_WELL) - len(said)) if readable else b""
            if not part:
                return False
            said += part
    except _Terminated:
        return False
    return True


def main(arguments: Sequence[str]) -> int:
    """Wait, and release the interface without a confirmation; an error goes to standard output."""
    state_directory, run_directory, interface, seconds = arguments
    os.setsid()  # out of reach of the terminal's signals
    os.chdir("/")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Engine(state_directory, run_directory) as engine:
        engine.prepare()
        signal.signal(signal.SIGTERM, _on_termination)
        os.write(1, READY)
        if _is_confirmed(float(seconds)):
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
