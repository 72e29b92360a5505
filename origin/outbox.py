"""Bytes on their way into one connection.

Laws: `put` never waits; beyond `limit_bytes` it refuses, and its owner gives the connection up. Who
sends takes all that there is at once. Owner: the loop. Does not know what is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator


class Outbox:
    """put() and close(); chunks() until then. idle: said when there was nothing for `idle_s`."""

    def __init__(self, *, limit_bytes: int, idle: bytes = b"", idle_s: float | None = None) -> None:
        self._limit_bytes = limit_bytes
        self._idle = idle
        self._idle_s = idle_s
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._news = asyncio.Event()
        self.closed = False

    def put(self, data: bytes) -> bool:
        """False: there is no room for it."""
        if self._bytes + len(data) > self._limit_bytes:
            return False
        self._waiting.append(data)
        self._bytes += len(data)
        self._news.set()
        return True

    def close(self) -> None:
        """What waits goes nowhere."""
        self.closed = True
        self._news.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        while True:
            try:
                async with asyncio.timeout(self._idle_s):
                    await self._news.wait()
            except TimeoutError:
                yield self._idle
                continue
            if self.closed:
                return
            waiting, self._waiting, self._bytes = self._waiting, [], 0
            self._news.clear()
            yield b"".join(waiting)
