"""One run of ffmpeg over bytes, from its input to all of its output, in the background.

Laws: as sandboxed as a live encoder (child.py), and it gets only the time that nobody else wants:
idle scheduling, and it is stopped while `busy()` says that a live stream does not keep up. Bounds:
output (`_OUTPUT_BYTES`), and silence while it runs (`silence_s`, counted only while it may run).
Knows neither files nor stores.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Sequence
from typing import Final

from edgecache.errors import EdgeError

from ..child import Child

_QUEUE_BYTES: Final = 4 << 20
_OUTPUT_BYTES: Final = 256 << 20
_LOOK_S: Final = 0.5


class TranscodeError(EdgeError):
    """It failed; the last line that it said."""

    source = "internal"


async def transcode(
    argv: Callable[[Sequence[int]], list[str]],
    chunks: AsyncIterable[bytes],
    *,
    outputs: int,
    busy: Callable[[], bool] = lambda: False,
    silence_s: float = 600.0,  # idle time may be rare
) -> list[bytes]:
    """What it wrote into each of its pipes. Raises TranscodeError, and what `chunks` raises."""
    run = _Run(argv, outputs)
    watch = asyncio.create_task(run.watch(busy, silence_s))
    try:
        async for chunk in chunks:
            run.child.write(chunk)
            await run.child.drain(_QUEUE_BYTES)
        run.child.close_input()
        code = await asyncio.shield(run.code)
    finally:
        watch.cancel()
        run.child.kill()
        await asyncio.wait([run.code])
    if run.fault or code:
        last = next(reversed(run.child.log), "it said nothing")
        raise TranscodeError(run.fault or f"ffmpeg ended with {code}: {last}")
    return [bytes(output) for output in run.outputs]


class _Run:
    def __init__(self, argv: Callable[[Sequence[int]], list[str]], outputs: int) -> None:
        loop = asyncio.get_running_loop()
        self.code: asyncio.Future[int] = loop.create_future()
        self.outputs = [bytearray() for _ in range(outputs)]
        self.fault = ""
        self._moved = 0  # bytes in and out that were seen last
        self.child = Child(
            argv,
            tracks=outputs,
            on_output=self._output,
            on_exit=self.code.set_result,
            background=True,
        )

    def _output(self, index: int, data: bytes) -> None:
        self.outputs[index] += data
        self._moved += len(data)
        if self._moved > _OUTPUT_BYTES:
            self._end(f"ffmpeg made more than {_OUTPUT_BYTES} bytes")

    async def watch(self, busy: Callable[[], bool], silence_s: float) -> None:
        paused, silent_s, seen = False, 0.0, (-1, -1)
        while True:
            await asyncio.sleep(_LOOK_S)
            if busy() != paused:
                paused = not paused
                self.child.pause(paused)
            now = self._moved, self.child.queued_bytes
            silent_s = silent_s + _LOOK_S if now == seen and not paused else 0.0
            seen = now
            if silent_s > silence_s:
                self._end(f"ffmpeg did nothing for {silence_s:g} s")

    def _end(self, fault: str) -> None:
        self.fault = self.fault or fault
        self.child.kill()
