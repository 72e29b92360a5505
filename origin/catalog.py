"""Streams and their keys, in SQLite.

Law: a stream key is `{stream}_{secret}` with 128 random bits; only its SHA-256 is kept (a random
secret needs no slow hash), so the database gives nobody the right to publish. Look-ups compare in
constant time. WAL lets the command line add and revoke keys while the server runs; the server sees
them at the next `publish`. Each call is one transaction. Bounds: a look-up reads the keys of one
stream, at most 16 that are not revoked. Knows nothing of media or HTTP.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import sqlite3
import time
from collections.abc import Collection
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from edgecache.errors import EdgeError

State = Literal["idle", "live", "ended"]

MAX_KEYS: Final = 16
_STREAM: Final = re.compile(r"[a-z0-9_-]{1,64}", re.ASCII)
_SCHEMA_VERSION: Final = 3
_SCHEMA: Final = """
CREATE TABLE streams (
    name TEXT PRIMARY KEY, state TEXT NOT NULL DEFAULT 'idle', created_s INTEGER NOT NULL,
    started_s INTEGER, ended_s INTEGER
) STRICT;
CREATE TABLE keys (
    id INTEGER PRIMARY KEY, stream TEXT NOT NULL REFERENCES streams(name),
    digest BLOB NOT NULL UNIQUE, created_s INTEGER NOT NULL, revoked_s INTEGER
) STRICT;
CREATE INDEX keys_of_stream ON keys(stream) WHERE revoked_s IS NULL;
"""
_SINCE: Final = {  # what each version added to the one before
    2: "ALTER TABLE streams ADD COLUMN discontinuities INTEGER NOT NULL DEFAULT 0",
    3: """
CREATE TABLE recordings (
    stream TEXT NOT NULL, epoch TEXT NOT NULL, revision INTEGER NOT NULL, began_s INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL, size_bytes INTEGER NOT NULL, lost INTEGER NOT NULL,
    kept_s INTEGER NOT NULL, PRIMARY KEY (stream, epoch)
) STRICT""",
}


class CatalogError(EdgeError):
    """A request that the catalogue cannot fulfil; the message says what is allowed."""

    source = "downstream"


@dataclass(frozen=True, slots=True)
class StreamRow:
    """One stream; times in unix seconds."""

    name: str
    state: State
    created_s: int
    started_s: int | None
    ended_s: int | None


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key without its secret, which nobody has; times in unix seconds."""

    id: int
    stream: str
    created_s: int
    revoked_s: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingRow:
    """One recording in the permanent store. began_s, kept_s: unix seconds; lost: segments that are
    gaps, over all tracks."""

    stream: str
    epoch: str
    revision: int
    began_s: int
    duration_ms: int
    size_bytes: int
    lost: int
    kept_s: int


