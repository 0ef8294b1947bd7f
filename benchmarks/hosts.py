"""Fake hosts: fresh network and mount namespaces in which one module of the benchmark runs.

`run_module` starts a module there; the module calls `furnish` first. Whatever it leaves vanishes with the namespaces.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers import Setting
from benchmarks.timed_process import ContestantFailedError, run

# Where `ip netns` and dnet keep files by container name, outside the directories that dnet is told to use.
_NAME_DIRECTORIES = ("/run/netns", "/etc/netns")


def command(module: str, arguments: Sequence[str]) -> list[str]:
    """Return the command that runs a module of this package on a fake host of its own."""
    return ["unshare", "-nm", sys.executable, "-m", f"benchmarks.{module}", *arguments]


def run_module(module: str, arguments: Sequence[str]) -> str:
    """Run a module on a fake host of its own and return its output; raise ContestantFailedError unless it exits 0."""
    result = subprocess.run(
        command(module, arguments), cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise ContestantFailedError(result.stderr.strip())
    return result.stdout


def furnish(setting: Setting) -> None:
    """Turn the namespaces of this process into a host: set dnet's directories and hide the machine's names.

    A new mount namespace copies the mounts of the old one. Without empty file systems here, hosts would share the
    machine's /run/netns and /etc/netns, and two containers of one name would collide.
    """
    os.environ["DNET_STATE_DIR"] = str(setting.directory / "state")
    os.environ["DNET_RUN_DIR"] = str(setting.directory / "run")
    os.environ["XTABLES_LOCKFILE"] = str(setting.directory / "xtables.lock")
    os.environ["LC_ALL"] = "C"
    for path in _NAME_DIRECTORIES:
        Path(path).mkdir(parents=True, exist_ok=True)
        run(["mount", "-t", "tmpfs", "-o", "mode=755", "benchmark", path], setting.directory)
