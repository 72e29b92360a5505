"""One body on its way from origins to an entry, over as many attempts as it takes.

Law: bytes of a body are appended once and in order; an attempt that continues one starts at the
byte reached and brings the same bytes, or is refused. Of two attempts at once the first with a
usable head has it alone; that it does not exist is believed of the one that was asked first. What
is wrong is cut before it can look whole. What the store had before is asked about (304) and stands
in when nobody can be asked. Does not know who is asked.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import xxhash

from ..config import EdgeConfig
from ..errors import UpstreamError
from ..wall import earlier_s
from . import policy
from .lifetimes import Lifetimes
from .response import Head
from .retrieve import Moved
from .routes import Route
from .upstream import Origin

if TYPE_CHECKING:
    from .._core import Fill, Stale

_LONELY_S: Final = 1.0


class Stopped(Exception):  # noqa: N818 - an end, not an error
    """The entry is no longer ours, or nobody wants it: `reason` is a counter label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Filling:
    """`head` and `data` of each attempt in turn."""

    def __init__(self, fill: Fill, config: EdgeConfig, route: Route, lifetimes: Lifetimes) -> None:
        self.fill = fill
        self.key = self.target = fill.key
        self.lanes: list[Lane] = []
        self.lane: Lane | None = None  # the one that brings the body
        self.ahead = self.held = False
        self.route = route
        self._config = config
        self._lifetimes = lifetimes
        self._hash = xxhash.xxh3_128()
        self._skip = 0
        self._digest = ""
        self._length = -1
        self._ttl_ms = 0
        self._lonely_s = 0.0  # monotonic time since when nobody waits
        self.began = False
        self.etag = ""
        self.received = 0
        self.refused = 0  # the 4xx that ends it
        self.stale = fill.stale  # what it is to replace, if that may be found good
        self.renewed = False

    def head(self, head: Head, *, parent: bool = False, delay_ms: int = 0) -> None:
        """Raises when it is none that helps. `parent`: it comes from one. `delay_ms`: it took."""
        if self.began:
            self._skip = policy.skip_of(
                head, offset=self.received, etag=self.etag, length=self._length
            )
            return
        age_ms = policy.age_ms(head, delay_ms=delay_ms, now_s=earlier_s())
        if head.status == 304 and self.stale is not None:
            self._renew(policy.heed(head, self.route.rules), self.stale, age_ms)
            return
        self.refused = policy.check_status(head, parent=parent)
        if self.refused:
            return
        if head.length > self._config.cache.object_max:
            raise UpstreamError("too_large", "body over cache.object_max", retryable=False)
        head = policy.heed(head, self.route.rules)
        self.etag, self._digest = policy.strong_etag(head), policy.announced_digest(head)
        self._length = head.length
        self._ttl_ms, grace_ms = policy.freshness_ms(
            head, self._config.cache, self._lifetimes.success_ms(self.key), age_ms
        )
        fields = policy.viewer_fields(head)
        if not self.fill.begin(
            head.status, fields, length=head.length, etag=self.etag.encode("latin-1"),
            ttl_ms=self._ttl_ms, grace_ms=grace_ms, age_ms=age_ms,
            spare_ms=policy.spare_ms(head, self._config.cache),
        ):  # fmt: skip
            raise Stopped("superseded")
        self.began = True

    def _renew(self, news: Head, stale: Stale, age_ms: int) -> None:
        """Raises UpstreamError("different") when it is another body that was found good."""
        head, cache = policy.renewed(stale, news), self._config.cache
        default_ms = self._lifetimes.success_ms(self.key)
        ttl_ms, grace_ms = policy.freshness_ms(head, cache, default_ms, age_ms)
        if not self.fill.renew(
            policy.viewer_fields(head), ttl_ms=ttl_ms, grace_ms=grace_ms,
            age_ms=age_ms, spare_ms=policy.spare_ms(head, cache),
        ):  # fmt: skip
            raise Stopped("superseded")
        self.renewed = True

    def stand_in(self, again_ms: int) -> bool:
        """The origin failed: what was there before is served on, if it may be, and asked about
        again after `again_ms`."""
        stale, cache = self.fill.stale, self._config.cache
        if stale is None or not policy.stands_in(self.key, stale, cache):
            return False
        return self.fill.renew(
            stale["fields"], ttl_ms=0, grace_ms=stale["left_ms"], age_ms=stale["age_ms"],
            again_ms=again_ms,
        )  # fmt: skip

    def data(self, chunk: bytes) -> None:
        if self.refused:
            return
        if self._skip:
            dropped = min(self._skip, len(chunk))
            self._skip -= dropped
            chunk = chunk[dropped:]
        if not self.received:
            self._lifetimes.learn(self.key, chunk)
        self.received += len(chunk)
        if self.received > self._config.cache.object_max:
            raise UpstreamError("too_large", "body over cache.object_max", retryable=False)
        self._hash.update(chunk)
        if self.received == self._length:
            self._check_digest()
        if chunk and not self.fill.append(chunk):
            raise Stopped("superseded" if not self.fill.live else "no_space")
        if self._abandoned():
            raise Stopped("abandoned")

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
        if self.renewed:
            self._lifetimes.saw(self.key)
            return
        if self._length < 0:
            self._check_digest()
        etag = b"" if self.etag else self._hash.hexdigest().encode()
        if not self.fill.commit(etag=etag):
            raise Stopped("superseded")
        self._lifetimes.saw(self.key)


class Lane:
    """One exchange for a filling (a Sink); made by the task that is in it."""

    def __init__(self, filling: Filling, origin: Origin, target: bytes) -> None:
        self._filling = filling
        self._origin = origin
        self._target = target
        self._task = asyncio.current_task()
        self._asked_s = time.monotonic()
        filling.lanes.append(self)
        self.patience: asyncio.Timeout | None = None  # until the head

    def head(self, head: Head) -> None:
        filling = self._filling
        took_s = 0.0  # of what the origin holds until it exists
        if not filling.began:
            if url := policy.moved_to(head, self._target.decode("latin-1"), self._origin.url):
                raise Moved(url)
            if not filling.held:
                took_s = time.monotonic() - self._asked_s
                self._origin.pace.add(took_s)
            if 400 <= head.status < 500 and filling.lanes[0] is not self:
                raise Stopped("beaten")
        filling.head(head, parent=self._origin.parent, delay_ms=int(took_s * 1000))
        filling.lane, filling.target = self, self._target
        if self.patience is not None:
            self.patience.reschedule(None)  # from here on the rate decides
        for rival in filling.lanes:
            if rival is not self and rival._task is not None:
                rival._task.cancel()

    def data(self, chunk: bytes) -> None:
        self._filling.data(chunk)
