"""The timeline as HLS playlists (RFC 8216bis). Pure functions: same timeline, same text.

Laws: every URI is relative to the playlist; EXT-X-VERSION is the lowest that covers the tags used;
target durations and server control are the same in all renditions. A playlist that ended keeps its
header (only ENDLIST may be added to it, 6.2.1; PLAYLIST-TYPE may not). Text only: compression,
versions and caching are the presentation's. A recording is a playlist that nothing was ever taken
from, and says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from origin import names
from origin.markers import Marker
from origin.model import Rendition
from origin.timeline import Part, Segment, Timeline, Track
from origin.timing import NS, Timing

_GROUPS: Final = {"audio": "AUDIO", "text": "SUBTITLES"}


def multivariant_playlist(stream: str, renditions: Sequence[Rendition]) -> str:
    """All renditions, video in the given order. With video, audio is one group that every variant
    shares and whose bit rate each includes; without, the audio renditions are the variants. Texts
    are a group of every variant, none of it shown unless a viewer or the player's settings ask."""
    video = [r for r in renditions if r.kind == "video"]
    audio = [r for r in renditions if r.kind == "audio"]
    lines = ["#EXTM3U", "#EXT-X-INDEPENDENT-SEGMENTS"]
    group = [*(audio if video else ()), *(r for r in renditions if r.kind == "text")]
    lines += (_media(stream, rendition, default=rendition is group[0]) for rendition in group)
    for rendition in video or audio:
        lines += _variant(stream, rendition, group)
    lines += (_iframe_variant(stream, rendition) for rendition in video if rendition.key_bandwidth)
    return _text(lines)


def _media(stream: str, rendition: Rendition, *, default: bool) -> str:
    """4.4.6.1. FORCED is for texts only, CHANNELS for sound; a text is never the default."""
    text = rendition.kind == "text"
    attributes = [
        f"TYPE={_GROUPS[rendition.kind]}",
        f'GROUP-ID="{rendition.kind}"',
        f'NAME="{rendition.name or rendition.track}"',
        *([f'LANGUAGE="{rendition.language}"'] if rendition.language else ()),
        f"DEFAULT={'YES' if default and not text else 'NO'}",
        "AUTOSELECT=YES",
        *(["FORCED=NO"] if text else ()),
        *([f'CHANNELS="{rendition.channels}"'] if rendition.channels else ()),
        f'URI="{_uri(stream, names.media_path(stream, rendition.track))}"',
    ]
    return f"#EXT-X-MEDIA:{','.join(attributes)}"


def _variant(stream: str, rendition: Rendition, group: Sequence[Rendition]) -> list[str]:
    peak = average = 0  # of the largest combination
    for kind in ("audio", "text"):
        peak += max((r.bandwidth for r in group if r.kind == kind), default=0)
        average += max((r.average_bandwidth for r in group if r.kind == kind), default=0)
    peak, average = peak + rendition.bandwidth, average + rendition.average_bandwidth
    # what is in media containers: WebVTT has none, and 4.4.6.2 asks only IMSC to be listed
    spoken = [r for r in (rendition, *group) if r.kind != "text"]
    codecs = dict.fromkeys(r.codecs for r in spoken if r.codecs)
    attributes = [
        f"BANDWIDTH={peak}",
        f"AVERAGE-BANDWIDTH={average}",
        f'CODECS="{",".join(codecs)}"',
    ]
    if rendition.kind == "video":
        attributes.append(f"RESOLUTION={rendition.width}x{rendition.height}")
        if rendition.frame_rate:
            attributes.append(f"FRAME-RATE={rendition.frame_rate:.3f}")
        attributes.append("CLOSED-CAPTIONS=NONE")
    attributes += (f'{_GROUPS[kind]}="{kind}"' for kind in dict.fromkeys(r.kind for r in group))
    uri = _uri(stream, names.media_path(stream, rendition.track))
    return [f"#EXT-X-STREAM-INF:{','.join(attributes)}", uri]


def _iframe_variant(stream: str, rendition: Rendition) -> str:
    uri = _uri(stream, names.iframe_path(stream, rendition.track))
    return (
        f"#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH={rendition.key_bandwidth}"
        f',CODECS="{rendition.codecs}",RESOLUTION={rendition.width}x{rendition.height}'
        f',URI="{uri}"'
    )


def media_playlist(timeline: Timeline, name: str) -> str:
    """The whole media playlist of a track that lists something."""
    return _playlist(timeline, timeline.tracks[name], skip=0)


def iframe_playlist(timeline: Timeline, name: str) -> str:
    """The key frames of a video track that lists a whole segment (4.4.3.6): byte ranges of its
    segments, under the same numbers and for as long."""
    return _playlist(timeline, timeline.tracks[name], skip=0, iframes=True)


