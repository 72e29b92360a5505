"""Words become cues: which parts they stand in, how long they are shown, and what is refused."""

from __future__ import annotations

from typing import Final

import pytest

from edgecache import amf
from origin import subtitles, webvtt
from origin.model import Rendition
from origin.subtitles import CUES, Subtitles, Told, told_of
from origin.timing import NS, Timing
from tests import vtt

TIMING: Final = Timing.plan([], segment_s=2, part_s=0.5)
FIRST: Final = 100  # segment of the generation; media time 200 s


def text(track: str, language: str) -> Rendition:
    return Rendition(track=track, kind="text", bandwidth=1, average_bandwidth=1, language=language)


def begun(*languages: str) -> Subtitles:
    made = Subtitles([text(f"text-{name}", name) for name in languages or ("en",)], TIMING)
    made.begin(FIRST)
    return made


def said(words: str, language: str = "", ms: int = 0) -> Told:
    return Told(text=words, language=language, duration_ms=ms)


def part(of: Subtitles, index: int, *, msn: int = FIRST, track: str = "text-en") -> bytes:
    start, end = ((4 * msn + edge) * NS // 2 for edge in (index, index + 1))
    return of.part(track, msn, start, end)


def parts(of: Subtitles, *, msn: int = FIRST, track: str = "text-en") -> list[bytes]:
    """The four parts of segment `msn`."""
    return [part(of, index, msn=msn, track=track) for index in range(4)]


def shown(body: bytes) -> list[tuple[float, float, str]]:
    """Times since the generation's begin."""
    return [
        (round(cue.start_s - 2 * FIRST, 3), round(cue.end_s - 2 * FIRST, 3), cue.text)
        for cue in vtt.read(body)
    ]


def test_a_cue_stands_once_in_each_segment_it_is_shown_in() -> None:
    of = begun()
    of.say(said("hello", ms=3_000), 700)
    first, second, third = (parts(of, msn=FIRST + n) for n in range(3))
    assert [shown(body) for body in first] == [[], [(0.7, 3.7, "hello")], [], []]
    assert [shown(body) for body in second] == [[(0.7, 3.7, "hello")], [], [], []]
    assert [shown(body) for body in third] == [[], [], [], []]
    assert shown(b"".join(first)) == [(0.7, 3.7, "hello")]


def test_cues_are_written_in_media_time_which_each_segment_maps() -> None:
    of = begun()
    of.say(said("hi", ms=500), 0)
    heads = [b"".join(parts(of, msn=FIRST + n)).decode() for n in (0, 1)]
    assert heads[0].startswith(
        "WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:03:20.000,MPEGTS:18000000\n\n"
        "00:03:20.000 --> 00:03:20.500\nhi\n\nWEBVTT\n"
    )
    assert heads[1].startswith("WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:03:22.000,MPEGTS:18180000\n\n")
    # 33 bits of 90 kHz, which wrap every 26.5 hours; media time goes on, since 1970
    assert webvtt.head(1_763_800_000_000) == (
        "WEBVTT\nX-TIMESTAMP-MAP=LOCAL:489944:26:40.000,"
        f"MPEGTS:{1_763_800_000_000 * 90 % 2**33}\n\n"
    )


def test_without_a_duration_the_next_text_ends_it() -> None:
    of = begun()
    of.say(said("one"), 100)
    of.say(said("two"), 400)
    of.say(said(""), 900)
    assert [shown(body) for body in parts(of)[:3]] == [
        [(0.1, 0.4, "one"), (0.4, 0.9, "two")],
        [],
        [],
    ]


@pytest.mark.parametrize(("letters", "seconds"), [(5, 1.5), (50, 3.0), (300, 6.0)])
def test_without_a_duration_it_stays_for_as_long_as_reading_takes(
    letters: int, seconds: float
) -> None:
    of = begun()
    of.say(said("a" * letters), 0)
    assert shown(parts(of)[0]) == [(0.0, seconds, "a" * letters)]


def test_what_has_left_is_never_taken_back() -> None:
    of = begun()
    of.say(said("one"), 0)
    assert shown(part(of, 0)) == [(0.0, 1.5, "one")]
    of.say(said(""), 600)
    of.say(said("late", ms=1_000), 200)  # that part has left: it begins with the next
    assert shown(part(of, 1)) == [(0.5, 1.5, "late")]
    assert shown(parts(of, msn=FIRST + 1)[0]) == []


def test_cues_with_durations_may_overlap() -> None:
    of = begun()
    of.say(said("one", ms=1_000), 0)
    of.say(said("two", ms=1_000), 200)
    assert shown(parts(of)[0]) == [(0.0, 1.0, "one"), (0.2, 1.2, "two")]


def test_languages_are_told_apart() -> None:
    of = begun("en", "de")
    for words, language in (("yes", "en"), ("ja", "de"), ("oui", "fr"), ("first", "")):
        of.say(said(words, language, 500), 0)
    assert [cue[2] for cue in shown(parts(of)[0])] == ["yes", "first"]
    assert [cue[2] for cue in shown(parts(of, track="text-de")[0])] == ["ja"]
    assert of.dropped == {"text_language": 1}


def test_another_encoder_goes_on_with_what_is_shown() -> None:
    of = begun()
    of.say(said("over", ms=500), 0)
    of.say(said("goes on", ms=3_000), 100)
    parts(of)
    of.begin(FIRST + 5)
    at = part(of, 0, msn=FIRST + 5)
    assert [(cue.start_s, cue.end_s, cue.text) for cue in vtt.read(at)] == [
        (210.0, 211.1, "goes on")
    ]


def test_a_flood_is_bounded_in_every_segment() -> None:
    of = begun()
    for index in range(40):
        of.say(said(f"{index}" * 500, ms=100), 10 * index)
    body = b"".join(parts(of))
    assert len(vtt.read(body)) == CUES
    for round_ in range(4):  # and so it is when each part leaves room for more
        for index in range(CUES):
            of.say(said(f"{round_}{index}", ms=10), 2_000 + 500 * round_ + index)
        body = part(of, round_, msn=FIRST + 1)
        assert len(vtt.read(body)) == (0 if round_ else CUES)
    assert of.dropped == {"text_room": 40 - CUES + 3 * CUES}


def test_the_bandwidth_is_never_exceeded() -> None:
    of = begun()
    for _ in range(CUES):
        of.say(said(webvtt.clean("<&>" * 300), ms=60_000), 0)
    size = len(b"".join(parts(of)))
    assert 0.8 * subtitles.bandwidth(2, 4) < 8 * size / 2 <= subtitles.bandwidth(2, 4)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("plain", "plain"),
        (" two \r\n\r\n\n lines\x00 ", "two\nlines"),
        ("1 --> 2", "1 --&gt; 2"),
        ("<b>bold</b> & co", "&lt;b&gt;bold&lt;/b&gt; &amp; co"),
        ("\ud800", "?"),
        ("\n \r\n\t", ""),
        ("ü" * 300, "ü" * 200),
        ("a" * 398 + "&", "a" * 398),
    ],
)
def test_text_cannot_leave_its_cue(given: str, text: str) -> None:
    assert webvtt.clean(given) == text


@pytest.mark.parametrize("name", sorted(subtitles.MESSAGES))
def test_what_publishers_send(name: str) -> None:
    sent = amf.encode(name, {"type": "Text", "text": "hi", "language": "EN", "duration": 2.5})
    assert told_of(amf.decode(sent)) == Told("hi", "en", 2_500)


@pytest.mark.parametrize(
    "values",
    [
        [],
        ["onTextData"],
        ["onTextData", "hi"],
        ["onTextData", {}],
        ["onTextData", {"text": 1.0}],
        ["onMetaData", {"text": "hi"}],
    ],
)
def test_other_messages_are_no_words(values: list[amf.Value]) -> None:
    assert told_of(values) is None


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf"), 61.0, "2"])
def test_a_duration_that_cannot_be_is_none(seconds: amf.Value) -> None:
    told = told_of(["onTextData", {"text": "hi", "duration": seconds, "language": 4.0}])
    assert told == Told("hi", "", 0)
