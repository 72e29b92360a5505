"""origin/join.py: tracks that come each by itself, in any order, and what leaves as one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from edgecache import amf
from edgecache.flv import AUDIO, CODED, CONFIG, SCRIPT, VIDEO, FlvReader, Tag
from origin.cmaf import Frame, Init
from origin.cmaftags import Tags, tags_of
from origin.join import MAX_TRACKS, Join, Limits

FPS, RATE, SAMPLES = 25, 48_000, 1024
ESDS = bytes.fromhex("00000000031900010004114015" + 11 * "00" + "05021190060102")


def box(payload: bytes) -> bytes:
    return (8 + len(payload)).to_bytes(4, "big") + b"free" + payload


def picture(width: int = 160, height: int = 90, mark: bytes = b"v") -> Tags:
    return tags_of(
        Init(
            body=box(mark + bytes((width % 256,))), track_id=1, timescale=FPS, kind="video",
            codec="avc1.42C01E", width=width, height=height, config=b"avcC" + mark,
        )
    )  # fmt: skip


def sound(mark: bytes = b"a") -> Tags:
    return tags_of(
        Init(
            body=box(mark), track_id=1, timescale=RATE, kind="audio",
            codec="mp4a.40.2", config=ESDS,
        )
    )  # fmt: skip


def pictures(first: int, count: int, gop: int = 25, mark: str = "v") -> list[Frame]:
    return [
        Frame(n, 0, 1, n % gop == 0, f"{mark}{n}".encode()) for n in range(first, first + count)
    ]


def sounds(first: int, count: int) -> list[Frame]:
    return [
        Frame(n * SAMPLES, 0, SAMPLES, True, f"a{n}".encode()) for n in range(first, first + count)
    ]


class Joined:
    """A join at a time of its own, and the tags that left it."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.join = Join(limits)
        self.now_s = 100.0
        self.tags: list[Tag] = []
        self._reader = FlvReader()

    def add(self, name: str, frames: Sequence[Frame]) -> None:
        for frame in frames:
            self.join.add(name, frame, self.now_s)

    def after(self, seconds: float = 0.0, *, last: bool = False) -> list[Tag]:
        """What leaves by then."""
        self.now_s += seconds
        new = self._reader.feed(data) if (data := self.join.take(self.now_s, last=last)) else []
        self.tags += new
        assert self.join.take(self.now_s, last=last) == b""
        counts = self.join.counts()
        dropped = self.join.dropped.total()
        gone = counts["joins.joined"] + dropped + counts["joins.waiting"]
        assert counts["joins.received"] == gone
        return new

    def media(self, kind: int) -> list[bytes]:
        at = 5 if kind == VIDEO else 2
        return [tag.body[at:] for tag in self.tags if tag.kind == kind and tag.packet == CODED]


def begun(limits: Limits | None = None) -> Joined:
    """Two seconds of a picture and a sound, of which all has left that may."""
    joined = Joined(limits)
    joined.join.begin("video", picture())
    joined.join.begin("audio", sound())
    joined.add("video", pictures(0, 50))
    joined.add("audio", sounds(0, 94))
    assert joined.after(0.4) == []
    joined.after(0.2)
    return joined


def test_what_leaves_is_in_the_order_of_the_media() -> None:
    joined = begun()
    script, *rest = joined.tags
    assert script.kind == SCRIPT
    told = amf.decode(script.body)[1]
    assert isinstance(told, dict)
    assert (told["width"], told["height"], told["framerate"]) == (160.0, 90.0, 25.0)
    assert {"audiocodecid", "videocodecid"} <= told.keys()
    configs = [tag for tag in rest if tag.packet == CONFIG]
    assert {tag.kind: tag.body for tag in configs} == {
        VIDEO: bytes.fromhex("1700000000") + b"avcCv",
        AUDIO: bytes.fromhex("af001190"),
    }
    times = [tag.timestamp for tag in rest]
    assert times == sorted(times)
    assert joined.media(VIDEO) == [frame.data for frame in pictures(0, 50)]
    assert joined.join.describe() == {
        "video": "avc1.42C01E 160x90, sent",
        "audio": "mp4a.40.2, sent",
    }


