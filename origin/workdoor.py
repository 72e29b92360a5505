"""Where workers of live streams come: one request each, as long as it stays.

Laws: signed (edgecache/signing.py). The answer begins at once. 200: it goes on with what is to be
encoded, while the body brings what has been (workwire.py); 410: the offer is not in force. When one
side is over, so is the other. Nothing is held but what `Remote` bounds. Does not know media.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from aiohttp import web

from edgecache.signing import Verifier

from .remote import GoneError, Stay
from .store import StoreError
from .stream import LiveStream


class WorkDoor:
    """stream(name): its newest epoch."""

    def __init__(self, stream: Callable[[str], LiveStream | None], verifier: Verifier) -> None:
        self._stream = stream
        self._verifier = verifier

    def routes(self) -> list[web.RouteDef]:
        return [web.put("/encode/{stream}/{offer}", self.work)]

    async def work(self, request: web.Request) -> web.StreamResponse:
        self._verifier.verify(request.method, request.raw_path, request.headers.items())
        stream = self._stream(request.match_info["stream"])
        if stream is None:
            raise StoreError(410, "no such stream")
        try:
            stay = stream.remote.enter(request.match_info["offer"])
        except GoneError as error:
            raise StoreError(410, str(error)) from None
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        try:
            await response.prepare(request)
            sides = (self._send(response, stay), self._receive(request, stay))
            tasks = [asyncio.create_task(side) for side in sides]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        finally:
            stay.leave()
            if request.transport is not None:
                request.transport.abort()  # its body has no end that anybody waits for
        return response

    @staticmethod
    async def _send(response: web.StreamResponse, stay: Stay) -> None:
        with contextlib.suppress(ConnectionError):
            async for chunk in stay.chunks():
                await response.write(chunk)

    @staticmethod
    async def _receive(request: web.Request, stay: Stay) -> None:
        # aiohttp says in several ways that a connection broke
        with contextlib.suppress(ConnectionError, web.HTTPException, asyncio.IncompleteReadError):
            async for chunk in request.content.iter_any():
                stay.take(chunk)
