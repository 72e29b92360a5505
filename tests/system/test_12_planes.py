"""The data plane does not need Python: while the GIL is held for five seconds, hits go on and
viewers parked on a version that was published before are woken (law 1 of the design)."""

from __future__ import annotations

import asyncio
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
def pop() -> Iterator[tuple[subprocess.Popen[str], int]]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.seized_pop", f"127.0.0.1:{port}"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process, port
    finally:
        process.terminate()
        _, log = process.communicate(timeout=20)
        assert process.returncode == 0, log


async def ask(port: int, target: bytes) -> tuple[float, bytes]:
    """(seconds it took, the whole answer)"""
    started = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET " + target + b" HTTP/1.1\r\nHost: pop\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return time.monotonic() - started, answer


@looped
async def test_hits_and_wake_ups_go_on_while_python_hangs(
    pop: tuple[subprocess.Popen[str], int],
) -> None:
    process, port = pop
    wanted = PLAYLIST + b"?_HLS_msn=7&_HLS_part=1"
    parked = [asyncio.create_task(ask(port, wanted)) for _ in range(VIEWERS)]
    while (await ask(port, PART))[1][:15] != b"HTTP/1.1 200 OK":
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    assert not any(task.done() for task in parked)
    began = time.monotonic()
    process.send_signal(signal.SIGUSR2)
    answers = await asyncio.gather(*parked)
    woken_s = time.monotonic() - began
    assert all(b"#parts=2" in answer for _, answer in answers)
    assert woken_s < HOLD_S - 1, "the wake-ups waited for Python"
    hits = 0
    while time.monotonic() - began < HOLD_S - 0.5:
        took_s, answer = await ask(port, PART if hits % 2 else PLAYLIST)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert took_s < 1.0, "a hit waited for Python"
        hits += 1
    assert hits > 100
