"""Frames of one track to parts of segments, on the time grid all renditions share. Sans-IO.

Laws: segment number = floor(decode time ÷ segment length), so renditions and generations agree
without talking. Video opens a segment on a sync frame only, which may come `Timing.early_ms` before
its time; audio is cut by the middle of its frames and so gets the same numbers. A part leaves as
soon as the next frame would not fit it, is never longer than the part target nor, but for the last
one of a segment, shorter than 85 % of it (4.4.4.9); the last one says so, and nothing is added to a
segment after that. Holds at most one part of frames. Frames that cannot be placed are dropped and
counted by reason.
Knows nothing of names, playlists or wall clocks.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from origin.cmaf import Frame, Init
from origin.timing import NS, Timing

MAX_AHEAD: Final = 8  # segments a frame may jump; an encoder that jumps further is wrong

_SYNC_FLAGS: Final = 0x02000000  # sample_depends_on = 2: on no other
_OTHER_FLAGS: Final = 0x01010000  # depends on others, not a sync sample

# ISO BMFF says readers skip `free`. Closes a segment whose last part turned out to be the last only
# after it had left (the encoder died between two parts), so that the segment's bytes can be final.
CLOSING: Final = struct.pack(">I4s", 8, b"free")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One part: `body` is a moof + mdat, or two of them where it begins with a key frame; times in
    ns of media time. A part of no duration is the `CLOSING` one, and is not to be listed.
    key_bytes: length of the fragment that `body` begins with, when that is a video key frame and
    nothing else: it can be decoded alone (I-frame playlists); 0 otherwise."""

    msn: int
    index: int
    body: bytes
    start_ns: int
    end_ns: int
    independent: bool
    final: bool
    key_bytes: int = 0


