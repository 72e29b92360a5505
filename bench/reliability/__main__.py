"""`python -m bench.reliability`: every case on every server that is installed, and a page of it.

python -m bench.reliability                       all, about seven minutes
python -m bench.reliability D3 D4 --servers edgecache,nginx
python -m bench.reliability --record              also writes bench/RELIABILITY.md

The server has the first core to itself; clients and origin have the second one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from ..errors import BenchError
from ..facts import taken
from ..netns import cores
from .cases import CASES, Case, Trial
from .origin import Origin
from .page import Row, page
from .servers import Server, peers, serving

_PAGE: Final = Path(__file__).parent.parent / "RELIABILITY.md"
_SETTLE_S: Final = 3.0
_CONSOLE: Final = Console()


def say(text: str) -> None:
    _CONSOLE.print(text, markup=False, highlight=False, soft_wrap=True)


def tried(case: Case, server: Server, origin: Origin, viewers: int) -> Row:
    """The case, then the ledger."""
    return Row(case.run(Trial(server, origin, viewers)), settled(server))


def settled(server: Server) -> dict[str, float] | None:
    """The ledger, which has a moment to close."""
    deadline = time.monotonic() + _SETTLE_S
    while (off := server.ledger()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return off


def run(
    names: Annotated[list[str] | None, typer.Argument(help="cases; none: all")] = None,
    servers: Annotated[str, typer.Option(help="comma-separated")] = "edgecache,nginx,varnish",
    viewers: Annotated[int, typer.Option(min=1, help="viewers of an origin's faults")] = 50,
    record: Annotated[bool, typer.Option("--record", help="write bench/RELIABILITY.md")] = False,
) -> None:
    """Show what servers do when origins die, requests lie and processes go."""
    cases = [case for case in CASES if not names or case.name in names]
    results: dict[str, dict[str, Row]] = {case.name: {} for case in cases}
    titles: dict[str, str] = {}
    server_cpus, client_cpus = cores()
    os.sched_setaffinity(0, client_cpus)
    for peer in peers(tuple(servers.split(","))):
        if why := peer.missing():
            say(f"! {why}: left out")
            continue
        titles[peer.name] = peer.title
        for case in cases:
            # A server of its own for each case: what one leaves behind is not the next one's.
            with (
                Origin() as origin,
                serving(peer, origin.port, server_cpus, client_cpus) as server,
            ):
                row = results[case.name][peer.name] = tried(case, server, origin, viewers)
            told = "does not apply" if row.seen is None else row.seen.told
            mark = "-" if row.seen is None else "ok" if row.seen.good else "!!"
            say(f"{case.name:4} {peer.name:10} {mark:3} {told}")
    if not titles:
        raise BenchError("no server to try")
    if record:
        _record(cases, results, titles, viewers)


def _record(
    cases: list[Case],
    results: Mapping[str, Mapping[str, Row]],
    titles: dict[str, str],
    viewers: int,
) -> None:
    facts = (taken(), f"{viewers} viewers at once")
    if len(cases) < len(CASES):
        raise BenchError("--record needs all cases")
    _PAGE.write_text(page(cases, results, titles, facts))
    say(f"recorded: {_PAGE}")


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command()(run)
    app(prog_name="bench.reliability")
