"""What others do to the catalogue, noticed: keys that are revoked, recordings that come and go,
streams that another data centre goes on with.

Laws: one look every `_LOOK_S`, which costs a read of what is known here; who publishes with a key
that opens nothing any more is ended by the next one, and a stream that has a newer epoch elsewhere
is let go. Owner: the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, Protocol

from .catalog import Catalog
from .names import is_newer
from .publishers import Publishers

_LOOK_S: Final = 0.5


class Streams(Protocol):
    """Those that are made here, and their epochs; ingest.py has them."""

    def live(self) -> dict[str, str]: ...
    def let_go(self, stream: str, epoch: str) -> None: ...


class Lookout:
    """`catch_up` is called when anything in the catalogue has changed. start(), then stop()."""

    def __init__(
        self,
        catalog: Catalog,
        publishers: Publishers,
        streams: Streams,
        catch_up: Callable[[], None] | None,
    ) -> None:
        self._catalog = catalog
        self._publishers = publishers
        self._streams = streams
        self._catch_up = catch_up
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._look(), name="lookout")

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _look(self) -> None:
        version = self._catalog.version()
        while True:
            await asyncio.sleep(_LOOK_S)
            self._publishers.look()  # grace times end without a change
            if (now := self._catalog.version()) == version:
                continue
            version = now
            self._let_go()
            if self._catch_up:
                self._catch_up()

    def _let_go(self) -> None:
        for stream, epoch in self._streams.live().items():
            if is_newer(self._catalog.epoch(stream), epoch):
                self._streams.let_go(stream, epoch)
