"""The watch page in a real browser: published over RTMP through POP A, watched at POP B."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from tests.browser.chromium import Browser
from tests.browser.conftest import RECONNECT_S, Demo
from tests.browser.live import encoder_pid, kill_encoder, publisher, state_of

# Past the first 30 s: a trim of the player's back buffer then once stopped the sound for 3 s.
PLAY_S: Final = 60.0
SETTLE_S: Final = 3.0  # a first stall while the connection is being measured is forgiven
START_S: Final = 20.0

pytestmark = pytest.mark.timeout(150)


def settle(browser: Browser) -> dict[str, Any]:
    """Playing since SETTLE_S."""
    browser.until_figures("f.phase === 'live' && f.position > 0.1", START_S)
    time.sleep(SETTLE_S)
    return browser.figures()


def latencies(browser: Browser, key: str, since: float) -> list[float]:
    """Of the page's own samples, taken four times a second."""
    history = browser.evaluate("window.__edgecache.history")
    return [each[key] for each in history if each["at"] >= since and each[key] is not None]


def spread(values: list[float]) -> str:
    cuts = statistics.quantiles(values, n=20)
    return f"p50 {statistics.median(values):.2f} s, p95 {cuts[-1]:.2f} s"


def now_in(browser: Browser) -> float:
    found: float = browser.evaluate("performance.now() / 1000")
    return found


def assert_all_from(browser: Browser, door: str, pop: str) -> int:
    """Every answer of the visit came from that door and that POP; returns how many of media."""
    answers = browser.seen()["answers"]
    hosts = {urlsplit(url).netloc for url, _status, _pop in answers if not url.startswith("blob:")}
    assert hosts == {urlsplit(door).netloc}
    media = [each for each in answers if "/live/" in each[0]]
    assert {(status, name) for _url, status, name in media} == {(200, pop)}
    return len(media)


def test_plays_what_came_through_the_other_pop(
    demo: Demo, browser: Browser, shot: Callable[[str], None], measured: Callable[..., None]
) -> None:
    browser.open(f"{demo.b}/watch/demo")
    before = settle(browser)
    since, wall = now_in(browser), time.monotonic()
    time.sleep(PLAY_S)
    after, elapsed = browser.figures(), time.monotonic() - wall
    advanced = after["position"] - before["position"]
    stalls = [each for each in after["stalls"]["events"] if each["at"] > since]
    measured(
        played=f"{advanced:.1f} s in {elapsed:.1f} s",
        stalls=f"{len(stalls)} after the first {SETTLE_S:g} s",
        dropped=f"{after['frames']['dropped']} of {after['frames']['total']} frames",
        by_playlist=spread(latencies(browser, "edge", since)),
        by_date=spread(latencies(browser, "date", since)),
        buffer=f"{statistics.median(latencies(browser, 'buffer', since)):.2f} s",
        requests=f"{after['requests']['requests']:.1f}/s",
    )
    shot("live")
    assert advanced >= 0.95 * elapsed
    assert stalls == []
    assert after["pops"].keys() == {"pop-b"}
    assert after["requests"]["unattributed"] == after["requests"]["errors"] == 0
    assert assert_all_from(browser, demo.b, "pop-b") > PLAY_S
    assert browser.seen()["console"] == []


def test_another_rendition_can_be_chosen(
    demo: Demo, browser: Browser, shot: Callable[[str], None], measured: Callable[..., None]
) -> None:
    browser.open(f"{demo.b}/watch/demo")
    levels = settle(browser)["levels"]
    since = now_in(browser)
    for name, height in (("180p", 180), ("360p", 360)):
        began = time.monotonic()
        index = next(each["index"] for each in levels if each["height"] == height)
        browser.ask("select", selector="#quality", value=str(index))
        shown = f"f.rendition.shown === {height} && f.rendition.name === '{name}'"
        switched = browser.until_figures(shown, 15)
        measured(**{f"to_{name}": f"{time.monotonic() - began:.1f} s"})
        assert not switched["rendition"]["auto"]
        if height == 180:
            browser.ask("hover", selector="#stage")
            shot("controls")
    browser.ask("select", selector="#quality", value="-1")
    browser.until_figures("f.rendition.auto", 5)
    stalls = [each for each in browser.figures()["stalls"]["events"] if each["at"] > since]
    assert stalls == []


