"""One visit to a watch page, by the page's own figures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Played:
    """A visit of PLAY_S: the page's figures before and after, and since when, by its clock."""

    browser: Browser
    before: dict[str, Any]
    after: dict[str, Any]
    since: float
    elapsed_s: float

    def judge(self, measured: Callable[..., None], **more: str) -> None:
        """It played on without a stall; says how, with the spread of samples in `more`."""
        advanced = self.after["position"] - self.before["position"]
        stalls = stalls_since(self.browser, self.since)
        measured(
            played=f"{advanced:.1f} s in {self.elapsed_s:.1f} s",
            stalls=f"{len(stalls)} after the first {SETTLE_S:g} s",
            dropped="{dropped} of {total} frames".format(**self.after["frames"]),
            by_date=spread(samples(self.browser, "date", self.since)),
            renditions=runs(samples(self.browser, "level", self.since)),
            **{name: spread(samples(self.browser, key, self.since)) for name, key in more.items()},
        )
        assert stalls == []
        assert advanced >= 0.95 * self.elapsed_s
        assert self.browser.seen()["console"] == []


def play(browser: Browser) -> Played:
    """PLAY_S of the page that is open, once it has settled."""
    before = settle(browser)
    since, wall = now_in(browser), time.monotonic()
    time.sleep(PLAY_S)
    return Played(browser, before, browser.figures(), since, time.monotonic() - wall)
