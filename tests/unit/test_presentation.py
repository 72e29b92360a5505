"""Real encoders' bytes become publications that keep every promise: order, digests, numbers, and
playlists that name only what exists. Both ffmpegs that the project supports."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import m3u8
import pytest

from origin.cmaf import Demuxer, Frame, Init
from origin.model import (
    MediaObject,
    Publication,
    Rendition,
)
from origin.names import epoch_of
from origin.packager import CLOSING, fragment
from origin.presentation import Presentation
from origin.subtitles import Told
from tests import mpd, vtt
from tests.encoded import SECONDS, encode
from tests.published import Ledger

UNIX_S = 1_763_800_000
WALL = UNIX_S * 1_000_000_000
V180 = Rendition(
    track="180p",
    kind="video",
    bandwidth=300_000,
    average_bandwidth=250_000,
    key_bandwidth=125_000,
)
V90 = Rendition(track="90p", kind="video", bandwidth=120_000, average_bandwidth=100_000)
AUDIO = Rendition(track="audio", kind="audio", bandwidth=70_000, average_bandwidth=64_000)
PLAN = [V180, V90, AUDIO]
ENCODERS = {"debian": shutil.which("ffmpeg") or "", "wheel": imageio_ffmpeg.get_ffmpeg_exe()}


@pytest.fixture(params=sorted(ENCODERS))
def ffmpeg(request: pytest.FixtureRequest) -> str:
    if not ENCODERS[request.param]:
        pytest.skip("no ffmpeg in PATH")
    return str(ENCODERS[request.param])


def presentation(*, renditions: Sequence[Rendition] = PLAN, **changes: float) -> Presentation:
    epoch = epoch_of(UNIX_S)
    given: dict[str, Any] = {"renditions": renditions, **changes}
    return Presentation("s", epoch=epoch, **given)


def feed(show: Presentation, chunks: Iterable[tuple[str, bytes]]) -> Iterator[Publication]:
    for track, data in chunks:
        yield from show.feed(track, data, WALL)


def check_media(ledger: Ledger, ffmpeg: str, folder: Path, *, init: str, frames: int) -> None:
    """Init and segments of each track, concatenated, decode without a word, and the decode
    timestamps have no hole."""
    for rendition in PLAN:
        names = [p for p in ledger.segments if f"/{rendition.track}/" in p]
        body = next(b for p, b in ledger.objects.items() if p.endswith(f"{rendition.track}/{init}"))
        path = folder / f"{rendition.track}.mp4"
        path.write_bytes(body + b"".join(ledger.segments[name] for name in names))
        run = [ffmpeg, "-v", "error", "-nostdin", "-i", str(path)]
        decoded = subprocess.run([*run, "-f", "null", "-"], capture_output=True, timeout=60)
        assert (decoded.returncode, decoded.stderr) == (0, b"")
        listed = subprocess.run(
            [*run, "-c", "copy", "-copyts", "-f", "framecrc", "-"], capture_output=True, timeout=60
        )
        rows = [r.split(b",") for r in listed.stdout.split(b"\n") if r and not r.startswith(b"#")]
        times = [(int(row[1]), int(row[3])) for row in rows]
        steps = {b[0] - a[0] - a[1] for a, b in pairwise(times)}
        assert steps == {0}
        if rendition.kind == "video":
            assert len(times) == frames


def check_counts(show: Presentation, ledger: Ledger) -> None:
    """Every frame of every encoder is in a part, on its way into one, or counted as dropped."""
    told = show.counts()
    dropped = sum(count for name, count in told.items() if name.startswith("frames.dropped."))
    became = told["frames.packaged"] + told["frames.waiting"] + dropped
    assert told["frames.encoded"] == became > 0
    assert told["made.parts"] == len(ledger.parts)
    assert told["made.segments"] == len(ledger.complete)


def test_one_run_of_a_real_encoder(ffmpeg: str, tmp_path: Path) -> None:
    show, ledger = presentation(), Ledger()
    start = show.begin_generation(wall_ns=WALL)
    assert (start.generation, start.msn, start.offset_s) == (0, UNIX_S // 2, UNIX_S)
    chunks = encode(ffmpeg, start.offset_s)
    ledger.take(feed(show, chunks))
    live = dict(ledger.playlists)
    ledger.take(show.end())
    assert show.faults == {}
    assert show.drops == {"early": 1}  # AAC priming
    # aligned: all tracks have the same parts in the same segments
    shapes = {
        tuple((p.msn - start.msn, p.index) for p in ledger.parts if p.track == rendition.track)
        for rendition in PLAN
    }
    assert shapes == {(*((m, i) for m in range(5) for i in range(6)), (5, 0), (5, 1))}
    for part in ledger.parts:
        assert part.duration_s <= show.timing.part_target_ns / 1e9
        assert part.final or part.duration_s >= 0.85 * show.timing.part_target_ns / 1e9
        assert part.index or part.independent
    video = [round(p.duration_s, 4) for p in ledger.parts if p.track == "180p"]
    assert video == [0.3333] * 31 + [0.1667]
    assert ledger.complete == set(ledger.segments)
    check_media(ledger, ffmpeg, tmp_path, init="init0.mp4", frames=round(SECONDS * 30))
    # the last live versions, and the ones that end the stream
    assert live["/live/s/180p.m3u8"].version == (start.msn + 5, 1, 6)
    assert live["/live/s/180p.m3u8"].hold_ms == 6000
    assert live["/live/s/180p.m3u8"].advance == 8
    assert all(v.ended for v in ledger.playlists.values() if v.hold_ms)
    final = ledger.playlists["/live/s/manifest.mpd"].full.decode()
    assert mpd.parse(final).type == "static"
    assert len(mpd.segments(final, "/live/s/")) == len(ledger.complete)
    master = m3u8.loads(ledger.playlists["/live/s/master.m3u8"].full.decode())
    info = [p.stream_info for p in master.playlists]
    assert [i.resolution for i in info] == [(320, 180), (160, 90)]
    assert all("avc1." in i.codecs and "mp4a.40.2" in i.codecs for i in info)


TEXT = Rendition(
    track="text-en",
    kind="text",
    bandwidth=20_000,
    average_bandwidth=5_000,
    codecs="wvtt",
    language="en",
)


def test_text_follows_the_picture_part_by_part(ffmpeg: str) -> None:
    """Through the death of an encoder, too."""
    show, ledger = presentation(renditions=[*PLAN, TEXT]), Ledger(tracks=4)
    starts = []
    for _ in range(2):
        start = show.begin_generation(wall_ns=WALL)
        starts.append(start)
        show.say(Told(text="hello", language="", duration_ms=3_000), 1_500)
        ledger.take(feed(show, _bytes(list(encode(ffmpeg, start.offset_s)), 0.7)))
        ledger.take(show.end_generation())
    ledger.take(show.end())
    shapes = {
        track: [(p.msn, p.index, p.duration_s, p.final) for p in ledger.parts if p.track == track]
        for track in ("180p", "text-en")
    }
    assert shapes["text-en"] == shapes["180p"]
    said = [
        (path, cue)
        for path, body in ledger.segments.items()
        if path.endswith(".vtt")
        for cue in vtt.read(body)
    ]
    assert [path.rpartition("/")[2] for path, _ in said] == [
        f"{start.msn + n}.vtt" for start in starts for n in (0, 1, 2)
    ]
    assert {round(cue.end_s - cue.start_s, 3) for _, cue in said} == {3.0}
    final = ledger.playlists["/live/s/text-en.m3u8"].full.decode()
    assert "#EXT-X-VERSION:3\n" in final
    assert "EXT-X-MAP" not in final
    assert final.count("#EXT-X-DISCONTINUITY\n") == 1
    assert "/text-en/" not in " ".join(path for path in ledger.objects if "init" in path)


def test_a_classic_player_plays_the_ended_stream(ffmpeg: str, tmp_path: Path) -> None:
    """Files laid out as on the wire, read by ffmpeg's own HLS client."""
    show, ledger = presentation(), Ledger()
    start = show.begin_generation(wall_ns=WALL)
    ledger.take(feed(show, encode(ffmpeg, start.offset_s)))
    ledger.take(show.end())
    playlists = {path: version.full for path, version in ledger.playlists.items()}
    for path, body in (ledger.objects | ledger.segments | playlists).items():
        target = tmp_path / path.removeprefix("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(body)
    master = tmp_path / "live/s/master.m3u8"
    words = f"-v error -nostdin -allowed_extensions ALL -i {master} -map 0:v:0 -f framecrc -"
    run = subprocess.run([ffmpeg, *words.split()], capture_output=True, timeout=60)
    rows = [row for row in run.stdout.split(b"\n") if row and not row.startswith(b"#")]
    assert run.returncode == 0
    assert len(rows) == round(SECONDS * 30)


def test_an_encoder_dies_and_another_goes_on(ffmpeg: str, tmp_path: Path) -> None:
    show, ledger = presentation(), Ledger()
    first = show.begin_generation(wall_ns=WALL)
    chunks = encode(ffmpeg, first.offset_s)
    # died in its fourth segment or so; audio never got further than the third
    cut = [chunk for chunk in chunks if chunk[0] != "audio"]
    sound = [chunk for chunk in chunks if chunk[0] == "audio"]
    ledger.take(feed(show, _bytes(cut, 0.7) + _bytes(sound, 0.45)))
    ledger.take(show.end_generation())
    lacking = ledger.playlists["/live/s/audio.m3u8"]
    assert b"#EXT-X-GAP\n" in lacking.full
    coming = f"{epoch_of(UNIX_S)}/audio/init1.mp4"
    assert f'#EXT-X-PRELOAD-HINT:TYPE=MAP,URI="{coming}"\n'.encode() in lacking.full
    assert len({ledger.playlists[f"/live/s/{r.track}.m3u8"].msn for r in PLAN}) == 1
    second = show.begin_generation(wall_ns=WALL + 20 * 10**9)
    assert second.generation == 1
    assert second.msn == lacking.msn
    ledger.take(feed(show, encode(ffmpeg, second.offset_s)))
    ledger.take(show.end())
    for rendition in PLAN:
        text = ledger.playlists[f"/live/s/{rendition.track}.m3u8"].full.decode()
        assert text.count("#EXT-X-DISCONTINUITY\n") == 1
        head, tail = text.split("#EXT-X-DISCONTINUITY\n")
        assert f'{rendition.track}/init0.mp4"' in head
        assert tail.startswith(f'#EXT-X-MAP:URI="{epoch_of(UNIX_S)}/{rendition.track}/init1.mp4"')
        assert "#EXT-X-PROGRAM-DATE-TIME:2025-11-22T08:27:00.0" in tail
    assert ledger.complete == set(ledger.segments)
    check_counts(show, ledger)
    later = Ledger()
    later.objects = ledger.objects
    later.segments = {p: b for p, b in ledger.segments.items() if int(Path(p).stem) >= second.msn}
    check_media(later, ffmpeg, tmp_path, init="init1.mp4", frames=round(SECONDS * 30))


def _bytes(chunks: list[tuple[str, bytes]], share: float) -> list[tuple[str, bytes]]:
    """The first part of each track's bytes, cut anywhere."""
    total: dict[str, int] = {}
    for track, data in chunks:
        total[track] = total.get(track, 0) + len(data)
    left = {track: int(size * share) for track, size in total.items()}
    kept: list[tuple[str, bytes]] = []
    for track, data in chunks:
        kept.append((track, data[: left[track]]))
        left[track] = max(0, left[track] - len(data))
    return kept


def test_no_rendition_gets_more_than_a_part_ahead(ffmpeg: str) -> None:
    """RFC 8216bis B.1. Sound that comes late holds the pictures back, and is not waited for when it
    lacks a whole segment."""
    show, ledger = presentation(), Ledger()
    start = show.begin_generation(wall_ns=WALL)
    chunks = encode(ffmpeg, start.offset_s)
    pictures = _bytes([chunk for chunk in chunks if chunk[0] != "audio"], 0.15)
    sound = _bytes([chunk for chunk in chunks if chunk[0] == "audio"], 0.15)

    def made() -> Counter[str]:
        return Counter(part.track for part in ledger.parts)

    ledger.take(feed(show, pictures))
    assert made() == {"180p": 1, "90p": 1}
    for piece in sound:
        ledger.take(feed(show, [piece]))
        assert max(made().values()) - min(made()[r.track] for r in PLAN) <= 1
    assert min(made().values()) > 3
    assert show.out_of_step == 0
    deaf, ledger = presentation(), Ledger()
    deaf.begin_generation(wall_ns=WALL)
    ledger.take(feed(deaf, (chunk for chunk in chunks if chunk[0] != "audio")))
    assert deaf.out_of_step > 0


def test_a_segment_whose_last_part_had_left_is_closed(ffmpeg: str) -> None:
    """The encoder dies exactly between two parts: the segment's bytes still become final."""
    show, ledger = presentation(), Ledger()
    start = show.begin_generation(wall_ns=WALL)
    chunks = encode(ffmpeg, start.offset_s)
    slices = (
        (track, data[i : i + 200]) for track, data in chunks for i in range(0, len(data), 200)
    )
    for piece in slices:
        ledger.take(feed(show, [piece]))
        if ledger.parts and ledger.parts[-1].index == 2:
            break
    ledger.take(show.end_generation())
    assert ledger.complete == set(ledger.segments)
    assert [p for p in ledger.parts if p.body == CLOSING and p.index == 3 and p.duration_s == 0]


def test_one_frame_of_sound_is_no_segment_without_a_picture(ffmpeg: str) -> None:
    """Pictures end with a segment and sound a frame later. The playlists of pictures ended with a
    gap of 0.021333 s, and the recording counted a lost segment for each."""
    show, ledger = presentation(), Ledger()
    start = show.begin_generation(wall_ns=WALL)
    chunks = encode(ffmpeg, start.offset_s)
    for rendition in PLAN:
        data = b"".join(data for track, data in chunks if track == rendition.track)
        init, *rest = (item for item in Demuxer().feed(data) if isinstance(item, Init | Frame))
        assert isinstance(init, Init)
        frames = [item for item in rest if isinstance(item, Frame)]
        end = (UNIX_S + 8) * init.timescale
        kept = [frame for frame in frames if frame.dts + frame.duration // 2 < end]
        kept = frames[: len(kept) + (rendition is AUDIO)]
        body = b"".join(fragment(init, [frame], n) for n, frame in enumerate(kept, 1))
        ledger.take(feed(show, [(rendition.track, init.body + body)]))
    ledger.take(show.end())
    check_counts(show, ledger)
    assert show.drops == {"early": 1, "alone": 1}
    for rendition in PLAN:
        media = m3u8.loads(ledger.playlists[f"/live/s/{rendition.track}.m3u8"].full.decode())
        assert len(media.segments) == 4
        assert not [segment for segment in media.segments if segment.gap_tag]


def test_a_short_window_lets_go(ffmpeg: str) -> None:
    show, ledger = presentation(segment_s=1.0, part_s=0.2, window_s=3.0), Ledger()
    start = show.begin_generation(wall_ns=WALL)
    chunks = encode(ffmpeg, start.offset_s)
    forgotten: list[str] = []
    for chunk in chunks:
        ledger.take(feed(show, [chunk]))
        forgotten += show.forget()
    # key frames come every 2 s only: every other segment cannot begin, and is a gap
    assert set(show.drops) == {"early", "no_key"}
    text = ledger.playlists["/live/s/180p.m3u8"].full.decode()
    assert "#EXT-X-GAP" in text
    assert forgotten
    assert set(forgotten) <= set(ledger.objects) | set(ledger.segments)
    assert not any(path.removeprefix("/live/s/") in text for path in forgotten)


def test_garbage_is_a_fault_and_not_an_exception(ffmpeg: str) -> None:
    show, ledger = presentation(), Ledger()
    start = show.begin_generation(wall_ns=WALL)
    chunks = list(encode(ffmpeg, start.offset_s))
    half = len(chunks) // 2
    ledger.take(feed(show, [*chunks[:half], ("90p", b"<html>502 Bad Gateway"), *chunks[half:]]))
    assert list(show.faults) == ["90p"]
    assert show.faults["90p"].reason == "oversize"
    check_counts(show, ledger)
    ledger.take(show.end())
    assert ledger.complete == set(ledger.segments)
    check_counts(show, ledger)
    assert show.counts()["frames.waiting"] == 0
    assert show.drops["bytes"] > 0


def test_versions_grow_across_epochs() -> None:
    """A stream that comes back under its name must not look older than it did."""
    later = Presentation("s", epoch=epoch_of(UNIX_S + 60), renditions=PLAN)
    first = presentation().begin_generation(wall_ns=WALL)
    assert later.begin_generation(wall_ns=WALL).msn == first.msn + 30


@pytest.mark.parametrize(
    ("stream", "renditions", "message"),
    [
        ("../x", PLAN, "stream name"),
        ("s", [], "0 renditions"),
        ("s", [PLAN[0], PLAN[0]], "2 renditions"),
        ("s", [Rendition(track="A", kind="audio", bandwidth=1, average_bandwidth=1)], "track name"),
    ],
)
def test_what_cannot_be_presented(stream: str, renditions: list[Rendition], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Presentation(stream, epoch="t0", renditions=renditions)


def test_generations_do_not_overlap() -> None:
    show = presentation()
    show.begin_generation(wall_ns=WALL)
    with pytest.raises(ValueError, match="has not ended"):
        show.begin_generation(wall_ns=WALL)
    assert show.end_generation() == []
    assert show.end() == []
    with pytest.raises(ValueError, match="has ended"):
        show.begin_generation(wall_ns=WALL)


def test_an_init_section_alone_publishes_no_playlist(ffmpeg: str) -> None:
    show = presentation()
    start = show.begin_generation(wall_ns=WALL)
    data = b"".join(d for track, d in encode(ffmpeg, start.offset_s) if track == "audio")
    (init,) = show.feed("audio", data[: data.index(b"moof") - 4], WALL)
    assert isinstance(init, MediaObject)
    assert init.content_type == "audio/mp4"
    assert init.path.endswith("/audio/init0.mp4")
