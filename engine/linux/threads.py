"""Calls on a thread of their own, such that the caller hears signals and still never loses track of them.

Not Thread.join: up to Python 3.12, a signal handler that raises inside it makes the interpreter take the running thread
for ended (bpo-45274), and whoever cleans up then works against a call that still goes on.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, Protocol, Self, TypeVar

T = TypeVar("T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Background(Generic[T]):
    """One call on a thread."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._ended = threading.Event()
        self._is_started = False
        self._results: list[T] = []
        self._error: BaseException | None = None

    def start(self) -> None:
        """Start the thread. A signal that arrives meanwhile is handled when it has started, or not at all."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            threading.Thread(target=self._run, name="dnet").start()
            self._is_started = True
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _run(self) -> None:
        try:
            self._results.append(self._call())
        except BaseException as error:  # noqa: BLE001  handed to whoever waits
            self._error = error
        finally:
            self._ended.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of the call; return whether it has ended. Signals are heard."""
        return self._ended.wait(timeout_s)

    def wait_uninterrupted(self) -> None:
        """Wait for the end of the call, whatever signal handlers raise: an exception that is under way covers them."""
        while self._is_started and not self._ended.is_set():
            with suppress(BaseException):
                self._ended.wait()

    def result(self) -> T:
        """Return what the call returned, or raise what it raised; after its end."""
        if self._error is not None:
            raise self._error
        return self._results[0]


class Control(Protocol):
    """What a long call is told, and tells: `struct dnet_control` of the C core."""

    done: int
    cancel: int


class LongCall:
    """A call that looks at a control structure: signals are heard, and progress is told, while it runs.

    When its `with` statement is left, by an exception too, it has ended.
    """

    def __init__(self, control: Control, interval_s: float) -> None:
        self.control = control
        self._interval_s = interval_s
        self._work: Background[int] | None = None
        self._code = 0

    def __enter__(self) -> Self:
        """Begin nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Have it come to rest."""
        self.rest()

    def start(self, call: Callable[[], int], *, is_short: bool) -> None:
        """Begin; a short one has ended by then."""
        if is_short:
            self._code = call()
        else:
            self._work = Background(call)
            self._work.start()

    def finish(self, on_progress: Callable[[int], None] | None) -> int:
        """Wait for its end, and return what it returned."""
        if self._work is None:
            return self._code
        while not self._work.wait(self._interval_s):
            if on_progress:
                on_progress(int(self.control.done))
        if on_progress:
            on_progress(int(self.control.done))
        return self._work.result()

    def rest(self) -> None:
        """Have it end soon, whatever interrupts, and return when it has."""
        self.control.cancel = 1
        if self._work:
            self._work.wait_uninterrupted()
