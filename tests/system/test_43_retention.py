"""How long recordings are kept."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.looped import eventually, looped
from tests.serving_origin import serving
from tests.system.test_43_recording import keeper_of, recorded

pytestmark = pytest.mark.timeout(90)


@looped
async def test_what_is_older_than_its_retention_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By time that has passed: a wall clock that jumps ahead by years deletes nothing (E11)."""
    settings = [f"data.dir={tmp_path}"]
    async with recorded([*settings, "archive.retention=1h"]) as (origin, _):
        keeper = keeper_of(origin)
        await eventually(lambda: (shown := keeper.library.shown("cam")) and shown.revision == 1)
        wall, passed = time.time, time.monotonic
        with monkeypatch.context() as clocks:
            clocks.setattr(time, "time", lambda: wall() + 5 * 365 * 86_400)
            assert keeper.overdue() == []
            clocks.setattr(time, "monotonic", lambda: passed() + 3_700)
            assert [row.stream for row in keeper.overdue()] == ["cam"]
    async with serving(*settings, "archive.retention=1ms") as (origin, _):
        await eventually(lambda: not keeper_of(origin).shows("cam"))
        assert list(keeper_of(origin).objects.list("cam")) == []
