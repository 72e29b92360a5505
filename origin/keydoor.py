"""Stream keys at the operators' door: listed, created, rotated, revoked.

Laws: only where the door asks for a token, because what is answered lets its reader publish; a key
is shown once, and never logged. The catalogue may be elsewhere, so it is asked on another thread.
Every refusal is a status and one clear line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgecache.openapi import Says, says

from .catalog import Catalog
from .rows import AwayError, CatalogError
from .store import StoreError
from .streamkeys import KEY_ID, STREAM, KeyRow

_NO_STORE: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_MAX_GRACE_S: Final = 30 * 86_400.0

T = TypeVar("T")


class GraceAsk(BaseModel):
    """How long what is revoked goes on to open its stream, in seconds."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    grace: Annotated[float, Field(ge=0, le=_MAX_GRACE_S)] = 0.0


@dataclass(frozen=True, slots=True)
class Made:
    """The only time that a key is seen."""

    stream: str
    key: str


@dataclass(frozen=True, slots=True)
class Revoked:
    """Which key."""

    id: str


_REFUSES: Final = (403, 409, 415, 503)


class KeyDoor:
    """The routes. `guarded`: does the door ask for a token? `look` is called after a revocation."""

    def __init__(self, catalog: Catalog, *, guarded: bool, look: Callable[[], None]) -> None:
        self._catalog = catalog
        self._guarded = guarded
        self._look = look

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/keys", self.listed),
            web.post("/api/keys/{stream}", self.create),
            web.post("/api/keys/{stream}/rotate", self.rotate),
            web.post("/api/keys/{stream}/{id}/revoke", self.revoke),
        ]

    @says(Says(summary="All keys", answers={200: list[KeyRow]}, refuses=(403,)))
    async def listed(self, _request: web.Request) -> web.Response:
        self._check()
        rows = [asdict(row) for row in self._catalog.all_keys()]
        return web.json_response(rows, headers=_NO_STORE)

    @says(Says(summary="A new key", answers={201: Made}, refuses=_REFUSES, body=GraceAsk))
    async def create(self, request: web.Request) -> web.Response:
        """201 with the key. Raises StoreError: 400, 403 no token, 409 full, 415, 503 away."""
        stream, _ = await self._asked(request)
        key = await self._do(lambda: self._catalog.create_key(stream))
        return self._made(stream, key)

    @says(Says(summary="Another key", answers={201: Made}, refuses=_REFUSES, body=GraceAsk))
    async def rotate(self, request: web.Request) -> web.Response:
        """Likewise; 409 also for a stream without a key."""
        stream, grace_s = await self._asked(request)
        key = await self._do(lambda: self._catalog.rotate_keys(stream, grace_s))
        self._look()
        return self._made(stream, key)

    @says(Says(summary="One key less", answers={200: Revoked}, refuses=_REFUSES, body=GraceAsk))
    async def revoke(self, request: web.Request) -> web.Response:
        """Raises StoreError likewise, and 404."""
        stream, grace_s = await self._asked(request)
        key_id = request.match_info["id"]
        known = [row.id for row in self._catalog.all_keys() if row.stream == stream]
        if not KEY_ID.fullmatch(key_id) or key_id not in known:
            raise StoreError(404, f"{stream}: found no key {key_id[:80]}")
        if not await self._do(lambda: self._catalog.revoke_key(key_id, grace_s)):
            raise StoreError(404, f"{stream}: found key {key_id} revoked already")
        self._look()
        return web.json_response(asdict(Revoked(key_id)), headers=_NO_STORE)

    # -- inside

    def _check(self) -> None:
        if not self._guarded:
            raise StoreError(403, "admin.token_file: found none, allowed with one")

    async def _asked(self, request: web.Request) -> tuple[str, float]:
        """Stream and grace time. Raises StoreError."""
        self._check()
        if request.content_type != "application/json":
            found = request.content_type[:80]
            raise StoreError(415, f"Content-Type: found {found}, allowed application/json")
        stream = request.match_info["stream"]
        if not STREAM.fullmatch(stream):
            raise StoreError(400, f"stream: found {stream[:80]!r}, allowed {STREAM.pattern}")
        try:
            ask = GraceAsk.model_validate_json(await request.read() or b"{}")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "body"
            raise StoreError(400, f"{where}: {first['msg']}") from None
        return stream, ask.grace

    async def _do(self, what: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(what)
        except AwayError as error:
            raise StoreError(503, str(error)) from None
        except CatalogError as error:
            raise StoreError(409, str(error)) from None

    @staticmethod
    def _made(stream: str, key: str) -> web.Response:
        return web.json_response(asdict(Made(stream, key)), status=201, headers=_NO_STORE)
