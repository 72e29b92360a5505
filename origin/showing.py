"""When a slate is shown in a live stream: while its publisher is gone.

Laws: a slate is a body like a publisher's, and yields to any publisher. Bound: it is shown as long
as a publisher is awaited; then the stream ends. Does not know how a slate is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from .ffmpeg import Ffmpeg
from .receive import Result, receive
from .slate import Slate, chunks
from .stream import LiveStream

log = logging.getLogger(__name__)


class Showing:
    """gap() whenever a publisher may be gone; at the end await stop(). bodies: all that there are
    of publishers, by stream, and of slates while they are shown."""

    def __init__(
        self,
        slate: Slate | None,
        ffmpeg: Ffmpeg,
        *,
        reconnect_s: float,
        bodies: dict[asyncio.Task[Result], str],
    ) -> None:
        self._slate = slate
        self._ffmpeg = ffmpeg
        self._reconnect_s = reconnect_s
        self._bodies = bodies
        self._shows: set[asyncio.Task[None]] = set()
        self._slates: set[asyncio.Task[Result]] = set()  # of the bodies

    def shows(self, body: asyncio.Task[Result]) -> bool:
        return body in self._slates

    def gap(self, live: LiveStream) -> None:
        """A publisher is gone and may come back: the slate is shown meanwhile."""
        if self._slate is None or live.state != "reconnecting":
            return
        show = asyncio.create_task(self._show(live, self._slate), name=f"slate-{live.name}")
        self._shows.add(show)
        show.add_done_callback(self._shows.discard)

    async def stop(self) -> None:
        shows = tuple(self._shows)
        for show in shows:
            show.cancel()
        await asyncio.gather(*shows, return_exceptions=True)

    async def _show(self, live: LiveStream, slate: Slate) -> None:
        """At most as long as a publisher is awaited; then the stream ends."""
        await asyncio.sleep(slate.after_s)
        taken = any(name == live.name and not body.done() for body, name in self._bodies.items())
        if live.state != "reconnecting" or not live.sharing.shaped.rungs or taken:
            return
        body = asyncio.create_task(self._receive(live, slate))
        self._bodies[body] = live.name
        self._slates.add(body)
        try:
            await asyncio.wait([body], timeout=self._reconnect_s)
            if body.done():  # replaced, or it could not be made: then as without it
                return
            body.cancel()
            await asyncio.wait([body])
            await live.end()
        finally:
            body.cancel()
            del self._bodies[body]
            self._slates.discard(body)

    async def _receive(self, live: LiveStream, slate: Slate) -> Result:
        async with contextlib.aclosing(chunks(slate, self._ffmpeg, live.sharing.shaped)) as shown:
            result = await receive(live, shown, publisher="slate")
        log.warning("the slate ended", extra={"stream": live.name, "reason": result.reason})
        return result
