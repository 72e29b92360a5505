"""One request on its way to a site's origin, and the answer that comes back (a Sink).

Law: `head` is settled once, with the answer or the reason why there is none; the body then follows
it. A 304 to our own validation refreshes what was validated and answers with that. Stored is what
caching.py lets be stored, and only once its body is whole. Does not know who waits.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace

from ..errors import UpstreamError
from ..wall import earlier_s
from . import caching, httpdate
from .body import Body, Flow
from .caching import Fields
from .chain import ours
from .http1 import Request
from .response import Head
from .shelf import Stored
from .siterequest import Wire, span_of, surrogate_tags


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`stored`: what everybody may be served from; `origin_status` is 304 when it was refreshed."""

    status: int
    reason: str
    fields: Fields
    length: int
    body: Body
    stored: Stored | None
    origin_status: int


class Visit:
    """Made, sent by an owner's task, then finish() or fail()."""

    def __init__(
        self, request: Request, wire: Wire, *, found: Stored | None, keep_max: int,
        if_error_s: float, storable: bool, epoch: tuple[int, int],
    ) -> None:  # fmt: skip
        self.method = request.method
        self.target = request.target
        self.wire = wire
        self.found = found
        self.epoch = epoch  # of the shelf when it was asked
        self.storable = storable and request.method == "GET"
        self.settled: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.settled.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.task: asyncio.Task[None]
        self.answer: Answer | None = None
        self.of_parent = False  # who is asked is a cache of ours
        self.loop = ours(request.get("cdn-loop"))
        self._fields = tuple(request.fields)
        self._interim = request.interim
        self._keep_max = keep_max
        self._if_error_s = if_error_s
        self._flow: Flow | None = None
        self._body = Body(keep=True)
        self._asked_s = time.monotonic()

    @property
    def begun(self) -> bool:
        return self.answer is not None

    def from_(self, flow: Flow) -> None:
        self._flow = flow
        self._asked_s = time.monotonic()

    def finish(self) -> None:
        self._body.finish()
        stored = self.answer.stored if self.answer else None
        if self.answer and stored and stored.span and not stored.holds_its_span:
            self.answer = replace(self.answer, stored=None)

    def interim(self, status: int, fields: Fields) -> None:
        """Early hints are for who asked first; who joins later gets the answer."""
        if self._interim is not None:
            self._interim(status, caching.end_to_end(fields))

    def fail(self, error: UpstreamError) -> None:
        self._body.fail(error)
        if not self.settled.done():
            self.settled.set_exception(error)

    # -- a Sink

    def head(self, head: Head) -> None:
        if head.status == 508 and self.of_parent:
            raise UpstreamError("loop", "the request came back to a cache it had been through")
        fields = caching.end_to_end(head.fields)
        if head.status == 304 and self.found is not None:
            self._refresh(head, self.found)
            return
        stored = self._to_store(head, fields) if self.storable else None
        keep = stored is not None and head.length <= self._keep_max
        self._body = Body(keep=keep, flow=self._flow)
        if stored is not None:
            stored.body = self._body
        self._settle(
            Answer(
                status=head.status,
                reason=head.reason,
                fields=self._with_date(fields),
                length=head.length,
                body=self._body,
                stored=stored if keep else None,
                origin_status=head.status,
            )
        )

    def data(self, chunk: bytes) -> None:
        self._body.append(chunk)
        if self._body.keep and self._body.size > self._keep_max:
            raise UpstreamError("too_large", "body over cache.object_max", retryable=False)

    # -- what becomes of it

    def _settle(self, answer: Answer) -> None:
        self.answer = answer
        if not self.settled.done():
            self.settled.set_result(answer)

    def _to_store(self, head: Head, fields: Fields) -> Stored | None:
        span = span_of(fields) if head.status == 206 else None
        if head.status == 206 and span is None:
            return None
        now = earlier_s()
        verdict = self._judge(head.status, fields, now)
        if not verdict.stores:
            return None
        names = caching.vary_names(fields) or ()
        return Stored(
            target=self.target,
            status=head.status,
            reason=head.reason,
            fields=self._with_date(fields),
            verdict=verdict,
            answered_s=time.monotonic(),
            initial_age_s=self._age(fields, now),
            answered_unix_s=now,
            body=self._body,
            names=names,
            values=caching.variant(names, self._fields),
            span=span,
            tags=surrogate_tags(fields),
        )

    def _refresh(self, head: Head, found: Stored) -> None:
        now = earlier_s()
        fields = caching.refreshed(found.fields, head.fields)
        verdict = self._judge(found.status, fields, now)
        if verdict.stores:
            found.fields, found.verdict = fields, verdict
            found.answered_s, found.answered_unix_s = time.monotonic(), now
            found.initial_age_s = self._age(caching.end_to_end(head.fields), now)
        self._settle(
            Answer(
                status=found.status,
                reason=found.reason,
                fields=fields,
                length=found.body.size,
                body=found.body,
                stored=found,
                origin_status=304,
            )
        )

    def _judge(self, status: int, fields: Fields, now: float) -> caching.Verdict:
        return caching.judge(
            status,
            fields,
            authorized=caching.joined(self._fields, "authorization") is not None,
            now_s=now,
            if_error_s=self._if_error_s,
        )

    def _age(self, fields: Fields, now: float) -> float:
        return caching.initial_age_s(
            fields, asked_s=now - (time.monotonic() - self._asked_s), answered_s=now
        )

    @staticmethod
    def _with_date(fields: Fields) -> Fields:
        """A recipient with a clock adds the Date that is missing (RFC 9110 6.6.1)."""
        if caching.joined(fields, "date") is not None:
            return fields
        return (*fields, ("date", httpdate.render(time.time())))
