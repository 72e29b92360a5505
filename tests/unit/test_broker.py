"""The broker: what a publisher sends, with all its faults, leaves clean, whole and warm to
restart."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest

from edgecache import amf
from edgecache.flv import AUDIO, CONFIG, HEADER, SCRIPT, VIDEO, FlvReader, Tag
from origin import broker, gop
from origin.broker import SILENT_CONFIG, SILENT_FRAME, Broker, BrokerError
from origin.source import Source

# Baseline 320x180, as x264 writes it.
AVC = bytes.fromhex(
    "17000000000142c00dffe1001a6742c00dd901419f9e10000003001000000303c0f142992001000568cb83cb20"
)
AAC = bytes.fromhex("af001210")  # 44.1 kHz stereo
KEY = bytes.fromhex("1701000000")
DELTA = bytes.fromhex("2701000000")
SOUND = bytes.fromhex("af0121")


def meta(**values: amf.Value) -> Tag:
    return Tag(SCRIPT, 0, amf.encode("onMetaData", dict(values)))


BOTH = [meta(videocodecid=7, audiocodecid=10), Tag(VIDEO, 0, AVC), Tag(AUDIO, 0, AAC)]
PICTURE = [meta(videocodecid=7), Tag(VIDEO, 0, AVC)]


def pictures(start: int, stop: int, *, gop: int = 1000, first: int | None = None) -> list[Tag]:
    """25 a second; a keyframe at every multiple of `gop` ms after `first`."""
    origin = start if first is None else first
    return [
        Tag(VIDEO, t, KEY if (t - origin) % gop == 0 else DELTA) for t in range(start, stop, 40)
    ]


def sounds(start: int, stop: int) -> list[Tag]:
    return [Tag(AUDIO, t, SOUND) for t in range(start, stop, 23)]


def mixed(*runs: list[Tag]) -> list[Tag]:
    return sorted((tag for run in runs for tag in run), key=lambda tag: tag.timestamp)


def feed(into: Broker, tags: Iterable[Tag], *, header: bool = False) -> None:
    into.feed((HEADER if header else b"") + b"".join(tag.encode() for tag in tags))
    assert adds_up(into)


def adds_up(at: Broker) -> bool:
    """No tag is lost uncounted, whatever a test is about."""
    told = at.counts()
    dropped = sum(count for name, count in told.items() if name.startswith("tags.dropped."))
    became = told["tags.forwarded"] + told["tags.kept"] + told["tags.waiting"] + dropped
    return told["tags.received"] + told["tags.made"] == became


def begun(tags: list[Tag]) -> Broker:
    made = Broker(wall_s=lambda: 1000.0)
    feed(made, tags, header=True)
    return made


def taken(from_: Broker) -> list[Tag]:
    return FlvReader().feed(HEADER + from_.take())


def replayed(from_: Broker) -> list[Tag]:
    return FlvReader().feed(from_.replay().data)


def known(at: Broker) -> bool:
    return at.source is not None


def of(tags: list[Tag], kind: int) -> list[int]:
    return [tag.timestamp for tag in tags if tag.kind == kind and tag.packet != CONFIG]


def test_replay_begins_with_configuration_and_the_keyframe() -> None:
    at = begun([*BOTH, *mixed(pictures(5000, 7400), sounds(5000, 7400))])
    assert at.source == Source(video="avc1", audio="aac", width=320, height=180)
    tags = replayed(at)
    assert [tag.body for tag in tags[:3]] == [BOTH[0].body, AVC, AAC]
    assert tags[3].is_keyframe
    assert of(tags, VIDEO) == list(range(0, 400, 40))
    feed(at, pictures(7400, 7480, first=5000))
    assert of(taken(at), VIDEO) == [400, 440]


def test_replay_says_when_its_media_arrived() -> None:
    now = [50.0]
    at = Broker(wall_s=lambda: now[0])
    feed(at, [*PICTURE, *pictures(0, 1000)], header=True)
    now[0] = 51.0
    feed(at, pictures(1000, 1200, first=0))
    now[0] = 51.2
    replay = at.replay()
    assert (replay.arrived_s, replay.duration_ms) == (51.0, 160)


def test_a_burst_is_dated_by_its_newest_picture() -> None:
    at = Broker(wall_s=lambda: 50.0)
    feed(at, [*BOTH, *mixed(pictures(0, 500), sounds(0, 500))], header=True)
    replay = at.replay()
    assert (replay.arrived_s, replay.duration_ms) == (50.0 - 0.483, 483)


def test_nothing_before_a_keyframe() -> None:
    at = begun([*BOTH, *[Tag(VIDEO, t, DELTA) for t in range(0, 400, 40)]])
    assert not known(at)
    assert at.dropped["before_keyframe"] == 10
    feed(at, mixed(pictures(400, 500), sounds(400, 500)))
    assert known(at)
    assert replayed(at)[3].is_keyframe


def test_no_keyframe_for_long_is_told() -> None:
    at = begun(BOTH)
    with pytest.raises(BrokerError, match="no keyframe in 15 s"):
        feed(at, [Tag(VIDEO, t, DELTA) for t in range(0, 16_000, 40)])


@pytest.mark.parametrize(
    ("jump", "count"),
    # the last one wraps around a second later: that is a jump, too
    [(20_000, 1), (-20_000, 1), (36_000_000, 1), (-2_500, 1), (2**32 - 3_000, 2)],
)
def test_jumps_are_evened_out_and_sync_is_kept(jump: int, count: int) -> None:
    start = 30_000 if jump < 0 else 0
    at = begun([*BOTH, *mixed(pictures(start, start + 2000), sounds(start, start + 2000))])
    at.replay()
    later = mixed(pictures(start + 2000, start + 4000), sounds(start + 2000, start + 4000))
    feed(at, [Tag(tag.kind, (tag.timestamp + jump) % 2**32, tag.body) for tag in later])
    tags = taken(at)
    video, audio = of(tags, VIDEO), of(tags, AUDIO)
    assert at.jumps == 2 * count  # each kind
    assert all(0 <= b - a <= 60 for run in (video, audio) for a, b in itertools.pairwise(run))
    assert abs(video[-1] - audio[-1]) <= 60
    assert video[-1] - video[0] == pytest.approx(1960, abs=10)


def test_a_hole_of_one_kind_is_no_jump() -> None:
    """The picture pauses for 5 s, sound goes on: they are in step afterwards."""
    at = begun([*BOTH, *mixed(pictures(0, 1000), sounds(0, 6000))])
    at.replay()
    feed(at, mixed(pictures(6000, 7000), sounds(6000, 7000)))
    assert at.jumps == 0
    tags = taken(at)
    assert abs(of(tags, VIDEO)[0] - of(tags, AUDIO)[0]) <= 40


def test_small_steps_back_are_held() -> None:
    at = begun([*PICTURE, *pictures(0, 200)])
    at.replay()
    feed(at, [Tag(VIDEO, 100, DELTA), Tag(VIDEO, 200, DELTA)])
    assert of(taken(at), VIDEO) == [160, 200]
    assert at.jumps == 0


def test_silence_where_no_sound_ever_was() -> None:
    at = begun([*PICTURE, *pictures(0, 2000)])
    tags = replayed(at)
    assert tags[2] == Tag(AUDIO, 0, SILENT_CONFIG)
    frames = [tag for tag in tags if tag.body == SILENT_FRAME]
    assert at.source is not None
    assert at.source.audio == "aac"
    feed(at, pictures(2000, 4000, first=0))
    frames += [tag for tag in taken(at) if tag.body == SILENT_FRAME]
    steps = {b.timestamp - a.timestamp for a, b in itertools.pairwise(frames)}
    assert steps <= {21, 22}
    assert at.silent_frames == pytest.approx(4000 * 48 / 1024, abs=2)


def test_without_metadata_sound_is_waited_for() -> None:
    at = begun([Tag(VIDEO, 0, AVC), *pictures(0, 900)])
    assert not known(at)
    feed(at, pictures(900, 1200, first=0))
    assert known(at)


def test_silence_when_sound_stops_and_sound_when_it_returns() -> None:
    at = begun([*BOTH, *mixed(pictures(0, 2000), sounds(0, 2000))])
    at.replay()
    feed(at, pictures(2000, 5000, first=0))
    quiet = [tag for tag in taken(at) if tag.kind == AUDIO]
    assert quiet[0].body == SILENT_CONFIG
    assert of(quiet, AUDIO)[-1] >= 3900  # its time 0 is the keyframe at 1000
    feed(at, mixed(pictures(5000, 6000, first=0), sounds(4800, 6000)))
    back = [tag for tag in taken(at) if tag.kind == AUDIO and tag.body != SILENT_FRAME]
    assert [tag.body for tag in back[:2]] == [AAC, SOUND]
    assert at.dropped["overlap"] > 0
    assert all(t >= 3900 for t in of(back, AUDIO))
    assert replayed(at)[2].body == AAC


def test_sound_alone() -> None:
    at = begun([meta(audiocodecid=10), Tag(AUDIO, 0, AAC), *sounds(0, 6000)])
    assert at.source == Source(video="", audio="aac", width=0, height=0)
    assert len(of(replayed(at), AUDIO)) <= broker.AUDIO_ONLY_GOP_MS // 23 + 2


def test_codec_change_shows_in_the_source() -> None:
    at = begun([*BOTH, *mixed(pictures(0, 1000), sounds(0, 1000))])
    at.replay()
    assert at.source is not None
    before = at.source.codecs
    hevc = [Tag(VIDEO, 1000, b"\x90hvc1"), Tag(VIDEO, 1000, b"\x91hvc1" + bytes(5))]
    feed(at, hevc)
    assert at.source.codecs == ("hvc1", "aac", ()) != before
    assert at.source.since == (6, 1)
    assert [tag.body for tag in replayed(at) if tag.kind == VIDEO] == [t.body for t in hevc]


def side(track: int, start: int, stop: int, *, codec: bytes = b"Opus") -> list[Tag]:
    """Another sound: its configuration, then frames."""
    head = [Tag(AUDIO, start, b"\x95\x00" + codec + bytes((track,)) + b"HEAD")]
    frame = b"\x95\x01" + codec + bytes((track,)) + b"SND"
    return head + [Tag(AUDIO, t, frame) for t in range(start, stop, 20)]


def sides(at: Broker) -> tuple[tuple[int, str], ...]:
    assert at.source is not None
    return at.source.sides


def test_other_sounds_stay_apart() -> None:
    tags = mixed(pictures(0, 2000), side(1, 0, 2000), sounds(0, 2000), side(3, 0, 2000))
    at = Broker(sides=frozenset((1, 2)), wall_s=lambda: 1000.0)
    feed(at, [*BOTH, *tags], header=True)
    assert at.source is not None
    assert (at.source.sides, at.source.since) == (((1, "Opus"),), (8, 0))
    assert at.dropped == {"track": 101}  # nobody asked for the third
    replay = replayed(at)
    # configuration of all before media of any, in the order that a reader numbers them
    assert [tag.body[:7] for tag in replay[:4]] == [
        *(tag.body[:7] for tag in BOTH),
        b"\x95\x00Opus\x01",
    ]
    for track, step in ((0, 23), (1, 20)):
        times = [t.timestamp for t in replay if t.kind == AUDIO and t.packet and t.track == track]
        assert {b - a for a, b in itertools.pairwise(times)} == {step}


def test_a_sound_that_falls_silent_needs_another_encoder() -> None:
    """And so does one that comes late; the first sound and the picture are as they were."""
    at = Broker(sides=frozenset((1,)), wall_s=lambda: 1000.0)
    feed(at, [*BOTH, *mixed(pictures(0, 1000), sounds(0, 1000))], header=True)
    seen = [sides(at)]
    for first, last in ((1000, 3000), (3000, 5000), (5000, 7000)):
        more = side(1, first, last) if first == 3000 else []
        feed(at, mixed(pictures(first, last, first=0), sounds(first, last), more))
        seen.append(sides(at))
    assert seen == [(), (), ((1, "Opus"),), ()]


def test_a_sound_without_its_configuration_is_of_no_use() -> None:
    at = Broker(sides=frozenset((1,)), wall_s=lambda: 1000.0)
    headless = [*side(1, 0, 1000)[1:], *side(2, 0, 0)]
    feed(at, [*BOTH, *mixed(pictures(0, 1000), sounds(0, 1000), headless)], header=True)
    assert sides(at) == ()
    assert at.dropped == {"unconfigured": 50, "track": 1}
    # AC-3 says it all in each frame
    feed(at, mixed(pictures(1000, 3000, first=0), side(1, 1000, 3000, codec=b"ac-3")[1:]))
    assert sides(at) == ((1, "ac-3"),)
    assert replayed(at)[3].body == b"\x95\x00ac-3\x01"


def test_hostile_tags_are_counted_and_the_stream_goes_on() -> None:
    at = begun([*BOTH, *mixed(pictures(0, 1000), sounds(0, 1000))])
    at.replay()
    hostile = [
        Tag(VIDEO, 1000, b"\x91evil"),
        Tag(VIDEO, 1000, b"\x91hv"),
        Tag(AUDIO, 1000, b"\x95\x11Opus\x01\xff\xff\xffSND"),
        Tag(AUDIO, 1000, b"\x95\x01Opus\xffSND"),
        Tag(VIDEO, 1000, b"\x97" + b"\0\0\x07" * 20),
        Tag(VIDEO, 1000, b"\xd4avc1\x02\0\x09colorInfo"),
    ]
    feed(at, hostile)
    assert at.dropped == {"codec": 1, "cut_short": 3, "track": 1, "not_media": 1}
    assert taken(at) == []
    feed(at, mixed(pictures(1000, 2000), sounds(1000, 2000)))
    assert len(of(taken(at), VIDEO)) == 25


def test_codes_of_old_codecs_need_no_new_ffmpeg() -> None:
    """H.264 and AAC in Enhanced RTMP reach the encoder as they always did."""
    head = [Tag(VIDEO, 0, b"\x90avc1" + AVC[5:]), Tag(AUDIO, 0, b"\x90mp4a" + AAC[2:])]
    media = [
        Tag(VIDEO, t, b"\x93avc1" if not t % 1000 else b"\xa3avc1") for t in range(0, 2000, 40)
    ]
    at = begun([*head, *mixed(media, [Tag(AUDIO, t, b"\x91mp4a!") for t in range(0, 2000, 23)])])
    assert at.source == Source(video="avc1", audio="aac", width=320, height=180)
    assert at.source.since == (0, 0)
    assert {tag.body for tag in replayed(at)} == {AVC, AAC, KEY, DELTA, SOUND}


def test_gop_is_bounded_and_a_new_encoder_waits_for_a_keyframe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gop, "GOP_BYTES", 2000)
    at = begun([*PICTURE, *pictures(0, 400)])
    feed(at, [Tag(VIDEO, 400, DELTA + bytes(3000))])
    assert of(replayed(at), VIDEO) == []
    feed(at, [Tag(VIDEO, 440, DELTA), Tag(VIDEO, 480, KEY), Tag(VIDEO, 520, DELTA)])
    assert [tag.body for tag in taken(at) if tag.kind == VIDEO] == [KEY, DELTA]
    assert at.dropped["before_keyframe"] == 1


def test_what_is_of_no_use_is_dropped_and_counted() -> None:
    at = begun([*BOTH, *mixed(pictures(0, 200), sounds(0, 200))])
    end_of_sequence = Tag(VIDEO, 200, bytes.fromhex("1702000000"))
    feed(at, [end_of_sequence, Tag(SCRIPT, 0, b"\x02\x00\x05onCue"), Tag(VIDEO, 0, b"")])
    assert (at.dropped["not_media"], at.dropped["script"]) == (2, 1)


def test_picture_that_stops_is_told() -> None:
    at = begun([*BOTH, *mixed(pictures(0, 200), sounds(0, 200))])
    with pytest.raises(BrokerError, match="no picture for 10 s"):
        feed(at, sounds(200, 11_000))


def test_what_waits_for_the_source_is_lost_when_a_new_gop_begins_first() -> None:
    """A publisher that announces sound and sends none, with a keyframe every 200 ms: pictures of
    the GOPs before the source is known reach no encoder, and are counted."""
    at = begun([*BOTH, *pictures(0, 600, gop=200)])
    assert not known(at)
    assert at.counts()["tags.waiting"] == 5
    assert at.dropped == {"before_source": 10}
    at.end()
    assert at.counts()["tags.waiting"] == 0
    assert at.dropped == {"before_source": 15}
    assert adds_up(at)
