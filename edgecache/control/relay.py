"""One publisher's tags on their way to a data centre: a chunked PUT that survives short losses.

Laws: media is never looked into; what a data centre needs to begin anew (configuration, the tags
since the last keyframe) is held within `hold_bytes`, beyond it until the next keyframe nothing is.
When the data centre takes no more, `on_pause(True)` stops the publisher. A lost connection is
replaced within `reconnect_s`, while tags go on being held; then, or when the data centre refuses,
`on_failed` is called once. Does not know RTMP or keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from ..errors import UpstreamError
from ..flv import CONFIG, HEADER, MAX_TRACKS, SCRIPT, Tag
from .admission import Admitted, RefusedError, Sign
from .put import Answer, Put, connect, head

log = logging.getLogger(__name__)

_RETRY_S: Final = 0.1
_RETRY_MAX_S: Final = 1.0
_FINAL: Final = {
    400: "refused",
    401: "unsigned",
    403: "forbidden",
    404: "unknown",
    410: "replaced",
    415: "refused",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times in seconds."""

    hold_bytes: int = 8 << 20
    connect_s: float = 2.0
    proceed_s: float = 1.0  # RFC 9110 10.1.1: a server may say nothing to Expect
    stall_s: float = 10.0  # the data centre takes nothing: as bad as a lost connection
    reconnect_s: float = 10.0
    finish_s: float = 3.0


class _Held:
    """What a data centre needs to begin in the middle."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._config: dict[tuple[int, int, int], Tag] = {}
        self._tags: list[Tag] = []
        self._bytes = 0
        self._whole = False
        self.dropped = 0

    def add(self, tag: Tag) -> None:
        if tag.kind == SCRIPT or tag.packet == CONFIG:
            # Bounded: metadata, and one configuration of each track.
            if tag.track < MAX_TRACKS:
                self._config[(tag.kind, tag.packet, tag.track)] = tag
            if not self._whole:
                return
        if tag.is_keyframe:
            self._tags, self._bytes, self._whole = [], 0, True
        if not self._whole:
            self.dropped += 1
            return
        self._tags.append(tag)
        self._bytes += len(tag.body)
        if self._bytes > self._limit:
            self.dropped += len(self._tags)
            self._tags, self._bytes, self._whole = [], 0, False

    def encode(self) -> bytes:
        ordered = sorted(self._config.values(), key=lambda tag: (tag.kind != SCRIPT, -tag.kind))
        return HEADER + b"".join(tag.encode() for tag in (*ordered, *self._tags))


class Relay:
    """await open(), then feed(); at the end await close()."""

    def __init__(
        self,
        admitted: Admitted,
        *,
        sign: Sign,
        limits: Limits,
        counts: Counter[str],
        on_pause: Callable[[bool], None],
        on_failed: Callable[[RefusedError], None],
    ) -> None:
        self._admitted = admitted
        self._sign = sign
        self._limits = limits
        self._counts = counts
        self._on_pause = on_pause
        self._on_failed = on_failed
        self._held = _Held(limits.hold_bytes)
        self._put: Put | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._ending = False

    async def open(self) -> None:
        """Begin the PUT. Raises RefusedError: `busy` (409), `away`, or what the data centre
        says."""
        try:
            self._put = await self._begin()
        except UpstreamError as error:
            raise RefusedError("away", "the data centre does not answer; try again") from error
        self._put.chunk(HEADER)
        self._watcher = asyncio.create_task(self._watch(self._put))

    def feed(self, tags: Sequence[Tag]) -> None:
        """Send the tags on, or hold them while there is no connection."""
        for tag in tags:
            self._held.add(tag)
        if self._put is not None:
            data = b"".join(tag.encode() for tag in tags)
            self._put.chunk(data)
            self._counts["bytes_out"] += len(data)

    async def close(self) -> None:
        """The publisher has ended: finish the body and wait for the answer, at most `finish_s`."""
        self._ending = True
        self._clear_stall()
        put, self._put = self._put, None
        if put is not None:
            put.end()
            with contextlib.suppress(UpstreamError, TimeoutError):
                async with asyncio.timeout(self._limits.finish_s):
                    await asyncio.shield(put.answered)
            put.abort()
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher

    async def _begin(self) -> Put:
        """A PUT that may be written to, at the first data centre that takes it."""
        failure = UpstreamError("refused", "no data centre")
        for url in self._admitted.urls:
            try:
                put = await connect(url, timeout_s=self._limits.connect_s, on_pause=self._paused)
            except UpstreamError as error:
                failure = error
                continue
            try:
                await self._introduce(put, url)
            except UpstreamError as error:
                put.abort()
                failure = error
                continue
            except BaseException:
                put.abort()
                raise
            return put
        raise failure

    async def _introduce(self, put: Put, url: str) -> None:
        target = urlsplit(url).path
        fields = (
            ("Authorization", self._sign("PUT", target)),
            ("Content-Type", "video/x-flv"),
            ("Transfer-Encoding", "chunked"),
            ("Expect", "100-continue"),
        )
        put.write(head("PUT", url, fields))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.proceed_s):
                await asyncio.shield(put.proceed)
        if put.answered.done():
            _judge(put.answered.result())

    async def _watch(self, put: Put) -> None:
        """Until the publisher ends: replace the connection whenever it is lost."""
        try:
            while True:
                await self._lost(put)
                put = await self._again()
                self._counts["reconnects"] += 1
                put.chunk(self._held.encode())
                self._put = put
        except RefusedError as error:
            if not self._ending:
                self._on_failed(error)

    async def _lost(self, put: Put) -> None:
        """Returns when the connection is lost; raises RefusedError when the data centre says no."""
        try:
            _judge(await asyncio.shield(put.answered))
        except UpstreamError as error:
            log.warning(
                "data centre lost",
                extra={"stream": self._admitted.stream, "reason": error.reason},
            )
        finally:
            put.abort()
            if not self._ending:
                self._put = None
                self._paused(False)

    async def _again(self) -> Put:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.reconnect_s
        delay_s = _RETRY_S
        while True:
            try:
                return await self._begin()
            except UpstreamError as error:
                refusal = RefusedError("away", f"the data centre was lost: {error}")
            except RefusedError as error:
                # busy: our own earlier PUT, until the data centre sees that it is gone.
                if error.reason not in ("busy", "full"):
                    raise
                refusal = error
            if loop.time() + delay_s > deadline:
                raise refusal
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _RETRY_MAX_S)

    def _paused(self, paused: bool) -> None:
        self._clear_stall()
        if paused and self._put is not None:
            loop = asyncio.get_running_loop()
            self._stall = loop.call_later(self._limits.stall_s, self._put.abort)
        self._on_pause(paused)

    def _clear_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


def _judge(answer: Answer) -> None:
    """Raises for any final answer: none is expected while the body is being sent."""
    said = answer.body[:200].decode("utf-8", "replace").strip()
    if answer.status == 409:
        raise RefusedError("busy", "this stream is being published already")
    if answer.status in _FINAL:
        raise RefusedError(_FINAL[answer.status], said or f"the data centre said {answer.status}")
    if answer.status == 503:
        raise RefusedError("full", said or "the data centre takes no more streams")
    raise UpstreamError("ended", f"the data centre answered {answer.status} in mid-stream")
