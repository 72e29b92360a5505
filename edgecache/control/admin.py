"""The operators' door: health, readiness, metrics, purge, explain, state.

Law: never on the viewers' port; loopback by default. A browser that was lured here is refused: the
Host must be an address or a name we listen on, and what changes something is a POST without an
Origin. With a token, everything but health needs it. Does not know how anything works, only whom to
ask.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

from .. import __version__, openapi
from ..hosts import host_is_ours
from ..openapi import Says, says
from . import policy
from .http1 import Request, Response, refusal
from .shelf import Shelf

if TYPE_CHECKING:
    from .._core import Plane

_TEXT_METRICS: Final = "text/plain; version=0.0.4; charset=utf-8"
_NO_STORE: Final = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))
_OPEN: Final = ("/healthz", "/readyz")
_CHALLENGE: Final = (("WWW-Authenticate", "Bearer"), *_NO_STORE)

_ALWAYS: Final = (400, 404, 405, 411, 413, 421)

State = dict[str, object]


@dataclass(frozen=True, slots=True)
class Ready:
    """`reasons` why traffic should go elsewhere."""

    ready: bool
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class Purged:
    """How many objects."""

    purged: int


def _json(value: object, status: int = 200) -> Response:
    text = json.dumps(value, indent=1, sort_keys=True) + "\n"
    return Response(status, text.encode(), "application/json", _NO_STORE)


def explain(plane: Plane, key: bytes, state: State, asks: list[str]) -> State:
    """Where the answer to a request for `key` comes from now, in words and numbers. `asks`: whom it
    would be asked of, one after the other."""
    playlist = policy.playlist_name(key)
    version = plane.version(playlist)
    found = plane.lookup(key) or (plane.lookup(playlist) if version is not None else None)
    if version is not None:
        why = "a playlist in versions: answered from the newest, or held until it is wanted"
    elif found is None:
        why = "not here: the next request is a miss and is filled from an origin"
    else:
        why = f"in the store, state {_text(found['state'])}"
    stream = policy.stream_of(key)
    streams = state.get("streams")
    return {
        "key": key.decode("latin-1"),
        "why": why,
        "stream": stream,
        "subscription": streams.get(stream) if isinstance(streams, dict) else None,
        "version": list(version) if version else None,
        "entry": {name: _text(value) for name, value in found.items()} if found else None,
        "asks": asks,
        "origins": state.get("origins"),
    }


def _text(value: int | bytes) -> int | str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


class Admin:
    """Handler of the admin door. `reasons()` is empty when traffic is welcome."""

    def __init__(
        self,
        plane: Plane,
        *,
        reasons: Callable[[], list[str]],
        metrics: Callable[[], bytes],
        state: Callable[[], State],
        asks: Callable[[bytes], list[str]],
        shelf: Shelf,
        hosts: frozenset[str] = frozenset(),
        token: Callable[[], bytes] = bytes,
    ) -> None:
        self._token = token
        self._plane = plane
        self._reasons = reasons
        self._metrics_page = metrics
        self._state = state
        self._asks = asks
        self._shelf = shelf
        self._hosts = hosts
        self._routes: Mapping[str, tuple[str, Callable[[Mapping[str, str]], Response]]] = {
            "/healthz": ("GET", self._healthz),
            "/readyz": ("GET", self._readyz),
            "/metrics": ("GET", self._metrics),
            "/state": ("GET", self._told),
            "/explain": ("GET", self._explain),
            "/purge": ("POST", self._purge),
            openapi.PATH: ("GET", self._described),
        }

    async def handle(self, request: Request) -> Response:
        if not host_is_ours(request.get("host"), self._hosts):
            return refusal(421, "Host: allowed an address, localhost or the configured name")
        parts = urlsplit(request.target)
        if parts.path not in _OPEN and not self._knows(request.get("authorization")):
            return Response(401, b"a token is needed\n", fields=_CHALLENGE, close=True)
        if parts.path not in self._routes:
            return refusal(404, "known here: " + " ".join(self._routes))
        method, route = self._routes[parts.path]
        if request.method not in (method, "HEAD" if method == "GET" else method):
            return refusal(405, f"{parts.path} takes {method}")
        if method == "POST" and request.get("origin"):
            return refusal(403, "not from a web page")
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        return route(query)

    def _knows(self, given: str) -> bool:
        """In constant time, so that nobody finds the token letter by letter."""
        token = self._token()
        wanted = b"Bearer " + token
        return not token or hmac.compare_digest(given.encode("latin-1"), wanted)

    @says(Says(summary="The process answers", answers={200: str}, guarded=False))
    def _healthz(self, _: Mapping[str, str]) -> Response:
        return Response(200, b"ok\n", fields=_NO_STORE)

    @says(Says(summary="Prometheus' exposition", answers={200: str}))
    def _metrics(self, _: Mapping[str, str]) -> Response:
        return Response(200, self._metrics_page(), _TEXT_METRICS, _NO_STORE)

    @says(Says(summary="What the daemon knows now", answers={200: State}))
    def _told(self, _: Mapping[str, str]) -> Response:
        return _json(self._state())

    @says(Says(summary="This description", answers={200: State}))
    def _described(self, _: Mapping[str, str]) -> Response:
        table = [(path, method, handler) for path, (method, handler) in self._routes.items()]
        return _json(openapi.described("edgecache", __version__, table, _ALWAYS))

    @says(Says(summary="Is traffic welcome?", answers={200: Ready, 503: Ready}, guarded=False))
    def _readyz(self, _: Mapping[str, str]) -> Response:
        reasons = self._reasons()
        return _json(asdict(Ready(not reasons, reasons)), 503 if reasons else 200)

    @says(Says(summary="Where an answer comes from", answers={200: State}, query=("url",)))
    def _explain(self, query: Mapping[str, str]) -> Response:
        if "url" not in query:
            return refusal(400, "explain?url=/live/…: url is missing")
        key = self._plane.key(query["url"].encode("utf-8", "replace"))
        if key is None:
            return refusal(400, "explain?url=/live/…: a viewer who asks for this is answered 400")
        return _json(explain(self._plane, key, self._state(), self._asks(key)))

    @says(
        Says(
            summary="Have objects forgotten: by key, by prefix or by tag",
            answers={200: Purged},
            refuses=(403,),
            query=("key", "prefix", "tag"),
        )
    )
    def _purge(self, query: Mapping[str, str]) -> Response:
        """Acknowledged once no new request can get the old bytes."""
        if sorted(query) not in (["key"], ["prefix"], ["tag"], ["prefix", "tag"]):
            return refusal(400, "purge?key=/path, ?prefix=/path/ or ?tag=name: exactly one of them")
        prefix = query.get("prefix", "")
        if "key" in query:
            key = self._plane.key(query["key"].encode("utf-8", "replace"))
            count = int(key is not None and self._plane.purge(key))
            count += self._shelf.invalidate(query["key"])
        elif "tag" in query:
            count = self._shelf.purge(prefix=prefix, tag=query["tag"])
        else:
            count = self._plane.purge_prefix(prefix.encode("utf-8", "replace"))
            count += self._shelf.purge(prefix=prefix)
        return _json(asdict(Purged(count)))
