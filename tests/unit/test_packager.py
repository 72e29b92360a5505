"""Frames fall into parts and segments as the grid and RFC 8216bis 4.4.4.9 want, whatever comes."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from origin.cmaf import Demuxer, Frame, Init
from origin.model import Rendition
from origin.packager import CLOSING, Cut, Packager, fragment
from origin.timing import NS, Timing

VIDEO = Init(
    body=b"",
    track_id=1,
    timescale=90000,
    kind="video",
    codec="avc1.64001F",
    default_flags=0x10000,
)
AUDIO = Init(body=b"", track_id=1, timescale=48000, kind="audio", codec="mp4a.40.2")


def timing(*, fps: float = 30, segment_s: float = 2.0, part_s: float = 1 / 3) -> Timing:
    plan = [
        Rendition(track="v", kind="video", bandwidth=1, average_bandwidth=1, frame_rate=fps),
        Rendition(track="a", kind="audio", bandwidth=1, average_bandwidth=1),
    ]
    return Timing.plan(plan, segment_s=segment_s, part_s=part_s)


def video(start_s: float, seconds: float, *, fps: float = 30, key_s: float = 2.0) -> list[Frame]:
    """Frames at `fps` from `start_s`; a key frame is the first at or after each key_s of its own
    time, as `-force_key_frames expr:gte(t,n_forced*2)` makes them."""
    step = Fraction(90000) / Fraction(fps).limit_denominator(1001)
    frames: list[Frame] = []
    forced = 0
    for i in range(round(seconds * fps)):
        at = round(i * step)
        key = at >= forced * key_s * 90000
        forced += key
        dts = round(start_s * 90000) + at
        frames.append(Frame(dts, 0, round((i + 1) * step) - at, key, bytes((i & 255,)) * 20))
    return frames


def audio(start_s: float, seconds: float, *, priming: int = 1) -> list[Frame]:
    start = round(start_s * 48000) - 1024 * priming
    return [
        Frame(start + 1024 * i, 0, 1024, True, bytes((i & 255,)) * 9)
        for i in range(round(seconds * 48000 / 1024) + priming)
    ]


def cut(
    frames: list[Frame], *, init: Init = VIDEO, first_msn: int = 5, grid: Timing | None = None
) -> tuple[list[Cut], Packager]:
    packager = Packager(init=init, timing=grid or timing(), first_msn=first_msn)
    return [c for frame in frames for c in packager.push(frame)], packager


def shape(cuts: list[Cut]) -> list[tuple[int, int, int, bool]]:
    """(msn, index, frames, final) of each part."""
    demuxer = Demuxer()
    counted = []
    for c in cuts:
        body = c.body
        counted.append((c.msn, c.index, body.count(b"trun") and _samples(body), c.final))
    assert demuxer.broken is None
    return counted


def _samples(body: bytes) -> int:
    """Over all fragments of a part."""
    return sum(int.from_bytes(run[4:8], "big") for run in body.split(b"trun")[1:])


def check(cuts: list[Cut], grid: Timing, *, flushed: bool = False) -> None:
    """What RFC 8216bis and ARCHITECTURE.md want of any list of parts."""
    target = grid.part_target_ns
    for c, after in zip(cuts, [*cuts[1:], None], strict=True):
        duration = c.end_ns - c.start_ns
        assert duration <= target
        if not c.final and not c.independent:
            assert duration >= 0.85 * target
        if after is not None:
            assert (after.msn, after.index) == ((c.msn + 1, 0) if c.final else (c.msn, c.index + 1))
            assert after.start_ns >= c.end_ns - 1
    for c in cuts:
        if c.index == 0:
            assert c.independent
    lengths: dict[int, int] = {}
    for c in cuts:
        lengths[c.msn] = lengths.get(c.msn, 0) + c.end_ns - c.start_ns
    for length in lengths.values():
        assert length < (grid.target_duration + 0.5) * NS


def test_thirty_frames_a_second() -> None:
    cuts, packager = cut(video(10, 6))
    assert shape(cuts) == [(m, i, 10, i == 5) for m in (5, 6, 7) for i in range(6)]
    assert [c.independent for c in cuts] == [i == 0 for _ in range(3) for i in range(6)]
    assert {c.end_ns - c.start_ns for c in cuts} <= {333_333_333, 333_333_334}
    assert packager.flush() == []
    assert not packager.dropped


def test_a_key_frame_is_a_fragment_of_its_own() -> None:
    """A byte range of the segment that any decoder takes: an I-frame playlist names it."""
    cuts, _ = cut(video(10, 2))
    first, *others = cuts
    head, tail = first.body[: first.key_bytes], first.body[first.key_bytes :]
    assert (_samples(head), _samples(tail)) == (1, 9)
    demuxer = Demuxer()
    demuxer._init = VIDEO
    (key,) = demuxer.feed(head)
    assert isinstance(key, Frame)
    assert (key.dts, key.duration, key.sync) == (10 * 90_000, 3000, True)
    assert len(demuxer.feed(tail)) == 9
    assert not any(c.key_bytes for c in others)
    sound, _ = cut(audio(10, 2), init=AUDIO)
    assert not any(c.key_bytes for c in sound)


def test_a_part_leaves_with_its_last_frame() -> None:
    packager = Packager(init=VIDEO, timing=timing(), first_msn=5)
    left = [len(packager.push(frame)) for frame in video(10, 2)]
    assert [i for i, n in enumerate(left) if n] == [9, 19, 29, 39, 49, 59]


def test_audio_gets_the_numbers_of_video() -> None:
    cuts, packager = cut(audio(10, 6), init=AUDIO)
    cuts += packager.flush()
    assert [(c.msn, c.index) for c in cuts] == [(m, i) for m in (5, 6, 7) for i in range(6)]
    assert {n for _, _, n, _ in shape(cuts)} == {15, 16}
    assert packager.dropped == {"early": 1}  # the encoder's priming, before the offset
    check(cuts, timing())


RATES = [
    (fps, part_s)
    for fps in (10, 24, 25, 30000 / 1001, 30, 50, 60)
    for part_s in (0.2, 1 / 3, 0.5, 1.0)
]


@pytest.mark.parametrize(("fps", "part_s"), RATES)
def test_frame_rates(fps: float, part_s: float) -> None:
    grid = timing(fps=fps, part_s=part_s)
    cuts, packager = cut(video(10, 8, fps=fps), grid=grid)
    cuts += packager.flush()
    check(cuts, grid)
    assert sum(n for _, _, n, _ in shape(cuts)) == round(8 * fps)
    assert [c.msn for c in cuts if c.final][:4] == [5, 6, 7, 8]
    sound, _ = cut(audio(10, 8), init=AUDIO, grid=grid)
    check(sound, grid)


def test_frames_other_than_planned_still_keep_the_part_target() -> None:
    grid = timing(fps=30)  # part target 0.34134, but 25 frames/s come: 9 would be 0.36
    cuts, _ = cut(video(10, 4, fps=25), grid=grid)
    check(cuts, grid)
    assert [n for _, _, n, _ in shape(cuts)] == [8, 8, 8, 8, 8, 8, 2] * 2


def test_segments_open_on_key_frames_only() -> None:
    frames = video(10, 4)[7:]  # the encoder lost the first key frame
    cuts, packager = cut(frames)
    assert packager.dropped == {"no_key": 53}
    assert cuts[0].msn == 6
    check(cuts, timing())


@pytest.mark.parametrize("off", [-44_000, -3000, -1, 1, 3000, 9000])
def test_key_frames_off_the_grid(off: int) -> None:
    """Some encoders put all key frames one frame late (media notes, trap 1), or round."""
    frames = [frame._replace(dts=frame.dts + off) for frame in video(10, 8)]
    cuts, packager = cut(frames)
    cuts += packager.flush()
    check(cuts, timing())
    assert [c.msn for c in cuts if c.index == 0 and c.independent] == [5, 6, 7, 8]
    assert not packager.dropped


def test_a_key_frame_later_than_the_others_costs_the_frames_before_it() -> None:
    """They have no segment: theirs was announced as complete, the next must start with a key."""
    frames = [
        frame._replace(
            sync=(frame.sync and frame.dts != 12 * 90000) or frame.dts == 12 * 90000 + 6000
        )
        for frame in video(10, 6)
    ]
    cuts, packager = cut(frames)
    assert packager.dropped == {"no_key": 2}
    assert [n for _, _, n, _ in shape(cuts)] == [10] * 11 + [8] + [10] * 6
    check(cuts, timing())


def test_nothing_is_added_to_a_finished_segment() -> None:
    frames = video(10, 2)
    again = frames[-1]._replace(dts=frames[-1].dts + 1, duration=1)
    cuts, packager = cut([*frames, again])
    assert cuts[-1].final
    assert packager.dropped == {"closed": 1}
    assert packager.flush() == []


def test_a_hole_closes_the_segment_before_it() -> None:
    frames = [*video(10, 1), *video(14, 2)]
    cuts, _ = cut(frames)
    assert [(c.msn, c.index, c.final) for c in cuts[:5]] == [
        (5, 0, False),
        (5, 1, False),
        (5, 2, False),
        (5, 3, True),  # CLOSING: the third part had already left
        (7, 0, False),
    ]
    assert cuts[3].body == CLOSING
    assert cuts[3].start_ns == cuts[3].end_ns == 11 * NS


def test_a_hole_inside_a_segment_keeps_the_order() -> None:
    frames = [f for f in video(10, 4) if not 10.5 * 90000 <= f.dts < 11.2 * 90000]
    cuts, packager = cut(frames)
    assert [(c.msn, c.index) for c in cuts][:6] == [*((5, i) for i in range(5)), (6, 0)]
    assert not packager.dropped


def test_flush_ends_short() -> None:
    cuts, packager = cut(video(10, 2.5))
    assert shape(cuts)[-1] == (6, 0, 10, False)
    assert shape(packager.flush()) == [(6, 1, 5, True)]
    assert packager.flush() == []


def test_sound_begins_no_segment_for_less_than_a_part() -> None:
    """In which there is no picture. With one, or after a part, it ends as everything does."""
    longer = audio(10, 4)[: 1 + 94 + 1]  # by one frame, which belongs to the next segment
    _, packager = cut(longer, init=AUDIO)
    assert packager.flush(6) == []
    assert (packager.dropped, packager.waiting) == ({"early": 1, "alone": 1}, 0)
    for picture_msn in (None, 7):
        _, packager = cut(longer, init=AUDIO)
        assert shape(packager.flush(picture_msn)) == [(6, 0, 1, True)]
    cuts, packager = cut(audio(10, 2.5), init=AUDIO)
    assert (cuts[-1].msn, cuts[-1].index) == (6, 0)
    assert [(c.msn, c.index) for c in packager.flush(6)] == [(6, 1)]


def test_flush_between_two_parts_closes_the_segment() -> None:
    _, packager = cut(video(10, 1))
    (last,) = packager.flush()
    assert (last.msn, last.index, last.final, last.body) == (5, 3, True, CLOSING)
    assert last.body == b"\0\0\0\x08free"


def test_what_cannot_be_placed_is_counted() -> None:
    frames = video(10, 0.1)
    strange = [
        frames[1],  # again
        frames[2]._replace(dts=2**63),
        frames[2]._replace(dts=frames[2].dts + 3000, duration=2**32 - 1),
    ]
    _, packager = cut([*frames, *strange])
    assert packager.dropped == {"backward": 1, "ahead": 1, "long": 1}


def test_dates_from_1970_are_exact() -> None:
    """Timestamps that count from 1970 need 64 bits and no floating point on the way."""
    start = 1_763_800_002
    cuts, packager = cut(video(start, 4), first_msn=start // 2)
    assert shape(cuts) == [(start // 2 + m, i, 10, i == 5) for m in (0, 1) for i in range(6)]
    sound, packager = cut(audio(start, 4), init=AUDIO, first_msn=start // 2)
    assert packager.dropped == {"early": 1}
    assert [(c.msn, c.index) for c in sound[:7]][-1] == (start // 2 + 1, 0)


@given(
    count=st.integers(1, 40),
    data=st.data(),
)
@settings(max_examples=150, deadline=None)
def test_fragments_say_what_went_in(count: int, data: st.DataObject) -> None:
    same = data.draw(st.booleans())
    frames, dts = [], data.draw(st.integers(0, 2**50))
    for i in range(count):
        duration = 3000 if same else data.draw(st.integers(1, 9000))
        sync = i == 0 if same else data.draw(st.booleans())
        cts = 0 if same else data.draw(st.integers(-9000, 9000))
        frames.append(Frame(dts, cts, duration, sync, data.draw(st.binary(max_size=20))))
        dts += duration
    demuxer = Demuxer()
    demuxer._init = VIDEO
    assert demuxer.feed(fragment(VIDEO, frames, 7)) == frames
    assert not demuxer.dropped


def test_ten_frames_take_140_bytes_of_moof() -> None:
    frames = video(10, 1 / 3)
    body = fragment(VIDEO, frames, 1)
    assert body.index(b"mdat") - 4 == 140


@given(
    st.lists(
        st.tuples(st.integers(-4000, 12000), st.integers(0, 6000), st.booleans()), max_size=300
    )
)
@settings(max_examples=150, deadline=None)
def test_any_frames_keep_the_numbering_law(steps: list[tuple[int, int, bool]]) -> None:
    """Jitter, holes, repeats, missing keys: parts are numbered densely, segments close once, no
    part is longer than the target unless one frame alone is."""
    packager = Packager(init=VIDEO, timing=timing(), first_msn=5)
    dts, cuts = 10 * 90000, []
    for step, duration, sync in steps:
        dts = max(0, dts + step)
        cuts += packager.push(Frame(dts, 0, duration, sync, b"x"))
    cuts += packager.flush()
    last: Cut | None = None
    for c in cuts:
        if last is None or last.final:
            assert c.index == 0
            assert last is None or c.msn > last.msn
        else:
            assert (c.msn, c.index) == (last.msn, last.index + 1)
        assert c.end_ns - c.start_ns <= timing().part_target_ns or b"trun" in c.body
        last = c
    assert last is None or last.final
