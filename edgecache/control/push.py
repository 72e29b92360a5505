"""The receiver of pushes: authenticated, checked whole, then visible at once.

Law: nothing is visible before its digest matched; the first write wins, other bytes for a known
name are a conflict (409) and never an overwrite; of a playlist the newest epoch counts (412). Parts
grow their segment: a part that is ahead of its segment waits for the one before it, at most
`push.gap`; then it is stored alone and the segment is left to be pulled. Bounds: body size (413 at
the head), what a stream holds (429), parts waiting (409), segments growing and their silence
(dropped). Does not know viewers, nor who subscribed to what.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import xxhash

from ..config import EdgeConfig
from ..errors import SignatureError
from ..histogram import Histogram
from ..signing import Verifier
from . import policy
from .epochs import Epochs, number_of
from .http1 import Request, Response, refusal
from .pushed import Object, Part, PushError, Version, epoch_of, key_of, parse
from .quota import Quota
from .response import Head

if TYPE_CHECKING:
    from .._core import Fill, Plane

log = logging.getLogger(__name__)

_SEGMENTS_MAX: Final = 4096
_HOPS_MAX: Final = 16
_HOLD_MS: Final = 3000  # a playlist is held for three target durations (RFC 8216bis 6.2.5.2)
_SILENT_S: Final = 30.0  # a segment that stopped growing is no longer ours to finish


class _Segment:
    """One segment that grows by parts; `grown` is set whenever it did, or when it never will
    again."""

    def __init__(self, fill: Fill) -> None:
        self.fill = fill
        self.hash = xxhash.xxh3_128()
        self.grown = asyncio.Event()
        self.touched_s = time.monotonic()
        self.broken = False
        self.shared = False  # with the process that began it, which is told how it goes on

    def grow(self, data: bytes) -> bool:
        self.touched_s = time.monotonic()
        self.hash.update(data)
        return self.fill.append(data)

    def wake(self) -> None:
        self.grown.set()
        self.grown = asyncio.Event()


class PushReceiver:
    """Handler and gate of the push door. `counts` is monotonic: `accepted.<kind>`,
    `refused.<reason>` … `on_target` is told each playlist's target duration, in s."""

    def __init__(
        self,
        plane: Plane,
        verifier: Verifier,
        config: EdgeConfig,
        *,
        on_stored: Callable[[bytes], None],
    ) -> None:
        self._plane = plane
        self._verifier = verifier
        self._config = config
        self._on_stored = on_stored
        self.on_target: Callable[[bytes, int], None] = lambda _key, _seconds: None
        self._segments: dict[bytes, _Segment] = {}
        self._epochs = Epochs()
        self._waiting = 0
        self._put_answers = _put_answers()
        self._quota = Quota(config.push.stream or config.cache.memory // 2)
        self._running = 0  # being handled
        self.counts: Counter[str] = Counter()
        # of a segment that another process began: key, bytes now, its validator, has it failed
        self.told: Callable[[bytes, int, bytes | None, bool], None] = lambda *_: None
        self.hops: dict[str, Histogram] = {}  # of parts, as their Edge-Timing names them
        self.streams: dict[str, float] = {}  # stream -> monotonic time of its newest push

    @property
    def growing(self) -> int:
        return len(self._segments)

    def gauges(self) -> dict[str, float]:
        return {"segments_growing": self.growing, "pushes_running": self._running}

    def admit(self, request: Request) -> Response | None:
        """Before the body is read: who is it, and is there room for its stream? Strangers are
        answered and closed."""
        try:
            self._verifier.verify(request.method, request.target, request.fields)
        except SignatureError as error:
            self.counts["received"] += 1
            return self._refuse(error.status, error.reason, f"not accepted: {error.reason}", True)
        key = request.target.encode("latin-1")
        stream = policy.stream_of(key)
        if request.method == "PUT" and not self._quota.takes(stream, key, request.length):
            self.counts["received"] += 1
            return self._refuse(429, "stream", f"{stream or 'others'}: push.stream is full")
        return None

    async def handle(self, request: Request) -> Response:
        """received = accepted + refused + running, in requests; received_bytes = bytes +
        discarded_bytes, once they are answered."""
        self.counts["received"] += 1
        self._running += 1
        try:
            answer = await self._handle(request)
        finally:
            self._running -= 1
        kept = answer.status in (201, 204)
        self.counts["received_bytes"] += len(request.body)
        self.counts["bytes" if kept else "discarded_bytes"] += len(request.body)
        return answer

    async def _handle(self, request: Request) -> Response:
        try:
            if request.method == "DELETE":
                return self._remove(request.target, epoch_of(request))
            if request.method != "PUT":
                raise PushError(405, "method", f"{request.method} is not a push")
            pushed = parse(request, now_ms=time.time() * 1000)
            self._saw(pushed.key)
            if isinstance(pushed, Version):
                return self._publish(pushed)
            if isinstance(pushed, Part):
                return await self._grow(pushed)
            return self._store(pushed, "object")
        except PushError as error:
            return self._refuse(error.status, error.reason, str(error))

    def sweep(self) -> list[str]:
        """Once a second or so: let go of segments that stopped growing, and of streams long silent,
        which are returned."""
        now = time.monotonic()
        self._quota.sweep()
        for key, segment in list(self._segments.items()):
            if now - segment.touched_s > _SILENT_S:
                self.counts["segments.silent"] += 1
                self._break(key, segment)
        silent = [name for name, seen in self.streams.items() if now - seen > 4 * _SILENT_S]
        for stream in silent:
            del self.streams[stream]
            self._epochs.forget(stream)
        return silent

    @property
    def keys(self) -> set[bytes]:
        """Of the segments that grow."""
        return set(self._segments)

    def resume(self, key: bytes, fill: Fill, begun: bytes) -> None:
        """Go on with a segment that another process began with these bytes."""
        segment = self._segments[key] = _Segment(fill)
        segment.hash.update(begun)
        segment.shared = True
        self._on_stored(key)

    def leave(self) -> dict[bytes, Fill]:
        """Another process goes on with all of them; those who know its bytes may still be sent."""
        left = {key: segment.fill for key, segment in self._segments.items()}
        self._segments.clear()
        return left

    def stored(self, key: bytes, size: int, ttl_ms: int) -> None:
        """It was pushed, to another process."""
        self._saw(key)
        self._charge(key, size, ttl_ms)
        self._on_stored(key)

    def outdated(self, key: bytes, head: Head) -> bool:
        """Has a newer timeline been pushed than the one that an origin answers with?"""
        try:
            epoch = number_of(head.get("edge-epoch"))
        except ValueError:
            return False  # it does not say
        return self._epochs.outdates(policy.stream_of(key), epoch)

    def close(self) -> None:
        for key, segment in list(self._segments.items()):
            self._break(key, segment)

    def _saw(self, key: bytes) -> None:
        if stream := policy.stream_of(key):
            self.streams[stream] = time.monotonic()

    def _refuse(self, status: int, reason: str, message: str, close: bool = False) -> Response:
        self.counts[f"refused.{reason}"] += 1
        log.warning("push refused: %s", message, extra={"status": status, "reason": reason})
        return refusal(status, message, close=close)

    def _accept(self, status: int, kind: str, key: bytes) -> Response:
        self.counts[f"accepted.{kind}"] += 1
        self._on_stored(key)
        return Response(status)

    def _answer(self, result: int, kind: str, pushed: Object) -> Response:
        """PUT_* -> the contract's status."""
        status, label = self._put_answers[result]
        if status in (200, 201):
            if status == 201:
                self._charge(pushed.key, len(pushed.body), pushed.ttl_ms)
            return self._accept(status, kind if status == 201 else label, pushed.key)
        return self._refuse(status, label, f"{pushed.key.decode()}: {label}")

    def _charge(self, key: bytes, size: int, ttl_ms: int) -> None:
        self._quota.charge(policy.stream_of(key), key, size, ttl_ms)

    def _fence(self, key: bytes, epoch: int, *, ended: bool = False) -> None:
        """Raises PushError for what a data centre says of a stream that goes on in another one."""
        if not self._epochs.admits(policy.stream_of(key), epoch, ended=ended):
            raise PushError(412, "epoch", "edge-epoch: the stream goes on in a newer one")

    def _remove(self, target: str, epoch: int) -> Response:
        """One path, or all below one that ends with a slash. Raises PushError."""
        key = key_of(target.removesuffix("/"))
        self._fence(key, epoch)
        if target.endswith("/"):
            self._plane.purge_prefix(key + b"/")
        else:
            self._plane.purge(key)
        self._quota.release(policy.stream_of(key), key)
        self.counts["accepted.removal"] += 1
        return Response(204)

    def _store(self, pushed: Object, kind: str) -> Response:
        result = self._plane.put(
            pushed.key, pushed.body, pushed.fields, etag=pushed.digest, ttl_ms=pushed.ttl_ms
        )
        return self._answer(result, kind, pushed)

    def _publish(self, version: Version) -> Response:
        """Raises PushError."""
        self._fence(version.key, version.epoch, ended=version.ended)
        msn, parts, last_parts = version.number
        result = self._plane.publish(
            version.key, msn=msn, parts=parts, last_parts=last_parts, hold_ms=version.hold_ms,
            advance=version.advance, ended=version.ended, ttl_ms=version.ttl_ms,
            fields=version.fields, bodies=version.bodies, etags=version.digests,
            waited=version.waited,
        )  # fmt: skip
        status, label = self._put_answers[result]
        if status == 507:
            return self._refuse(status, label, f"{version.key.decode()}: {label}")
        if label != "stale":
            size = sum(len(body) for body in version.bodies if body is not None)
            self._charge(version.key, size, version.ttl_ms)
        self.on_target(version.key, version.hold_ms // _HOLD_MS)
        return self._accept(204, "stale" if label == "stale" else "version", version.key)

    async def _grow(self, part: Part) -> Response:
        segment = self._segment_for(part)
        if segment is not None and part.offset > segment.fill.filled:
            await self._wait_for_predecessor(segment, part)
            if part.offset > segment.fill.filled and not segment.broken:
                self.counts["segments.gap"] += 1
                self._break(part.segment, segment)
        if segment is None or segment.broken or part.offset != segment.fill.filled:
            answer = self._store(part, "lone_part")  # the segment will be pulled if it is asked for
            if answer.status == 409 and segment is not None and not segment.broken:
                self._break(part.segment, segment)  # its maker was restarted and has it otherwise
            return answer
        if not segment.grow(part.body):
            self._break(part.segment, segment)
            return self._store(part, "lone_part")
        if part.segment_digest not in (None, segment.hash.hexdigest().encode()):
            self._break(part.segment, segment)
            return self._refuse(422, "segment_digest", "edge-segment-digest: found another digest")
        result = segment.fill.view(
            part.key, part.offset, len(part.body), part.fields,
            etag=part.digest, ttl_ms=part.ttl_ms,
        )  # fmt: skip
        answer = self._answer(result, "part", part)
        segment.wake()
        self._tell(part.segment, segment)
        for hop, ms in part.hops_ms.items():
            self._hop(hop, ms / 1000)
        if part.segment_digest is not None:
            del self._segments[part.segment]
            segment.fill.commit(etag=part.segment_digest)
            self._tell(part.segment, segment, part.segment_digest)
            self.counts["segments.committed"] += 1
        return answer

    def _hop(self, name: str, seconds: float) -> None:
        """Only our own origins are listened to, but a label set stays bounded anyway."""
        if name in self.hops or len(self.hops) < _HOPS_MAX:
            self.hops.setdefault(name, Histogram()).add(seconds)

    def _segment_for(self, part: Part) -> _Segment | None:
        """The segment that `part` grows; None when it is complete, being pulled, or lost its
        beginning."""
        segment = self._segments.get(part.segment)
        if segment is not None and not segment.fill.live:
            self._break(part.segment, segment)
            segment = None
        if segment is not None or len(self._segments) >= _SEGMENTS_MAX:
            return segment
        fill = self._plane.open(part.segment)
        if fill is None or not fill.begin(200, part.fields, ttl_ms=part.ttl_ms, pushed=True):
            return None
        segment = self._segments[part.segment] = _Segment(fill)
        self._on_stored(part.segment)
        return segment

    async def _wait_for_predecessor(self, segment: _Segment, part: Part) -> None:
        if self._waiting >= self._config.push.pending:
            raise PushError(
                409, "order", f"edge-offset: found {part.offset}, allowed {segment.fill.filled}"
            )
        self._waiting += 1
        self.counts["parts.waited"] += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._config.push.gap / 1000):
                    while part.offset > segment.fill.filled and not segment.broken:
                        await segment.grown.wait()
        finally:
            self._waiting -= 1

    def _break(self, key: bytes, segment: _Segment) -> None:
        segment.broken = True
        self._segments.pop(key, None)
        if segment.fill.live:
            segment.fill.fail(502)
        segment.wake()
        self._tell(key, segment)

    def _tell(self, key: bytes, segment: _Segment, etag: bytes | None = None) -> None:
        if segment.shared:
            self.told(key, segment.fill.filled, etag, segment.broken)


def _put_answers() -> dict[int, tuple[int, str]]:
    """PUT_* -> (status, label). Imported late: the core is only needed once a plane exists."""
    from .. import _core

    return {
        _core.PUT_CREATED: (201, "created"),
        _core.PUT_SAME: (200, "same"),
        _core.PUT_CONFLICT: (409, "conflict"),
        _core.PUT_NO_SPACE: (507, "no_space"),
        _core.PUT_STALE: (204, "stale"),
    }
