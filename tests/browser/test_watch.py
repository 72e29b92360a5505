"""The watch page in a real browser: published over RTMP through POP A, watched at POP B."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import pytest

from tests.browser.chromium import Browser
from tests.browser.conftest import RECONNECT_S, Demo, picture
from tests.browser.live import encoder_pid, kill_encoder, publisher, state_of
from tests.browser.visit import START_S, now_in, samples, settle, stalls_since

PLAYERS: Final = ("hls", "dash")
T = TypeVar("T")

pytestmark = pytest.mark.timeout(150)


@dataclass(frozen=True)
class Both:
    """A browser for each of the page's players."""

    browsers: dict[str, Browser]

    def each(self, case: Callable[[str, Browser], T]) -> dict[str, T]:
        """At the same time, by player. Raises what the first that fails raises."""
        with ThreadPoolExecutor(len(PLAYERS)) as pool:
            found = pool.map(case, self.browsers.keys(), self.browsers.values())
            return dict(zip(self.browsers, found, strict=True))


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    with ExitStack() as stack:
        found = {}
        for player in PLAYERS:
            (tmp_path / player).mkdir()
            found[player] = stack.enter_context(Browser(tmp_path / player))
        yield Both(found)


@pytest.mark.parametrize("player", PLAYERS)
def test_another_rendition_can_be_chosen(
    demo: Demo,
    browser: Browser,
    shot: Callable[[str], None],
    measured: Callable[..., None],
    player: str,
) -> None:
    browser.open(f"{demo.b}/watch/demo?player={player}")
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
            shot(f"controls-{player}")
    browser.ask("select", selector="#quality", value="-1")
    browser.until_figures("f.rendition.auto", 5)
    assert stalls_since(browser, since) == []


def test_the_player_can_be_chosen_and_the_address_keeps_it(demo: Demo, browser: Browser) -> None:
    browser.open(f"{demo.b}/watch/demo")
    assert settle(browser)["player"] == "hls"
    browser.ask("select", selector="#player", value="dash")
    playing = "f.player === 'dash' && f.phase === 'live' && f.playing && f.latency.date !== null"
    assert browser.until_figures(playing, START_S)["latency"]["target"] > 1
    assert browser.evaluate("location.search") == "?player=dash"
    browser.open(browser.evaluate("location.href"))
    browser.until_figures(playing, START_S)
    assert browser.evaluate("document.querySelector('#player').value") == "dash"
    assert browser.seen()["console"] == []


def test_one_can_go_back_in_the_window_and_return(demo: Demo, both: Both, tmp_path: Path) -> None:
    """By the keyboard alone: the bar is a range, the way back a button."""
    both.each(lambda player, browser: goes_back(demo, browser, tmp_path, player))


def goes_back(demo: Demo, browser: Browser, folder: Path, player: str) -> None:
    browser.open(f"{demo.b}/watch/demo?player={player}")
    settle(browser)
    browser.until("document.querySelector('#seek').max >= 12", 20)
    browser.evaluate("document.querySelector('#seek').focus()")
    for _ in range(10):
        browser.ask("press", key="ArrowLeft")
    behind = "(f.latency.edge ?? f.latency.date) > 8 && f.playing"
    back = browser.until_figures(behind, 10)
    start, end = back["range"]
    assert start <= back["position"] <= end - 6
    time.sleep(2)  # and it plays on there, in real time
    there = browser.figures()
    assert there["playing"]
    assert 1 < there["position"] - back["position"] < 4
    assert browser.text("#clock").startswith("−0:")
    assert browser.evaluate("document.querySelector('#seek').ariaValueText") != ""
    assert browser.evaluate("document.querySelector('#edge').ariaLabel") == "Go live"
    browser.ask("hover", selector="#stage")
    picture(browser, folder, f"back-{player}")
    browser.evaluate("document.querySelector('#edge').focus()")
    browser.ask("press", key="Enter")
    browser.until_figures("(f.latency.edge ?? f.latency.date) < 4 && f.playing", 10)
    browser.until("document.querySelector('#edge').ariaLabel === 'Live'", 5)


def test_it_fits_a_telephone(demo: Demo, both: Both, tmp_path: Path) -> None:
    both.each(lambda player, browser: fits(demo, browser, tmp_path, player))


def fits(demo: Demo, browser: Browser, folder: Path, player: str) -> None:
    browser.ask("size", width=390, height=844)
    browser.open(f"{demo.b}/watch/demo?player={player}")
    browser.until_figures("f.phase === 'live' && f.frames.total > 30", START_S)
    browser.ask("hover", selector="#stage")
    picture(browser, folder, f"telephone-{player}")
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
    browser.until("document.querySelector('#edge').ariaLabel === 'Go live'", 5)
    browser.ask("press", key="l")
    browser.until_figures("f.latency.edge !== null && f.latency.edge < 3.5 && f.playing", 10)


