"""The doors of recordings: one as an MP4 file for everybody; for operators what there is, and its
deletion.

Laws: the file is made while it is sent, from the same objects that players get; its size is known,
so a download can be taken up again where it broke off (Range), and a progress bar tells the truth.
Bounds: files at a time (503 beyond). A store that fails in the middle breaks the answer off. Does
not know stores.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any, Final

from aiohttp import hdrs, web

from edgecache.openapi import Says, says

from .api import range_of, refused_range
from .archive.keeper import Keeper
from .archive.library import Library
from .archive.movie import Movie, Read, tracks_of
from .archive.objects import ObjectError
from .archive.recording import Recording
from .model import digest_of
from .names import relative, vod_path
from .store import StoreError

_NAME: Final = re.compile(r"([a-z0-9_-]{1,64})\.mp4", re.ASCII)
_AT_ONCE: Final = 64
_NO_STORE: Final = {"Cache-Control": "no-store"}


class Recordings:
    """The routes."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._sending = 0

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/download/{name}", self.download),
            web.get("/download/{stream}/{name}", self.download),
        ]

    async def download(self, request: web.Request) -> web.StreamResponse:
        """The newest of a stream, or one by its epoch. `?track=360p` asks for another picture than
        the best. Raises StoreError."""
        match = _NAME.fullmatch(request.match_info["name"])
        if match is None:
            raise StoreError(404, "no such file, allowed a stream's name and .mp4")
        stream = request.match_info.get("stream")
        named = (match[1], "") if stream is None else (stream, match[1])
        recording = await self._library.recording(*named)
        read = self._reader(recording)
        movie = await self._movie(recording, read, request.query.get("track", ""))
        fields = {
            "Content-Type": "video/mp4",
            "Content-Disposition": f'attachment; filename="{"-".join(filter(None, named))}.mp4"',
            "Cache-Control": "no-store",  # the next broadcast has the same name
            "Accept-Ranges": "bytes",
            "ETag": f'"{digest_of(movie.head)}"',
        }
        start, stop, status = 0, movie.size, 200
        if request.headers.get(hdrs.IF_RANGE, fields["ETag"]) == fields["ETag"]:
            start, stop, status = range_of(request.headers.get(hdrs.RANGE, ""), movie.size)
        if status == 416:
            return refused_range(fields, movie.size)
        if status == 206:
            fields["Content-Range"] = f"bytes {start}-{stop - 1}/{movie.size}"
        if self._sending >= _AT_ONCE:
            raise StoreError(503, f"found {self._sending} downloads, allowed {_AT_ONCE} at a time")
        response = web.StreamResponse(status=status, headers=fields)
        response.content_length = stop - start
        self._sending += 1
        try:
            await self._send(request, response, movie.read(start, stop, read))
        finally:
            self._sending -= 1
        return response

    def _reader(self, recording: Recording) -> Read:
        """By the names that it keeps, should the stream show another one meanwhile."""
        base = vod_path(recording.stream, recording.epoch)
        return lambda path: self._library.whole(base + relative(recording.stream, path))

    @staticmethod
    async def _movie(recording: Recording, read: Read, track: str) -> Movie:
        """Raises StoreError."""
        try:
            inits = {name: await read(path) for name, path in tracks_of(recording, track).items()}
            return Movie(recording, inits)
        except KeyError:
            allowed = ", ".join(recording.whole)
            raise StoreError(404, f"track: found {track[:80]!r}, allowed {allowed}") from None
        except ValueError as error:
            raise StoreError(409, str(error)) from None

    @staticmethod
    async def _send(
        request: web.Request, response: web.StreamResponse, chunks: AsyncIterator[bytes]
    ) -> None:
        await response.prepare(request)
        if request.method == hdrs.METH_HEAD:
            return
        try:
            async for chunk in chunks:
                await response.write(chunk)
        except StoreError:
            if request.transport:
                request.transport.abort()  # a client must see that it is not whole


class Keeping:
    """The operators' routes. What changes something says that it is JSON, or is a DELETE: neither
    may a page do unasked."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/recordings", self.listed),
            web.delete("/api/recordings/{stream}/{epoch}", self.delete),
            web.post("/api/recordings/{stream}", self.refresh),
        ]

    @says(Says(summary="All recordings", answers={200: list[dict[str, Any]]}))
    async def listed(self, _request: web.Request) -> web.Response:
        return web.json_response(self._keeper.rows(), headers=_NO_STORE)

    @says(Says(summary="Delete a recording", answers={200: dict[str, int]}, refuses=(503,)))
    async def delete(self, request: web.Request) -> web.Response:
        """Raises StoreError: 404 not known, 503 the store is away."""
        stream, epoch = request.match_info["stream"], request.match_info["epoch"]
        try:
            count = await self._keeper.delete(stream, epoch)
        except LookupError as error:
            raise StoreError(404, str(error.args[0])) from None
        except ObjectError as error:
            raise StoreError(503, str(error)) from None
        return web.json_response({"objects": count}, headers=_NO_STORE)

    @says(
        Says(
            summary="A recording of this stream was revised",
            answers={200: dict[str, Any]},
            refuses=(415,),
            body=dict[str, Any],
        )
    )
    async def refresh(self, request: web.Request) -> web.Response:
        """Another process has revised a recording of this stream. Raises StoreError(415)."""
        if request.content_type != "application/json":
            raise StoreError(415, "Content-Type: allowed application/json")
        self._keeper.refresh(request.match_info["stream"])
        return web.json_response({}, headers=_NO_STORE)
