"""The page's players in low latency for two minutes each: published at POP A, played at POP B.

One visit each, not one stall once it has settled, and nothing asked of the origin meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from tests.browser.chromium import Browser
from tests.browser.conftest import Demo
from tests.browser.live import origin_answers
from tests.browser.visit import PLAY_S, play, settle

pytestmark = pytest.mark.timeout(200)


def assert_all_from(browser: Browser, door: str, pop: str) -> int:
    """Every answer of the visit came from that door and that POP; returns how many of media."""
    answers = browser.seen()["answers"]
    hosts = {urlsplit(url).netloc for url, _status, _pop in answers if not url.startswith("blob:")}
    assert hosts == {urlsplit(door).netloc}
    media = [each for each in answers if "/live/" in each[0]]
    assert {(status, name) for _url, status, name in media} == {(200, pop)}
    return len(media)


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
    after = play(browser, measured, **more)
    shot(f"live-{player}")
    assert origin_answers(demo.operators) == before
    assert after["player"] == player
    assert after["pops"].keys() == {"pop-b"}
    assert after["requests"]["unattributed"] == after["requests"]["errors"] == 0
    assert assert_all_from(browser, demo.b, "pop-b") > PLAY_S
