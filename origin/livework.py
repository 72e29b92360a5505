"""Who encodes rungs of live streams for data centres: one offer after the other.

Laws: an offer is taken from the queue, and is done with as soon as its data centre has answered;
from then on the connection holds the place, so a queue that is away costs no stream anything. One
encoder at a time; each life that is begun kills the one before, and one that dies ends the visit:
whoever wants it looks for another worker. Bounds: input that the encoder has not taken slows the
connection down, output that the connection has not taken ends it. When one ended by itself, the
next visit is without hardware. Owner: the loop.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from . import hardware
from .child import Child
from .ffmpeg import Ffmpeg
from .jobs import Job, Jobs
from .outbox import Outbox
from .rows import AwayError
from .workwire import BEGIN, END, MEDIA, PING, Frame, Frames, WireError, frame, life_of, media

log = logging.getLogger(__name__)

Sign = Callable[[str, str, Iterable[tuple[str, str]]], str]

_WAIT_S: Final = 5.0
_AGAIN_S: Final = 1.0
_TRIES: Final = 3  # to reach a data centre, which tells an offer again that it still has
_CONNECT_S: Final = 2.0  # less than the lease
_SILENCE_S: Final = 10.0  # several signs of life
_INPUT_BYTES: Final = 4 << 20
_OUTPUT_BYTES: Final = 16 << 20


class LiveWorker:
    """run() until it is cancelled; one stream at a time."""

    def __init__(self, jobs: Jobs, ffmpeg: Ffmpeg, sign: Sign) -> None:
        self._jobs = jobs
        self._ffmpeg = ffmpeg
        self._sign = sign
        self._lost: Counter[str] = Counter()  # how encoders of the visit before were

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S)
        async with aiohttp.ClientSession(timeout=timeout) as client:
            while True:
                try:
                    job = await self._jobs.take(_WAIT_S)
                    if job is not None:
                        await self._visit(client, job)
                except AwayError:
                    await asyncio.sleep(_AGAIN_S)

    async def _visit(self, client: aiohttp.ClientSession, job: Job) -> None:
        """Raises AwayError when the queue was not told that the offer is taken."""
        told, why = {"job": job.name, "tries": job.tries}, "the stream is over"
        encoder = LiveEncoder(hardware.heed(self._ffmpeg, self._lost, job.name))
        self._lost, answered = encoder.lost, False
        try:
            url = str(json.loads(job.body)["url"])
            fields = {"Authorization": self._sign("PUT", urlsplit(url).path, ())}
            async with client.put(url, data=encoder.chunks(), headers=fields) as answer:
                answered = True
                await job.done()
                if answer.status == 200:
                    log.info("encoding", extra=told)
                    await _follow(answer, encoder)
                else:
                    why = f"not let in: {answer.status}"
        except (aiohttp.ClientError, OSError, TimeoutError, WireError) as error:
            why = repr(error)
            if not answered:
                await (job.done() if job.tries >= _TRIES else job.retry(_AGAIN_S))
        except (ValueError, LookupError, TypeError) as error:
            log.error("not a job, left out: %r", error, extra=told)
            await job.done()
            return
        finally:
            await encoder.stop()
        log.info("visit over", extra={**told, "why": why})


async def _follow(answer: aiohttp.ClientResponse, encoder: LiveEncoder) -> None:
    """Raises ClientError, TimeoutError, WireError, OSError."""
    while True:
        async with asyncio.timeout(_SILENCE_S):
            data = await answer.content.readany()
        if not data:
            return
        async with asyncio.timeout(_SILENCE_S):
            await encoder.take(data)


class LiveEncoder:
    """take() what a data centre sends; chunks() is what comes of it, and ends when an encoder dies.
    lost: exit, when it ended by itself; signal. At the end stop()."""

    def __init__(self, ffmpeg: Ffmpeg) -> None:
        self._ffmpeg = ffmpeg
        self.lost: Counter[str] = Counter()
        self._frames = Frames()
        self._outbox = Outbox(limit_bytes=_OUTPUT_BYTES)
        self._outbox.put(PING)  # aiohttp sends the head with the first of the body
        self._child: Child | None = None  # of the newest life
        self._number = 0  # of that
        self._ending = False  # that one has had its last input
        self._there = 0  # children that have not gone
        self._gone = asyncio.Event()
        self._gone.set()

    def chunks(self) -> AsyncIterator[bytes]:
        return self._outbox.chunks()

    async def take(self, data: bytes) -> None:
        """Waits for room at the encoder. Raises WireError, OSError."""
        for each in self._frames.feed(data):
            self._take(each)
        if self._child is not None:
            await self._child.drain(_INPUT_BYTES)

    async def stop(self) -> None:
        self._outbox.close()
        self._end()
        await self._gone.wait()  # SIGKILL is certain

    def _take(self, told: Frame) -> None:
        if told.kind == BEGIN:
            self._end()
            self._begin(told)
        elif self._child is not None and told.kind == MEDIA:
            self._child.write(told.body)
        elif self._child is not None and told.kind == END:
            self._ending = True
            self._child.close_input()

    def _begin(self, told: Frame) -> None:
        life, number = life_of(told.body), told.life
        try:
            self._child = Child(
                life.command(self._ffmpeg),
                tracks=len(life.plan.tracks),
                on_output=partial(self._output, number),
                on_exit=partial(self._exited, number),
            )
        except LookupError as error:
            raise WireError(f"not a life: {error!r}") from None
        self._number, self._ending = number, False
        self._there += 1
        self._gone.clear()

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
        self._child, self._number = None, 0

    def _output(self, number: int, index: int, data: bytes) -> None:
        if number == self._number:
            for each in media(number, data, track=index):
                self._put(each)

    def _exited(self, number: int, code: int) -> None:
        self._there -= 1
        if not self._there:
            self._gone.set()
        if number != self._number:
            return
        lines = self._child.log if self._child else ()
        self._child = None
        if code or not self._ending:
            told = {"code": code, "stderr": " | ".join(lines[-3:])}
            log.warning("encoder lost", extra=told)
            self.lost["exit" if code >= 0 else "signal"] += 1  # a signal's number is negative
            self._outbox.close()
        else:
            self._put(frame(END, number))

    def _put(self, data: bytes) -> None:
        if not self._outbox.put(data):
            self._outbox.close()
