"""Fixtures with fake hosts: a pytest plugin.

    pytest_plugins = ("tests.support.plugin",)                      # in conftest.py

    def test_containers_reach_the_outside(host, outside):
        host.dnet("create", "web")
        with outside.serve(80):
            answer = host.sandbox("web").ask(outside.address, 80)
        assert answer["peer"] == outside.host_address

Without root the fixtures skip, and fail where CI=true.
"""

from __future__ import annotations

import functools
import gc
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import PATH, FakeHost, Neighbour, free_memory

PROGRAMS = ("unshare", "nsenter", "ip", "bridge", "nft", "ping", "findmnt", "find")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[FakeHost]:
    """Yield a fresh fake host, with nothing but lo."""
    require_root()
    with FakeHost(tmp_path) as fake:
        yield fake
    free_memory(tmp_path)


@pytest.fixture
def outside(host: FakeHost) -> Neighbour:
    """Return the world beyond the fake host, its default route; it knows no way back to any container.

    192.0.2.2 is next to the host, 198.51.100.1 further away.
    """
    world = host.neighbour("outside", "192.0.2.0/24")
    world.run("ip address add 198.51.100.1/32 dev lo")
    host.run("ip route add default via 192.0.2.2")
    return world


@functools.cache
def _obstacle() -> str:
    missing = [name for name in PROGRAMS if not shutil.which(name, path=PATH)]
    if missing:
        return f"these programs are missing: {', '.join(missing)}"
    if os.geteuid():
        return "needs root"
    done = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, text=True, check=False)
    return done.stderr.strip()


def require_root() -> None:
    """Skip the test where it cannot run for lack of root or programs; where CI=true, fail it instead."""
    obstacle = _obstacle()
    if obstacle and os.environ.get("CI") == "true":
        pytest.fail(obstacle, pytrace=False)
    if obstacle:
        pytest.skip(obstacle)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "kernel: needs root and a real Linux kernel")


def pytest_unconfigure() -> None:
    """Leave nothing in memory."""
    free_memory()


def pytest_collection_finish() -> None:
    """Keep what has been loaded out of garbage collections: in a child each would copy all of it."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses a fake host."""
    for item in items:
        if "host" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kernel)
