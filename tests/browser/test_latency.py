"""Glass to glass in a real browser: what the test pattern burnt in, published through POP A's RTMP
door, encoded, packaged, pushed, and played by hls.js from POP B."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import pytest

from tests.browser import glass
from tests.browser.chromium import Browser
from tests.browser.conftest import Demo

PLAY_S: Final = 120.0
SETTLE_S: Final = 10.0  # a player that starts behind catches up at 1.1 times the speed
START_S: Final = 20.0
FPS: Final = 30
P95_MS: Final = 1500


@pytest.mark.timeout(PLAY_S + 120)
def test_glass_to_glass(demo: Demo, browser: Browser, measured: Callable[..., None]) -> None:
    browser.open(f"{demo.b}/watch/demo")
    browser.until_figures("f.phase === 'live' && f.position > 0.1", START_S)
    glass.watch(browser)
    time.sleep(SETTLE_S)
    since: float = browser.evaluate("performance.now() / 1000")
    time.sleep(PLAY_S)
    seen, after = glass.read(browser, since), browser.figures()
    stalls = [each for each in after["stalls"]["events"] if each["at"] > since]
    measured(
        glass_to_glass=seen,
        frames=len(seen.frames),
        unread=seen.unread,
        stalls=len(stalls),
        **{hop: f"p50 {p50:.1f} ms, p95 {p95:.1f} ms" for hop, (p50, p95) in seen.hops().items()},
    )
    assert stalls == []
    assert len(seen.frames) > 0.8 * FPS * PLAY_S
    assert seen.unread < len(seen.frames) / 100
    assert seen.hops().keys() == {"capture", "encode", "package", "push", "fetch"}
    assert seen.latency[1] <= P95_MS
