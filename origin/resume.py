"""A live stream that an earlier process left on the disk, as one that goes on.

Laws: what was published and is on the disk is served again under its old names; what was published
and is not, is a gap. New media gets names of a new epoch, since nobody knows what the last instants
before a kill published without the disk's knowing; the timeline, its numbers and dates, goes on.
Reads on the caller's thread, before anything is served. Does not know processes, nor who asks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgecache.wall import earlier_s

from . import names
from .chronicle import Chronicle, Past, Row, head, rebuild
from .disk import Disk
from .model import MediaObject, PartObject, Publication, digest_of
from .presentation import IMMUTABLE, Presentation
from .timeline import Segment
from .timing import NS
from .versions import INIT_TTL_MS
from .window import StoredObject, Window


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How far back playlists reach, in s: by the configuration of now, not of when it began.
    archive_s: how long files are served after their memory was given back."""

    window_s: float
    dvr_s: float

    @property
    def archive_s(self) -> float:
        return max(0.0, self.dvr_s - self.window_s)


@dataclass(frozen=True, kw_only=True)
class Taken:
    """window: what had been published, `publications` is what follows on that, in truth order, and
    `chronicle` tells of it. next_msn: of the first segment of which nothing is known.
    discontinuities: how many the stream had had before all this. newest_s: unix time of its newest
    media."""

    window: Window
    presentation: Presentation
    chronicle: Chronicle
    publications: list[Publication]
    next_msn: int
    discontinuities: int
    newest_s: float

    @property
    def age_s(self) -> float:
        return earlier_s() - self.newest_s


def take_up(disk: Disk, stream: str, reach: Reach) -> Taken:
    """Raises ValueError, LookupError, TypeError or OSError for what is not usable."""
    past = Past(disk.rows(stream))
    presentation = presentation_of(stream, past, reach)
    timeline, sizes = presentation.timeline, disk.sizes(stream)
    begun = rebuild(past, timeline, lambda path, size: sizes.get(path, -1) >= size)
    discontinuities: int = past.head["discontinuities"]
    # before anything is named: whoever comes after a kill of this process must not name it again
    disk.record_now(stream, [head(timeline, past.planned, discontinuities=discontinuities)])
    filler = _Filler(disk, presentation, past, reach)
    filler.fill(begun)
    newest = [track.segments[-1] for track in timeline.tracks.values() if track.segments]
    chronicle = Chronicle(timeline, known=True)
    return Taken(
        window=filler.window,
        presentation=presentation,
        chronicle=chronicle,
        publications=presentation.take_up(
            {name: b"".join(part.body for part in filler.begun[name]) for name in begun}
        ),
        next_msn=timeline.next_msn,
        discontinuities=discontinuities,
        newest_s=max(segment.wall_ns + segment.duration_ns for segment in newest) / NS,
    )


def presentation_of(stream: str, past: Past, reach: Reach) -> Presentation:
    """Empty, on the grid of `past`; new media in it gets names of a new epoch."""
    segment_s = past.head["segment_ms"] / 1000
    return Presentation(
        stream,
        epoch=names.epoch_after(past.head["epoch"], time.time()),
        renditions=past.planned,
        segment_s=segment_s,
        part_s=segment_s / past.head["parts"],
        window_s=reach.window_s,
        dvr_s=reach.dvr_s,
        first_msn=past.first_msn,
    )


class _Filler:
    """Fills a window with what is on the disk: the newest segments in memory, part by part, as they
    were; older ones as files."""

    def __init__(self, disk: Disk, presentation: Presentation, past: Past, reach: Reach) -> None:
        self.window = Window(presentation.timeline.stream)
        self.begun: dict[str, list[PartObject]] = {}
        self._disk = disk
        self._timeline = presentation.timeline
        self._past = past
        self._ttl_ms = presentation.media_ttl_ms
        self._archive_s = reach.archive_s
        self._now_s = time.monotonic()

    def fill(self, begun: Mapping[str, Sequence[Row]]) -> None:
        """begun: what each track's open segment has."""
        self.window.epoch = self._timeline.epoch
        self.window.epochs = {self._timeline.epoch, *(g.epoch for g in self._timeline.generations)}
        for row in self._past.inits:
            self.window.add_init(self._init(row))
        whole = []
        for track, segment in self._whole():
            row = self._past.whole[track, segment.msn]
            whole.append(segment.path)
            if rows := self._past.parts.get((track, segment.msn)):
                self._remember(track, segment, rows, row.data["digest"])
            else:
                self._archive(track, segment, row)
        for track, parts in begun.items():
            opened = self._timeline.tracks[track].open
            assert opened is not None
            self.begun[track] = self._remember(track, opened, parts, "")
        self._disk.adopt(
            whole,
            {made[0].segment_path: sum(len(p.body) for p in made) for made in self.begun.values()},
        )

    def _whole(self) -> list[tuple[str, Segment]]:
        """What the timeline has that is no gap, oldest first."""
        found = [
            (name, segment)
            for name, track in self._timeline.tracks.items()
            for segment in (*track.retired, *track.segments)
            if segment.complete and not segment.gap
        ]
        return sorted(found, key=lambda each: each[1].msn)

    def _init(self, row: Row) -> MediaObject:
        body = self._disk.read(row.data["path"])
        if digest_of(body) != row.data["digest"]:
            raise ValueError(f"{row.data['path']}: found other bytes than were written")
        return MediaObject(
            path=row.data["path"],
            body=body,
            digest=row.data["digest"],
            content_type=self._type(row.track),
            cache_control=IMMUTABLE,
            ttl_ms=INIT_TTL_MS,
        )

    def _remember(
        self, track: str, segment: Segment, parts: Sequence[Row], digest: str
    ) -> list[PartObject]:
        """digest: of the segment, "" while it is open."""
        body = self._disk.read(segment.path)
        made = []
        for row in parts:
            start, size = row.data["offset"], row.data["size"]
            listed = row.data["listed"] or {"start_ns": 0, "end_ns": 0, "independent": False}
            final = bool(digest) and row is parts[-1]
            made.append(
                PartObject(
                    path=names.part_path(*self._place(segment, track), segment.msn, row.part),
                    body=body[start : start + size],
                    digest=row.data["digest"],
                    content_type=self._type(track),
                    cache_control=IMMUTABLE,
                    ttl_ms=self._ttl_ms,
                    segment_path=segment.path,
                    offset=start,
                    final=final,
                    segment_digest=digest if final else None,
                    duration_s=(listed["end_ns"] - listed["start_ns"]) / NS,
                    independent=listed["independent"],
                    track=track,
                    msn=segment.msn,
                    index=row.part,
                )
            )
            self.window.add_part(made[-1], self._expires_s(segment))
        return made

    def _place(self, segment: Segment, track: str) -> tuple[str, str, str]:
        return self._timeline.stream, segment.generation.epoch, track

    def _archive(self, track: str, segment: Segment, row: Row) -> None:
        stored = StoredObject(
            path=segment.path,
            content_type=self._type(track),
            cache_control=IMMUTABLE,
            expires_s=0.0,
            digest=row.data["digest"],
            size=row.data["size"],
        )
        file = self._disk.file(segment.path)
        self.window.keep(stored, file, self._expires_s(segment) + self._archive_s)

    def _expires_s(self, segment: Segment) -> float:
        """As if it had been published when it was."""
        age_s = (self._timeline.end_ns - segment.end_ns) / NS
        return self._now_s + self._ttl_ms / 1000 - age_s

    def _type(self, track: str) -> str:
        return self._timeline.tracks[track].rendition.content_type
