"""The timeline as HLS playlists (RFC 8216bis). Pure functions: same timeline, same text.

Laws: every URI is relative to the playlist; EXT-X-VERSION is the lowest that covers the tags used;
target durations and server control are the same in all renditions. A playlist that ended keeps its
header (only ENDLIST may be added to it, 6.2.1; PLAYLIST-TYPE may not). Text only: compression,
versions and caching are the presentation's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice

from origin import names
from origin.model import Rendition
from origin.timeline import NS, Part, Segment, Timeline, Timing, Track


def multivariant_playlist(stream: str, renditions: Sequence[Rendition]) -> str:
    """All renditions, video in the given order. With video, audio is one group that every variant
    shares and whose bit rate each includes; without, the audio renditions are the variants."""
    video = [r for r in renditions if r.kind == "video"]
    audio = [r for r in renditions if r.kind == "audio"]
    lines = ["#EXTM3U", "#EXT-X-INDEPENDENT-SEGMENTS"]
    group = audio if video else []
    for index, rendition in enumerate(group):
        default = "NO" if index else "YES"
        lines.append(
            f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="{rendition.track}"'
            + (f',LANGUAGE="{rendition.language}"' if rendition.language else "")
            + f",DEFAULT={default},AUTOSELECT=YES"
            + (f',CHANNELS="{rendition.channels}"' if rendition.channels else "")
            + f',URI="{_uri(stream, names.media_path(stream, rendition.track))}"'
        )
    for rendition in video or audio:
        lines += _variant(stream, rendition, group)
    return _text(lines)


def _variant(stream: str, rendition: Rendition, group: Sequence[Rendition]) -> list[str]:
    peak = rendition.bandwidth + max((a.bandwidth for a in group), default=0)
    average = rendition.average_bandwidth + max((a.average_bandwidth for a in group), default=0)
    codecs = dict.fromkeys(r.codecs for r in (rendition, *group) if r.codecs)
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
    if group:
        attributes.append('AUDIO="audio"')
    uri = _uri(stream, names.media_path(stream, rendition.track))
    return [f"#EXT-X-STREAM-INF:{','.join(attributes)}", uri]


def media_playlist(timeline: Timeline, name: str) -> str:
    """The whole playlist of track `name`."""
    return _media(timeline, timeline.tracks[name], skip=0)


def delta_playlist(timeline: Timeline, name: str) -> str | None:
    """The same with the segments beyond the skip boundary left out (6.2.5.1); None when there are
    none, or the stream has ended: then the whole playlist is the answer."""
    track = timeline.tracks[name]
    complete = [segment for segment in track.segments if segment.complete]
    if timeline.ended or not complete:
        return None
    boundary = complete[-1].end_ns - timeline.timing.skip_until_s * NS
    skip = sum(segment.end_ns < boundary for segment in complete)
    return _media(timeline, track, skip=skip) if skip else None


def _media(timeline: Timeline, track: Track, *, skip: int) -> str:
    timing = timeline.timing
    first = track.segments[0]
    lines = [
        "#EXTM3U",
        # 6: EXT-X-MAP, 9: EXT-X-SKIP (section 8)
        f"#EXT-X-VERSION:{9 if skip else 6}",
        f"#EXT-X-TARGETDURATION:{timing.target_duration}",
        _server_control(timing),
        f"#EXT-X-PART-INF:PART-TARGET={_seconds(timing.part_target_ns // 1000)}",
        f"#EXT-X-MEDIA-SEQUENCE:{first.msn}",
    ]
    # the number before any tag: a tag on the first segment counts too (6.2.1)
    if discontinuity := first.discontinuity - first.tagged:
        lines.append(f"#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuity}")
    if skip:
        lines.append(f"#EXT-X-SKIP:SKIPPED-SEGMENTS={skip}")
    parts_from = track.end_ns - 3 * timing.target_duration * NS
    init: str | None = None
    for segment in islice(track.segments, skip, None):
        mapped = track.inits.get(segment.generation.number)
        lines += _segment(timeline.stream, segment, mapped if mapped != init else None)
        init = mapped or init
        if segment.start_ns >= parts_from:
            lines += (_part(timeline.stream, part) for part in segment.parts)
        if segment.complete:
            seconds = _duration(segment.start_ns, segment.end_ns)
            lines += [f"#EXTINF:{seconds},", _uri(timeline.stream, segment.path)]
    if timeline.ended:
        return _text([*lines, "#EXT-X-ENDLIST"])
    return _text([*lines, *_hints(timeline, track, init), *_reports(timeline, track)])


def _server_control(timing: Timing) -> str:
    # Apple's authoring specification 14.3 wants 3 part targets where the RFC would accept 2
    return (
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES"
        f",CAN-SKIP-UNTIL={timing.skip_until_s}"
        f",HOLD-BACK={3 * timing.target_duration}"
        f",PART-HOLD-BACK={_seconds(3 * timing.part_target_ns // 1000)}"
    )


def _segment(stream: str, segment: Segment, init: str | None) -> Iterator[str]:
    """The tags that apply to a segment, which must stand before its parts (4.4.4.9)."""
    if segment.tagged:
        yield "#EXT-X-DISCONTINUITY"
    if init:
        yield f'#EXT-X-MAP:URI="{_uri(stream, init)}"'
    # on every segment: drift never adds up, and a delta update says when its first one is
    yield f"#EXT-X-PROGRAM-DATE-TIME:{_date(segment.wall_ns)}"
    if segment.gap:
        yield "#EXT-X-GAP"


def _part(stream: str, part: Part) -> str:
    independent = ",INDEPENDENT=YES" if part.independent else ""
    duration = _duration(part.start_ns, part.end_ns)
    return f'#EXT-X-PART:DURATION={duration},URI="{_uri(stream, part.path)}"{independent}'


def _hints(timeline: Timeline, track: Track, init: str | None) -> Iterator[str]:
    """The part that comes next, and its init section when that is already made and another."""
    name = track.rendition.track
    newest = track.inits.get(timeline.generations[-1].number)
    if newest and newest != init:
        yield f'#EXT-X-PRELOAD-HINT:TYPE=MAP,URI="{_uri(timeline.stream, newest)}"'
    msn, parts, _ = track.version
    path = names.part_path(timeline.stream, timeline.epoch, name, msn, parts)
    yield f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="{_uri(timeline.stream, path)}"'


def _reports(timeline: Timeline, track: Track) -> Iterator[str]:
    """Where every other rendition stands (appendix B.1 wants one each)."""
    for name, other in timeline.tracks.items():
        if other is track or not other.segments:
            continue
        last = other.segments[-1]
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
