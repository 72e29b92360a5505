"""The page's players in low latency for two minutes each: published at POP A, played at POP B.

One visit each, not one stall once it has settled, and nothing asked of the origin meanwhile. With
hls.js, whose frames tell when they are shown, glass to glass as well: what the test pattern burnt
in, published, encoded, packaged, pushed and played.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import pytest

from tests.browser import glass
from tests.browser.chromium import Browser
from tests.browser.conftest import Demo
from tests.browser.live import origin_answers
from tests.browser.visit import PLAY_S, now_in, play, settle

FPS: Final = 30
CATCH_UP_S: Final = 10.0  # a player that starts behind catches up at 1.08 times the speed
P95_MS: Final = 1200  # 0.9 s where nothing else runs; an early stall costs a part for good

pytestmark = pytest.mark.timeout(200)


def assert_all_from(browser: Browser, door: str, pop: str) -> int:
    """Every answer of the visit came from that door and that POP; returns how many of media."""
    answers = browser.seen()["answers"]
    hosts = {urlsplit(url).netloc for url, _status, _pop in answers if not url.startswith("blob:")}
    assert hosts == {urlsplit(door).netloc}
    media = [each for each in answers if "/live/" in each[0]]
    assert {(status, name) for _url, status, name in media} == {(200, pop)}
    return len(media)


def assert_glass_to_glass(seen: glass.Glass, measured: Callable[..., None]) -> None:
    hops = seen.hops()
    measured(
        glass_to_glass=seen,
        frames=len(seen.frames),
        unread=seen.unread,
        **{hop: f"p50 {p50:.1f} ms, p95 {p95:.1f} ms" for hop, (p50, p95) in hops.items()},
    )
    assert len(seen.frames) > 0.8 * FPS * (PLAY_S - CATCH_UP_S)
    assert seen.unread < len(seen.frames) / 100
    assert hops.keys() == {"capture", "encode", "package", "push", "fetch"}
    assert seen.latency[1] <= P95_MS


@pytest.mark.parametrize("player", ["hls", "dash"])
def test_the_page_plays_for_two_minutes(
    demo: Demo,
    browser: Browser,
    shot: Callable[[str], None],
    measured: Callable[..., None],
    player: str,
) -> None:
    browser.open(f"{demo.b}/watch/demo?player={player}")
    more = {"by_playlist": "edge"} if player == "hls" else {}
    settle(browser)
    before = origin_answers(demo.operators)
    glass.watch(browser)
    since = now_in(browser) + CATCH_UP_S
    after = play(browser, measured, **more)
    shot(f"live-{player}")
    assert origin_answers(demo.operators) == before
    assert after["player"] == player
    assert after["pops"].keys() == {"pop-b"}
    assert after["requests"]["unattributed"] == after["requests"]["errors"] == 0
    assert assert_all_from(browser, demo.b, "pop-b") > PLAY_S
    if player == "hls":
        assert_glass_to_glass(glass.read(browser, since), measured)
