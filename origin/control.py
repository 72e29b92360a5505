"""What POPs ask: publish, ingest, subscriptions; and the state that everybody may see.

Laws: what changes something is signed (edgecache/signing.py); a publisher is refused before a byte
of media is read (`Expect: 100-continue` is answered only then). Media bodies have no size limit and
are never held: back-pressure reaches the publisher. Bounds: 1 MiB for any other body. Every
refusal is a status and one clear line. Does not know media, nor how a stream is encoded.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, TypeVar
from urllib.parse import unquote

import xxhash
from aiohttp import hdrs, web
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from edgecache import tracknames
from edgecache.containers import FLV
from edgecache.errors import SignatureError
from edgecache.signing import Verifier

from . import sdp
from .addresses import Url
from .api import refusal
from .catalog import Catalog, Opened
from .chronicle import Row
from .handover import take_over
from .ingest import Ingest
from .overview import Overview
from .publishers import REVOKED, Publishers, Seat
from .receive import RefusedError
from .remux import CONTAINERS
from .splice import NOTHING, Place, Splice
from .store import Store, StoreError
from .subscriptions import MAX_STREAMS, SubscriptionError, Subscriptions
from .tracks import Tracks
from .tracksession import Publisher
from .whip import WhipDoor

BODY_MAX: Final = 1 << 20  # a subscription to MAX_STREAMS streams of the longest names
_FLV: Final = (FLV, "application/octet-stream")
_STREAM: Final = re.compile(r"[a-z0-9_-]{1,64}", re.ASCII)
_TITLE_CHARS: Final = 100
_ALIVE_S: Final = 0.5  # between two lines that a POP hears
_KID: Final = web.RequestKey("kid", str)

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$")]


class PublishAsk(BaseModel):
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    key: str = Field(max_length=256)
    addr: str = Field("", max_length=64)


class WhipAsk(BaseModel):
    """An offer, and where the POP wants its media: ICE's name and password, host and port."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    offer: str = Field(max_length=1 << 16)
    ufrag: str = Field(pattern=r"^[A-Za-z0-9+/]{4,256}$")
    password: str = Field(pattern=r"^[A-Za-z0-9+/]{22,256}$")
    host: str = Field(pattern=r"^[A-Za-z0-9.:_-]{1,253}$")
    port: int = Field(ge=1, le=65535)
    addr: str = Field("", max_length=64)
    title: str = Field("", max_length=_TITLE_CHARS)


class WhipEndAsk(BaseModel):
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    session: str = Field(max_length=64)


class SubscribeAsk(BaseModel):
    """Optional: `viewers`, how many watch a stream at this POP, subscribed to here or not;
    `tracks`, which ones of a stream they watch, without an entry all."""

    model_config = ConfigDict(extra="ignore")

    pop: Name
    push: Url
    streams: list[Name] = Field(max_length=MAX_STREAMS)
    lease_ms: int = Field(ge=1000)
    viewers: dict[Name, Annotated[int, Field(ge=0)]] = Field(
        default_factory=dict, max_length=2 * MAX_STREAMS
    )
    tracks: dict[Name, Annotated[list[Name], Field(max_length=64)]] = Field(
        default_factory=dict, max_length=MAX_STREAMS
    )


Ask = TypeVar("Ask", bound=BaseModel)


