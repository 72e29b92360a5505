"""One publisher's broadcast of which each track comes by itself: many requests -> one body.

Laws: requests of one track are read one after the other, in the order in which they came; one that
does not go on any more gives way to the next. It is over when all tracks say so, when a manifest
does, or when the last request broke off and none follows; else it goes on between requests, and
whoever reads it judges its silence. Bounds: tracks (join.py), what waits to be joined (readers
wait), each wait. Does not know paths, nor how media is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from .cmaftags import Tags
from .join import MAX_TRACKS, Join
from .join import Limits as JoinLimits
from .publishers import Body as Breaking
from .receive import Body, RefusedError

log = logging.getLogger(__name__)

_MAX_TURNS: Final = 2 * MAX_TRACKS  # some are of text, and refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """stalled_s: without a byte; then a track's request gives way to the next one. linger_s: for
    requests that were begun before the end; cut_s: for a publisher whose last one broke off."""

    init_s: float = 2.0
    stalled_s: float = 3.0
    turn_s: float = 8.0
    linger_s: float = 1.0
    cut_s: float = 2.0
    waiting_bytes: int = 32 << 20
    join: JoinLimits = field(default_factory=JoinLimits)


@dataclass(frozen=True, slots=True)
class Publisher:
    """Of a request: `address` says whose session it is of, key_id by which key it came."""

    address: str
    key_id: str = ""
    title: str = ""


class Breakable(Body, Breaking, Protocol):
    """What a request's media is read from."""


class Turn:
    """Whose request of a track is read: one at a time, in the order in which they came."""

    def __init__(self, name: str, limits: Limits) -> None:
        self._name = name
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._reading: Breakable | None = None
        self._heard_s = 0.0
        self._free = asyncio.Event()

    @contextlib.asynccontextmanager
    async def of(self, body: Breakable) -> AsyncIterator[None]:
        """async with turn.of(body): it may be read. Raises RefusedError."""
        deadline = self._loop.time() + self._limits.turn_s
        while self._reading is not None:
            now_s, stalls_s = self._loop.time(), self._heard_s + self._limits.stalled_s
            if now_s >= stalls_s:
                self.cut(RefusedError(410, f"{self._name}: the next request took its place"))
            elif now_s >= deadline:
                raise RefusedError(409, f"{self._name} is being sent by another request")
            self._free.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(max(now_s, min(stalls_s, deadline))):
                    await self._free.wait()
        self._reading = body
        self.heard()
        try:
            yield
        finally:
            self._reading = None
            self._free.set()

    def heard(self, *, pausing: bool = False) -> None:
        """The request sends. pausing: it would, if we read."""
        self._heard_s = math.inf if pausing else self._loop.time()

    def cut(self, why: RefusedError) -> None:
        if self._reading is not None:
            self._reading.set_exception(why)


class Session:
    """One publisher's broadcast: what its requests bring, joined, is what iter_any() gives."""

    def __init__(self, stream: str, publisher: Publisher, limits: Limits) -> None:
        self._stream = stream
        self._told: dict[str, str] = {}
        self.publisher = publisher
        self.join = Join(limits.join)
        self.failure: RefusedError | None = None
        self.started = self.over = False
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._turns: dict[str, Turn] = {}
        self._requests = 0
        self._leaves_s: float | None = None  # when it is over, unless another request comes
        self._closing = False
        self._broken: BaseException | None = None
        self.changed = asyncio.Event()
        self._moved = asyncio.Event()  # something was taken from the join, or it is over

    # -- as one body

    async def iter_any(self) -> AsyncIterator[bytes]:
        while True:
            self.changed.clear()
            if self._broken is not None:
                raise self._broken
            now_s = self._loop.time()
            done = self._requests == 0 and self._leaves_s is not None and now_s >= self._leaves_s
            data = self.join.take(now_s, last=done)
            self._moved.set()
            if data:
                self._tell()
                yield data
            elif done:
                return
            else:
                await self._wait()

    def _tell(self) -> None:
        """In the log, whenever another track is sent, left out or late."""
        tracks = self.join.describe()
        if tracks != self._told:
            self._told = tracks
            log.info("tracks", extra={"stream": self._stream, "tracks": tracks})

    async def _wait(self) -> None:
        """For whatever comes, or may be sent without that."""
        leaves = None if self._requests else self._leaves_s
        times = [at for at in (self.join.due_s(), leaves) if at is not None]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(min(times, default=None)):
                await self.changed.wait()

    def set_exception(self, exc: BaseException) -> None:
        """Break it off."""
        self._broken = exc
        self.changed.set()

    def end(self, failure: RefusedError) -> None:
        """Nothing is taken any more; its requests are told why."""
        self.over, self.failure = True, failure
        self.join.close()
        self.changed.set()
        self._moved.set()
        for turn in self._turns.values():
            turn.cut(failure)

    def close_soon(self) -> None:
        """The publisher says that it is over."""
        self._closing = True
        self._leave(self._limits.linger_s)

    # -- for requests

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """with request(): one of its requests is being read."""
        self._requests += 1
        self._leaves_s = None
        cut = False
        try:
            yield
        except RefusedError:
            raise
        except BaseException:
            cut = True
            raise
        finally:
            self._requests -= 1
            if self.join.ended:
                self._leave(0.0)
            elif self._closing or cut:
                self._leave(self._limits.linger_s if self._closing else self._limits.cut_s)
            self.changed.set()

    @property
    def idle(self) -> bool:
        """Nothing has come of it, and nothing is on its way."""
        return not self.started and self._requests == 0

    def begin(self, name: str, tags: Tags) -> None:
        """A track's init section. Raises RefusedError."""
        if not self.join.begin(name, tags):
            text = f"{name}: allowed are {MAX_TRACKS} tracks, and for each one kind of media"
            raise RefusedError(400, text)
        self._moved.set()

    def turn(self, name: str) -> Turn:
        """Raises RefusedError."""
        if name not in self._turns and len(self._turns) >= _MAX_TURNS:
            raise RefusedError(400, f"{name}: a track too many, allowed are {MAX_TRACKS}")
        return self._turns.setdefault(name, Turn(name, self._limits))

    async def room(self) -> None:
        """Wait until more may be added. Raises RefusedError when the session is over."""
        while not self.over and self.join.waiting_bytes > self._limits.waiting_bytes:
            self._moved.clear()
            await self._moved.wait()
        if self.failure is not None:
            raise self.failure

    async def named(self, names: tuple[str, ...]) -> str:
        """The first of `names` that has begun, "" if none does in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.init_s):
                while not self.over:
                    for name in names:
                        if self.join.knows(name):
                            return name
                    self._moved.clear()
                    await self._moved.wait()
        return ""

    def _leave(self, within_s: float) -> None:
        self._leaves_s = self._loop.time() + within_s
        self.changed.set()
