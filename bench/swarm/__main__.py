"""python -m bench.swarm URL: viewers that play, and what they saw.

Exit status: 0 when everybody played without an error or a stall, 1 when not, 2 when it could not
run.
"""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated

import typer

from ..errors import BenchError
from . import drive, plan
from .result import Result
from .serverside import Server, run_beside

_ROWS = {
    "startup": "join to playing",
    "blocked": "reload held",
    "playlist_first": "playlist behind the first viewer, first byte",
    "playlist_last": "playlist behind the first viewer, last byte",
    "object_first": "media behind the first viewer, first byte",
    "object_last": "media behind the first viewer, last byte",
    "wait": "media request to first byte",
    "fetch": "media request to last byte",
    "stall": "stall",
    "versions_apart": "one playlist version to the next (the origin)",
    "own_delay": "the swarm's own delay in reading",
}


class Mode(StrEnum):
    ll = "ll"
    classic = "classic"


class Choice(StrEnum):
    first = "first"
    lowest = "lowest"
    highest = "highest"
    spread = "spread"


def main(
    url: Annotated[str, typer.Argument(help="A multivariant or media playlist, http://…")],
    viewers: Annotated[int, typer.Option(min=1, help="How many.")] = 100,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of playing, after the ramp.")] = 10,
    mode: Annotated[Mode, typer.Option(help="Parts and blocking reloads, or segments.")] = Mode.ll,
    ramp: Annotated[float, typer.Option(min=0, help="Seconds in which they all join.")] = 1,
    rendition: Annotated[Choice, typer.Option(help="What they play.")] = Choice.first,
    connections: Annotated[int, typer.Option(min=1, max=6, help="Per viewer.")] = 2,
    processes: Annotated[int, typer.Option(min=0, help="0: as few as will do.")] = 0,
    source: Annotated[str, typer.Option(help="Address of the first process.")] = "",
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for an answer.")] = 10,
    pid: Annotated[int, typer.Option(min=0, help="The server: its CPU is measured.")] = 0,
    skip: Annotated[bool, typer.Option(help="Ask for delta updates.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Play a stream with many viewers, checking every byte."""
    crowd = drive.Crowd(
        viewers=viewers,
        seconds=seconds,
        ramp_s=ramp,
        low_latency=mode is Mode.ll,
        skip=skip,
        connections=connections,
        processes=processes,
        source=source,
        timeout_s=timeout,
    )
    try:
        look = plan.look(url, rendition=rendition.value)
        progress = _progress if sys.stderr.isatty() else None
        server = None
        if pid:
            result, server = run_beside(look, crowd, pid, progress)
        else:
            result = drive.run(look, crowd, progress)
    except BenchError as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(2) from None
    facts = result.summary() | ({"server": vars(server)} if server else {})
    sys.stdout.write(json.dumps(facts) + "\n" if as_json else _table(result, server))
    raise typer.Exit(0 if result.sound else 1)


def _progress(left_s: float, tallies: dict[str, int]) -> None:
    errors = sum(count for name, count in tallies.items() if name.startswith("error_"))
    sys.stderr.write(
        f"\r\x1b[K{left_s:5.1f} s to go: {tallies['started']} playing, {tallies['stalls']} stalls,"
        f" {errors} errors, {tallies['answered']} answers"
    )


def _table(result: Result, server: Server | None) -> str:
    facts = result.summary()
    ours = (
        (
            f"server: {server.cores} of a core, {server.us_request} µs a request, "
            f"{server.viewers_core:,} viewers a core at {server.viewer_megabits_s} Mb/s each"
        )
        if server
        else "server: not measured (--pid)"
    )
    lines = [
        f"{facts['playing']} of {facts['viewers']} viewers playing after {facts['elapsed_s']} s",
        f"{facts['requests_s']:,} requests/s, {facts['megabits_s']:,} Mb/s",
        f"{facts['stalls']} stalls of {facts['stalled_viewers']} viewers, {facts['stall_s']} s",
        f"errors: {', '.join(f'{k} {n}' for k, n in facts['errors'].items()) or 'none'}",
        f"client: {facts['client_cpu']} of a core, {facts['client_us_request']} µs a request",
        ours,
        "",
        f"{'ms':46}" + "".join(f"{name:>10}" for name in ("p50", "p90", "p99", "max")),
    ]
    for span, title in _ROWS.items():
        if row := facts["ms"][span]:
            lines.append(f"{title:46}" + "".join(f"{value:10.2f}" for value in row.values()))
    return "\n".join([*lines, *facts["error_samples"], ""])


if __name__ == "__main__":
    typer.run(main)
