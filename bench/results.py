"""A run's results as a value, and its JSON form.

results.json: {"facts": {…}, "rounds": n, "quick": bool, "notes": […], "scenarios": [{"name",
"question", "figure", "shown", "took_s", "compare", "cases": [{"label", "baseline", "params",
"servers": {name: {"title", "samples": [{"figures", "problems", "series"}], "spread": {figure:
{median, low, high}}, "ratios": {figure: {server: median / that server's median}}}}}]}],
"targets": [{"what", "rule", "numbers", "state"}]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .sample import Sample, Spread, ratio, spreads
from .scenario import Case, Scenario


@dataclass
class CaseResult:
    case: Case
    titles: dict[str, str] = field(default_factory=dict)
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def add(self, name: str, title: str, sample: Sample) -> None:
        self.titles[name] = title
        self.samples.setdefault(name, []).append(sample)

    def spreads(self) -> dict[str, dict[str, Spread]]:
        """Server -> figure -> spread over its sound samples."""
        return {name: spreads(samples) for name, samples in self.samples.items()}

    def problems(self) -> dict[str, list[str]]:
        """Server -> what was wrong with its samples, each once."""
        found = {
            name: list(dict.fromkeys(p for s in samples for p in s.problems))
            for name, samples in self.samples.items()
        }
        return {name: problems for name, problems in found.items() if problems}


@dataclass
class ScenarioResult:
    scenario: Scenario
    cases: list[CaseResult]
    took_s: float = 0.0


State = Literal["met", "missed", "not measured", "elsewhere"]


@dataclass(frozen=True)
class Verdict:
    """One rule of one target (targets.py). `numbers`: what was measured, in words."""

    what: str
    rule: str
    numbers: str
    state: State

    def cells(self) -> list[str]:
        return [self.what, self.rule, self.numbers, self.state]


@dataclass
class Run:
    facts: Mapping[str, str]
    rounds: int
    quick: bool
    notes: list[str] = field(default_factory=list)
    scenarios: list[ScenarioResult] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    def tally(self) -> str:
        """`14 of 20 met, 4 missed, 2 not measured`."""
        judged = [verdict.state for verdict in self.verdicts if verdict.state != "elsewhere"]
        others = (
            f", {judged.count(s)} {s}" for s in ("missed", "not measured") if s in judged
        )  # fmt: skip
        return f"{judged.count('met')} of {len(judged)} met{''.join(others)}"


def ratios(spread: Mapping[str, Mapping[str, Spread]], figure: str) -> dict[str, dict[str, float]]:
    """Server -> other server -> how many times the other's median its own is."""
    medians = {name: row[figure].median for name, row in spread.items() if figure in row}
    return {
        name: {
            other: value
            for other, theirs in medians.items()
            if other != name and (value := ratio(ours, theirs)) is not None
        }
        for name, ours in medians.items()
    }


def compared(result: ScenarioResult) -> dict[str, float]:
    """Server -> headline figure of the first compared case over that of the second."""
    pair = result.scenario.compare
    if pair is None:
        return {}
    spread = {cell.case.label: cell.spreads() for cell in result.cases}
    first, second = spread[pair[0]], spread[pair[1]]
    figure = result.scenario.figure
    return {
        name: first[name][figure].median / second[name][figure].median
        for name in first
        if figure in first[name] and figure in second.get(name, {})
    }


def _case_json(result: CaseResult, figure: str) -> dict[str, Any]:
    spread = result.spreads()
    against = ratios(spread, figure)
    return {
        "label": result.case.label,
        "baseline": result.case.baseline,
        "params": result.case.params.model_dump(),
        "servers": {
            name: {
                "title": result.titles[name],
                "samples": [_sample_json(sample) for sample in samples],
                "spread": {key: vars(value) for key, value in spread[name].items()},
                "ratios": {figure: against.get(name, {})},
            }
            for name, samples in result.samples.items()
        },
    }


def _sample_json(sample: Sample) -> dict[str, Any]:
    return {
        "figures": dict(sample.figures),
        "problems": list(sample.problems),
        "series": {name: list(values) for name, values in sample.series.items()},
    }


def to_json(run: Run) -> dict[str, Any]:
    return {
        "facts": dict(run.facts),
        "rounds": run.rounds,
        "quick": run.quick,
        "notes": run.notes,
        "scenarios": [
            {
                "name": each.scenario.name,
                "question": each.scenario.question,
                "figure": each.scenario.figure,
                "shown": list(each.scenario.shown),
                "took_s": round(each.took_s, 1),
                "compare": compared(each),
                "cases": [_case_json(cell, each.scenario.figure) for cell in each.cases],
            }
            for each in run.scenarios
        ],
        "targets": [vars(verdict) for verdict in run.verdicts],
    }


def write_json(run: Run, path: Path) -> None:
    path.write_text(json.dumps(to_json(run), indent=1) + "\n")


def overlaid(samples: Sequence[Sample]) -> dict[str, Sequence[float]]:
    """Each series of the sound sample that lies in the middle by that series' median."""
    sound = [sample for sample in samples if not sample.problems]
    names = dict.fromkeys(name for sample in sound for name in sample.series)
    chosen = {}
    for name in names:
        having = sorted(
            (sample.series[name] for sample in sound if sample.series.get(name)),
            key=lambda values: values[len(values) // 2],
        )
        if having:
            chosen[name] = having[len(having) // 2]
    return chosen
