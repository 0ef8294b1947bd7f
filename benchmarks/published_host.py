"""A fake host with published ports, a LAN beside it and a server behind one of the ports.

    python -m benchmarks.published_host PUBLISHER COUNT DIRECTORY PROGRAMS DNET

Prints "ready" and stays until its standard input ends.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import hosts, traffic_lan
from benchmarks.peer_iptables import CONTAINER_PORT
from benchmarks.peers import PUBLISHERS, Publisher, Setting
from benchmarks.timed_process import ContestantFailedError, run

_STOP_TIMEOUT_S = 30.0


@contextmanager
def publishing(publisher: Publisher, setting: Setting, count: int) -> Iterator[Path]:
    """Run a host with `count` published ports for the length of the block; yield the namespace of its LAN."""
    directory = setting.directory / f"host-{count}"
    directory.mkdir()
    arguments = [publisher.name, str(count), str(directory), str(setting.programs), str(setting.dnet)]
    process = subprocess.Popen(
        hosts.command("published_host", arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise ContestantFailedError(f"{publisher.name} does not publish {count} ports")
        yield Path(f"/proc/{process.pid}/root{traffic_lan.NAMESPACE}")
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
    """Be the host that the arguments describe until standard input ends."""
    name, count, directory, programs, dnet = sys.argv[1:]
    publisher, setting = PUBLISHERS[name], Setting(Path(directory), Path(programs), Path(dnet))
    try:
        hosts.furnish(setting)
        run(publisher.create(setting), setting.directory)
        run(publisher.publish(setting, int(count)), setting.directory)
        require_published(publisher, setting, int(count))
        traffic_lan.make(setting.directory)
        with traffic_lan.server(setting.traffic, Path("/run/netns/c-1"), CONTAINER_PORT):
            print("ready", flush=True)
            sys.stdin.read()
    except ContestantFailedError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
