"""Going live from a browser: a fake camera in one Chromium, watched in a second one at once."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.browser.chromium import Browser
from tests.browser.conftest import Demo
from tests.browser.live import state_of
from tests.browser.visit import START_S, now_in, samples, settle, spread, stalls_since

pytestmark = pytest.mark.timeout(150)

FAKE: Final = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
FIGURES: Final = "window.__edgecache.figures()"
# What is on the screen, as one number: a grid of the picture's pixels.
PICTURE: Final = """(() => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [32, 18];
  const context = canvas.getContext("2d");
  context.drawImage(document.querySelector("video"), 0, 0, 32, 18);
  return context.getImageData(0, 0, 32, 18).data.reduce((sum, each, at) => sum + each * at, 0);
})()"""
# What is sent to the place that the POP names arrives nowhere; and time flies.
NO_WAY: Final = """
const later = window.setTimeout;
window.setTimeout = (deed, ms) => later(deed, ms / 10);
const told = RTCPeerConnection.prototype.setRemoteDescription;
RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp }) {
  return told.call(this, { type, sdp: sdp.replace(/\\d+ typ host/g, "9 typ host") });
};"""
# A browser that has no H.264.
VP8_ONLY: Final = """
const all = RTCPeerConnection.prototype.addTransceiver;
RTCPeerConnection.prototype.addTransceiver = function (track, how) {
  const made = all.call(this, track, how);
  const { codecs } = RTCRtpSender.getCapabilities(track.kind);
  const fit = codecs.filter(({ mimeType }) => mimeType === "video/VP8");
  if (track.kind === "video") made.setCodecPreferences(fit);
  return made;
};"""
SAID: Final = "Failed to load resource: the server responded with a status of {}"
# To a wrong key's offer, a revoked key's goodbye, an offer of VP8.
REFUSALS: Final = ("401 (Unauthorized)", "410 (Gone)", "400 (Bad Request)")
WATCH_S: Final = 8.0


@contextlib.contextmanager
def broadcaster(tmp_path: Path) -> Iterator[Browser]:
    home = tmp_path / "camera"
    home.mkdir()
    with Browser(home, *FAKE) as found:
        yield found


@pytest.fixture
def camera(tmp_path: Path) -> Iterator[Browser]:
    """The broadcaster's browser, whose camera and microphone are Chromium's fake ones; without
    WebRTC."""
    with broadcaster(tmp_path) as found:
        found.ask("before", script="delete window.RTCPeerConnection")
        yield found


def until(browser: Browser, condition: str, within_s: float = 20.0) -> dict[str, Any]:
    """The go-live page's figures once `condition` (of `f`) is true."""
    found: dict[str, Any] = browser.until(f"((f) => ({condition}) && f)({FIGURES})", within_s)
    return found


def go(browser: Browser, address: str, key: str) -> None:
    browser.open(address)
    browser.ask("click", selector="#camera")
    until(browser, "f.picture.width")
    browser.ask("fill", selector="#title", value="Hello, <b>world</b>")
    begin(browser, key)


def begin(browser: Browser, key: str) -> None:
    browser.ask("fill", selector="#key", value=key)
    browser.ask("click", selector="#start")


def until_titled(browser: Browser, title: str) -> None:
    """The watch page asks for it when it plays."""
    heading = "document.querySelector('h1').innerText"
    browser.until(f"{heading} === {json.dumps(title)}", START_S)


def until_served(url: str) -> None:
    """Raises AssertionError when it takes too long."""
    for _ in range(200):
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(url, timeout=10):
            return
        time.sleep(0.1)
    raise AssertionError(f"{url} does not come")


def until_free(demo: Demo, stream: str) -> None:
    """Until nobody publishes it. Raises AssertionError when it takes too long."""
    for _ in range(100):
        if state_of(demo.operators, stream)["publisher"] is None:
            return
        time.sleep(0.1)
    raise AssertionError(f"{stream} is still being published")


