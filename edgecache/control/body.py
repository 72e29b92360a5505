"""A response body on its way from one origin to any number of viewers.

Law: every reader gets every byte from where it began, as the bytes arrive, or an error: never a
short body that looks whole. Kept bodies stay in memory; of others only what the slowest reader has
not had, and the origin is paused when that is more than `_AHEAD_BYTES`. One loop, no locks.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator
from typing import Final, Protocol

from ..errors import UpstreamError

_AHEAD_BYTES: Final = 1 << 20


class Flow(Protocol):
    """Where the bytes come from."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Body:
    """append() … finish() or fail() by one writer; read() by many."""

    def __init__(self, *, keep: bool, flow: Flow | None = None) -> None:
        self.keep = keep
        self.size = 0  # bytes so far
        self.done = False
        self._flow = flow
        self._paused = False
        self._chunks: list[bytes] = []
        self._starts: list[int] = []  # of each chunk in the body
        self._error: UpstreamError | None = None
        self._readers: dict[object, int] = {}  # where each stands
        self._more = asyncio.Event()

    @classmethod
    def whole(cls, data: bytes) -> Body:
        body = cls(keep=True)
        body.append(data)
        body.finish()
        return body

    def append(self, data: bytes) -> None:
        if data:
            self._starts.append(self.size)
            self._chunks.append(data)
            self.size += len(data)
            self._tell()
            self._regulate()

    def finish(self) -> None:
        self.done = True
        self._tell()

    def fail(self, error: UpstreamError) -> None:
        """Readers that stand at the end get `error`."""
        self._error = error
        self._tell()

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return self.size - self._starts[0] if self._starts else 0

    async def read(self, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """Bytes [start, end) in pieces. Raises UpstreamError when they will not come."""
        me = object()
        self._readers[me] = at = start
        try:
            while end is None or at < end:
                piece = self._piece(at, end)
                if piece:
                    at += len(piece)
                    yield piece
                    self._readers[me] = at
                    self._forget()
                elif self._error is not None:
                    raise self._error
                elif self.done:
                    return
                else:
                    await self._more.wait()
        finally:
            del self._readers[me]
            self._forget()

    def _piece(self, at: int, end: int | None) -> bytes:
        if at >= self.size:
            return b""
        index = bisect_right(self._starts, at) - 1
        chunk, offset = self._chunks[index], at - self._starts[index]
        left = len(chunk) - offset if end is None else min(len(chunk) - offset, end - at)
        return chunk if offset == 0 and left == len(chunk) else chunk[offset : offset + left]

    def _tell(self) -> None:
        more, self._more = self._more, asyncio.Event()
        more.set()

    def _forget(self) -> None:
        """Let go of what nobody will read."""
        if self.keep or not self._readers:
            return
        least = min(self._readers.values())
        drop = 0
        while drop < len(self._chunks) and self._starts[drop] + len(self._chunks[drop]) <= least:
            drop += 1
        del self._chunks[:drop], self._starts[:drop]
        self._regulate()

    def _regulate(self) -> None:
        if self.keep or self._flow is None:
            return
        ahead = self.held
        if ahead > _AHEAD_BYTES and not self._paused:
            self._paused = True
            self._flow.pause()
        elif self._paused and ahead <= _AHEAD_BYTES // 2:
            self._paused = False
            self._flow.resume()
