"""What a push looks like on the wire: publication -> request (ARCHITECTURE.md, "Push").

Laws: pure functions. A request is signed when it is written, never when it is queued: a signature
is good for 30 s only. Media leaves from the publication's own buffers, never copied or compressed;
a playlist version is packed once with lz4, however many POPs it goes to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import lz4.block

from .model import Hops, MediaObject, PartObject, PlaylistVersion

Field = tuple[str, str]
Sign = Callable[[str, str, Sequence[Field]], str]

_PACKED: Final = 128  # versions kept packed: more than are on their way to POPs at once


@dataclass(frozen=True, slots=True)
class Removal:
    """Forget `path`: what is known under it is of another epoch, or will never be complete."""

    path: str


Pushed = MediaObject | PlaylistVersion | Removal


def size_of(item: Pushed) -> int:
    """Body bytes."""
    if isinstance(item, PlaylistVersion):
        return sum(len(body) for _, body in item.variants)
    return len(item.body) if isinstance(item, MediaObject) else 0


def _object_fields(item: MediaObject) -> list[Field]:
    fields = [
        ("Edge-Digest", item.digest),
        ("Edge-TTL", str(item.ttl_ms)),
        ("Content-Type", item.content_type),
        ("Cache-Control", item.cache_control),
        *_timing(item.hops),
    ]
    if isinstance(item, PartObject):
        fields += [("Edge-Segment", item.segment_path), ("Edge-Offset", str(item.offset))]
        if item.final:
            fields += [("Edge-Final", "1"), ("Edge-Segment-Digest", item.segment_digest or "")]
    return fields


@lru_cache(maxsize=_PACKED)
def _packed(version: PlaylistVersion) -> tuple[str, bytes]:
    """(digest of the variants, the variants as one lz4 block). The delta repeats the full text, so
    all four take a third of their size, for less work than a system call."""
    return version.digest, lz4.block.compress(version.body, store_size=False)


def _playlist_fields(version: PlaylistVersion, digest: str) -> list[Field]:
    variants = ",".join(f"{name}={len(body)}" for name, body in version.variants)
    waited = version.waited_cache_control
    return [
        ("Edge-Digest", digest),
        ("Edge-Coding", "lz4"),
        ("Edge-TTL", str(version.ttl_ms)),
        ("Edge-Version", ".".join(map(str, version.version))),
        ("Edge-Hold", str(version.hold_ms)),
        ("Edge-Advance", str(version.advance)),
        ("Edge-Ended", "1" if version.ended else "0"),
        ("Edge-Variants", variants),
        ("Content-Type", version.content_type),
        ("Cache-Control", version.cache_control),
        *([("Edge-Waited", waited)] if waited else []),
        *_timing(version.hops),
    ]


def _timing(hops: Hops | None) -> list[Field]:
    """What the ledger has, and when it was ready in unix ms."""
    if hops is None:
        return []
    return [("Edge-Timing", hops.timing), ("Edge-Ready", f"{1000 * hops.ready_s:.1f}")]


def render(
    item: Pushed, *, host: str, sign: Sign, epoch: str = ""
) -> tuple[bytes, Sequence[bytes]]:
    """The head of the request and the buffers of its body. epoch: of the timeline that a playlist
    or its removal speaks of."""
    fields: list[Field] = []
    body: Sequence[bytes] = ()
    method = "PUT"
    if isinstance(item, PlaylistVersion):
        digest, packed = _packed(item)
        fields, body = _playlist_fields(item, digest), [packed]
    elif isinstance(item, MediaObject):
        fields, body = _object_fields(item), [item.body]
    else:
        method = "DELETE"
    if epoch and not isinstance(item, MediaObject):
        fields.append(("Edge-Epoch", epoch))
    lines = [f"{method} {item.path} HTTP/1.1", f"Host: {host}"]
    if method == "PUT":
        lines.append(f"Content-Length: {sum(map(len, body))}")
    lines += [f"{name}: {value}" for name, value in fields]
    lines.append(f"Authorization: {sign(method, item.path, fields)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"), body
