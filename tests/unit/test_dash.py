"""The MPD, letter by letter, against tests/golden; and what must hold between it and the names."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from origin import dash
from origin.dash import Period
from origin.names import epoch_of, init_path, part_path, segment_path
from origin.timeline import Part, Timeline
from origin.timing import NS, Timing
from tests import mpd, mpd_schema
from tests.unit.test_manifest import AUDIO, ENGLISH, PLAN, V180

GOLDEN: Final = Path(__file__).parent.parent / "golden"
UNIX_S: Final = 1_763_800_000
WALL: Final = UNIX_S * NS + 250_000_000  # the first media came a quarter of a second later
EPOCH: Final = epoch_of(UNIX_S)


def begin(line: Timeline, *, wall_s: float = 0) -> None:
    """A generation, with the init sections of all tracks."""
    number = line.begin_generation(wall_ns=WALL + round(wall_s * NS)).number
    for name, track in line.tracks.items():
        path = "" if track.rendition.kind == "text" else init_path("s", EPOCH, name, number)
        if path:
            line.set_init(name, path, track.rendition)


def add(line: Timeline, msn: int, *, parts: int = 6, final: bool = True, skip: str = "") -> None:
    """Segment `msn` of every track, by its number; audio is cut at whole AAC frames."""
    for name in line.tracks:
        for i in range(parts if name != skip else 0):
            start, end = (msn * 2 * NS + edge * NS // 3 for edge in (i, i + 1))
            if name == "audio":
                start, end = (edge - edge % 21_333_333 for edge in (start, end))
            part = Part(
                path=part_path("s", EPOCH, name, msn, i),
                start_ns=start,
                end_ns=end,
                independent=not i or name == "audio",
            )
            line.add_part(name, msn, part, final=final and i == parts - 1)


def stream(window_s: float = 30) -> Timeline:
    timing = Timing.plan(PLAN, window_s=window_s)
    return Timeline(stream="s", epoch=EPOCH, timing=timing, renditions=PLAN, first_msn=100)


def begun() -> Timeline:
    line = stream()
    begin(line)
    add(line, 100)
    return line


def restarted() -> Timeline:
    """Twelve segments and a third of one that 180p never got; an encoder that is back 5 s later."""
    line = stream()
    begin(line)
    for msn in range(100, 112):
        add(line, msn)
    add(line, 112, parts=2, final=False, skip="180p")
    begin(line, wall_s=31)
    add(line, 113)
    add(line, 114, parts=4, final=False)
    return line


def holed() -> Timeline:
    """Audio of segment 103 was lost while the encoder went on."""
    line = stream()
    begin(line)
    for msn in range(100, 107):
        add(line, msn, skip="audio" if msn == 103 else "")
    return line


def ended() -> Timeline:
    """The window begins in the first period."""
    line = stream(window_s=16)
    begin(line)
    for msn in range(100, 112):
        add(line, msn)
    begin(line, wall_s=31)
    for msn in range(112, 116):
        add(line, msn)
    line.end()
    return line


def text(line: Timeline, *, running: bool = True) -> str:
    found = dash.periods(line, running=running)
    return dash.manifest(line, found, published_ns=WALL)


CASES: Final = {
    "begun": text(begun()),
    "restarted": text(restarted()),
    "holed": text(holed()),
    "away": text(holed(), running=False),
    "ended": text(ended(), running=False),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    assert CASES[name] == (GOLDEN / f"{name}.mpd").read_text()


@pytest.mark.parametrize("name", CASES)
def test_a_foreign_parser_reads_it(name: str) -> None:
    found = mpd.parse(CASES[name])
    assert found.type == ("static" if name == "ended" else "dynamic")
    for period in found.periods:
        video, audio = period.adaptation_sets
        assert [r.id for r in video.representations] == ["360p", "180p"]
        assert [r.id for r in audio.representations] == ["audio"]
        assert {r.codecs for r in video.representations} == {"avc1.4D401E", "avc1.4D400D"}


@pytest.mark.parametrize("name", CASES)
def test_it_is_what_the_standard_says(name: str) -> None:
    assert mpd_schema.problems(CASES[name]) == []


@pytest.mark.parametrize(
    ("case", "wrong", "instead", "problem"),
    [
        ("begun", "</MPD>", "", "XML: "),
        ("begun", "mpd:2011", "mpd:2012", "root: found {urn:mpeg:dash:schema:mpd:2012}MPD"),
        ("begun", ' minBufferTime="PT0.341S"', "", "MPD@minBufferTime: missing"),
        ("begun", ' type="dynamic"', ' kind="dynamic"', "MPD@kind: unknown"),
        ("begun", 'bandwidth="800000"', 'bandwidth="0.8M"', "bandwidth: found '0.8M'"),
        ("begun", 'start="PT200.000S"', 'start="200"', "MPD/Period@start: found '200'"),
        ("begun", "2025-11-22T08:26:40.250Z", "2025-11-22 08:26", "publishTime: found"),
        ("begun", "<Period ", "<UTCTiming schemeIdUri='a'/><Period ", "in another order"),
        ("begun", "<Period ", "<BaseURL/><Period ", "MPD/BaseURL: unknown"),
        ("begun", ' schemeIdUri="urn:mpeg:dash:utc:http-xsdate:2014"', "", "schemeIdUri: missing"),
        ("begun", 'type="dynamic"', 'type="static"', "MPD@minimumUpdatePeriod: in a static one"),
        ("ended", 'type="static"', 'type="dynamic"', "availabilityStartTime: missing in a dynamic"),
        ("ended", "mediaPresentationDuration", "maxSubsegment", "MPD@maxSubsegment: unknown"),
        ("begun", "isoff-live", "isoff-main", "MPD@profiles: without"),
        ("restarted", 'id="1.113"', 'id="0.100"', "Period@id: found"),
        ("restarted", 'start="PT231.000S"', 'start="PT220S"', "ends after 1.113 has begun"),
        ("begun", 'id="180p"', 'id="360p"', "Representation@id: found"),
        ("begun", 'referenceId="0"', 'referenceId="7"', "without its ProducerReferenceTime"),
        ("begun", 'duration="2000"', 'duration="2500"', "@duration: found 5/2 s"),
        ("begun", 'duration="2000" ', "", "@duration: missing"),
        ("begun", "$Number$", "$Time$", "@media: found"),
        ("begun", "/$Number$", "/$Number", "@media: found"),
        ("begun", 'Offset="1.659"', 'Offset="2.0"', "@availabilityTimeOffset: found 2.0"),
        ("begun", 'availabilityTimeOffset="1.659" ', "", "without availabilityTimeOffset"),
        ("begun", ' codecs="mp4a.40.2"', "", "/audio@codecs: missing"),
        ("begun", 'startWithSAP="1"', 'startWithSAP="0"', "neither aligned nor switchable"),
    ],
)
def test_what_would_be_none_is_found_out(case: str, wrong: str, instead: str, problem: str) -> None:
    assert wrong in CASES[case]
    found = mpd_schema.problems(CASES[case].replace(wrong, instead))
    assert any(problem in each for each in found), found


def named(line: Timeline) -> set[str]:
    """What the MPD implies once nothing grows."""
    return mpd.segments(text(line, running=False), "/live/s/")


def made(line: Timeline) -> set[str]:
    return {
        segment.path
        for track in line.tracks.values()
        for segment in (*track.retired, *track.segments)
        if not segment.gap
    }


@pytest.mark.parametrize("line", [restarted(), holed(), ended()])
def test_no_number_that_is_implied_was_never_made(line: Timeline) -> None:
    paths = named(line)
    assert len(paths) > 12
    assert paths <= made(line)


def test_a_segment_that_a_track_lacks_is_in_no_period() -> None:
    paths = named(holed())
    assert not paths & {segment_path("s", EPOCH, track.track, 103) for track in PLAN}
    assert segment_path("s", EPOCH, "audio", 104) in paths


def test_text_is_as_the_others_without_init_section() -> None:
    """As late, too: players keep to the latest of all."""
    plan = [*PLAN, ENGLISH]
    timing = Timing.plan(plan, window_s=30)
    line = Timeline(stream="s", epoch=EPOCH, timing=timing, renditions=plan, first_msn=100)
    begin(line)
    for msn in range(100, 107):
        add(line, msn, skip="audio" if msn == 103 else "")
    assert line.tracks["text-en"].inits == {}
    for period in mpd.parse(text(line)).periods:
        _, audio, words = period.adaptation_sets
        assert (words.content_type, words.mime_type, words.lang) == ("text", "text/vtt", "en")
        assert [role.value for role in words.roles] == ["subtitle"]
        template, others = words.segment_templates[0], audio.segment_templates[0]
        assert (template.initialization, template.media) == (
            None,
            f"{EPOCH}/$RepresentationID$/$Number$.vtt",
        )
        for name in ("presentation_time_offset", "availability_time_offset", "start_number"):
            assert getattr(template, name) == getattr(others, name)
    assert segment_path("s", EPOCH, "text-en", 102) in mpd.segments(text(line), "/live/s/")


def test_wall_clock_and_numbers_agree() -> None:
    """Date = availabilityStartTime + Period@start + media time - presentationTimeOffset, for every
    segment, to the millisecond that the MPD has."""
    line = restarted()
    found = mpd.parse(text(line, running=False))
    epoch = datetime.fromisoformat(found.availability_start_time)
    for period, generation in zip(found.periods, line.generations, strict=True):
        template = period.adaptation_sets[0].segment_templates[0]
        segments = [s for s in line.tracks["360p"].segments if s.generation is generation]
        for segment in segments:
            media_s = segment.start_ns / NS - template.presentation_time_offset / 1000
            date = epoch + timedelta(seconds=mpd.seconds(period.start) + media_s)
            assert date.timestamp() == pytest.approx(segment.wall_ns / NS, abs=0.0011)
            nominal_s = (segment.msn - template.start_number) * template.duration / 1000
            assert nominal_s == pytest.approx(media_s, abs=0.001)


def test_it_lives_as_long_as_its_periods() -> None:
    """Not one byte changes with segments, nor when the first of them leave the window."""
    line = begun()
    before = text(line)
    for msn in range(101, 160):
        add(line, msn)
    assert line.tracks["360p"].first_listed > 130
    assert text(line) == before


def test_a_period_keeps_its_beginning_when_the_gap_before_it_is_long_gone() -> None:
    line = holed()
    before = dash.periods(line, running=True)[-1]
    for msn in range(107, 170):
        add(line, msn)
    assert dash.periods(line, running=True) == (before,)


def test_a_restart_at_once_leaves_no_hole() -> None:
    """The encoder is back before the date of the last sample; audio ended a frame before."""
    line = stream()
    begin(line)
    add(line, 100)
    add(line, 101, parts=3, final=False)
    begin(line, wall_s=1)
    add(line, 102)
    one, other = dash.periods(line, running=True)
    assert one.duration_ns == 3 * NS
    assert other.wall_ns == one.wall_ns + 3 * NS


def test_periods_never_overlap() -> None:
    for line in (restarted(), holed(), ended()):
        found = dash.periods(line, running=False)
        assert len(found) > 1
        for one, other in pairwise(found):
            assert one.duration_ns is not None
            assert one.wall_ns + one.duration_ns <= other.wall_ns


def test_a_period_begins_with_its_init_sections() -> None:
    line = begun()
    before = dash.periods(line, running=False)
    number = line.begin_generation(wall_ns=WALL + 9 * NS).number
    line.set_init("360p", init_path("s", EPOCH, "360p", number), PLAN[0])
    assert dash.periods(line, running=True) == before
    for rendition in (V180, AUDIO):
        path = init_path("s", EPOCH, rendition.track, number)
        line.set_init(rendition.track, path, rendition)
    newest = dash.periods(line, running=True)[-1]
    assert newest == Period(
        epoch=EPOCH,
        number=1,
        first_msn=101,
        wall_ns=WALL + 9 * NS,
        duration_ns=None,
        renditions=tuple(PLAN),
    )
