"""Requests in, answers out, as bytes: the sans-IO half of our own doors.

Law: what llhttp accepts and we do not is refused here (reliability.md 2.1), and a refused request
is the last of its connection: nothing is resynchronised. Bounds: head bytes and fields (431), body
by Content-Length only (411, 413). `admit` sees a head before its body is read, so that strangers
cannot make us hold bytes. Does not know sockets, time, or what requests mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import httptools

_TARGET: Final = re.compile(rb"/[\x21-\x7e]*")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    head_bytes: int = 16 * 1024
    head_fields: int = 64
    body_bytes: int = 0
    queue_bytes: int = 1 << 20
    connections: int = 64
    head_s: float = 5.0
    body_s: float = 10.0  # silence inside a body
    idle_s: float = 75.0


@dataclass(kw_only=True)
class Request:
    """`fields` in the order received, names lower-case. `body` is whole when the handler runs."""

    method: str
    target: str
    fields: list[tuple[str, str]]
    length: int
    body: bytes = b""

    def get(self, name: str, default: str = "") -> str:
        """The value of the first field called `name` (lower-case)."""
        return next((value for key, value in self.fields if key == name), default)


@dataclass(frozen=True)
class Response:
    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    fields: tuple[tuple[str, str], ...] = ()
    close: bool = False


def refusal(status: int, reason: str, *, close: bool = False) -> Response:
    """A plain sentence for whoever has to find out why."""
    return Response(status, (reason + "\n").encode("utf-8", "replace"), close=close)


Admit = Callable[[Request], Response | None]


class _Refused(Exception):  # noqa: N818 - a verdict, carried through llhttp's callbacks
    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def _refuse(status: int, reason: str) -> _Refused:
    return _Refused(refusal(status, reason, close=True))


def check_head(request: Request, version: str, limits: Limits) -> None:
    """What llhttp accepts and we do not. Raises _Refused. Sans-IO."""
    if version not in ("1.0", "1.1"):
        raise _refuse(400 if version == "0.9" else 505, f"HTTP/{version} is not spoken here")
    names = [name for name, _ in request.fields]
    hosts = [value for name, value in request.fields if name == "host"]
    if len(hosts) > 1 or (version == "1.1" and not hosts) or not all(map(_HOST.fullmatch, hosts)):
        raise _refuse(400, "exactly one valid Host is needed")
    if "expect" in names:
        raise _refuse(417, "Expect is not supported")
    if "transfer-encoding" in names:
        raise _refuse(411, "a body needs Content-Length")
    if request.method in ("PUT", "POST") and "content-length" not in names:
        raise _refuse(411, "Content-Length is required")
    if request.length and request.method not in ("PUT", "POST"):
        raise _refuse(400, f"{request.method} has no body here")
    if request.length > limits.body_bytes:
        raise _refuse(413, f"body of {request.length} bytes, allowed {limits.body_bytes}")


def render(response: Response, *, head_only: bool = False, close: bool = False) -> bytes:
    """The bytes of an answer."""
    reason = _REASONS.get(response.status, "Unknown")
    lines = [f"HTTP/1.1 {response.status} {reason}"]
    if response.status != 204:
        lines.append(f"Content-Length: {len(response.body)}")
    if response.body:
        lines.append(f"Content-Type: {response.content_type}")
    lines += [f"{name}: {value}" for name, value in response.fields]
    if close:
        lines.append("Connection: close")
    head = "\r\n".join((*lines, "\r\n")).encode("latin-1", "replace")
    return head if head_only else head + response.body


@dataclass(frozen=True)
class Asked:
    request: Request | None
    response: Response | None  # decided before the handler: refused
    keep_alive: bool


class Reader:
    """llhttp's callbacks: collects one request after the other. Raises _Refused out of feed()."""

    def __init__(self, limits: Limits, admit: Admit | None) -> None:
        self._limits = limits
        self._admit = admit
        self._parser = httptools.HttpRequestParser(self)
        self.done: list[Asked] = []
        self.state = "idle"  # idle, head, body
        self._clear()

    def _clear(self) -> None:
        self._target = b""
        self._fields: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._request: Request | None = None
        self._refusal: Response | None = None
        self._head_fed = 0

    def feed(self, data: bytes) -> list[Asked]:
        """The requests completed by `data`, in order; a refused one is last and closes."""
        self.done = []
        try:
            self._parser.feed_data(data)
            self._head_fed += len(data)
            if self.state == "head" and self._head_fed > self._limits.head_bytes:
                raise _refuse(431, "request head too large")
        except _Refused as error:
            self.done.append(Asked(None, error.response, False))
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if not isinstance(cause, _Refused):
                raise
            self.done.append(Asked(None, cause.response, False))
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.done.append(Asked(None, refusal(400, "malformed request", close=True), False))
        return self.done

    def on_message_begin(self) -> None:
        self._clear()
        self.state = "head"

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.decode("latin-1").lower(), value.decode("latin-1").strip()))
        if len(self._fields) > self._limits.head_fields:
            raise _refuse(431, "too many header fields")

    def on_headers_complete(self) -> None:
        size = len(self._target) + sum(len(name) + len(value) + 4 for name, value in self._fields)
        if size > self._limits.head_bytes:
            raise _refuse(431, "request head too large")
        if not _TARGET.fullmatch(self._target):
            raise _refuse(400, "the target must be a path")
        lengths = [value for name, value in self._fields if name == "content-length"]
        self._request = Request(
            method=self._parser.get_method().decode("ascii"),
            target=self._target.decode("ascii"),
            fields=self._fields,
            length=int(lengths[0]) if lengths else 0,
        )
        check_head(self._request, self._parser.get_http_version(), self._limits)
        self._refusal = self._admit(self._request) if self._admit else None
        if self._refusal is not None and self._refusal.close:
            raise _Refused(self._refusal)
        self.state = "body"

    def on_body(self, body: bytes) -> None:
        if self._refusal is None:
            self._body.append(body)

    def on_message_complete(self) -> None:
        assert self._request is not None
        self._request.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        keep_alive = self._parser.should_keep_alive()
        self.done.append(Asked(self._request, self._refusal, keep_alive))
        self._clear()
        self.state = "idle"
