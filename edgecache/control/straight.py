"""Bytes, as they are, straight to one data centre: one chunked PUT.

Laws: nothing is looked into, so nothing can be sent again: when the data centre is lost the
publisher is told, and begins anew. One that takes no more makes send() wait, for `stall_s` at most,
and one whose line swallows what is sent is lost after that time. Every deadline is in the limits.
Does not know who publishes, nor how, nor which data centres.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

from ..errors import UpstreamError
from .admission import RefusedError, SignFields
from .dial import Ways
from .put import Answer, Put, connect, head

REASONS: Final = {
    400: "refused",
    403: "bad_key",
    408: "silent",
    409: "busy",
    410: "replaced",
    412: "no_init",
    415: "type",
    503: "full",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times in seconds."""

    connect_s: float = 2.0
    proceed_s: float = 1.0  # RFC 9110 10.1.1: a server may say nothing to Expect
    stall_s: float = 10.0
    finish_s: float = 5.0  # to put out what it holds


class Straight:
    """await to(), then send(); at the end await finish(), or abort()."""

    def __init__(self, put: Put, limits: Limits, taken: asyncio.Event) -> None:
        self._put = put
        self._limits = limits
        self._taken = taken

    @classmethod
    async def to(
        cls,
        url: str,
        fields: Sequence[tuple[str, str]],
        *,
        ways: Ways,
        sign: SignFields,
        limits: Limits,
    ) -> Self:
        """`fields` say what it is. Raises UpstreamError when nobody is there, RefusedError."""
        taken = asyncio.Event()
        taken.set()

        def paused(is_paused: bool) -> None:
            (taken.clear if is_paused else taken.set)()

        put = await connect(
            url,
            ways=ways,
            timeout_s=limits.connect_s,
            on_pause=paused,
            stall_s=limits.stall_s,
        )
        straight = cls(put, limits, taken)
        try:
            await straight._introduce(url, fields, sign)
        except BaseException:
            put.abort()
            raise
        return straight

    async def send(self, data: bytes) -> None:
        """Raises RefusedError when the data centre says no, takes nothing or is lost."""
        self._put.chunk(data)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.stall_s):
                await self._taken.wait()
        if self._put.answered.done() or not self._taken.is_set():
            raise self._refusal()

    async def finish(self) -> None:
        """The body is whole: wait for the answer. Raises RefusedError unless it is good."""
        self._put.end()
        with contextlib.suppress(UpstreamError, TimeoutError):
            async with asyncio.timeout(self._limits.finish_s):
                if (await asyncio.shield(self._put.answered)).status == 200:
                    return
        raise self._refusal()

    def abort(self) -> None:
        self._put.abort()

    async def _introduce(
        self, url: str, fields: Sequence[tuple[str, str]], sign: SignFields
    ) -> None:
        told = (
            ("Authorization", sign("PUT", urlsplit(url).path, fields)),
            ("Transfer-Encoding", "chunked"),
            ("Expect", "100-continue"),
            *fields,
        )
        self._put.write(head("PUT", url, told))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.proceed_s):
                await asyncio.shield(self._put.proceed)
        if self._put.answered.done():
            self._put.answered.result()  # raises when it was lost
            raise self._refusal()

    def _refusal(self) -> RefusedError:
        answered = self._put.answered
        if not answered.done() or answered.exception() is not None:
            return RefusedError("away", "the data centre was lost; begin again")
        return refusal(answered.result())


def refusal(answer: Answer) -> RefusedError:
    said = answer.body[:200].decode("utf-8", "replace").strip()
    reason = REASONS.get(answer.status, "failed")
    return RefusedError(reason, said or f"the data centre answered {answer.status}")