class Packager:
    """One track of one encoder generation, from its segment `first_msn` on."""

    def __init__(self, *, init: Init, timing: Timing, first_msn: int) -> None:
        self._init = init
        self._video = init.kind == "video"
        self._scale = init.timescale
        # ticks × _per ÷ _unit = parts; exact for any segment length that is whole milliseconds
        self._per = 1000 * timing.parts
        self._unit = timing.segment_ms * init.timescale
        self._parts = timing.parts
        self._early = timing.early_ms * self._scale // 1000
        self._longest = timing.part_target_ns * self._scale // NS
        self._shortest = -(-timing.part_least_ns * self._scale // NS)
        self._first_msn = first_msn
        self._msn: int | None = None  # open segment
        self._closed = first_msn - 1  # newest segment nothing may be added to
        self._index = 0  # of the part being made
        self._slot = 0  # of the part being made, in parts since _origin
        self._origin = 0  # ticks
        self._frames: list[Frame] = []
        self._phase: int | None = None if self._video else 0  # of key frames behind the grid
        self._last_dts = -1
        self._end_dts = 0
        self._sequence = 0
        self.dropped: Counter[str] = Counter()  # frames, by reason
        self.packaged = 0  # frames

    @property
    def waiting(self) -> int:
        """Frames of the part being made."""
        return len(self._frames)

    def push(self, frame: Frame) -> list[Cut]:
        """The parts that are complete with (or before) `frame`: none, one, rarely two."""
        msn = self._place(frame)
        if isinstance(msn, str):
            self.dropped[msn] += 1
            return []
        cuts: list[Cut] = []
        if msn != self._msn:
            if self._msn is not None:
                cuts += self._end_segment()
            self._open(msn, frame)
        elif self._frames and not self._fits(frame):  # a jump that `_done` could not foresee
            cuts.append(self._end_part(final=False))
        if not self._frames:
            self._align(frame)
        self._frames.append(frame)
        self._last_dts, self._end_dts = frame.dts, frame.dts + frame.duration
        self._done(frame, cuts)
        return cuts

    def flush(self, picture_msn: int | None = None) -> list[Cut]:
        """The generation ended: what is open becomes the short end of its segment. Sound does not
        begin one, with less than a part, that no picture begins (`picture_msn` is the first of
        those): it would be a gap of all pictures, for as little as one frame of sound."""
        if self._msn is None:
            return []
        alone = not self._video and picture_msn is not None and self._msn >= picture_msn
        if alone and not self._index:
            self.dropped["alone"] += len(self._frames)
            self._frames, self._closed, self._msn = [], self._msn, None
            return []
        return self._end_segment()

    # --- where a frame belongs

    def _place(self, frame: Frame) -> int | str:
        """Segment of `frame`, or why it is dropped."""
        if frame.dts <= self._last_dts:
            return "backward"
        if frame.duration * 1000 > self._unit:
            return "long"  # than a segment
        newest = self._closed if self._msn is None else self._msn
        msn = self._segment_at(frame.dts, frame.duration)
        if self._video and frame.sync and msn == newest:
            msn = self._segment_at(frame.dts + self._early, 0)
        if msn > newest + MAX_AHEAD:
            return "ahead"
        if self._msn is not None and msn <= self._msn:
            return self._msn
        if msn < self._first_msn:
            return "early"  # encoder delay before the generation's offset
        if msn <= self._closed:
            if self._video:
                return "closed"
            msn = self._closed + 1
        if self._video and not frame.sync:
            return "no_key"
        return msn

    def _segment_at(self, dts: int, duration: int) -> int:
        time = dts - (self._phase or 0) if self._video else dts + duration // 2
        return time * self._per // self._unit // self._parts

    def _open(self, msn: int, frame: Frame) -> None:
        self._msn, self._index, self._slot = msn, 0, 0
        # audio keeps to the grid; video counts from its key frame, which may be off it
        grid = -(-msn * self._parts * self._unit // self._per)
        self._origin = frame.dts if self._video else grid
        if self._phase is None:
            # An encoder whose first key frame is a frame late has all of them late (seen with
            # ffmpeg 9 and the fps filter): follow it, or each segment would lose that frame.
            late = frame.dts - grid
            self._phase = late if 0 <= late <= self._early else 0

    def _slot_of(self, dts: int, duration: int) -> int:
        time = dts - self._origin + (0 if self._video else duration // 2)
        return time * self._per // self._unit

    def _align(self, frame: Frame) -> None:
        """The first frame of a part decides its slot; slots passed over are not made up for."""
        self._slot = max(self._slot, self._slot_of(frame.dts, frame.duration))

    def _fits(self, frame: Frame) -> bool:
        """By its time, or because the part would be too short without it: where a part is not a
        whole number of frames, a slot may have one frame less than the target."""
        before = frame.dts - self._frames[0].dts
        if before + frame.duration > self._longest:
            return False
        in_slot = self._slot_of(frame.dts, frame.duration) <= self._slot
        return in_slot or before < self._shortest

    # --- making parts

    def _done(self, frame: Frame, cuts: list[Cut]) -> None:
        """Let the part go when a next frame like this one would not fit it."""
        following = frame._replace(dts=self._end_dts)
        if self._segment_at(following.dts, following.duration) > self._msn_open():
            cuts += self._end_segment()
        elif not self._fits(following):
            cuts.append(self._end_part(final=False))
            if self._slot_of(following.dts, following.duration) < self._slot:
                # cut short by the part target: the grid moves, or a sliver would follow
                self._origin = following.dts + -self._slot * self._unit // self._per

    def _msn_open(self) -> int:
        assert self._msn is not None
        return self._msn

    def _end_segment(self) -> list[Cut]:
        msn = self._msn_open()
        if self._frames:
            cut = self._end_part(final=True)
        else:
            now = self._end_dts * NS // self._scale
            cut = Cut(
                msn=msn,
                index=self._index,
                body=CLOSING,
                start_ns=now,
                end_ns=now,
                independent=False,
                final=True,
            )
        self._closed, self._msn = msn, None
        return [cut]

    def _end_part(self, *, final: bool) -> Cut:
        frames, self._frames = self._frames, []
        self.packaged += len(frames)
        end = frames[-1].dts + frames[-1].duration
        key = b""
        if self._video and frames[0].sync:
            key = self._fragment(frames[:1])
        body = key + self._fragment(frames[1:]) if key and len(frames) > 1 else key
        cut = Cut(
            msn=self._msn_open(),
            index=self._index,
            body=body or self._fragment(frames),
            start_ns=frames[0].dts * NS // self._scale,
            end_ns=end * NS // self._scale,
            independent=not self._video or any(frame.sync for frame in frames),
            final=final,
            key_bytes=len(key),
        )
        self._index += 1
        self._slot += 1
        return cut

    def _fragment(self, frames: list[Frame]) -> bytes:
        self._sequence += 1
        return fragment(self._init, frames, self._sequence)


def fragment(init: Init, frames: list[Frame], sequence: int) -> bytes:
    """One moof + mdat of `frames`: default-base-is-moof, tfdt and trun version 1. What all samples
    share goes into tfhd: 10 frames take a moof of 140 bytes, 10 moofs of one frame took 1040."""
    durations = [b.dts - a.dts for a, b in pairwise(frames)]
    durations.append(frames[-1].duration)
    sizes = [len(frame.data) for frame in frames]
    flags = [_SYNC_FLAGS if frame.sync else _OTHER_FLAGS for frame in frames]
    offsets = [frame.cts for frame in frames]
    columns, given = [sizes], 0x201
    if len(set(durations)) > 1:
        columns, given = [durations, sizes], given | 0x100
    if len(set(flags[1:])) > 1:
        columns, given = [*columns, flags], given | 0x400
    elif flags[0] != flags[-1]:
        given |= 0x4
    if any(offsets):
        columns, given = [*columns, offsets], given | 0x800
    rows = b"".join(
        struct.pack(f">{len(columns)}I", *(value & 0xFFFFFFFF for value in row))
        for row in zip(*columns, strict=True)
    )
    first = struct.pack(">I", flags[0]) if given & 0x4 else b""
    # tfhd: default-base-is-moof, and defaults for duration (0x8) and flags (0x20)
    tfhd = struct.pack(">IIII", 0x020028, init.track_id, durations[0], flags[-1])
    size = 8 + 16 + 8 + (8 + len(tfhd)) + 20 + 20 + len(first) + len(rows)
    trun = struct.pack(">IIi", 0x01000000 | given, len(frames), size + 8) + first + rows
    traf = _box(b"tfhd", tfhd) + _box(b"tfdt", struct.pack(">IQ", 0x01000000, frames[0].dts))
    traf = _box(b"traf", traf + _box(b"trun", trun))
    moof = _box(b"moof", _box(b"mfhd", struct.pack(">II", 0, sequence)) + traf)
    return b"".join((moof, struct.pack(">I4s", 8 + sum(sizes), b"mdat"), *(f.data for f in frames)))


def _box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(payload), kind) + payload
