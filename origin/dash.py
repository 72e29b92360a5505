"""The timeline as a DASH manifest (ISO/IEC 23009-1). Pure functions: same periods, same text.

Laws: the MPD names the same objects as the HLS playlists, by rule and not one by one: segment
$Number$ is the media sequence number, and a number that the MPD implies is there in every track or
is about to be. So the text changes only when a *period* begins, ends or leaves the window, never
with a segment, and a player may keep it as long as nothing of that happens. A period is a run of
segments of one generation that no track lacks: the encoder's restart and a gap both end it, and
the time between two periods is missing from the presentation, as it is from the stream.

Clock: presentation time is media time, and availabilityStartTime the wall clock at media time 0, as
the first generation has it; a later one is as much later in presentation time as its dates are. So
date = availabilityStartTime + presentation time, and a player that finds its number from the clock
alone (ffmpeg) finds the right one. @duration is the grid that every segment is cut on; that
audio's segments are a frame longer or shorter, or that a key frame came early, is said by the
segments themselves (tfdt), and a player needs it to within half a segment (5.3.9.2.1). Text only:
versions and caching are the presentation's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import zip_longest
from math import ceil
from typing import Final
from xml.etree import ElementTree

from edgecache.units import xs_date
from origin import names
from origin.model import Rendition
from origin.timeline import Generation, Timeline, Track
from origin.timing import NS, Timing

_MS: Final = 1_000_000
_CATCH_UP: Final = (0.95, 1.1)  # playback rates that keep the latency; hls.js gets the same
_SUBTITLE: Final = {"schemeIdUri": "urn:mpeg:dash:role:2011", "value": "subtitle"}

Element = ElementTree.Element


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A run of segments that every track has. wall_ns: date of its first sample; duration_ns: None
    while it grows. epoch, number: of the generation, as in paths."""

    epoch: str
    number: int
    first_msn: int
    wall_ns: int
    duration_ns: int | None
    renditions: tuple[Rendition, ...]


def periods(timeline: Timeline, *, running: bool) -> tuple[Period, ...]:
    """The periods of which something is in the window, oldest first. running: the newest generation
    still grows. While the stream lives, a period's beginning stays where it was when its first
    segments leave the window; of a stream that ended it is what can still be had."""
    fronts = [track.first_listed for track in timeline.tracks.values()]
    front = max(fronts) if timeline.ended else min(fronts)
    found = []
    for generation in timeline.generations:
        for first, end in _runs(timeline, generation, running=running):
            if end is not None and end <= front:
                continue
            start = max(first, front) if timeline.ended else first
            period = _period(timeline, generation, start, end)
            if period is not None:
                found.append(period)
    return tuple(_joined(timeline.timing, found))


