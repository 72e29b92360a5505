"""A POP whose Python plane can be seized: run as a program, it is the real daemon. On SIGALRM it
publishes one more version of PLAYLIST and then holds the GIL, so that no Python runs, for HOLD_S.

usage: python -m tests.seized_pop HTTP ADMIN   (both HOST:PORT)
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
import sys
from typing import TYPE_CHECKING, Final

import uvloop

from edgecache.config import load_config
from edgecache.server import Daemon

if TYPE_CHECKING:
    from edgecache._core import Plane

PLAYLIST: Final = b"/live/demo/360p.m3u8"
PART: Final = b"/live/demo/e/360p/7.0.m4s"
HOLD_S: Final = 5
TYPE: Final = b"Content-Type: application/vnd.apple.mpegurl\r\n"


def publish(plane: Plane, parts: int) -> None:
    """Segment 7 with `parts` parts."""
    body = b"#EXTM3U\n#parts=%d\n" % parts
    plane.publish(
        PLAYLIST, msn=7, parts=parts, last_parts=6, hold_ms=20_000, advance=9, ended=False,
        ttl_ms=60_000, fields=[TYPE, None, None, None], bodies=[body, None, None, None],
        etags=[b"v%d" % parts, None, None, None],
    )  # fmt: skip


async def main(http: str, admin: str) -> None:
    overrides = [f"http.listen={http}", "http.workers=2", f"admin.listen={admin}"]
    overrides += ["origin.urls=http://127.0.0.1:9"]
    daemon = Daemon(loaded := load_config(None, overrides), lambda: loaded)
    plane = daemon._plane
    plane.put(PART, b"p" * 100_000, b"Content-Type: video/mp4\r\n", etag=b"p", ttl_ms=60_000)
    publish(plane, 1)

    def seize() -> None:
        publish(plane, 2)
        ctypes.PyDLL(None).sleep(HOLD_S)  # PyDLL keeps the GIL, unlike CDLL

    asyncio.get_running_loop().add_signal_handler(signal.SIGALRM, seize)
    await daemon.run()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:3]))
