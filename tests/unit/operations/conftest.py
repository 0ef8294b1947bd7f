"""A machine that is only remembered, and a network on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.engine_on_fakes import Machine, remembered


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Iterator[Machine]:
    """Yield a machine on which nothing exists yet."""
    with remembered(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def blue(machine) -> Machine:
    """Return a machine with a network `blue`, 10.1.0.0/24."""
    machine.engine.create_network("blue", subnet="10.1.0.0/24")
    return machine
