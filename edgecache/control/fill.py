"""Fills: one per key, however many viewers wait for it.

Law: everybody who waits gets the bytes as they arrive; a failure reaches them all at once. A body
that was cut is continued by Range + If-Match from the byte reached, on the same or the next origin,
and never spliced from different bytes; a digest that the origin announced is checked before the
last byte is shown. Bounds: fills at once (503), attempts, time to the head (504), body size (502).
A miss on the next part of a stream that is being pushed is held for the push first. Does not know
viewers' requests, only keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import xxhash

from ..config import EdgeConfig
from ..errors import UpstreamError
from . import policy
from .response import Head
from .upstream import Origin, Upstreams

if TYPE_CHECKING:
    from .._core import Fill

log = logging.getLogger(__name__)

_FILLS_MAX: Final = 4096
_LONELY_S: Final = 1.0


class _Stopped(Exception):  # noqa: N818 - an end, not an error
    """The entry is no longer ours, or nobody wants it: `reason` is a counter label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Filling:
    """One body on its way from origins to an entry, over as many attempts as it takes (a Sink)."""

    def __init__(self, fill: Fill, config: EdgeConfig) -> None:
        self.fill = fill
        self.key = fill.key
        self._config = config
        self._hash = xxhash.xxh3_128()
        self._skip = 0
        self._digest = ""
        self._length = -1
        self._ttl_ms = 0
        self._lonely_s = 0.0  # monotonic time since when nobody waits
        self.patience: asyncio.Timeout | None = None  # until the head
        self.began = False
        self.etag = ""
        self.received = 0
        self.refused = 0  # the 4xx that ends it

    def head(self, head: Head) -> None:
        if self.began:
            self._skip = policy.skip_of(
                head, offset=self.received, etag=self.etag, length=self._length
            )
            return
        self.refused = policy.check_status(head)
        if self.refused:
            return
        if head.length > self._config.cache.object_max:
            raise UpstreamError("too_large", "body over cache.object_max", retryable=False)
        self.etag, self._digest = policy.strong_etag(head), policy.announced_digest(head)
        self._length = head.length
        self._ttl_ms, grace_ms = policy.freshness_ms(self.key, head, self._config.cache)
        fields = policy.viewer_fields(head)
        if not self.fill.begin(
            head.status, fields, length=head.length, etag=self.etag.encode("latin-1"),
            ttl_ms=self._ttl_ms, grace_ms=grace_ms,
        ):  # fmt: skip
            raise _Stopped("superseded")
        self.began = True
        if self.patience is not None:
            self.patience.reschedule(None)  # from here on the rate decides

    def data(self, chunk: bytes) -> None:
        if self.refused:
            return
        if self._skip:
            dropped = min(self._skip, len(chunk))
            self._skip -= dropped
            chunk = chunk[dropped:]
        self.received += len(chunk)
        if self.received > self._config.cache.object_max:
            raise UpstreamError("too_large", "body over cache.object_max", retryable=False)
        self._hash.update(chunk)
        if self.received == self._length:
            self._check_digest()
        if chunk and not self.fill.append(chunk):
            raise _Stopped("superseded" if not self.fill.live else "no_space")
        if self._abandoned():
            raise _Stopped("abandoned")

    def _abandoned(self) -> bool:
        """Nobody has waited for a while, and what is missing is not worth it for those to come. One
        look is not enough: a waiter that was just woken is not counted until it waits again."""
        if self.fill.waiters or policy.worth_finishing(self.received, self._length, self._ttl_ms):
            self._lonely_s = 0.0
            return False
        now = time.monotonic()
        self._lonely_s = self._lonely_s or now
        return now - self._lonely_s >= _LONELY_S

    def _check_digest(self) -> None:
        """Before the last byte is shown, so that what is wrong is cut and never looks whole."""
        if self._digest and self._hash.hexdigest() != self._digest:
            raise UpstreamError("digest", "the body is not what its digest says", retryable=False)

    def finish(self) -> None:
        if self._length < 0:
            self._check_digest()
        etag = b"" if self.etag else self._hash.hexdigest().encode()
        if not self.fill.commit(etag=etag):
            raise _Stopped("superseded")


