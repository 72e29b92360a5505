"""A general shared cache in front of a site: routes of kind `http` (RFC 9110, 9111, 5861, 9211).

Law: what may be reused is decided by caching.py alone. A viewer's Cache-Control cannot send a
request to the origin; only `only-if-cached` is heard. One request to the origin for what several
ask at once, unless its answer turns out not to be for all of them. Stale answers follow
stale-while-revalidate and stale-if-error and block nobody. An unsafe method that succeeds
invalidates what it names on this host (RFC 9111 4.4). Bounds: shelf bytes, a body to keep
(`object_max`), background validations. Does not know sockets.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urljoin, urlsplit

from ..errors import UpstreamError
from . import caching, policy
from .attempts import Attempts
from .caching import Fields
from .http1 import Request, Response, refusal
from .routes import Route
from .shelf import Shelf, Stored
from .siterequest import outgoing, wanted_span
from .visit import Answer, Visit

log = logging.getLogger(__name__)

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_BACKGROUND_MAX: Final = 256
_UNSENT: Final = frozenset(
    {"refused", "connect_timeout", "unresolved", "certificate", "tls", "loop"}
)
_GATEWAY: Final = frozenset({500, 502, 503, 504})  # RFC 5861 4


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Seconds; bytes."""

    name: str
    id: str  # this process, for CDN-Loop
    object_max: int
    first_byte_s: float = 10.0
    attempts: int = 2
    if_error_s: float = 60.0  # of a response that does not say, nor forbid it


