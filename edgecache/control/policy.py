"""What a fill decides: pure functions of a key, a response head and the configuration. Sans-IO.

Law: an origin request is built, never forwarded; a viewer's head is rebuilt from an allow-list;
only 200 is stored; a body is continued only where its validator proves that the bytes are the same.
`CDN-Cache-Control` (RFC 9213) is for us: it goes before `Cache-Control`, and ends here.
Does not know connections, tasks or the store.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from math import ceil
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

from ..config import Cache
from ..errors import UpstreamError
from ..sources import Route
from . import httpdate
from .response import Head

if TYPE_CHECKING:
    from .._core import Stale

_OLD_HOP: Final = re.compile(r"(?:^|,)\s*(?:HTTP/)?1\.0\s", re.IGNORECASE)  # in Via
_FINISH_BYTES: Final = 8 << 20
_AHEAD: Final = 4  # segments; players go by the clock, and an encoder may be late
_VIEWER_FIELDS: Final = frozenset(
    (
        "content-type",
        "cache-control",
        "cache-status",  # of the caches behind us; the core adds ours (RFC 9211 2)
        "expires",
        "last-modified",
        "content-encoding",
        "content-language",
        "content-disposition",
        "content-security-policy",
        "referrer-policy",
        "server-timing",
        "timing-allow-origin",
        "x-content-type-options",
    )
)
_TEXT: Final = re.compile(rb"\.(?:m3u8|mpd)(?:\?|$)")
_MEDIA: Final = re.compile(
    rb"/live/([a-z0-9_-]{1,64})/([0-9a-z]{1,12})/([a-z0-9_-]{1,64})/(\d{1,12})(?:\.(\d{1,6}))?"
    rb"\.(?:m4s|vtt)"
)
_INIT: Final = re.compile(
    rb"/live/([a-z0-9_-]{1,64})/([0-9a-z]{1,12})/([a-z0-9_-]{1,64})/init(\d{1,6})\.mp4"
)
_STREAM: Final = re.compile(rb"/live/([a-z0-9_-]{1,64})/")
_TRACK: Final = re.compile(
    rb"/live/[a-z0-9_-]{1,64}/(?:([a-z0-9_-]{1,64})\.m3u8|[0-9a-z]{1,12}/([a-z0-9_-]{1,64})/)"
)
_DIGEST: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)
# never served stale, whatever else is said (RFC 9111 4.2.4)
_STRICT: Final = frozenset(
    ("must-revalidate", "proxy-revalidate", "s-maxage", "no-cache", "no-store", "private")
)
_DIRECTIVE: Final = re.compile(r'([a-z-]+)(?:=(?:"([^"]*)"|([^\s",]*)))?')


def stream_of(key: bytes) -> str:
    """The stream that `/live/{stream}/…` belongs to; "" for any other key."""
    match = _STREAM.match(key)
    return match[1].decode() if match else ""


def track_of(key: bytes) -> str:
    """The track that a media playlist or an object of it belongs to; "" for any other key."""
    match = _TRACK.match(key)
    return (match[1] or match[2]).decode() if match and match[1] != b"master" else ""


Track = tuple[bytes, bytes, bytes]
"""(stream, epoch, track)."""


@dataclass(frozen=True, order=True)
class MediaName:
    """`/live/{stream}/{epoch}/{track}/{msn}[.{part}].{m4s,vtt}`; part -1: the whole segment."""

    track: Track
    msn: int
    part: int


def media_name(key: bytes) -> MediaName | None:
    match = _MEDIA.fullmatch(key)
    if match is None:
        return None
    return MediaName(
        (match[1], match[2], match[3]), int(match[4]), int(match[5]) if match[5] else -1
    )


def init_name(key: bytes) -> tuple[Track, int] | None:
    """`/live/{stream}/{epoch}/{track}/init{generation}.mp4`."""
    match = _INIT.fullmatch(key)
    return ((match[1], match[2], match[3]), int(match[4])) if match else None


def is_next(name: MediaName, newest: Mapping[Track, tuple[int, int]]) -> bool:
    """Will a push bring `name` next? `newest`: track -> (msn, part) pushed last. A part is hinted,
    so it is of the newest segment or the one behind it; a segment is asked for when the MPD's clock
    says, however late its encoder is. One at or behind the newest has left the store and is
    pulled."""
    if name.track not in newest:
        return False
    msn, part = newest[name.track]
    if name.part < 0:
        return msn < name.msn <= msn + _AHEAD
    return (msn, part) < (name.msn, name.part) and name.msn <= msn + 1


def is_text(key: bytes) -> bool:
    """A name that playlists go by, which are read: .m3u8, .mpd."""
    return _TEXT.search(key) is not None


def playlist_name(key: bytes) -> bytes:
    """The key without LL-HLS directives, which stand at its end."""
    return re.split(rb"[?&]_HLS_", key, maxsplit=1)[0]


def with_query(key: bytes, query: str) -> bytes:
    if not query:
        return key
    return key + (b"&" if b"?" in key else b"?") + query.encode("ascii")


def build_request(
    key: bytes,
    host: str,
    *,
    loop: str,
    offset: int = 0,
    etag: str = "",
    stale: Stale | None = None,
) -> bytes:
    """The request for `key`, which came through the caches in `loop` (RFC 8586). With `offset`: the
    rest of the body whose strong validator is `etag`; with `stale`: whether that is still good."""
    lines = [b"GET " + key + b" HTTP/1.1", b"Host: " + host.encode("ascii")]
    lines += [b"Accept-Encoding: identity", b"Cdn-Loop: " + loop.encode("ascii")]
    if offset:
        lines.append(b"Range: bytes=%d-" % offset)
        lines.append(b'If-Match: "' + etag.encode("latin-1") + b'"')
    elif stale is not None:
        lines += _conditions(stale)
    return b"\r\n".join((*lines, b"", b""))


def _pairs(fields: bytes) -> list[tuple[str, str]]:
    """Complete lines as names, lower-case, and values."""
    lines = (line.partition(": ") for line in fields.decode("latin-1").split("\r\n") if line)
    return [(name.lower(), value) for name, _, value in lines]


def _conditions(stale: Stale) -> list[bytes]:
    """RFC 9110 13.1: a validator of the origin's own; when there are both, both."""
    modified = dict(_pairs(stale["fields"])).get("last-modified", "").encode("latin-1")
    found = [b'If-None-Match: "' + stale["etag"] + b'"'] if stale["etag"] else []
    return found + ([b"If-Modified-Since: " + modified] if modified else [])


