"""What ffmpeg publishes as subtitles is on the screen at its time, in each player at a POP."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Final

import pytest
import uvloop

from origin.ffmpeg import find
from tests.browser.chromium import HERE, Browser
from tests.browser.visit import START_S
from tests.looped import eventually
from tests.running import Edge
from tests.serving_origin import child, serving, upload

WORDS: Final = 60  # texts, one a second
SHOWN_S: Final = 20.0
TEXTS: Final = "[...document.querySelector('video').textTracks]"
SHAKA: Final = HERE / "node_modules/shaka-player/dist/shaka-player.dash.js"


def publisher() -> list[str]:
    """A small broadcast, with a SubRip file that says at second n which it is."""
    lines = (
        f"{n + 1}\n00:00:{n:02},000 --> 00:00:{n:02},900\nsecond {n}\n\n" for n in range(WORDS)
    )
    words = base64.b64encode("".join(lines).encode()).decode()
    return [
        *(find().path, "-hide_banner", "-loglevel", "error", "-nostdin"),
        *("-re", "-f", "lavfi", "-i", "testsrc2=s=160x90:r=30"),
        *("-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"),
        *("-f", "srt", "-i", f"data:text/plain;base64,{words}"),
        *("-map", "0:v", "-map", "1:a", "-map", "2:s", "-c:v", "libx264", "-preset", "ultrafast"),
        *("-tune", "zerolatency", "-g", "30", "-pix_fmt", "yuv420p", "-c:a", "aac"),
        *("-c:s", "text", "-f", "flv", "-flush_packets", "1", "pipe:1"),
    ]


def read(browser: Browser) -> list[tuple[float, str]]:
    """(start, text) of the cues, once some are on the screen."""
    browser.until(f"{TEXTS}.some((track) => track.activeCues?.length)", SHOWN_S)
    rows = "[...track.cues].map(({ startTime, text }) => [startTime, text])"
    found: list[tuple[float, str]] = browser.evaluate(f"{TEXTS}.flatMap((track) => {rows})")
    return found


def by_page(browser: Browser, door: str, player: str) -> list[tuple[float, str]]:
    browser.open(f"http://{door}/watch/cam?player={player}")
    browser.until_figures("f.phase === 'live' && f.position > 0.5", START_S)
    browser.ask("select", selector="#text", value="0")
    return read(browser)


def by_shaka(browser: Browser, door: str) -> list[tuple[float, str]]:
    """On a bare page of ours."""
    files = {
        "/harness?stream=cam": (HERE / "shaka.html", "text/html"),
        "/harness/harness.js": (HERE / "shaka-harness.js", "text/javascript"),
        "/harness/shaka.js": (SHAKA, "text/javascript"),
    }
    for path, (file, kind) in files.items():
        browser.ask("serve", url=f"http://{door}{path}", path=str(file), type=kind)
    browser.open(f"http://{door}/harness?stream=cam")
    browser.until_figures("f.phase === 'live'", START_S)
    player = "window.__edgecache.player"
    browser.evaluate(f"{player}.selectTextTrack({player}.getTextTracks()[0])")
    return read(browser)


@pytest.mark.timeout(120)
def test_texts_are_shown_at_their_time(browser: Browser, measured: Callable[..., None]) -> None:
    text = "text={tracks={text-en={language='en',name='English'}}}"
    rung = "ladder={v={width=160,height=90,bitrate='150kbps'}}"

    def visits(door: str) -> None:
        for player in ("hls", "dash", "shaka"):
            cues = by_shaka(browser, door) if player == "shaka" else by_page(browser, door, player)
            # from the moment that each says it is of; dash.js counts from 1970, the others do not
            late = [start - int(words.split()[1]) for start, words in cues]
            measured(**{player: f"{len(cues)} texts, {max(late) - min(late):.3f} s apart"})
            assert max(late) - min(late) < 0.1

    async def case() -> None:
        async with (
            asyncio.timeout(100),
            serving(text, rung) as (origin, http),
            child(*publisher(), stdout=asyncio.subprocess.PIPE) as source,
        ):
            with Edge((f"origin.urls=http://127.0.0.1:{origin.port}",)) as pop:
                sent = asyncio.create_task(upload(http, source))
                await eventually(lambda: origin.store.find_playlist("/live/cam/master.m3u8"), 15)
                await asyncio.to_thread(visits, pop.http)
                source.terminate()
                await sent

    uvloop.run(case())