def test_a_frame_waits_for_the_other_kind_but_not_for_ever() -> None:
    joined = begun()
    joined.add("video", pictures(50, 25))
    joined.after()
    waits = 75 - len(joined.media(VIDEO))
    assert joined.after(2.9) == []
    assert joined.join.due_s() == pytest.approx(joined.now_s + 0.1)
    assert len(joined.after(0.2)) == waits
    assert joined.join.describe()["audio"].endswith("late")
    # it is waited for no more, until it sends again
    joined.add("video", pictures(75, 25))
    assert len(joined.after()) == 25
    joined.add("audio", sounds(94, 5))
    assert len(joined.after()) == 5
    assert joined.join.describe()["audio"].endswith("sent")
    joined.add("video", pictures(100, 25))
    assert joined.after(1.0) == []


def test_what_has_been_announced_is_waited_for_longer() -> None:
    """A picture with a second or two of look-ahead comes later than its sound."""
    joined = Joined()
    joined.join.begin("video", picture())
    joined.join.begin("audio", sound())
    joined.add("audio", sounds(0, 47))
    assert joined.after(5.0) == []
    joined.add("video", pictures(0, 25))
    joined.after()
    assert len(joined.media(VIDEO)) == 25
    alone = Joined()
    alone.join.begin("video", picture())
    alone.join.begin("audio", sound())
    alone.add("audio", sounds(0, 47))
    alone.after(8.0)
    assert len(alone.media(AUDIO)) == 47


def test_a_track_that_never_sends_does_not_hold_up_its_kind() -> None:
    joined = Joined()
    joined.join.begin("dead", picture(640, 360))
    joined.join.begin("low", picture())
    joined.add("low", pictures(0, 25))
    assert joined.after(2.9) == []
    joined.after(0.2)
    assert len(joined.media(VIDEO)) == 25
    # should it come after all, it is the better one
    joined.add("dead", pictures(25, 25, mark="dead"))
    joined.after()
    assert joined.media(VIDEO)[-1] == b"dead49"


def test_nothing_is_waited_for_at_the_end() -> None:
    joined = begun()
    joined.add("video", pictures(50, 25))
    joined.after(last=True)
    assert joined.media(VIDEO)[-1] == b"v74"
    assert joined.join.counts()["joins.waiting"] == 0


def test_the_best_picture_is_sent_and_another_stands_in_for_it() -> None:
    joined = Joined()
    for name, tags in (("low", picture(96, 54)), ("high", picture(640, 360)), ("a", sound())):
        joined.join.begin(name, tags)
    names = ("low", "high")
    for name in names:
        joined.add(name, pictures(0, 25, mark=name))
    joined.add("a", sounds(0, 47))
    joined.after(1.0)
    assert joined.media(VIDEO) == [frame.data for frame in pictures(0, 25, mark="high")]
    assert joined.join.dropped == {"left_out": 25}
    assert joined.join.describe()["low"].endswith("left out")
    # the better one stops: the other one is sent from its next key frame on
    for second in range(1, 7):
        joined.add("low", pictures(25 * second, 25, mark="low"))
        joined.add("a", sounds(47 * second, 47))
        joined.after(1.0)
    assert joined.media(VIDEO)[25].startswith(b"low")
    assert int(joined.media(VIDEO)[25][3:]) % 25 == 0
    assert joined.join.describe()["high"].endswith("late")
    # and gives way when it comes back
    for second in range(7, 10):
        for name in names:
            joined.add(name, pictures(25 * second, 25, mark=name))
        joined.add("a", sounds(47 * second, 47))
        joined.after(1.0)
    assert joined.media(VIDEO)[-1].startswith(b"high")
    changes = [tag.body for tag in joined.tags if tag.kind == VIDEO and tag.packet == CONFIG]
    assert len(changes) == 3


