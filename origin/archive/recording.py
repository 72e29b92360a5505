"""A broadcast that stays: which segments of it are in the permanent store, and its playlists.

Laws: plain values; JSON in, JSON out, and the same playlists of the same recording. A segment that
is not in the recording is a gap of its track, in all playlists at the same place. What was made
(sizes, durations) decides the bit rates that are told, not what was planned. Sans-IO: does not know
where objects are, nor who wrote them.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, NamedTuple, Self

from origin import dash, manifest, names
from origin.model import MPD_TYPE, PLAYLIST_TYPE, Kept, PlaylistVersion, Rendition
from origin.timeline import Generation, Segment, Timeline, Track
from origin.timing import NS, Timing

VTT_TYPE: Final = "text/vtt"
JPEG_TYPE: Final = "image/jpeg"
_FORMAT: Final = 1
# A recording grows by thumbnails and by better renditions; a POP asks again after this.
CACHE_S: Final = 10
CACHE: Final = f"public, max-age={CACHE_S}"


class KeptInit(NamedTuple):
    """The init section of one generation, and what its encoder made. Texts have none: size 0."""

    size: int
    digest: str
    rendition: Rendition
    epoch: str


@dataclass(slots=True)
class Sheet:
    """One track: inits by generation, segments by rising number."""

    inits: dict[int, KeptInit] = field(default_factory=dict)
    segments: list[Kept] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        return sum(segment.size for segment in self.segments)


@dataclass(slots=True, kw_only=True)
class Storyboard:
    """Pictures of the recording in sheets of `columns` × `rows` pictures, `width` × `height` pixels
    each. starts_ms: when each is shown, in playing time. sheets: size and digest of each."""

    columns: int
    rows: int
    width: int
    height: int
    starts_ms: list[int]
    sheets: list[tuple[int, str]]


@dataclass(slots=True, kw_only=True)
class Recording:
    """One broadcast. epoch: that it began with; an origin that went on with it named its media by a
    later one. segment_ms, parts, part_target_ns: of its grid (timing.Timing). revision: grows with
    each rewriting."""

    stream: str
    epoch: str
    segment_ms: int
    parts: int
    part_target_ns: int
    revision: int = 0
    tracks: dict[str, Sheet] = field(default_factory=dict)
    storyboard: Storyboard | None = None

    @property
    def whole(self) -> dict[str, Sheet]:
        """Tracks that can be played: with an init section and a segment."""
        return {name: each for name, each in self.tracks.items() if each.inits and each.segments}

    @property
    def size_bytes(self) -> int:
        return sum(sheet.size_bytes for sheet in self.tracks.values())

    @property
    def duration_ms(self) -> int:
        """Of the longest track."""
        lengths = (sum(s.end_ns - s.start_ns for s in t.segments) for t in self.tracks.values())
        return max(lengths, default=0) // 1_000_000

    @property
    def lost(self) -> dict[str, int]:
        """How many segments each track lacks of those that another one has."""
        there = {segment.msn for sheet in self.whole.values() for segment in sheet.segments}
        return {name: len(there) - len(sheet.segments) for name, sheet in self.whole.items()}

    def objects(self) -> Iterator[tuple[str, int, str]]:
        """(path on the wire, size, digest) of everything that is named."""
        for name, sheet in self.tracks.items():
            for number, init in sheet.inits.items():
                if not init.size:
                    continue
                path = names.init_path(self.stream, init.epoch, name, number)
                yield path, init.size, init.digest
            for each in sheet.segments:
                path = names.segment_path(self.stream, each.epoch, name, each.msn)
                yield path, each.size, each.digest
        if self.storyboard:
            for number, (size, digest) in enumerate(self.storyboard.sheets):
                yield names.sheet_path(self.stream, self.epoch, number), size, digest

    def to_json(self) -> bytes:
        """Compressed: 4 hours of 6 tracks are 1 MB."""
        value = {"format": _FORMAT, **asdict(self)}
        return gzip.compress(json.dumps(value, separators=(",", ":")).encode(), mtime=0)

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Raises ValueError for what is no recording of this format."""
        try:
            value = json.loads(gzip.decompress(data))
            if (found := value.pop("format")) != _FORMAT:
                raise ValueError(f"found format {found}, allowed {_FORMAT}")
            tracks = {name: _sheet(sheet) for name, sheet in value.pop("tracks").items()}
            board = value.pop("storyboard")
            if board:
                board["sheets"] = [(size, digest) for size, digest in board["sheets"]]
            return cls(**value, tracks=tracks, storyboard=Storyboard(**board) if board else None)
        except (OSError, EOFError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a recording: {error!r}") from None


def _sheet(value: dict[str, Any]) -> Sheet:
    inits = {
        int(number): KeptInit(size, digest, Rendition(**rendition), epoch)
        for number, (size, digest, rendition, epoch) in value["inits"].items()
    }
    return Sheet(inits, [Kept(*row) for row in value["segments"]])


def kept_of(segment: Segment, size: int, digest: str) -> Kept:
    """What a recording keeps of a segment that is complete."""
    return Kept(
        msn=segment.msn,
        size=size,
        digest=digest,
        generation=segment.generation.number,
        start_ns=segment.start_ns,
        end_ns=segment.end_ns,
        wall_ns=segment.wall_ns,
        discontinuity=segment.discontinuity,
        key_bytes=segment.key_bytes,
        epoch=segment.generation.epoch,
    )


# -- as playlists


def playlists_of(recording: Recording) -> dict[str, PlaylistVersion]:
    """Path -> the text behind it: HLS and DASH. Raises ValueError when nothing can be played."""
    if not recording.whole:
        raise ValueError(f"{recording.stream} {recording.epoch}: nothing was kept of it")
    timeline = timeline_of(recording)
    renditions = [track.rendition for track in timeline.tracks.values()]
    stream = recording.stream
    texts = {names.multivariant_path(stream): manifest.multivariant_playlist(stream, renditions)}
    for name, track in timeline.tracks.items():
        texts[names.media_path(stream, name)] = manifest.media_playlist(timeline, name)
        if track.rendition.key_bandwidth:
            texts[names.iframe_path(stream, name)] = manifest.iframe_playlist(timeline, name)
    found = {path: _value(path, PLAYLIST_TYPE, text) for path, text in texts.items()}
    if periods := dash.periods(timeline, running=False):
        path = names.mpd_path(stream)
        end_ns = max(track.segments[-1].wall_ns for track in timeline.tracks.values())
        text = dash.manifest(timeline, periods, published_ns=end_ns)
        found[path] = _value(path, MPD_TYPE, text)
    if recording.storyboard:
        path = names.storyboard_path(stream)
        found[path] = _value(path, VTT_TYPE, "\n".join(_cues(recording, recording.storyboard)))
    return found


def _cues(recording: Recording, board: Storyboard) -> Iterator[str]:
    """WebVTT whose text is where the picture is (a media fragment), as players expect."""
    yield "WEBVTT\n"
    ends = [*board.starts_ms[1:], max(recording.duration_ms, board.starts_ms[-1] + 1)]
    for index, (start, end) in enumerate(zip(board.starts_ms, ends, strict=True)):
        number, place = divmod(index, board.columns * board.rows)
        row, column = divmod(place, board.columns)
        at = f"{column * board.width},{row * board.height},{board.width},{board.height}"
        path = names.sheet_path(recording.stream, recording.epoch, number)
        yield f"{_clock(start)} --> {_clock(end)}"
        yield f"{names.relative(recording.stream, path)}#xywh={at}\n"


def _clock(ms: int) -> str:
    seconds, rest = divmod(ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:03d}"


def _value(path: str, content_type: str, text: str) -> PlaylistVersion:
    full = text.encode()
    return PlaylistVersion(
        path=path,
        msn=0,
        parts=0,
        last_parts=0,
        hold_ms=0,
        advance=0,
        ended=True,
        ttl_ms=CACHE_S * 1000,
        cache_control=CACHE,
        content_type=content_type,
        full=full,
        full_gzip=gzip.compress(full, compresslevel=6, mtime=0),
    )


def timeline_of(recording: Recording) -> Timeline:
    """As the presentation had it when the stream ended, had its window been without end."""
    sheets = recording.whole
    rows = {name: {each.msn: each for each in sheet.segments} for name, sheet in sheets.items()}
    first = min(min(found) for found in rows.values())
    last = max(max(found) for found in rows.values())
    timing = Timing(
        segment_ms=recording.segment_ms,
        parts=recording.parts,
        part_target_ns=recording.part_target_ns,
        window_ns=(last - first + 1) * recording.segment_ms * 1_000_000,
        live_ns=0,
    )
    timeline = Timeline(
        stream=recording.stream,
        epoch=recording.epoch,
        timing=timing,
        renditions=[_rendition(sheet) for sheet in sheets.values()],
        first_msn=first,
    )
    timeline.ended = timeline.recorded = True
    timeline.generations = _generations(sheets.values())
    for name, sheet in sheets.items():
        track = timeline.tracks[name]
        for number, init in sheet.inits.items():
            if init.size:
                track.inits[number] = names.init_path(recording.stream, init.epoch, name, number)
            track.made[number] = track.rendition
        for msn in range(first, last + 1):
            kept = [found[msn] for found in rows.values() if msn in found]
            _lay(timeline, track, msn, rows[name].get(msn), kept)
    return timeline


def _generations(sheets: Iterable[Sheet]) -> list[Generation]:
    """In order; one of which nothing was kept begins where the next one does."""
    firsts: dict[int, Kept] = {}
    for sheet in sheets:
        for each in sheet.segments:
            known = firsts.get(each.generation)
            if known is None or each.msn < known.msn:
                firsts[each.generation] = each
    found: list[Generation] = []
    for number in range(max(firsts), -1, -1):
        begun = firsts[min(later for later in firsts if later >= number)]
        generation = Generation(
            epoch=begun.epoch,
            number=number,
            first_msn=begun.msn,
            anchor_wall_ns=begun.wall_ns - begun.start_ns,
            discontinuity=begun.discontinuity,
        )
        found.append(generation)
    return found[::-1]


def _lay(timeline: Timeline, track: Track, msn: int, kept: Kept | None, all_: list[Kept]) -> None:
    """One segment of a track; a gap as long as the others' of that number (6.2.1)."""
    if kept is not None:
        generation = timeline.generations[kept.generation]
        start_ns, end_ns = kept.start_ns, kept.end_ns
    else:
        generation = [g for g in timeline.generations if g.first_msn <= msn][-1]
        start_ns = msn * timeline.timing.segment_ns
        lengths = [each.end_ns - each.start_ns for each in all_]
        end_ns = start_ns + max(lengths, default=timeline.timing.segment_ns)
        generation.gaps.add(msn)
    before = track.segments[-1] if track.segments else None
    segment = Segment(
        msn=msn,
        path=names.segment_path(timeline.stream, generation.epoch, track.rendition.track, msn),
        generation=generation,
        tagged=before is not None and before.generation is not generation,
        start_ns=start_ns,
        end_ns=end_ns,
        complete=True,
        gap=kept is None,
        key_bytes=kept.key_bytes if kept else 0,
    )
    track.segments.append(segment)
    track.next_msn = msn + 1


def _rendition(sheet: Sheet) -> Rendition:
    """With the bit rates that it has. A short last segment says nothing about the peak."""
    planned = sheet.inits[max(sheet.inits)].rendition
    lengths_ns = [each.end_ns - each.start_ns for each in sheet.segments]
    usual_ns = max(lengths_ns)
    peak = key = 0
    for each, length_ns in zip(sheet.segments, lengths_ns, strict=True):
        if 2 * length_ns >= usual_ns:
            peak = max(peak, each.size * 8 * NS // length_ns)
            key = max(key, each.key_bytes * 8 * NS // length_ns)
    average = sheet.size_bytes * 8 * NS // sum(lengths_ns)
    return replace(planned, bandwidth=peak, average_bandwidth=average, key_bandwidth=key)
