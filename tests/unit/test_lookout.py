"""What others do to the catalogue is noticed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from origin import lookout
from origin.catalog import Catalog
from origin.lookout import Lookout
from origin.publishers import Publishers
from origin.rows_sqlite import SqliteRows
from tests.looped import eventually, looped


@dataclass
class Made:
    """Streams that are made here."""

    epochs: dict[str, str]
    gone: list[tuple[str, str]] = field(default_factory=list)

    def live(self) -> dict[str, str]:
        return self.epochs

    def let_go(self, stream: str, epoch: str) -> None:
        self.gone.append((stream, epoch))


@looped
async def test_a_stream_that_another_data_centre_goes_on_with_is_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lookout, "_LOOK_S", 0.001)
    rows = SqliteRows(None)
    east, west = Catalog(rows, home="east"), Catalog(rows, home="west")
    made, looks = Made({"cam": "a1", "mine": "a9"}), list[int]()
    for stream, epoch in made.epochs.items():
        east.set_state(stream, "live", epoch)
    looking = Lookout(east, Publishers(east.opens), made, lambda: looks.append(1))
    looking.start()
    await asyncio.sleep(0)  # it knows what is known so far
    west.set_state("cam", "live", "a2")
    west.set_state("mine", "live", "a3")  # late: it has moved on from there
    await eventually(lambda: looks and made.gone)
    await looking.stop()
    assert set(made.gone) == {("cam", "a1")}
