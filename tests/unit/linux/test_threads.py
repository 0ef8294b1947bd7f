"""Calls on a thread of their own, under real signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from dnet.linux.threads import Background


class Announcing(threading.Event):
    """An event that tells when somebody has begun to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.waiting.set()
        return super().wait(timeout)


@pytest.fixture
def interrupt() -> Iterator[Callable[[], None]]:
    """Yield a function that interrupts the main thread once, and returns when that has handled the signal.

    A signal that comes just before the main thread blocks is not seen until the next one, hence the repetition.
    """
    main, armed, handled = threading.get_ident(), threading.Event(), threading.Event()

    def handler(*_arguments: object) -> None:
        if armed.is_set():
            armed.clear()
            handled.set()
            raise KeyboardInterrupt

    def send() -> None:
        handled.clear()
        armed.set()
        for _ in range(1000):
            signal.pthread_kill(main, signal.SIGINT)
            if handled.wait(0.01):
                return
        raise AssertionError("the signal was not handled")

    before = signal.signal(signal.SIGINT, handler)
    yield send
    signal.signal(signal.SIGINT, before)


def test_result():
    """What the call returns is there after its end."""
    work = Background(lambda: 7)
    work.start()
    work.wait_uninterrupted()
    assert work.wait(0)
    assert work.result() == 7


def test_exception():
    """What the call raises is raised to whoever asks for the result, and nowhere else."""

    def call() -> None:
        raise ValueError("boom")

    work = Background(call)
    work.start()
    work.wait_uninterrupted()
    with pytest.raises(ValueError, match="boom"):
        work.result()


def test_waiting_ends_in_time():
    """Waiting ends after the time given, and says that the call goes on."""
    release = threading.Event()
    work = Background(release.wait)
    work.start()
    assert not work.wait(0.001)
    release.set()
    work.wait_uninterrupted()
    assert work.wait(0)


def test_signals_are_heard_while_waiting(interrupt):
    """A signal interrupts whoever waits; the call goes on and can be waited for again."""
    ended = Announcing()

    def call() -> str:
        assert ended.waiting.wait(10)
        interrupt()
        return "done"

    work = Background(call)
    work._ended = ended
    work.start()
    with pytest.raises(KeyboardInterrupt):
        work.wait(10)
    work.wait_uninterrupted()
    assert work.result() == "done"


def test_waiting_uninterrupted(interrupt):
    """Two signals in a row do not end the wait for what has to come to rest."""
    ended = Announcing()

    def call() -> str:
        for _ in range(2):
            assert ended.waiting.wait(10)
            ended.waiting.clear()
            interrupt()
        return "done"

    work = Background(call)
    work._ended = ended
    work.start()
    work.wait_uninterrupted()
    assert work.result() == "done"


def test_waiting_for_what_was_never_started():
    """Waiting for a call that was never started ends at once, and the call is not made."""
    made: list[int] = []
    work = Background(lambda: made.append(1))
    work.wait_uninterrupted()
    assert made == []


def test_signal_mask_is_restored():
    """Starting leaves the signals that are blocked as they were."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    work = Background(lambda: None)
    work.start()
    work.wait_uninterrupted()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
