"""Run a program and measure it from exec to exit. Knows nothing of contestants."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

# The values of each quantity that was measured, by its name.
Measurement = dict[str, list[float]]

_OUTPUT_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


class ContestantFailedError(Exception):
    """A program did not do what it was started for."""


@dataclass(frozen=True)
class Run:
    """What one program took."""

    seconds: float
    peak_memory_bytes: int
    output: str


def run(argv: list[str], directory: Path) -> Run:
    """Run `argv` to its end, its output in files of `directory`; raise ContestantFailedError unless it exits 0.

    The clock starts before the fork. The peak of memory is the kernel's ru_maxrss of the program and of the children
    that it waited for. It is never less than this process's own memory at the fork, about 15 MB.
    """
    output_path, error_path = directory / "stdout", directory / "stderr"
    program = shutil.which(argv[0])
    if program is None:
        raise ContestantFailedError(f"{argv[0]} is not installed")
    start = time.perf_counter()
    pid = os.posix_spawn(
        program,
        argv,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, output_path, _OUTPUT_FLAGS, 0o600),
            (os.POSIX_SPAWN_OPEN, 2, error_path, _OUTPUT_FLAGS, 0o600),
        ],
    )
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - start
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        complaint = error_path.read_text(errors="replace").strip()[-2000:]
        raise ContestantFailedError(f"{' '.join(argv)} exited {code}: {complaint}")
    return Run(seconds, usage.ru_maxrss * 1024, output_path.read_text())