def renewed(stale: Stale, news: Head) -> Head:
    """The head of what a 304 found good (RFC 9111 3.2). Raises UpstreamError("different") when the
    validator is another one."""
    etag = stale["etag"].decode("latin-1")
    if strong_etag(news) not in ("", etag):
        raise UpstreamError("different", "a 304 about other bytes than those asked about")
    fields = [pair for pair in news.fields if pair[0] not in ("content-encoding", "etag")]
    said = {name for name, _ in fields}
    kept = [pair for pair in _pairs(stale["fields"]) if pair[0] not in said]
    known = [("etag", f'"{etag}"')] if etag else []
    return Head(200, (*kept, *fields, *known), -1)


def stands_in(key: bytes, stale: Stale, cache: Cache) -> bool:
    """May it be served because the origin fails (RFC 5861 4, RFC 9111 4.2.4)? A playlist that does
    not say so would keep players where they are, instead of sending them elsewhere."""
    rules = directives(dict(_pairs(stale["fields"])).get("cache-control", ""))
    if not _STRICT.isdisjoint(rules):
        return False
    stated_s = _seconds(rules.get("stale-if-error"))
    if stated_s is None:
        return not is_text(key) and stale["past_ms"] <= cache.stale
    return stale["past_ms"] <= stated_s * 1000


def viewer_fields(head: Head) -> bytes:
    """The origin's fields that viewers may see, as complete lines. The core adds ETag, CORS and
    framing."""
    return b"".join(
        f"{name.title()}: {value}\r\n".encode("latin-1", "replace")
        for name, value in head.fields
        if name in _VIEWER_FIELDS
    )


def directives(value: str) -> dict[str, str]:
    """`Cache-Control` as name -> argument, lower-case; the first of a repeated one counts."""
    found: dict[str, str] = {}
    for name, quoted, bare in _DIRECTIVE.findall(value.lower()):
        found.setdefault(name, quoted or bare)
    return found


def _seconds(text: str | None) -> int | None:
    return (
        min(int(text), 1 << 31) if text is not None and text.isascii() and text.isdigit() else None
    )


