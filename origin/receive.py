"""One publisher's body into a live stream, and how it ended.

Laws: no framework; a body is any asynchronous iterator of bytes. Whatever a publisher does is a
`Result`, never an exception. Bound: silence (`idle_s`). Does not know other publishers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from edgecache.errors import EdgeError, Source
from edgecache.flv import FlvError

from . import remux
from .broker import BrokerError
from .ffmpeg import Ffmpeg
from .stream import BusyError, LiveStream


class Body(Protocol):
    """What an HTTP server hands over; aiohttp's StreamReader is one."""

    def iter_any(self) -> AsyncIterator[bytes]: ...


class RefusedError(EdgeError):
    """Ingest says no; `status` is 400 (not encodable), 408 (silent), 409 (busy), 410 (taken over)
    or 503 (no room)."""

    source: Source = "downstream"

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Result:
    """How a body ended: `status` as an HTTP answer (200: the publisher said goodbye, 499: it was
    cut), bytes received, and why."""

    status: int
    received: int
    reason: str


@dataclass(frozen=True, slots=True)
class Publisher:
    """container: one that remux.py reads, "" for FLV. title: for people, "" for none, or the one
    that the stream has."""

    address: str
    container: str
    title: str


async def take(
    stream: LiveStream,
    came: AsyncIterator[bytes],
    who: Publisher,
    *,
    ffmpeg: Ffmpeg,
    idle_s: float,
    backlog_s: float = 0.0,
    seen: Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]] = aiter,
) -> Result:
    """One publisher's bytes, whatever they are, into `stream`. seen: it is shown the tags that
    become of a container, and passes them on."""
    async with contextlib.AsyncExitStack() as stack:
        if who.container:
            tags = remux.flv(came, who.container, ffmpeg)
            came = seen(await stack.enter_async_context(contextlib.aclosing(tags)))
        return await receive(
            stream, came, publisher=who.address, idle_s=idle_s, backlog_s=backlog_s
        )


async def receive(
    stream: LiveStream,
    chunks: AsyncIterator[bytes],
    *,
    idle_s: float = 10.0,
    publisher: str = "",
    backlog_s: float = 0.0,
) -> Result:
    """One publisher's FLV byte stream into `stream`. Never raises for what a publisher does.
    backlog_s: how old its first media is."""
    try:
        await stream.publisher_connected(publisher, backlog_s)
    except BusyError as error:
        return Result(409, 0, str(error))
    except BrokerError as error:
        return Result(503, 0, str(error))
    received = 0
    try:
        while True:
            chunk = await _next(chunks, idle_s)
            if not chunk:
                return Result(200, received, "end of body")
            received += len(chunk)
            stream.feed(chunk)
            await stream.drain()
    except FlvError as error:
        return Result(400, received, str(error))
    except BrokerError as error:
        return Result(error.status, received, str(error))
    except TimeoutError:
        return Result(408, received, f"nothing came for {idle_s:g} s")
    except _CutError as error:
        return Result(499, received, str(error))
    finally:
        await stream.publisher_gone()


class _CutError(Exception):
    """The body broke off."""


async def _next(chunks: AsyncIterator[bytes], idle_s: float) -> bytes:
    """The next bytes, b"" at the end. Raises TimeoutError, BrokerError for media of no use, and
    _CutError for whatever the server's body raises when its connection breaks."""
    try:
        async with asyncio.timeout(idle_s):
            async for chunk in chunks:
                if chunk:
                    return chunk
    except (TimeoutError, BrokerError):
        raise
    except Exception as error:
        raise _CutError(f"cut: {error.__class__.__name__}") from error
    return b""
