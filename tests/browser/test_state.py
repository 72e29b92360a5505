"""The state page in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tests.browser.chromium import Browser
from tests.browser.conftest import Demo

ROWS: Final = "document.querySelectorAll('#streams tbody tr').length"
PUBLISHED: Final = (  # whatever streams other tests have left before it in the list
    "window.__edgecache.body().streams.find(({ name }) => name === 'demo').publications"
)


def test_it_shows_streams_and_pops(
    demo: Demo, browser: Browser, shot: Callable[[str], None]
) -> None:
    browser.open(f"{demo.b}/state")
    assert browser.until(f"{ROWS} >= 3", 10)
    text = browser.text("main")
    for word in ("demo", "mine", "360p", "180p", "audio", "pop-a", "pop-b", "real time"):
        assert word in text
    before = browser.evaluate(PUBLISHED)
    assert browser.until(f"{PUBLISHED} > {before}", 5)
    shot("state")
    browser.ask("size", width=390, height=844)
    shot("state-telephone")
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
    assert browser.seen()["console"] == []
