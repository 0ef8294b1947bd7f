"""Publish ports in a running Engine.

A contestant's programs, with the directories of the environment:

    python -m benchmarks.engine_publish hold COUNT          leave COUNT ports published: one of c-1, the rest of others
    python -m benchmarks.engine_publish time OTHERS ROUNDS  with OTHERS published: print what each call took

Both spread the other ports over the containers o-1 and on. `time` prints a JSON object of lists of seconds, and leaves
one more port published than there were.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import dnet
from benchmarks.peer_iptables import CONTAINER_PORT, HOST_PORT, shares

# A call that takes a millisecond should not be charged with the time slices of whatever else the machine does.
_PRIORITY = -20
R = TypeVar("R")


def _specification(ports: range) -> str:
    return f"{ports[0]}-{ports[-1]}:{ports[0]}-{ports[-1]}"


def hold(engine: dnet.Engine, count: int) -> None:
    """Leave `count` ports published, one of them HOST_PORT of container c-1; the containers stay."""
    wanted = {f"o-{number}": ports for number, ports in enumerate(shares(count - 1), 1)}
    existing = engine.names()
    if "c-1" not in existing:
        engine.create("c-1", publish=[f"{HOST_PORT}:{CONTAINER_PORT}"])
    engine.create_many([dnet.ContainerSpec(name=name) for name in wanted if name not in existing])
    for name in {*wanted, *existing} - {"c-1"}:
        published = engine.container(name).ports
        if published:
            engine.unpublish(name, published)
        if name in wanted:
            engine.publish(name, [_specification(wanted[name])])


def time_calls(engine: dnet.Engine, others: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every call, by what it did."""
    engine.create_many(
        [
            dnet.ContainerSpec(name=f"o-{number}", publish=[_specification(ports)])
            for number, ports in enumerate(shares(others), 1)
        ]
    )
    engine.create("few")
    os.nice(_PRIORITY)
    seconds: dict[str, list[float]] = {}

    def timed(what: str, call: Callable[[], R]) -> R:
        start = time.perf_counter()
        result = call()
        seconds.setdefault(what, []).append(time.perf_counter() - start)
        return result

    def publish_and_take_back(name: str, published: str, suffix: str) -> None:
        before = set(engine.container(name).ports)
        after = timed(f"publish{suffix}", lambda: engine.publish(name, [published])).ports
        timed(f"unpublish{suffix}", lambda: engine.unpublish(name, set(after) - before))

    explicit, automatic = f"{HOST_PORT}:{CONTAINER_PORT}", str(CONTAINER_PORT)
    for _ in range(rounds):
        publish_and_take_back("few", explicit, "")
        publish_and_take_back("few", automatic, "_automatic")
        publish_and_take_back("o-1", explicit, "_crowded")
        timed("create", lambda: engine.create("x"))
        timed("delete", lambda: engine.delete("x"))
        timed("create_published", lambda: engine.create("x", publish=[explicit]))
        timed("delete_published", lambda: engine.delete("x"))
    engine.publish("few", [explicit])
    return seconds


def main() -> None:
    """Do what the arguments say."""
    with dnet.open() as engine:
        if sys.argv[1] == "hold":
            hold(engine, int(sys.argv[2]))
        else:
            print(json.dumps(time_calls(engine, int(sys.argv[2]), int(sys.argv[3]))))


if __name__ == "__main__":
    main()
