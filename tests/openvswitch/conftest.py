"""A fake host with an Open vSwitch of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.hosts import FakeHost
from tests.support.openvswitch import Ovs, require_programs


@pytest.fixture
def ovs(host: FakeHost, request: pytest.FixtureRequest) -> Iterator[Ovs]:
    """Yield an Open vSwitch in the fake host; the mark `tso` starts it with segmentation offload."""
    require_programs()
    made = Ovs(host, tso=request.node.get_closest_marker("tso") is not None)
    yield made
    for process in (made.switch, made.server):
        if process.poll() is None:
            process.kill()
            process.wait()
