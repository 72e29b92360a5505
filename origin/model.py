"""Values that leave the packaging half of the origin: what is pushed, stored and served.

Laws: all frozen; the bytes behind a path never change, except that a playlist path holds versions,
each newer than the one before. Lists of publications are in truth order: nothing is named before it
exists. Knows nothing of files, sockets or HTTP framing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import xxhash

Kind = Literal["video", "audio", "text"]

PLAYLIST_TYPE: Final = "application/vnd.apple.mpegurl"
MPD_TYPE: Final = "application/dash+xml"
VIDEO_TYPE: Final = "video/mp4"
AUDIO_TYPE: Final = "audio/mp4"
TEXT_TYPE: Final = "text/vtt"
_TYPES: Final[dict[Kind, str]] = {"video": VIDEO_TYPE, "audio": AUDIO_TYPE, "text": TEXT_TYPE}


def digest_of(body: bytes) -> str:
    """xxh3-128 of `body`, 32 hex digits: the digest all our processes compare."""
    return xxhash.xxh3_128_hexdigest(body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendition:
    """One track of a stream as planned; codecs and picture size are corrected by its init section.

    bandwidth, average_bandwidth: bit/s. codecs: RFC 6381, "" while unknown. width, height: pixels;
    frame_rate: frames/s; channels, sample_rate (Hz): each 0 for what it does not apply to.
    language: RFC 5646, "" when not said. name: for people, "" for the track's. key_bandwidth: peak
    of its key frames alone, bit/s; 0: no I-frame playlist.
    """

    track: str
    kind: Kind
    bandwidth: int
    average_bandwidth: int
    codecs: str = ""
    width: int = 0
    height: int = 0
    frame_rate: float = 0.0
    channels: int = 0
    sample_rate: int = 0
    language: str = ""
    name: str = ""
    key_bandwidth: int = 0

    @property
    def content_type(self) -> str:
        """Of its segments."""
        return _TYPES[self.kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hops:
    """What the newest media of a part went through here: seconds in each hop (ledger.py), and the
    unix time in s when it was ready."""

    capture_s: float
    encode_s: float
    package_s: float
    ready_s: float

    @property
    def timing(self) -> str:
        """`name=ms` of each hop: how our processes tell each other (Edge-Timing)."""
        hops = (("capture", self.capture_s), ("encode", self.encode_s), ("package", self.package_s))
        return ",".join(f"{name}={1000 * seconds:.1f}" for name, seconds in hops)


class Kept(NamedTuple):
    """What a recording knows of a segment, and the row that it is written as. size: bytes; digest:
    xxh3-128; the rest as in timeline.Segment. Times in ns; wall_ns: wall clock of its first sample;
    epoch: as in its path."""

    msn: int
    size: int
    digest: str
    generation: int
    start_ns: int
    end_ns: int
    wall_ns: int
    discontinuity: int
    key_bytes: int
    epoch: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaObject:
    """An immutable named body, here an init section. ttl_ms: how long a cache must keep it. hops:
    of a part made live here. rendition: of an init and a final part, what the encoder made."""

    path: str
    body: bytes
    digest: str
    content_type: str
    cache_control: str
    ttl_ms: int
    hops: Hops | None = None
    rendition: Rendition | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartObject(MediaObject):
    """A part. A segment is the bytes of its parts in order, so it is never published by itself.

    offset: bytes, where the part starts in `segment_path`. final: the segment is complete with it,
    and only then `segment_digest` (xxh3-128 of the whole segment) and `kept` are set. index: part
    in segment.
    """

    segment_path: str
    offset: int
    final: bool
    segment_digest: str | None
    duration_s: float
    independent: bool
    track: str
    msn: int
    index: int
    kept: Kept | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaylistVersion:
    """One version of a playlist or of the MPD. Segment `msn` is the first that is not complete,
    `parts` of its parts are listed, segment `msn - 1` had `last_parts`.

    hold_ms: longest wait of a blocking reload, 0 when it never blocks. advance: how many parts past
    the newest may be asked for (Advance Part Limit). ended: carries ENDLIST. delta2: the delta
    update of `_HLS_skip=v2`. A variant that is None does not exist: the full one answers instead.
    hops: of the newest part.
    """

    path: str
    msn: int
    parts: int
    last_parts: int
    hold_ms: int
    advance: int
    ended: bool
    ttl_ms: int
    cache_control: str
    full: bytes
    full_gzip: bytes
    content_type: str = PLAYLIST_TYPE
    delta: bytes | None = None
    delta_gzip: bytes | None = None
    delta2: bytes | None = None
    delta2_gzip: bytes | None = None
    hops: Hops | None = None

    @property
    def version(self) -> tuple[int, int, int]:
        """(msn, parts, last_parts): grows strictly along the versions of one path."""
        return (self.msn, self.parts, self.last_parts)

    @property
    def waited_cache_control(self) -> str:
        """Of answers to blocking requests, each of which is one version for good: six target
        durations (RFC 8216bis B.1). "" when nobody is held."""
        return (
            f"public, max-age={2 * self.hold_ms // 1000}" if self.hold_ms and not self.ended else ""
        )

    @property
    def variants(self) -> tuple[tuple[str, bytes], ...]:
        """The variants that exist, as (name, bytes), in the order they are pushed."""
        named = (
            ("full", self.full),
            ("full.gzip", self.full_gzip),
            ("delta", self.delta),
            ("delta.gzip", self.delta_gzip),
            ("delta2", self.delta2),
            ("delta2.gzip", self.delta2_gzip),
        )
        return tuple((name, body) for name, body in named if body is not None)

    @property
    def body(self) -> bytes:
        """All variants concatenated: the body of a push."""
        return b"".join(body for _, body in self.variants)

    @property
    def digest(self) -> str:
        """xxh3-128 of `body`."""
        return digest_of(self.body)


Publication = MediaObject | PartObject | PlaylistVersion
