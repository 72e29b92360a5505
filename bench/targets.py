"""The project's targets (targets.toml), held against a run: met, missed, or not measured.

A verdict is of medians and shows every number it rests on. Only targets whose scenario was run are
judged; what this bench cannot measure is listed with where it is measured.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from .errors import BenchError, said
from .results import CaseResult, Run, State, Verdict
from .sample import FIGURES, Spread

FILE: Final = Path(__file__).with_name("targets.toml")
_RULE: Final = re.compile(
    r"(?P<first>[a-z0-9-]+)(?: / (?P<second>[a-z0-9-]+))? (?P<sign><=|>=) (?P<limit>\d+(\.\d+)?)"
)


@dataclass(frozen=True)
class Rule:
    """The figure of `first`, or how many times that of `second`, is `limit` at most or least."""

    first: str
    second: str | None
    at_most: bool
    limit: float

    def __str__(self) -> str:
        of = f"{self.first} ÷ {self.second}" if self.second else self.first
        return f"{of} {'≤' if self.at_most else '≥'} {self.limit:g}"

    def holds(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit


def parse_rule(text: str) -> Rule:
    """Raises ValueError for what is not one."""
    found = _RULE.fullmatch(text)
    if found is None:
        raise ValueError(f"found {text!r}, allowed: '<server> [/ <server>] <=|>= <number>'")
    return Rule(found["first"], found["second"], found["sign"] == "<=", float(found["limit"]))


class Target(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    what: str
    scenario: str
    case: str
    other_case: str = ""
    figure: str
    rules: tuple[Rule, ...]

    @field_validator("rules", mode="before")
    @classmethod
    def _parsed(cls, texts: list[str]) -> list[Rule]:
        return [parse_rule(text) for text in texts]


class Elsewhere(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    what: str
    rule: str
    measured_by: str


class Targets(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    target: tuple[Target, ...]
    elsewhere: tuple[Elsewhere, ...] = ()


def load(path: Path = FILE) -> Targets:
    """Raises BenchError naming what is wrong with the file."""
    try:
        return Targets.model_validate(tomllib.loads(path.read_text()))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise BenchError(f"{path.name}: {said(error)}") from None


def judged(run: Run, targets: Targets) -> list[Verdict]:
    """One verdict a rule, in the order of the file, then what is measured elsewhere."""
    cells = {(r.scenario.name, c.case.label): c for r in run.scenarios for c in r.cases}
    ran = {result.scenario.name for result in run.scenarios}
    verdicts = [
        _verdict(target, rule, cells)
        for target in targets.target
        if target.scenario in ran
        for rule in target.rules
    ]
    others = (Verdict(o.what, o.rule, o.measured_by, "elsewhere") for o in targets.elsewhere)
    return [*verdicts, *others] if verdicts else []


def _verdict(target: Target, rule: Rule, cells: dict[tuple[str, str], CaseResult]) -> Verdict:
    first = _found(cells, target, target.case, rule.first)
    value, numbers = first.median if first else None, _words(first, target.figure)
    if rule.second:
        second = _found(cells, target, target.other_case or target.case, rule.second)
        value = first.median / second.median if first and second and second.median > 0 else None
        quotient = f"{numbers} ÷ {_words(second, target.figure)}"
        numbers = quotient if value is None else f"×{value:.2f} = {quotient}"
    state: State = "not measured" if value is None else "met" if rule.holds(value) else "missed"
    return Verdict(target.what, str(rule), numbers, state)


def _found(
    cells: dict[tuple[str, str], CaseResult], target: Target, case: str, server: str
) -> Spread | None:
    cell = cells.get((target.scenario, case))
    return cell.spreads().get(server, {}).get(target.figure) if cell else None


def _words(spread: Spread | None, figure: str) -> str:
    shown = FIGURES[figure]
    if spread is None:
        return "–"
    return f"{spread.median:,.{shown.digits}f} {shown.unit}".rstrip()
