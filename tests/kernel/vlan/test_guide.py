"""docs/vlans.md (the seed's four containers in two VLANs, and two hosts), command by command."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.support.hosts import FakeHost
from tests.support.uplink_lan import Switch

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "vlans.md"


def _commands() -> list[tuple[str, str]]:
    """Return the guide's indented lines, each with the remark behind it."""
    lines = [line.strip() for line in GUIDE.read_text(encoding="utf-8").splitlines() if line.startswith("    ")]
    return [(line.partition("#")[0].strip(), line.partition("#")[2].strip()) for line in lines]


def test_guide(host, tmp_path):
    """Every command of the guide does what its remark says, on the host that it names."""
    here = os.path.dirname(sys.executable)
    pings = 0
    switch = Switch(host)
    (tmp_path / "b").mkdir()
    with FakeHost(tmp_path / "b") as other:
        switch.plug(host, "eth1", "192.0.2.10/24")
        switch.plug(other, "eth1", "192.0.2.20/24")
        for command, remark in _commands():
            place = other if remark.startswith("on b") else host
            done = place.run("sh", "-c", f"PATH={here}:$PATH; {command}", code=None)
            wanted = remark.endswith("no reply")
            assert (done.code != 0) == wanted, f"{command} # {remark}\n{done.stdout}{done.stderr}"
            pings += "ping " in command
        assert pings >= 20
        assert host.dnet("ps", "-q").stdout == other.dnet("ps", "-q").stdout == ""
