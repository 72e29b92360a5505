"""origin/archive/workshop.py: what becomes of recordings after their broadcast."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from origin.archive.keeper import row_of
from origin.archive.objects import Objects, Place
from origin.archive.recorder import index_key, key_of
from origin.archive.recording import Recording
from origin.archive.workshop import Plan, Pressure, Workshop
from origin.catalog import Catalog
from origin.ffmpeg import find
from origin.jobs import RowJobs
from origin.rows_sqlite import SqliteRows
from tests.looped import eventually, looped
from tests.unit.test_movie import kept

pytestmark = pytest.mark.timeout(60)


@looped
async def test_sound_alone_has_no_pictures_and_is_no_failure(tmp_path: Path) -> None:
    """It was an error for each sound-only broadcast: "found no picture to encode"."""
    movie, bodies = kept()
    radio = replace(movie, stream="radio", tracks={"audio": movie.tracks["audio"]})
    objects = Objects(Place(url=str(tmp_path / "store")))
    for path, body in bodies.items():
        objects.create(key_of(path), body)
    rows = SqliteRows(None)
    revised: list[Recording] = []
    with Catalog(rows) as catalog:
        workshop = Workshop(
            objects,
            find(),
            catalog=catalog,
            jobs=RowJobs(rows),
            plan=Plan(rungs={}, chunk_ms=4000, workers=1),
            pressure=Pressure(),
            on_revised=revised.append,
        )
        workshop.start()
        for recording in (radio, movie):  # one at a time, in this order
            key = index_key(recording.stream, recording.epoch, recording.revision)
            objects.create(key, recording.to_json())
            catalog.set_recording(row_of(recording))
            workshop.add(row_of(recording))
        await eventually(lambda: revised)
        await workshop.stop()
    assert [recording.stream for recording in revised] == ["cam"]
    assert workshop.counters["failed"] == 0
