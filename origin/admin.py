"""The operators' door of the origin: health, readiness, metrics, and the whole state.

Laws: never on the public port, which every POP lets its viewers read through; loopback by default;
nothing can be changed here. A browser that was lured here is refused: the Host must be an address
or the name we listen on. Does not know how anything works, only whom to ask.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from edgecache.hosts import host_is_ours

from .overview import Overview
from .store import StoreError

_NO_STORE: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Admin:
    """The routes. `ready` says whether new work is taken; `scrape` renders the metrics."""

    def __init__(
        self,
        *,
        overview: Overview,
        ready: Callable[[], bool],
        scrape: Callable[[], bytes],
        hosts: frozenset[str],
    ) -> None:
        self._overview = overview
        self._ready = ready
        self._scrape = scrape
        self._hosts = hosts

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/healthz", self.healthy),
            web.get("/readyz", self.readiness),
            web.get("/metrics", self.metrics),
            web.get("/api/streams", self.streams),
        ]

    @web.middleware
    async def check_host(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Raises StoreError(421)."""
        if not host_is_ours(request.host, self._hosts):
            raise StoreError(421, "Host: allowed an address, localhost or the configured name")
        return await handler(request)

    async def healthy(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n", headers=_NO_STORE)

    async def readiness(self, _request: web.Request) -> web.Response:
        ready = self._ready()
        text = json.dumps({"ready": ready, "reasons": [] if ready else ["draining"]})
        return web.Response(
            status=200 if ready else 503,
            text=text + "\n",
            content_type="application/json",
            headers=_NO_STORE,
        )

    async def metrics(self, _request: web.Request) -> web.Response:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=self._scrape(), headers={**_NO_STORE, "Content-Type": kind})

    async def streams(self, _request: web.Request) -> web.Response:
        return web.json_response(self._overview.whole(), headers=_NO_STORE)
