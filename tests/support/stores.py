"""Networks and containers in a store, and the database file asked behind the store's back."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnet.state.store import Store
from tests.support import samples

RUN = "/run/x"


ROOT = Path(__file__).resolve().parents[3]


BLUE = samples.network("blue", "10.1.0.0/16")


RED = samples.network("red", "10.2.0.0/24")


def rows(directory: Path, sql: str) -> list[tuple]:
    """Ask the file itself."""
    with contextlib.closing(sqlite3.connect(directory / "state.db")) as connection:
        return connection.execute(sql).fetchall()


def change(directory: Path, sql: str) -> None:
    """Change the file behind the store's back."""
    with contextlib.closing(sqlite3.connect(directory / "state.db")) as connection, connection:
        connection.execute(sql)


def insert(store: Store, *values, owner: str = "somebody", is_ready: bool = True) -> None:
    """Insert networks and containers, in phase `ready` unless told otherwise."""
    containers = [value for value in values if hasattr(value, "endpoints")]
    networks = [value for value in values if value not in containers]
    with store.write():
        for value in networks:
            store.networks.insert(value, owner)
        store.containers.insert(containers, owner)
        if is_ready:
            store.set_phase("network", [value.id for value in networks], "ready")
            store.set_phase("container", [value.id for value in containers], "ready")


def fail_after_inserting(store: Store) -> None:
    """Insert a network in a block that fails afterwards."""

    def block() -> None:
        with store.write():
            store.networks.insert(BLUE, store.new_owner())
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        block()


def web(address: str = "10.1.0.2", name: str = "web", index: int = 5, **given):
    """Return a container with one endpoint on BLUE."""
    return samples.container(name, [samples.endpoint(BLUE, address, index=index, id=f"end {name}")], run=RUN, **given)


@contextlib.contextmanager
def another_process(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a script that imports what the tests import; it is killed at the end of the block, at the latest."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()
