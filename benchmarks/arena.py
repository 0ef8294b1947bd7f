"""One measurement of one contestant, in network and mount namespaces of its own.

The runner calls `measure`, which starts this module again under `unshare -nm`; whatever the contestant leaves there
vanishes with the process. Every measurement ends with the oracle's word that the job was done.

    python -m benchmarks.arena TASK CONTESTANT COUNT DIRECTORY PROGRAMS DNET [quick]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import attach, host, oracle, publish
from benchmarks import run as running
from benchmarks.contestants import (
    CONTESTANTS,
    DNET_LINKED,
    DNET_PUBLISHING,
    DOCKER,
    FLOOR,
    PUBLISHERS,
    Contestant,
    Publisher,
    Setting,
    floor_command,
)
from benchmarks.process import ContestantFailedError, Measurement, Run, run

ROUNDS = 15  # of what takes milliseconds


def measure(
    task: str, contestant: Contestant | Publisher, count: int, programs: Path, dnet: Path, *, is_quick: bool
) -> Measurement:
    """Do `task`, one of TASKS or "traffic", in a new arena and return what it measured, by name."""
    with tempfile.TemporaryDirectory(prefix="dnet-bench-") as directory:
        request = [task, contestant.name, str(count), directory, str(programs), str(dnet)]
        request += ["quick"] if is_quick else []
        result = subprocess.run(
            ["unshare", "-nm", sys.executable, "-m", "benchmarks.arena", *request],
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            check=False,
        )
    if result.returncode != 0:
        raise ContestantFailedError(f"{contestant.name}, {task} {count}: {result.stderr.strip()}")
    measurement: Measurement = json.loads(result.stdout)
    return measurement


def _create(contestant: Contestant, setting: Setting, count: int) -> Run:
    """Let the contestant make its containers, and check them."""
    finished = run(contestant.command(setting, count), setting.directory)
    oracle.require_containers(count, lambda number: contestant.sandbox(setting, number))
    return finished


def _task_create(contestant: Contestant, setting: Setting, count: int) -> Measurement:
    finished = _create(contestant, setting, count)
    # The floor measures itself, without the start of a process.
    seconds = _printed_seconds(finished) if contestant is FLOOR else finished.seconds
    return {"seconds": [seconds], "peak_memory_bytes": [finished.peak_memory_bytes]}


def _task_delete(contestant: Contestant, setting: Setting, count: int) -> Measurement:
    """From the start of the deletion until no veth and no pin is left."""
    pins_before = oracle.pins()
    if contestant is FLOOR:
        finished = run(floor_command("delete")(setting, count), setting.directory)
        oracle.await_nothing(pins_before)
        return {"seconds": [_printed_seconds(finished)]}
    created = _create(contestant, setting, count)
    deleted = run([str(setting.dnet), "bulk-delete", "--all"], setting.directory)
    waited_s = oracle.await_nothing(pins_before)
    return {"seconds": [deleted.seconds + waited_s], "create_seconds": [created.seconds]}


def _task_reap(_: Contestant, setting: Setting, count: int) -> Measurement:
    """Delete the floor's other way."""
    pins_before = oracle.pins()
    finished = run(floor_command("reap")(setting, count), setting.directory)
    oracle.await_nothing(pins_before)
    return {"seconds": [_printed_seconds(finished)]}


def _task_commands(contestant: Contestant, setting: Setting, count: int) -> Measurement:
    """Short commands with `count` containers present, taking turns with a bare interpreter."""
    _create(contestant, setting, count)
    commands = {
        "bare": [str(setting.dnet_python), "-I", "-c", "pass"],
        "ps": [str(setting.dnet), "ps"],
        "help": [str(setting.dnet), "--help"],
    }
    seconds: Measurement = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, argv in commands.items():
            finished = run(argv, setting.directory)
            seconds[name].append(finished.seconds)
            if name == "ps" and len(finished.output.splitlines()) <= count:
                raise ContestantFailedError(f"dnet ps does not show {count} containers")
    return seconds


def _task_one(contestant: Contestant, setting: Setting, count: int) -> Measurement:
    """One more container at a time, with `count` present."""
    if contestant is FLOOR:
        finished = run(floor_command("one")(setting, count), setting.directory)
        seconds = [_printed_seconds(finished)]
    else:
        _create(contestant, setting, count)
        program = [str(setting.dnet_python), "-m", "benchmarks.one_create"]
        directories = [os.environ["DNET_STATE_DIR"], os.environ["DNET_RUN_DIR"]]
        finished = run([*program, *directories, str(count + 1), str(ROUNDS)], setting.directory)
        seconds = json.loads(finished.output)
    oracle.require_containers(count + ROUNDS, lambda number: contestant.sandbox(setting, number))
    return {"seconds": seconds}


def _task_bulk(contestant: Contestant, setting: Setting, count: int) -> Measurement:
    """Create, for the comparison with and without published ports."""
    finished = _create(contestant, setting, count)
    if contestant.name == DNET_PUBLISHING.name:
        publish.require_reachable(contestant, setting, count)
    return {"seconds": [finished.seconds]}


def _printed_seconds(finished: Run) -> float:
    return float(json.loads(finished.output)["seconds"])


TASKS: dict[str, Callable[[Contestant, Setting, int], Measurement]] = {
    "create": _task_create,
    "delete": _task_delete,
    "reap": _task_reap,
    "commands": _task_commands,
    "one": _task_one,
    "bulk": _task_bulk,
    "attach": attach.bulk,
    "connect": attach.connect,
    "attach-one": lambda _, setting, __: attach.one(setting),
    "calls": lambda _, setting, count: publish.calls(setting, count),
    "run": lambda contestant, *rest: (
        running.by_docker(contestant, *rest) if contestant is DOCKER else running.alone(*rest)
    ),
    "linked": running.linked,
}
_BESIDE = {contestant.name: contestant for contestant in (DNET_PUBLISHING, DNET_LINKED, DOCKER)}


def _do(task: str, name: str, setting: Setting, count: int) -> Measurement:
    if task == "traffic":
        return publish.traffic(PUBLISHERS[name], setting, count)
    contestant = _BESIDE.get(name) or CONTESTANTS[name]
    return TASKS[task](contestant, setting, count)


def main() -> int:
    """Settle, do one task, print the measurement as JSON."""
    task, name, count, directory, programs, dnet, *quick = sys.argv[1:]
    setting = Setting(Path(directory), Path(programs), Path(dnet), is_quick=bool(quick))
    try:
        host.furnish(setting)
        oracle.settle()
        measurement = _do(task, name, setting, int(count))
    except ContestantFailedError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(measurement))
    return 0


if __name__ == "__main__":
    sys.exit(main())
