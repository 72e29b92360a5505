"""Looks for workers for live streams, through the queue of jobs that hosts share.

Laws: an offer stands until it is taken back; it is told again every `_AGAIN_S`, since a worker that
could not reach us dropped it, and a queue that is away is waited for. A job says where to come, and
nothing that is secret. Bound: an offer a stream. Does not know what is done there.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Callable
from typing import Final

from .config import Config
from .jobs import Jobs
from .rows import AwayError

_AGAIN_S: Final = 5.0


class Hiring:
    """url(): how workers reach us."""

    def __init__(self, jobs: Jobs, url: Callable[[], str]) -> None:
        self._jobs = jobs
        self._url = url
        self._offers: dict[str, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self.counters: Counter[str] = Counter()  # offered; came, left, lost.<why>

    def offer(self, stream: str, offer: str) -> None:
        self.counters["offered"] += 1
        self._offers[offer] = asyncio.create_task(self._tell(stream, offer))

    def withdraw(self, offer: str) -> None:
        telling = self._offers.pop(offer, None)
        if telling is not None:
            ending = asyncio.create_task(self._end(telling, offer))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def stop(self) -> None:
        for offer in tuple(self._offers):
            self.withdraw(offer)
        await asyncio.gather(*self._ending)

    async def _tell(self, stream: str, offer: str) -> None:
        body = json.dumps({"url": f"{self._url()}{path_of(stream, offer)}"}).encode()
        while True:
            with contextlib.suppress(AwayError):
                await self._jobs.offer(offer, body)
            await asyncio.sleep(_AGAIN_S)

    async def _end(self, telling: asyncio.Task[None], offer: str) -> None:
        """It may be on its way to the queue: afterwards it is not in it."""
        telling.cancel()
        await asyncio.wait([telling])
        with contextlib.suppress(AwayError):
            await self._jobs.withdraw(offer)


def reached_at(config: Config, port: int) -> str:
    """Base URL of the public door, which is on `port`, for workers."""
    host = config.http.listen.rpartition(":")[0]
    return config.http.public or f"http://{host}:{port}"


def path_of(stream: str, offer: str) -> str:
    """Where the worker that takes the offer comes to."""
    return f"/encode/{stream}/{offer}"