class Filler:
    """Takes misses and fills them. `counts` is monotonic: `<what>` or `<what>.<label>`."""

    def __init__(self, upstreams: Upstreams, config: EdgeConfig) -> None:
        self._upstreams = upstreams
        self._config = config
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: dict[bytes, asyncio.Event] = {}
        self._newest: dict[tuple[bytes, bytes, bytes], tuple[int, int]] = {}
        self.counts: Counter[str] = Counter()

    @property
    def running(self) -> int:
        return len(self._tasks)

    def take(self, fills: Iterable[Fill]) -> None:
        """Start filling. Beyond the bound the waiters are answered 503 at once."""
        for fill in fills:
            if len(self._tasks) >= _FILLS_MAX:
                self.counts["failed.crowded"] += 1
                fill.fail(503)
                continue
            task = asyncio.create_task(self._run(fill))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def pushed(self, key: bytes) -> None:
        """A push made `key` complete: whoever holds a miss for it can let go."""
        name = policy.media_name(key)
        if name is not None:
            if name.track not in self._newest:
                self._forget_epochs(*name.track)
            newest = self._newest.get(name.track, (-1, -1))
            self._newest[name.track] = max(newest, (name.msn, name.part))
        held = self._held.get(key)
        if held is not None:
            held.set()

    def forget(self, stream: str) -> None:
        """The stream is no longer pushed: its misses go straight to the origin."""
        for track in [track for track in self._newest if track[0] == stream.encode()]:
            del self._newest[track]

    def _forget_epochs(self, stream: bytes, _epoch: bytes, track: bytes) -> None:
        """A track that starts anew leaves nothing of its former timelines."""
        for known in [known for known in self._newest if (known[0], known[2]) == (stream, track)]:
            del self._newest[known]

    async def close(self) -> None:
        """Cancel what runs; entries fail with it."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, fill: Fill) -> None:
        self.counts["started"] += 1
        filling = Filling(fill, self._config)
        try:
            if not await self._held_for_push(fill):
                await self._pull(filling)
        except _Stopped as stop:
            self.counts[f"stopped.{stop.reason}"] += 1
            if fill.live:
                fill.fail(502)
        except UpstreamError as error:
            self._fail(filling, error)
        except asyncio.CancelledError:
            if fill.live:
                fill.fail(503)
            raise
        except Exception:
            log.exception("a fill failed", extra={"key": fill.key.decode("latin-1")})
            self.counts["failed.internal"] += 1
            if fill.live:
                fill.fail(502)

    def _fail(self, filling: Filling, error: UpstreamError) -> None:
        self.counts[f"failed.{error.reason}"] += 1
        key = filling.key.decode("latin-1")
        log.warning("fill failed: %s", str(error), extra={"key": key, "reason": error.reason})
        if filling.fill.live:
            status = policy.answer_for(error.reason)
            filling.fill.fail(status, ttl_ms=self._config.cache.negative)

    async def _held_for_push(self, fill: Fill) -> bool:
        """True: a push brought it. A hinted part is on its way already; pulling would only race
        it."""
        name = policy.media_name(fill.key)
        if name is None or not policy.is_next(name, self._newest):
            return False
        self.counts["held"] += 1
        arrived = self._held.setdefault(fill.key, asyncio.Event())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._config.origin.push_wait / 1000):
                    await arrived.wait()
        finally:
            self._held.pop(fill.key, None)
        if not fill.live:
            self.counts["held_pushed"] += 1
        return not fill.live

    async def _pull(self, filling: Filling) -> None:
        """Attempts until the body is whole. Raises what ended the last one."""
        origin_config = self._config.origin
        loop = asyncio.get_running_loop()
        head_by = loop.time() + origin_config.total / 1000
        tried: list[Origin] = []
        error = UpstreamError("unavailable", "no healthy origin")
        avoid: list[Origin] = []
        for _ in range(origin_config.attempts):
            origin = self._upstreams.pick(avoid)
            if origin is None:
                break
            tried.append(origin)
            try:
                await self._attempt(filling, origin, head_by)
            except UpstreamError as failed:
                error = failed
                if not error.retryable or not self._may_continue(filling):
                    break
                elsewhere = policy.tries_elsewhere(error.reason, began=filling.began)
                avoid = tried if elsewhere else []
                self.counts["resumed" if filling.began else "retried"] += 1
                continue
            self._done(filling)
            return
        try:
            raise error
        finally:
            del error  # its traceback holds this frame, and the frame would hold the fill

    @staticmethod
    def _may_continue(filling: Filling) -> bool:
        return not filling.began or bool(filling.etag) or not filling.received

    def _done(self, filling: Filling) -> None:
        if filling.refused:
            self.counts[f"refused.{filling.refused}"] += 1
            filling.fill.fail(filling.refused, ttl_ms=self._config.cache.negative)
            return
        filling.finish()
        self.counts["completed"] += 1
        self.counts["bytes"] += filling.received

    async def _attempt(self, filling: Filling, origin: Origin, head_by: float) -> None:
        request = policy.build_request(
            filling.key, origin.host, offset=filling.received, etag=filling.etag
        )
        blocking = b"_HLS_msn" in filling.key
        origin_config = self._config.origin
        first_byte_s = (origin_config.blocking if blocking else origin_config.first_byte) / 1000
        try:
            async with asyncio.timeout_at(None if filling.began else head_by) as filling.patience:
                await origin.get(request, filling, first_byte_s=first_byte_s)
        except TimeoutError:
            raise UpstreamError("timeout", "no head in time", retryable=False) from None
