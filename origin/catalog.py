"""Streams, their keys, recordings, leases and deletions: what outlives a process, and what several
data centres share.

Laws: what it is kept in is not its business (rows.py): a file, or a server that many use. One value
holds what changes together (all keys of a stream), so every change is one compare-and-set. Reads
never wait; writes may and raise AwayError. Leases are by the wall clock, which hosts agree on to a
second. Bounds: keys (streamkeys.py), deletions that are remembered (`_DELETIONS`, the oldest goes).
Knows nothing of media or HTTP.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar

from .names import is_newer
from .rows import Rows, change
from .streamkeys import KeyRow, Ring, mint, stream_of

State = Literal["idle", "live", "ended"]

_DELETIONS: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRow:
    """One stream; times in unix seconds. discontinuities: how many it has had, over all epochs.
    home: the data centre where it was live last; epoch: the timeline that it made then."""

    name: str
    state: State = "idle"
    created_s: int
    started_s: int | None = None
    ended_s: int | None = None
    discontinuities: int = 0
    home: str = ""
    epoch: str = ""


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


@dataclass(frozen=True, slots=True)
class Deletion:
    """A recording that was deleted at `at_s` (unix), and the paths that caches knew it by."""

    stream: str
    epoch: str
    at_s: int
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """What a key opens."""

    stream: str
    key_id: str


class Catalog:
    """In `rows`, which become ours. `home`: the name of this data centre."""

    def __init__(self, rows: Rows, *, home: str = "") -> None:
        self._rows = rows
        self._home = home

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
        self._rows.close()

    def version(self) -> int:
        """Another number after each change by anybody, here or elsewhere."""
        return self._rows.version()

    # -- keys

    def create_key(self, stream: str) -> str:
        """A new key of `stream` (created if need be). The only time that the key is ever seen.
        Raises CatalogError."""
        key, now = mint(stream), int(time.time())
        self._stream(stream, lambda row: row)
        self._ring(stream, lambda ring: ring.add(key, now))
        return key

    def open(self, key: str) -> Opened | None:
        """What `key` opens now. Time does not tell how much of it was right."""
        stream = stream_of(key)
        if stream is None:
            return None
        key_id = self._ring_of(stream).find(key, time.time())
        return Opened(stream, key_id) if key_id else None

    def opens(self, stream: str, key_id: str) -> bool:
        """Does the key with this id open `stream` now?"""
        return self._ring_of(stream).opens(key_id, time.time())

    def rotate_keys(self, stream: str, grace_s: float = 0.0) -> str:
        """A new key of `stream`; all that it had are revoked when `grace_s` is over. The only time
        that it is ever seen. Raises CatalogError."""
        key, now = mint(stream), int(time.time())
        self._ring(stream, lambda ring: ring.rotate(key, now, now + int(grace_s)))
        return key

    def revoke_key(self, key_id: str, grace_s: float = 0.0) -> bool:
        """False when there is no such key, or it was revoked before. Raises AwayError."""
        now, known = int(time.time()), (row for row in self.all_keys() if row.id == key_id)
        found = next((row for row in known if self.opens(row.stream, key_id)), None)
        if found is None:
            return False
        self._ring(found.stream, lambda ring: ring.revoke([key_id], now, now + int(grace_s)))
        return True

    def all_keys(self) -> list[KeyRow]:
        """By stream, the oldest first."""
        rows = self._rows.below("keys")
        return [key for row in rows for key in Ring.of(_word(row.key, 1), row.value).rows()]

    def _ring_of(self, stream: str) -> Ring:
        row = self._rows.get(f"keys.{stream}")
        return Ring.of(stream, row.value if row else None)

    def _ring(self, stream: str, to: Callable[[Ring], Ring]) -> None:
        change(self._rows, f"keys.{stream}", lambda old: to(Ring.of(stream, old)).stored())

    # -- streams

    def set_state(self, stream: str, state: State, epoch: str = "") -> None:
        """`stream` went live or ended here (created if need be); what another data centre has gone
        on with in a newer `epoch` it has not. Raises AwayError."""
        now = int(time.time())
        when = {"live": "started_s"}.get(state, "ended_s")
        told: dict[str, Any] = {"state": state, when: now, "home": self._home}

        def turned(row: StreamRow) -> StreamRow:
            elsewhere = row.state == "live" and row.home not in ("", self._home)
            if elsewhere and (state != "live" or is_newer(row.epoch, epoch)):
                return row
            return replace(row, **told, epoch=epoch or row.epoch)

        self._stream(stream, turned)

    def epoch(self, stream: str) -> str:
        """Of its newest broadcast, anywhere; "" when nobody said."""
        row = self._stream_of(stream)
        return row.epoch if row else ""

    def discontinuities(self, stream: str) -> int:
        row = self._stream_of(stream)
        return row.discontinuities if row else 0

    def set_discontinuities(self, stream: str, count: int) -> None:
        """Never fewer than there were. Raises AwayError."""
        self._stream(
            stream, lambda row: replace(row, discontinuities=max(count, row.discontinuities))
        )

    def settle(self, resumed: Collection[str] = ()) -> int:
        """At start nothing lives here but what is `resumed`: what else an earlier process left so
        ended with it. Returns how many. Raises AwayError."""
        left = [
            row.name
            for row in self.streams()
            if row.state == "live" and row.home in ("", self._home) and row.name not in resumed
        ]
        for stream in left:
            self.set_state(stream, "ended")
        return len(left)

    def streams(self) -> list[StreamRow]:
        return [_read(StreamRow, row.value) for row in self._rows.below("streams")]

    def state(self, stream: str) -> State | None:
        row = self._stream_of(stream)
        return row.state if row else None

    def _stream_of(self, stream: str) -> StreamRow | None:
        row = self._rows.get(f"streams.{stream}")
        return _read(StreamRow, row.value) if row else None

    def _stream(self, stream: str, to: Callable[[StreamRow], StreamRow]) -> None:
        def changed(old: bytes | None) -> bytes:
            new = StreamRow(name=stream, created_s=int(time.time()))
            return _write(to(_read(StreamRow, old) if old else new))

        change(self._rows, f"streams.{stream}", changed)

    # -- recordings

    def set_recording(self, row: RecordingRow) -> None:
        """Known from now on; a newer revision goes before an older one. Raises AwayError."""

        def newer(old: bytes | None) -> bytes:
            known = _read(RecordingRow, old) if old else None
            return _write(row if known is None or row.revision > known.revision else known)

        change(self._rows, f"recordings.{row.stream}.{row.epoch}", newer)

    def recordings(self) -> list[RecordingRow]:
        """By stream, the oldest first."""
        rows = [_read(RecordingRow, row.value) for row in self._rows.below("recordings")]
        return sorted(rows, key=lambda row: (row.stream, row.began_s))

    def recording(self, stream: str, epoch: str) -> RecordingRow | None:
        row = self._rows.get(f"recordings.{stream}.{epoch}")
        return _read(RecordingRow, row.value) if row else None

    def drop_recording(self, stream: str, epoch: str, paths: Collection[str] = ()) -> bool:
        """It is deleted, and caches must forget `paths`: that is remembered. False when it was not
        known. Raises AwayError."""
        if self.recording(stream, epoch) is None:
            return False
        deletion = Deletion(stream, epoch, int(time.time()), tuple(paths))
        change(self._rows, f"deletions.{stream}.{epoch}", lambda _: _write(deletion))
        change(self._rows, f"recordings.{stream}.{epoch}", lambda _: None)
        for old in self.deletions()[:-_DELETIONS]:
            change(self._rows, f"deletions.{old.stream}.{old.epoch}", lambda _: None)
        return True

    def deletions(self) -> list[Deletion]:
        """The oldest first."""
        rows = [_read(Deletion, row.value) for row in self._rows.below("deletions")]
        told = (replace(row, paths=tuple(row.paths)) for row in rows)
        return sorted(told, key=lambda row: row.at_s)

    def gone(self) -> list[tuple[str, str]]:
        """(stream, path): below it nothing is kept any more, nor ever will be."""
        told = ((each.stream, path) for each in self.deletions() for path in each.paths)
        return [(stream, path) for stream, path in told if path.endswith("/")]

    # -- leases

    def hold(self, what: str, holder: str, lease_s: float) -> bool:
        """`holder` has `what` (words joined by dots) for so long from now on, unless somebody else
        does. Raises AwayError."""

        def taken(old: bytes | None) -> bytes | None:
            now_s = time.time()
            known = json.loads(old) if old else None
            if known and known["holder"] != holder and known["until_s"] > now_s:
                return old
            return json.dumps({"holder": holder, "until_s": now_s + lease_s}).encode()

        new = change(self._rows, f"leases.{what}", taken)
        return new is not None and bool(json.loads(new)["holder"] == holder)

    def let_go(self, what: str, holder: str) -> None:
        """If it has it. Raises AwayError."""

        def without(old: bytes | None) -> bytes | None:
            return None if old and json.loads(old)["holder"] == holder else old

        change(self._rows, f"leases.{what}", without)

    def holder(self, what: str) -> str | None:
        """Who has it now."""
        row = self._rows.get(f"leases.{what}")
        known: dict[str, Any] = json.loads(row.value) if row else {"until_s": 0.0}
        return known["holder"] if known["until_s"] > time.time() else None


Value = TypeVar("Value", StreamRow, RecordingRow, Deletion)


def _read(kind: type[Value], stored: bytes) -> Value:
    """Fields that are not known (a newer host wrote them) are left out."""
    found = json.loads(stored)
    return kind(**{name: found[name] for name in kind.__slots__ if name in found})


def _write(value: StreamRow | RecordingRow | Deletion) -> bytes:
    return json.dumps(asdict(value)).encode()


def _word(key: str, index: int) -> str:
    return key.split(".")[index]
