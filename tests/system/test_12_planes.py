"""The data plane does not need Python: while the GIL is held for five seconds, hits go on and
viewers parked on a version that was published before are woken (law 1 of the design)."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.looped import looped
from tests.seized_pop import HOLD_S, PART, PLAYLIST
from tests.sockets import free_port

ROOT = Path(__file__).resolve().parents[2]
VIEWERS = 200


@pytest.fixture
def pop() -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """The process, its viewers' port, its admin port."""
    http, admin = free_port(), free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.seized_pop", f"127.0.0.1:{http}", f"127.0.0.1:{admin}"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, http, admin
    finally:
        process.terminate()
        _, log = process.communicate(timeout=20)
        assert process.returncode == 0, log


async def ask(port: int, target: bytes) -> tuple[float, bytes]:
    """(seconds it took, the whole answer)"""
    started = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET " + target + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return time.monotonic() - started, answer


async def parked(admin: int) -> int:
    """How many viewers wait; -1 while the daemon is not up yet."""
    try:
        _, answer = await ask(admin, b"/metrics")
    except ConnectionRefusedError:
        return -1
    found = re.search(rb"^edge_parked_now (\d+)", answer, re.MULTILINE)
    return int(found[1]) if found else -1


async def until_parked(admin: int, count: int) -> None:
    async with asyncio.timeout(10):
        while await parked(admin) != count:  # noqa: ASYNC110 - another process: nothing to await
            await asyncio.sleep(0.02)


@looped
async def test_hits_and_wake_ups_go_on_while_python_hangs(
    pop: tuple[subprocess.Popen[str], int, int],
) -> None:
    process, http, admin = pop
    await until_parked(admin, 0)
    wanted = PLAYLIST + b"?_HLS_msn=7&_HLS_part=1"
    waiting = [asyncio.create_task(ask(http, wanted)) for _ in range(VIEWERS)]
    await until_parked(admin, VIEWERS)
    began = time.monotonic()
    process.send_signal(signal.SIGALRM)
    answers = await asyncio.gather(*waiting)
    woken_s = time.monotonic() - began
    assert all(b"#parts=2" in answer for _, answer in answers)
    assert woken_s < HOLD_S - 1, "the wake-ups waited for Python"
    hits = 0
    while time.monotonic() - began < HOLD_S - 0.5:
        took_s, answer = await ask(http, PART if hits % 2 else PLAYLIST)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert took_s < 1.0, "a hit waited for Python"
        hits += 1
    assert hits > 100
