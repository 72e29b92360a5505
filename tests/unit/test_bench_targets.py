"""Targets: each is of something that is measured, and a verdict says the numbers it rests on."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import scenario, targets
from bench.errors import BenchError
from bench.report import write_report
from bench.results import CaseResult, Run, ScenarioResult, to_json
from bench.sample import FIGURES, Sample
from bench.table import markdown
from bench.targets import Rule, parse_rule

ROOT = Path(__file__).resolve().parents[2]
FACTS = dict.fromkeys(
    ("date", "commit", "processor", "kernel", "network", "congestion control"), "x"
)


@pytest.mark.parametrize("target", targets.load().target, ids=lambda target: target.what)
def test_committed_targets_are_measured(target: targets.Target) -> None:
    loaded = scenario.load(target.scenario, quick=False)
    cases = {case.label: case for case in loaded.cases}
    assert target.case in cases
    assert target.figure in FIGURES
    assert target.figure in (loaded.figure, *loaded.shown), "the table has to show it"
    for rule in target.rules:
        assert rule.first in cases[target.case].servers
        second = cases[target.other_case or target.case]
        assert rule.second is None or rule.second in second.servers
        assert "edgecache" in (rule.first, rule.second)


def test_what_is_measured_elsewhere_is_there() -> None:
    assert all((ROOT / other.measured_by).exists() for other in targets.load().elsewhere)


def test_rules() -> None:
    assert parse_rule("edgecache <= 50") == Rule("edgecache", None, True, 50.0)
    rule = parse_rule("nginx-cache / edgecache >= 1.7")
    assert rule == Rule("nginx-cache", "edgecache", False, 1.7)
    assert str(rule) == "nginx-cache ÷ edgecache ≥ 1.7"
    assert (rule.holds(1.7), rule.holds(1.69)) == (True, False)
    for bad in ("edgecache < 5", "edgecache <= fast", "a / b / c <= 1", ""):
        with pytest.raises(ValueError, match="allowed: "):
            parse_rule(bad)


def test_what_is_wrong_with_the_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text('[[target]]\nwhat = "x"\n')
    with pytest.raises(BenchError, match=r"t\.toml: .*scenario"):
        targets.load(tmp_path / "t.toml")


def run_of(name: str, medians: dict[str, dict[str, dict[str, float]]]) -> Run:
    """Case -> server -> figures of its one sample."""
    loaded = scenario.load(name, quick=False)
    cells = [CaseResult(case) for case in loaded.cases]
    for cell in cells:
        for server, figures in medians.get(cell.case.label, {}).items():
            cell.add(server, server, Sample(figures))
    run = Run(FACTS, 1, False, [], [ScenarioResult(loaded, cells)])
    run.verdicts = targets.judged(run, targets.load())
    return run


def test_verdicts() -> None:
    cpu = {"floor-writev": 4.0, "edgecache": 5.0, "nginx-cache": 9.0}
    run = run_of("hit_playlist", {"1 KiB": {name: {"cpu_us": us} for name, us in cpu.items()}})
    floor, nginx, h2o, elsewhere = run.verdicts
    assert floor.cells()[1:] == [
        "edgecache ÷ floor-writev ≤ 1.2", "×1.25 = 5.0 µs/request ÷ 4.0 µs/request", "missed",
    ]  # fmt: skip
    assert (nginx.state, nginx.numbers) == ("met", "×1.80 = 9.0 µs/request ÷ 5.0 µs/request")
    assert (h2o.state, h2o.numbers) == ("not measured", "– ÷ 5.0 µs/request")
    assert elsewhere.state == "elsewhere"
    assert run.tally() == "1 of 3 met, 1 missed, 1 not measured"


def test_two_cases_are_compared() -> None:
    run = run_of("hot_key", {"one key": {"edgecache": {"cpu_us": 10.4}},
                             "a key each": {"edgecache": {"cpu_us": 10.0}}})  # fmt: skip
    assert run.verdicts[0].state == "met"
    assert run.verdicts[0].numbers.startswith("×1.04 = ")


def test_only_what_was_asked_is_judged() -> None:
    assert run_of("churn", {}).verdicts == []


def test_verdicts_are_shown_everywhere(tmp_path: Path) -> None:
    run = run_of("idle_conns", {"8,000 viewers": {"edgecache": {"private_b": 400.0}}})
    write_report(run, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert '<tr class="met"><td>idle kept-alive connection' in page
    assert "targets: 1 of 1 met" in page
    assert "| edgecache ≤ 512 | 400 B | met |" in markdown(run)
    assert to_json(run)["targets"][0]["state"] == "met"