def test_it_fits_a_telephone(demo: Demo, browser: Browser, shot: Callable[[str], None]) -> None:
    browser.ask("size", width=390, height=844)
    browser.open(f"{demo.b}/watch/demo")
    browser.until_figures("f.phase === 'live' && f.position > 1", START_S)
    browser.ask("hover", selector="#stage")
    shot("telephone")
    assert browser.evaluate("document.documentElement.scrollWidth") == 390


def test_keys_do_what_the_buttons_do(demo: Demo, browser: Browser) -> None:
    browser.open(f"{demo.b}/watch/demo")
    browser.until_figures("f.phase === 'live' && f.position > 0.5", START_S)
    video = "document.querySelector('video')"
    for key, done in (("m", f"{video}.muted"), ("m", f"!{video}.muted"), ("k", f"{video}.paused")):
        browser.ask("press", key=key)
        assert browser.until(done, 3)
    browser.ask("press", key="ArrowLeft")
    browser.ask("press", key="k")
    browser.until("!document.querySelector('#edge').hidden", 5)
    browser.ask("press", key="l")
    browser.until_figures("f.latency.edge !== null && f.latency.edge < 3.5 && f.playing", 10)


def test_the_encoder_is_killed_and_the_picture_goes_on(
    demo: Demo, browser: Browser, measured: Callable[..., None]
) -> None:
    browser.open(f"{demo.b}/watch/demo")
    settle(browser)
    since = now_in(browser)
    before = browser.figures()
    victim = kill_encoder(demo.operators, "demo")
    browser.until_figures(f"f.playing && f.position > {before['position'] + 10}", 25)
    after = browser.figures()
    stalled = sum(each["seconds"] for each in after["stalls"]["events"] if each["at"] > since)
    peak = max(latencies(browser, "edge", since))
    measured(stalled=f"{stalled:.2f} s", latency=f"at most {peak:.2f} s")
    assert encoder_pid(demo.operators, "demo") not in (None, victim)
    assert after["phase"] == "live"
    assert stalled < 2.0


def test_from_offline_to_live_to_recording(
    demo: Demo, browser: Browser, shot: Callable[[str], None], measured: Callable[..., None]
) -> None:
    """One visit from before the broadcast until after it, without touching the page."""
    browser.open(f"{demo.b}/watch/mine")
    browser.until_figures("f.phase === 'offline'", 10)
    assert browser.text("#notice-title") == "The stream is offline"
    assert "starts by itself" in browser.text("#notice-text")
    shot("offline")
    with publisher(demo.facts["publish"]):
        browser.until_figures("f.phase === 'live' && f.position > 6", 40)
    began = time.monotonic()
    browser.until_figures("f.phase === 'waiting'", RECONNECT_S + 8)
    # With a second of buffer it first says that it is buffering: no part for 3 s makes it sure.
    title = "document.querySelector('#notice-title').innerText"
    assert browser.until(f'{title} === "The broadcaster\'s signal has stopped"', 3)
    shot("signal")
    browser.until_figures("f.recording", RECONNECT_S + 20)
    measured(said_ended_after=f"{time.monotonic() - began:.1f} s")
    assert state_of(demo.operators, "mine")["state"] == "ended"
    browser.until("document.querySelector('video').ended", 15)
    assert browser.text("#notice-title") == "The stream has ended"
    shot("ended")
    assert browser.text("#notice-action") == "Watch the recording"
    browser.ask("click", selector="#notice-action")
    playing = browser.until_figures("f.playing && f.position > 1", 10)
    start, end = playing["range"]
    assert playing["position"] < start + 4
    assert end - start > 6
    browser.open(f"{demo.b}/watch/mine")
    browser.until_figures("f.recording && f.playing && f.position > 0.5", START_S)
    assert browser.text("#notice-title") == "The stream has ended: playing the recording"
    browser.ask("hover", selector="#stage")
    shot("recording")
    assert browser.text("#clock").startswith("0:0")