def _expires_s(head: Head) -> int | None:
    """Lifetime from Expires and Date (RFC 9111 5.3); an unreadable Expires is in the past."""
    if not head.get("expires"):
        return None
    try:
        span = parsedate_to_datetime(head.get("expires")) - parsedate_to_datetime(head.get("date"))
    except (ValueError, TypeError):
        return 0
    return max(int(span.total_seconds()), 0)


def heed(head: Head, rules: Route) -> Head:
    """The head without what the route ignores."""
    if rules.cache_control == "obey":
        return head
    unheeded = ("cache-control", "expires", "pragma")
    fields = tuple(field for field in head.fields if field[0] not in unheeded)
    return Head(head.status, fields, head.length)


def decoded(head: Head, length: int) -> Head:
    """The head of a body that lost its content coding, and is `length` bytes long now."""
    fields = tuple(field for field in head.fields if field[0] != "content-encoding")
    return Head(head.status, fields, length)


def may_keep(head: Head, cache: Cache) -> bool:
    """May a text be shown again while it is renewed in time?"""
    return freshness_ms(head, cache, 1, age_ms(head))[0] > 0


def text_fields(head: Head, every_s: float, *, waited: bool = False) -> bytes:
    """Of a text that is served without its coding and renewed every `every_s`: how long others may
    keep it is said even if its origin did not, or they would guess. `waited`: of answers to
    blocking requests; the origin's word is for those, and others keep it for one renewal at most
    (RFC 8216bis B.1)."""
    gone = ["content-encoding", "last-modified", "expires"]
    told = head.get("cache-control")
    lifetime_s = _seconds(directives(told).get("max-age"))
    most_s = max(1, ceil(every_s))
    own = not told or (not waited and lifetime_s is not None and lifetime_s > most_s)
    gone += ["cache-control"] * own
    fields = tuple(field for field in head.fields if field[0] not in gone)
    fields += (("cache-control", f"max-age={most_s}"),) * own
    return viewer_fields(Head(head.status, fields, 0))


def moved_to(head: Head, target: str, base: str) -> str:
    """The absolute URL of a redirect; "" when it is none (RFC 9110 15.4)."""
    if head.status not in (301, 302, 303, 307, 308) or not head.get("location"):
        return ""
    return urljoin(base + target, head.get("location"))


def age_ms(head: Head, *, delay_ms: int = 0, now_s: float = 0.0) -> int:
    """How old the response was when it came (RFC 9111 4.2.3), `delay_ms` after it was asked for.
    What it says, of which the first counts, is believed as every hop says it that speaks HTTP/1.1.
    Its Date, which takes two clocks to agree, counts where one did not: a packager whose clock is
    off would have nothing kept."""
    stated_s = _seconds(head.get("age").partition(",")[0].strip()) or 0
    corrected_ms = stated_s * 1000 + delay_ms
    if not _OLD_HOP.search(head.get("via")):
        return corrected_ms
    date_s = httpdate.parse(head.get("date"))
    return corrected_ms if date_s is None else max(corrected_ms, int((now_s - date_s) * 1000))


def _rules(head: Head) -> tuple[dict[str, str], dict[str, str]]:
    """What CDN-Cache-Control says, and what counts."""
    targeted = directives(head.get("cdn-cache-control"))
    return targeted, targeted or directives(head.get("cache-control"))


def _varies_freely(head: Head) -> bool:
    return "*" in (name.strip() for name in head.get("vary").split(","))


def spare_ms(head: Head, cache: Cache) -> int:
    """How long a 200 stays past its time and grace: to be validated, or to stand in for an origin
    that fails."""
    _, rules = _rules(head)
    if {"no-store", "private"} & rules.keys() or _varies_freely(head):
        return 0
    known = cache.stale if strong_etag(head) or head.get("last-modified") else 0
    stated_s = _seconds(rules.get("stale-if-error")) or 0
    return min(max(known, stated_s * 1000), cache.ttl_max)