def _joined(timing: Timing, found: Sequence[Period]) -> Iterator[Period]:
    """A period lasts until the next one begins, if that implies no further number: players cross a
    seam better than a hole, and the encoder's restart leaves one of some milliseconds."""
    for period, after in zip_longest(found, found[1:]):
        if after is None or period.duration_ns is None:
            yield period
            continue
        segments = -(-period.duration_ns // timing.segment_ns)
        until_ns = min(after.wall_ns - period.wall_ns, segments * timing.segment_ns)
        yield replace(period, duration_ns=until_ns)


def _runs(
    timeline: Timeline, generation: Generation, *, running: bool
) -> Iterator[tuple[int, int | None]]:
    """[first, end) of each run between the generation's gaps; end None: it grows."""
    newest = generation is timeline.generations[-1]
    if newest:
        end = None if running else max(track.next_msn for track in timeline.tracks.values())
    else:
        end = timeline.generations[generation.number + 1].first_msn
    first = generation.first_msn
    for gap in sorted(generation.gaps):
        yield first, gap
        first = gap + 1
    yield first, end


def _period(
    timeline: Timeline, generation: Generation, first: int, end: int | None
) -> Period | None:
    """None for a run without media, or before all its init sections are there."""
    tracks = timeline.tracks.values()
    made = [track.made_in(generation.number) for track in tracks]
    if (end is not None and first >= end) or None in made:
        return None
    start_ns = first * timeline.timing.segment_ns
    duration_ns = None
    if end is not None:
        # no further than the grid: a number beyond the run would be another period's
        ends = [_end_ns(track, end - 1) for track in tracks]
        duration_ns = min(*ends, end * timeline.timing.segment_ns) - start_ns
        if duration_ns <= 0:
            return None
    return Period(
        epoch=generation.epoch,
        number=generation.number,
        first_msn=first,
        wall_ns=generation.anchor_wall_ns + start_ns,
        duration_ns=duration_ns,
        renditions=tuple(rendition for rendition in made if rendition is not None),
    )


def _end_ns(track: Track, msn: int) -> int:
    made = track.segments if msn >= track.first_listed else track.retired
    return made[msn - made[0].msn].end_ns  # gaps have their place, so numbers follow on


def manifest(
    timeline: Timeline, found: Sequence[Period], *, published_ns: int, time_url: str = names.TIME
) -> str:
    """The MPD of `found`. published_ns: wall clock of this version. time_url: where the wall clock
    can be asked for."""
    timing, start_ns = timeline.timing, timeline.generations[0].anchor_wall_ns
    mpd = ElementTree.Element(
        "MPD",
        {
            "xmlns": "urn:mpeg:dash:schema:mpd:2011",
            "profiles": "urn:mpeg:dash:profile:isoff-live:2011,urn:mpeg:dash:profile:cmaf:2019",
            "type": "static" if timeline.ended else "dynamic",
            "publishTime": xs_date(published_ns),
            "minBufferTime": _duration(timing.part_target_ns),
            "maxSegmentDuration": _duration((timing.segment_ms + timing.early_ms) * _MS),
        },
    )
    if timeline.ended:
        last = found[-1]
        end_ns = last.wall_ns + (last.duration_ns or 0) - start_ns
        mpd.set("mediaPresentationDuration", _duration(end_ns))
    else:
        mpd.attrib |= {
            "availabilityStartTime": xs_date(start_ns),
            # a player that has not heard of a new period asks for numbers of the old one, and
            # fetches ahead of the end that it does not know of
            "minimumUpdatePeriod": _duration(timing.segment_ns // 2),
            "timeShiftBufferDepth": _duration(timing.window_ns),
            "suggestedPresentationDelay": _duration(3 * timing.target_duration * NS),
        }
        _service(mpd, timing)
    for period in found:
        _add_period(mpd, timeline, period, start_ns, time_url)
    if not timeline.ended:
        ElementTree.SubElement(mpd, "UTCTiming", _clock(time_url))
    ElementTree.indent(mpd)
    text = ElementTree.tostring(mpd, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _service(mpd: Element, timing: Timing) -> None:
    """How far behind its date a sample is meant to be shown. The playlists' hold-back is 3 parts
    from what is listed; in dates a part is listed one part late, and the encoder's time later."""
    part_ms = timing.part_target_ns / _MS
    slowest, fastest = _CATCH_UP
    service = ElementTree.SubElement(mpd, "ServiceDescription", {"id": "0"})
    latency = {"target": 4.5 * part_ms, "min": 3 * part_ms, "max": 18 * part_ms}
    ElementTree.SubElement(
        service,
        "Latency",
        {"referenceId": "0"} | {name: str(ceil(ms)) for name, ms in latency.items()},
    )
    ElementTree.SubElement(service, "PlaybackRate", {"min": f"{slowest}", "max": f"{fastest}"})


def _clock(url: str) -> dict[str, str]:
    # xsdate: milliseconds; the Date field of http-head has whole seconds
    return {"schemeIdUri": "urn:mpeg:dash:utc:http-xsdate:2014", "value": url}


def _add_period(
    mpd: Element, timeline: Timeline, period: Period, start_ns: int, time_url: str
) -> None:
    attributes = {
        "id": f"{period.number}.{period.first_msn}",
        "start": _duration(period.wall_ns - start_ns),
    }
    if period.duration_ns is not None:
        attributes["duration"] = _duration(period.duration_ns)
    element = ElementTree.SubElement(mpd, "Period", attributes)
    video = [r for r in period.renditions if r.kind == "video"]
    sets = [video] if video else []
    sets += [[r] for r in period.renditions if r.kind != "video"]  # a choice of language, not rate
    for number, renditions in enumerate(sets):
        adaptation = _adaptation(element, number, renditions)
        if not timeline.ended:
            _reference(adaptation, timeline.timing, period, time_url)
        if text := renditions[0].kind == "text":
            ElementTree.SubElement(adaptation, "Role", _SUBTITLE)
        template = _template(timeline, period, text=text)
        ElementTree.SubElement(adaptation, "SegmentTemplate", template)
        for rendition in renditions:
            _representation(adaptation, rendition)


def _adaptation(period: Element, number: int, renditions: Sequence[Rendition]) -> Element:
    first = renditions[0]
    attributes = {
        "id": str(number),
        "contentType": first.kind,
        "mimeType": first.content_type,
        "segmentAlignment": "true",
        "startWithSAP": "1",
    }
    if first.language:
        attributes["lang"] = first.language
    return ElementTree.SubElement(period, "AdaptationSet", attributes)


def _reference(adaptation: Element, timing: Timing, period: Period, time_url: str) -> None:
    """Which date a media time has: when it reached the encoder."""
    reference = ElementTree.SubElement(
        adaptation,
        "ProducerReferenceTime",
        {
            "id": "0",
            "type": "encoder",
            "wallClockTime": xs_date(period.wall_ns),
            "presentationTime": str(period.first_msn * timing.segment_ms),
        },
    )
    ElementTree.SubElement(reference, "UTCTiming", _clock(time_url))


def _template(timeline: Timeline, period: Period, *, text: bool) -> dict[str, str]:
    """Of WebVTT it is the same, without init section: shaka keeps to the latest of all sets."""
    timing = timeline.timing
    prefix = f"{period.epoch}/$RepresentationID$"
    template = {
        "timescale": "1000",
        "duration": str(timing.segment_ms),
        "startNumber": str(period.first_msn),
        "presentationTimeOffset": str(period.first_msn * timing.segment_ms),
        **({} if text else {"initialization": f"{prefix}/init{period.number}.mp4"}),
        "media": f"{prefix}/$Number$.{'vtt' if text else 'm4s'}",
    }
    if not timeline.ended:
        # a segment may be asked for once its first part is there, and comes part by part
        offset_ns = timing.segment_ns - timing.part_target_ns
        template |= {
            "availabilityTimeOffset": f"{offset_ns / NS:.3f}",
            "availabilityTimeComplete": "false",
        }
    return template


def _representation(adaptation: Element, rendition: Rendition) -> None:
    attributes = {
        "id": rendition.track,
        "codecs": rendition.codecs,
        "bandwidth": str(rendition.bandwidth),
    }
    if rendition.kind == "text":
        ElementTree.SubElement(adaptation, "Representation", attributes)
        return
    if rendition.kind == "audio":
        attributes["audioSamplingRate"] = str(rendition.sample_rate)
        element = ElementTree.SubElement(adaptation, "Representation", attributes)
        scheme = "urn:mpeg:dash:23003:3:audio_channel_configuration:2011"
        layout = {"schemeIdUri": scheme, "value": str(rendition.channels)}
        ElementTree.SubElement(element, "AudioChannelConfiguration", layout)
        return
    attributes |= {"width": str(rendition.width), "height": str(rendition.height)}
    if rendition.frame_rate:
        attributes["frameRate"] = str(Fraction(rendition.frame_rate).limit_denominator(1001))
    ElementTree.SubElement(adaptation, "Representation", attributes)


def _duration(ns: int) -> str:
    """xs:duration in seconds of 1 ms."""
    return f"PT{ns // _MS / 1000:.3f}S"