class Catalog:
    """The catalogue at `path` (None: in memory, gone at close). Raises CatalogError when it cannot
    be opened."""

    def __init__(self, path: Path | None) -> None:
        try:
            # The C library is built serialised: one connection may be used by several threads.
            self._db = sqlite3.connect(
                path or ":memory:", timeout=2.0, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute("PRAGMA foreign_keys=ON")
            self._migrate()
        except sqlite3.Error as error:
            raise CatalogError(f"{path}: the catalogue cannot be opened: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def _migrate(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")  # two processes may meet an empty file
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
        for added in range(max(version, 1) + 1, _SCHEMA_VERSION + 1):
            self._db.execute(_SINCE[added])
            self._db.execute(f"PRAGMA user_version={added}")
        self._db.execute("COMMIT")
        if version > _SCHEMA_VERSION:
            raise CatalogError(
                f"the catalogue has schema {version}, allowed {_SCHEMA_VERSION}: "
                "newer software wrote it"
            )

    # -- keys

    def create_key(self, stream: str) -> str:
        """A new key of `stream` (created if need be). The only time that the key is ever seen."""
        if not _STREAM.fullmatch(stream):
            raise CatalogError(f"stream: found {stream!r}, allowed {_STREAM.pattern}")
        if len(self._digests(stream)) >= MAX_KEYS:
            raise CatalogError(
                f"{stream}: found {MAX_KEYS} keys, allowed {MAX_KEYS}: revoke one first"
            )
        secret = secrets.token_hex(16)
        now = int(time.time())
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute(
            "INSERT INTO streams(name, created_s) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (stream, now),
        )
        self._db.execute(
            "INSERT INTO keys(stream, digest, created_s) VALUES (?, ?, ?)",
            (stream, _digest(secret), now),
        )
        self._db.execute("COMMIT")
        return f"{stream}_{secret}"

    def check_key(self, key: str) -> str | None:
        """The stream that `key` may publish, or None. Time does not tell how much of it was
        right."""
        stream, _, secret = key.rpartition("_")
        if not _STREAM.fullmatch(stream):
            return None
        given = _digest(secret)
        allowed = False
        for digest in self._digests(stream):
            allowed |= hmac.compare_digest(digest, given)
        return stream if allowed else None

    def rotate_keys(self, stream: str) -> str:
        """A new key of `stream`; all that it had are revoked. The only time that it is ever
        seen."""
        had = [row.id for row in self.keys() if row.stream == stream and row.revoked_s is None]
        if not had:
            raise CatalogError(f"{stream}: found no key, allowed a stream that has one")
        self.revoke_key(had.pop(0))  # there is room for a new one, whatever there was
        key = self.create_key(stream)
        for key_id in had:
            self.revoke_key(key_id)
        return key

    def revoke_key(self, key_id: int) -> bool:
        """False when there is no such key, or it was revoked before."""
        cursor = self._db.execute(
            "UPDATE keys SET revoked_s = ? WHERE id = ? AND revoked_s IS NULL",
            (int(time.time()), key_id),
        )
        return cursor.rowcount == 1

    def keys(self) -> list[KeyRow]:
        rows = self._db.execute("SELECT id, stream, created_s, revoked_s FROM keys ORDER BY id")
        return [KeyRow(*row) for row in rows]

    def _digests(self, stream: str) -> list[bytes]:
        rows = self._db.execute(
            "SELECT digest FROM keys WHERE stream = ? AND revoked_s IS NULL LIMIT ?",
            (stream, MAX_KEYS),
        )
        return [digest for (digest,) in rows]

    # -- streams

    def _add_stream(self, stream: str, now: int) -> None:
        self._db.execute(
            "INSERT INTO streams(name, created_s) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (stream, now),
        )

    def set_state(self, stream: str, state: State) -> None:
        """Record that `stream` went live or ended (creating it if need be). May be called on
        another thread than the rest: a write waits up to 2 s for the command line's."""
        now = int(time.time())
        self._add_stream(stream, now)
        column = {"live": "started_s", "ended": "ended_s", "idle": "ended_s"}[state]
        self._db.execute(
            f"UPDATE streams SET state = ?, {column} = ? WHERE name = ?", (state, now, stream)
        )

    def discontinuities(self, stream: str) -> int:
        """How many it has had, over all its epochs."""
        row = self._db.execute(
            "SELECT discontinuities FROM streams WHERE name = ?", (stream,)
        ).fetchone()
        return int(row[0]) if row else 0

    def set_discontinuities(self, stream: str, count: int) -> None:
        """As `set_state`; a stream that is not known is created."""
        self._add_stream(stream, int(time.time()))
        self._db.execute("UPDATE streams SET discontinuities = ? WHERE name = ?", (count, stream))

    def settle(self, resumed: Collection[str] = ()) -> int:
        """At start nothing lives but what is `resumed`: what else an earlier process left so ended
        with it. Returns how many."""
        marks = ",".join("?" * len(resumed))
        cursor = self._db.execute(
            "UPDATE streams SET state = 'ended', ended_s = ?"
            f" WHERE state = 'live' AND name NOT IN ({marks})",
            (int(time.time()), *resumed),
        )
        return cursor.rowcount

    def streams(self) -> list[StreamRow]:
        rows = self._db.execute(
            "SELECT name, state, created_s, started_s, ended_s FROM streams ORDER BY name"
        )
        return [StreamRow(*row) for row in rows]

    def state(self, stream: str) -> State | None:
        row = self._db.execute("SELECT state FROM streams WHERE name = ?", (stream,)).fetchone()
        return row[0] if row else None

    # -- recordings

    def set_recording(self, row: RecordingRow) -> None:
        """Known from now on; a newer revision goes before an older one. May be called on another
        thread."""
        self._db.execute(
            "INSERT INTO recordings VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (stream, epoch) DO UPDATE SET revision = excluded.revision,"
            " duration_ms = excluded.duration_ms, size_bytes = excluded.size_bytes,"
            " lost = excluded.lost, kept_s = excluded.kept_s"
            " WHERE excluded.revision > revision",
            astuple(row),
        )

    def recordings(self) -> list[RecordingRow]:
        """By stream, the oldest first."""
        names = ", ".join(RecordingRow.__slots__)
        rows = self._db.execute(f"SELECT {names} FROM recordings ORDER BY stream, began_s")
        return [RecordingRow(**dict(zip(RecordingRow.__slots__, row, strict=True))) for row in rows]

    def recording(self, stream: str, epoch: str) -> RecordingRow | None:
        found = (row for row in self.recordings() if (row.stream, row.epoch) == (stream, epoch))
        return next(found, None)

    def drop_recording(self, stream: str, epoch: str) -> bool:
        """False when it was not known."""
        cursor = self._db.execute(
            "DELETE FROM recordings WHERE stream = ? AND epoch = ?", (stream, epoch)
        )
        return cursor.rowcount == 1


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()
