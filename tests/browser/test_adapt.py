"""The rule that chooses a rendition at the live edge, run where it runs, on a made-up network."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

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
