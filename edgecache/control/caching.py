"""What RFC 9111 says of a response, as pure functions of its head and the request's. Sans-IO.

A shared cache: s-maxage over max-age over Expires, and CDN-Cache-Control (RFC 9213) over them all.
What cannot be read is not guessed: an invalid lifetime is none, an invalid Age is ignored, a
targeted field that is no structured dictionary is as if absent.
Does not know stores, connections or the clock but for the times it is given (unix seconds).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

import http_sf

from . import httpdate

Fields = tuple[tuple[str, str], ...]

DELTA_MAX_S: Final = 1 << 31  # RFC 9111 1.2.2: larger ones count as this
_HEURISTIC_SHARE: Final = 0.1  # of the time since it was modified (4.2.2)
_HEURISTIC_MAX_S: Final = 24 * 3600.0
# RFC 9110 15.1
_HEURISTIC: Final = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})
_UNDERSTOOD: Final = _HEURISTIC | frozenset({302, 303, 307, 400, 401, 403, 500, 502, 503, 504})
_HOP_BY_HOP: Final = frozenset(
    ("connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization",
     "proxy-authentication-info", "te", "trailer", "transfer-encoding", "upgrade")
)  # fmt: skip
# What describes the bytes that are held, and not those that a 304 left out (3.2).
_OF_THE_BODY: Final = frozenset({"content-length", "content-encoding", "content-range"})
_MEMBER: Final = re.compile(r'[^,"]*(?:"(?:[^"\\]|\\.)*"?[^,"]*)*')
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_ETAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_CDN_TYPES: Final = {"max-age": int, "s-maxage": int, "no-store": bool, "private": bool,
                     "stale-while-revalidate": int, "stale-if-error": int,
                     "must-revalidate": bool}  # fmt: skip

Directives = Mapping[str, str | None]


def joined(fields: Fields, name: str) -> str | None:
    """All values of `name` as one list (RFC 9110 5.3); None when absent."""
    values = [value for key, value in fields if key == name]
    return ", ".join(values) if values else None


def members(text: str) -> list[str]:
    """A comma-separated list, commas in quoted strings left alone; empty members are nothing."""
    return [found.strip() for found in _MEMBER.findall(text) if found.strip()]


def directives(text: str | None) -> dict[str, str | None]:
    """Cache-Control by lower-case name. The first of a name counts (4.2.1); white space around "="
    makes a value invalid, which is kept as "" so that it is not taken for absent."""
    found: dict[str, str | None] = {}
    for member in members(text or ""):
        name, equals, value = member.partition("=")
        spaced = name != name.rstrip() or value != value.lstrip()
        name = name.strip().lower()
        if not _TOKEN.fullmatch(name):
            continue
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1]
        found.setdefault(name, ("" if spaced else value) if equals else None)
    return found


def targeted(text: str | None) -> dict[str, str | None] | None:
    """CDN-Cache-Control; None when absent or not what RFC 9213 2.1 allows."""
    if not text:
        return None
    try:
        parsed = http_sf.parse(text.encode("latin-1"), tltype="dictionary")
    except ValueError:
        return None
    found: dict[str, str | None] = {}
    for name, (value, _parameters) in cast(dict[str, tuple[object, object]], parsed).items():
        wanted = _CDN_TYPES.get(name)
        if wanted is not None and type(value) is not wanted:
            return None
        if value is not False:
            found[name] = str(value) if type(value) is int else None
    return found or None


def seconds(value: str | None) -> float | None:
    """A delta-seconds; None when it is not one."""
    if value is None or not value.isascii() or not value.isdigit():
        return None
    return float(min(int(value), DELTA_MAX_S))


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What may be done with one response. Times in seconds; `unshown`: fields not to be reused."""

    stores: bool
    lifetime_s: float = 0.0
    validates: bool = False  # no-cache: every use asks first
    strict: bool = False  # never stale: must-revalidate and its kin
    while_revalidate_s: float = 0.0
    if_error_s: float | None = None
    unshown: frozenset[str] = frozenset()


def judge(
    status: int, fields: Fields, *, authorized: bool, now_s: float, if_error_s: float = 0.0
) -> Verdict:
    """Sections 3 and 4.2 for a response that answers a GET, received at `now_s`. `if_error_s`: the
    window of a response that does not say."""
    own = targeted(joined(fields, "cdn-cache-control"))
    control = own if own is not None else directives(joined(fields, "cache-control"))
    validates = _unqualified(control, "no-cache")
    strict = validates or bool(control.keys() & {"must-revalidate", "proxy-revalidate", "s-maxage"})
    lifetime = _lifetime(status, fields, control, now_s, targeted_only=own is not None)
    if not _may_store(status, fields, control, authorized=authorized):
        return Verdict(stores=False)
    if lifetime is None or (lifetime <= 0 and not has_validator(fields)):
        return Verdict(stores=False)
    if_error = seconds(control.get("stale-if-error"))
    return Verdict(
        stores=True,
        lifetime_s=lifetime,
        validates=validates,
        strict=strict,
        while_revalidate_s=seconds(control.get("stale-while-revalidate")) or 0.0,
        if_error_s=if_error_s if if_error is None else if_error,
        unshown=_named(control, "no-cache") | _named(control, "private"),
    )


