"""Fills: one per key, however many viewers wait for it.

Law: everybody who waits gets the bytes as they arrive; a failure reaches them all at once. A body
that was cut is continued by Range + If-Match from the byte reached, on the same or the next origin,
and never spliced from different bytes; a digest that the origin announced is checked before the
last byte is shown. Bounds: fills at once (503), attempts, time to the head (504), body size (502).
A miss on what a track that is being pushed will bring next is held for it, as long as its pushes go
on, and pulled when they pause. Does not know viewers' requests, only keys.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

from ..config import EdgeConfig
from ..errors import UpstreamError
from . import policy
from .attempts import Attempts
from .filling import Filling, Lane, Stopped
from .hedge import hedged
from .lifetimes import Lifetimes
from .response import Head
from .retrieve import Text, retrieve, within
from .routes import Route
from .upstream import Origin

if TYPE_CHECKING:
    from .._core import Fill

log = logging.getLogger(__name__)

_FILLS_MAX: Final = 4096
_LATER_MAX_S: Final = 10  # of what an origin's Retry-After asks for
_LIVE_SEGMENTS: Final = 8  # behind the newest


class Filler:
    """Takes misses and fills them. `counts` is monotonic: `<what>` or `<what>.<label>`. `on_text`
    is given every playlist on a route of kind live before it is shown; True: it answers for it. One
    that is `outdated` is asked for elsewhere."""

    def __init__(self, route_of: Callable[[bytes], Route], config: EdgeConfig) -> None:
        self._route_of = route_of
        self._config = config
        self.on_text: Callable[[bytes, Text], bool] = lambda _key, _text: False
        self.outdated: Callable[[bytes, Head], bool] = lambda _key, _head: False
        self._tasks: set[asyncio.Task[bool]] = set()
        self._running: set[Filling] = set()
        self._newest: dict[policy.Track, tuple[int, int]] = {}
        self._inits: dict[policy.Track, int] = {}
        self._moved: dict[policy.Track, asyncio.Event] = {}  # of who is held
        self.held: set[bytes] = set()  # keys whose miss waits for a push
        self.lifetimes = Lifetimes(config.cache)
        self.counts: Counter[str] = Counter()

    @property
    def running(self) -> int:
        return len(self._tasks)

    def describe(self) -> dict[str, dict[str, int]]:
        """Key -> what is known of its fill, of those that run."""
        return {
            filling.key.decode("latin-1"): {
                "received": filling.received, "waiters": filling.fill.waiters,
            }
            for filling in self._running
        }  # fmt: skip

    def take(self, fills: Iterable[Fill]) -> None:
        """Start filling. Beyond the bound the waiters are answered 503 at once."""
        for fill in fills:
            self.start(fill)

    def start(
        self, fill: Fill, *, ahead: bool = False, held: bool = False
    ) -> asyncio.Task[bool] | None:
        """The task says whether the body is whole; None: beyond the bound. `ahead`: nobody asked,
        so a failure is not remembered. `held`: the origin answers when it exists."""
        self.counts["started"] += 1
        if len(self._tasks) >= _FILLS_MAX:
            self.counts["failed.crowded"] += 1
            fill.fail(503)
            return None
        filling = Filling(fill, self._config, self._route_of(fill.key), self.lifetimes)
        filling.ahead, filling.held = ahead, held or b"_HLS_msn" in fill.key
        task = asyncio.create_task(self._run(filling))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def pushed(self, key: bytes) -> None:
        """A push made `key` complete, or began it: whoever is held for its track looks again."""
        self.lifetimes.saw(key)
        if (name := policy.media_name(key)) is not None:
            track = name.track
            if track not in self._newest:
                self._forget_epochs(*track)
            newest = self._newest.get(track, (-1, -1))
            self._newest[track] = max(newest, (name.msn, name.part))
        elif (init := policy.init_name(key)) is not None:
            track, number = init
            self._inits[track] = max(number, self._inits.get(track, -1))
        else:
            return
        moved = self._moved.pop(track, None)
        if moved is not None:
            moved.set()

    def forget(self, stream: str) -> None:
        """The stream is no longer pushed: its misses go straight to the origin."""
        known = self._newest.keys() | self._inits.keys()
        for track in [track for track in known if track[0] == stream.encode()]:
            self._forget_track(track)

    def is_dvr(self, key: bytes) -> bool:
        """Is it far behind the live edge, or no part of a live stream at all?"""
        name = policy.media_name(key)
        if name is not None and name.track in self._newest:
            return self._newest[name.track][0] - name.msn > _LIVE_SEGMENTS
        return self._route_of(key).rules.kind == "vod"

    def _forget_epochs(self, stream: bytes, _epoch: bytes, track: bytes) -> None:
        """A track that starts anew leaves nothing of its former timelines."""
        for known in [known for known in self._newest if (known[0], known[2]) == (stream, track)]:
            self._forget_track(known)

    def _forget_track(self, track: policy.Track) -> None:
        """Whoever is held for it is let go when its time is over."""
        for table in (self._newest, self._inits, self._moved):
            table.pop(track, None)

    def _coming(self, key: bytes) -> policy.Track | None:
        """The track whose pushes will bring `key` next, media or the init section of the encoder
        after this one, which a playlist may hint at."""
        name, init = policy.media_name(key), policy.init_name(key)
        if name is not None and policy.is_next(name, self._newest):
            return name.track
        if init is not None and init[0] in self._newest:
            return init[0] if init[1] == self._inits.get(init[0], -1) + 1 else None
        return None

    async def close(self) -> None:
        """Cancel what runs; entries fail with it."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, filling: Filling) -> bool:
        fill = filling.fill
        self._running.add(filling)
        try:
            if await self._held_for_push(filling):
                return True
            await (self._read if self._is_text(filling) else self._pull)(filling)
            return not filling.refused
        except Stopped as stop:
            self.counts[f"stopped.{stop.reason}"] += 1
            if fill.live:
                fill.fail(502)
        except UpstreamError as error:
            self._fail(filling, error)
        except asyncio.CancelledError:
            self.counts["stopped.cancelled"] += 1
            if fill.live:
                fill.fail(503)
            raise
        except Exception:
            log.exception("a fill failed", extra={"key": fill.key.decode("latin-1")})
            self.counts["failed.internal"] += 1
            if fill.live:
                fill.fail(502)
        finally:
            self._running.discard(filling)
        return False

    @staticmethod
    def _is_text(filling: Filling) -> bool:
        return filling.route.rules.kind == "live" and policy.is_text(filling.key)

    def _negative_ms(self, filling: Filling, retry_after_s: int = 0) -> int:
        """How long a failure is remembered, or a refusal by the origin."""
        if filling.ahead:
            return 0
        if filling.refused:
            return self.lifetimes.refusal_ms(filling.key)
        return max(self._config.cache.negative, 1000 * min(retry_after_s, _LATER_MAX_S))

    def _fail(self, filling: Filling, error: UpstreamError) -> None:
        self.counts[f"failed.{error.reason}"] += 1
        key = filling.key.decode("latin-1")
        log.warning("fill failed: %s", str(error), extra={"key": key, "reason": error.reason})
        again_ms = self._negative_ms(filling, error.retry_after_s)
        if filling.stand_in(again_ms or self._config.cache.negative):
            self.counts["stood_in"] += 1
        elif filling.fill.live:
            status = policy.answer_for(error.reason, text=self._is_text(filling))
            filling.fill.fail(status, ttl_ms=again_ms)

    async def _held_for_push(self, filling: Filling) -> bool:
        """True: a push brought it; a pull would only race what is on its way. When the pushes pause
        the origin is asked, which waits for the same thing."""
        fill, limits = filling.fill, self._config.origin
        if self._coming(filling.key) is None:
            return False
        self.counts["held"] += 1
        self.held.add(fill.key)
        try:
            async with asyncio.timeout(limits.total / 1000):
                while fill.live and (track := self._coming(filling.key)) is not None:
                    moved = self._moved.setdefault(track, asyncio.Event())
                    async with asyncio.timeout(limits.push_wait / 1000):
                        await moved.wait()
        except TimeoutError:
            filling.held = True
        finally:
            self.held.discard(fill.key)
        if not fill.live:
            self.counts["held_pushed"] += 1
        return not fill.live

    async def _read(self, filling: Filling) -> None:
        """A playlist is whole before anybody is shown it."""
        text = await retrieve(
            filling.route, filling.key, self._config.origin,
            held=filling.held, outdated=self.outdated, loop=filling.fill.loop,
        )  # fmt: skip
        filling.refused = text.refused
        if text.refused:
            self._done(filling)
            return
        self.lifetimes.learn(filling.key, text.body)
        published = self.on_text(filling.key, text)
        try:
            # Published, it is what the entry holds by now; but one that was purged meanwhile is
            # out of reach of that, and its viewers wait for this.
            filling.head(policy.decoded(text.head, len(text.body)))
            filling.data(text.body)
            self._done(filling)
        except Stopped:
            if not published:
                raise
            self.counts["completed"] += 1
            self.counts["bytes"] += len(text.body)

    async def _pull(self, filling: Filling) -> None:
        """Attempts until the body is whole. Raises what ended the last one."""
        origin_config = self._config.origin
        loop = asyncio.get_running_loop()
        head_by = loop.time() + origin_config.total / 1000
        error = UpstreamError("unavailable", "no healthy origin")
        attempts = Attempts(
            filling.route, filling.key, filling.fill.loop, self._config.origin.attempts
        )
        while (origin := attempts.next()) is not None:
            try:
                await self._ask(filling, attempts, origin, head_by)
            except UpstreamError as failed:
                error = failed
                if not error.retryable or not self._may_continue(filling):
                    break
                attempts.failed(origin, error, began=filling.began)
                self.counts["resumed" if filling.began else "retried"] += 1
                continue
            self._done(filling)
            return
        try:
            raise error
        finally:
            del error  # its traceback holds this frame, and the frame would hold the fill

    async def _ask(
        self, filling: Filling, attempts: Attempts, origin: Origin, head_by: float
    ) -> None:
        """One attempt, with a second one beside it if its head is late."""

        async def ask(origin: Origin) -> None:
            attempt = partial(self._attempt, filling, head_by=head_by)
            await within(filling.route, origin, filling.target, attempt)

        filling.lane = None
        late_s = None if filling.began or filling.held else attempts.late_s(origin)
        await hedged(ask, origin, late_s, lambda: None if filling.lane else attempts.hedge())

    @staticmethod
    def _may_continue(filling: Filling) -> bool:
        return not filling.began or bool(filling.etag) or not filling.received

    def _done(self, filling: Filling) -> None:
        if filling.refused:
            self.counts[f"refused.{filling.refused}"] += 1
            filling.fill.fail(filling.refused, ttl_ms=self._negative_ms(filling))
            return
        filling.finish()
        if filling.renewed:
            self.counts["renewed"] += 1
        self.counts["completed"] += 1
        self.counts["bytes"] += filling.received

    async def _attempt(
        self, filling: Filling, origin: Origin, target: bytes, *, head_by: float
    ) -> None:
        lane = Lane(filling, origin, target)
        request = policy.build_request(
            target, origin.host, loop=filling.route.via(filling.fill.loop),
            offset=filling.received, etag=filling.etag, stale=filling.stale,
        )  # fmt: skip
        origin_config = self._config.origin
        patience_ms = origin_config.blocking if filling.held else origin_config.first_byte
        first_byte_s = patience_ms / 1000
        try:
            async with asyncio.timeout_at(None if filling.began else head_by) as lane.patience:
                await origin.get(request, lane, first_byte_s=first_byte_s)
        except TimeoutError:
            raise UpstreamError("timeout", "no head in time", retryable=False) from None
        finally:
            filling.lanes.remove(lane)
