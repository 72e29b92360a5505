"""origin/sharing.py: who encodes what."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgecache.errors import ConfigError
from origin.encoding import settings_of
from origin.health import Limits
from origin.ladder import Plan, Rung
from origin.sharing import Sharing, homeless, share
from origin.source import Source
from tests.serving_origin import config

HIGH, MIDDLE, LOW = (
    Rung(track=f"{height}p", width=height * 16 // 9, height=height, bitrate=height * 1000)
    for height in (720, 360, 180)
)
PLAN = Plan(rungs=(replace(HIGH, away=True), MIDDLE, LOW))
SOURCE = Source(video="avc1", audio="aac", width=1280, height=720)


def test_without_a_worker_its_rungs_are_copies_of_the_next_that_is_made() -> None:
    there = share(PLAN, 0, worker=True)
    assert there.here.tracks == ("360p", "180p", "audio")
    assert there.there.tracks == ("720p",)
    assert set(there.shown.values()) == {("360p",), ("180p",), ("audio",), ("720p",)}
    gone = share(PLAN, 0, worker=False)
    assert (gone.here, gone.there.tracks) == (there.here, ())
    assert gone.shown["360p"] == ("360p", "720p")
    slow = share(PLAN, 1, worker=False)
    assert slow.here.tracks == ("180p", "audio")
    assert slow.shown["180p"] == ("180p", "720p", "360p")
    assert share(PLAN, 1, worker=True).shown["180p"] == ("180p", "360p")


def test_nothing_is_given_away_that_nothing_could_stand_in_for() -> None:
    assert homeless(PLAN) is None
    assert homeless(replace(PLAN, rungs=(MIDDLE, replace(LOW, away=True)))) == "180p"
    other = replace(LOW, codec="hevc", track="other", away=True)
    assert homeless(replace(PLAN, rungs=(MIDDLE, LOW, other))) == "other"


def test_a_late_worker_is_dropped_and_is_no_reason_to_make_less_here() -> None:
    sharing = Sharing(PLAN, Limits(late_s=1.0, for_s=5.0))
    sharing.fit(SOURCE)
    sharing.begin(SOURCE, "there")
    assert sharing.judge("720p", 3.0, 10.0) == ""
    assert sharing.judge("360p", 0.1, 15.0) == ""
    assert sharing.judge("720p", 3.0, 15.0) == "late"
    assert sharing.shed == 0
    sharing.begin(SOURCE, "wanted")
    assert sharing.judge("360p", 3.0, 20.0) == ""
    assert sharing.judge("720p", 3.0, 25.0) == "slow"  # ours, under that name
    assert sharing.shed == 1


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (("ladder.180p.on=workers",), "ladder.180p.on: found workers"),
        (("ladder.360p.on=workers", "http.listen=0.0.0.0:0"), "http.public: found none"),
    ],
)
def test_what_cannot_be_given_away_is_refused_at_start(given: tuple[str, ...], found: str) -> None:
    rungs = [
        f"ladder.{height}p.{name}={value}"
        for height in (360, 180)
        for name, value in (("width", height * 16 // 9), ("height", height), ("bitrate", "300kbps"))
    ]
    with pytest.raises(ConfigError, match=found):
        settings_of(config(*rungs, *given))
