"""Tests on Debian's kernel, in a virtual machine: of what this machine's kernel may lack."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.plugin import require_root

ROOT = Path(__file__).resolve().parents[3]
KERNEL = Path(sys.prefix, "vm")
TIMEOUT_S = 900


def require_machine() -> None:
    """Skip the test unless the machine can start and its kernel is there; in CI it is fetched, and nothing skipped."""
    require_root()
    if os.environ.get("CI") == "true":
        return
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    missing = [name for name in ("qemu-system-x86_64", "vng") if not shutil.which(name, path=path)]
    if missing or not KERNEL.exists():
        pytest.skip(f"{', '.join(missing) or 'its kernel'} is missing: make test-vm")


@pytest.mark.kernel
@pytest.mark.first
def test_bridges_that_filter_vlans() -> None:
    """On bridges that filter VLANs themselves these mean what test_vlan_bridge.py says; nothing of it is skipped."""
    require_machine()
    command = ["sh", "tests/vm.sh", str(KERNEL), sys.executable, "tests/kernel/vlan/test_filtering_bridge.py"]
    pipe = subprocess.PIPE
    machine = subprocess.Popen(
        command, cwd=ROOT, stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        output, _ = machine.communicate(timeout=TIMEOUT_S)
    finally:
        if machine.poll() is None:
            os.killpg(machine.pid, signal.SIGKILL)
    assert machine.returncode == 0, output
    assert re.search(r"^=+ \d+ passed in ", output, re.MULTILINE), output
