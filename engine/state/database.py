"""The database file: schema, transactions, and the locks between processes."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from dnet.errors import Conflict, InvalidRequest, NeedsRoot, StateError
from dnet.state.schema import INDEX_BITS, SCHEMA_VERSION, SCHEMAS

BUSY_TIMEOUT_S = 30.0
BUSY_TURN_S = 0.1
PARAMETERS_MAX = 500  # in one statement; SQLite's own limit is 32,766
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
        """The directory in which each process that changes something keeps a file open and locked."""
        return os.path.join(self._directory, "operations")

    def close(self) -> None:
        """Close the database, and give up the rows that this process owned."""
        self._connection.close()
        if self._owner_file is not None:
            if os.getpid() == self._owner_process:  # a forked child must not remove its parent's file
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
            # Changing the journal's mode does not wait for others, so the first processes need a lock.
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
        """Turn SQLite's errors into errors of dnet."""
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise Conflict(f"another dnet process took it first: {error}") from error
        except sqlite3.OperationalError as error:
            raise StateError(f"cannot use {self._path}: {error}", object=self._path) from error
        except sqlite3.ProgrammingError as error:
            raise InvalidRequest(f"the engine of {self._directory} cannot be used any more: {error}") from error
        except sqlite3.DatabaseError as error:
            raise self.damaged(error) from error

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Turn the errors of decoding a row into a StateError."""
        try:
            yield
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise self.damaged(error) from error

    def damaged(self, error: Exception) -> StateError:
        """Return the error of a database whose content cannot be understood."""
        hint = "restore it from a backup, or move it away and begin anew"
        return StateError(f"{self._path} is damaged: {error}", object=self._path, hint=hint)

    @contextmanager
    def write(self, *, dry_run: bool = False, is_intent: bool = False) -> Iterator[None]:
        """Hold the write lock; commit at the end, or roll back after an error and after a dry run.

        An intent costs no fsync: it need not survive a power failure, which also ends what the intent announced.
        """
        with self._guard():
            try:
                self._connection.execute(f"PRAGMA synchronous = {'NORMAL' if is_intent else 'FULL'}")
                self._begin()
                yield
                self._connection.execute("ROLLBACK" if dry_run else "COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def _begin(self) -> None:
        """Take the write lock. Wait in short steps, because no signal interrupts SQLite's own waiting."""
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            else:
                return

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Return the rows of a query, each with its columns by number and by name."""
        with self._guard():
            return self._connection.execute(sql, parameters).fetchall()

    def text(self, sql: str, parameters: Sequence[Any] = ()) -> str:
        """Return the first column of a query's first row; the empty text without a row."""
        found = self.query(sql, parameters)
        return str(found[0][0]) if found else ""

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Execute a statement; inside a transaction."""
        return self._connection.execute(sql, parameters)

    def execute_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Execute a statement once for each row; inside a transaction."""
        self._connection.executemany(sql, rows)

    # Locks and owners

    @contextmanager
    def network_lock(self) -> Iterator[None]:
        """Hold the lock under which networks are made, repaired and removed, kernel work included."""
        with self._lock("network.lock"):
            yield

    @contextmanager
    def repair_lock(self) -> Iterator[None]:
        """Hold the lock under which attachments are made again, by one process at a time."""
        with self._lock("mending.lock"):
            yield

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        with open(os.path.join(self._directory, name), "w", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def new_owner(self) -> str:
        """Return the name under which one change reserves rows: that of this process, and a number.

        The owner is alive until the process ends, or until `close`.
        """
        self._changes_begun += 1
        return f"{self.process_name()}.{self._changes_begun}"

    def process_name(self) -> str:
        """Return the name of this process as an owner; the first call makes and locks its file."""
        if self._owner_file is None:
            directory = os.path.join(self._directory, "operations")
            for name in os.listdir(directory):
                self.is_alive(name)  # removes what a killed process left
            # Locked before it has its name, because an unlocked file of that name is one of a dead process.
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

    def is_own(self, owner: str) -> bool:
        """Whether an owner is this process."""
        return owner.partition(".")[0] == self._owner_name

    def is_alive(self, owner: str) -> bool:
        """Whether another process works on rows of this owner; what remains of this process's own is abandoned."""
        if self.is_own(owner):
            return False
        owner = owner.partition(".")[0]
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
        found = self.query("SELECT value FROM setting WHERE key = ?", (key,))
        with self.decoding():
            return int(found[0][0]) if found else 0

    def set_setting(self, key: str, value: int) -> None:
        """Keep a number between calls, or forget it when it is 0; inside a transaction."""
        self._connection.execute("DELETE FROM setting WHERE key = ?", (key,))
        if value:
            self._connection.execute("INSERT INTO setting VALUES (?, ?)", (key, value))


def chunks(values: Iterable[str]) -> Iterator[tuple[list[str], str]]:
    """Yield values in chunks that fit one statement, with their `?` placeholders."""
    listed = list(values)
    for start in range(0, len(listed), PARAMETERS_MAX):
        chunk = listed[start : start + PARAMETERS_MAX]
        yield chunk, ",".join("?" * len(chunk))
