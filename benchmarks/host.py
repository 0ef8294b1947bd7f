"""A host in namespaces of its own: where a contestant works, and, for the topic `publish`, one with published ports.

    python -m benchmarks.host PUBLISHER COUNT DIRECTORY PROGRAMS DNET

That has a LAN and a server behind one of its ports; it prints "ready" and stands until its standard input ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import lan
from benchmarks.contestants import PUBLISHERS, Publisher, Setting
from benchmarks.iptables import CONTAINER_PORT
from benchmarks.process import ContestantFailedError, run

_STOP_TIMEOUT_S = 30.0


def furnish(setting: Setting) -> None:
    """Give this process, in new namespaces, the directories of its contestant."""
    os.environ["DNET_STATE_DIR"] = str(setting.directory / "state")
    os.environ["DNET_RUN_DIR"] = str(setting.directory / "run")
    os.environ["XTABLES_LOCKFILE"] = str(setting.directory / "xtables.lock")
    os.environ["LC_ALL"] = "C"
    # `ip netns` and dnet both keep names here; a tmpfs keeps them off the machine.
    Path("/run/netns").mkdir(exist_ok=True)
    run(["mount", "-t", "tmpfs", "netns", "/run/netns"], setting.directory)


@contextmanager
def publishing(publisher: Publisher, setting: Setting, count: int) -> Iterator[Path]:
    """Run a host with `count` published ports until the end of the block; yield the namespace of its LAN."""
    directory = setting.directory / f"host-{count}"
    directory.mkdir()
    arguments = [publisher.name, str(count), str(directory), str(setting.programs), str(setting.dnet)]
    process = subprocess.Popen(
        ["unshare", "-nm", sys.executable, "-m", "benchmarks.host", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise ContestantFailedError(f"{publisher.name} does not publish {count} ports")
        yield Path(f"/proc/{process.pid}/root{lan.NAMESPACE}")
    finally:
        try:
            process.communicate(timeout=_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def require_published(publisher: Publisher, setting: Setting, count: int) -> None:
    """Raise unless another program shows `count` published ports."""
    if not publisher.count:
        return
    published = run(list(publisher.count), setting.directory).output.count(publisher.count_word)
    if published != count:
        raise ContestantFailedError(f"{published} ports are published, not {count}")


def main() -> int:
    """Stand as the host that the arguments describe."""
    name, count, directory, programs, dnet = sys.argv[1:]
    publisher, setting = PUBLISHERS[name], Setting(Path(directory), Path(programs), Path(dnet))
    try:
        furnish(setting)
        run(publisher.create(setting), setting.directory)
        run(publisher.publish(setting, int(count)), setting.directory)
        require_published(publisher, setting, int(count))
        lan.make(setting.directory)
        with lan.server(setting.traffic, Path("/run/netns/c-1"), CONTAINER_PORT):
            print("ready", flush=True)
            sys.stdin.read()
    except ContestantFailedError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