class Control:
    """The routes. `ready` says whether new work is taken."""

    def __init__(
        self,
        *,
        store: Store,
        catalog: Catalog,
        subscriptions: Subscriptions,
        ingest: Ingest,
        publishers: Publishers,
        verifier: Verifier,
        public: str,
        srt: Callable[[str], list[str]],
        whip: WhipDoor,
        forbids: Callable[[Opened, str], Awaitable[str]],
        overview: Overview,
        ready: Callable[[], bool],
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._subscriptions = subscriptions
        self._ingest = ingest
        self._publishers = publishers
        self._tracks = Tracks(ingest, publishers)
        self._verifier = verifier
        self._public = public
        self._srt = srt
        self._whip = whip
        self._forbids = forbids
        self._overview = overview
        self._ready = ready

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/api/publish", self.publish),
            web.put("/ingest/{stream}", self.ingest, expect_handler=self.expect),
            web.put("/ingest/{stream}/{key}", self.ingest, expect_handler=self.expect),
            web.post("/ingest/{stream}", self.past),
            web.post("/ingest/{stream}/{key}", self.past),
            web.post("/whip/end", self.whip_end),
            web.post("/whip/{stream}/{key}", self.whip),
            web.post("/api/subscriptions", self.subscribe),
            web.get("/api/streams", self.streams),
        ]

    # -- signed

    def _verify(self, request: web.Request) -> None:
        """Once a request, because its nonce counts once. Raises SignatureError."""
        if _KID not in request:
            request[_KID] = self._verifier.verify(
                request.method, request.raw_path, request.headers.items()
            )

    async def _ask(self, request: web.Request, model: type[Ask]) -> Ask:
        """The signed JSON body, checked. Raises SignatureError, StoreError(400)."""
        self._verify(request)
        body = await request.read()
        digest = request.headers.get("Edge-Digest")
        if digest is not None and digest != xxhash.xxh3_128_hexdigest(body):
            raise StoreError(422, "Edge-Digest: does not belong to this body")
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "body"
            raise StoreError(400, f"{where}: {first['msg']}") from None

    async def publish(self, request: web.Request) -> web.Response:
        """Which stream a key may publish, and where to: by a path that says which key it was."""
        ask = await self._ask(request, PublishAsk)
        opened = self._catalog.open(ask.key)
        if opened is None:
            raise StoreError(403, "bad stream key")
        if reason := await self._forbids(opened, ask.addr):
            raise StoreError(403, reason)
        base = self._public or f"http://{request.host}"
        known = self._ingest.stream(opened.stream)
        url = f"{base}/ingest/{opened.stream}/{opened.key_id}"
        told: dict[str, object] = {"stream": opened.stream, "ingest": [url]}
        if places := self._srt(request.url.host or ""):
            told["srt"] = places
        if self._whip.port:
            told["whip"] = [f"{base}/whip/{opened.stream}/{opened.key_id}"]
        return web.json_response({**told, "state": known.state if known else "unknown"})

    async def expect(self, request: web.Request) -> web.StreamResponse | None:
        """Refuse before the publisher sends anything (RFC 9110 10.1.1). Called outside of the
        middlewares, so it answers by itself."""
        try:
            self._admit(request)
        except (StoreError, SignatureError) as error:
            response = refusal(error.status, error.reason)
            response.force_close()
            return response
        if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue" and request.transport:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None

    def _admit(self, request: web.Request) -> str:
        self._verify(request)
        if request.content_type not in (*_FLV, *CONTAINERS):
            allowed = ", ".join((_FLV[0], *CONTAINERS))
            raise StoreError(415, f"Content-Type: found {request.content_type}, allowed {allowed}")
        return self._open(request, _place(request))

    def _open(self, request: web.Request, place: Place | None = None) -> str:
        """The stream of a request's path, if its key may publish there now."""
        stream = request.match_info["stream"]
        if not _STREAM.fullmatch(stream):
            raise StoreError(400, f"stream: found {stream[:80]!r}, allowed {_STREAM.pattern}")
        if not self._ready():
            raise StoreError(503, "the origin is going away")
        key_id = request.match_info.get("key")
        if key_id is not None and not self._publishers.may(stream, key_id):
            raise StoreError(403, REVOKED)
        try:
            if "Edge-Track" in request.headers:
                self._tracks.check(stream, _publisher(request))
            else:
                self._ingest.check(stream, place)
        except RefusedError as error:
            raise StoreError(error.status, error.reason) from None
        return stream

    async def ingest(self, request: web.Request) -> web.StreamResponse:
        """One publisher's media until it ends; of one whose POP tells its session, or until the
        connection does."""
        stream = self._admit(request)
        publisher = _publisher(request)
        place = _place(request)
        key_id = request.match_info.get("key", "")
        track = unquote(request.headers.get("Edge-Track", ""))[: tracknames.MAX_CHARS]
        title = unquote(request.headers.get("Edge-Title", ""))[:_TITLE_CHARS]
        with self._publishers.enter(stream, key_id, request.content) as seat:
            try:
                if track:
                    sender = Publisher(publisher, key_id, title)
                    await self._tracks.take(stream, track, request.content, sender)
                elif place is not None:
                    splice = self._ingest.attach(
                        stream, place, publisher=publisher, title=title,
                        kind=FLV if request.content_type in _FLV else request.content_type,
                    )  # fmt: skip
                    return await self._follow(request, splice, place, seat)
                else:
                    await self._ingest.serve(
                        stream,
                        request.content,
                        publisher=publisher,
                        container=CONTAINERS.get(request.content_type, ""),
                        title=title,
                    )
            except RefusedError as error:
                raise StoreError(error.status, error.reason) from None
        if seat.revoked:
            raise StoreError(403, REVOKED)
        return web.json_response({"stream": stream})

    async def past(self, request: web.Request) -> web.Response:
        """What another data centre had published of a stream that comes here now."""
        self._verify(request)
        stream = request.match_info["stream"]
        if not _STREAM.fullmatch(stream):
            raise StoreError(400, f"stream: found {stream[:80]!r}, allowed {_STREAM.pattern}")
        try:
            rows = [Row(*each) for each in await request.json()]
            taken = take_over(stream, rows, self._ingest.reach)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise StoreError(400, f"past: not usable: {error!r}") from None
        if self._ingest.take_over(stream, taken, rows, self._store.restore):
            return web.Response(status=201)
        return web.Response(status=204)

    async def whip(self, request: web.Request) -> web.Response:
        """An answer to a publisher's offer. From then on the stream is published."""
        ask = await self._ask(request, WhipAsk)
        stream = self._open(request)
        place = sdp.Place(ufrag=ask.ufrag, password=ask.password, host=ask.host, port=ask.port)
        key_id = request.match_info["key"]
        try:
            name, answer = self._whip.open(
                ask.offer, place, stream=stream, key_id=key_id, publisher=ask.addr, title=ask.title
            )
        except sdp.SdpError as error:
            raise StoreError(400, str(error)) from None
        except RefusedError as error:
            raise StoreError(error.status, error.reason) from None
        media = self._whip.place(request.url.host or "")
        told = {"session": name, "media": media, "answer": answer}
        return web.json_response(told, status=201)

    async def whip_end(self, request: web.Request) -> web.Response:
        ask = await self._ask(request, WhipEndAsk)
        try:
            known = self._whip.close(ask.session)
        except RefusedError as error:
            raise StoreError(error.status, error.reason) from None
        if not known:
            raise StoreError(404, "no such session")
        return web.Response(status=204)

    async def _follow(
        self, request: web.Request, splice: Splice, place: Place, seat: Seat
    ) -> web.StreamResponse:
        """Take the body, and tell line by line which tags need not be held any more, or that we are
        there."""
        response = web.StreamResponse(headers={"Content-Type": "application/jsonl"})
        await response.prepare(request)
        telling = asyncio.create_task(self._tell(response, splice))
        try:
            result = await splice.attach(request.content.iter_any(), place)
        finally:
            telling.cancel()
            await asyncio.wait([telling])
        end = (403, REVOKED) if seat.revoked else (result.status, result.reason)
        with contextlib.suppress(ConnectionError):
            if splice.left:
                await response.write(_line(keep=splice.keep, past=splice.past))
            await response.write(_line(end=end[0], reason=end[1]))
        return response

    @staticmethod
    async def _tell(response: web.StreamResponse, splice: Splice) -> None:
        told = NOTHING
        with contextlib.suppress(ConnectionError):
            while True:
                past = await splice.news(told, _ALIVE_S)
                await response.write(
                    _line() if past is told else _line(keep=splice.keep, past=past)
                )
                told = past

    async def subscribe(self, request: web.Request) -> web.Response:
        """A POP's lease on streams, and their states."""
        ask = await self._ask(request, SubscribeAsk)
        try:
            lease_s = self._subscriptions.subscribe(
                ask.pop,
                ask.push,
                streams=ask.streams,
                lease_s=ask.lease_ms / 1000,
                viewers=dict(ask.viewers),
                tracks=ask.tracks,
            )
        except SubscriptionError as error:
            raise StoreError(429, str(error)) from None
        states = {stream: self._store.state(stream) for stream in ask.streams}
        return web.json_response({"lease_ms": round(lease_s * 1000), "streams": states})

    # -- open

    async def streams(self, _request: web.Request) -> web.Response:
        """What the state page shows: from caches, so that many who look cost us one answer a
        second and POP."""
        headers = {"Cache-Control": "public, max-age=1", "Access-Control-Allow-Origin": "*"}
        return web.json_response(self._overview.public(), headers=headers)


def _place(request: web.Request) -> Place | None:
    """Raises StoreError(400)."""
    try:
        return Place.of(request.query)
    except ValueError as error:
        raise StoreError(400, str(error)) from None


def _publisher(request: web.Request) -> str:
    """Where it sends from, as its POP says."""
    return request.headers.get("Edge-Publisher", request.remote or "")


def _line(**told: object) -> bytes:
    return json.dumps(told).encode() + b"\n"
