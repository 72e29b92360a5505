"""A run's results as tables on the terminal, and as Markdown for RESULTS.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from rich.console import Console
from rich.table import Table

from .results import CaseResult, Run, ScenarioResult, compared
from .sample import FIGURES, Figure, Spread


def rounds(run: Run) -> str:
    return f"{run.rounds} round{'s' if run.rounds > 1 else ''}"


def number(value: float, figure: Figure) -> str:
    return f"{value:,.{figure.digits}f}"


def with_spread(spread: Spread | None, figure: Figure) -> str:
    """`8.1 (7.9–8.4)`; the median alone when there was one sample."""
    if spread is None:
        return "–"
    middle = number(spread.median, figure)
    if spread.low == spread.high:
        return middle
    return f"{middle} ({number(spread.low, figure)}–{number(spread.high, figure)})"


def times(spread: Mapping[str, Mapping[str, Spread]], figure: str, name: str, other: str) -> str:
    """How many times the other server's median, `×1.20`; a dash where there is none."""
    ours, theirs = spread.get(name, {}).get(figure), spread.get(other, {}).get(figure)
    if ours is None or theirs is None or theirs.median <= 0:
        return "–"
    return f"×{ours.median / theirs.median:.2f}"


def headings(result: ScenarioResult, cell: CaseResult) -> list[str]:
    columns = [FIGURES[name] for name in (result.scenario.figure, *result.scenario.shown)]
    titles = [f"{c.title}{f', {c.unit}' if c.unit else ''}" for c in columns]
    against = [f"÷ {cell.case.baseline}"] if cell.case.baseline in cell.samples else []
    own = ["÷ edgecache"] if "edgecache" in cell.samples else []
    return ["server", titles[0], *against, *own, *titles[1:]]


def rows(result: ScenarioResult, cell: CaseResult) -> Iterator[list[str]]:
    """One row a server, cells in the order of `headings`."""
    spread = cell.spreads()
    lead, *rest = (FIGURES[name] for name in (result.scenario.figure, *result.scenario.shown))
    others = [n for n in (cell.case.baseline, "edgecache") if n in cell.samples]
    for name, title in cell.titles.items():
        row = spread[name]
        if not row:
            yield [title, "not measured", *("–" for _ in (*others, *rest))]
            continue
        yield [
            title,
            with_spread(row.get(lead.name), lead),
            *(times(spread, lead.name, name, other) for other in others),
            *(with_spread(row.get(figure.name), figure) for figure in rest),
        ]


def remarks(result: ScenarioResult) -> Iterator[str]:
    """What has to be said below a scenario's tables."""
    for cell in result.cases:
        for name, problems in cell.problems().items():
            total = len(cell.samples[name])
            bad = sum(1 for sample in cell.samples[name] if sample.problems)
            yield (
                f"{cell.case.label}, {name}: {bad} of {total} samples not counted: "
                f"{'; '.join(problems)}"
            )
    pair = result.scenario.compare
    for name, value in compared(result).items():
        assert pair is not None
        yield f"{name}: {pair[0]} costs ×{value:.3f} of {pair[1]}"


TARGET_HEADINGS: Final = ("target", "rule", "measured", "verdict")


def _show_targets(run: Run, console: Console) -> None:
    table = Table(title=f"targets: {run.tally()}", title_justify="left", box=None, pad_edge=False)
    for heading in TARGET_HEADINGS:
        table.add_column(heading)
    colours = {"met": "green", "missed": "red"}
    for verdict in run.verdicts:
        table.add_row(*verdict.cells(), style=colours.get(verdict.state))
    console.print("")
    console.print(table)


def show(run: Run, console: Console) -> None:
    for result in run.scenarios:
        console.print(f"\n[bold]{result.scenario.name}[/]: {result.scenario.question}")
        for cell in result.cases:
            if not cell.samples:
                continue
            table = Table(title=cell.case.label, title_justify="left", box=None, pad_edge=False)
            for n, heading in enumerate(headings(result, cell)):
                table.add_column(heading, justify="left" if n == 0 else "right")
            for row in rows(result, cell):
                table.add_row(*row)
            console.print(table)
        for remark in remarks(result):
            console.print(f"! {remark}", style="yellow", markup=False, highlight=False)
    if run.verdicts:
        _show_targets(run, console)


def markdown(run: Run) -> str:
    """The run as a dated section of RESULTS.md."""
    facts = run.facts
    lines = [
        f"## {facts['date'][:10]}, {facts['commit']}",
        "",
        f"{facts['processor']}; kernel {facts['kernel']}; {facts['network']}; "
        f"{facts['congestion control']}; {rounds(run)}{', quick' if run.quick else ''}. "
        "Median (least–most).",
        *(f"- {note}" for note in run.notes),
    ]
    if run.verdicts:
        lines += [
            "",
            f"### Targets: {run.tally()}",
            "",
            _line([*TARGET_HEADINGS]),
            "|---|---|--:|---|",
        ]
        lines += [_line(verdict.cells()) for verdict in run.verdicts]
    for result in run.scenarios:
        lines += ["", f"### {result.scenario.name}", "", result.scenario.question]
        if result.scenario.note:
            lines += ["", result.scenario.note]
        for cell in result.cases:
            if not cell.samples:
                continue
            heads = headings(result, cell)
            lines += ["", f"**{cell.case.label}**", "", _line(heads)]
            lines.append("|" + "---|" + "--:|" * (len(heads) - 1))
            lines += [_line(row) for row in rows(result, cell)]
        lines += ["", *(f"- {remark}" for remark in remarks(result))]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