def delta_playlist(
    timeline: Timeline, name: str, *, iframes: bool = False, v2: bool = False
) -> str | None:
    """Either of them as a delta update (6.2.5.1): segments before the skip boundary left out. v2:
    events that were told before it, too, and said which have left the playlist since. None: there
    is nothing to skip, or the stream has ended: then the whole playlist is the answer."""
    track = timeline.tracks[name]
    skip = _skipped(timeline, track)
    return _playlist(timeline, track, skip=skip, iframes=iframes, v2=v2) if skip else None


def _skipped(timeline: Timeline, track: Track) -> int:
    """How many segments end before the skip boundary."""
    if timeline.ended:
        return 0
    kept = len(track.segments)
    end_ns = 0
    for segment in reversed(track.segments):
        if segment.complete:
            end_ns = end_ns or segment.end_ns
            if segment.end_ns < end_ns - timeline.timing.skip_until_s * NS:
                return kept
        kept -= 1
    return 0


def _playlist(
    timeline: Timeline, track: Track, *, skip: int, iframes: bool = False, v2: bool = False
) -> str:
    timing = timeline.timing
    parts_from = track.end_ns - 3 * timing.target_duration * NS
    lines: list[str] = []
    init: str | None = None
    for segment in islice(track.segments, skip, None):
        if iframes and not segment.complete:
            break
        if segment.tagged:
            lines.append("#EXT-X-DISCONTINUITY")
        mapped = track.inits.get(segment.generation.number)
        if mapped and mapped != init:
            lines.append(f'#EXT-X-MAP:URI="{_uri(timeline.stream, mapped)}"')
            init = mapped
        if iframes:
            lines += _iframe(timeline.stream, segment)
        else:
            lines.append(_segment(timeline.stream, segment, parts_from))
    version = 10 if v2 else _version(skip, iframes, init)
    head = _head(timeline, track, skip=skip, iframes=iframes, version=version)
    lines = [*_dateranges(timeline, v2=v2), *lines]
    if timeline.ended:
        return _text([*head, *lines, "#EXT-X-ENDLIST"])
    if iframes:
        return _text([*head, *lines])
    return _text([*head, *lines, *_hints(timeline, track, init), *_reports(timeline, track)])


def _version(skip: int, iframes: bool, init: str | None) -> int:
    """The lowest that covers the tags (section 8). 9: EXT-X-SKIP (10 if it skips dates); 6:
    EXT-X-MAP, which 5 has for key frames; 4: EXT-X-BYTERANGE; 3: fractions in EXTINF."""
    if skip:
        return 9
    if init:
        return 5 if iframes else 6
    return 4 if iframes else 3


def _head(
    timeline: Timeline, track: Track, *, skip: int, iframes: bool, version: int
) -> Iterator[str]:
    timing, first = timeline.timing, track.segments[0]
    yield "#EXTM3U"
    yield f"#EXT-X-VERSION:{version}"
    yield f"#EXT-X-TARGETDURATION:{timing.target_duration}"
    yield "#EXT-X-PLAYLIST-TYPE:VOD" if timeline.recorded else _server_control(timing)
    if iframes:
        yield "#EXT-X-I-FRAMES-ONLY"
    elif not timeline.recorded:
        yield f"#EXT-X-PART-INF:PART-TARGET={_seconds(timing.part_target_ns // 1000)}"
    yield f"#EXT-X-MEDIA-SEQUENCE:{first.msn}"
    # the number before any tag: a tag on the first segment counts too (6.2.1). Always there: a
    # playlist that loses segments needs it (6.2.2), and nobody may add it later
    yield f"#EXT-X-DISCONTINUITY-SEQUENCE:{first.discontinuity - first.tagged}"
    if skip:
        removed = "\t".join(timeline.markers.removed)
        dateranges = f',RECENTLY-REMOVED-DATERANGES="{removed}"' if version > 9 else ""
        yield f"#EXT-X-SKIP:SKIPPED-SEGMENTS={skip}{dateranges}"


def _server_control(timing: Timing) -> str:
    # Apple's authoring specification 14.3 wants 3 part targets where the RFC would accept 2
    return (
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES"
        f",CAN-SKIP-UNTIL={timing.skip_until_s},CAN-SKIP-DATERANGES=YES"
        f",HOLD-BACK={3 * timing.target_duration}"
        f",PART-HOLD-BACK={_seconds(3 * timing.part_target_ns // 1000)}"
    )


def _dateranges(timeline: Timeline, *, v2: bool) -> Iterator[str]:
    """All events, or those told since the skip boundary."""
    since_ns = timeline.end_ns - timeline.timing.skip_until_s * NS if v2 else 0
    for told in timeline.markers.told:
        if told.at_ns >= since_ns:
            yield f"#EXT-X-DATERANGE:{','.join(_daterange(told.marker))}"


