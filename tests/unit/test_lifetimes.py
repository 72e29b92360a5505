"""RFC 8216bis appendix B.1 in figures: how long what an origin did not date may be served."""

from __future__ import annotations

import pytest

from edgecache.config import Cache
from edgecache.control import lifetimes
from edgecache.control.lifetimes import Lifetimes

CACHE = Cache()
TARGET = 4000
PLAYLIST = b"#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:4\n#EXT-X-PART-INF:PART-TARGET=0.5\n"


@pytest.fixture
def known() -> Lifetimes:
    """One stream whose playlist was seen, and whose segment 1042 and its part 3 exist."""
    made = Lifetimes(CACHE)
    made.learn(b"/live/s/360p.m3u8", PLAYLIST)
    made.saw(b"/live/s/e/360p/1042.m4s")
    made.saw(b"/live/s/e/360p/1042.3.m4s")
    return made


@pytest.mark.parametrize(
    ("key", "success_ms", "refusal_ms"),
    [
        (b"/live/s/360p.m3u8?_HLS_msn=7&_HLS_part=1", 6 * TARGET, 4 * TARGET),
        (b"/live/s/360p.m3u8?v=1&_HLS_msn=7", 6 * TARGET, 4 * TARGET),
        (b"/live/s/360p.m3u8", TARGET // 2, TARGET),
        (b"/live/s/360p.m3u8?_HLS_skip=YES", TARGET // 2, TARGET),
        (b"/live/s/manifest.mpd", TARGET // 2, TARGET),
        (b"/live/s/e/360p/1041.m4s", 6 * TARGET, TARGET),
        (b"/live/s/e/360p/1042.2.m4s", 6 * TARGET, TARGET),
        (b"/live/s/e/360p/1043.m4s", 6 * TARGET, CACHE.negative),
        (b"/live/s/e/360p/1042.4.m4s", 6 * TARGET, CACHE.negative),
        (b"/live/s/e/360p/1043.0.m4s", 6 * TARGET, CACHE.negative),
        (b"/live/s/e/480p/1.m4s", 6 * TARGET, CACHE.negative),
        (b"/live/s/init.mp4", 6 * TARGET, CACHE.negative),
        (b"/live/other/360p.m3u8", CACHE.target_duration // 2, CACHE.target_duration),
        (b"/live/other/1.ts", 6 * CACHE.target_duration, CACHE.negative),
        (b"/watch/s", CACHE.other, CACHE.negative),
        (b"/", CACHE.other, CACHE.negative),
    ],
)
def test_the_table(known: Lifetimes, key: bytes, success_ms: int, refusal_ms: int) -> None:
    assert (known.success_ms(key), known.refusal_ms(key)) == (success_ms, refusal_ms)


@pytest.mark.parametrize(
    "text", [b"", b"#EXTM3U\n", PLAYLIST.replace(b":4", b":x"), PLAYLIST.replace(b":4", b":0")]
)
def test_a_playlist_that_does_not_say_changes_nothing(known: Lifetimes, text: bytes) -> None:
    known.learn(b"/live/s/360p.m3u8", text)
    assert known.target_ms(b"/live/s/e/1.m4s") == TARGET


def test_only_playlists_say_and_the_nearest_counts(known: Lifetimes) -> None:
    known.learn(b"/live/s/e/360p/1.m4s", PLAYLIST.replace(b":4", b":9"))
    known.learn(b"/live/master.m3u8", PLAYLIST.replace(b":4", b":8"))
    assert known.target_ms(b"/live/s/e/360p/1.m4s") == 4000
    assert known.target_ms(b"/live/t/1.m4s") == 8000


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifetimes, "_REMEMBERED", 3)
    made = Lifetimes(CACHE)
    for number in range(5):
        made.learn(b"/%d/a.m3u8" % number, PLAYLIST)
        made.saw(b"/%d/7.ts" % number)
    assert [made.target_ms(b"/%d/b.ts" % n) for n in range(5)] == [2000, 2000, 4000, 4000, 4000]
    assert [made.refusal_ms(b"/%d/7.ts" % n) for n in range(5)] == [300, 300, 4000, 4000, 4000]


def test_a_pushed_playlist_says_it_beside_its_text(known: Lifetimes) -> None:
    known.target(b"/live/s/360p.m3u8", 9)
    known.target(b"/live/s/master.m3u8", 0)  # never held, so it has none
    assert known.target_ms(b"/live/s/e/1.m4s") == 9000
