"""One publisher's session over as many bodies as it takes: a lost connection is no end of it.

Laws: tags come out once, in the order of their numbers, whatever bodies repeat; `chunks` is one FLV
stream. A newer body ends the one before. Without a body for `hold_s` the session is cut. One that
is to leave() ends before the next tag with which another data centre can begin. Bound: `_AHEAD`
chunks are read before the stream takes them. Does not know streams, HTTP or media.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final, Self

from edgecache.flv import HEADER, VIDEO, FlvError, FlvReader, Tag

from .chronicle import Row
from .handover import Safe, Teller
from .receive import Result
from .signals import Signal

NOTHING: Final[list[Row]] = []  # has been published
_AHEAD: Final = 4
_SESSION: Final = re.compile(r"[0-9a-f]{8,64}", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,15}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Of a body in a session: its first `head` tags are configuration, and have no numbers; the
    others are numbered from `first` on. The oldest of those came to the POP `age_s` ago. It knows
    so many `others` where the session could go on."""

    session: str
    first: int = 0
    head: int = 0
    age_s: float = 0.0
    others: int = 0

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Self | None:
        """As a POP says it; None when it says nothing. Raises ValueError."""
        if "session" not in query:
            return None
        if not _SESSION.fullmatch(query["session"]):
            raise ValueError(f"session: allowed {_SESSION.pattern}")
        told = {name: query.get(name, "0") for name in ("first", "head", "age", "others")}
        for name, value in told.items():
            if not _NUMBER.fullmatch(value):
                raise ValueError(f"{name}: found {value[:40]!r}, allowed a number")
        return cls(
            session=query["session"],
            first=int(told["first"]),
            head=int(told["head"]),
            age_s=int(told["age"]) / 1000,
            others=int(told["others"]),
        )


class CutError(Exception):
    """No body came in time."""


class Splice:
    """attach() each body; chunks() is what they are together. `result` is how the session ended,
    set by whoever takes the chunks."""

    def __init__(self, place: Place, *, hold_s: float) -> None:
        self.session = place.session
        self.others = place.others
        self.result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.keep = 0  # number of the first tag that another data centre would need
        self.past: list[Row] = NOTHING  # and what it would go on from
        self.teller = Teller()
        self._news = Signal()  # they are other ones
        self._begin = place
        self._taken = place.first  # number of the next tag
        self._hold_s = hold_s
        self._ready: asyncio.Queue[bytes | FlvError | None] = asyncio.Queue(_AHEAD)
        self._feeding: asyncio.Task[bool] | None = None
        self._changed = Signal()  # something is ready, or a body came or went
        self._is_new = True
        self._has_picture = False
        self._leaving = False
        self.left = False  # before a tag to begin with: all before that one came out

    @property
    def waits(self) -> bool:
        """It has no body now."""
        return self._feeding is None

    def continues(self, place: Place) -> bool:
        """Does a body of this place go on where the ones before it ended?"""
        return (
            place.session == self.session and place.first <= self._taken and not self.result.done()
        )

    def acknowledge(self, safe: Safe) -> None:
        """Its tag is counted in what came out, configuration included."""
        self.keep = self._begin.first + max(0, safe.tag - self._begin.head)
        self.past = safe.past
        self._news.fire()

    def leave(self) -> None:
        """The session is to go on elsewhere."""
        self._leaving = True

    def leave_off(self, past: list[Row]) -> None:
        """All that came out has been published: `past` is the end of it."""
        self.keep, self.past = self._taken, past

    async def news(self, told: list[Row], within_s: float) -> list[Row]:
        """The newest `past`, when there is another one than was `told`; else that, in the end."""
        await self._news.wait_until(lambda: self.past is not told, within_s)
        return self.past

    def end(self, result: Result) -> None:
        if not self.result.done():
            self.result.set_result(result)

    async def attach(self, body: AsyncIterator[bytes], place: Place) -> Result:
        """Take a body. Returns when it is over: how the session ended, or that it was cut."""
        if self._feeding is not None:
            self._feeding.cancel()
        mine = self._feeding = asyncio.create_task(self._feed(body, place))
        self._changed.fire()
        try:
            await asyncio.wait((mine, self.result), return_when=asyncio.FIRST_COMPLETED)
            whole = mine.done() and not mine.cancelled() and mine.result()
            if whole or self.result.done():
                return await asyncio.shield(self.result)
            return Result(499, 0, "cut; the session waits for the next body")
        finally:
            mine.cancel()
            if self._feeding is mine:
                self._feeding = None
                self._changed.fire()

    async def chunks(self) -> AsyncIterator[bytes]:
        """One FLV stream. Raises FlvError for what is none, and CutError."""
        yield HEADER
        while True:
            chunk = await self._next()
            if chunk is None:
                return
            if isinstance(chunk, FlvError):
                raise chunk
            yield chunk

    async def _next(self) -> bytes | FlvError | None:
        while self._ready.empty():
            if self.waits:
                came = await self._changed.wait_until(lambda: not self.waits, self._hold_s)
                if not came and self._ready.empty():
                    raise CutError(f"no connection for {self._hold_s:g} s")
            else:
                await self._changed.wait_until(
                    lambda: self.waits or not self._ready.empty(), self._hold_s
                )
        return self._ready.get_nowait()

    async def _put(self, chunk: bytes | FlvError | None) -> None:
        await self._ready.put(chunk)
        self._changed.fire()

    async def _feed(self, body: AsyncIterator[bytes], place: Place) -> bool:
        """False: the body broke off."""
        reader = FlvReader()
        head = place.head if self._is_new else 0
        skipped = 0 if self._is_new else place.head + self._taken - place.first
        self._is_new = False
        try:
            async for data in body:
                tags = reader.feed(data)
                fresh = tags[skipped:]
                skipped -= len(tags) - len(fresh)
                fresh = self._before_leaving(fresh)
                self._taken += max(0, len(fresh) - head)
                head = max(0, head - len(fresh))
                if fresh:
                    await self._put(b"".join(tag.encode() for tag in fresh))
                if self.left:
                    break
            await self._put(None)
        except FlvError as error:
            await self._put(error)
        except Exception:  # whatever the server's body raises when its connection breaks
            return False
        return True

    def _before_leaving(self, tags: list[Tag]) -> list[Tag]:
        """Those that still belong to this session's stream."""
        for index, tag in enumerate(tags):
            self._has_picture |= tag.kind == VIDEO
            if self._leaving and tag.is_entry(has_picture=self._has_picture):
                self.left = True
                return tags[:index]
        return tags
