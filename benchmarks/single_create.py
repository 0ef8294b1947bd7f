"""Create containers one at a time in a running Engine, and print what each took.

A contestant's program:

    python -m benchmarks.single_create STATE_DIR RUN_DIR FIRST ROUNDS

They are named c-FIRST and on. Prints the seconds of every call as a JSON list.
"""

from __future__ import annotations

import json
import sys
import time

import dnet


def create_one_by_one(state_dir: str, run_dir: str, numbers: range) -> list[float]:
    """Return the seconds of each `engine.create`."""
    seconds = []
    with dnet.open(state_dir=state_dir, run_dir=run_dir) as engine:
        for number in numbers:
            start = time.perf_counter()
            engine.create(f"c-{number}", network="bridge")
            seconds.append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    first, rounds = int(sys.argv[3]), int(sys.argv[4])
    print(json.dumps(create_one_by_one(sys.argv[1], sys.argv[2], range(first, first + rounds))))