def goodbyes(demo: Demo) -> int:
    """How many WHIP sessions their publishers have ended, at POP A."""
    with urllib.request.urlopen(f"{demo.facts['admin']['pop-a']}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.search(r'^edge_whip_closed_total\{reason="ended"\} (\d+)', text, re.MULTILINE)
    return int(found[1]) if found else 0


def kill_remuxer(origin: int) -> None:
    """Kill -9 the ffmpeg that reads Matroska, a child of `origin`."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().split(b"\0")
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == origin and b"matroska" in command:
            return os.kill(int(path.name), signal.SIGKILL)
    raise AssertionError("nothing reads Matroska")


def test_a_browser_goes_live_and_another_one_watches(
    demo: Demo,
    camera: Browser,
    browser: Browser,
    shot: Callable[[str], None],
    measured: Callable[..., None],
) -> None:
    key = demo.facts["publish"].rpartition("/")[2]
    go(camera, demo.facts["go"], "mine.wrong")
    refused = until(camera, "f.phase === 'over'")
    assert refused["words"] == "The POP refused the broadcast: bad stream key."
    asked = time.monotonic()
    begin(camera, key)
    until(camera, "f.phase === 'live' && f.bytes && f.trip !== null")

    until_served(demo.facts["own"]["playlists"][1])
    measured(go_to_playlist=f"{time.monotonic() - asked:.1f} s")
    browser.open(demo.facts["own"]["watch"])
    settle(browser)
    until_titled(browser, "Hello, <b>world</b> · mine")
    since = now_in(browser)
    pictures = {browser.evaluate(PICTURE)}
    for _ in range(4):
        time.sleep(WATCH_S / 4)
        pictures.add(browser.evaluate(PICTURE))
    assert len(pictures) > 1, "the picture stands still"
    stalls = stalls_since(browser, since)
    sent = until(camera, "f.viewers > 0 && f.rate > 0")
    row = state_of(demo.operators, "mine")
    assert row["source"] == "avc1 1280x720, aac"
    measured(
        by_date=spread(samples(browser, "date", since)),
        by_playlist=spread(samples(browser, "edge", since)),
        sent=f"{sent['rate'] / 1e6:.2f} Mb/s, round trip {sent['trip']:.0f} ms",
        dropped=f"{sent['chunks']['dropped']} of {sent['chunks']['sent']} chunks",
        stalls=len(stalls),
    )
    assert sent["received"] <= sent["bytes"]
    shot("go-watched")

    epoch, frames = row["epoch"], browser.figures()["frames"]["total"]
    kill_remuxer(demo.facts["pids"]["origin"])
    lost = time.monotonic()
    browser.until_figures(f"f.phase === 'live' && f.playing && f.frames.total > {frames} + 60", 30)
    measured(back=f"{time.monotonic() - lost:.1f} s")
    again = until(camera, "f.phase === 'live' && f.trip !== null")
    assert (again["stream"], again["recordings"]) == ("mine", 1), "the POP holds what was lost"
    measured(stalls_by_loss=[round(s["seconds"], 1) for s in stalls_since(browser, since)])
    assert state_of(demo.operators, "mine")["epoch"] == epoch
    seen = browser.seen()
    assert seen["console"] == [], [answer for answer in seen["answers"] if answer[1] >= 400]

    camera.ask("click", selector="#stop")
    assert until(camera, "f.phase === 'over'")["words"] == ""
    browser.until_figures("f.phase !== 'live'", START_S)
    assert key not in str(camera.seen()["answers"])
    assert camera.seen()["console"] == []


def test_a_browser_goes_live_by_whip(
    demo: Demo,
    tmp_path: Path,
    browser: Browser,
    measured: Callable[..., None],
) -> None:
    """What another one watches at the other POP, until its key is revoked; then until Stop; then
    until its page is left for one that no UDP gets through to: that sends a recording, and so does
    one that has no H.264, and says why."""
    key = demo.key("create", "direct")
    with broadcaster(tmp_path) as camera:
        go(camera, demo.facts["go"], "direct.wrong")
        refused = until(camera, "f.phase === 'over'")
        assert refused["words"] == "The POP refused the broadcast: bad stream key."
        assert refused["way"] == "WebRTC"
        asked = time.monotonic()
        begin(camera, key)
        on = until(camera, "f.phase === 'live'")
        measured(on_air=f"{time.monotonic() - asked:.2f} s")
        assert (on["way"], on["stream"], on["words"]) == ("WebRTC", "direct", "")
        until_served(f"{demo.b}/live/direct/master.m3u8")
        measured(go_to_playlist=f"{time.monotonic() - asked:.1f} s")
        browser.open(f"{demo.b}/watch/direct")
        browser.until_figures("f.phase === 'live' && f.playing && f.frames.total > 10", START_S)
        until_titled(browser, "Hello, <b>world</b> · direct")
        sent = until(camera, "f.rate > 0 && f.trip !== null")
        row = state_of(demo.operators, "direct")
        assert row["source"] == "avc1 1280x720, Opus"
        measured(
            sent=f"{sent['rate'] / 1e6:.2f} Mb/s, round trip {sent['trip']:.0f} ms",
            dropped=f"{sent['chunks']['dropped']} of {sent['chunks']['sent']} packets",
            by_date=[round(each, 1) for each in samples(browser, "date", 0)],
        )
        key = demo.key("rotate", "direct")
        # By ICE alone it would be noticed 10 s later.
        told = until(camera, "f.phase === 'over'", 6.0)["words"]
        assert told == "The POP ended the broadcast: this stream key was revoked."
        begin(camera, key)
        until(camera, "f.phase === 'live'")
        camera.ask("click", selector="#stop")
        assert until(camera, "f.phase === 'over'")["words"] == ""
        until_free(demo, "direct")
        begin(camera, key)
        until(camera, "f.phase === 'live'")

        camera.ask("before", script=NO_WAY)
        asked = time.monotonic()
        go(camera, demo.facts["go"], key)
        on = until(camera, "f.phase === 'live'")
        measured(on_air_without_udp=f"{time.monotonic() - asked:.1f} s")
        assert (on["way"], on["stream"], on["words"]) == ("recording", "direct", "")
        assert goodbyes(demo) == 4, "one of them went without"
        camera.ask("click", selector="#stop")
        until_free(demo, "direct")
        camera.evaluate(VP8_ONLY)
        begin(camera, key)
        on = until(camera, "f.phase === 'live'")
        assert (on["way"], on["stream"], on["words"]) == ("recording", "direct", "")
        assert "found VP8, H.264 (packetization-mode=1) is needed" in on["notice"]
        seen = camera.seen()
        assert key not in str(seen["answers"])
        bad = [row for row in seen["answers"] if row[1] >= 400]
        assert seen["console"] == [SAID.format(each) for each in REFUSALS], (bad, seen["failed"])


def test_what_a_browser_refuses_or_lacks_is_a_plain_sentence(demo: Demo, tmp_path: Path) -> None:
    go_address = demo.facts["go"]
    with Browser(tmp_path, "--deny-permission-prompts", FAKE[0]) as browser:
        browser.open(go_address)
        browser.ask("click", selector="#camera")
        said = until(browser, "f.notice.includes('did not let')")["notice"]
        assert "Allow it in the address bar" in said
        assert browser.evaluate("document.querySelector('#start').disabled")
        for lacks, sentence in (
            ("MediaRecorder.isTypeSupported = () => false", "does not record H.264"),
            ("delete window.MediaRecorder", "has no MediaRecorder"),
        ):
            browser.ask("before", script=lacks)
            browser.open(go_address)
            assert sentence in until(browser, "f.notice.includes('cannot go live')")["notice"]
            assert browser.evaluate("document.querySelector('#camera').disabled")
        assert browser.seen()["console"] == []
