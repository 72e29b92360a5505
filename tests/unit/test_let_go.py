"""A stream that another data centre goes on with, at the one that had it."""

from __future__ import annotations

import asyncio

from origin.encoding import Settings
from origin.ffmpeg import find
from origin.ingest import Ingest
from origin.ladder import Plan
from origin.splice import Place
from tests.looped import looped


async def nothing() -> None:
    """POPs have all of it."""


@looped
async def test_a_session_that_comes_back_begins_anew() -> None:
    """It joined the one that was being ended, and its publisher was told to go (410)."""
    ingest = Ingest(
        settings=Settings(plan=Plan(rungs=())),
        ffmpeg=find(),
        publish=lambda _stream, _publication: None,
        on_state=lambda _stream, _state: None,
        pushed=nothing,
    )
    place = Place(session="0123456789abcdef")
    before = ingest.attach("cam", place, publisher="here")
    async with asyncio.timeout(5.0):
        while not (live := ingest.stream("cam")) or not live.broker:  # noqa: ASYNC110
            await asyncio.sleep(0)
    ingest.let_go("cam", live.epoch)
    after = ingest.attach("cam", place, publisher="here")
    assert (await before.result).status == 410
    assert after is not before
    assert ingest.attach("cam", place, publisher="here") is after
    assert not after.result.done()
    assert ingest.epoch("cam") > live.epoch
    await ingest.stop()
