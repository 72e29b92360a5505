"""A real player goes back: hls.js shows key frames alone, by byte ranges, and seeks to media that
has left the live window; all of it from a POP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import pytest

from tests.browser.chromium import Browser
from tests.browser.conftest import Demo
from tests.browser.visit import settle

pytestmark = pytest.mark.timeout(150)

# A player of its own beside the page's, and a second picture that only gets key frames.
BEGIN: Final = """(() => {
  const [play, still] = [0, 1].map(() => {
    const video = Object.assign(document.createElement("video"), { muted: true });
    document.body.append(video);
    return video;
  });
  const hls = new Hls();
  window.__trick = { hls, still };
  hls.once(Hls.Events.FRAG_BUFFERED, () => {
    window.__trick.player = hls.createIFramePlayer();
    window.__trick.player.attachMedia(still);
  });
  hls.loadSource("/live/demo/master.m3u8");
  hls.attachMedia(play);
})()"""
SHOW: Final = """(() => {
  const { hls, player } = window.__trick;
  window.__trick.at = hls.latestLevelDetails.fragments[%d].start + 0.01;
  player.loadMediaAt(window.__trick.at);
})()"""
SHOWN: Final = """(() => {
  const { still, at } = window.__trick;
  const there = !still.seeking && still.readyState >= 2 && Math.abs(still.currentTime - at) < 0.02;
  return there && still.videoWidth;
})()"""


def test_key_frames_alone_are_shown(demo: Demo, browser: Browser) -> None:
    browser.open(f"{demo.b}/watch/demo")
    settle(browser)
    browser.evaluate(BEGIN)
    browser.until("!!window.__trick.player", 10.0)
    widths = []
    for index in (1, 4, 2):
        browser.evaluate(SHOW % index)
        widths.append(browser.until(SHOWN, 10.0))
    assert set(widths) <= {640, 320}
    answers = browser.seen()["answers"]
    playlists = {urlsplit(url).path for url, status, _ in answers if status == 200}
    assert playlists & {"/live/demo/360p.iframes.m3u8", "/live/demo/180p.iframes.m3u8"}
    ranged = [pop for url, status, pop in answers if status == 206 and url.endswith(".m4s")]
    assert len(ranged) >= 3
    assert set(ranged) == {"pop-b"}


VIDEO: Final = "document.querySelector('video')"
SEEKABLE: Final = f"{VIDEO}.seekable"
WINDOW_S: Final = 30.0  # of the demo; the rest is on the origin's disk


def test_a_viewer_seeks_back_beyond_the_live_window(
    demo: Demo, browser: Browser, measured: Callable[..., None]
) -> None:
    browser.open(f"{demo.b}/watch/demo")
    settle(browser)
    reach = f"{SEEKABLE}.end(0) - {SEEKABLE}.start(0)"
    browser.until(f"{SEEKABLE}.length > 0 && {reach} > {WINDOW_S + 15}", WINDOW_S + 25)
    known = len(browser.seen()["answers"])
    browser.evaluate(f"{VIDEO}.currentTime = {SEEKABLE}.start(0) + 1")
    began = browser.evaluate(f"{VIDEO}.currentTime")
    browser.until(f"{VIDEO}.currentTime > {began} + 3 && !{VIDEO}.seeking", 15.0)
    measured(reach=f"{browser.evaluate(reach):.0f} s", behind=f"{behind(browser):.0f} s")
    assert behind(browser) > WINDOW_S
    answers = browser.seen()["answers"][known:]
    media = [each for each in answers if each[0].endswith(".m4s")]
    assert {(status, pop) for _url, status, pop in media} == {(200, "pop-b")}
    browser.evaluate(f"{VIDEO}.currentTime = {SEEKABLE}.end(0) - 2")
    browser.until(f"!{VIDEO}.seeking && {SEEKABLE}.end(0) - {VIDEO}.currentTime < 6", 15.0)


def behind(browser: Browser) -> float:
    found: float = browser.evaluate(f"{SEEKABLE}.end(0) - {VIDEO}.currentTime")
    return found
