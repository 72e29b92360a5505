"""One publisher's session over as many bodies as it takes: a lost connection is no end of it.

Laws: numbers (of FLV tags, or bytes of a container) come out once, in their order, whatever bodies
repeat; `chunks` is one body. A newer body ends the one before. Without a body for `hold_s` the
session is cut. One that is to leave() ends before the next place where another data centre can
begin. Bound: `_AHEAD` chunks are read before the stream takes them. Does not know streams, HTTP or
media.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final, Self

from edgecache.containers import FLV, READERS
from edgecache.flv import FlvError
from edgecache.pieces import Piece

from .chronicle import Row
from .handover import Safe, Teller
from .pairing import Pairing
from .receive import Result
from .signals import Signal

NOTHING: Final[list[Row]] = []  # has been published
_AHEAD: Final = 4
_SESSION: Final = re.compile(r"[0-9a-f]{8,64}", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,15}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Of a body in a session: it begins with `head` tags (of a container: bytes) of configuration,
    which have no numbers; what follows is numbered from `first` on. The oldest of that came to the
    POP `age_s` ago. It knows so many `others` where the session could go on."""

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
    """attach() each body, all of them of one `kind` (a media type); chunks() is what they are
    together. `result` is how the session ended, set by whoever takes the chunks."""

    def __init__(self, place: Place, *, hold_s: float, kind: str = FLV) -> None:
        self.session = place.session
        self.others = place.others
        self.result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.keep = 0  # the first number that another data centre would need
        self.past: list[Row] = NOTHING  # and what it would go on from
        self.teller = Teller()
        self._news = Signal()  # they are other ones
        self._begin = place
        self._taken = place.first  # the next number
        self._kind = kind
        self._pairing = None if kind == FLV else Pairing(place.first)
        self._hold_s = hold_s
        self._ready: asyncio.Queue[bytes | FlvError | None] = asyncio.Queue(_AHEAD)
        self._feeding: asyncio.Task[bool] | None = None
        self._changed = Signal()  # something is ready, or a body came or went
        self._is_new = True
        self._leaving = False
        self.left = False  # before a place to begin: all before that came out

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
        """Its tag is counted in the FLV stream that became of what came out, configuration
        included."""
        if self._pairing is not None:
            self.keep = self._pairing.number(safe.tag)
        else:
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
        """One body. Raises FlvError for what is no FLV, and CutError."""
        yield READERS[self._kind]().header
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

    async def paired(self, tags: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """FLV bytes that are made of a container's chunks; from then on it is known of which."""
        assert self._pairing is not None, "these are the publisher's own tags"
        async for data in tags:
            self._pairing.made(data)
            yield data

    async def _feed(self, body: AsyncIterator[bytes], place: Place) -> bool:
        """False: the body broke off."""
        reader = READERS[self._kind]()
        number = place.first - place.head
        since = number if self._is_new else self._taken
        self._is_new = False
        try:
            async for data in body:
                number = await self._take(reader.feed(data), number, since)
                if self.left:
                    break
            await self._take(reader.end(), number, since)
            await self._put(None)
        except FlvError as error:
            await self._put(error)
        except Exception:  # whatever the server's body raises when its connection breaks
            return False
        return True

    async def _take(self, pieces: list[Piece], number: int, since: int) -> int:
        """Put out what is new of pieces from this number on; `since`: what was before this body.
        Returns the number behind them."""
        fresh = []
        for piece in pieces:
            begin, end = number, number + piece.size
            if end > since and not self.left:
                self.left = self._leaving and piece.is_entry and begin >= since
                if self.left:
                    break
                if piece.is_entry and begin >= since and self._pairing is not None:
                    self._pairing.entry(begin, piece.at_ms)
                fresh.append(piece.behind(since - begin).data if begin < since else piece.data)
            number = end
        if fresh:
            await self._put(b"".join(fresh))
            self._taken = max(self._taken, number)
        return number
