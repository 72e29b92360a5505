"""Work that any host may do: named jobs, each taken by one worker at a time, until it is done.

Laws: a job that is open is not offered twice. Who takes one has it for `lease_s` from then and from
every `beat`; a worker that dies loses it, and another one gets it: so a job may be begun several
times, and its result must not depend on that. `RowJobs` keeps them in the catalogue's file, for the
processes of one host; jobs_nats.py keeps the same laws over many. Does not know what is done.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Protocol

from .rows import ChangedError, Row, Rows, change

LEASE_S: Final = 30.0
QUEUE: Final = "jobs"
_LOOK_S: Final = 0.2


class Job(Protocol):
    """What was taken. Methods raise AwayError; one whose lease is over does nothing."""

    name: str
    body: bytes
    tries: int  # how often it was taken, this time included

    async def beat(self) -> None:
        """The lease begins anew."""

    async def done(self) -> None: ...

    async def retry(self, after_s: float) -> None:
        """For anybody, then."""


class Jobs(Protocol):
    """`name`: words of `[a-z0-9_-]` joined by dots. Methods raise AwayError."""

    lease_s: float

    async def offer(self, name: str, body: bytes) -> None: ...

    async def withdraw(self, name: str) -> None:
        """If it is open, it is not any more; who has taken it is not told."""

    async def open(self, prefix: str) -> set[str]:
        """Names that begin with `prefix` and a dot, of jobs that are not done."""

    async def take(self, wait_s: float) -> Job | None:
        """None when there was none for so long."""


@dataclass(frozen=True, slots=True)
class _Entry:
    body: str
    tries: int = 0
    holder: str = ""
    until_s: float = 0.0  # unix


class RowJobs:
    """In `rows`, which somebody else closes. queue: who takes from one sees no other."""

    def __init__(self, rows: Rows, *, lease_s: float = LEASE_S, queue: str = QUEUE) -> None:
        self._rows = rows
        self._queue = queue
        self.lease_s = lease_s

    async def offer(self, name: str, body: bytes) -> None:
        new = _stored(_Entry(body.decode()))
        await asyncio.to_thread(change, self._rows, self._key(name), lambda old: old or new)

    async def withdraw(self, name: str) -> None:
        await asyncio.to_thread(change, self._rows, self._key(name), lambda _: None)

    async def open(self, prefix: str) -> set[str]:
        rows = await asyncio.to_thread(self._rows.below, self._key(prefix))
        return {row.key.removeprefix(self._key("")) for row in rows}

    async def take(self, wait_s: float) -> Job | None:
        until = time.monotonic() + wait_s
        while True:
            if (job := await asyncio.to_thread(self._first)) is not None:
                return job
            if time.monotonic() >= until:
                return None
            await asyncio.sleep(_LOOK_S)

    def _first(self) -> Job | None:
        for row in self._rows.below(self._queue):
            if _entry(row.value).until_s <= time.time() and (job := self._claim(row)):
                return job
        return None

    def _claim(self, row: Row) -> Job | None:
        """Unless another worker was first."""
        old = _entry(row.value)
        ours = replace(
            old,
            tries=old.tries + 1,
            holder=secrets.token_hex(8),
            until_s=time.time() + self.lease_s,
        )
        try:
            self._rows.put(row.key, _stored(ours), row.revision)
        except ChangedError:
            return None
        name = row.key.removeprefix(self._key(""))
        return _RowJob(self._rows, row.key, name, ours, self.lease_s)

    def _key(self, name: str) -> str:
        return f"{self._queue}.{name}"


class _RowJob:
    def __init__(self, rows: Rows, key: str, name: str, entry: _Entry, lease_s: float) -> None:
        self._rows = rows
        self._key = key
        self._entry = entry
        self._lease_s = lease_s
        self.name = name
        self.body = entry.body.encode()
        self.tries = entry.tries

    async def beat(self) -> None:
        await self._change(until_s=time.time() + self._lease_s)

    async def done(self) -> None:
        await self._change(None)

    async def retry(self, after_s: float) -> None:
        await self._change(holder="", until_s=time.time() + after_s)

    async def _change(self, *gone: None, **to: Any) -> None:
        def changed(old: bytes | None) -> bytes | None:
            if old is None or _entry(old).holder != self._entry.holder:
                return old
            return None if gone else _stored(replace(_entry(old), **to))

        await asyncio.to_thread(change, self._rows, self._key, changed)


def _entry(value: bytes) -> _Entry:
    return _Entry(**json.loads(value))


def _stored(entry: _Entry) -> bytes:
    return json.dumps(asdict(entry)).encode()
