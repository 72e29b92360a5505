"""An origin's bytes -> one response. Sans-IO.

Law: stricter than any cache we measured (reliability.md 2.2): two lengths, a length beside chunks,
a missing last chunk, bytes after the end are never passed on as if they were fine. Everything
raised is an UpstreamError whose `reason` is a counter label. Bounds: head bytes and fields. Does
not know sockets, time, or what the body is for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import httptools

from ..errors import UpstreamError

_HEAD_BYTES: Final = 32 * 1024
_HEAD_FIELDS: Final = 128


@dataclass(frozen=True)
class Head:
    """Field names lower-case, in the order received. `length` is -1 when not announced."""

    status: int
    fields: tuple[tuple[str, str], ...]
    length: int
    reason: str = ""

    def get(self, name: str) -> str:
        """The only value of `name`, its values joined when repeated (RFC 9110 5.3), "" when
        absent."""
        return ", ".join(value for key, value in self.fields if key == name)


class Sink(Protocol):
    """Takes a response as it arrives. Whatever it raises ends the exchange and reaches the
    caller."""

    def head(self, head: Head) -> None: ...
    def data(self, chunk: bytes) -> None: ...


Interim = Callable[[int, tuple[tuple[str, str], ...]], None]  # (status, fields) of a 1xx


class ResponseReader:
    """One response, fed in any pieces. `head_only`: to a HEAD, so that no body follows whatever its
    fields say. `extra` is set when the origin sent bytes after its end."""

    def __init__(
        self, sink: Sink, *, head_only: bool = False, interim: Interim | None = None
    ) -> None:
        self._sink = sink
        self._interim = interim
        self._head_only = head_only
        self._parser = httptools.HttpResponseParser(self)
        self._reason = b""
        self._fields: list[tuple[str, str]] = []
        self._head_bytes = 0
        self._head: Head | None = None
        self._chunked = False
        self.started = False
        self.complete = False
        self.keep_alive = False
        self.extra = False

    @property
    def status(self) -> int:
        """0 while the head is not known."""
        return self._head.status if self._head else 0

    @property
    def growing(self) -> bool:
        """Its end is not announced: it may be made while it is sent."""
        return self._chunked

    def feed(self, data: bytes) -> None:
        """Raises UpstreamError("protocol"), or what the sink raises."""
        self.started = True
        if self.complete:
            self.extra = True
            return
        if self._head is None:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            self._judge(error.__context__ or error)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._judge(UpstreamError("protocol", f"not an HTTP response: {error}"))
        if self._head is None and self._head_bytes > _HEAD_BYTES:
            raise UpstreamError("protocol", "response head too large")

    def _judge(self, error: BaseException) -> None:
        """After the end of the body anything more is only the connection's problem."""
        if not self.complete:
            raise error
        self.extra = True

    def eof(self) -> None:
        """The origin closed. Fine only after the end, or for a body that ends so. Raises "cut"."""
        if self.complete:
            return
        if self._head is not None and self._head.length < 0 and not self._chunked:
            self.complete = True
            return
        raise UpstreamError("cut", "the origin closed in the middle of its response")

    # -- llhttp's callbacks

    def on_message_begin(self) -> None:
        if self.complete:
            raise UpstreamError("protocol", "bytes after the end of the response")
        self._fields = []
        self._reason = b""

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head is None:  # else a trailer, which nobody asked for
            self._fields.append((name.decode("latin-1").lower(), value.decode("latin-1").strip()))
        if len(self._fields) > _HEAD_FIELDS:
            raise UpstreamError("protocol", "too many header fields")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            if self._interim is not None and status != 101:
                self._interim(status, tuple(self._fields))
            return
        lengths = [value for name, value in self._fields if name == "content-length"]
        codings = [value.lower() for name, value in self._fields if name == "transfer-encoding"]
        if self._parser.get_http_version() not in ("1.0", "1.1") or codings not in (
            [],
            ["chunked"],
        ):
            raise UpstreamError("protocol", "unusable version or transfer coding")
        if lengths and (codings or len(lengths) > 1 or not lengths[0].isdigit()):
            raise UpstreamError("protocol", "contradictory framing")
        self._chunked = bool(codings)
        length = int(lengths[0]) if lengths else -1
        self._head = Head(status, tuple(self._fields), length, self._reason.decode("latin-1"))
        self._sink.head(self._head)
        # llhttp cannot be told: it would wait for the body, so the connection ends with this.
        self.complete = self._head_only

    def on_body(self, body: bytes) -> None:
        if not self._head_only:
            self._sink.data(body)

    def on_message_complete(self) -> None:
        if self._head is None:  # 1xx: the real one follows
            return
        self.complete = True
        self.keep_alive = self._parser.should_keep_alive() and not self._head_only
