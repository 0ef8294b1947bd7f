"""Containers of a host by one OCI runtime, or by each."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnet.linux import spawn
from tests.support.hosts import FakeHost
from tests.support.runtime_box import (
    Box,
    boxed,
    require_installed,
)


@pytest.fixture(params=["crun", "runc"])
def each(host: FakeHost, request: pytest.FixtureRequest) -> Iterator[Box]:
    """Yield the containers of a host, once by each OCI runtime; one of them is made."""
    with contextlib.contextmanager(boxed)(host, request.param) as made:
        made.create()
        yield made


@pytest.fixture
def box(host: FakeHost) -> Iterator[Box]:
    """Yield the containers of a host by one OCI runtime; one of them is made."""
    with contextlib.contextmanager(boxed)(host, "crun" if spawn.find("crun") else "runc") as made:
        made.create()
        yield made


@pytest.fixture
def image(tmp_path: Path) -> str:
    """Return a root directory with nothing in it but busybox."""
    require_installed("busybox")
    root = tmp_path / "image"
    (root / "bin").mkdir(parents=True)
    shutil.copy(spawn.find("busybox"), root / "bin" / "busybox")
    for name in ("sh", "cat", "ls", "id", "mount", "touch", "hostname", "true", "sleep", "stat"):
        (root / "bin" / name).symlink_to("busybox")
    return str(root)
