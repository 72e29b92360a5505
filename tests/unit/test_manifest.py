"""The playlists, letter by letter, against tests/golden; and what must hold between them."""

from __future__ import annotations

from pathlib import Path

import m3u8
import pytest

from origin import manifest
from origin.markers import Marker
from origin.model import Rendition
from origin.names import init_path, part_path
from origin.timeline import Part, Timeline
from origin.timing import NS, Timing

GOLDEN = Path(__file__).parent.parent / "golden"
WALL = 1_763_800_000 * NS
V360 = Rendition(
    track="360p",
    kind="video",
    bandwidth=800_000,
    average_bandwidth=700_000,
    codecs="avc1.4D401E",
    width=640,
    height=360,
    frame_rate=30,
    key_bandwidth=350_000,
)
V180 = Rendition(
    track="180p",
    kind="video",
    bandwidth=300_000,
    average_bandwidth=250_000,
    codecs="avc1.4D400D",
    width=320,
    height=180,
    frame_rate=30,
    key_bandwidth=125_000,
)
AUDIO = Rendition(
    track="audio",
    kind="audio",
    bandwidth=110_000,
    average_bandwidth=96_000,
    codecs="mp4a.40.2",
    channels=2,
    sample_rate=48_000,
)
ENGLISH, GERMAN = (
    Rendition(
        track=f"text-{language}",
        kind="text",
        bandwidth=16_000,
        average_bandwidth=4_000,
        codecs="wvtt",
        language=language,
        name=name,
    )
    for language, name in (("en", "English"), ("de", ""))
)
PLAN = [V360, V180, AUDIO]


def begin(line: Timeline, *, wall_s: int = 0) -> None:
    """A generation, with the init sections of all tracks."""
    number = line.begin_generation(wall_ns=WALL + wall_s * NS).number
    for name, track in line.tracks.items():
        line.set_init(name, init_path("s", "t0", name, number), track.rendition)


def add(line: Timeline, msn: int, *, parts: int = 6, final: bool = True, skip: str = "") -> None:
    for name in line.tracks:
        for i in range(parts if name != skip else 0):
            start = msn * 2 * NS + i * NS // 3
            part = Part(
                path=part_path("s", "t0", name, msn, i),
                start_ns=start,
                end_ns=msn * 2 * NS + (i + 1) * NS // 3,
                independent=not i or name == "audio",
                key_bytes=0 if i or name == "audio" else 9_000 + msn,
            )
            line.add_part(name, msn, part, final=final and i == parts - 1)


def stream(window_s: float = 30) -> Timeline:
    return Timeline(
        stream="s",
        epoch="t0",
        timing=Timing.plan(PLAN, window_s=window_s),
        renditions=PLAN,
        first_msn=100,
    )


def first_part() -> Timeline:
    line = stream()
    begin(line)
    add(line, 100, parts=1, final=False)
    return line


def restarted() -> Timeline:
    """12 segments; then the encoder dies in one that 180p never got, and comes back 5 s later."""
    line = stream()
    begin(line)
    for msn in range(100, 112):
        add(line, msn)
    add(line, 112, parts=2, final=False, skip="180p")
    line.level()
    begin(line, wall_s=31)
    add(line, 113)
    add(line, 114, parts=4, final=False)
    return line


def between() -> Timeline:
    """The new encoder has sent its init sections, but no part yet."""
    line = stream()
    begin(line)
    add(line, 100)
    begin(line, wall_s=9)
    return line


def evicted() -> Timeline:
    """The first generation has left the window, and with it its tag."""
    line = stream(window_s=6)
    begin(line)
    for msn in range(100, 104):
        add(line, msn)
    begin(line, wall_s=20)
    for msn in range(104, 108):
        add(line, msn)
    return line


BREAK = Marker(
    id="break-1",
    start_ns=WALL + 17 * NS,
    kind="ad",
    planned_ns=30 * NS,
    scte35_out="fc302000",
)


