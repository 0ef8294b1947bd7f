"""Build the benchmark's C programs: floor.c, the kernel's floor, and traffic.c, server and load."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_PROGRAMS = ("floor", "traffic")
_FLAGS = ("-O2", "-pthread", "-Wall", "-Wextra", "-Werror")


def build(directory: Path) -> None:
    """Compile the benchmark's programs into `directory` with $CC or gcc."""
    for program in _PROGRAMS:
        source = Path(__file__).with_name(f"{program}.c")
        subprocess.run([os.environ.get("CC", "gcc"), *_FLAGS, str(source), "-o", str(directory / program)], check=True)
