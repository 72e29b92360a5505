"""What the catalogue is kept in: small values under keys, changed by compare-and-set.

Laws: a key is words of `[a-z0-9_-]` joined by dots. A change says which revision it was made from
and fails when another one came first, so whoever changes a value reads, computes, and tries again.
Reads never wait for a network; writes may, in bounded time, and belong on a thread of their own.
Two stores keep these laws (rows_sqlite.py, rows_nats.py), and the same tests run on both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from edgecache.errors import EdgeError, Source

NEW: Final = 0  # revision of a value that is not there
_TRIES: Final = 32


class CatalogError(EdgeError):
    """A request that the catalogue cannot fulfil; the message says what is allowed."""

    source: Source = "downstream"


class AwayError(CatalogError):
    """The catalogue cannot be written now; what was read of it goes on to be known. `logged`: the
    log says so already."""

    source: Source = "upstream"
    retryable = True

    def __init__(self, message: str, *, logged: bool = False) -> None:
        super().__init__(message)
        self.logged = logged


class ChangedError(CatalogError):
    """Somebody else changed the value first."""

    retryable = True


class Row(NamedTuple):
    key: str
    value: bytes
    revision: int  # above NEW; another one after each change


class Rows(Protocol):
    """One store. All methods may be called on any thread."""

    def get(self, key: str) -> Row | None: ...

    def below(self, prefix: str) -> list[Row]:
        """All whose key begins with `prefix` and a dot, in the order of the keys."""

    def put(self, key: str, value: bytes, revision: int) -> None:
        """In place of what had `revision` (NEW: nothing). Raises ChangedError, AwayError."""

    def drop(self, key: str, revision: int) -> None:
        """Likewise."""

    def version(self) -> int:
        """Another number after every change by anybody that `get` shows."""

    def close(self) -> None: ...


Change = Callable[[bytes | None], bytes | None]
"""Old value -> new one; None is none."""


def change(rows: Rows, key: str, to: Change) -> bytes | None:
    """The new value, once it is in. Raises AwayError, and what `to` raises."""
    for _ in range(_TRIES):
        row = rows.get(key)
        old, revision = (row.value, row.revision) if row else (None, NEW)
        new = to(old)
        try:
            if new is not None and new != old:
                rows.put(key, new, revision)
            elif new is None and row is not None:
                rows.drop(key, revision)
        except ChangedError:
            continue
        return new
    raise AwayError(f"{key}: found {_TRIES} changes by others in a row, try again")
