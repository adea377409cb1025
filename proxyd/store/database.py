"""The gateway's SQLite file: opening it, its version, one transaction at a time.

Owns the connection and the schema. Every failure is a StoreError: a caller that cannot read or write refuses what it
wanted to do. Calls are synchronous and short (well below a millisecond), and are made by the daemon's one thread.

What survives: a transaction that was committed survives the death of the process (`kill -9` too), because it is with
the operating system by then. A power cut, or the death of the machine, can lose the transactions since the last `sync`,
for which the daemon calls every second, and never leaves half of one: the price of not waiting for the disk with every
call of a model (`synchronous=NORMAL`). The directory must be on a local disk; a network file system
does not keep SQLite's locks.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from proxyd.store.errors import StoreError

APPLICATION_ID: Final = 0x70727864  # "prxd"
VERSION: Final = 1
BUSY_TIMEOUT_S: Final = 2.0

_SCHEMA: Final = """
CREATE TABLE spending (
    day TEXT NOT NULL,
    budget TEXT NOT NULL,
    subject TEXT NOT NULL,
    requests INTEGER NOT NULL DEFAULT 0,
    input_tokens INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    cost_nano_usd INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (day, budget, subject)
) WITHOUT ROWID, STRICT
"""


class Database:
    """One connection. `transaction` is where everything is read and written."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self.path = path
        self.has_news = False
        """Has something been committed since the last `sync`?"""

    @classmethod
    def open(cls, path: Path) -> Self:
        """The file at `path`, made with mode 0600 if it is not there. Raises StoreError."""
        _make(path)
        with _translated(path):
            connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            try:
                _prepare(connection, path)
            except BaseException:
                connection.close()
                raise
        return cls(connection, path)

    @classmethod
    def open_to_read(cls, path: Path) -> Self:
        """The file as it is, for a command that only looks. Raises StoreError, also when there is none."""
        if not path.exists():
            raise StoreError(f"{path}: there is no such file: the daemon makes it when it starts")
        with _translated(path):
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None
            )
            try:
                _check(connection, path)
            except BaseException:
                connection.close()
                raise
        return cls(connection, path)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of what is done inside happens, or nothing. Other writers wait. Raises StoreError."""
        with _translated(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._roll_back()
                raise
            try:
                self._connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise
        self.has_news = True

    def sync(self) -> None:
        """What has been committed so far is on the disk. Blocks on it, so call it from a worker thread, as nothing here
        waits for it meanwhile. Raises StoreError.

        Commits stand in the write-ahead log, from which SQLite takes them again after a crash. That file alone may be
        opened beside SQLite: closing any other of its files would drop the locks of this process on it.
        """
        self.has_news = False
        log = self.path.with_name(f"{self.path.name}-wal")
        try:
            descriptor = os.open(log, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            self.has_news = True
            raise StoreError(f"{log}: cannot be written to the disk ({error.strerror}): check it") from error

    def rows(self, query: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        """What one query gives. Raises StoreError."""
        with _translated(self.path):
            return self._connection.execute(query, values).fetchall()

    def close(self) -> None:
        with _translated(self.path):
            self._connection.close()

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _make(path: Path) -> None:
    """The file, for nobody's eyes but ours: SQLite gives the files beside it the same mode."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be opened ({error.strerror}): give proxyd's account a directory of its own to write to"
        ) from error
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise StoreError(f"{path}: is not a file: name one in `store.path`")
        if stat.S_IMODE(mode) & 0o077:
            os.fchmod(descriptor, 0o600)
    except OSError as error:
        raise StoreError(
            f"{path}: is open to others, and not ours to close ({error.strerror}): make it mode 0600"
        ) from error
    finally:
        os.close(descriptor)


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("BEGIN IMMEDIATE")  # two that start at once make one schema
    if _number(connection, "application_id") == 0 and _is_empty(connection):
        connection.execute(_SCHEMA)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
    _check(connection, path)
    connection.execute("COMMIT")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if _number(connection, "application_id") != APPLICATION_ID:
        raise StoreError(f"{path}: is another program's database: name another file in `store.path`")
    version = _number(connection, "user_version")
    if version != VERSION:
        raise StoreError(
            f"{path}: is of version {version}, and this proxyd knows version {VERSION}: run the proxyd that made it, "
            "or name another file in `store.path`"
        )


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_schema").fetchone() is None


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(
            f"{path}: {error}: check the disk, the file's rights, and that it is a database of proxyd's"
        ) from error
