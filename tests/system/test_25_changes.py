"""What changes under a running stream: the size of what comes in, and how fast the machine is."""

from __future__ import annotations

import asyncio
import functools
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

from edgecache import flv
from origin import ffmpeg, health
from origin.receive import receive
from tests.looped import looped
from tests.system.test_21_encoder import (
    SETTINGS,
    assert_continuous,
    chunks,
    make,
    on_loop,
    pattern,
    publishing,
    source,
)

PATIENCE_S = 25.0
patiently = functools.partial(looped, limit_s=90.0)

HELD_UP = """
import os, sys, time
while data := os.read(0, 2048):
    if os.path.exists(sys.argv[1]):
        time.sleep(len(data) / 15000)
    try:
        while data:
            data = data[os.write(1, data):]
    except BrokenPipeError:
        break
"""


@on_loop
async def test_a_smaller_picture_in_mid_stream_is_not_enlarged() -> None:
    async def turning(*parts: asyncio.subprocess.Process) -> AsyncIterator[bytes]:
        """One FLV stream whose publisher goes over to another size."""
        for number, process in enumerate(parts):
            header = len(flv.HEADER) if number else 0
            async for data in chunks(process):
                yield data[header:]
                header = 0

    tool = ffmpeg.find()
    stream, output = make(tool)
    async with (
        source(pattern(tool, 2)) as large,
        source(pattern(tool, 4, size=(160, 90))) as small,
    ):
        assert (await receive(stream, turning(large, small))).status == 200
    assert output.sizes() == ["160x90", "160x90"]
    listed = output.playlist("180p")
    assert listed.count("#EXT-X-DISCONTINUITY\n") == 1
    assert re.findall(r'-MAP:URI="\S*(init\d)', listed) == ["init0", "init1"]
    assert_continuous(output.of("180p"))
    await stream.end()


@patiently
async def test_an_encoder_that_is_too_slow_makes_less_until_it_is_not(tmp_path: Path) -> None:
    """Its input is held up, which is what it looks like from outside."""
    real, slow = ffmpeg.find(), tmp_path / "slow"
    script = tmp_path / "ffmpeg"
    script.write_text(
        "#!/bin/bash\nexec {input}<&0\n"
        f'exec {real.path} "$@" < <(exec {sys.executable} {slow}.py {slow} <&$input)\n'
    )
    script.chmod(0o755)
    (tmp_path / "slow.py").write_text(HELD_UP)
    limits = health.Limits(late_s=1.2, for_s=0.4, calm_s=1.5)
    stream, output = make(
        replace(real, path=str(script)), replace(SETTINGS, health=limits, window_s=120.0)
    )
    async with publishing(stream, pattern(real)):
        await output.until(lambda: output.sizes() == ["320x180", "160x90"], PATIENCE_S)
        slow.touch()
        await output.until(
            lambda: stream.sharing.shed and output.sizes()[0] == "160x90", PATIENCE_S
        )
        slow.unlink()
        await output.until(
            lambda: stream.sharing.shed == 0 and output.sizes()[0] == "320x180", PATIENCE_S
        )
        told = Counter(cast("dict[str, int]", stream.describe()["restarts"]))
    assert min(told["slow"], told["fast"]) >= 1
    for track in ("180p", "90p", "audio"):
        assert_continuous(output.of(track))
    assert output.playlist("180p").count("#EXT-X-DISCONTINUITY\n") >= told.total()
    assert "#EXT-X-GAP" not in output.playlist("180p")
    await stream.end()
