"""A text from an origin, whole and in memory: what is read before it is shown.

Law: asked for as a fill is, of parents and origins; redirects only within the origins of
the route, for nobody else was configured to be asked; its size is bounded; a gzip coding is undone,
within the same bound; an announced digest is checked. Does not know playlists, viewers, the store.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import xxhash

from .. import sources
from ..errors import UpstreamError
from . import policy
from .attempts import Attempts
from .response import Head
from .routes import Route
from .upstream import Origin

TEXT_BYTES: Final = 1 << 20
_HOPS_MAX: Final = 3  # redirects of one attempt


class Moved(Exception):  # noqa: N818 - an end, not an error
    """An origin answered with a redirect to `url`."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


async def within(
    route: Route, origin: Origin, target: bytes, ask: Callable[[Origin, bytes], Awaitable[None]]
) -> None:
    """`ask` the origin, and where it sends on to. Raises what `ask` does, and
    UpstreamError("redirect") when that is too far or nobody of ours."""
    for _ in range(_HOPS_MAX + 1):
        try:
            await ask(origin, target)
            return
        except Moved as moved:
            found = route.at(moved.url)
        if found is None:
            raise UpstreamError("redirect", "redirected to nobody we know", retryable=False)
        origin, target = found[0], found[1].encode("latin-1", "replace")
    raise UpstreamError("redirect", "redirected too often", retryable=False)


@dataclass(frozen=True)
class Text:
    """`body` without a content coding, whatever the head says. `refused`: the 4xx it is instead."""

    head: Head
    body: bytes = b""
    refused: int = 0

    @property
    def age_s(self) -> int:
        """How old it was when it came (RFC 9111 5.1)."""
        value = self.head.get("age")
        return min(int(value), 1 << 31) if value.isascii() and value.isdigit() else 0


def plain(head: Head, body: bytes) -> bytes:
    """The body without its content coding. Raises UpstreamError when that cannot be undone."""
    coding = head.get("content-encoding").strip().lower()
    if coding in ("", "identity"):
        return body
    reader = zlib.decompressobj(31)
    try:
        found = reader.decompress(body, TEXT_BYTES) if coding in ("gzip", "x-gzip") else b""
    except zlib.error:
        found = b""
    if not reader.eof:
        raise UpstreamError("coding", f"a text in {coding!r} cannot be read", retryable=False)
    return found


class _Whole:
    """Collects one response to a request for `target` at `origin` (a Sink)."""

    def __init__(self, origin: Origin, target: bytes) -> None:
        self._at = target.decode("latin-1"), origin.url
        self._parent = origin.parent
        self._head: Head | None = None
        self._refused = 0
        self._body = bytearray()

    def head(self, head: Head) -> None:
        if url := policy.moved_to(head, *self._at):
            raise Moved(url)
        self._refused = policy.check_status(head, parent=self._parent)
        self._head = head

    def data(self, chunk: bytes) -> None:
        if self._refused:
            return
        self._body += chunk
        if len(self._body) > TEXT_BYTES:
            raise UpstreamError("too_large", f"a text over {TEXT_BYTES} bytes", retryable=False)

    def text(self) -> Text:
        assert self._head is not None
        body = bytes(self._body)
        digest = policy.announced_digest(self._head)
        if digest and not self._refused and xxhash.xxh3_128_hexdigest(body) != digest:
            raise UpstreamError("digest", "the body is not what its digest says", retryable=False)
        return Text(self._head, plain(self._head, body), self._refused)


async def retrieve(
    route: Route,
    key: bytes,
    settings: sources.Origin,
    *,
    held: bool,
    outdated: Callable[[bytes, Head], bool],
    loop: bytes = b"",
) -> Text:
    """Raises UpstreamError. `held`: the origin answers when there is something new, so its silence
    is not a reason to ask another one. `outdated`: what it says is of the past, another one may
    know better. `loop`: the caches that the request came through."""
    first_byte_s = (settings.blocking if held else settings.first_byte) / 1000
    whole: _Whole | None = None

    async def ask(origin: Origin, target: bytes) -> None:
        nonlocal whole
        whole = _Whole(origin, target)
        request = policy.build_request(target, origin.host, loop=route.via(loop))
        await origin.get(request, whole, first_byte_s=first_byte_s)

    error = UpstreamError("unavailable", "no healthy origin")
    attempts = Attempts(route, key, loop, settings.attempts)
    while (origin := attempts.next()) is not None:
        try:
            async with asyncio.timeout(settings.total / 1000):
                await within(route, origin, key, ask)
            assert whole is not None
            text = whole.text()
            if not outdated(key, text.head):
                return text
            error = UpstreamError("outdated", "the stream goes on elsewhere")
        except TimeoutError:
            error = UpstreamError("timeout", "no text in time", retryable=False)
        except UpstreamError as failed:
            error = failed
        if not error.retryable or (held and error.reason == "timeout"):
            break
        attempts.failed(origin, error, began=False)
    try:
        raise error
    finally:
        del error  # its traceback holds this frame
