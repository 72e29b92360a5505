"""Glass to glass: the time burnt into the test pattern (origin/testpattern.py), read in the page.

Law: what is shown is what is read: the frame that the browser is about to show is drawn to a canvas
of one pixel row, and its barcode compared with the clock at which it will be on screen. A frame
whose check bits do not fit is counted as unread, never guessed. Both clocks are this machine's.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from origin.testpattern import BARCODE_BITS, BARCODE_PART
from tests.browser.chromium import Browser

_READER: Final = Path(__file__).with_suffix(".js")


def spread(values: Sequence[float]) -> tuple[float, float]:
    """(p50, p95). Raises StatisticsError with fewer than two."""
    cuts = statistics.quantiles(values, n=20)
    return cuts[9], cuts[18]


@dataclass(frozen=True)
class Glass:
    """What was read; times in ms. `frames`: {at, ms, dated, height}, `dated` from burnt to the
    playlist's date. `parts`: the hops of what was fetched. `unread`: frames without a barcode."""

    frames: Sequence[dict[str, Any]]
    parts: Sequence[dict[str, Any]]
    unread: int

    @property
    def latency(self) -> tuple[float, float]:
        """Glass to glass, (p50, p95)."""
        return spread([each["ms"] for each in self.frames])

    def hops(self) -> dict[str, tuple[float, float]]:
        """hop -> (p50, p95) over the video parts, as the POP told with each, and `fetch`: from
        asking for one until it was there."""
        rows = [each for each in self.parts if each["video"]]
        names = [name for name in (rows[0] if rows else ()) if name not in ("at", "video")]
        return {name: spread([row[name] for row in rows]) for name in names}

    def __str__(self) -> str:
        p50, p95 = self.latency
        return f"p50 {p50 / 1000:.2f} s, p95 {p95 / 1000:.2f} s"


def watch(browser: Browser) -> None:
    """Read every frame of the page's video from now on."""
    browser.evaluate(f"({_READER.read_text()})({BARCODE_BITS}, {BARCODE_PART})")


def read(browser: Browser, since_s: float = 0.0) -> Glass:
    """What was shown and fetched since `since_s` of the page's clock."""
    found = browser.evaluate("window.__glass")
    frames, parts = ([e for e in found[kind] if e["at"] >= since_s] for kind in ("frames", "parts"))
    return Glass(frames=frames, parts=parts, unread=found["unread"])
