"""The rows of one live stream in a file (SQLite), for the process that comes after this one.

Laws: a batch of rows is there wholly or not at all, also after a kill; a loss of power may take the
newest (no fsync). Owner: one thread. Bounds: those of what the stream lists; whoever removes a
segment drops its rows. Raises OSError, also for what SQLite finds. Knows nothing of what rows say.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .chronicle import Row

NAME: Final = "journal.db"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS rows (
    kind TEXT, track TEXT, number INTEGER, part INTEGER, data TEXT NOT NULL,
    PRIMARY KEY (kind, track, number, part)
) STRICT, WITHOUT ROWID
"""


class Journal:
    """The journal in `folder`, which is there; made if it is not."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / NAME
        with _failing():
            self._db = sqlite3.connect(self._file, timeout=2.0, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=OFF")
            self._db.execute(_SCHEMA)

    def put(self, rows: Iterable[Row]) -> None:
        values = [(*row[:4], json.dumps(row.data)) for row in rows]
        self._do(
            lambda db: db.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?)", values)
        )

    def drop(self, kinds: Iterable[str], track: str, number: int) -> None:
        values = [(kind, track, number) for kind in kinds]
        statement = "DELETE FROM rows WHERE kind = ? AND track = ? AND number = ?"
        self._do(lambda db: db.executemany(statement, values))

    def rows(self) -> list[Row]:
        with _failing():
            found = self._db.execute("SELECT kind, track, number, part, data FROM rows").fetchall()
        return [Row(kind, track, n, part, json.loads(data)) for kind, track, n, part, data in found]

    def close(self) -> None:
        with _failing():
            self._db.close()

    def _do(self, change: Callable[[sqlite3.Connection], object]) -> None:
        with _failing():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                change(self._db)
            except sqlite3.Error:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")


def remove(folder: Path) -> None:
    """The journal in `folder`, if there is one."""
    for suffix in ("", "-wal", "-shm"):
        (folder / f"{NAME}{suffix}").unlink(missing_ok=True)


@contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OSError(str(error)) from None
