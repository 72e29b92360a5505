"""What a push says: request fields -> a checked value. Sans-IO.

Law: follows ARCHITECTURE.md, "Between origin and edge", to the letter; anything else is refused
with a sentence that names the field. Does not know the store, signatures or connections.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import lz4.block
import xxhash

from ..errors import EdgeError
from .epochs import number_of
from .http1 import Request

_VARY: Final = b"Vary: Accept-Encoding\r\n"
_GZIP: Final = b"Content-Encoding: gzip\r\n" + _VARY
VARIANTS: Final = ("full", "full.gzip", "delta", "delta.gzip", "delta2", "delta2.gzip")
_KEY: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)+", re.ASCII)
_DIGEST: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{1,15}", re.ASCII)
_VALUE: Final = re.compile(r"[\x20-\x7e]{0,256}", re.ASCII)
_TIMING: Final = re.compile(r"(?:[a-z]{1,16}=[0-9]{1,7}\.[0-9],?){1,8}", re.ASCII)
_CLOCK: Final = re.compile(r"[0-9]{1,14}\.[0-9]", re.ASCII)  # unix ms
_UNPACKED_MAX: Final = 4 << 20  # of a playlist version: hours of parts


class PushError(EdgeError):
    """The push cannot be taken; `status` and the message go back to the pusher, `reason` is a
    counter label."""

    source = "upstream"

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Object:
    """`fields`: header lines as viewers get them. `digest`: xxh3-128 of the body, hex. `hops_ms`:
    what it went through on its way here, in order, the push last; empty when nobody said."""

    key: bytes
    body: bytes
    digest: bytes
    ttl_ms: int
    fields: bytes
    hops_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Part(Object):
    """Bytes [offset, offset + len(body)) of `segment`; `segment_digest` is set on the last one."""

    segment: bytes
    offset: int
    segment_digest: bytes | None


@dataclass(frozen=True, kw_only=True)
class Version:
    """A playlist as of (msn, parts, last_parts); absent variants are None, in the order of
    VARIANTS."""

    key: bytes
    epoch: int  # see epoch_of
    ttl_ms: int
    number: tuple[int, int, int]
    hold_ms: int
    advance: int
    ended: bool
    fields: tuple[bytes | None, ...]
    waited: tuple[bytes | None, ...]  # of answers to blocking requests; empty: the same
    bodies: tuple[bytes | None, ...]
    digests: tuple[bytes | None, ...]


def key_of(target: str, field: str = "request target") -> bytes:
    """A canonical path. Raises PushError: our own names need no escapes, so there is one
    spelling."""
    if not _KEY.fullmatch(target) or {".", ".."} & set(target.split("/")):
        raise PushError(400, "name", f"{field}: found {target[:80]!r}, allowed a plain path")
    return target.encode("ascii")


def _number(request: Request, name: str, default: str = "") -> int:
    text = request.get(name, default)
    if not _NUMBER.fullmatch(text):
        raise PushError(400, "field", f"{name}: found {text[:40]!r}, allowed a decimal number")
    return int(text)


def epoch_of(request: Request) -> int:
    """Of the timeline whose playlists are spoken of; 0: nobody said."""
    try:
        return number_of(request.get("edge-epoch", "0"))
    except ValueError as error:
        raise PushError(400, "field", str(error)) from None


def _digest(request: Request, name: str) -> bytes:
    text = request.get(name)
    if not _DIGEST.fullmatch(text):
        raise PushError(400, "field", f"{name}: found {text[:40]!r}, allowed 32 hex digits")
    return text.encode("ascii")


def _hops(request: Request, now_ms: float) -> dict[str, float]:
    """Edge-Timing, and since Edge-Ready (by two hosts' clocks, so never less than 0) the push."""
    timing, ready = request.get("edge-timing"), request.get("edge-ready")
    if not timing and not ready:
        return {}
    if not _TIMING.fullmatch(timing):
        raise PushError(400, "field", f"edge-timing: found {timing[:80]!r}, allowed name=ms,...")
    if not _CLOCK.fullmatch(ready):
        raise PushError(400, "field", f"edge-ready: found {ready[:40]!r}, allowed unix ms")
    told = (each.partition("=") for each in timing.rstrip(",").split(","))
    return {name: float(ms) for name, _, ms in told} | {"push": max(0.0, now_ms - float(ready))}


def _lines(
    request: Request, hops_ms: Mapping[str, float], cache_control: str = "cache-control"
) -> bytes:
    """Content-Type and Cache-Control (as the field `cache_control` says), stored as served; and
    Server-Timing, which a page of another origin may read too. All of it is in the prebuilt head,
    so that a hit pays nothing for it."""
    lines = b""
    for name, told in (("Content-Type", "content-type"), ("Cache-Control", cache_control)):
        value = request.get(told)
        if not _VALUE.fullmatch(value):
            raise PushError(400, "field", f"{told}: found odd bytes, allowed printable ASCII")
        if value:
            lines += f"{name}: {value}\r\n".encode("ascii")
    if hops_ms:
        timing = ", ".join(f"{name};dur={ms:.1f}" for name, ms in hops_ms.items())
        lines += f"Server-Timing: {timing}\r\nTiming-Allow-Origin: *\r\n".encode("ascii")
    return lines


def _version_number(request: Request) -> tuple[int, int, int]:
    text = request.get("edge-version")
    parts = text.split(".")
    if len(parts) != 3 or not all(_NUMBER.fullmatch(part) for part in parts):
        message = f"edge-version: found {text[:40]!r}, allowed msn.parts.last_parts"
        raise PushError(400, "field", message)
    return int(parts[0]), int(parts[1]), int(parts[2])


def _unpacked(request: Request) -> bytes:
    """The body as it was before `Edge-Coding`. What is announced bounds what is unpacked."""
    coding = request.get("edge-coding")
    if not coding:
        return request.body
    lengths = re.findall(r"=([0-9]{1,15})", request.get("edge-variants"))
    size = sum(map(int, lengths))
    if coding != "lz4" or not 0 < size <= _UNPACKED_MAX:
        message = f"edge-coding: found {coding[:40]!r} of {size} bytes, allowed lz4"
        raise PushError(400, "coding", f"{message} of up to {_UNPACKED_MAX} bytes")
    try:
        plain: bytes = lz4.block.decompress(request.body, uncompressed_size=size)
    except lz4.block.LZ4BlockError as error:
        raise PushError(400, "coding", f"edge-coding: found a broken lz4 block: {error}") from None
    return plain


def _variants(request: Request, whole: bytes) -> tuple[bytes | None, ...]:
    """The concatenated body, cut as Edge-Variants says. The full text must be there."""
    text = request.get("edge-variants")
    lengths: dict[str, int] = {}
    for item in text.split(","):
        name, _, length = item.strip().partition("=")
        if name not in VARIANTS[len(lengths) :] or not _NUMBER.fullmatch(length):
            message = f"edge-variants: found {text[:80]!r}, allowed {', '.join(VARIANTS)} in order"
            raise PushError(400, "field", message)
        for skipped in VARIANTS[len(lengths) : VARIANTS.index(name)]:
            lengths[skipped] = 0
        lengths[name] = int(length)
    if sum(lengths.values()) != len(whole) or not lengths.get("full"):
        message = f"edge-variants: found {text[:80]!r}, allowed lengths that add up to the body"
        raise PushError(400, "field", message)
    bodies: list[bytes | None] = []
    start = 0
    for name in VARIANTS:
        end = start + lengths.get(name, 0)
        bodies.append(whole[start:end] if end > start else None)
        start = end
    return tuple(bodies)


def _version(request: Request, key: bytes, whole: bytes, now_ms: float) -> Version:
    bodies = _variants(request, whole)
    hops_ms = _hops(request, now_ms)

    def heads(lines: bytes) -> tuple[bytes | None, ...]:
        return tuple(
            None if body is None else lines + (_GZIP if name.endswith(".gzip") else _VARY)
            for name, body in zip(VARIANTS, bodies, strict=True)
        )

    return Version(
        key=key,
        epoch=epoch_of(request),
        ttl_ms=_number(request, "edge-ttl"),
        number=_version_number(request),
        hold_ms=_number(request, "edge-hold", "0"),
        advance=_number(request, "edge-advance", "0"),
        ended=request.get("edge-ended", "0") == "1",
        fields=heads(_lines(request, hops_ms)),
        waited=(
            heads(_lines(request, hops_ms, "edge-waited")) if request.get("edge-waited") else ()
        ),
        bodies=bodies,
        digests=tuple(
            xxhash.xxh3_128_hexdigest(body).encode() if body is not None else None
            for body in bodies
        ),
    )


def parse(request: Request, *, now_ms: float = 0.0) -> Object | Part | Version:
    """A PUT with its whole body, received at unix `now_ms`. Raises PushError (400 malformed, 422
    the body is not its digest)."""
    key = key_of(request.target)
    digest = _digest(request, "edge-digest")
    whole = _unpacked(request)
    if xxhash.xxh3_128_hexdigest(whole).encode() != digest:
        raise PushError(422, "digest", "edge-digest: found a body with another digest")
    if request.get("edge-version"):
        return _version(request, key, whole, now_ms)
    ttl_ms, hops_ms = _number(request, "edge-ttl"), _hops(request, now_ms)
    fields = _lines(request, hops_ms)
    if not request.get("edge-segment"):
        return Object(key=key, body=whole, digest=digest, ttl_ms=ttl_ms, fields=fields)
    final = request.get("edge-final") == "1"
    return Part(
        key=key,
        body=whole,
        digest=digest,
        ttl_ms=ttl_ms,
        fields=fields,
        hops_ms=hops_ms,
        segment=key_of(request.get("edge-segment"), "edge-segment"),
        offset=_number(request, "edge-offset"),
        segment_digest=_digest(request, "edge-segment-digest") if final else None,
    )
