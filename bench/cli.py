"""`python -m bench [SCENARIO…]`: run scenarios, show tables, write results.json and report.html.

Exit status: 0 done · 1 nothing could be measured or the set-up is wrong · 130 interrupted. What was
measured before an interruption is written, and everything that was started is ended.
"""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from . import scenario as scenarios
from . import targets
from .errors import BenchError
from .facts import exact_commit, facts
from .netns import can_isolate
from .report import write_report
from .results import Run, write_json
from .runner import Began, Ended, Plan, absent, available, execute
from .stage import Stage, stage
from .table import markdown, show

RESULTS: Final = Path(__file__).with_name("RESULTS.md")
_PLAIN_WIDTH: Final = 170  # a table in a file or a pipe is not folded
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
OUT: Final = Path("build/bench")
_HEAD: Final = "# Results\n\nDated runs, newest first; `python -m bench --record` adds one.\n"


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[SCENARIO]...", help="default: all")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="turns every server takes; default 3, quick 1")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="short; not to be quoted")] = False,
    out: Annotated[Path, typer.Option(help="where results.json and report.html go")] = OUT,
    servers: Annotated[str, typer.Option(help="only these, separated by commas")] = "",
    record: Annotated[bool, typer.Option("--record", help="add to bench/RESULTS.md")] = False,
    listed: Annotated[bool, typer.Option("--list", help="list scenarios and end")] = False,
) -> None:
    """Named questions about this cache and its peers, answered on this machine."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PLAIN_WIDTH)
    try:
        chosen = [scenarios.load(name, quick=quick) for name in names or scenarios.names()]
        if listed:
            for each in chosen:
                console.print(f"[bold]{each.name}[/]: {each.question}")
            return
        only = frozenset(filter(None, servers.split(",")))
        _bench(Plan(chosen, rounds or (1 if quick else 3), only), console, out,
               quick=quick, record=record)  # fmt: skip
    except BenchError as error:
        console.print(f"bench: {error}", style="red", markup=False)
        raise typer.Exit(1) from None


def _bench(plan: Plan, console: Console, out: Path, *, quick: bool, record: bool) -> None:
    _raise_limits()
    for number in _ENDING:  # SIGINT too: shells let jobs ignore it
        signal.signal(number, _interrupt)
    interrupted, goals = False, targets.load()
    if record:
        exact_commit()
    with stage() as here:
        run = Run(facts(here.network), plan.rounds, quick, list(_notes(plan, here)))
        for note in run.notes:
            console.print(f"! {note}", style="yellow", markup=False)
        try:
            with _followed(console, plan.steps()) as (began, ended):
                execute(plan, here, run, began, ended)
        except KeyboardInterrupt:
            interrupted = True
            run.notes.append("interrupted: not every sample was taken")
            console.print(f"! {run.notes[-1]}", style="yellow", markup=False)
    run.verdicts = targets.judged(run, goals)
    show(run, console)
    _write(run, console, out, record=record and not interrupted)
    if interrupted:
        raise typer.Exit(130)
    if not any(cell.samples for result in run.scenarios for cell in result.cases):
        raise BenchError("nothing was measured")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """The first one ends the run; a second one must not end the clearing up."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _notes(plan: Plan, here: Stage) -> Iterator[str]:
    reason = can_isolate()
    if reason:
        yield f"on loopback ({reason}): its 64 KiB MTU hides costs and invents others"
    if here.network.server_cpus == here.network.client_cpus:
        yield "one core only: clients and server take it from each other"
    yield from absent(plan, available(here))


def _raise_limits() -> None:
    """Thousands of viewers need as many descriptors as this process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def _followed(console: Console, total: int) -> Iterator[tuple[Began, Ended]]:
    """What the runner calls as it goes on: a bar on a terminal, a line a sample elsewhere."""
    columns = (BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
               TimeRemainingColumn(), TextColumn("{task.description}"))  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=total == 0) as progress:
        task = progress.add_task("", total=total)

        def began(what: str) -> None:
            progress.update(task, description=what)
            if not console.is_terminal:
                done = int(progress.tasks[0].completed)
                console.print(f"{done + 1}/{total} {what}", markup=False, highlight=False)

        yield began, lambda: progress.advance(task)


def _write(run: Run, console: Console, out: Path, *, record: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_json(run, out / "results.json")
    write_report(run, out / "report.html")
    console.print(f"\nwritten: {out / 'results.json'}, {out / 'report.html'}")
    if record:
        older = RESULTS.read_text().removeprefix(_HEAD) if RESULTS.exists() else ""
        RESULTS.write_text(f"{_HEAD}\n{markdown(run)}{older}")
        console.print(f"recorded: {RESULTS}")


def main() -> None:
    app = typer.Typer(add_completion=False)
    app.command()(bench)
    app(prog_name="bench")