def freshness_ms(head: Head, cache: Cache, default_ms: int, age_ms: int) -> tuple[int, int]:
    """(time to live, grace) of a 200 that was `age_ms` old. 0 means: shared with those who wait for
    it, not kept. `default_ms`: for a response that does not say. Vary names what selected it; all
    that we send is always the same, so there is one variant, unless it is by more than fields."""
    targeted, rules = _rules(head)
    if {"no-store", "private", "no-cache"} & rules.keys() or _varies_freely(head):
        return 0, 0
    expires_s = None if targeted else _expires_s(head)
    announced = (_seconds(rules.get("s-maxage")), _seconds(rules.get("max-age")), expires_s)
    lifetime_s = next((value for value in announced if value is not None), None)
    ttl_ms = default_ms if lifetime_s is None else max(lifetime_s * 1000 - age_ms, 0)
    stated_s = _seconds(rules.get("stale-while-revalidate")) or 0
    grace_s = stated_s if _STRICT.isdisjoint(rules) else 0
    return min(ttl_ms, cache.ttl_max), min(grace_s * 1000, cache.ttl_max)


def strong_etag(head: Head) -> str:
    """The opaque part of a strong validator, "" otherwise."""
    value = head.get("etag")
    inner = value[1:-1]
    quoted = len(value) > 2 and value[0] == value[-1] == '"'
    return inner if quoted and inner.isascii() and inner.isprintable() and '"' not in inner else ""


def announced_digest(head: Head) -> str:
    """The xxh3-128 that the body must have, if the origin is one of ours; "" otherwise."""
    for value in (head.get("edge-digest"), strong_etag(head)):
        if _DIGEST.fullmatch(value):
            return value
    return ""


def check_status(head: Head, *, parent: bool = False) -> int:
    """0: store it. 4xx: what viewers are answered. Raises UpstreamError when another try may help,
    or when nobody can use the response (a redirect is not followed: origins come from
    configuration). A `parent` has tried for us: only when it is busy itself, or the chain is a
    loop, does another try help."""
    if head.status == 200:
        return 0
    if head.status == 508:
        raise UpstreamError("loop", "the request came back to a cache it had been through")
    if parent and head.status >= 500 and head.status != 503:
        kind = "timeout" if head.status == 504 else "status_5xx"
        raise UpstreamError(kind, f"parent answered {head.status}", retryable=False)
    if 400 <= head.status < 500 and head.status not in (408, 412, 416, 421, 425, 429):
        return head.status
    kind = "redirect" if 300 <= head.status < 400 else f"status_{head.status // 100}xx"
    kind = "busy" if head.status == 503 else kind
    retryable = head.status >= 500 or head.status == 429
    later_s = (_seconds(head.get("retry-after")) or 0) if head.status in (429, 503) else 0
    raise UpstreamError(
        kind, f"origin answered {head.status}", retryable=retryable, retry_after_s=later_s
    )


def skip_of(head: Head, *, offset: int, etag: str, length: int) -> int:
    """How many bytes of the response to a resume request to drop so that it continues at `offset`.
    Raises UpstreamError("different") when these are not the same bytes (RFC 9110 15.3.7.3)."""
    if head.status == 206:
        match = _CONTENT_RANGE.fullmatch(head.get("content-range"))
        start, total = (int(match[1]), int(match[3])) if match else (-1, -1)
        same = start == offset and length in (-1, total) and strong_etag(head) in ("", etag)
        if same:
            return 0
    elif head.status == 200:
        if strong_etag(head) == etag and length in (-1, head.length):
            return offset
    elif head.status >= 500 or head.status == 429:
        raise UpstreamError("status_5xx", f"origin answered {head.status} to a resume")
    raise UpstreamError("different", "the origin no longer has the same bytes")


def worth_finishing(received: int, length: int, ttl_ms: int) -> bool:
    """Nobody waits any more: is the rest worth fetching for those to come?"""
    return ttl_ms > 0 and length >= 0 and (length <= _FINISH_BYTES or 2 * received >= length)


def tries_elsewhere(reason: str, *, began: bool) -> bool:
    """After this failure, must the next attempt go to an origin not asked yet? Only a cut is worth
    the same origin again: one hung or failing origin costs one request per object (reliability.md
    R3)."""
    return reason != "cut" and not (began and reason == "slow")


def answer_for(reason: str, *, text: bool = False) -> int:
    """The status for viewers when all attempts are spent. A playlist (`text`) whose origin is away
    is Service Unavailable, so that players ask again (RFC 8216bis 6.2.5.2)."""
    statuses = {"timeout": 504, "connect_timeout": 504, "unavailable": 503, "busy": 503}
    away = {*statuses, "refused", "unresolved", "cut", "slow", "status_5xx", "outdated"}
    return 503 if text and reason in away else statuses.get(reason, 502)
