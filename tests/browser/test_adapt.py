"""The rules that choose a rendition and a rate at the live edge, run where they run, on a made-up
network."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import pytest

from tests.browser.chromium import Browser
from tests.browser.conftest import Demo

STEP_S: Final = 0.5
# Three renditions for `seconds`; `late(level, now)` says which do not come in time.
RUN: Final = """(async () => {
  const { Adapt } = await import("/static/adapt.js");
  const adapt = new Adapt(), late = %s, levels = [];
  let level = 0;
  for (let now = 0; now <= %d; now += 500) {
    level = adapt.next({ level, best: 2, buffer: late(level, now) ? 0.1 : 1.2, now });
    levels.push(level);
  }
  return levels;
})()"""
# A viewer who begins `behind` seconds behind, for 40 s, asked 4 times a second.
CHASE: Final = """(async () => {
  const { rateFor } = await import("/static/chase.js");
  const rates = [];
  let behind = %s;
  for (let step = 0; step < 160; step += 1) {
    const rate = rateFor(behind, 0.8 + Math.min(0, behind));
    behind -= (rate - 1) / 4;
    rates.push(rate);
  }
  return { rates, behind, dry: rateFor(1, 0.1), far: rateFor(3.5, 9) };
})()"""
# A picture that stands at 5 s, and is given a nudge; then one that somebody else moves.
STALLS: Final = """(async () => {
  const { Stalls } = await import("/static/meter.js");
  const video = Object.assign(new EventTarget(), { currentTime: 5 });
  const stalls = new Stalls(video), seen = [];
  const to = (at, name) => {
    video.currentTime = at;
    video.dispatchEvent(new Event(name));
    seen.push(stalls.stalling);
  };
  to(4.9, "playing"); to(5, "waiting"); to(5.1, "seeking"); to(5.1, "timeupdate");
  to(5.2, "timeupdate"); to(5.3, "waiting"); to(9, "seeking");
  return seen;
})()"""


@pytest.fixture
def browser(shared: Browser) -> Browser:
    return shared


def levels(browser: Browser, demo: Demo, late: str, seconds: int) -> list[int]:
    browser.open(f"{demo.b}/state")
    found: list[int] = browser.evaluate(RUN % (late, 1000 * seconds))
    return found


def test_what_is_too_much_is_tried_less_and_less_often(demo: Demo, browser: Browser) -> None:
    found = levels(browser, demo, "(level) => level === 2", 170)
    tried = [STEP_S * at for at, (a, b) in enumerate(pairwise(found), 1) if a < b == 2]
    waits = [after - before for before, after in pairwise(tried)]
    assert tried[0] == 10
    assert waits == [10.5, 20.5, 40.5, 80.5]
    assert found.count(2) == len(tried)  # and left at once
    assert found[-1] == 1


def test_a_network_that_fails_and_recovers_ends_at_the_best(demo: Demo, browser: Browser) -> None:
    found = levels(browser, demo, "(level, now) => now > 20000 && now < 22000", 60)
    assert found[40] == 2
    assert found[45] == 0
    assert found[-1] == 2


@pytest.mark.parametrize("behind", [1.2, 0.1, 0.0, -0.4])
def test_the_distance_is_made_up_by_rate_alone(demo: Demo, browser: Browser, behind: float) -> None:
    browser.open(f"{demo.b}/state")
    found = browser.evaluate(CHASE % behind)
    assert abs(found["behind"]) < 0.05
    assert found["rates"][-1] == 1
    assert all(0.95 <= rate <= 1.08 for rate in found["rates"])
    assert found["dry"] == found["far"] == 1


def test_what_is_nudged_stands_still(demo: Demo, browser: Browser) -> None:
    """hls.js moves a picture that stands by 0.1 s: the page took it for one that plays, and never
    said that the signal had stopped."""
    browser.open(f"{demo.b}/state")
    found = browser.evaluate(STALLS)
    assert found == [False, True, True, True, False, True, False]
