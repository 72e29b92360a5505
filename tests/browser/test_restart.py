"""The origin is killed and comes back while a page plays: it plays on without a reload, in the same
playlist."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import uvloop

from tests.browser.chromium import Browser
from tests.serving_origin import ROOT, child
from tests.system.test_34_origin_restart import DOWN_S, site

START_S: Final = 25.0
BACK_S: Final = 40.0
PLAYED_S: Final = 8.0  # after the picture's return
DETAILS: Final = "window.__edgecache.player.engine?.hls?.latestLevelDetails"


@pytest.mark.timeout(150)
def test_the_page_outlives_the_origin(
    tmp_path: Path, browser: Browser, measured: Callable[..., None]
) -> None:
    async def case() -> None:
        async with asyncio.timeout(120), site(tmp_path, hot=True) as here:
            await asyncio.to_thread(browser.open, f"http://{here.b.http}/watch/cam")
            await asyncio.to_thread(browser.evaluate, "window.__same = true")
            await until("f.phase === 'live' && f.position > 5", START_S)
            await here.kill_origin()
            await asyncio.sleep(DOWN_S)
            newest = await asyncio.to_thread(browser.evaluate, f"{DETAILS}.endSN")
            began = time.monotonic()
            async with child(*here.serve, cwd=ROOT):
                goes_on = f"{DETAILS}?.startSN <= {newest} && {DETAILS}.lastPartSn > {newest} + 1"
                moves = f"f.phase === 'live' && f.playing && {goes_on}"
                at = (await until(moves, BACK_S))["position"]
                back_s = time.monotonic() - began
                after = await until(f"f.playing && f.position > {at + PLAYED_S}", 2 * PLAYED_S)
                same = await asyncio.to_thread(browser.evaluate, "window.__same === true")
        stalls = [round(each["seconds"], 1) for each in after["stalls"]["events"]]
        measured(picture=f"{back_s:.1f} s after the origin's start", stalls=stalls)
        assert same

    async def until(condition: str, within_s: float) -> dict[str, Any]:
        return await asyncio.to_thread(browser.until_figures, condition, within_s)

    uvloop.run(case())
