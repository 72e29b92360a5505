"""Requests in, answers out, as bytes: the sans-IO half of our own doors.

Law: what llhttp accepts and we do not is refused here, and a refused request is the last of its
connection: nothing is resynchronised. Bounds: head bytes and fields (431), body (411, 413): by
Content-Length only, unless the door forwards, which takes any method and chunks too. `admit` sees a
head before its body is read, so that strangers cannot make us hold bytes. Does not know sockets,
time, or what requests mean.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
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
    forwards: bool = False


@dataclass(kw_only=True)
class Request:
    """`fields` in the order received, names lower-case. `body` is whole when the handler runs."""

    method: str
    target: str
    fields: list[tuple[str, str]]
    length: int
    body: bytes = b""
    minor: int = 1  # of the HTTP version
    # Sends an interim response (1xx) now; None where there is nobody to send it to.
    interim: Callable[[int, tuple[tuple[str, str], ...]], None] | None = None

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
    stream: AsyncGenerator[bytes, None] | None = None  # instead of `body`
    length: int | None = None  # of the stream; None: not known. Also what a HEAD is told.
    reason: str = ""


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
    if limits.forwards:
        _check_forwarded(request, version, names)
    else:
        _check_ours(request, names)
    if request.length > limits.body_bytes:
        raise _refuse(413, f"body of {request.length} bytes, allowed {limits.body_bytes}")


def _check_ours(request: Request, names: list[str]) -> None:
    if "transfer-encoding" in names:
        raise _refuse(411, "a body needs Content-Length")
    if request.method in ("PUT", "POST") and "content-length" not in names:
        raise _refuse(411, "Content-Length is required")
    if request.length and request.method not in ("PUT", "POST"):
        raise _refuse(400, f"{request.method} has no body here")


def _check_forwarded(request: Request, version: str, names: list[str]) -> None:
    if request.method in ("CONNECT", "TRACE"):
        raise _refuse(405, f"{request.method} is not forwarded")
    codings = [value.lower() for name, value in request.fields if name == "transfer-encoding"]
    if codings and (version == "1.0" or codings != ["chunked"] or "content-length" in names):
        raise _refuse(400, "contradictory framing")
    if request.method in ("GET", "HEAD") and (codings or request.length):
        raise _refuse(400, f"{request.method} has no body here")


def render_head(response: Response, *, close: bool = False, framing: str = "") -> bytes:
    """Status line and fields. `framing`: the line that says where the body ends."""
    reason = response.reason or _REASONS.get(response.status, "Unknown")
    lines = [f"HTTP/1.1 {response.status} {reason}"]
    if framing:
        lines.append(framing)
    if response.body and response.content_type:
        lines.append(f"Content-Type: {response.content_type}")
    lines += [f"{name}: {value}" for name, value in response.fields]
    if close:
        lines.append("Connection: close")
    return "\r\n".join((*lines, "\r\n")).encode("latin-1", "replace")


def render(response: Response, *, head_only: bool = False, close: bool = False) -> bytes:
    """The bytes of an answer whose body is at hand."""
    framing = "" if response.status in (204, 304) else f"Content-Length: {len(response.body)}"
    head = render_head(response, close=close, framing=framing)
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
        self._body_bytes = 0
        self._request: Request | None = None
        self._refusal: Response | None = None
        self._head_fed = 0

    @property
    def body_left(self) -> int | None:
        """Bytes of the body still to come; None when it comes in chunks."""
        if self._request is None or not self._request.length:
            return None
        return self._request.length - self._body_bytes

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
        if self._request is not None:  # a trailer, which nobody reads
            return
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
        version = self._parser.get_http_version()
        self._request = Request(
            method=self._parser.get_method().decode("ascii"),
            target=self._target.decode("ascii"),
            fields=self._fields,
            length=int(lengths[0]) if lengths else 0,
            minor=0 if version == "1.0" else 1,
        )
        check_head(self._request, version, self._limits)
        self._refusal = self._admit(self._request) if self._admit else None
        if self._refusal is not None and self._refusal.close:
            raise _Refused(self._refusal)
        self.state = "body"

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.body_bytes:  # chunked: not known before
            raise _refuse(413, f"a body of more than {self._limits.body_bytes} bytes")
        if self._refusal is None:
            self._body.append(body)

    def on_message_complete(self) -> None:
        assert self._request is not None
        self._request.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        keep_alive = self._parser.should_keep_alive()
        self.done.append(Asked(self._request, self._refusal, keep_alive))
        self._clear()
        self.state = "idle"
