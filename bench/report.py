"""A run's results as one self-contained HTML page: no script, no other file, no other host."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Final

from .plot import Bar, bars, distribution
from .results import CaseResult, Run, ScenarioResult, overlaid
from .sample import FIGURES
from .table import TARGET_HEADINGS, headings, remarks, rounds, rows, times, with_spread

STYLE: Final = Path(__file__).with_name("report.css")
# Colour by server, the same in every plot; what is not listed is grey.
_COLOUR: Final = {
    "floor-writev": 0, "floor-sendfile": 1, "floor-paced": 2, "edgecache": 3, "nginx-cache": 4,
    "nginx-static": 5, "h2o": 6, "haproxy": 7, "varnish": 8, "ats": 9,
}  # fmt: skip
_METHOD: Final = (
    "Server pinned to one core, clients to another, the load fixed and open loop. CPU is what the "
    "kernel's scheduler charged all threads of the server (schedstat); the receiver's protocol "
    "work on a veth pair runs in the sender's softirq and is in it, for the floor as for everyone. "
    "Softirq work on an idle core is charged to no process: “whole core” has it, exact only on a "
    "quiet machine. A figure is a median over rounds in which the servers took turns, and only "
    "its ratios within this run count."
)


def write_report(run: Run, path: Path) -> None:
    path.write_text("".join(_page(run)))


def _page(run: Run) -> Iterator[str]:
    facts = run.facts
    kind = ", quick (not to be quoted)" if run.quick else ""
    yield (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>edgecache bench, {escape(facts['date'][:10])}</title>"
        f"<style>{STYLE.read_text()}</style><h1>edgecache bench</h1>"
        f'<p class="lead">{escape(facts["date"])} · commit {escape(facts["commit"])} · '
        f"{rounds(run)}{kind}</p>"
    )
    names = [result.scenario.name for result in run.scenarios]
    names = ["targets", *names] if run.verdicts else names
    links = "".join(f'<a href="#{name}">{name}</a>' for name in names)
    yield f"<nav>{links}</nav>"
    yield from (f'<p class="warning">{escape(note)}</p>' for note in run.notes)
    if run.verdicts:
        yield _targets(run)
    for result in run.scenarios:
        yield from _scenario(result)
    yield f'<h2 id="method">Method and machine</h2><p class="note">{_METHOD}</p><dl>'
    yield "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    yield "</dl></html>\n"


def _targets(run: Run) -> str:
    heads = "".join(f"<th>{heading}</th>" for heading in TARGET_HEADINGS)
    body = "".join(
        f'<tr class="{verdict.state.split()[0]}">'
        f"{''.join(f'<td>{escape(text)}</td>' for text in verdict.cells())}</tr>"
        for verdict in run.verdicts
    )
    return (
        f'<h2 id="targets">targets: {escape(run.tally())}</h2><p class="note">Medians of this run; '
        "a ratio first, then the figures it is of. The first server of a rule over the second: "
        "edgecache over a floor is what it adds, a peer over edgecache is how many times cheaper "
        f'edgecache is.</p><div class="scroll"><table class="targets"><tr>{heads}</tr>{body}'
        "</table></div>"
    )


def _scenario(result: ScenarioResult) -> Iterator[str]:
    scenario = result.scenario
    yield f'<h2 id="{scenario.name}">{scenario.name}</h2><p>{escape(scenario.question)}</p>'
    if scenario.note:
        yield f'<p class="note">{escape(scenario.note)}</p>'
    for cell in result.cases:
        if cell.samples:
            yield f"<h3>{escape(cell.case.label)}</h3>"
            yield _bars(result, cell)
            yield from _distributions(cell)
            yield _table(result, cell)
    yield from (f'<p class="warning">{escape(remark)}</p>' for remark in remarks(result))


def _bars(result: ScenarioResult, cell: CaseResult) -> str:
    figure = FIGURES[result.scenario.figure]
    spread, base = cell.spreads(), cell.case.baseline
    drawn = []
    for name, title in cell.titles.items():
        row = spread[name].get(figure.name)
        if row is None:
            continue
        against = "" if name == base else f" {times(spread, figure.name, name, base)}"
        note = with_spread(row, figure) + against.replace(" –", "")
        drawn.append(
            Bar(title, row.median, row.low, row.high, note, _COLOUR.get(name, 0),
                own=name == "edgecache")
        )  # fmt: skip
    floor = spread.get(base, {}).get(figure.name)
    caption = f"{figure.title}{f', {figure.unit}' if figure.unit else ''}"
    good = "less" if figure.less_is_better else "more"
    svg = bars(drawn, mark=floor.median if floor else None, mark_label="baseline", caption=caption)
    return (
        f"<figure>{svg}<figcaption>{escape(caption)}, {good} is better; whisker: least to most"
        "</figcaption></figure>"
    )


def _distributions(cell: CaseResult) -> Iterator[str]:
    """One plot for each series, servers overlaid; of each the round in the middle."""
    chosen = {name: overlaid(samples) for name, samples in cell.samples.items()}
    for title in dict.fromkeys(series for each in chosen.values() for series in each):
        lines = {cell.titles[name]: each[title] for name, each in chosen.items() if title in each}
        colours = {cell.titles[name]: _COLOUR.get(name, 0) for name in chosen}
        svg = distribution(lines, colours, title)
        yield (
            f"<figure>{svg}<figcaption>{escape(title)} (log scale): share of answers that had "
            "come by then</figcaption></figure>"
        )


def _table(result: ScenarioResult, cell: CaseResult) -> str:
    heads = "".join(f"<th>{escape(text)}</th>" for text in headings(result, cell))
    body = []
    for name, row in zip(cell.titles, rows(result, cell), strict=True):
        own = ' class="own"' if name == "edgecache" else ""
        body.append(f"<tr{own}>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>")
    return f'<div class="scroll"><table><tr>{heads}</tr>{"".join(body)}</table></div>'
