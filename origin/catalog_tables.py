"""Catalogues of schemas 1 to 3, which had a table for each kind of thing, as rows.

Law: everything that they knew is kept; the tables go. Called within the transaction that makes the
new schema.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Final

_TABLES: Final = ("keys", "recordings", "streams")  # keys refer to streams


def rows_of_tables(db: sqlite3.Connection) -> dict[str, bytes]:
    """Key -> value, as catalog.py writes them."""
    found: dict[str, Any] = {}
    for row in _read(db, "streams"):
        found[f"streams.{row['name']}"] = row
    for row in _read(db, "keys"):
        digest = row["digest"].hex()
        key = {name: row[name] for name in ("created_s", "revoked_s")}
        found.setdefault(f"keys.{row['stream']}", []).append({"digest": digest, **key})
    for row in _read(db, "recordings"):
        found[f"recordings.{row['stream']}.{row['epoch']}"] = row
    for table in _TABLES:
        db.execute(f"DROP TABLE IF EXISTS {table}")
    return {key: json.dumps(value).encode() for key, value in found.items()}


def _read(db: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    """Empty where the schema had no such table yet."""
    known = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    if not db.execute(known, (table,)).fetchone():
        return []
    cursor = db.execute(f"SELECT * FROM {table}")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]
