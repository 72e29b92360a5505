"""Fragmented MP4 bytes, as an encoder writes them, to init sections and frames. Sans-IO.

Laws: linear in the bytes fed and never recursive; at most one box of `MAX_BOX` bytes is buffered.
Bad boxes inside good framing drop one fragment, counted by reason; when the framing itself is lost
the demuxer is `broken` for good, says why, and drops (and counts) whatever follows: its owner
restarts the encoder. `feed` never raises on input.
Knows one track a file (the encoder writes one pipe a track), and nothing of segments or clocks.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from edgecache.errors import EdgeError

MAX_BOX: Final = 16 << 20  # a 1080p key frame at 4.5 Mbit/s is below 1 MiB
MAX_SAMPLES: Final = 4096  # in one fragment; ours carry one

_NOT_SYNC: Final = 0x10000  # sample_is_non_sync_sample, ISO/IEC 14496-12 8.8.3.1
_U32: Final = struct.Struct(">I")
_HEAD: Final = struct.Struct(">I4s")


class CmafError(EdgeError):
    """Input that is not the fragmented MP4 we accept; `reason` is a counter label."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Init:
    """An init section (ftyp + moov) and what it says. Sizes in pixels, sample_rate in Hz; 0 when
    not of this kind. codec: RFC 6381."""

    body: bytes
    track_id: int
    timescale: int
    kind: Literal["video", "audio"]
    codec: str
    width: int = 0
    height: int = 0
    channels: int = 0
    sample_rate: int = 0
    default_duration: int = 0
    default_size: int = 0
    default_flags: int = 0
    config: bytes = b""  # what the codec's box has: avcC, esds …


class Frame(NamedTuple):
    """One sample, times in ticks of the track. A NamedTuple: built 5× faster than a frozen slotted
    dataclass, and this one is made for every frame of every rendition."""

    dts: int
    cts: int  # presentation offset, may be negative (trun v1)
    duration: int
    sync: bool
    data: bytes


class Demuxer:
    """Feed bytes in any slicing; get inits and frames in order. One per pipe and generation."""

    def __init__(self, *, max_box: int = MAX_BOX) -> None:
        self._buffer = bytearray()
        self._max_box = max_box
        self._position = 0  # of buffer[0] in the stream
        self._ftyp = b""
        self._init: Init | None = None
        self._moof = b""
        self._moof_at = 0
        self.broken: CmafError | None = None
        self.last = False  # the track is over: `mfra`, or a segment of brand `lmsg`
        self.dropped: Counter[str] = Counter()  # fragments, by reason; bytes under "bytes"

    def feed(self, data: bytes | bytearray | memoryview) -> list[Init | Frame]:
        """Whatever became complete with `data`, in stream order."""
        if self.broken:
            self.dropped["bytes"] += len(data)
            return []
        self._buffer += data
        found: list[Init | Frame] = []
        start = 0
        try:
            while (end := self._box_end(start)) is not None:
                self._box(start, end, found)
                start = end
        except CmafError as error:
            self.broken = error
            self.dropped["bytes"] += len(self._buffer) - start
            self._buffer.clear()
            return found
        del self._buffer[:start]
        self._position += start
        return found

    def _box_end(self, start: int) -> int | None:
        """End of the box at `start` when all of it is here. Raises CmafError on lost framing."""
        have = len(self._buffer) - start
        if have < 8:
            return None
        size, kind = _HEAD.unpack_from(self._buffer, start)
        if size == 1:  # 64-bit size follows
            if have < 16:
                return None
            (size,) = struct.unpack_from(">Q", self._buffer, start + 8)
            if size < 16:
                raise CmafError("framing", f"box {kind!r} of {size} bytes, want 16 or more")
        elif size < 8:  # 0 means "to the end of the file": a live pipe has none
            raise CmafError("framing", f"box {kind!r} of {size} bytes, want 8 or more")
        if size > self._max_box:
            raise CmafError("oversize", f"box {kind!r} of {size} bytes, allowed {self._max_box}")
        return start + size if have >= size else None

    def _box(self, start: int, end: int, found: list[Init | Frame]) -> None:
        kind = self._buffer[start + 4 : start + 8]
        if kind == b"moof":
            if self._moof:
                self.dropped["no_mdat"] += 1
            self._moof = bytes(self._buffer[start:end])
            self._moof_at = self._position + start
        elif kind == b"mdat":
            self._fragment(start, end, found)
        elif kind == b"mfra" or (kind == b"styp" and b"lmsg" in self._buffer[start:end]):
            self.last = True
        elif kind == b"ftyp":
            self._ftyp = bytes(self._buffer[start:end])
        elif kind == b"moov":
            try:
                self._init = parse_init(self._ftyp, bytes(self._buffer[start:end]))
            except CmafError as error:
                raise CmafError("moov", str(error)) from None  # nothing after it can be read
            found.append(self._init)

    def _fragment(self, start: int, end: int, found: list[Init | Frame]) -> None:
        moof, self._moof = self._moof, b""
        try:
            if self._init is None:
                raise CmafError("no_moov", "a fragment before the init section")
            if not moof:
                raise CmafError("no_moof", "an mdat without its moof")
            body = memoryview(self._buffer)[start:end]
            with body:
                # data offsets count from the moof, samples must lie in this mdat
                before = self._position + start - self._moof_at
                found += _Fragment(self._init, body, before).read(moof)
        except CmafError as error:
            self.dropped[error.reason] += 1


