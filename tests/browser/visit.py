"""One visit to a watch page, by the page's own figures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import groupby
from typing import Any, Final

from tests.browser.chromium import Browser

SETTLE_S: Final = 3.0  # a first stall while the connection is being measured is forgiven
START_S: Final = 20.0
PLAY_S: Final = 120.0


def settle(browser: Browser) -> dict[str, Any]:
    """Playing since SETTLE_S."""
    browser.until_figures("f.phase === 'live' && f.playing && f.frames.total > 3", START_S)
    time.sleep(SETTLE_S)
    return browser.figures()


def now_in(browser: Browser) -> float:
    found: float = browser.evaluate("performance.now() / 1000")
    return found


def samples(browser: Browser, key: str, since: float) -> list[Any]:
    """Of the page's own samples, taken four times a second."""
    history = browser.evaluate("window.__edgecache.history")
    return [each[key] for each in history if each["at"] >= since and each[key] is not None]


def stalls_since(browser: Browser, since: float) -> list[dict[str, Any]]:
    return [each for each in browser.figures()["stalls"]["events"] if each["at"] > since]


def spread(values: list[float]) -> str:
    cuts = statistics.quantiles(values, n=20)
    return f"p50 {statistics.median(values):.2f} s, p95 {cuts[-1]:.2f} s"


def runs(values: list[str]) -> str:
    """`360p` `360p` `180p` -> `360p > 180p`."""
    return " > ".join(value for value, _ in groupby(values))


def play(browser: Browser, measured: Callable[..., None], **more: str) -> dict[str, Any]:
    """The figures after PLAY_S of the page that is open; it must have played on without a stall."""
    before = settle(browser)
    since, wall = now_in(browser), time.monotonic()
    time.sleep(PLAY_S)
    after, elapsed = browser.figures(), time.monotonic() - wall
    advanced = after["position"] - before["position"]
    stalls = stalls_since(browser, since)
    measured(
        played=f"{advanced:.1f} s in {elapsed:.1f} s",
        stalls=f"{len(stalls)} after the first {SETTLE_S:g} s",
        dropped=f"{after['frames']['dropped']} of {after['frames']['total']} frames",
        by_date=spread(samples(browser, "date", since)),
        renditions=runs(samples(browser, "level", since)),
        **{name: spread(samples(browser, key, since)) for name, key in more.items()},
    )
    assert stalls == []
    assert advanced >= 0.95 * elapsed
    assert browser.seen()["console"] == []
    return after
