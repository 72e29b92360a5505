"""What goes to a site's origin for a viewer's request, and what a viewer's Range asks for. Sans-IO.

Law: end-to-end fields pass, hop-by-hop fields do not, framing is our own. A cache that would store
the answer asks for the whole and for everybody: conditions and, where something is validated, the
range stay here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from .caching import Fields, end_to_end, joined, members
from .http1 import Request
from .shelf import Stored

_CONDITIONS: Final = frozenset(
    ("if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range")
)
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)

Wire = Callable[[str], bytes]


def outgoing(request: Request, *, name: str, cdn_id: str, validate: Stored | None) -> Wire:
    """The request as bytes, once its origin's host is known. `name` and `cdn_id`: this cache, for
    Via and CDN-Loop (RFC 8586); `validate`: ask whether this is still good."""
    fields = [pair for pair in end_to_end(tuple(request.fields)) if pair[0] not in _OURS]
    if request.method in ("GET", "HEAD"):
        fields = [pair for pair in fields if pair[0] not in _CONDITIONS]
    if validate is not None:
        fields = [pair for pair in fields if pair[0] != "range"]
        fields += _validators(validate)
    loop = joined(tuple(request.fields), "cdn-loop")
    fields += [
        ("cdn-loop", f"{loop}, {cdn_id}" if loop else cdn_id),
        ("via", f"1.1 {name}"),
    ]
    if request.body or request.method in ("POST", "PUT", "PATCH"):
        fields.append(("content-length", str(len(request.body))))
    head = "".join(f"{key}: {value}\r\n" for key, value in fields).encode("latin-1")
    line = f"{request.method} {request.target} HTTP/1.1\r\n".encode("latin-1")
    return lambda host: b"%bHost: %b\r\n%b\r\n%b" % (line, host.encode(), head, request.body)


_OURS: Final = frozenset({"host", "content-length", "cdn-loop", "via", "expect"})


def _validators(stored: Stored) -> Fields:
    etag, modified = stored.etag, joined(stored.fields, "last-modified")
    found: list[tuple[str, str]] = []
    if etag:
        found.append(("if-none-match", etag))
    if modified:
        found.append(("if-modified-since", modified))
    return tuple(found)


def wanted_span(
    request: Fields, held: tuple[int, int, int], etag: str | None = None
) -> tuple[int, int] | None:
    """(first, last) of the one range asked for, cut to the complete length; None when there is
    none, it is ignored (several, malformed, If-Range of other bytes) or not within what is held:
    (first, last, complete length). First beyond last: it cannot be satisfied (416)."""
    text = joined(request, "range")
    condition = joined(request, "if-range")
    match = _RANGE.fullmatch(text.replace(" ", "")) if text else None
    if match is None or match[0].endswith("=-") or (condition and condition != etag):
        return None
    first, last, complete = held
    if match[1]:
        wanted = int(match[1]), min(int(match[2] or complete - 1), complete - 1)
        if match[2] and int(match[2]) < int(match[1]):
            return None
    else:
        wanted = max(0, complete - int(match[2])), complete - 1
    if wanted[0] > wanted[1]:
        return complete, complete - 1
    return wanted if first <= wanted[0] and wanted[1] <= last else None


def span_of(fields: Fields) -> tuple[int, int, int] | None:
    """(first, last, complete length) of a 206; None when it is no single range of known length."""
    match = re.fullmatch(
        r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", joined(fields, "content-range") or "", re.ASCII
    )
    if match is None:
        return None
    first, last, complete = map(int, match.groups())
    return (first, last, complete) if first <= last < complete else None


def surrogate_tags(fields: Fields) -> frozenset[str]:
    """Names to purge by: Surrogate-Key (spaces) and Cache-Tag (commas)."""
    keys = (joined(fields, "surrogate-key") or "").split()
    return frozenset([*keys, *members(joined(fields, "cache-tag") or "")])
