"""Databases that are newer, damaged or not there. Each is refused with a sentence that names the file."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import pytest

from dnet.errors import StateError
from dnet.state.store import Store
from tests.support.stores import BLUE, RUN, change, insert, web


def read_everything(directory: Path) -> None:
    """Open the store, and use all of it."""
    with contextlib.closing(Store(str(directory), RUN)) as opened:
        opened.networks.all()
        opened.containers.all()
        with opened.write():
            opened.take_indexes(1)


def refusal(directory: Path) -> StateError:
    """Return the error of opening the store and reading all of it."""
    with pytest.raises(StateError) as caught:
        read_everything(directory)
    return caught.value


def test_newer_schema(store, directory):
    """A database of a newer dnet is refused with the advice to upgrade, and left as it is."""
    insert(store, BLUE, web())
    store.close()
    change(directory, "PRAGMA user_version = 99")
    before = (directory / "state.db").read_bytes()
    error = refusal(directory)
    assert "newer dnet" in str(error)
    assert "99" in str(error)
    assert "upgrade" in error.hint
    assert (directory / "state.db").read_bytes() == before


def spoil(path: Path, start: int, data: bytes) -> None:
    """Overwrite a part of a file."""
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(
            lambda path: path.write_bytes(b"this is no database, and long enough to be sure of it " * 99), id="text"
        ),
        pytest.param(lambda path: path.write_bytes(hashlib.shake_256(b"noise").digest(20_000)), id="noise"),
        pytest.param(lambda path: spoil(path, 0, b"SQLite format 4\0"), id="header"),
        pytest.param(lambda path: spoil(path, 4096, b"\xff" * 16_000), id="pages"),
        pytest.param(lambda path: os.truncate(path, 5000), id="cut off"),
    ],
)
def test_damaged_file(store, directory, damage):
    """A file that SQLite cannot read is a StateError that names the file and says what can be done."""
    insert(store, BLUE, web())
    store.close()
    damage(directory / "state.db")
    error = refusal(directory)
    assert str(directory / "state.db") in str(error)


CONTENT = {
    "subnet that is none": "UPDATE network SET subnet = 'everything'",
    "empty subnet": "UPDATE network SET subnet = ''",
    "gateway that is none": "UPDATE network SET gateway = '10.1.0'",
    "range that is none": "UPDATE network SET ip_range = 'x'",
    "auxiliary address that is none": """UPDATE network SET aux_addresses = '{"router": "x"}'""",
    "auxiliary addresses as a list": "UPDATE network SET aux_addresses = '[1]'",
    "labels that are not JSON": "UPDATE container SET labels = '{\"a\"'",
    "labels that are a number": "UPDATE container SET labels = '5'",
    "labels that are null": "UPDATE container SET labels = 'null'",
    "network labels that are a list": "UPDATE network SET labels = '[1, 2]'",
    "address that is text": "UPDATE endpoint SET address = 'x'",
    "address beyond 32 bits": "UPDATE endpoint SET address = 1 << 40",
    "index that is text": "UPDATE endpoint SET host_index = 'x'",
    "time that is text": "UPDATE container SET created = 'yesterday'",
    "no base of indexes": "DELETE FROM setting WHERE key = 'index_base'",
    "base of indexes that is text": "UPDATE setting SET value = 'x'",
    "no table of endpoints": "DROP TABLE endpoint",
    "no column": "ALTER TABLE container DROP COLUMN mtu",
}


@pytest.mark.parametrize("sql", [pytest.param(sql, id=label) for label, sql in CONTENT.items()])
def test_damaged_content(store, directory, sql):
    """Content that makes no sense is a StateError that names the file, never an unexpected failure."""
    insert(store, BLUE, web())
    store.close()
    change(directory, sql)
    assert str(directory / "state.db") in str(refusal(directory))


def test_empty_file_is_a_new_database(directory):
    """An empty file, as of a crash before the first commit, becomes a new database."""
    directory.mkdir()
    (directory / "state.db").touch()
    with contextlib.closing(Store(str(directory), RUN)) as opened:
        insert(opened, BLUE)
        assert opened.networks.all() == [BLUE]


def test_state_directory_that_is_a_file(tmp_path):
    """A state directory that is a file is a StateError that names it."""
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="file"):
        Store(str(tmp_path / "file"), RUN)
    with pytest.raises(StateError, match="below"):
        Store(str(tmp_path / "file" / "below"), RUN)
