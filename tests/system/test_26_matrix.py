"""The ingest matrix (`python -m bench.ingest`), but for its long waits and what other files show:
publishers with all their faults on one pair of daemons, and what a viewer saw of each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import pytest

from bench.ingest import cells, run
from bench.ingest.cells import Cell
from bench.ingest.run import Books, Result
from bench.ingest.site import serving

pytestmark = pytest.mark.timeout(170)

RECONNECT_S = 8.0  # a cell drops for 2 s
ELSEWHERE = {"ffmpeg", "pattern"}  # test_22 and test_80


@cache
def chosen() -> dict[str, Cell]:
    found = [*cells.publishers(), *cells.troubles()]
    return {cell.name: cell for cell in found if cell.name not in ELSEWHERE}


@dataclass(frozen=True)
class Matrix:
    results: dict[str, Result]
    books: Books


@pytest.fixture(scope="module")
def matrix() -> Matrix:
    """All cells, played at the same time."""
    with serving(list(chosen()), reconnect_s=RECONNECT_S) as site:
        results = run.play(site, list(chosen().values()), at_once=len(chosen()))
        return Matrix(results, run.close(site))


@pytest.mark.parametrize("name", chosen())
def test_a_viewer_sees_what_was_sent(name: str, matrix: Matrix) -> None:
    found = matrix.results[name]
    assert found.wrong == [], {track: str(seen) for track, seen in found.seen.items()}


def test_the_books_close(matrix: Matrix) -> None:
    """Parts made are pushed, segments are kept, and every tag and frame is accounted for."""
    assert matrix.books.wrong == []
    assert matrix.books.made > 500
    assert matrix.books.tags["received"] > 5000
    assert matrix.books.frames["packaged"] > 5000
