"""A state directory and an open store of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnet.state.store import Store
from tests.support.stores import RUN


@pytest.fixture
def directory(tmp_path) -> Path:
    """Return a state directory that does not exist yet."""
    return tmp_path / "state"


@pytest.fixture
def store(directory) -> Iterator[Store]:
    """Yield an open store of that directory."""
    with contextlib.closing(Store(str(directory), RUN)) as opened:
        yield opened
