"""Publishers that send each track by itself, at the viewers' door: a request a track, or one a
segment (DASH-IF Live Media Ingest, Interface 1, and encoders that PUT DASH or HLS).

Laws: each request has the key, and is refused like any other; who was admitted is so for his next
requests, too, while they come, since the data centre judges each by the key's id. All requests of a
publisher, known by key and address, go to one data centre, and to the next one when that is lost.
An init section that came by itself is held, and sent before each segment of its track: so each
request says all that is needed, whichever data centre it comes to. Nothing else is held: a request
that is under way when the data centre is lost is lost with it (503). Bounds: requests at once,
publishers that are remembered, init sections of each and their size, silence. Decodes no media.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from aiohttp import hdrs, web

from .. import tracknames
from ..config import UPLOADS
from ..errors import UpstreamError
from . import straight
from .admission import Admission, Admitted, RefusedError, SignFields
from .straight import Straight

_MEDIA: Final = "video/mp4"
_TYPES: Final = (
    *(_MEDIA, "audio/mp4", "application/mp4", "application/octet-stream"),
    *("application/dash+xml", "application/vnd.apple.mpegurl", "application/x-mpegurl"),
)
_MAX_INITS: Final = 32
_HEAD_BYTES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Times in seconds."""

    requests: int = 1024
    publishers: int = 1024
    remember_s: float = 30.0
    idle_s: float = 15.0
    init_bytes: int = 64 << 10
    straight: straight.Limits = field(default_factory=straight.Limits)


@dataclass(eq=False, slots=True)
class _Publisher:
    """url: of the data centre that has its tracks, "" while none is chosen."""

    used_s: float
    requests: int = 0
    admitted: Admitted | None = None
    url: str = ""
    inits: dict[str, bytes] = field(default_factory=dict)
    choosing: asyncio.Lock = field(default_factory=asyncio.Lock)


