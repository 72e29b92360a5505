"""python -m bench.million: what a million viewers of one stream need, from measured costs.

Prints what the prediction rests on and what follows, and writes million.json and million.html to
build/bench, or where --out says. Exit status: 0 done · 1 the swarm contradicts the model (--check)
· 2 something about the set-up is wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from .errors import BenchError
from .model.check import Compared, check
from .model.inputs import Audience, Costs, Host, Stream, Wires, World, assumptions, costs_of
from .model.page import page
from .model.predict import predict
from .model.sweep import COLUMNS, SWEEPS, Point, Sweep, row

OUT: Final = Path("build/bench")


def main(
    viewers: Annotated[int, typer.Option(min=1)] = 1_000_000,
    pops: Annotated[int, typer.Option(min=1)] = 50,
    ramp: Annotated[float, typer.Option(min=0, help="seconds in which they join")] = 60.0,
    part: Annotated[float, typer.Option(min=0, help="seconds; 0: classic")] = 1 / 4,
    segment: Annotated[float, typer.Option(min=0.5, help="seconds")] = 2.0,
    video: Annotated[float, typer.Option(min=0.01, help="Mb/s as played")] = 3.0,
    audio: Annotated[float, typer.Option(min=0, help="kb/s apart; 0: in the video")] = 128.0,
    nic: Annotated[float, typer.Option(min=0.1, help="Gb/s of a host")] = 25.0,
    cores: Annotated[int, typer.Option(min=1, help="of a host")] = 16,
    shields: Annotated[int, typer.Option(min=0, help="0: none")] = 0,
    hot: Annotated[bool, typer.Option(help="pushed before anybody asks")] = True,
    factor: Annotated[
        float, typer.Option(min=0.1, help="on CPU times, for what the bench cannot charge")
    ] = Costs().factor,
    results: Annotated[Path | None, typer.Option(help="results.json of the bench")] = None,
    out: Annotated[Path, typer.Option(help="where the files go")] = OUT,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, no table")] = False,
    check_url: Annotated[str, typer.Option("--check", help="hold it against the swarm")] = "",
    check_pid: Annotated[int, typer.Option(help="process that serves --check")] = 0,
    check_viewers: Annotated[int, typer.Option(min=4)] = 200,
) -> None:
    """What a million viewers of one stream need."""
    try:
        costs = costs_of(results) if results else Costs()
        world = World(
            stream=Stream(
                part_s=part, segment_s=segment, video_bps=video * 1e6, audio_bps=audio * 1e3
            ),
            audience=Audience(viewers=viewers, pops=pops, ramp_s=ramp),
            host=Host(cores=cores, nic_bps=nic * 1e9),
            wires=Wires(shields=shields, hot=hot),
        ).with_(hit=costs.hit, wake_us=costs.wake_us, park_us=costs.park_us,
                connect_us=costs.connect_us, source=costs.source, factor=factor)  # fmt: skip
        checks = (
            check(check_url, pid=check_pid, viewers=check_viewers, seconds=6.0) if check_url else []
        )
    except BenchError as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(2) from None
    base = (None, world, predict(world))
    sweeps = [(sweep, sweep.run(world)) for sweep in SWEEPS]
    facts = _facts(world, base, sweeps, checks)
    out.mkdir(parents=True, exist_ok=True)
    (out / "million.json").write_text(json.dumps(facts, indent=1) + "\n")
    (out / "million.html").write_text(page(world, sweeps, base, checks))
    sys.stdout.write(json.dumps(facts) + "\n" if as_json else _text(world, sweeps, base, checks))
    if not as_json:
        sys.stdout.write(f"\nwritten: {out / 'million.json'}, {out / 'million.html'}\n")
    raise typer.Exit(1 if any(not compared.holds for compared in checks) else 0)


def _facts(
    world: World,
    base: Point,
    sweeps: Sequence[tuple[Sweep, Sequence[Point]]],
    checks: Sequence[Compared],
) -> dict[str, Any]:
    return {
        "assumptions": dict(assumptions(world)),
        "prediction": base[2].row(),
        "sweeps": {
            sweep.name: [{sweep.field: value} | p.row() for value, _, p in points]
            for sweep, points in sweeps
        },
        "checks": [vars(compared) | {"holds": compared.holds} for compared in checks],
    }


def _text(
    world: World,
    sweeps: Sequence[tuple[Sweep, Sequence[Point]]],
    base: Point,
    checks: Sequence[Compared],
) -> str:
    lines = ["It rests on", *(f"  {what}: {words}" for what, words in assumptions(world)), ""]
    lines += ["It needs"]
    lines += [f"  {h}: {v}" for (h, _), v in zip(COLUMNS, row(base[2]), strict=True)]
    for sweep, points in sweeps:
        table = [[sweep.name, *(heading for heading, _ in COLUMNS)]]
        table += [[sweep.label(value), *row(p)] for value, _, p in points]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines += ["", sweep.question]
        lines += [
            "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
            for cells in table
        ]
    for c in checks:
        verdict = "holds" if c.holds else "DOES NOT HOLD"
        lines.append(
            f"{c.what}: predicted {c.predicted:,.2f}, measured {c.measured:,.2f} "
            f"({c.allowed()}): {verdict}"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    typer.run(main)
