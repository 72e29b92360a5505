"""The catalogue's values in one SQLite file, which several processes of a host may have open.

Laws: WAL, so that the command line writes while a server runs; a write waits up to `_BUSY_S` for
another process's. Each call is one transaction. A file that older software wrote is brought up to
date, one that newer software wrote is left alone. It is also where another store's values are
cached (`mirror`, `keep`). Knows nothing of what the values are.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock
from typing import Final

from .catalog_tables import rows_of_tables
from .rows import NEW, AwayError, CatalogError, ChangedError, Row

_BUSY_S: Final = 2.0
_SCHEMA_VERSION: Final = 4
_TABLES_VERSIONS: Final = range(1, 4)
_SCHEMA: Final = (
    "CREATE TABLE clock (revision INTEGER NOT NULL) STRICT",
    "INSERT INTO clock VALUES (0)",
    "CREATE TABLE rows (key TEXT PRIMARY KEY, value BLOB NOT NULL, revision INTEGER NOT NULL)"
    " STRICT, WITHOUT ROWID",
)


class SqliteRows:
    """At `path` (None: in memory, gone at close). Raises CatalogError when it cannot be opened."""

    def __init__(self, path: Path | None) -> None:
        self._lock = RLock()  # one connection, so one transaction at a time
        try:
            self._db = sqlite3.connect(
                path or ":memory:", timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._migrate()
        except sqlite3.Error as error:
            raise CatalogError(f"{path}: the catalogue cannot be opened: {error}") from None
        if path is not None and not os.geteuid():
            _give(path)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _migrate(self) -> None:
        with self._writing():  # two processes may meet an empty file
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version > _SCHEMA_VERSION:
                raise CatalogError(
                    f"the catalogue has schema {version}, allowed {_SCHEMA_VERSION}: "
                    "newer software wrote it"
                )
            if version == _SCHEMA_VERSION:
                return
            older = rows_of_tables(self._db) if version in _TABLES_VERSIONS else {}
            for statement in _SCHEMA:
                self._db.execute(statement)
            for key, value in older.items():
                self._set(key, value, self._tick())
            self._db.execute(f"PRAGMA user_version={_SCHEMA_VERSION}")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction, on this thread only. Raises AwayError."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.OperationalError as error:
                raise AwayError(f"the catalogue cannot be written: {error}") from None

    # -- read

    def get(self, key: str) -> Row | None:
        with self._lock:
            found = self._db.execute("SELECT * FROM rows WHERE key = ?", (key,)).fetchone()
        return Row(*found) if found else None

    def below(self, prefix: str) -> list[Row]:
        bounds = f"{prefix}.", f"{prefix}/"  # what sorts behind the dot
        with self._lock:
            found = self._db.execute(
                "SELECT * FROM rows WHERE key >= ? AND key < ? ORDER BY key", bounds
            ).fetchall()
        return [Row(*row) for row in found]

    def version(self) -> int:
        with self._lock:
            return int(self._db.execute("SELECT revision FROM clock").fetchone()[0])

    # -- write

    def put(self, key: str, value: bytes, revision: int) -> None:
        with self._writing():
            self._expect(key, revision)
            self._set(key, value, self._tick())

    def drop(self, key: str, revision: int) -> None:
        with self._writing():
            self._expect(key, revision)
            self._tick()
            self._db.execute("DELETE FROM rows WHERE key = ?", (key,))

    def _expect(self, key: str, revision: int) -> None:
        row = self._db.execute("SELECT revision FROM rows WHERE key = ?", (key,)).fetchone()
        if (row[0] if row else NEW) != revision:
            raise ChangedError(f"{key}: somebody else changed it")

    def _tick(self) -> int:
        """A revision that nothing had before, deleted rows included."""
        query = "UPDATE clock SET revision = revision + 1 RETURNING revision"
        return int(self._db.execute(query).fetchone()[0])

    def _set(self, key: str, value: bytes, revision: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", (key, value, revision))

    # -- as another store's cache

    def mirror(self, key: str, value: bytes | None, revision: int) -> None:
        """What the other store has under `key`, unless something newer is known."""
        with self._writing():
            row = self._db.execute("SELECT revision FROM rows WHERE key = ?", (key,)).fetchone()
            if row and row[0] >= revision:
                return
            self._tick()
            if value is None:
                self._db.execute("DELETE FROM rows WHERE key = ?", (key,))
            else:
                self._set(key, value, revision)

    def keep(self, keys: Collection[str]) -> None:
        """Forget all others: they went while nobody watched."""
        with self._writing():
            known = [key for (key,) in self._db.execute("SELECT key FROM rows")]
            gone = [(key,) for key in known if key not in keys]
            if gone:
                self._tick()
                self._db.executemany("DELETE FROM rows WHERE key = ?", gone)


def _give(path: Path) -> None:
    """What root has made is its folder's owner's: a server that may only read it tells nothing."""
    owner = path.parent.stat()
    for ending in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.chown(f"{path}{ending}", owner.st_uid, owner.st_gid)