class TrackDoor:
    """answer() each request that it `takes`."""

    def __init__(
        self,
        *,
        admission: Admission,
        sign: SignFields,
        counts: Counter[str],
        limits: Limits | None = None,
    ) -> None:
        """counts: bytes_in, bytes_out."""
        self._admission = admission
        self._sign = sign
        self._counts = counts
        self._limits = limits or Limits()
        self._publishers: OrderedDict[tuple[bytes, str], _Publisher] = OrderedDict()

    def takes(self, request: web.BaseRequest) -> bool:
        return bool(_asked(request)[1])

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Raises RefusedError."""
        key, path = _asked(request)
        self._check(request, path)
        with self._publisher(key, request.remote or "") as publisher:
            try:
                admitted = await self._admit(publisher, key, request.remote or "")
                if request.method != hdrs.METH_DELETE:
                    await self._pass(request, path, publisher, admitted)
            except RefusedError:
                publisher.admitted = None  # whatever it was, it is asked for again
                raise
            except ConnectionError:  # nobody hears it any more
                raise RefusedError("refused", "the request broke off") from None
        answer = web.Response(text="taken\n")
        answer.force_close()
        return answer

    def _check(self, request: web.BaseRequest, path: str) -> None:
        if request.method not in ("PUT", "POST", "DELETE"):
            raise RefusedError("method", "allowed are PUT and POST of a track, and DELETE")
        if len(path) > tracknames.MAX_CHARS:
            raise RefusedError("refused", f"a path of {len(path)}, allowed {tracknames.MAX_CHARS}")
        if request.content_type not in _TYPES:
            allowed = ", ".join(_TYPES)
            text = f"Content-Type: found {request.content_type}, allowed for a track {allowed}"
            raise RefusedError("type", text)

    @contextlib.contextmanager
    def _publisher(self, key: str, address: str) -> Iterator[_Publisher]:
        """Who sends a request, as long as that takes. Raises RefusedError."""
        now_s = asyncio.get_running_loop().time()
        self._forget(now_s)
        name = hashlib.sha256(key.encode()).digest(), address
        if sum(each.requests for each in self._publishers.values()) >= self._limits.requests:
            raise RefusedError("full", f"{self._limits.requests} requests are on; try again")
        found = self._publishers.setdefault(name, _Publisher(now_s))
        found.requests += 1
        try:
            yield found
        finally:
            found.requests -= 1
            found.used_s = asyncio.get_running_loop().time()
            self._publishers.move_to_end(name)
            if not found.requests and not found.url:  # nobody, or never heard
                del self._publishers[name]

    def _forget(self, now_s: float) -> None:
        """Those of long ago, and of those that send nothing now the oldest beyond the bound."""
        for name, each in list(self._publishers.items()):
            beyond = len(self._publishers) >= self._limits.publishers
            if each.requests == 0 and (beyond or now_s - each.used_s > self._limits.remember_s):
                del self._publishers[name]

    async def _admit(self, publisher: _Publisher, key: str, address: str) -> Admitted:
        async with publisher.choosing:
            if publisher.admitted is None:
                publisher.admitted = await self._admission.ask(key, address)
                if publisher.url not in publisher.admitted.urls:
                    publisher.url = ""
            return publisher.admitted

    async def _pass(
        self, request: web.BaseRequest, path: str, publisher: _Publisher, admitted: Admitted
    ) -> None:
        """A request's body on its way, behind the init section that it needs."""
        expects = request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
        if expects and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        head = b""
        while len(head) < _HEAD_BYTES and (data := await self._read(request)):
            head += data
        is_header = head[4:8] == b"ftyp"
        name, init = path, b""
        if is_header:
            name = tracknames.name_of(path)
        elif head and not tracknames.is_manifest(path):
            known = (each for each in tracknames.names_of(path) if each in publisher.inits)
            if found := next(known, ""):
                name, init = found, publisher.inits[found]
        way = await self._open(publisher, admitted, request.remote or "", name or "track")
        held = bytearray()
        try:
            await self._send(way, init)
            data = head
            while data:
                held += data[: self._limits.init_bytes + 1 - len(held)] if is_header else b""
                await self._send(way, data)
                data = await self._read(request)
            await way.finish()
        finally:
            way.abort()
        alone = len(held) <= self._limits.init_bytes and b"moof" not in held
        if is_header and alone and len(publisher.inits) < _MAX_INITS:
            publisher.inits[name] = bytes(held)

    async def _send(self, way: Straight, data: bytes) -> None:
        if data:
            self._counts["bytes_in"] += len(data)
            await way.send(data)
            self._counts["bytes_out"] += len(data)

    async def _read(self, request: web.BaseRequest) -> bytes:
        """b"" at the end."""
        try:
            async with asyncio.timeout(self._limits.idle_s):
                return await request.content.readany()
        except TimeoutError:
            text = f"nothing was sent for {self._limits.idle_s:g} s"
            raise RefusedError("silent", text) from None
        except web.RequestPayloadError as error:
            raise ConnectionResetError from error

    async def _open(
        self, publisher: _Publisher, admitted: Admitted, address: str, name: str
    ) -> Straight:
        """To the data centre that has this publisher, else to the first that takes it."""
        fields = (
            ("Content-Type", _MEDIA),
            ("Edge-Publisher", address),
            ("Edge-Track", quote(name)),
        )
        async with publisher.choosing:
            for url in dict.fromkeys(filter(None, (publisher.url, *admitted.urls))):
                with contextlib.suppress(UpstreamError):
                    way = await Straight.to(
                        url, fields,
                        ways=self._admission.ways, sign=self._sign, limits=self._limits.straight,
                    )  # fmt: skip
                    publisher.url = url
                    return way
        raise RefusedError("away", "no data centre answers; try again")


def _asked(request: web.BaseRequest) -> tuple[str, str]:
    """(key, path of a track): the key is in `Authorization`, else first in the path."""
    path = request.path.removeprefix(UPLOADS)
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() == "bearer":
        key = token.strip()
        return key, path.removeprefix(key).lstrip("/")
    key, _, track = path.partition("/")
    return key, track
