"""One publisher's media on its way to a data centre: a chunked PUT that survives losses.

Laws: media is never looked into; what no data centre has made safe is held (held.py). The body's
target says which session of a publisher it belongs to and where in it it begins, so that a data
centre that is still there goes on as if nothing had happened; the lines of its answer say what it
needs no more. A lost connection is tried again where it was for `move_s`, then at the others, too,
while media goes on being held; where a data centre stops in order, or says nothing for `silence_s`,
the others are tried at once. One that takes over is told first what the one before had published.
After `away_s` without any, or when one refuses, `on_failed` is called once. One that takes no more
stops the publisher (`on_pause(True)`) for `stall_s` at most, then it is lost. Does not know RTMP,
containers or keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from ..errors import UpstreamError
from ..pieces import Piece
from ..signing import Fields
from .admission import Admitted, RefusedError, SignFields
from .dial import Ways
from .held import Body, Held
from .put import Answer, Put, connect, head, post

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

    hold_bytes: int = 16 << 20
    hold_s: float = 20.0
    connect_s: float = 1.0
    proceed_s: float = 2.0  # until it says whether it takes the media
    stall_s: float = 5.0  # the data centre takes nothing: as bad as a lost connection
    silence_s: float = 3.0  # it says nothing more, which it does twice a second
    move_s: float = 1.0
    away_s: float = 30.0
    finish_s: float = 3.0


class Relay:
    """await open(), then feed(); at the end await close(). The body begins with `header`; `fields`
    say what it is."""

    def __init__(
        self,
        admitted: Admitted,
        *,
        header: bytes,
        fields: Fields,
        ways: Ways,
        sign: SignFields,
        limits: Limits,
        counts: Counter[str],
        on_pause: Callable[[bool], None],
        on_failed: Callable[[RefusedError], None],
    ) -> None:
        self._admitted = admitted
        self._fields = tuple(fields)
        self._ways = ways
        self._sign = sign
        self._limits = limits
        self._counts = counts
        self._on_pause = on_pause
        self._on_failed = on_failed
        self._loop = asyncio.get_running_loop()
        self._session = secrets.token_hex(8)
        self._held = Held(
            header=header, limit_bytes=limits.hold_bytes, span_s=limits.hold_s, counts=counts
        )
        self._url = ""  # of the data centre that has the stream, or had it last
        self._past = b""  # what it had published, for the one that goes on
        self._ended: Answer | None = None  # why the data centre ends, in its last line
        self._put: Put | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._silence: asyncio.TimerHandle | None = None
        self._silent = False
        self._watcher: asyncio.Task[None] | None = None
        self._ending = False

    async def open(self) -> None:
        """Begin the PUT. Raises RefusedError: `busy` (409), `away`, or what the data centre
        says."""
        try:
            put = await self._begin(self._admitted.urls)
        except UpstreamError as error:
            raise RefusedError("away", "the data centre does not answer; try again") from error
        self._watcher = asyncio.create_task(self._watch(put))

    def feed(self, pieces: Sequence[Piece]) -> None:
        """Send what came on, and hold it until that is no longer needed."""
        now_s = self._loop.time()
        for piece in pieces:
            self._held.add(piece, now_s, given=self._put is not None)
        if self._put is not None:
            data = b"".join(piece.data for piece in pieces)
            self._put.chunk(data)
            self._counts["bytes_out"] += len(data)

    async def close(self) -> Answer | None:
        """The publisher has ended: finish the body and wait for the answer, at most `finish_s`.
        None: there is none."""
        self._ending = True
        self._clear_stall()
        self._hush()
        put, self._put = self._put, None
        answer: Answer | None = None
        if put is not None:
            put.end()
            with contextlib.suppress(UpstreamError, TimeoutError):
                async with asyncio.timeout(self._limits.finish_s):
                    answer = await asyncio.shield(put.answered)
            put.abort()
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        self._held.close(given=put is not None)
        return self._ended or answer

    async def _begin(self, urls: Sequence[str]) -> Put:
        """A PUT that has been given what is held and may be written to, at the first of these data
        centres that takes it."""
        failure: UpstreamError | RefusedError = UpstreamError("refused", "no data centre")
        for url in urls:
            try:
                await self._hand_over(url)
                put = await connect(
                    url,
                    ways=self._ways,
                    timeout_s=self._limits.connect_s,
                    on_pause=self._paused,
                    on_line=self._told,
                )
            except UpstreamError as error:
                failure = error
                continue
            try:
                await self._introduce(put, url)
                return put
            except UpstreamError as error:
                failure = error
            except RefusedError as error:
                if error.reason != "full":
                    raise
                failure = error
            finally:
                if self._put is not put:
                    put.abort()
        raise failure

    async def _hand_over(self, url: str) -> None:
        """Tell a data centre where the one before had got to. It knows whether it needs that; what
        it says is no reason not to send it the media."""
        if not self._past:
            return
        fields = (
            ("Authorization", self._sign("POST", urlsplit(url).path, ())),
            ("Content-Type", "application/json"),
        )
        timeout_s = self._limits.connect_s
        answer = await post(url, self._past, fields, ways=self._ways, timeout_s=timeout_s)
        self._counts[f"handed_over.{answer.status}"] += 1

    async def _introduce(self, put: Put, url: str) -> None:
        self._ended = None
        body = self._held.body(self._loop.time())
        at = f"{url}?{_place(self._session, body)}&others={len(self._others(url))}"
        parts = urlsplit(at)
        fields = (
            ("Authorization", self._sign("PUT", f"{parts.path}?{parts.query}", self._fields)),
            ("Transfer-Encoding", "chunked"),
            ("Expect", "100-continue"),
            *self._fields,
        )
        put.write(head("PUT", at, fields))
        try:
            async with asyncio.timeout(self._limits.proceed_s):
                await asyncio.shield(put.proceed)
        except TimeoutError:
            raise UpstreamError("silent", "the data centre says nothing") from None
        if put.answered.done():
            _judge(put.answered.result())
        data = self._held.give(body)
        if data is None:
            raise UpstreamError("late", "what was to be sent had to go meanwhile")
        self._url, self._put, self._silent = url, put, False
        put.chunk(data)

    def _others(self, url: str) -> list[str]:
        """Where the stream could go from there."""
        return [other for other in self._admitted.urls if other != url]

    async def _watch(self, put: Put) -> None:
        """Until the publisher ends: replace the connection whenever it is lost."""
        try:
            while True:
                put = await self._again(await self._lost(put))
                self._counts["reconnects"] += 1
        except RefusedError as error:
            if not self._ending:
                self._on_failed(error)

    async def _lost(self, put: Put) -> float:
        """Until the connection is lost: for how long nobody but the same data centre is worth
        asking. Raises RefusedError when it says no."""
        try:
            answer = await asyncio.shield(put.answered)
            _judge(self._ended or answer)
        except RefusedError as error:
            if error.reason != "full":  # which in mid-stream means that it is going away
                raise
            return 0.0
        except UpstreamError as error:
            if not self._ending:
                told = {"stream": self._admitted.stream, "reason": error.reason}
                log.warning("data centre lost", extra=told)
        finally:
            put.abort()
            self._hush()
            if not self._ending:
                self._put = None
                self._paused(False)
        return 0.0 if self._silent else self._limits.move_s

    async def _again(self, alone_s: float) -> Put:
        began_s = self._loop.time()
        had, delay_s = self._url, _RETRY_S
        while True:
            away_s = self._loop.time() - began_s
            try:
                put = await self._begin([had] if away_s < alone_s else [*self._others(had), had])
                self._counts["moved"] += self._url != had
                return put
            except UpstreamError as error:
                refusal = RefusedError("away", f"the data centre was lost: {error}")
            except RefusedError as error:
                # busy: an earlier PUT, until the data centre sees that it is gone.
                if error.reason not in ("busy", "full"):
                    raise
                refusal = error
            if away_s + delay_s > self._limits.away_s:
                raise refusal
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _RETRY_MAX_S)

    def _told(self, line: bytes) -> None:
        """One line of a data centre's answer."""
        if self._put is not None:
            self._listen()
        try:
            told = json.loads(line)
            self._held.keep(int(told.get("keep", 0)))
            if "past" in told:
                self._past = json.dumps(told["past"]).encode()
            if "end" in told:
                self._ended = Answer(int(told["end"]), str(told["reason"]).encode())
        except (ValueError, TypeError, KeyError, AttributeError):
            self._counts["malformed"] += 1

    def _listen(self) -> None:
        """To the data centre, which was heard just now. In two halves: a pause of this process that
        is longer than the time is followed by what came meanwhile, not by the end of it."""
        half_s = self._limits.silence_s / 2
        self._hush()
        self._silence = self._loop.call_later(half_s, self._listen_on, half_s)

    def _listen_on(self, left_s: float) -> None:
        self._silence = self._loop.call_later(left_s, self._unheard)

    def _unheard(self) -> None:
        assert self._put is not None, "nobody listened to"
        self._silent = True
        self._counts["silent"] += 1
        self._put.abort()

    def _hush(self) -> None:
        """Listen no more."""
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _paused(self, paused: bool) -> None:
        self._clear_stall()
        if paused and self._put is not None:
            self._stall = self._loop.call_later(self._limits.stall_s, self._put.abort)
        self._on_pause(paused)

    def _clear_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None


def _place(session: str, body: Body) -> str:
    """Of a body in a publisher's session, for the data centre: a query."""
    age_ms = round(1000 * body.age_s)
    return f"session={session}&first={body.first}&head={body.head}&age={age_ms}"


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