def _daterange(marker: Marker) -> Iterator[str]:
    """4.4.5.1; SCTE-35 as 4.4.5.1.1 wants it, in hexadecimal."""
    yield f'ID="{marker.id}"'
    if marker.kind:
        yield f'CLASS="{marker.kind}"'
    yield f'START-DATE="{_date(marker.start_ns)}"'
    if marker.duration_ns:
        yield f"DURATION={_seconds(_microseconds(marker.duration_ns))}"
    if marker.planned_ns:
        yield f"PLANNED-DURATION={_seconds(_microseconds(marker.planned_ns))}"
    for name in ("cmd", "out", "in"):
        if section := getattr(marker, f"scte35_{name}"):
            yield f"SCTE35-{name.upper()}=0x{section.upper()}"


def _segment(stream: str, segment: Segment, parts_from: int) -> str:
    """Everything of a segment but what the one before it decides. Once its parts are off the list
    it never changes again, and is kept: of hours of them the newest few are written afresh."""
    if segment.settled:
        return segment.settled
    # A date on every one: drift never adds up, and a delta update says when its first one is. All
    # tags stand before the parts (4.4.4.9).
    lines = [f"#EXT-X-PROGRAM-DATE-TIME:{_date(segment.wall_ns)}"]
    if segment.gap:
        lines.append("#EXT-X-GAP")
    with_parts = segment.start_ns >= parts_from
    if with_parts:
        lines += (_part(stream, part) for part in segment.parts)
    if segment.complete:
        seconds = _duration(segment.start_ns, segment.end_ns)
        lines += [f"#EXTINF:{seconds},", _uri(stream, segment.path)]
    text = "\n".join(lines)
    if segment.complete and not with_parts:
        segment.settled = text
    return text


def _iframe(stream: str, segment: Segment) -> Iterator[str]:
    """The key frame a segment begins with; it lasts until the next one (4.4.3.6)."""
    yield f"#EXT-X-PROGRAM-DATE-TIME:{_date(segment.wall_ns)}"
    if segment.gap:
        yield "#EXT-X-GAP"
    yield f"#EXTINF:{_duration(segment.start_ns, segment.end_ns)},"
    if not segment.gap:
        yield f"#EXT-X-BYTERANGE:{segment.key_bytes}@0"
    yield _uri(stream, segment.path)


def _part(stream: str, part: Part) -> str:
    independent = ",INDEPENDENT=YES" if part.independent else ""
    duration = _duration(part.start_ns, part.end_ns)
    return f'#EXT-X-PART:DURATION={duration},URI="{_uri(stream, part.path)}"{independent}'


def _hints(timeline: Timeline, track: Track, init: str | None) -> Iterator[str]:
    """The part that comes next, and its init section when that is another (B.1): of the encoder
    that has begun, or of the next one when none runs. Text has none."""
    name = track.rendition.track
    number = timeline.generations[-1].number + (not timeline.running)
    coming = names.init_path(timeline.stream, timeline.epoch, name, number)
    if coming != init and track.rendition.kind != "text":
        yield f'#EXT-X-PRELOAD-HINT:TYPE=MAP,URI="{_uri(timeline.stream, coming)}"'
    msn, parts, _ = track.version
    path = names.part_path(timeline.stream, timeline.epoch, name, msn, parts)
    yield f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="{_uri(timeline.stream, path)}"'


def _reports(timeline: Timeline, track: Track) -> Iterator[str]:
    """Where every other rendition stands (appendix B.1 wants one each)."""
    for name, other in timeline.tracks.items():
        if other is track or not other.segments:
            continue
        # the last one with parts, if any has some: a gap has none (4.4.5.4)
        last = next((s for s in reversed(other.segments) if s.parts), other.segments[-1])
        uri = _uri(timeline.stream, names.media_path(timeline.stream, name))
        part = f",LAST-PART={len(last.parts) - 1}" if last.parts else ""
        yield f'#EXT-X-RENDITION-REPORT:URI="{uri}",LAST-MSN={last.msn}{part}'


def _uri(stream: str, path: str) -> str:
    return names.relative(stream, path)


def _duration(start_ns: int, end_ns: int) -> str:
    """Between two times that are each rounded to 1 µs. What one duration is rounded up by the next
    one lacks, so any run of them adds up to its decode times within 1 µs; rounding each by itself
    put audio segments of 2.0053333 s 3.3 µs further off every time."""
    return _seconds(_microseconds(end_ns) - _microseconds(start_ns))


def _microseconds(ns: int) -> int:
    return (ns + 500) // 1000


def _seconds(us: int) -> str:
    """Decimal seconds, without trailing zeros but always a fraction."""
    text = f"{us / 1_000_000:.6f}".rstrip("0")
    return f"{text}0" if text.endswith(".") else text


def _date(wall_ns: int) -> str:
    """ISO 8601 to the nearest millisecond, as 4.4.4.6 wants it."""
    seconds, milliseconds = divmod((wall_ns + 500_000) // 1_000_000, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"
