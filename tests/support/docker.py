"""A real Docker daemon inside a fake host, with an image that holds nothing but busybox."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import FakeHost, wait_until
from tests.support.plugin import require_root

IMAGE = "busybox"
PROGRAMS_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
# No images' layers to share, no bridge, no rules: only containers.
OPTIONS = ("--storage-driver=vfs", "--bridge=none", "--iptables=false", "--ip6tables=false")
STOP_S = 20.0


class Dockerd:
    """A running daemon, at the usual socket of its fake host."""

    def __init__(self, host: FakeHost) -> None:
        self.host = host

    def docker(self, *arguments: str, code: int | None = 0) -> str:
        """Run Docker's command line and return what it writes, without the line's end."""
        return self.host.run("docker", *arguments, code=code).stdout.strip()

    def run(self, name: str, *options: str, network: str = "none") -> str:
        """Start a container that sleeps, and return its id."""
        return self.docker("run", "-d", "--name", name, "--network", network, *options, IMAGE, "sleep", "1000")

    def pid(self, name: str) -> int:
        """Return the pid of a container's first process, as Docker tells it; 0 when it does not run."""
        return int(self.docker("inspect", "--format", "{{.State.Pid}}", name))


def require_programs(*names: str) -> None:
    """Skip the test where programs are missing; where CI=true, fail it instead."""
    missing = [name for name in names if not shutil.which(name, path=PROGRAMS_PATH)]
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"these programs are missing: {', '.join(missing)}", pytrace=False)
    if missing:
        pytest.skip(f"these programs are missing: {', '.join(missing)}")


@contextlib.contextmanager
def running_dockerd(directory: Path) -> Iterator[Dockerd]:
    """Yield a daemon in a fake host of its own; at the end its containers are removed, and it stops."""
    require_root()
    require_programs("dockerd", "docker", "busybox")
    with FakeHost(directory) as host, open(directory / "dockerd.log", "w", encoding="utf-8") as log:
        # /run is the fake host's own; the path of a socket has to be short.
        places = [f"--data-root={directory / 'data'}", "--exec-root=/run/docker"]
        command = ("dockerd", *OPTIONS, *places, f"--pidfile={directory / 'dockerd.pid'}")
        process = host.start(*command, stdout=log, stderr=log)
        daemon = Dockerd(host)
        try:
            wait_until(lambda: host.run("docker", "version", code=None).code == 0, "dockerd answers", within_s=30)
            _import_image(daemon, directory / "image")
            yield daemon
        finally:
            if containers := daemon.docker("ps", "--all", "--quiet", code=None).split():
                daemon.docker("rm", "--force", *containers, code=None)
            process.terminate()
            process.wait(STOP_S)


def _import_image(daemon: Dockerd, directory: Path) -> None:
    programs = directory / "bin"
    programs.mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", programs / "busybox")
    for name in ("sh", "sleep"):
        (programs / name).symlink_to("busybox")
    daemon.host.run("sh", "-c", f"tar -C {directory} -c . | docker import - {IMAGE}")