def test_the_encoder_is_killed_and_the_picture_goes_on(
    demo: Demo, both: Both, measured: Callable[..., None]
) -> None:
    both.each(lambda player, browser: opens(demo, browser, player))
    starts = both.each(lambda _, browser: (now_in(browser), browser.figures()["position"]))
    victim = kill_encoder(demo.operators, "demo")
    both.each(lambda player, browser: goes_on(browser, player, *starts[player], measured))
    assert encoder_pid(demo.operators, "demo") not in (None, victim)


def opens(demo: Demo, browser: Browser, player: str) -> None:
    browser.open(f"{demo.b}/watch/demo?player={player}")
    settle(browser)


def goes_on(
    browser: Browser, player: str, since: float, position: float, measured: Callable[..., None]
) -> None:
    browser.until_figures(f"f.playing && f.position > {position + 10}", 25)
    after = browser.figures()
    stalled = sum(each["seconds"] for each in stalls_since(browser, since))
    peak = max(samples(browser, "latency", since))
    measured(player=player, stalled=f"{stalled:.2f} s", latency=f"at most {peak:.2f} s")
    assert after["phase"] == "live"
    assert stalled < 2.0


def test_from_offline_to_live_to_recording(
    demo: Demo, browser: Browser, shot: Callable[[str], None], measured: Callable[..., None]
) -> None:
    """One visit from before the broadcast until after it, without touching the page."""
    browser.open(f"{demo.b}/watch/alone")
    browser.until_figures("f.phase === 'offline'", 10)
    assert browser.text("#notice-title") == "The stream is offline"
    assert "starts by itself" in browser.text("#notice-text")
    shot("offline")
    with publisher(demo.publish("alone"), sound_after_s=0.25):
        browser.until_figures("f.phase === 'live' && f.position > 6", 40)
    began = time.monotonic()
    browser.until_figures("f.phase === 'waiting'", RECONNECT_S + 8)
    # With a second of buffer it first says that it is buffering: no part for 3 s makes it sure,
    # and the stream has not ended by then.
    title = "document.querySelector('#notice-title').innerText"
    assert browser.until(f'{title} === "The broadcaster\'s signal has stopped"', RECONNECT_S)
    shot("signal")
    browser.until_figures("f.recording", RECONNECT_S + 20)
    measured(said_ended_after=f"{time.monotonic() - began:.1f} s")
    assert state_of(demo.operators, "alone")["state"] == "ended"
    browser.until("document.querySelector('video').ended", 15)
    assert browser.text("#notice-title") == "The stream has ended"
    shot("ended")
    assert browser.text("#notice-action") == "Watch the recording"
    browser.ask("click", selector="#notice-action")
    playing = browser.until_figures("f.playing && f.position > 1", 10)
    start, end = playing["range"]
    assert playing["position"] < start + 4
    assert end - start > 6
    browser.open(f"{demo.b}/watch/alone")
    browser.until_figures("f.recording && f.playing && f.position > 0.5", START_S)
    assert browser.text("#notice-title") == "The stream has ended: playing the recording"
    browser.ask("hover", selector="#stage")
    shot("recording")
    assert browser.text("#clock").startswith("0:0")
    browser.until_figures("f.pictures > 2", 60)
    browser.ask("hover", selector="#seek")
    picture = "getComputedStyle(document.querySelector('#preview-picture')).backgroundImage"
    assert "/storyboard/0.jpg" in browser.until(
        f"!document.querySelector('#preview').hidden && {picture}", 5
    )
    assert re.fullmatch(r"0:0\d", browser.text("#preview-time"))
    shot("preview")
    browser.until("!document.querySelector('#download').hidden", 5)
    with urllib.request.urlopen(f"{demo.b}/download/alone.mp4", timeout=20) as answer:
        file = answer.read()
        assert len(file) == int(answer.headers["Content-Length"])
    assert file[4:8] == b"ftyp"
    kept_by_its_name(demo, browser)


def kept_by_its_name(demo: Demo, browser: Browser) -> None:
    """The address of one recording plays it, whatever is broadcast next."""
    with urllib.request.urlopen(f"{demo.operators}/api/recordings", timeout=10) as answer:
        rows = json.load(answer)
    epoch = next(row["epoch"] for row in rows if row["stream"] == "alone")
    browser.open(f"{demo.b}/watch/alone?recording={epoch}")
    browser.until_figures("f.recording && f.playing && f.position > 0.5", START_S)
    assert browser.text("#notice-title") == ""
    link = browser.until("document.querySelector('#download:not([hidden])')?.href", 5)
    assert link == f"{demo.b}/download/alone/{epoch}.mp4"
    browser.open(f"{demo.b}/watch/alone?recording=0")
    browser.until_figures("f.phase === 'failed'", START_S)
    assert browser.text("#notice-title") == "There is no such recording"
