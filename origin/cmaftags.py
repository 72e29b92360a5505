"""A track's init section and frames -> the bodies of FLV tags that say the same.

Laws: pure; samples go on as they are. Times are of the presentation: the edit list's beginning
(ISO/IEC 14496-12 8.6.6) is taken off, so that what ffmpeg's muxers and others put before a track's
start (priming, reordered pictures) moves nothing. Sources: Adobe FLV annex E; Enhanced RTMP v2 for
four-character codes; "Encapsulation of Opus in ISOBMFF" 4.3.2 against RFC 7845 5.1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from edgecache import amf
from edgecache.flv import AUDIO, VIDEO

from .cmaf import CmafError, Frame, Init, children, descriptor

_CONFIG, _CODED = 0, 1  # packet types
_KEY, _INTER = 1, 2  # frame types
_AVC, _AAC = 7, 0xAF
_IN_FLV: Final = {  # sample entry -> four-character code
    "avc1": "avc1",
    "avc3": "avc1",
    "hvc1": "hvc1",
    "hev1": "hvc1",
    "av01": "av01",
    "mp4a": "mp4a",
    "opus": "Opus",
}
_TIMED: Final = frozenset(("avc1", "hvc1"))  # packets have a composition time
_AAC_PREFIX: Final = "mp4a.40"
_EMPTY: Final = -1


@dataclass(frozen=True, slots=True)
class Tags:
    """What one init section means for FLV. kind: of its tags; config: the body of the tag with the
    sequence header; size: (width, height), (0, 0) for sound."""

    init: Init
    kind: int
    code: str
    config: bytes
    shift_ms: int  # added to decode times

    @property
    def size(self) -> tuple[int, int]:
        return self.init.width, self.init.height

    def at_ms(self, frame: Frame) -> int:
        """Its decode time; may be negative."""
        return self._ms(frame.dts) + self.shift_ms

    def fps(self, frame: Frame) -> float:
        return self.init.timescale / frame.duration if frame.duration else 0.0

    def body(self, frame: Frame) -> bytes:
        """Of the tag of a frame."""
        if self.kind == AUDIO:
            return _head(AUDIO, self.code, _KEY, _CODED) + frame.data
        kind = _KEY if frame.sync else _INTER
        later = b""
        if self.code in _TIMED:
            later = (self._ms(frame.cts) & 0xFFFFFF).to_bytes(3, "big")
        return _head(VIDEO, self.code, kind, _CODED) + later + frame.data

    def _ms(self, ticks: int) -> int:
        return (ticks * 1000 + self.init.timescale // 2) // self.init.timescale


def tags_of(init: Init) -> Tags:
    """Raises CmafError for a codec that has no place in FLV, or a section that is cut short."""
    code = _IN_FLV.get(init.codec.partition(".")[0])
    if code is None or (code == "mp4a" and not init.codec.startswith(_AAC_PREFIX)):
        raise CmafError("codec", f"{init.codec}; send H.264, HEVC or AV1 with AAC or Opus")
    try:
        config = {"mp4a": _specific, "Opus": _opus_head}.get(code, bytes)(init.config)
        shift_ms = _shift_ms(init)
    except (struct.error, IndexError):
        raise CmafError("truncated", "a field of the init section runs past its box") from None
    if not init.config:  # ffmpeg's `tee` writes it so, unless it is told `-flags +global_header`
        raise CmafError("codec", f"{init.codec} without its configuration")
    kind = AUDIO if init.kind == "audio" else VIDEO
    later = b"\0\0\0" if code == "avc1" else b""
    return Tags(init, kind, code, _head(kind, code, _KEY, _CONFIG) + later + config, shift_ms)


def metadata(picture: Tags | None, sound: Tags | None, fps: float) -> bytes:
    """The body of onMetaData: which tracks there are, and what players are told of the picture."""
    told: dict[str, amf.Value] = {}
    if picture is not None:
        width, height = picture.size
        told |= {"width": float(width), "height": float(height), "framerate": fps}
        told["videocodecid"] = float(_AVC)
    if sound is not None:
        told["audiocodecid"] = float(_AAC >> 4)
    return amf.encode("onMetaData", told)


def _head(kind: int, code: str, frame: int, packet: int) -> bytes:
    if code == "avc1":
        return bytes((frame << 4 | _AVC, packet))
    if code == "mp4a":
        return bytes((_AAC, packet))
    return bytes((0x90 | packet if kind == AUDIO else 0x80 | frame << 4 | packet,)) + code.encode()


def _specific(esds: bytes) -> bytes:
    """The AudioSpecificConfig. Raises CmafError, IndexError."""
    at = 4 + descriptor(esds, 4, 3) + 3  # ES_ID and flags
    at += descriptor(esds, at, 4) + 13
    head = descriptor(esds, at, 5)
    size = 0
    for byte in esds[at + 1 : at + head]:
        size = size << 7 | byte & 0x7F
    return esds[at + head : at + head + size]


def _opus_head(dops: bytes) -> bytes:
    """Big-endian in MP4, little-endian behind a magic elsewhere. Raises struct.error."""
    _, channels, skip, rate, gain = struct.unpack_from(">BBHIh", dops)
    return b"OpusHead" + struct.pack("<BBHIh", 1, channels, skip, rate, gain) + dops[10:]


def _shift_ms(init: Init) -> int:
    """What the edit list moves decode times by: an empty edit first is a delay, the media time of
    the first other one comes off. Raises CmafError, struct.error."""
    edits = _payload(init.body, b"moov", b"trak", b"edts", b"elst")
    if not edits:
        return 0
    form = ">Qq4x" if edits[0] else ">Ii4x"
    count = min(struct.unpack_from(">I", edits, 4)[0], 2)
    delay: int = 0
    for index in range(count):
        duration, media = struct.unpack_from(form, edits, 8 + index * struct.calcsize(form))
        if media != _EMPTY:
            return delay - int(media) * 1000 // init.timescale
        movie = _payload(init.body, b"moov", b"mvhd")
        (timescale,) = struct.unpack_from(">I", movie, 20 if movie[0] else 12)
        delay = int(duration) * 1000 // max(1, timescale)
    return delay


def _payload(body: bytes, *path: bytes) -> bytes:
    """What is in the first box at `path`; b"" if there is none. Raises CmafError."""
    start, end = 0, len(body)
    for kind in path:
        found = next((box for box in children(body, start, end) if box[0] == kind), None)
        if found is None:
            return b""
        _, start, end = found
    return body[start:end]
