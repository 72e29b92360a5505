"""origin/slate.py: real processes write what a publisher would send."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from origin import ladder
from origin.broker import Broker
from origin.child import Child
from origin.ffmpeg import find
from origin.slate import Slate, chunks
from tests.looped import looped

PLAN = ladder.Plan(rungs=(ladder.Rung(track="v", width=180, height=320, bitrate=100_000),))


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize("kind", ["clock", "still"])
@looped
async def test_it_is_a_publisher_of_the_rungs_size(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    still = tmp_path / "still.ppm"
    still.write_bytes(b"P6 4 2 255\n" + bytes(24))
    slate = Slate(still=still if kind == "still" else None)
    pids: list[int] = []
    kill = Child.kill

    def noted(child: Child) -> None:
        pids.append(child.pid)
        kill(child)

    monkeypatch.setattr(Child, "kill", noted)
    broker = Broker()
    async with contextlib.aclosing(chunks(slate, find(), PLAN)) as shown:
        async for data in shown:
            broker.feed(data)
            if broker.source is not None:
                break
    assert str(broker.source) == "avc1 180x320, aac"
    assert [alive(pid) for pid in pids] == [False]


@looped
async def test_a_slate_that_cannot_be_made_ends(tmp_path: Path) -> None:
    slate = Slate(still=tmp_path / "nothing.png")
    assert [data async for data in chunks(slate, find(), PLAN)] == []
