"""The topic `attach`: attaching running sandboxes. Runs on a fake host.

A contestant's program, with the directories of the environment:

    python -m benchmarks.topic_attach NETWORK  attach all containers to a network in a running Engine; print the seconds
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dnet
from benchmarks import verify
from benchmarks.peers import FLOOR, Contestant, Setting, floor_command
from benchmarks.timed_process import ContestantFailedError, Measurement, run

_ROUNDS = 9  # of one attachment
_NETWORK = "second"
_PIPEWORK = Path(__file__).with_name("peer_pipework.sh")
_GATEWAY = "192.168.1.1"
_BRIDGE = "br0"


def _prepare(contestant: Contestant, setting: Setting, count: int) -> list[str]:
    """Make containers and a second network; return the containers' names."""
    run(contestant.command(setting, count), setting.directory)
    run([str(setting.dnet), "network", "create", _NETWORK], setting.directory)
    return [f"c-{number}" for number in range(1, count + 1)]


def bulk(contestant: Contestant, setting: Setting, count: int) -> Measurement:
    """Attach so many running sandboxes to a second network, through the API; the floor makes as many veths in place."""
    if contestant is FLOOR:
        finished = run(floor_command("attach")(setting, count), setting.directory)
        seconds = float(json.loads(finished.output)["seconds"])
    else:
        _prepare(contestant, setting, count)
        finished = run([str(setting.dnet_python), "-m", "benchmarks.topic_attach", _NETWORK], setting.directory)
        seconds = float(finished.output)
    verify.require_attached(count, lambda number: contestant.sandbox(setting, number))
    return {"seconds": [seconds]}


def connect(contestant: Contestant, setting: Setting, count: int) -> Measurement:
    """`network connect` with so many names, from exec to exit."""
    names = _prepare(contestant, setting, count)
    finished = run([str(setting.dnet), "network", "connect", _NETWORK, *names], setting.directory)
    verify.require_attached(count, lambda number: contestant.sandbox(setting, number))
    return {"seconds": [finished.seconds]}


def one(setting: Setting) -> Measurement:
    """Attach one process's namespace to a bridge, by `dnet attach` and by pipework's steps, in turns.

    pipework also announces the address, with arping where that is installed; without, it is measured apart.
    """
    run(["ip", "link", "add", _BRIDGE, "type", "bridge"], setting.directory)
    run(["ip", "link", "set", _BRIDGE, "up"], setting.directory)
    seconds: Measurement = {"seconds": [], "without_arping": []}
    if shutil.which("arping"):
        seconds["pipework"] = []
    for number in range(1 if setting.is_quick else _ROUNDS):
        for name, values in seconds.items():
            address = f"192.168.1.{10 + number}/24@{_GATEWAY}"
            with _process() as pid:
                words = [_BRIDGE, str(pid), address]
                if name == "seconds":
                    command = [str(setting.dnet), "attach", "--bridge", _BRIDGE, "-i", "eth1", "--ip", address]
                    command.append(f"pid:{pid}")
                else:
                    os.environ["ARPING"] = "yes" if name == "pipework" else "no"
                    command = ["sh", str(_PIPEWORK), *words]
                values.append(run(command, setting.directory).seconds)
                verify.require_default_route(Path(f"/proc/{pid}/ns/net"), _GATEWAY)
    return seconds


@contextmanager
def _process() -> Iterator[int]:
    """Yield the pid of a process with a network namespace of its own."""
    own = os.readlink("/proc/self/ns/net")
    process = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo ready; exec cat"], stdin=-1, stdout=-1, text=True)
    try:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise ContestantFailedError("unshare makes no network namespace")
        assert os.readlink(f"/proc/{process.pid}/ns/net") != own  # noqa: S101
        yield process.pid
    finally:
        process.communicate()


def main() -> None:
    """Attach all containers to a network, and print how long that took."""
    directories = [os.environ[name] for name in ("DNET_STATE_DIR", "DNET_RUN_DIR")]
    with dnet.open(*directories) as engine:
        names = engine.names()
        engine.attach_many([], sys.argv[1])  # an engine that runs has loaded what it needs
        start = time.perf_counter()
        engine.attach_many(names, sys.argv[1])
        print(time.perf_counter() - start)


if __name__ == "__main__":
    main()
