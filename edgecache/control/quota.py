"""How many bytes each stream holds here by pushes: the bound that keeps a flood of valid junk, from
a leaked key or a packager gone wild, from evicting everybody else.

Law: what was pushed counts for its stream until its lifetime ends or it is removed, even if it left
the store before; a newer version of a playlist takes the place of the older one. Each name costs
OVERHEAD besides its bytes, so the table is bounded by the limit too. A stream that is full is
refused by its declared length, before its body is read. Names outside of /live/ share one account.
Sans-IO; knows no requests.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from typing import Final

OVERHEAD: Final = 1024  # of an entry with its head, and of a row here


class _Account:
    """One stream: what it holds, and when it ends."""

    def __init__(self) -> None:
        self.total = 0
        self.sizes: dict[bytes, int] = {}
        self._until: dict[bytes, float] = {}
        self._ends: list[tuple[float, bytes]] = []

    def charge(self, key: bytes, size: int, until_s: float) -> None:
        self.release(key)
        self.sizes[key], self._until[key] = size, until_s
        self.total += size
        heapq.heappush(self._ends, (until_s, key))

    def release(self, key: bytes) -> None:
        self.total -= self.sizes.pop(key, 0)
        self._until.pop(key, None)

    def expire(self, now_s: float) -> None:
        while self._ends and self._ends[0][0] <= now_s:
            until_s, key = heapq.heappop(self._ends)
            if self._until.get(key) == until_s:
                self.release(key)


class Quota:
    """`limit` bytes a stream."""

    def __init__(self, limit: int, *, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._monotonic_s = monotonic_s
        self._accounts: dict[str, _Account] = {}

    def takes(self, stream: str, key: bytes, size: int) -> bool:
        """Whether there is room for so many bytes more; what `key` holds already is given back."""
        account = self._accounts.get(stream)
        if account is None:
            return size + OVERHEAD <= self._limit
        account.expire(self._monotonic_s())
        held = account.total - account.sizes.get(key, 0)
        return held + size + OVERHEAD <= self._limit

    def charge(self, stream: str, key: bytes, size: int, ttl_ms: int) -> None:
        account = self._accounts.setdefault(stream, _Account())
        account.charge(key, size + OVERHEAD, self._monotonic_s() + ttl_ms / 1000)

    def release(self, stream: str, key: bytes) -> None:
        if account := self._accounts.get(stream):
            account.release(key)

    def held(self, stream: str) -> int:
        """Bytes, with OVERHEAD."""
        account = self._accounts.get(stream)
        return account.total if account else 0

    def sweep(self) -> None:
        """Once in a while: forget who holds nothing any more."""
        now_s = self._monotonic_s()
        for stream, account in list(self._accounts.items()):
            account.expire(now_s)
            if not account.sizes:
                del self._accounts[stream]
