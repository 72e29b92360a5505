"""What a player made of a broadcast: our watch page with hls.js in a Chromium, while it happens.

Laws: one browser a viewer, as the browser tests have it; every wait has a deadline. The figures are
the page's own (origin/page/static/watch.js).
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.browser.chromium import Browser

_SETTLE_S: Final = 3.0  # a first stall while the connection is being measured is forgiven
_START_S: Final = 30.0
_SHOW_S: Final = 120.0
_ON_S: Final = 5.0
_ON: Final = 0.3  # seconds of media: what is played after this is no last picture
_NOW: Final = "performance.now() / 1000"


@dataclass(frozen=True, kw_only=True)
class Watched:
    """Until the publisher had sent all. stalls: seconds of each; late_s: behind the programme's
    dates; went_on: it still played then, untouched."""

    watched_s: float
    stalls: tuple[float, ...]
    late_s: float | None
    went_on: bool

    @property
    def stalled_s(self) -> float:
        return sum(self.stalls)

    def __str__(self) -> str:
        each = ", ".join(f"{seconds:.1f}" for seconds in self.stalls)
        told = f"{self.watched_s:.1f} s, " + (f"stalls of {each} s" if each else "no stall")
        late = "" if self.late_s is None else f", {self.late_s:.1f} s behind"
        return told + late + ("" if self.went_on else ", stands still")


@dataclass(frozen=True, kw_only=True)
class Show:
    """begun() waits until there is something at `page`; we set `ready` when a browser is up, and
    go when `over` is set: the publisher has sent all."""

    page: str
    begun: Callable[[], None]
    ready: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)


def watch(show: Show) -> Watched:
    """From its beginning until it is over. Raises AssertionError when nothing is shown."""
    try:
        with tempfile.TemporaryDirectory() as home, Browser(Path(home)) as browser:
            browser.evaluate("1")
            show.ready.set()
            show.begun()
            browser.open(show.page)
            browser.until("Boolean(window.__edgecache)", _START_S)
            browser.until_figures("f.phase === 'live' && f.frames.total > 3", _START_S)
            since_s: float = browser.evaluate(_NOW)
            show.over.wait(_SHOW_S)
            return _seen(browser, since_s)
    finally:
        show.ready.set()


def _seen(browser: Browser, since_s: float) -> Watched:
    now_s: float = browser.evaluate(_NOW)
    figures = browser.figures()
    settled_s = since_s + _SETTLE_S
    events = figures["stalls"]["events"]
    return Watched(
        watched_s=now_s - since_s,
        stalls=tuple(each["seconds"] for each in events if each["at"] > settled_s),
        late_s=figures["latency"]["date"],
        went_on=_goes_on(browser, figures["position"]),
    )


def _goes_on(browser: Browser, position: float) -> bool:
    try:
        browser.until_figures(f"f.playing && f.position > {position + _ON}", _ON_S)
    except AssertionError:
        return False
    return True