def children(box: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, payload start, end) of each box in box[start:end]. Raises CmafError."""
    while start < end:
        if end - start < 8:
            raise CmafError("truncated", f"{end - start} bytes left, a box needs 8")
        size, kind = _HEAD.unpack_from(box, start)
        if not 8 <= size <= end - start:
            raise CmafError("truncated", f"box {kind!r} of {size} bytes in {end - start}")
        yield kind, start + 8, start + size
        start += size


# --- fragments -------------------------------------------------------------------------------


class _Fragment:
    """One moof and its mdat, which starts `before` bytes after it. Samples lie in the mdat in order
    and apart, so that all of them together are no more bytes than were fed."""

    def __init__(self, init: Init, mdat: memoryview, before: int) -> None:
        self._init = init
        self._mdat = mdat
        self._before = before
        self._taken = 8  # bytes of the mdat
        self.frames: list[Frame] = []

    def read(self, moof: bytes) -> list[Frame]:
        """Its frames. Raises CmafError."""
        try:
            for kind, start, end in children(moof, 8, len(moof)):
                if kind == b"traf":
                    self._traf(moof, start, end)
        except (struct.error, IndexError):
            raise CmafError("truncated", "a field runs past its box") from None
        return self.frames

    def _traf(self, moof: bytes, start: int, end: int) -> None:
        init = self._init
        duration, size, flags = init.default_duration, init.default_size, init.default_flags
        dts: int | None = None
        for kind, at, stop in children(moof, start, end):
            if kind == b"tfhd":
                given, track = struct.unpack_from(">II", moof, at)
                if track != init.track_id:
                    raise CmafError("track", f"track {track}, the init section has {init.track_id}")
                if given & 1:
                    raise CmafError("base_offset", "absolute data offsets are not read")
                at += 8 + (4 if given & 2 else 0)
                if given & 0x08:
                    (duration,) = _U32.unpack_from(moof, at)
                    at += 4
                if given & 0x10:
                    (size,) = _U32.unpack_from(moof, at)
                    at += 4
                if given & 0x20:
                    (flags,) = _U32.unpack_from(moof, at)
            elif kind == b"tfdt":
                (dts,) = struct.unpack_from(">Q" if moof[at] else ">I", moof, at + 4)
            elif kind == b"trun":
                if dts is None:
                    raise CmafError("no_tfdt", "a run without a decode time")
                dts = self._trun(moof[at:stop], dts, (duration, size, flags))

    def _trun(self, run: bytes, dts: int, defaults: tuple[int, int, int]) -> int:
        """Take the run's frames; the decode time after it. 8.8.8: per-sample beats first-sample
        beats defaults. Raises CmafError, struct.error."""
        duration, size, flags = defaults
        given, count = struct.unpack_from(">II", run)
        if not given & 1:
            raise CmafError("no_offset", "a run without data offset")
        if len(self.frames) + count > MAX_SAMPLES:
            raise CmafError("samples", f"{count} more samples, allowed {MAX_SAMPLES} a fragment")
        cts_format, given = ">i" if given >> 24 else ">I", given & 0xFFFFFF
        (offset,) = struct.unpack_from(">i", run, 8)
        at, data_at = 12, offset - self._before
        first = flags
        if given & 4:
            (first,) = _U32.unpack_from(run, at)
            at += 4
        for index in range(count):
            sample_duration, sample_size, cts = duration, size, 0
            sample_flags = flags if index else first
            if given & 0x100:
                (sample_duration,) = _U32.unpack_from(run, at)
                at += 4
            if given & 0x200:
                (sample_size,) = _U32.unpack_from(run, at)
                at += 4
            if given & 0x400:
                (sample_flags,) = _U32.unpack_from(run, at)
                at += 4
            if given & 0x800:
                (cts,) = struct.unpack_from(cts_format, run, at)
                at += 4
            data = self._take(data_at, sample_size)
            self.frames.append(Frame(dts, cts, sample_duration, not sample_flags & _NOT_SYNC, data))
            data_at += sample_size
            dts += sample_duration
        return dts

    def _take(self, at: int, size: int) -> bytes:
        if at < self._taken or at + size > len(self._mdat):
            raise CmafError("outside", f"sample of {size} bytes at {at} of {len(self._mdat)}")
        self._taken = at + size
        return bytes(self._mdat[at : at + size])


# --- init sections ---------------------------------------------------------------------------


def parse_init(ftyp: bytes, moov: bytes) -> Init:
    """What the init section `ftyp + moov` (whole boxes) says of its one track. Raises CmafError."""
    try:
        boxes: dict[bytes, tuple[int, int]] = {}
        _collect(moov, 8, len(moov), boxes)
        return _init(ftyp + moov, moov, boxes)
    except (struct.error, IndexError):
        raise CmafError("truncated", "a field of the init section runs past its box") from None


_CONTAINERS: Final = frozenset((b"trak", b"mdia", b"minf", b"stbl", b"mvex"))


def _collect(moov: bytes, start: int, end: int, boxes: dict[bytes, tuple[int, int]]) -> None:
    """Payload ranges of the boxes of the only track, containers opened breadth first."""
    pending = [(start, end)]
    while pending:
        for kind, at, stop in children(moov, *pending.pop()):
            if kind in (b"trak", b"trex") and kind in boxes:
                raise CmafError("tracks", "more than one track in a file")
            boxes[kind] = (at, stop)
            if kind in _CONTAINERS:
                pending.append((at, stop))


def _init(body: bytes, moov: bytes, boxes: dict[bytes, tuple[int, int]]) -> Init:
    for kind in (b"tkhd", b"mdhd", b"stsd"):
        if kind not in boxes:
            raise CmafError("missing", f"no {kind.decode()} box")
    tkhd, mdhd = boxes[b"tkhd"][0], boxes[b"mdhd"][0]
    (track_id,) = _U32.unpack_from(moov, tkhd + (20 if moov[tkhd] else 12))
    (timescale,) = _U32.unpack_from(moov, mdhd + (20 if moov[mdhd] else 12))
    if not 1 <= timescale <= 10_000_000:
        raise CmafError("timescale", f"{timescale} ticks/s, allowed 1 to 10000000")
    defaults = (0, 0, 0)
    if b"trex" in boxes:
        defaults = struct.unpack_from(">III", moov, boxes[b"trex"][0] + 12)
    at, stop = boxes[b"stsd"]
    kind, entry, entry_end = next(children(moov, at + 8, stop), (b"", 0, 0))
    if kind in _AUDIO:
        width = height = 0
        channels, _, _, rate = struct.unpack_from(">HHII", moov, entry + 16)
        sample_rate, configs = rate >> 16, entry + 28
    elif kind in _VIDEO:
        channels = sample_rate = 0
        width, height = struct.unpack_from(">HH", moov, entry + 24)
        configs = entry + 78
    else:
        raise CmafError("codec", f"sample entry {kind!r}, allowed {_ALLOWED}")
    config_kind, describe = (_AUDIO | _VIDEO)[kind]
    config = {k: moov[a:e] for k, a, e in children(moov, configs, entry_end)}.get(config_kind)
    if config is None:
        raise CmafError("codec", f"sample entry {kind!r} without {config_kind.decode()}")
    suffix, configured = describe(config)
    return Init(
        body=body,
        track_id=track_id,
        timescale=timescale,
        kind="audio" if kind in _AUDIO else "video",
        codec=f"{kind.decode()}.{suffix}" if suffix else kind.decode().lower(),
        width=width,
        height=height,
        channels=configured or channels,
        sample_rate=sample_rate,
        default_duration=defaults[0],
        default_size=defaults[1],
        default_flags=defaults[2],
        config=config,
    )


def _avc(config: bytes) -> tuple[str, int]:
    """Like all of these: what follows "avc1." in the codec string, and channels if it says so."""
    return config[1:4].ljust(3, b"\0").hex().upper(), 0


def _hevc(config: bytes) -> tuple[str, int]:
    """ISO/IEC 14496-15 E.3: profile space and idc, compatibility reversed, tier and level,
    constraint bytes without trailing zeros."""
    space, tier, profile = config[1] >> 6, config[1] >> 5 & 1, config[1] & 31
    (compatible,) = _U32.unpack_from(config, 2)
    constraints = "".join(f".{byte:X}" for byte in config[6:12].rstrip(b"\0"))
    letters = f"{['', 'A', 'B', 'C'][space]}{profile}.{int(f'{compatible:032b}'[::-1], 2):X}"
    return f"{letters}.{'LH'[tier]}{config[12]}{constraints}", 0


def _av1(config: bytes) -> tuple[str, int]:
    """AV1 in ISOBMFF section 5: profile, level and tier, bit depth."""
    depth = 8 if not config[2] & 0x40 else 12 if config[2] & 0x20 else 10
    return f"{config[1] >> 5}.{config[1] & 31:02d}{'MH'[config[2] >> 7]}.{depth:02d}", 0


def _opus(config: bytes) -> tuple[str, int]:
    return "", config[1]


def _aac(config: bytes) -> tuple[str, int]:
    """Object type and channels from the AudioSpecificConfig: an encoder may write 2 channels into
    the sample entry of a mono track (ISO/IEC 14496-14)."""
    at = 4 + descriptor(config, 4, 3) + 3  # ES_ID and flags
    at += descriptor(config, at, 4)
    if config[at] != 0x40:
        return f"{config[at]:02X}", 0
    at += 13
    at += descriptor(config, at, 5)
    bits = int.from_bytes(config[at : at + 5].ljust(5, b"\0"), "big")
    kind, rate, channels = bits >> 35, bits >> 31 & 15, bits >> 27 & 15
    if rate == 15 or kind == 31:  # explicit rate, escaped type: not what any live encoder writes
        return f"40.{kind}", 0
    return f"40.{kind}", channels if channels < 7 else 8


def descriptor(config: bytes, at: int, tag: int) -> int:
    """Bytes of the head (tag, length) of the MPEG-4 descriptor at `at`. Raises CmafError."""
    if config[at] != tag:
        raise CmafError("esds", f"descriptor {config[at]} at {at}, want {tag}")
    for length in range(2, 6):
        if not config[at + length - 1] & 0x80:
            return length
    raise CmafError("esds", "a descriptor length of more than 4 bytes")


_VIDEO: Final = {
    b"avc1": (b"avcC", _avc),
    b"avc3": (b"avcC", _avc),
    b"hvc1": (b"hvcC", _hevc),
    b"hev1": (b"hvcC", _hevc),
    b"av01": (b"av1C", _av1),
}
_AUDIO: Final = {b"mp4a": (b"esds", _aac), b"Opus": (b"dOps", _opus)}
_ALLOWED: Final = ", ".join(kind.decode() for kind in (*_VIDEO, *_AUDIO))
