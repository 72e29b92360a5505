"""What changes under a running stream: the size of what comes in."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

from edgecache import flv
from origin import ffmpeg
from origin.receive import receive
from tests.system.test_21_encoder import assert_continuous, chunks, make, on_loop, pattern, source


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
    assert re.findall(r"init\d", listed) == ["init0", "init1"]
    assert_continuous(output.of("180p"))
    await stream.end()
