"""The worker that encodes some rungs of one live stream: whether it is there, and what passes.

Laws: an offer lets one worker in, once. Whoever comes with an older one, or second, is refused, and
what somebody sends who was lost goes nowhere: a worker that hung cannot write when it comes back.
The connection holds the place. It is lost when it breaks, when input goes on for `stall_s` without
any output (`start_s` for the first), or when more than `queue_bytes` wait for it. The next worker
is looked for at once; when one did not stay for `healthy_s`, after `again_s`, doubling up to
`again_max_s`. What comes belongs to a life, that of one encoder, and counts while that runs. Nobody
waits for a worker, but for its rest at an end, at most `stop_s`. Does not know HTTP, queues of
jobs, FLV or fMP4.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Protocol

from edgecache.errors import EdgeError, Source

from .gop import GOP_BYTES
from .outbox import Outbox
from .workwire import BEGIN, END, MEDIA, PING, Frame, Frames, Life, WireError, begin, frame, media

log = logging.getLogger(__name__)

State = Literal["none", "wanted", "there"]


class GoneError(EdgeError):
    """The offer is not, or no longer, in force."""

    source: Source = "downstream"


class Finder(Protocol):
    """Looks for workers. counters: came = there + left + lost.<why>."""

    counters: Counter[str]

    def offer(self, stream: str, offer: str) -> None:
        """Until it is taken back."""

    def withdraw(self, offer: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times in seconds."""

    stall_s: float = 2.0
    start_s: float = 5.0
    stop_s: float = 2.0
    ping_s: float = 2.0
    again_s: float = 1.0
    again_max_s: float = 60.0
    healthy_s: float = 30.0
    queue_bytes: int = GOP_BYTES + (4 << 20)  # what a life begins with, and some seconds more


class Stay:
    """One worker, from when it was let in until it is lost."""

    def __init__(self, remote: Remote, limits: Limits) -> None:
        self._remote = remote
        self.frames = Frames()
        self.outbox = Outbox(limit_bytes=limits.queue_bytes, idle=PING, idle_s=limits.ping_s)

    def chunks(self) -> AsyncIterator[bytes]:
        """What it is to be sent; ends when it has been lost."""
        return self.outbox.chunks()

    def take(self, data: bytes) -> None:
        """It sent this."""
        self._remote.take(self, data)

    def leave(self) -> None:
        """Its connection is gone. Idempotent."""
        self._remote.lose(self, "gone")


class Remote:
    """open() when one is wanted, close() when none is any more. begin(), write() and finish() or
    end() each life. on_output(track index, bytes); on_change(): one has come, or was lost. finder:
    None, and nobody is looked for."""

    def __init__(
        self,
        name: str,
        finder: Finder | None,
        limits: Limits,
        *,
        on_output: Callable[[int, bytes], None],
        on_change: Callable[[], None],
    ) -> None:
        self._name = name
        self._finder = finder
        self._on_output = on_output
        self._on_change = on_change
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._open = False
        self._offer = ""  # in force
        self._stay: Stay | None = None
        self._came_s = 0.0
        self._failures = 0
        self._again: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._life = self._tracks = 0  # number of the newest life, and how many it makes
        self._over = asyncio.Event()  # no more comes of it
        self._over.set()
        self._answered = self._fed = False  # in this life; since the last look
        self._silent_s = 0.0  # how long input has gone on without output

    @property
    def state(self) -> State:
        return "there" if self._stay else "wanted" if self._open else "none"

    # -- for the stream

    def open(self) -> None:
        if self._finder is not None and not self._open:
            self._open = True
            self._seek()

    def close(self) -> None:
        self._open = False
        self.end()
        if self._again is not None:
            self._again.cancel()
        if self._finder is not None and self._offer:
            self._finder.withdraw(self._offer)
        self._offer = ""
        if self._stay is not None and self._finder is not None:
            self._finder.counters["left"] += 1
            self._stay.outbox.close()
            self._stay = None

    def begin(self, life: Life, replay: bytes) -> None:
        """The worker that is there starts an encoder, `replay` its first input."""
        self.end()
        self._life, self._tracks = self._life + 1, len(life.plan.tracks)
        self._over.clear()
        self._answered, self._fed, self._silent_s = False, False, 0.0
        self._send(begin(self._life, life))
        self.write(replay)
        self._watch = self._loop.call_later(self._look_s, self._look)

    def write(self, data: bytes) -> None:
        if self._over.is_set() or not data:
            return
        self._fed = True
        for each in media(self._life, data):
            self._send(each)

    async def finish(self) -> None:
        """No more input; wait for what the worker has of it."""
        if not self._over.is_set():
            self._send(frame(END, self._life))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), self._limits.stop_s)

    def end(self) -> None:
        """Whatever comes of this life goes nowhere."""
        self._over.set()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def drop(self, why: str) -> None:
        """The worker that is there is of no use."""
        if self._stay is not None:
            self.lose(self._stay, why)

    # -- for the worker's connection

    def enter(self, offer: str) -> Stay:
        """A worker is here. Raises GoneError."""
        if not offer or offer != self._offer:
            raise GoneError(f"stream {self._name}: this offer is not in force")
        assert self._finder is not None
        self._finder.withdraw(offer)
        self._finder.counters["came"] += 1
        self._offer, self._came_s = "", self._loop.time()
        stay = self._stay = Stay(self, self._limits)
        log.info("worker on", extra={"stream": self._name})
        self._on_change()
        return stay

    def take(self, stay: Stay, data: bytes) -> None:
        try:
            for each in stay.frames.feed(data):
                if stay is self._stay and each.life == self._life and not self._over.is_set():
                    self._came(each)
        except WireError:
            self.lose(stay, "garbage")

    def lose(self, stay: Stay, why: str) -> None:
        if stay is not self._stay:
            return
        assert self._finder is not None
        self._stay = None
        stay.outbox.close()
        self.end()
        self._finder.counters[f"lost.{why}"] += 1
        stayed_s = self._loop.time() - self._came_s
        self._failures = 0 if stayed_s > self._limits.healthy_s else self._failures + 1
        log.warning("worker lost", extra={"stream": self._name, "why": why, "after_s": stayed_s})
        delay_s = self._limits.again_s * 2 ** (self._failures - 2) if self._failures > 1 else 0.0
        self._again = self._loop.call_later(min(delay_s, self._limits.again_max_s), self._seek)
        self._loop.call_soon(self._on_change)  # perhaps in the middle of a beginning

    def _came(self, told: Frame) -> None:
        """Raises WireError."""
        if told.kind == END:
            self.end()
        elif told.kind == BEGIN or told.track >= self._tracks:
            raise WireError(f"found kind {told.kind} of track {told.track}")
        elif told.kind == MEDIA:
            self._answered, self._silent_s = True, 0.0
            self._on_output(told.track, told.body)

    def _send(self, data: bytes) -> None:
        if self._stay is not None and not self._stay.outbox.put(data):
            self.lose(self._stay, "slow")

    def _seek(self) -> None:
        assert self._finder is not None
        self._again = None
        self._offer = secrets.token_hex(8)
        self._finder.offer(self._name, self._offer)

    @property
    def _look_s(self) -> float:
        return self._limits.stall_s / 8

    def _look(self) -> None:
        """Counts the time in which input came: it makes pictures, so sound alone has no answer, and
        a publisher that pauses may have sent some last."""
        self._silent_s += self._look_s if self._fed else 0.0
        self._fed = False
        if self._silent_s > (self._limits.stall_s if self._answered else self._limits.start_s):
            self.drop("stall")
            return
        self._watch = self._loop.call_later(self._look_s, self._look)
