"""docs/vlans.md (the seed's four containers in two VLANs), command by command."""

from __future__ import annotations

import os
import sys
from pathlib import Path

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "vlans.md"


def _commands() -> list[tuple[str, str]]:
    """Return the guide's indented lines, each with the remark behind it."""
    lines = [line.strip() for line in GUIDE.read_text(encoding="utf-8").splitlines() if line.startswith("    ")]
    return [(line.partition("#")[0].strip(), line.partition("#")[2].strip()) for line in lines]


def test_guide(host):
    """Every command of the guide does what its remark says."""
    here = os.path.dirname(sys.executable)
    pings = 0
    for command, remark in _commands():
        done = host.run("sh", "-c", f"PATH={here}:$PATH; {command}", code=None)
        wanted = remark == "no reply"
        assert (done.code != 0) == wanted, f"{command} # {remark}\n{done.stdout}{done.stderr}"
        pings += " ping " in command
    assert pings >= 12
    assert host.dnet("ps", "-q").stdout == ""
