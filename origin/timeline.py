"""The truth of one stream: what was made, in which order, and what a viewer may still ask for.

Laws: append-only. A segment is complete once and never changes after; segments leave only from the
front of the window, so media sequence and discontinuity numbers never go back. All tracks begin a
generation (an encoder run) at the same segment; what a track lacks before that is a gap. Bounds:
the window plus the availability time of what left it (`forget` says when that is over).
Times are ns of media time unless named wall. Knows nothing of bytes, playlists or frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from origin import names
from origin.markers import Marker, Markers
from origin.model import Rendition
from origin.timing import NS, Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A listed part. key_bytes: see packager.Cut."""

    path: str
    start_ns: int
    end_ns: int
    independent: bool
    key_bytes: int = 0


@dataclass(slots=True, kw_only=True)
class Generation:
    """One run of the encoder. epoch, number: as in the paths of what it makes. anchor_wall_ns: wall
    clock at media time 0 of the grid. discontinuity: set by its first segment, which is when it
    begins for viewers. gaps: numbers that some track lacks, in the window and the last one before
    it."""

    epoch: str
    number: int
    first_msn: int
    anchor_wall_ns: int
    discontinuity: int | None = None
    gaps: set[int] = field(default_factory=set)

    def wall_ns(self, segment_ns: int) -> int:
        """Wall clock where it begins, which is time 0 of the encoder's input."""
        return self.anchor_wall_ns + self.first_msn * segment_ns


@dataclass(slots=True, kw_only=True)
class Segment:
    """One segment of a track; mutable until `complete`. A gap has no parts and no bytes.
    tagged: a discontinuity lies between it and the one before. key_bytes: how much of its front is
    its key frame alone, 0 for audio. settled: see manifest."""

    msn: int
    path: str
    generation: Generation
    tagged: bool
    start_ns: int
    end_ns: int
    parts: list[Part] = field(default_factory=list)
    complete: bool = False
    gap: bool = False
    key_bytes: int = 0
    settled: str = ""

    @property
    def duration_ns(self) -> int:
        return self.end_ns - self.start_ns

    @property
    def wall_ns(self) -> int:
        """Wall clock of its first sample."""
        return self.generation.anchor_wall_ns + self.start_ns

    @property
    def discontinuity(self) -> int:
        """Discontinuity Sequence Number."""
        return self.generation.discontinuity or 0


class Track:
    """One rendition's segments: the window, and behind it those still to be served."""

    def __init__(self, rendition: Rendition, first_msn: int) -> None:
        self.rendition = rendition
        self.segments: deque[Segment] = deque()
        self.retired: deque[Segment] = deque()
        self.fresh: deque[Segment] = deque()  # those whose parts can still be had
        self.inits: dict[int, str] = {}  # generation number -> path
        self.made: dict[int, Rendition] = {}  # generation number -> what its encoder made
        self.next_msn = first_msn  # of the segment to open after the open one, if any

    @property
    def open(self) -> Segment | None:
        if self.segments and not self.segments[-1].complete:
            return self.segments[-1]
        return None

    def made_in(self, number: int) -> Rendition | None:
        """What it was in a generation; None before its init section, which text has none of."""
        return self.rendition if self.rendition.kind == "text" else self.made.get(number)

    @property
    def version(self) -> tuple[int, int, int]:
        """(msn, parts, last_parts): see model.PlaylistVersion."""
        if self.open is None:
            last = len(self.segments[-1].parts) if self.segments else 0
            return (self.next_msn, 0, last)
        last = len(self.segments[-2].parts) if len(self.segments) > 1 else 0
        return (self.next_msn - 1, len(self.open.parts), last)

    @property
    def end_ns(self) -> int:
        return self.segments[-1].end_ns if self.segments else 0

    @property
    def first_listed(self) -> int:
        return self.segments[0].msn if self.segments else self.next_msn


