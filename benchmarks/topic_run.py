"""The topic `run`: programs in containers, and bulks with files and links. Runs on a fake host."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import published_host, verify
from benchmarks.peers import DNET_LINKED, DNET_PORTS, DOCKER_IMAGE, LINKED, NAME_SERVER, Contestant, Setting
from benchmarks.timed_process import ContestantFailedError, Measurement, run

_STOP_TIMEOUT_S = 30.0
# An image of one static program, which is also its shell.
_PROGRAM = "busybox"


def probe(setting: Setting) -> Measurement:
    """Run one program; raise ContestantFailedError, with dnet's reason, where this machine cannot run any."""
    return {"seconds": [run([str(setting.dnet), "run", "--rm", "true"], setting.directory).seconds]}


def alone(setting: Setting, count: int) -> Measurement:
    """Run `true` in new containers, which go with it or stay; in turns with the OCI runtime's share, and a small root.

    The share is the OCI runtime running the bundle that dnet has made, by the name of the runtime. What no command of
    dnet's can be faster than is in it too: its Python, which loads click.
    """
    dnet = str(setting.dnet)
    run([dnet, "run", "--name", "kept", "true"], setting.directory)
    _require_own_network(setting)
    [bundle] = Path(os.environ["DNET_STATE_DIR"], "containers").iterdir()
    [states] = Path(os.environ["DNET_RUN_DIR"], "runtime/states").iterdir()
    runtime = states.name
    commands = {
        "dnet": [dnet, "run", "--name", "once", "true"],
        "removed": [dnet, "run", "--rm", "true"],
        "click": [sys.executable, "-c", "import click"],
        runtime: [runtime, f"--root={setting.directory}/{runtime}", "run", f"--bundle={bundle}", bundle.name],
    }
    if shutil.which(_PROGRAM):
        commands["small root"] = [dnet, "run", "--rm", f"--rootfs={_small_root(setting.directory)}", "true"]
    seconds: Measurement = {name: [] for name in commands}
    for _ in range(count):
        # What a volatile overlay leaves, so that it is not mounted a second time unnoticed.
        for mark in bundle.glob("work/*/work/incompat"):
            shutil.rmtree(mark)
        for name, argv in commands.items():
            seconds[name].append(run(argv, setting.directory).seconds)
        run([dnet, "rm", "once"], setting.directory)
    if run([dnet, "ps", "--quiet"], setting.directory).output.split() != [bundle.name]:
        raise ContestantFailedError("dnet run --rm leaves containers, or rm does")
    return seconds


def by_docker(contestant: Contestant, setting: Setting, count: int) -> Measurement:
    """Do the same by Docker, from the same small root."""
    with _dockerd(setting):
        image = f"tar -C {_small_root(setting.directory)} -c . | docker import - {DOCKER_IMAGE}"
        run(["sh", "-c", image], setting.directory)
        command = contestant.command(setting, 1)
        return {"seconds": [run(command, setting.directory).seconds for _ in range(count)]}


def linked(contestant: Contestant, setting: Setting, count: int) -> Measurement:
    """Create a bulk beside a container to which it can be linked."""
    run([str(setting.dnet), "create", LINKED], setting.directory)
    finished = run(contestant.command(setting, count), setting.directory)
    places = [contestant.sandbox(setting, number) for number in range(1, count + 1)]
    places.insert(1, Path("/run/netns", LINKED))
    verify.require_containers(count + 1, lambda number: places[number - 1])
    if contestant.name == DNET_LINKED.name:
        published_host.require_published(DNET_PORTS, setting, count)
        files = ["cat", "/etc/hosts", "/etc/resolv.conf"]
        words = run(["ip", "netns", "exec", f"c-{count}", *files], setting.directory).output.split()
        if LINKED not in words or NAME_SERVER not in words:
            raise ContestantFailedError(f"c-{count} has not the files that were asked for: {' '.join(words)}")
    return {"seconds": [finished.seconds]}


def _require_own_network(setting: Setting) -> None:
    """Raise unless a program that dnet runs in the same way reaches its gateway, and nobody else's interfaces."""
    script = "ls /sys/class/net; ping -q -c 1 -w 5 $(ip route show default | cut -d' ' -f3)"
    shown = run([str(setting.dnet), "run", "--rm", "sh", "-ec", script], setting.directory).output.split()
    if shown[:2] != ["eth0", "lo"]:
        raise ContestantFailedError(f"a program that dnet runs has not an interface of its own: {shown}")


def _small_root(directory: Path) -> Path:
    """Return a root directory with one static program."""
    root = directory / "root"
    if not root.exists():
        (root / "bin").mkdir(parents=True)
        shutil.copy(str(shutil.which(_PROGRAM)), root / "bin" / _PROGRAM)
        for name in ("sh", "true"):
            (root / "bin" / name).symlink_to(_PROGRAM)
    return root


@contextmanager
def _dockerd(setting: Setting) -> Iterator[None]:
    """Run a dockerd of this host's own, which `docker` finds by its environment."""
    place = setting.directory
    os.environ["DOCKER_HOST"] = f"unix://{place}/docker.sock"
    directories = [f"--data-root={place}/docker", f"--exec-root={place}/exec", f"--pidfile={place}/docker.pid"]
    command = ["dockerd", "--storage-driver=vfs", *directories, f"--host={os.environ['DOCKER_HOST']}"]
    daemon = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        if daemon.stderr is None or not any("API listen on" in line for line in daemon.stderr):
            raise ContestantFailedError("dockerd does not start")
        yield
    finally:
        daemon.terminate()  # it ends its own children
        daemon.communicate(timeout=_STOP_TIMEOUT_S)