class Site:
    """`await handle(request)`. `counts` is monotonic: `<what>` or `<what>.<label>`."""

    def __init__(self, route_of: Callable[[str], Route], shelf: Shelf, settings: Settings) -> None:
        """`route_of(target)`: the route that the target is on."""
        self._route_of = route_of
        self._shelf = shelf
        self._settings = settings
        self._visits: dict[tuple[str, str], Visit] = {}  # (target, Range) -> under way
        self._background: set[asyncio.Task[None]] = set()
        self.counts: Counter[str] = Counter()

    @property
    def shelf(self) -> Shelf:
        return self._shelf

    async def handle(self, request: Request) -> Response:
        fields = tuple(request.fields)
        if self._settings.id in caching.members(caching.joined(fields, "cdn-loop") or ""):
            return refusal(508, "this request has been here before (CDN-Loop)")
        if request.method not in ("GET", "HEAD"):
            return await self._pass(request)
        found = self._find(request, fields)
        now_s = time.monotonic()
        if found is not None and not found.verdict.validates:
            left_s = found.left_s(now_s)
            if left_s > 0:
                self.counts["hit"] += 1
                return self._serve(request, found, f"hit; ttl={left_s:.0f}")
            if -left_s <= found.verdict.while_revalidate_s and not found.verdict.strict:
                self.counts["stale"] += 1
                self._validate_later(request, found)
                return self._serve(request, found, f"hit; ttl={left_s:.0f}")
        if "only-if-cached" in caching.directives(caching.joined(fields, "cache-control")):
            return refusal(504, "nothing stored answers this (only-if-cached)")
        if request.method == "HEAD" and found is None:
            return await self._pass(request)
        return await self._ask(request, fields, found)

    def _find(self, request: Request, fields: Fields) -> Stored | None:
        """What is stored for the request: whole, or a part that holds the range asked for."""
        for stored in self._shelf.find(request.target, fields):
            if stored.span is None or _within(fields, stored):
                return stored
        return None

    # -- asking the origin

    async def _ask(self, request: Request, fields: Fields, found: Stored | None) -> Response:
        """Validate `found`, or fetch; together with whoever asks for the same."""
        ranged = caching.joined(fields, "range") or "" if found is None else ""
        key = (request.target, ranged)
        visit = self._visits.get(key)
        if visit is not None and visit.epoch != self._shelf.epoch(request.target):
            visit = None  # what it brings may be what was purged since
        collapsed = visit is not None
        if visit is not None:
            self.counts["collapsed"] += 1
        else:
            visit = self._visit(request, found)
            if "authorization" not in dict(fields):
                self._share(key, visit)
        try:
            answer = await asyncio.shield(visit.settled)
        except UpstreamError as error:
            return self._without(request, found, error.reason, policy.answer_for(error.reason))
        if answer.status in _GATEWAY and found is not None and self._may_be_stale(found):
            return self._without(request, found, f"status_{answer.status}", answer.status)
        if collapsed and not self._for_all(answer, fields):
            visit = self._visit(request, found)
            return await self._answer_alone(request, found, visit)
        return self._answer(request, answer, found, collapsed=collapsed)

    async def _answer_alone(self, request: Request, found: Stored | None, visit: Visit) -> Response:
        try:
            answer = await asyncio.shield(visit.settled)
        except UpstreamError as error:
            return self._without(request, found, error.reason, policy.answer_for(error.reason))
        return self._answer(request, answer, found, collapsed=False)

    def _share(self, key: tuple[str, str], visit: Visit) -> None:
        def over(_: object) -> None:
            if self._visits.get(key) is visit:
                del self._visits[key]

        self._visits[key] = visit
        visit.task.add_done_callback(over)

    @staticmethod
    def _for_all(answer: Answer, fields: Fields) -> bool:
        return answer.stored is not None and answer.stored.matches(fields)

    def _visit(self, request: Request, found: Stored | None, *, storable: bool = True) -> Visit:
        visit = Visit(
            request,
            outgoing(request, name=self._settings.name, cdn_id=self._settings.id, validate=found),
            found=found,
            keep_max=self._settings.object_max,
            if_error_s=self._settings.if_error_s,
            storable=storable,
            epoch=self._shelf.epoch(request.target),
        )
        visit.task = asyncio.create_task(self._run(visit))
        return visit

    async def _run(self, visit: Visit) -> None:
        """One request after the other, to parents, then origins, until one answers; stores what may
        be. What may not be repeated goes on only if it was not sent (RFC 9110 9.2.2)."""
        error = UpstreamError("unavailable", "no healthy origin")
        route = self._route_of(visit.target)
        key, limit = visit.target.encode(), self._settings.attempts
        attempts = Attempts(route, key, visit.loop, limit, again=False)
        while (origin := attempts.next()) is not None:
            self.counts["forwarded"] += 1
            visit.of_parent = origin.parent
            try:
                await origin.send(
                    visit.wire(origin.host),
                    visit.method,
                    visit,
                    first_byte_s=self._settings.first_byte_s,
                    flow=visit.from_,
                    interim=visit.interim,
                )
            except UpstreamError as failed:
                error = failed
                if visit.begun or not (visit.method in _SAFE or error.reason in _UNSENT):
                    break
                attempts.failed(origin, error, began=False)
                continue
            except Exception:  # a bug of ours: whoever waits is told, and does not wait for ever
                log.exception("a fetch failed", extra={"key": visit.target})
                error = UpstreamError("internal")
                break
            self._settle(visit)
            return
        self.counts[f"failed.{error.reason}"] += 1
        log.warning("fetch failed: %s", error, extra={"key": visit.target, "reason": error.reason})
        visit.fail(error)

    def _settle(self, visit: Visit) -> None:
        visit.finish()
        answer = visit.answer
        if answer is None:
            return
        if visit.epoch != self._shelf.epoch(visit.target):
            return
        if answer.stored is not None and answer.stored is not visit.found:
            self._shelf.put(answer.stored)
            self.counts["stored"] += 1
        elif answer.stored is None and visit.found is not None and answer.status not in _GATEWAY:
            self._shelf.drop(visit.found)

    def _validate_later(self, request: Request, found: Stored) -> None:
        """One validation in the background (RFC 5861 3)."""
        key = (request.target, "")
        if key in self._visits or len(self._background) >= _BACKGROUND_MAX:
            return
        visit = self._visit(request, found)
        self._share(key, visit)
        self._background.add(visit.task)
        visit.task.add_done_callback(self._background.discard)
        self.counts["background"] += 1

    async def _pass(self, request: Request) -> Response:
        """Another method: nothing is stored, and what it changes is forgotten."""
        self.counts["passed"] += 1
        visit = self._visit(request, None, storable=False)
        try:
            answer = await asyncio.shield(visit.settled)
        except UpstreamError as error:
            return refusal(policy.answer_for(error.reason), f"the origin failed: {error.reason}")
        if request.method not in _SAFE and 200 <= answer.status < 400:
            self._invalidate(request, answer.fields)
        return self._answer(request, answer, None, collapsed=False)

    def _invalidate(self, request: Request, fields: Fields) -> None:
        targets = {request.target}
        for name in ("location", "content-location"):
            there = caching.joined(fields, name)
            if there is not None:
                base = f"http://{request.get('host')}{request.target}"
                parts = urlsplit(urljoin(base, there))
                if parts.netloc == request.get("host"):
                    targets.add(parts.path + (f"?{parts.query}" if parts.query else ""))
        self.counts["invalidated"] += sum(map(self._shelf.invalidate, targets))

    # -- answering

    def _may_be_stale(self, found: Stored) -> bool:
        verdict = found.verdict
        return not verdict.strict and -found.left_s(time.monotonic()) <= (verdict.if_error_s or 0)

    def _without(
        self, request: Request, found: Stored | None, reason: str, status: int
    ) -> Response:
        """The origin failed: stale if that is allowed, else say so."""
        if found is not None and self._may_be_stale(found):
            self.counts["stale"] += 1
            return self._serve(request, found, "hit; fwd=stale; detail=error")
        return replace(
            refusal(status, f"the origin failed: {reason}"),
            fields=(("Cache-Status", f"{self._settings.name}; fwd=miss; detail={reason}"),),
        )

    def _answer(
        self, request: Request, answer: Answer, found: Stored | None, *, collapsed: bool
    ) -> Response:
        forward = _forward_reason(request, found)
        note = f"fwd={forward}; fwd-status={answer.origin_status}"
        if answer.stored is not None:
            note += "; stored"
        if collapsed:
            note += "; collapsed"
        if answer.stored is not None and (answer.stored is found or not answer.stored.span):
            return self._serve(request, answer.stored, note)
        length = answer.length if answer.length >= 0 else None
        return self._response(
            answer.status, answer.reason, answer.fields, answer.body.read(), length, note
        )

    def _serve(self, request: Request, stored: Stored, note: str) -> Response:
        """From what is stored, or is being stored: conditions, then ranges (RFC 9110 13.2.2)."""
        fields = tuple(pair for pair in stored.fields if pair[0] not in stored.verdict.unshown)
        age = ("age", str(int(stored.age_s(time.monotonic()))))
        fields = (*(pair for pair in fields if pair[0] != "age"), age)
        asked = tuple(request.fields)
        if stored.status == 200 and caching.not_modified(
            asked, stored.fields, stored_s=stored.answered_unix_s
        ):
            bare = tuple(p for p in fields if p[0] not in ("content-length", "content-type"))
            return self._response(304, "", bare, _nothing(), None, note)
        complete = stored.body.size if stored.body.done else stored_length(stored)
        if stored.status in (200, 206) and complete is not None:
            span = wanted_span(asked, stored.span or (0, complete - 1, complete), stored.etag)
            if span is not None and span[0] > span[1]:
                return self._unsatisfiable(complete, note)
            if span is not None:
                return self._part(stored, span, complete, fields, note)
        return self._response(
            stored.status, stored.reason, fields, stored.body.read(), complete, note
        )

    def _unsatisfiable(self, complete: int, note: str) -> Response:
        fields = (("content-range", f"bytes */{complete}"),)
        return self._response(416, "", fields, _nothing(), 0, note)

    def _part(
        self, stored: Stored, span: tuple[int, int], complete: int, fields: Fields, note: str
    ) -> Response:
        first, last = span
        offset = stored.span[0] if stored.span else 0
        total = stored.span[2] if stored.span else complete
        fields = (
            *(p for p in fields if p[0] not in ("content-range", "content-length")),
            ("content-range", f"bytes {first}-{last}/{total}"),
        )
        pieces = stored.body.read(first - offset, last + 1 - offset)
        return self._response(206, "Partial Content", fields, pieces, last + 1 - first, note)

    def _response(
        self, status: int, reason: str, fields: Fields, stream: AsyncGenerator[bytes, None],
        length: int | None, note: str,
    ) -> Response:  # fmt: skip
        fields = tuple(pair for pair in fields if pair[0] != "content-length")
        status_field = ("Cache-Status", f"{self._settings.name}; {note}")
        return Response(
            status, reason=reason, fields=(*fields, status_field), stream=stream, length=length
        )

    async def close(self) -> None:
        tasks = [visit.task for visit in self._visits.values()] + list(self._background)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _within(request: Fields, stored: Stored) -> bool:
    assert stored.span is not None
    span = wanted_span(request, stored.span, stored.etag)
    return span is not None and span[0] <= span[1]


def _forward_reason(request: Request, found: Stored | None) -> str:
    """The fwd parameter of RFC 9211 2.2."""
    if found is not None:
        return "stale"
    return "uri-miss" if request.method in ("GET", "HEAD") else "method"


def stored_length(stored: Stored) -> int | None:
    """What the origin announced, while the body is on its way."""
    text = caching.joined(stored.fields, "content-length")
    return int(text) if text else None


async def _nothing() -> AsyncGenerator[bytes, None]:
    nothing: tuple[bytes, ...] = ()
    for piece in nothing:
        yield piece
