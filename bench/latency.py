"""Where the time goes between the camera and the glass: `python -m bench.latency`.

Runs the demo, watches the test pattern at POP B in a headless Chromium, and prints one row a hop:
what the barcode in the picture says for both ends, what the ledger says in between
(ARCHITECTURE.md, "Latency ledger"). `--plot FILE` draws it. Laws: needs what the browser tests
need; changes no default but those given as `-o`, an ORIGIN__ variable (LIVE__PARTS=10).
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.browser import glass
from tests.browser.chromium import Browser
from tests.browser.glass import Glass

from . import plot
from .demo import demo

START_S: Final = 20.0
SETTLE_S: Final = 10.0


@dataclass(frozen=True)
class Hop:
    """One row: ms at the median and at p95; `what` says from where to where."""

    name: str
    p50: float
    p95: float
    what: str


def watch(facts: Mapping[str, Any], seconds: float) -> tuple[Glass, dict[str, Any], float]:
    """(what was seen, the page's figures, seconds of a part) of `seconds` of play."""
    with tempfile.TemporaryDirectory() as home, Browser(Path(home)) as browser:
        browser.open(facts["watch"])
        browser.until_figures("f.phase === 'live' && f.position > 0.1", START_S)
        glass.watch(browser)
        time.sleep(SETTLE_S)
        since: float = browser.evaluate("performance.now() / 1000")
        time.sleep(seconds)
        part_s: float = browser.evaluate(
            "window.__edgecache.player.engine.hls.latestLevelDetails.partTarget"
        )
        seen, figures = glass.read(browser, since), browser.figures()
    stalls = [each for each in figures["stalls"]["events"] if each["at"] > since]
    return seen, {**figures, "stalls": stalls}, part_s


def wake_lag_ms(metrics: str) -> tuple[float, float]:
    """(p50, p95) of a POP: upper bounds of its buckets."""
    with urllib.request.urlopen(metrics, timeout=5) as answer:
        text = answer.read().decode()
    rows = re.findall(r'edge_wake_lag_seconds_bucket{le="([^"]+)"} (\S+)', text)
    total = float(rows[-1][1])
    p50, p95 = (next(float(le) for le, n in rows if float(n) >= q * total) for q in (0.5, 0.95))
    return 1000 * p50, 1000 * p95


def budget(seen: Glass, part_s: float, edge_ms: tuple[float, float]) -> list[Hop]:
    """Row by row from the camera to the glass; the player's is what is left of the whole."""
    hops = seen.hops()
    dated = glass.spread([each["dated"] for each in seen.frames if each["dated"] is not None])
    rows = [
        Hop("capture", *dated, "frame made -> its bytes at the origin"),
        Hop("part", 500 * part_s, 950 * part_s, "-> the last frame of its part, too"),
        Hop("encode", *hops["encode"], "-> that frame, encoded, out of ffmpeg"),
        Hop("package", *hops["package"], "-> part and playlist ready"),
        Hop("push", *hops["push"], "-> visible at the POP"),
        Hop("edge", *edge_ms, "-> first byte to who waits"),
    ]
    whole = seen.latency
    rest = whole[0] - sum(row.p50 for row in rows)
    return [
        *rows,
        Hop("player", rest, rest + whole[1] - whole[0], "-> on the glass: its hold-back"),
        Hop("whole", *whole, "frame made -> on the glass"),
    ]


def table(rows: Sequence[Hop]) -> str:
    lines = ["| hop | p50 ms | p95 ms | |", "|---|---|---|---|"]
    lines += [f"| {row.name} | {row.p50:.1f} | {row.p95:.1f} | {row.what} |" for row in rows]
    return "\n".join(lines)


def drawn(rows: Sequence[Hop]) -> str:
    """A picture that needs no page around it."""
    bars = [
        plot.Bar(
            label=row.name,
            median=row.p50,
            low=row.p50,
            high=row.p95,
            note=f"{row.p50:.0f} ms, p95 {row.p95:.0f}",
            colour=number,
            own=row.name == "whole",
        )
        for number, row in enumerate(rows)
    ]
    text = plot.bars(bars, mark=None, mark_label="", caption="Latency, hop by hop")
    return plot.alone(text, {n: "#c33" if bar.own else "#48a" for n, bar in enumerate(bars)})


def main() -> None:
    """Measure once, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--plot", type=Path, help="where to write the SVG")
    parser.add_argument("-o", dest="options", action="append", default=[], metavar="SECTION__KEY=V")
    given = parser.parse_args()
    with demo(dict(each.split("=", 1) for each in given.options)) as facts:
        seen, figures, part_s = watch(facts, given.seconds)
        rows = budget(seen, part_s, wake_lag_ms(facts["metrics"][1]))
    told = f"{len(seen.frames)} frames in {given.seconds:g} s, {seen.unread} unread"
    told += f", {len(figures['stalls'])} stalls, {figures['frames']['dropped']} dropped"
    sys.stdout.write(f"{table(rows)}\n\n{told}\n")
    if given.plot:
        given.plot.write_text(drawn(rows) + "\n")


if __name__ == "__main__":
    main()