class Timeline:
    """All tracks of one stream. epoch: of the names that are given from now on. Methods are called
    in the order things happened."""

    def __init__(
        self,
        *,
        stream: str,
        epoch: str,
        timing: Timing,
        renditions: Sequence[Rendition],
        first_msn: int,
    ) -> None:
        self.stream = stream
        self.epoch = epoch
        self.timing = timing
        self.tracks = {r.track: Track(r, first_msn) for r in renditions}
        self.generations: list[Generation] = []
        self.markers = Markers()
        self.ended = self.running = False  # running: an encoder makes the newest generation
        self.recorded = False  # whole and fixed from the beginning: see archive/recording.py
        self.discontinuities = 0

    def begin_generation(self, *, wall_ns: int) -> Generation:
        """`wall_ns`: when the media at the returned generation's first segment arrived. Never lets
        dates go back: an encoder that is fed the current GOP again repeats up to a GOP of media,
        and a date must not map to two places (6.2.1)."""
        self.level()
        first_msn = self.next_msn
        anchor = wall_ns - first_msn * self.timing.segment_ns
        newest = [track.segments[-1] for track in self.tracks.values() if track.segments]
        ends = [segment.wall_ns + segment.duration_ns for segment in newest]
        floor = max(ends, default=0) - first_msn * self.timing.segment_ns
        # Whole milliseconds, because players cut dates there: video on the grid is dated exactly.
        generation = Generation(
            epoch=self.epoch,
            number=len(self.generations),
            first_msn=first_msn,
            anchor_wall_ns=-(-max(anchor, floor) // 1_000_000) * 1_000_000,
        )
        self.generations.append(generation)
        self.running = True
        return generation

    def set_init(self, name: str, path: str, rendition: Rendition) -> None:
        """The init section of the track for the newest generation, and what it corrected."""
        track = self.tracks[name]
        number = self.generations[-1].number
        track.inits[number] = path
        track.made[number] = track.rendition = rendition

    def add_part(self, name: str, msn: int, part: Part, *, final: bool) -> None:
        """A part of segment `msn`, the open one or one that is opened; skipped ones are gaps."""
        track = self.tracks[name]
        if track.open is None:
            self.skip(track, msn, self._begun())
            start_ns = part.start_ns
            segment = self._new(track, self._begun(), start_ns=start_ns, end_ns=start_ns)
            self.append(track, segment)
        segment = track.segments[-1]
        if segment.msn != msn:
            raise ValueError(f"{name}: part of segment {msn} while {segment.msn} is open")
        if not segment.parts:
            segment.key_bytes = part.key_bytes
        segment.parts.append(part)
        segment.end_ns = part.end_ns  # of the media, so that durations add up to decode times
        if final:
            self.close(name)

    def close(self, name: str) -> None:
        """The open segment, if any, is complete with the parts it has."""
        track = self.tracks[name]
        if track.open is not None:
            track.open.complete = True
            self.evict(track)

    def level(self) -> list[str]:
        """Make all tracks end with the same segment: gaps where one is missing. Returns whose
        playlist changed. Only between generations."""
        self.running = False
        msn = self.next_msn
        for name in self.tracks:
            self.close(name)
        behind = [name for name, track in self.tracks.items() if track.next_msn < msn]
        for name in behind:
            self.skip(self.tracks[name], msn, self._begun())
        return behind

    def mark(self, marker: Marker) -> None:
        """An event, told with the next versions. Raises MarkerError."""
        self.markers.tell(marker, at_ns=self.end_ns)

    @property
    def end_ns(self) -> int:
        """Of the track that is furthest."""
        return max(track.end_ns for track in self.tracks.values())

    def dated(self, wall_ns: int) -> int:
        """The date in this timeline of what happens now, at `wall_ns`: behind the newest media by
        at most two segments, wherever the wall clock was set to since that was dated."""
        if not self.generations:
            return wall_ns
        newest = self.generations[-1].anchor_wall_ns + self.end_ns
        return min(max(wall_ns, newest), newest + 2 * self.timing.segment_ns)

    @property
    def next_msn(self) -> int:
        """Of the segment that no track has begun."""
        return max(track.next_msn for track in self.tracks.values())

    @property
    def picture_msn(self) -> int | None:
        """Of the segment that no picture has begun; None without pictures."""
        tracks = self.tracks.values()
        return max((t.next_msn for t in tracks if t.rendition.kind == "video"), default=None)

    def end(self) -> None:
        """No more media, ever."""
        self.level()
        self.ended = True

    def forget(self) -> list[str]:
        """Paths whose availability is over since the last call."""
        return [path for track in self.tracks.values() for path in self._forget(track)]

    def _forget(self, track: Track) -> list[str]:
        paths: list[str] = []
        # a part is listed for 3 target durations, and must be there for 3 more (6.2.2)
        edge_ns = track.end_ns - 6 * self.timing.target_duration * NS
        while track.fresh and track.fresh[0].end_ns < edge_ns:
            segment = track.fresh.popleft()
            paths += [part.path for part in segment.parts]
            segment.parts = []
        while track.retired:
            left_ns = track.segments[0].start_ns - track.retired[0].end_ns
            if left_ns < self.timing.linger_ns:
                break
            segment = track.retired.popleft()
            if not segment.gap:
                paths.append(segment.path)
        oldest = [*track.retired, *track.segments][:1]
        for number in [n for n in track.inits if oldest and n < oldest[0].generation.number]:
            paths.append(track.inits.pop(number))
            del track.made[number]
        return paths

    def skip(self, track: Track, msn: int, generation: Generation) -> None:
        """Gaps up to segment `msn`, in `generation`."""
        while track.next_msn < msn:
            start = track.next_msn * self.timing.segment_ns
            end = start + self._lost_ns(track.next_msn)
            segment = self._new(track, generation, start_ns=start, end_ns=end)
            segment.gap = segment.complete = True
            generation.gaps.add(segment.msn)
            self.append(track, segment)
            self.evict(track)

    def _lost_ns(self, msn: int) -> int:
        """Duration of a gap: what the other tracks have of that segment, so that what follows has
        the same place in all playlists (6.2.1)."""
        tracks = self.tracks.values()
        made = [s.duration_ns for t in tracks for s in t.segments if s.msn == msn and s.complete]
        return max(made, default=self.timing.segment_ns)

    def _begun(self) -> Generation:
        """The newest generation, which has begun for viewers with this."""
        generation = self.generations[-1]
        if generation.discontinuity is None:
            generation.discontinuity = self.discontinuities
            self.discontinuities += 1
        return generation

    def _new(self, track: Track, generation: Generation, *, start_ns: int, end_ns: int) -> Segment:
        """The next segment of the track, which has nothing yet."""
        before = track.segments[-1] if track.segments else None
        name = track.rendition.track
        return Segment(
            msn=track.next_msn,
            path=names.segment_path(self.stream, generation.epoch, name, track.next_msn),
            generation=generation,
            tagged=before is not None and before.generation is not generation,
            start_ns=start_ns,
            end_ns=end_ns,
        )

    def append(self, track: Track, segment: Segment) -> None:
        """Take the track's next segment, as far as it is."""
        track.segments.append(segment)
        track.fresh.append(segment)
        track.next_msn = segment.msn + 1

    def evict(self, track: Track) -> None:
        """Of what is complete, what no longer fits the window."""
        listed = sum(s.duration_ns for s in track.segments)
        while listed - track.segments[0].duration_ns >= self.timing.window_ns:
            segment = track.segments.popleft()
            listed -= segment.duration_ns
            track.retired.append(segment)
            gaps = segment.generation.gaps
            gaps -= set(sorted(gap for gap in gaps if gap < segment.msn)[:-1])
        if self.markers and not self.ended:
            first_ns = min(t.segments[0].wall_ns for t in self.tracks.values() if t.segments)
            recent_ns = self.timing.skip_until_s * NS
            self.markers.expire(first_wall_ns=first_ns, at_ns=self.end_ns, recent_ns=recent_ns)