def marked() -> Timeline:
    """A break is announced in segment 108, its end is known in 118; an earlier event has left."""
    line = stream(window_s=30)
    begin(line)
    line.mark(Marker(id="opening", start_ns=WALL, duration_ns=NS))
    for msn in range(100, 120):
        if msn == 108:
            line.mark(BREAK)
        if msn == 118:
            line.mark(
                Marker(
                    id="break-1",
                    start_ns=BREAK.start_ns,
                    duration_ns=18_500 * 10**6,
                    scte35_in="fc302001",
                )
            )
        add(line, msn)
    return line


def ended() -> Timeline:
    line = restarted()
    line.end()
    return line


CASES = {
    "first_part": manifest.media_playlist(first_part(), "360p"),
    "restarted_360p": manifest.media_playlist(restarted(), "360p"),
    "restarted_180p": manifest.media_playlist(restarted(), "180p"),
    "restarted_audio_delta": manifest.delta_playlist(restarted(), "audio"),
    "between": manifest.media_playlist(between(), "audio"),
    "evicted": manifest.media_playlist(evicted(), "180p"),
    "ended": manifest.media_playlist(ended(), "audio"),
    "iframes": manifest.iframe_playlist(restarted(), "180p"),
    "iframes_delta": manifest.delta_playlist(restarted(), "360p", iframes=True),
    "iframes_evicted": manifest.iframe_playlist(evicted(), "360p"),
    "marked": manifest.media_playlist(marked(), "360p"),
    "marked_delta": manifest.delta_playlist(marked(), "360p"),
    "marked_delta_v2": manifest.delta_playlist(marked(), "360p", v2=True),
    "multivariant": manifest.multivariant_playlist("s", PLAN),
    "multivariant_video_only": manifest.multivariant_playlist("s", [V180]),
    "multivariant_text": manifest.multivariant_playlist("s", [*PLAN, ENGLISH, GERMAN]),
    "multivariant_audio_only": manifest.multivariant_playlist("s", [AUDIO]),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    assert CASES[name] == (GOLDEN / f"{name}.m3u8").read_text()


@pytest.mark.parametrize("name", CASES)
def test_a_foreign_parser_reads_it(name: str) -> None:
    text = CASES[name]
    assert text is not None
    playlist = m3u8.loads(text)
    assert playlist.is_variant == name.startswith("multivariant")
    assert playlist.is_endlist == (name == "ended")
    uris = [s.uri for s in playlist.segments if s.uri] + [p.uri for p in playlist.playlists]
    assert all(uri and not uri.startswith("/") and "://" not in uri for uri in uris)


def test_between_two_encoders_the_next_init_section_is_hinted() -> None:
    """B.1: the part that comes next will be in its scope, if any comes."""
    line = stream()
    begin(line)
    add(line, 100)
    assert "TYPE=MAP" not in manifest.media_playlist(line, "360p")
    add(line, 101, parts=2, final=False)
    line.level()
    hints = [r for r in manifest.media_playlist(line, "360p").split("\n") if "HINT" in r]
    assert hints == [
        '#EXT-X-PRELOAD-HINT:TYPE=MAP,URI="t0/360p/init1.mp4"',
        '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="t0/360p/102.0.m4s"',
    ]
    begin(line, wall_s=9)
    add(line, 102, parts=1, final=False)
    assert "TYPE=MAP" not in manifest.media_playlist(line, "360p")


def merge(full_before: str, delta: str) -> str:
    """What a client makes of a delta update: the skipped lines from the playlist it had."""
    head, _, rest = delta.partition("#EXT-X-SKIP:SKIPPED-SEGMENTS=")
    count, _, tail = rest.partition("\n")
    body = full_before.partition("#EXT-X-MAP")[1] + full_before.partition("#EXT-X-MAP")[2]
    kept = body.split("\n")
    ends = [i for i, row in enumerate(kept) if row.endswith(".m4s")]
    return head + "\n".join(kept[: ends[int(count) - 1] + 1]) + "\n" + tail


def without_parts(text: str) -> list[str]:
    return [r for r in text.split("\n") if not r.startswith(("#EXT-X-PART:", "#EXT-X-MAP"))]


def test_a_delta_and_an_older_playlist_make_the_newest() -> None:
    line = stream()
    begin(line)
    for msn in range(100, 110):
        add(line, msn)
    before = manifest.media_playlist(line, "360p")
    add(line, 110)
    add(line, 111, parts=3, final=False)
    delta = manifest.delta_playlist(line, "360p")
    assert delta is not None
    assert "#EXT-X-SKIP:SKIPPED-SEGMENTS=4\n" in delta  # 100..103 end more than 12 s before the end
    merged = merge(before, delta).replace("VERSION:9", "VERSION:6")
    assert without_parts(merged) == without_parts(manifest.media_playlist(line, "360p"))


def test_no_delta_when_nothing_can_be_skipped() -> None:
    assert manifest.delta_playlist(first_part(), "360p") is None
    assert manifest.delta_playlist(ended(), "360p") is None


def test_what_must_be_equal_in_all_renditions() -> None:
    line = restarted()
    heads = set()
    for name in line.tracks:
        rows = manifest.media_playlist(line, name).split("\n")
        heads.add(tuple(r for r in rows if "TARGET" in r or "SERVER-CONTROL" in r))
    assert len(heads) == 1
    (head,) = heads
    rows = manifest.iframe_playlist(line, "360p").split("\n")
    assert {r for r in rows if "TARGETD" in r or "SERVER-CONTROL" in r} < set(head)


def test_every_other_rendition_is_reported_where_it_stands() -> None:
    """Also one whose open part is another, and one that lists no part of its newest segment."""
    line = stream()
    begin(line)
    add(line, 100)
    add(line, 101, parts=3, final=False)
    extra = Part(path="/x", start_ns=203 * NS, end_ns=203 * NS + NS // 3, independent=False)
    line.add_part("360p", 101, extra, final=False)
    reports = {
        name: [
            row.removeprefix("#EXT-X-RENDITION-REPORT:URI=")
            for row in manifest.media_playlist(line, name).split("\n")
            if "RENDITION-REPORT" in row
        ]
        for name in line.tracks
    }
    own = {
        "360p": '"360p.m3u8",LAST-MSN=101,LAST-PART=3',
        "180p": '"180p.m3u8",LAST-MSN=101,LAST-PART=2',
        "audio": '"audio.m3u8",LAST-MSN=101,LAST-PART=2',
    }
    for name in line.tracks:
        assert reports[name] == [row for other, row in own.items() if other != name]


def test_the_version_is_the_lowest_that_covers_the_tags() -> None:
    """Section 8, and Appendix B: 3 for fractions, 5 and 6 for EXT-X-MAP, 9 for EXT-X-SKIP."""
    line = stream()
    line.begin_generation(wall_ns=WALL)
    add(line, 100)  # before any init section
    assert manifest.media_playlist(line, "360p").split("\n")[1] == "#EXT-X-VERSION:3"
    assert manifest.iframe_playlist(line, "360p").split("\n")[1] == "#EXT-X-VERSION:4"
    assert CASES["iframes"].split("\n")[1] == "#EXT-X-VERSION:5"  # type: ignore[union-attr]
    assert CASES["first_part"].split("\n")[1] == "#EXT-X-VERSION:6"  # type: ignore[union-attr]
    assert CASES["iframes_delta"].split("\n")[1] == "#EXT-X-VERSION:9"  # type: ignore[union-attr]


def test_a_settled_segment_is_written_as_a_fresh_one() -> None:
    """What is kept of a segment is what would be written again."""
    line = restarted()
    kept = manifest.media_playlist(line, "360p")
    assert sum(bool(segment.settled) for segment in line.tracks["360p"].segments) > 8
    for segment in line.tracks["360p"].segments:
        segment.settled = ""
    assert manifest.media_playlist(line, "360p") == kept


def test_a_report_of_a_track_that_ends_with_a_gap_names_its_last_part() -> None:
    """180p never got segment 112: said was LAST-MSN=112 without a LAST-PART (4.4.5.4)."""
    line = stream()
    begin(line)
    add(line, 111)
    add(line, 112, parts=2, final=False, skip="180p")
    line.level()
    text = manifest.media_playlist(line, "360p")
    assert '#EXT-X-RENDITION-REPORT:URI="180p.m3u8",LAST-MSN=111,LAST-PART=5' in text
