"""Pull: GET and HEAD of everything a viewer may ask for, as any cache or browser would.

Laws: objects are immutable (ETag is their xxh3-128), playlists are versions that may be waited for,
a growing segment is sent as it grows, in whole parts. Every answer may be read from any page
(CORS). Every refusal is a status and one clear line. Bounds: the store's. Does not know who asks.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from edgecache.errors import SignatureError
from edgecache.units import xs_date

from . import names
from .archive.library import Library
from .model import Hops, PlaylistVersion, digest_of
from .page import Asset, Pages
from .store import Store, StoreError
from .window import StoredObject, Variant, Want

_CHUNK_S: Final = 6.0  # silence in a growing segment: 3 target durations
_RANGE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII)
_PLAYLISTS: Final = (".m3u8", ".mpd", "/storyboard.vtt")
_NUMBER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_STREAM: Final = re.compile(r"[a-z0-9_-]{1,64}", re.ASCII)
Read = Callable[[StoredObject, int, int], Awaitable[bytes]]
_CORS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Age, Cache-Status, Content-Length, Content-Range, Date, ETag",
}
_PREFLIGHT: Final = {
    **_CORS,
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "Range, If-None-Match",
    "Access-Control-Max-Age": "86400",
}


def refusal(status: int, line: str) -> web.Response:
    """An answer without a body worth keeping: one line, not cached."""
    fields = {**_CORS, "Cache-Control": "no-store"}
    return web.Response(status=status, text=line + "\n", headers=fields)


def guard(counters: Counter[tuple[str, int]]) -> Middleware:
    """Errors become answers, and every answer is counted by route and status."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        route = resource.canonical if resource else "none"
        try:
            response = await handler(request)
        except (StoreError, SignatureError) as error:
            response = refusal(error.status, error.reason)
        except web.HTTPException as error:
            response = refusal(error.status, error.reason)
            response.headers.update({k: v for k, v in error.headers.items() if k == hdrs.ALLOW})
        response.headers.setdefault("Server", "edgecache-origin")
        counters[route, response.status] += 1
        return response

    return middleware


