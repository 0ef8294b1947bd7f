"""One measurement of one contestant, on a fake host of its own.

The runner calls `measure`, which starts this module on a new host. Every measurement ends with `verify`: other
programs say whether the job was done.

    python -m benchmarks.tasks TASK CONTESTANT COUNT DIRECTORY PROGRAMS DNET [quick]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import hosts, topic_attach, topic_publish, topic_run, verify
from benchmarks.peers import (
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
from benchmarks.timed_process import ContestantFailedError, Measurement, Run, run

ROUNDS = 15  # of what takes milliseconds


def measure(
    task: str, contestant: Contestant | Publisher, count: int, programs: Path, dnet: Path, *, is_quick: bool
) -> Measurement:
    """Do `task`, one of TASKS or "traffic", on a new host and return what it measured, by name."""
    with tempfile.TemporaryDirectory(prefix="dnet-bench-") as directory:
        request = [task, contestant.name, str(count), directory, str(programs), str(dnet)]
        request += ["quick"] if is_quick else []
        try:
            measurement: Measurement = json.loads(hosts.run_module("tasks", request))
        except ContestantFailedError as error:
            raise ContestantFailedError(f"{contestant.name}, {task} {count}: {error}") from error
    return measurement


def _create(contestant: Contestant, setting: Setting, count: int) -> Run:
    """Let the contestant make its containers, and check them."""
    finished = run(contestant.command(setting, count), setting.directory)
    verify.require_containers(count, lambda number: contestant.sandbox(setting, number))
    return finished


def _task_create(contestant: Contestant, setting: Setting, count: int) -> Measurement:
    finished = _create(contestant, setting, count)
    # The floor measures itself, without the start of a process.
    seconds = _printed_seconds(finished) if contestant is FLOOR else finished.seconds
    return {"seconds": [seconds], "peak_memory_bytes": [finished.peak_memory_bytes]}


def _task_delete(contestant: Contestant, setting: Setting, count: int) -> Measurement:
    """From the start of the deletion until no veth and no pin is left."""
    pins_before = verify.pins()
    if contestant is FLOOR:
        finished = run(floor_command("delete")(setting, count), setting.directory)
        verify.await_nothing(pins_before)
        return {"seconds": [_printed_seconds(finished)]}
    created = _create(contestant, setting, count)
    deleted = run([str(setting.dnet), "bulk-delete", "--all"], setting.directory)
    waited_s = verify.await_nothing(pins_before)
    return {"seconds": [deleted.seconds + waited_s], "create_seconds": [created.seconds]}


def _task_reap(_: Contestant, setting: Setting, count: int) -> Measurement:
    """Delete the floor's other way."""
    pins_before = verify.pins()
    finished = run(floor_command("reap")(setting, count), setting.directory)
    verify.await_nothing(pins_before)
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
        program = [str(setting.dnet_python), "-m", "benchmarks.single_create"]
        directories = [os.environ["DNET_STATE_DIR"], os.environ["DNET_RUN_DIR"]]
        finished = run([*program, *directories, str(count + 1), str(ROUNDS)], setting.directory)
        seconds = json.loads(finished.output)
    verify.require_containers(count + ROUNDS, lambda number: contestant.sandbox(setting, number))
    return {"seconds": seconds}


def _task_bulk(contestant: Contestant, setting: Setting, count: int) -> Measurement:
    """Create, for the comparison with and without published ports."""
    finished = _create(contestant, setting, count)
    if contestant.name == DNET_PUBLISHING.name:
        topic_publish.require_reachable(contestant, setting, count)
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
    "attach": topic_attach.bulk,
    "connect": topic_attach.connect,
    "attach-one": lambda _, setting, __: topic_attach.one(setting),
    "calls": lambda _, setting, count: topic_publish.calls(setting, count),
    "run": lambda contestant, *rest: (
        topic_run.by_docker(contestant, *rest) if contestant is DOCKER else topic_run.alone(*rest)
    ),
    "probe-run": lambda _, setting, __: topic_run.probe(setting),
    "linked": topic_run.linked,
}
_BESIDE = {contestant.name: contestant for contestant in (DNET_PUBLISHING, DNET_LINKED, DOCKER)}


def _do(task: str, name: str, setting: Setting, count: int) -> Measurement:
    if task == "traffic":
        return topic_publish.traffic(PUBLISHERS[name], setting, count)
    contestant = _BESIDE.get(name) or CONTESTANTS[name]
    return TASKS[task](contestant, setting, count)


def main() -> int:
    """Settle, do one task, print the measurement as JSON."""
    task, name, count, directory, programs, dnet, *quick = sys.argv[1:]
    setting = Setting(Path(directory), Path(programs), Path(dnet), is_quick=bool(quick))
    try:
        hosts.furnish(setting)
        verify.settle()
        measurement = _do(task, name, setting, int(count))
    except ContestantFailedError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(measurement))
    return 0


if __name__ == "__main__":
    sys.exit(main())
