"""A timeline as rows that another process can go on from, and the timeline that rows give.

Laws: a row states what has been published, and nothing that has not. Rows replace those of the same
kind, track, number and part, so that they may be told twice and in any order. What a row names but
the disk does not have (`there`) is a gap. Sans-IO. Knows nothing of files or of how rows are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import takewhile
from typing import Any, Final, NamedTuple

from origin import names
from origin.markers import Marker, Told
from origin.model import MediaObject, PartObject, Publication, Rendition
from origin.timeline import Generation, Part, Segment, Timeline, Track

FORMAT: Final = 1
_LISTED: Final = ("start_ns", "end_ns", "independent", "key_bytes")
_PLACED: Final = ("path", "msn", "tagged", "start_ns", "end_ns", "key_bytes", "gap")

Data = dict[str, Any]
There = Callable[[str, int], bool]
Record = Callable[[str, list["Row"]], None]


class Row(NamedTuple):
    """kind: head, generation, init, part, segment or markers. number: of a generation or segment.
    data: JSON values."""

    kind: str
    track: str
    number: int
    part: int
    data: Data


def head(timeline: Timeline, planned: Sequence[Rendition], *, discontinuities: int) -> Row:
    """What holds for all of it. discontinuities: how many the stream had had before."""
    data = {
        "format": FORMAT,
        "epoch": timeline.epoch,
        "segment_ms": timeline.timing.segment_ms,
        "parts": timeline.timing.parts,
        "discontinuities": discontinuities,
        "planned": [asdict(rendition) for rendition in planned],
    }
    return Row("head", "", 0, 0, data)


class Chronicle:
    """Of one timeline. known: what is in it has been told before."""

    def __init__(self, timeline: Timeline, *, known: bool = False) -> None:
        self.timeline = timeline
        self._generations: dict[int, Data] = {}
        self._told: dict[str, int] = {}  # track -> newest whole segment that was told
        self._whole: dict[tuple[str, int], Data] = {}  # what is known of a segment's bytes
        self._markers: Data = {}
        if known:
            self._told = {name: track.next_msn - 1 for name, track in timeline.tracks.items()}
            self._generations = {g.number: _generation(g) for g in timeline.generations}

    def rows(self, publications: Sequence[Publication]) -> list[Row]:
        """What is new with `publications`, which are those of the last change."""
        found = [*self._begun(), *self._marked()]
        for item in publications:
            if isinstance(item, PartObject):
                found.append(self._part(item))
            elif isinstance(item, MediaObject):
                found.append(self._init(item))
        for name, track in self.timeline.tracks.items():
            found += self._closed(name, track)
        return found

    def _begun(self) -> Iterator[Row]:
        for generation in self.timeline.generations[-2:]:
            data = _generation(generation)
            if self._generations.get(generation.number) != data:
                self._generations[generation.number] = data
                yield Row("generation", "", generation.number, 0, data)

    def _marked(self) -> Iterator[Row]:
        markers = self.timeline.markers
        data = {
            "told": [[asdict(each.marker), each.at_ns] for each in markers.told],
            "removed": [list(each) for each in markers.gone],
        }
        if any(data.values()) and data != self._markers:
            self._markers = data
            yield Row("markers", "", 0, 0, data)

    def _init(self, item: MediaObject) -> Row:
        name = item.path.split("/")[4]
        number = self.timeline.generations[-1].number
        made = self.timeline.tracks[name].made[number]
        data = {"path": item.path, "digest": item.digest, "made": asdict(made)}
        return Row("init", name, number, 0, data)

    def _part(self, item: PartObject) -> Row:
        if item.final:
            size = item.offset + len(item.body)
            self._whole[item.track, item.msn] = {"size": size, "digest": item.segment_digest}
        data: Data = {"offset": item.offset, "size": len(item.body), "digest": item.digest}
        segments = self.timeline.tracks[item.track].segments
        segment = next(each for each in reversed(segments) if each.msn == item.msn)
        listed = next((part for part in segment.parts if part.path == item.path), None)
        data["listed"] = listed and {name: getattr(listed, name) for name in _LISTED}
        return Row("part", item.track, item.msn, item.index, data)

    def _closed(self, name: str, track: Track) -> Iterator[Row]:
        told = self._told.get(name, -1)
        newer = [*takewhile(lambda segment: segment.msn > told, reversed(track.segments))]
        for segment in reversed(newer):
            if segment.complete:
                self._told[name] = segment.msn
                yield self._segment(name, segment)

    def _segment(self, name: str, segment: Segment) -> Row:
        data = {field: getattr(segment, field) for field in _PLACED}
        data["generation"] = segment.generation.number
        data |= self._whole.pop((name, segment.msn), {"size": 0, "digest": ""})
        return Row("segment", name, segment.msn, 0, data)


class Chronicles:
    """Of all streams of a process. `record` gets what the next one needs of each; None: nobody goes
    on with them."""

    def __init__(self, record: Record | None) -> None:
        self._record = record
        self._known: dict[str, Chronicle] = {}

    def resume(self, stream: str, chronicle: Chronicle) -> None:
        self._known[stream] = chronicle

    def tell(
        self,
        stream: str,
        timeline: Timeline,
        planned: Sequence[Rendition],
        publications: Sequence[Publication],
        *,
        discontinuities: int,
    ) -> None:
        """What is new with `publications`; all of it when the timeline is."""
        if self._record is None:
            return
        known, rows = self._known.get(stream), list[Row]()
        if known is None or known.timeline is not timeline:
            known = self._known[stream] = Chronicle(timeline)
            rows = [head(timeline, planned, discontinuities=discontinuities)]
        if rows := [*rows, *known.rows(publications)]:
            self._record(stream, rows)


def told(timeline: Timeline, planned: Sequence[Rendition], *, until_msn: int) -> list[Row]:
    """What another data centre needs to go on with the timeline: the live window, as far as it is
    whole before segment `until_msn`. It has none of the bytes, and needs to know no sizes."""
    known, tracks = Chronicle(timeline), timeline.tracks.items()
    begin_ns = timeline.end_ns - timeline.timing.live_ns
    begun = head(timeline, planned, discontinuities=0)
    begun.data["running"] = timeline.running
    rows = [begun, *known._marked()]
    rows += [Row("generation", "", g.number, 0, _generation(g)) for g in timeline.generations]
    for name, track in tracks:
        for number, path in track.inits.items():
            data = {"path": path, "digest": "", "made": asdict(track.made[number])}
            rows.append(Row("init", name, number, 0, data))
        for segment in track.segments:
            if segment.complete and segment.msn < until_msn and segment.start_ns >= begin_ns:
                rows.append(known._segment(name, segment))
    return rows


def _generation(generation: Generation) -> Data:
    data = asdict(generation)
    return data | {"gaps": sorted(generation.gaps)}


class Past:
    """What rows say, by what they speak of. Raises ValueError for rows of another format."""

    def __init__(self, rows: Sequence[Row]) -> None:
        ordered = sorted(rows, key=lambda row: row[:4])
        kinds: dict[str, list[Row]] = {}
        for row in ordered:
            kinds.setdefault(row.kind, []).append(row)
        self.head: Data = kinds["head"][0].data if "head" in kinds else {}
        if self.head.get("format") != FORMAT:
            raise ValueError(f"found format {self.head.get('format')}, allowed {FORMAT}")
        self.planned = tuple(Rendition(**each) for each in self.head["planned"])
        self.generations = [row.data for row in kinds.get("generation", [])]
        self.inits = kinds.get("init", [])
        self.segments = sorted(kinds.get("segment", []), key=lambda row: row.number)
        self.whole = {(row.track, row.number): row for row in self.segments}
        self.parts: dict[tuple[str, int], list[Row]] = {}
        for row in kinds.get("part", []):
            self.parts.setdefault((row.track, row.number), []).append(row)
        self.markers: Data = kinds["markers"][0].data if "markers" in kinds else {}

    @property
    def running(self) -> bool:
        """More may have been published than rows say."""
        return bool(self.head.get("running", True))

    @property
    def first_msn(self) -> int:
        """Of what is left of it. Raises IndexError when nothing had begun."""
        begun: int = self.generations[0]["first_msn"]
        return self.segments[0].number if self.segments else begun


def rebuild(past: Past, timeline: Timeline, there: There) -> dict[str, list[Row]]:
    """Put into `timeline`, which is empty, what `past` says. `there(path, size)`: does the disk
    have that much of it? Returns the parts that each track's open segment has, of those that have
    one."""
    timeline.generations = [
        Generation(**(data | {"gaps": set(data["gaps"])})) for data in past.generations
    ]
    begun = [g.discontinuity for g in timeline.generations if g.discontinuity is not None]
    timeline.discontinuities = max(begun, default=past.head["discontinuities"] - 1) + 1
    for row in past.inits:
        track = timeline.tracks[row.track]
        track.inits[row.number] = row.data["path"]
        track.made[row.number] = track.rendition = Rendition(**row.data["made"])
    timeline.markers.told.extend(
        Told(Marker(**marker), at_ns) for marker, at_ns in past.markers.get("told", [])
    )
    timeline.markers.gone.extend((name, at_ns) for name, at_ns in past.markers.get("removed", []))
    for row in past.segments:
        _add(past, timeline, row, there)
    return {name: rows for name in timeline.tracks if (rows := _open(past, timeline, name, there))}


def _add(past: Past, timeline: Timeline, row: Row, there: There) -> None:
    """A whole segment; a gap instead of one that is not there, and of those before it that nothing
    is known of."""
    track, placed = timeline.tracks[row.track], {name: row.data[name] for name in _PLACED}
    generation = timeline.generations[row.data["generation"]]
    if not track.segments:
        track.next_msn = row.number
    timeline.skip(track, row.number, generation)
    segment = Segment(generation=generation, complete=True, **placed)
    if not segment.gap and not there(segment.path, row.data["size"]):
        segment.gap = True
    if segment.gap:
        generation.gaps.add(segment.msn)
    else:
        segment.parts = _listed(segment, past.parts.get((row.track, row.number), []))
    timeline.append(track, segment)
    timeline.evict(track)


def _open(past: Past, timeline: Timeline, name: str, there: There) -> list[Row]:
    track, generation = timeline.tracks[name], timeline.generations[-1]
    msn = track.next_msn
    path = names.segment_path(timeline.stream, generation.epoch, name, msn)
    rows = past.parts.get((name, msn), [])
    rows = [row for index, row in enumerate(rows) if row.part == index]
    rows = [row for row in rows if there(path, row.data["offset"] + row.data["size"])]
    if not rows:
        return []
    before = track.segments[-1] if track.segments else None
    segment = Segment(
        msn=msn,
        path=path,
        generation=generation,
        tagged=before is not None and before.generation is not generation,
        start_ns=rows[0].data["listed"]["start_ns"],
        end_ns=rows[-1].data["listed"]["end_ns"],
        key_bytes=rows[0].data["listed"]["key_bytes"],
    )
    segment.parts = _listed(segment, rows)
    timeline.append(track, segment)
    return rows


def _listed(segment: Segment, rows: Sequence[Row]) -> list[Part]:
    stem, _, suffix = segment.path.rpartition(".")
    return [
        Part(path=f"{stem}.{row.part}.{suffix}", **row.data["listed"])
        for row in rows
        if row.data["listed"]
    ]
