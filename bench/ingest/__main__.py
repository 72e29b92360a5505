"""`python -m bench.ingest`: who publishes, what goes wrong, what a viewer saw: the whole matrix.

python -m bench.ingest                    all cells, about four minutes
python -m bench.ingest obs drop-2 wrap    some of them
python -m bench.ingest --record           also writes bench/INGEST.md
Exit status: 0 when all cells and the books are as expected.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from ..errors import BenchError
from ..facts import taken
from . import cells, run, watched
from .page import page
from .site import serving

_PAGE: Final = Path(__file__).parent.parent / "INGEST.md"
_RECONNECT_S: Final = 20.0
_AWAY_S: Final = (2.0, 10.0, 40.0)
_CONSOLE: Final = Console()


def say(text: str) -> None:
    _CONSOLE.print(text, markup=False, highlight=False, soft_wrap=True)


def main(
    names: Annotated[list[str] | None, typer.Argument(help="cells; none: all")] = None,
    record: Annotated[bool, typer.Option("--record", help="write bench/INGEST.md")] = False,
) -> None:
    """Publish in every way, and look at what came of it."""
    every = [
        *cells.drops(_AWAY_S, _RECONNECT_S),
        *cells.publishers(),
        *cells.over_srt(),
        *cells.over_http(),
        *cells.codecs(),
        *cells.troubles(),
        *watched.cells(),
    ]
    chosen = [cell for cell in every if not names or cell.name in names]
    if not chosen:
        raise BenchError(f"cells: found {names}, allowed {[cell.name for cell in every]}")
    with serving([cell.name for cell in chosen], reconnect_s=_RECONNECT_S) as site:
        results = run.play(site, [c for c in chosen if c.stalled_s is None], say=say)
        # more browsers would be the cause of stalls on two cores
        shown = [cell for cell in chosen if cell.stalled_s is not None]
        results |= run.play(site, shown, at_once=2, say=say)
        books = run.close(site)
    for problem in books.wrong:
        say(f"!! {problem}")
    if record:
        facts = (taken(), f"a publisher may be away for {_RECONNECT_S:g} s")
        _PAGE.write_text(page(chosen, results, books, facts))
    raise typer.Exit(bool(books.wrong or any(found.wrong for found in results.values())))


if __name__ == "__main__":
    typer.run(main)
