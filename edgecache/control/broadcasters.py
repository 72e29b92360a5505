"""All doors of broadcasters together: RTMP has a listener of its own, HTTP comes by the viewers'.

Law: one admission for all of them, so a key is asked for and remembered once. Does not know what
goes through a door.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable

from ..config import EdgeConfig
from .admission import Admission
from .ingest import IngestRouter, limits_of
from .passage import SignFields
from .upload import Uploads


class Broadcasters:
    """await start(listener) of RTMP if there is one, then drain() and stop(). `uploads` is None
    where the configuration keeps HTTP closed."""

    def __init__(self, config: EdgeConfig, sign: SignFields) -> None:
        def plain(method: str, target: str) -> str:
            return sign(method, target, ())

        centres = config.ingest.data_centres or config.origin.urls
        admission = Admission(data_centres=centres, sign=plain)
        limits = limits_of(config.ingest)
        self._router = IngestRouter(admission=admission, sign=plain, limits=limits)
        self.uploads = Uploads(admission=admission, sign=sign) if config.ingest.http else None

    @property
    def publishers(self) -> int:
        """Connections open now."""
        return self._router.publishers + (self.uploads.publishers if self.uploads else 0)

    def counts(self) -> dict[str, Callable[[], Counter[str]]]:
        """By prefix, for the metrics."""
        found = {"ingest": lambda: self._router.counts}
        if uploads := self.uploads:
            found["upload"] = lambda: uploads.counts
        return found

    async def start(self, listener: socket.socket) -> None:
        await self._router.start(listener)

    def drain(self) -> None:
        """Take no more publishers by a listener of ours; those that are on go on."""
        self._router.drain()

    async def stop(self) -> None:
        """Tell every publisher, finish what they sent, close."""
        stopping = [self._router.stop()]
        if self.uploads:
            stopping.append(self.uploads.stop())
        await asyncio.gather(*stopping)