def test_of_two_pictures_alone_the_other_one_stands_in_too() -> None:
    joined = Joined()
    for name, tags in (("low", picture(96, 54)), ("high", picture(640, 360))):
        joined.join.begin(name, tags)
        joined.add(name, pictures(0, 25, mark=name))
    joined.after(1.0)
    for second in range(1, 7):
        joined.add("low", pictures(25 * second, 25, mark="low"))
        joined.after(1.0)
    assert joined.media(VIDEO)[-1] == b"low174"


def test_of_the_same_size_the_one_of_more_bits_is_sent() -> None:
    joined = Joined()
    for name in ("thin", "fat"):
        joined.join.begin(name, picture(mark=name.encode()))
        joined.add(name, pictures(0, 25, mark=name * (3 if name == "fat" else 1)))
    joined.after(1.0)
    assert joined.media(VIDEO)[0].startswith(b"fat")


def test_a_new_init_section_is_told_before_what_it_is_for() -> None:
    joined = begun()
    joined.join.begin("video", picture(320, 180, mark=b"w"))
    joined.add("video", pictures(50, 25))
    joined.add("audio", sounds(94, 47))
    new = [tag for tag in joined.after() if tag.kind == VIDEO]
    config = next(place for place, tag in enumerate(new) if tag.packet == CONFIG)
    assert new[config].body.endswith(b"avcCw")
    assert new[config + 1].body.endswith(b"v50")
    # the same again is no news
    joined.join.begin("video", picture(320, 180, mark=b"w"))
    joined.add("video", pictures(75, 5))
    joined.add("audio", sounds(141, 20))
    assert all(tag.packet == CODED for tag in joined.after())


def test_what_is_sent_again_is_dropped() -> None:
    joined = begun()
    joined.add("video", pictures(25, 30))
    joined.add("audio", sounds(94, 20))
    joined.after()
    assert joined.join.dropped == {"again": 25}
    assert joined.media(VIDEO)[-1] == b"v54"


def test_a_timeline_that_begins_anew_is_followed() -> None:
    joined = begun()
    joined.add("video", pictures(50, 1))
    joined.add("audio", sounds(94, 3))
    joined.after()
    for name, frames in (("video", pictures(0, 25, mark="new")), ("audio", sounds(0, 47))):
        joined.add(name, [frame._replace(data=b"!" + frame.data) for frame in frames])
    joined.after(4.0)
    assert joined.media(VIDEO)[-1] == b"!new24"
    assert joined.media(AUDIO)[-1] == b"!a46"
    # one that goes far ahead alone does not wait for ever, either
    joined.add("video", [frame._replace(dts=frame.dts + 10_000) for frame in pictures(25, 25)])
    joined.add("audio", sounds(47, 1))
    joined.after(4.0)
    joined.add("audio", sounds(48, 1))
    joined.after()
    assert joined.media(VIDEO)[-1] == b"v49"
    assert joined.media(AUDIO)[-1] == b"a48"


def test_it_is_over_when_all_tracks_say_so() -> None:
    joined = begun()
    joined.join.end("video")
    joined.add("audio", sounds(94, 47))
    joined.after()
    assert joined.media(AUDIO)[-1] == b"a140", "a track that has ended is waited for no more"
    joined.join.end("audio")
    over = joined.join.ended
    joined.add("audio", sounds(141, 1))
    assert (over, joined.join.ended) == (True, False)
    joined.join.close()
    assert joined.join.counts()["joins.waiting"] == 0
    assert joined.join.waiting_bytes == 0


def test_there_are_only_so_many_tracks_each_of_one_kind() -> None:
    joined = begun()
    assert not joined.join.begin("video", sound())
    for number in range(MAX_TRACKS - 2):
        assert joined.join.begin(f"more{number}", sound())
    assert not joined.join.begin("one more", sound())