class Pull:
    """The routes of `store` and `pages`, and of `library` for what the store has no more."""

    def __init__(self, store: Store, pages: Pages, library: Library | None = None) -> None:
        self._store = store
        self._pages = pages
        self._library = library

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/live/{path:.+}", self.live),
            web.options("/live/{path:.+}", self.preflight),
            web.get("/vod/{path:.+}", self.vod),
            web.options("/vod/{path:.+}", self.preflight),
            web.get(names.TIME, self.time),
            web.get("/watch/{stream}", self.watch),
            web.get("/go", self.go),
            web.get("/static/{name}", self.static),
            web.get("/state", self.state),
            web.get("/", self.state),  # not a redirect: a POP follows none
        ]

    async def live(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.raw_path
        if path.endswith(_PLAYLISTS):
            return await self._live_playlist(request, path)
        try:
            stored = await self._store.fetch(path)
        except StoreError as error:
            if error.status != 404 or self._library is None:
                raise
            return await self._whole(request, await self._library.fetch(path), self._library.read)
        if not stored.complete:
            return await self._growing(request, stored)
        return await self._whole(request, stored, self._store.read)

    async def vod(self, request: web.Request) -> web.StreamResponse:
        """One recording by the names that it keeps."""
        path = request.rel_url.raw_path
        if self._library is None:
            raise StoreError(404, "no such recording")
        if path.endswith(_PLAYLISTS):
            return await self._playlist(request, path)
        return await self._whole(request, await self._library.fetch(path), self._library.read)

    async def time(self, _request: web.Request) -> web.Response:
        """What players set their clock by when they come here without a POP."""
        fields = {**_CORS, "Cache-Control": "no-store"}
        return web.Response(text=xs_date(time.time_ns()), headers=fields)

    async def preflight(self, _request: web.Request) -> web.Response:
        return web.Response(status=204, headers=_PREFLIGHT)

    async def watch(self, request: web.Request) -> web.StreamResponse:
        stream = request.match_info["stream"]
        if not _STREAM.fullmatch(stream):
            raise StoreError(404, f"stream: found {stream[:80]!r}, allowed {_STREAM.pattern}")
        return _asset(request, self._pages.watch(stream))

    async def go(self, request: web.Request) -> web.StreamResponse:
        return _asset(request, self._pages.go())

    async def state(self, request: web.Request) -> web.StreamResponse:
        return _asset(request, self._pages.state())

    async def static(self, request: web.Request) -> web.StreamResponse:
        asset = self._pages.static(request.match_info["name"])
        if asset is None:
            raise StoreError(404, "no such file")
        return _asset(request, asset)

    # -- playlists

    async def _live_playlist(self, request: web.Request, path: str) -> web.Response:
        """Says, as a push does, of which timeline it is, and that a refusal is: the stream may go
        on in another data centre."""
        try:
            response = await self._playlist(request, path)
        except StoreError as error:
            response = refusal(error.status, error.reason)
        if epoch := self._store.epoch(path):
            response.headers["Edge-Epoch"] = epoch
        return response

    async def _playlist(self, request: web.Request, path: str) -> web.Response:
        wants_gzip = _accepts_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, ""))
        want = _want(request)
        version, variant = await self._version(path, want, gzip=wants_gzip)
        waited = version.waited_cache_control if want.msn is not None else ""
        fields = {
            **_CORS,
            "Content-Type": version.content_type,
            "Cache-Control": waited or version.cache_control,
            "ETag": f'"{digest_of(variant.body)}"',
            "Vary": "Accept-Encoding",
            **_timing(version.hops),
        }
        if _unchanged(request, fields["ETag"]):
            return web.Response(status=304, headers=fields)
        if variant.gzip:
            fields["Content-Encoding"] = "gzip"
        return web.Response(body=variant.body, headers=fields)

    async def _version(
        self, path: str, want: Want, *, gzip: bool
    ) -> tuple[PlaylistVersion, Variant]:
        try:
            if path.startswith("/live/"):
                return await self._store.playlist(path, want, gzip=gzip)
            raise StoreError(404, "no such playlist")
        except StoreError as error:
            if error.status != 404 or self._library is None:
                raise
            return await self._library.playlist(path, want, gzip=gzip)

    # -- objects

    async def _growing(self, request: web.Request, stored: StoredObject) -> web.StreamResponse:
        """Whole parts as they come. Broken off, not ended, when they stop coming: a client must see
        that it is not whole."""
        fields = {**_CORS, "Content-Type": stored.content_type, "Cache-Control": "no-store"}
        response = web.StreamResponse(headers=fields)
        response.enable_chunked_encoding()
        await response.prepare(request)
        if request.method == hdrs.METH_HEAD:
            return response
        try:
            async for chunk in self._store.follow(stored, _CHUNK_S):
                await response.write(chunk)
        except StoreError:
            if request.transport:
                request.transport.abort()
        return response

    async def _whole(
        self, request: web.Request, stored: StoredObject, read: Read
    ) -> web.StreamResponse:
        etag = f'"{stored.digest}"'
        fields = {
            **_CORS,
            "Content-Type": stored.content_type,
            "Cache-Control": stored.cache_control,
            "ETag": etag,
            "Accept-Ranges": "bytes",
            **_timing(stored.hops),
        }
        expected = request.headers.get(hdrs.IF_MATCH)
        if expected is not None and expected not in ("*", etag):
            raise StoreError(412, f"If-Match: found {expected[:80]}, have {etag}")
        if _unchanged(request, etag):
            return web.Response(status=304, headers=fields)
        start, stop, status = 0, stored.size, 200
        if request.headers.get(hdrs.IF_RANGE, etag) == etag:
            start, stop, status = range_of(request.headers.get(hdrs.RANGE, ""), stored.size)
        if status == 416:
            return refused_range(fields, stored.size)
        if status == 206:
            fields["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
        body = await read(stored, start, stop)
        return web.Response(status=status, body=body, headers=fields)


def _want(request: web.Request) -> Want:
    """The delivery directives. Raises StoreError(400) for a number that is none."""
    numbers: dict[str, int | None] = {}
    for name in ("_HLS_msn", "_HLS_part"):
        raw = request.query.get(name)
        if raw is not None and not _NUMBER.fullmatch(raw):
            raise StoreError(400, f"{name}: found {raw[:40]!r}, allowed a number")
        numbers[name] = None if raw is None else int(raw)
    skip = request.query.get("_HLS_skip")
    return Want(
        msn=numbers["_HLS_msn"],
        part=numbers["_HLS_part"],
        skip=skip in ("YES", "v2"),  # no other value asks (6.2.5.1)
        v2=skip == "v2",
    )


def _timing(hops: Hops | None) -> dict[str, str]:
    """What the ledger has (W3C Server Timing), for pages of any origin."""
    if hops is None:
        return {}
    told = (each.partition("=") for each in hops.timing.split(","))
    timing = ", ".join(f"{name};dur={ms}" for name, _, ms in told)
    return {"Server-Timing": timing, "Timing-Allow-Origin": "*"}


def _accepts_gzip(accepted: str) -> bool:
    for choice in accepted.lower().split(","):
        coding, _, weight = choice.partition(";")
        if coding.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _unchanged(request: web.Request, etag: str) -> bool:
    """If-None-Match is compared weakly (RFC 9110 13.1.2)."""
    known = request.headers.get(hdrs.IF_NONE_MATCH, "")
    return known.strip() == "*" or etag in (
        each.strip().removeprefix("W/") for each in known.split(",")
    )


def refused_range(fields: dict[str, str], size: int) -> web.Response:
    return web.Response(status=416, headers={**fields, "Content-Range": f"bytes */{size}"})


def range_of(value: str, size: int) -> tuple[int, int, int]:
    """(start, stop, status) of a single range; anything else is ignored (RFC 9110 14.2)."""
    match = _RANGE.fullmatch(value.strip())
    if match is None or not (match[1] or match[2]):
        return 0, size, 200
    if not match[1]:
        length = min(int(match[2]), size)
        return (size - length, size, 206) if length else (0, size, 416)
    start = int(match[1])
    stop = min(int(match[2]) + 1, size) if match[2] else size
    if match[2] and int(match[2]) < start:
        return 0, size, 200
    return (start, stop, 206) if start < size else (0, size, 416)


def _asset(request: web.Request, asset: Asset) -> web.Response:
    fields = {
        "Content-Type": asset.content_type,
        "Cache-Control": asset.cache_control,
        "ETag": f'"{asset.etag}"',
        "X-Content-Type-Options": "nosniff",
    }
    if asset.policy:
        fields["Content-Security-Policy"] = asset.policy
    if _unchanged(request, fields["ETag"]):
        return web.Response(status=304, headers=fields)
    return web.Response(body=asset.body, headers=fields)
