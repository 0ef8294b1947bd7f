"""Starts programs and waits for them: signals passed on, ends noticed by descriptor, locks that outlive us.

Not subprocess: posix_spawn(3) does all that is needed here, and the import alone would cost 6 ms.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import termios
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from dnet.errors import Unsupported

# Where root's programs are, which a caller's PATH may leave out.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# After so long without a signal a program is looked at.
LOST_SIGNAL_S = 0.5
# What is passed on to the program that is waited for; the others act on ourselves.
PASSED_ON = frozenset(
    getattr(signal, f"SIG{name}") for name in ("HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM", "CONT", "WINCH")
)
# What the interpreter ignores would be ignored by every program below it.
RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)
TIMEOUT_MAX_S = 2e6  # poll(2) counts milliseconds in an int: 24 days
SI_KERNEL = 0x80  # asm-generic/siginfo.h
# struct flock: type, whence, start, length, pid. Native sizes, alignment included.
FLOCK = struct.Struct("hhqqi4x")


def find(program: str) -> str:
    """Return a program's path, or nothing where it is not installed."""
    for directory in (*os.environ.get("PATH", "").split(":"), *SYSTEM_PATH.split(":")):
        path = os.path.join(directory, program)
        if directory.startswith("/") and os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return ""


def require(program: str, package: str) -> str:
    """Return a program's path, or raise Unsupported that names the Debian package to install."""
    path = find(program)
    if not path:
        hint = f"install the package {package} (Debian's name)"
        raise Unsupported(f"the program {program} is not installed", object=program, hint=hint)
    return path


def spawn(
    command: Sequence[str], *, files: Sequence[int | str] = (), environment: Mapping[str, str] | None = None
) -> int:
    """Start a program and return its pid.

    `files` become its descriptors 0, 1 and 2: a descriptor, or a path, opened for reading as 0 and else for appending.
    Other descriptors are kept where they are inheritable.
    """
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
    for number, file in enumerate(files):
        if isinstance(file, str):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
            actions.append((os.POSIX_SPAWN_OPEN, number, file, flags, 0o600))
        else:
            actions.append((os.POSIX_SPAWN_DUP2, file, number))
    variables = os.environ if environment is None else environment
    return os.posix_spawn(command[0], [*command], variables, file_actions=actions, setsigmask=(), setsigdef=RESTORED)


def wait(pid: int) -> int:
    """Wait for a child and return its exit status, negative after a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def attend(start: Callable[[], int], on_resize: Callable[[], None] = lambda: None) -> int:
    """Start a program and wait for it as wait does, while signals that come to this process are passed on to it.

    Signals of a terminal reach the program by itself, since it is in the same process group. `on_resize` is called
    when the terminal's size has changed. On a thread other than the main one, which gets the signals, it just waits.
    """
    if threading.current_thread() is not threading.main_thread():
        return wait(start())
    watched = PASSED_ON | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    try:
        pid = start()
        while True:
            # A thread that somebody else's C code has started may get the signal in our place.
            told = signal.sigtimedwait(watched, LOST_SIGNAL_S)
            if told is None or told.si_signo == signal.SIGCHLD:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    return os.waitstatus_to_exitcode(status)
                continue
            if told.si_signo == signal.SIGWINCH:
                on_resize()
            if told.si_code != SI_KERNEL:
                os.kill(pid, told.si_signo)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def open_process(pid: int) -> int | None:
    """Return a descriptor of a process (pidfd_open(2)), or None when it has gone."""
    try:
        return os.pidfd_open(pid) if pid > 0 else None
    except ProcessLookupError:
        return None


def has_ended(descriptor: int, timeout_s: float) -> bool:
    """Wait for the end of an open process; return whether it has come."""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    return bool(waiting.poll(min(timeout_s, TIMEOUT_MAX_S) * 1000))


def hold(path: str) -> int | None:
    """Return an inheritable descriptor that holds a file's lock, or None if somebody else does.

    The lock is held as long as any process has the descriptor, and nobody is in its way who only looks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except (BlockingIOError, PermissionError):
        os.close(descriptor)
        return None
    os.set_inheritable(descriptor, True)
    return descriptor


def is_held(path: str) -> bool:
    """Whether somebody holds a file's lock."""
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        finally:
            os.close(descriptor)
        return bool(FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)
    return False


# Terminals


def terminal_size() -> tuple[int, int] | None:
    """Return the columns and lines of the caller's terminal, or None without one."""
    for descriptor in (0, 1, 2):
        with suppress(OSError):
            return os.get_terminal_size(descriptor)
    return None


def resize(pid: int) -> None:
    """Give the terminal that is a process's standard input the size of the caller's; crun does not (1.8)."""
    size = terminal_size()
    with suppress(OSError, termios.error):
        descriptor = os.open(f"/proc/{pid}/fd/0", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            if size:
                termios.tcsetwinsize(descriptor, (size[1], size[0]))
        finally:
            os.close(descriptor)


@contextmanager
def standard_input(*, is_interactive: bool, has_terminal: bool) -> Iterator[int | str]:
    """Yield what a program in the foreground gets as its standard input, as `spawn` takes it.

    With a terminal, a runtime wants one as its own input too: where the caller's is not given, one that is silent.
    """
    if is_interactive:
        yield 0
    elif not has_terminal:
        yield os.devnull
    else:
        ours, theirs = os.openpty()
        try:
            yield theirs
        finally:
            os.close(ours)
            os.close(theirs)
