"""What the benchmark ran on: processor, memory, kernel, versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

_RUNTIMES = ("crun", "runc")


def describe(dnet: Path) -> dict[str, str | int]:
    """Return the facts that a reader needs to judge the numbers."""
    return {
        "date": datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _field(Path("/proc/cpuinfo"), "model name"),
        "cores": os.cpu_count() or 0,
        "memory_mib": int(_field(Path("/proc/meminfo"), "MemTotal").split()[0]) // 1024,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "dnet": _output(str(dnet), "version"),
        "load_at_start": f"{os.getloadavg()[0]:.2f}",
        "iproute2": _output("ip", "-V"),
        "iptables": _output("iptables", "-V") if shutil.which("iptables") else "not installed",
        "runtimes": ", ".join(
            _output(name, "--version").partition("\n")[0] for name in _RUNTIMES if shutil.which(name)
        ),
        "docker": _output("dockerd", "--version") if has_docker() else "not installed",
        "openvswitch": _first_line("ovs-vswitchd", "--version") if shutil.which("ovs-vswitchd") else "not installed",
        "pyroute2": importlib.metadata.version("pyroute2"),
        "compiler": _first_line(os.environ.get("CC", "gcc"), "--version"),
    }


def has_docker() -> bool:
    """Whether Docker can take part in the topic "run"."""
    return all(shutil.which(name) for name in ("dockerd", "docker", "busybox"))


def runs(argv: Sequence[str]) -> bool:
    """Whether a program is installed and does its job in a network namespace of its own."""
    if shutil.which(argv[0]) is None:
        return False
    return subprocess.run(["unshare", "-n", *argv], capture_output=True, check=False).returncode == 0


def _field(path: Path, name: str) -> str:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "0"


def _output(*argv: str) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def _first_line(*argv: str) -> str:
    return _output(*argv).partition("\n")[0]