def _unqualified(control: Directives, name: str) -> bool:
    return name in control and control[name] is None


def _named(control: Directives, name: str) -> frozenset[str]:
    return frozenset(word.strip().lower() for word in (control.get(name) or "").split(",") if word)


def _may_store(status: int, fields: Fields, control: Directives, *, authorized: bool) -> bool:
    known = status in _UNDERSTOOD
    if "must-understand" in control:
        if not known:
            return False
    elif "no-store" in control:
        return False
    if status < 200 or status == 304 or _unqualified(control, "private"):
        return False
    if vary_names(fields) is None:
        return False
    shared = bool(control.keys() & {"public", "s-maxage"})
    if authorized and not shared and "must-revalidate" not in control:
        return False  # 3.5
    # One viewer's cookie is not another's, unless the origin says that it is everybody's.
    return shared or joined(fields, "set-cookie") is None


def _lifetime(
    status: int, fields: Fields, control: Directives, now_s: float, *, targeted_only: bool
) -> float | None:
    """4.2.1; None: neither said nor to be guessed."""
    for name in ("max-age",) if targeted_only else ("s-maxage", "max-age"):
        if name in control:
            return seconds(control[name]) or 0.0
    date = httpdate.parse(joined(fields, "date") or "")
    expires = joined(fields, "expires")
    if expires is not None:
        until = httpdate.parse(expires)
        return 0.0 if until is None else max(0.0, until - (now_s if date is None else date))
    if status not in _HEURISTIC and "public" not in control:
        return None
    modified = httpdate.parse(joined(fields, "last-modified") or "")
    if modified is None:
        return 0.0
    since = (now_s if date is None else date) - modified
    return max(0.0, min(_HEURISTIC_SHARE * since, _HEURISTIC_MAX_S))


def initial_age_s(fields: Fields, *, asked_s: float, answered_s: float) -> float:
    """4.2.3: how old it was when it came. Only the first Age counts (RFC 9111 5.1)."""
    date = httpdate.parse(joined(fields, "date") or "")
    stated = seconds((members(joined(fields, "age") or "") or [""])[0]) or 0.0
    apparent = max(0.0, answered_s - date) if date is not None else 0.0
    return max(apparent, stated + (answered_s - asked_s))


def has_validator(fields: Fields) -> bool:
    return any(name in ("etag", "last-modified") for name, _ in fields)


def vary_names(fields: Fields) -> tuple[str, ...] | None:
    """The request fields it was selected by, sorted; None: by more than fields ("*")."""
    names = {name.lower() for name in members(joined(fields, "vary") or "")}
    return None if "*" in names else tuple(sorted(names))


def variant(names: tuple[str, ...], request: Fields) -> tuple[str | None, ...]:
    """The request's values under `names`, white space and list form normalised (4.1)."""
    found = (joined(request, name) for name in names)
    return tuple(None if text is None else ",".join(members(text)) for text in found)


def end_to_end(fields: Fields) -> Fields:
    """Without what concerns one connection only (RFC 9110 7.6.1)."""
    named = {name.lower() for name in members(joined(fields, "connection") or "")}
    drop = _HOP_BY_HOP | named
    return tuple((name, value) for name, value in fields if name not in drop)


def refreshed(stored: Fields, news: Fields) -> Fields:
    """The stored fields after a 304 (3.2)."""
    news = tuple(pair for pair in end_to_end(news) if pair[0] not in _OF_THE_BODY)
    replaced = {name for name, _ in news}
    return (*(pair for pair in stored if pair[0] not in replaced), *news)


def is_etag(text: str) -> bool:
    return _ETAG.fullmatch(text) is not None


def not_modified(request: Fields, stored: Fields, *, stored_s: float) -> bool:
    """Do the request's conditions say 304 of a stored 200 (RFC 9110 13.2.2)? `stored_s`: when it
    came, for a response that does not say when it was modified (RFC 9111 4.3.2)."""
    wanted = joined(request, "if-none-match")
    if wanted is not None:
        etag = joined(stored, "etag")
        if wanted.strip() == "*":
            return True
        opaque = {word.removeprefix("W/") for word in members(wanted)}
        return etag is not None and etag.removeprefix("W/") in opaque
    since = httpdate.parse(joined(request, "if-modified-since") or "")
    if since is None:
        return False
    modified = httpdate.parse(joined(stored, "last-modified") or "")
    if modified is None:
        modified = httpdate.parse(joined(stored, "date") or "")
    return (stored_s if modified is None else modified) <= since
