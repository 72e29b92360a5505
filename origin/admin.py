"""The operators' door of the origin: health, readiness, metrics, the whole state, and markers.

Laws: never on the public port, which every POP lets its viewers read through; loopback by default;
nothing can be changed here but that timed events are told. With a token, everything but health
needs it. A browser that was lured here is refused: the Host must be an address or the name we
listen on, and what changes something must say that it is JSON, which no page may do unasked. Does
not know how anything works, only whom to ask.
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from edgecache import __version__, openapi
from edgecache.hosts import host_is_ours
from edgecache.openapi import Says, says

from .markers import Marker, MarkerError
from .overview import Overview
from .store import StoreError
from .stream import LiveStream

_NO_STORE: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


_OPEN: Final = ("/healthz", "/readyz")  # without a token
_HEX: Final = r"^(?:0x)?(?:[0-9A-Fa-f]{2}){0,2048}$"
Seconds = Annotated[float, Field(ge=0, le=7 * 86_400)]
Splice = Annotated[str, Field(pattern=_HEX)]
_ALWAYS: Final = (400, 404, 405, 413, 421)


@dataclass(frozen=True, slots=True)
class Ready:
    """`reasons` why new work should go elsewhere."""

    ready: bool
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class Marked:
    """By its own name."""

    id: str


class MarkerAsk(BaseModel):
    """A timed event as operators tell it. `start`: ISO 8601; now when it is left out, or when the
    event began when it has been told before. Times in seconds, SCTE-35 sections in hex."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    id: str = Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")
    kind: str = Field("", pattern=r"^[A-Za-z0-9_.:-]{0,64}$")
    start: AwareDatetime | None = None
    duration: Seconds = 0.0
    planned: Seconds = 0.0
    scte35_cmd: Splice = ""
    scte35_out: Splice = ""
    scte35_in: Splice = ""

    def marker(self, start_ns: int) -> Marker:
        return Marker(
            id=self.id,
            start_ns=start_ns,
            kind=self.kind,
            duration_ns=round(self.duration * 1e9),
            planned_ns=round(self.planned * 1e9),
            scte35_cmd=self.scte35_cmd.removeprefix("0x"),
            scte35_out=self.scte35_out.removeprefix("0x"),
            scte35_in=self.scte35_in.removeprefix("0x"),
        )


class Admin:
    """The routes. `ready` says whether new work is taken; `scrape` renders the metrics; `stream`
    finds a live one."""

    def __init__(
        self,
        *,
        overview: Overview,
        ready: Callable[[], bool],
        scrape: Callable[[], bytes],
        stream: Callable[[str], LiveStream | None],
        hosts: frozenset[str],
        token: str = "",
    ) -> None:
        self._overview = overview
        self._ready = ready
        self._scrape = scrape
        self._stream = stream
        self._hosts = hosts
        self._wanted = f"Bearer {token}".encode() if token else b""

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/healthz", self.healthy),
            web.get("/readyz", self.readiness),
            web.get("/metrics", self.metrics),
            web.get("/api/streams", self.streams),
            web.post("/api/streams/{stream}/markers", self.mark),
            web.get(openapi.PATH, self.described),
        ]

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Raises StoreError: 401, 421."""
        if not host_is_ours(request.host, self._hosts):
            raise StoreError(421, "Host: allowed an address, localhost or the configured name")
        if self._wanted and request.path not in _OPEN:
            given = request.headers.get("Authorization", "").encode("utf-8", "replace")
            if not hmac.compare_digest(given, self._wanted):  # in constant time
                raise StoreError(401, "Authorization: allowed Bearer and the door's token")
        return await handler(request)

    @says(Says(summary="This description", answers={200: dict[str, Any]}))
    async def described(self, request: web.Request) -> web.Response:
        table = [
            (route.resource.canonical, route.method, route.handler)
            for route in request.app.router.routes()
            if route.resource and route.method != "HEAD"
        ]
        told = openapi.described("edgecache-origin", __version__, table, _ALWAYS)
        return web.json_response(told, headers=_NO_STORE)

    @says(Says(summary="The process answers", answers={200: str}, guarded=False))
    async def healthy(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n", headers=_NO_STORE)

    @says(Says(summary="Is work taken?", answers={200: Ready, 503: Ready}, guarded=False))
    async def readiness(self, _request: web.Request) -> web.Response:
        ready = self._ready()
        text = json.dumps(asdict(Ready(ready, [] if ready else ["draining"])))
        return web.Response(
            status=200 if ready else 503,
            text=text + "\n",
            content_type="application/json",
            headers=_NO_STORE,
        )

    @says(Says(summary="Prometheus' exposition", answers={200: str}))
    async def metrics(self, _request: web.Request) -> web.Response:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=self._scrape(), headers={**_NO_STORE, "Content-Type": kind})

    @says(Says(summary="Streams and POPs", answers={200: dict[str, list[dict[str, Any]]]}))
    async def streams(self, _request: web.Request) -> web.Response:
        return web.json_response(self._overview.whole(), headers=_NO_STORE)

    @says(
        Says(
            summary="Tell a timed event (EXT-X-DATERANGE)",
            answers={201: Marked},
            refuses=(409, 415),
            body=MarkerAsk,
        )
    )
    async def mark(self, request: web.Request) -> web.Response:
        """Tell a timed event (EXT-X-DATERANGE). Raises StoreError: 400 not such a marker, 404 not
        live, 409 contradicts what was told, 415 not JSON."""
        if request.content_type != "application/json":
            found = request.content_type[:80]
            raise StoreError(415, f"Content-Type: found {found}, allowed application/json")
        try:
            ask = MarkerAsk.model_validate_json(await request.read())
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "body"
            raise StoreError(400, f"{where}: {first['msg']}") from None
        live = self._stream(request.match_info["stream"])
        if live is None or live.presentation is None or live.state == "ended":
            raise StoreError(404, "no such live stream")
        timeline = live.presentation.timeline
        known_ns = timeline.markers.start_of(ask.id)
        given_ns = round(ask.start.timestamp() * 1000) * 1_000_000 if ask.start else None
        now_ns = timeline.dated(time.time_ns()) // 1_000_000 * 1_000_000
        marker = ask.marker(given_ns or known_ns or now_ns)
        try:
            live.presentation.mark(marker)
        except MarkerError as error:
            raise StoreError(409, str(error)) from None
        return web.json_response(asdict(Marked(ask.id)), status=201, headers=_NO_STORE)
