"""The database file: its schema, transactions, and the locks between processes."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from dnet.errors import Conflict, InvalidRequest, NeedsRoot, StateError
from dnet.state.schema import INDEX_BITS, SCHEMA_VERSION, SCHEMAS

BUSY_TIMEOUT_S = 30.0
BUSY_TURN_S = 0.1
_UNNAMED = "new-"  # an owner's file that is not locked yet


class Database:
    """One SQLite database per state directory; `BEGIN IMMEDIATE` is the lock between processes."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._owner_name = ""
        self._owner_file: TextIO | None = None
        self._owner_process = 0
        self._changes_begun = 0
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            os.makedirs(os.path.join(directory, "operations"), mode=0o700, exist_ok=True)
            if not os.access(directory, os.W_OK):
                raise PermissionError
        except PermissionError as error:
            hint = "run it as root, or name a directory of your own with --state-dir"
            raise NeedsRoot(
                f"root is needed to use the state directory {directory}", object=directory, hint=hint
            ) from error
        except OSError as error:
            raise StateError(
                f"cannot use the state directory {directory}: {error.strerror}", object=directory
            ) from error
        self._path = os.path.join(directory, "state.db")
        with self._guard():
            self._connection = sqlite3.connect(
                self._path, timeout=BUSY_TURN_S, isolation_level=None, check_same_thread=False
            )
            self._connection.row_factory = sqlite3.Row
            self._prepare()

    @property
    def operations(self) -> str:
        """The directory in which each process that changes something has a file, which it closes at the end."""
        return os.path.join(self._directory, "operations")

    def close(self) -> None:
        """Close the database, and let go of what this process owned."""
        self._connection.close()
        if self._owner_file is not None:
            if os.getpid() == self._owner_process:  # and not a child that it forked
                with suppress(FileNotFoundError):
                    os.unlink(self._owner_path(self._owner_name))
            self._owner_file.close()
            self._owner_file = None

    def _prepare(self) -> None:
        execute = self._connection.execute
        (version,) = execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StateError(
                f"{self._path} was written by a newer dnet (schema {version}, this one knows {SCHEMA_VERSION})",
                object=self._path,
                hint="upgrade dnet, or use another --state-dir",
            )
        execute("PRAGMA foreign_keys = ON")
        if version < SCHEMA_VERSION:
            # Changing the journal's mode does not wait for others, so the first processes take turns.
            with self.network_lock():
                self._make_schema()

    def _make_schema(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA journal_mode = WAL")
        with self.write():
            (version,) = execute("PRAGMA user_version").fetchone()
            for schema in SCHEMAS[version:]:
                for statement in schema.split(";"):
                    execute(statement)
            if not version:
                base = int.from_bytes(os.urandom(4)) % ((1 << (31 - INDEX_BITS)) - 2) + 1
                execute(
                    "INSERT INTO setting VALUES ('index_base', ?), ('next_index', 0)",
                    (base << INDEX_BITS,),
                )
            execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise Conflict(f"another dnet process took it first: {error}") from error
        except sqlite3.OperationalError as error:
            raise StateError(f"cannot use {self._path}: {error}", object=self._path) from error
        except sqlite3.ProgrammingError as error:
            raise InvalidRequest(f"the engine of {self._directory} cannot be used any more: {error}") from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    @contextmanager
    def _decoding(self) -> Iterator[None]:
        """Turn whatever is wrong with a row's content into one error."""
        try:
            yield
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> StateError:
        hint = "restore it from a backup, or move it away and begin anew"
        return StateError(f"{self._path} is damaged: {error}", object=self._path, hint=hint)

    @contextmanager
    def write(self, *, is_dry_run: bool = False, is_intent: bool = False) -> Iterator[None]:
        """Hold the write lock; commit at the end, or roll back after an error and after a dry run.

        An intent need not survive a power failure, which takes what it was for along, so it costs no fsync.
        """
        with self._guard():
            try:
                self._connection.execute(f"PRAGMA synchronous = {'NORMAL' if is_intent else 'FULL'}")
                self._begin()
                yield
                self._connection.execute("ROLLBACK" if is_dry_run else "COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def _begin(self) -> None:
        """Take the write lock, waiting in short turns: SQLite's own waiting hears no signals."""
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            else:
                return

    def _query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        with self._guard():
            return self._connection.execute(sql, parameters).fetchall()

    # Locks and owners

    @contextmanager
    def network_lock(self) -> Iterator[None]:
        """Hold the lock under which networks are made, mended and removed, kernel work included."""
        with open(os.path.join(self._directory, "network.lock"), "w", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def mending_lock(self) -> Iterator[None]:
        """Hold the lock under which what is attached is made again, so that one process at a time does."""
        with open(os.path.join(self._directory, "mending.lock"), "w", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def new_owner(self) -> str:
        """Return the name under which one change reserves rows: that of this process, and a number.

        It is alive as long as the process, or until `close`.
        """
        self._changes_begun += 1
        return f"{self._process_name()}.{self._changes_begun}"

    def _process_name(self) -> str:
        if self._owner_file is None:
            directory = os.path.join(self._directory, "operations")
            for name in os.listdir(directory):
                self._is_alive(name)  # removes what a killed process left
            # Locked before it has its name: unlocked under it, it would be taken for a dead process's.
            name = os.urandom(8).hex()
            path = self._owner_path(f"{_UNNAMED}{name}")
            file = None
            try:
                file = open(path, "w", encoding="utf-8")  # noqa: SIM115  held until `close`
                fcntl.flock(file, fcntl.LOCK_EX)
                os.rename(path, self._owner_path(name))
                self._owner_file, self._owner_name, self._owner_process = file, name, os.getpid()
            finally:
                if file is None or self._owner_file is not file:
                    with suppress(FileNotFoundError):
                        os.unlink(path)
                    if file:
                        file.close()
        return self._owner_name

    def _owner_path(self, owner: str) -> str:
        return os.path.join(self._directory, "operations", owner)

    def _is_alive(self, owner: str) -> bool:
        """Whether another process works on rows of this owner; what is left of our own is as good as abandoned."""
        owner = owner.partition(".")[0]
        if owner == self._owner_name:
            return False
        if owner.startswith(_UNNAMED):
            return True
        try:
            with open(self._owner_path(owner), "r+", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with suppress(FileNotFoundError):
                    os.unlink(self._owner_path(owner))
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def setting(self, key: str) -> int:
        """Return a number that is kept between calls; 0 when it was never set."""
        found = self._query("SELECT value FROM setting WHERE key = ?", (key,))
        with self._decoding():
            return int(found[0][0]) if found else 0

    def set_setting(self, key: str, value: int) -> None:
        """Keep a number, of which 0 is as if it had never been set; inside a transaction."""
        self._connection.execute("DELETE FROM setting WHERE key = ?", (key,))
        if value:
            self._connection.execute("INSERT INTO setting VALUES (?, ?)", (key, value))
