"""Medians over sound samples, ratios within a run, and a report that needs nothing else."""

from __future__ import annotations

import json
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import facts, scenario
from bench.clients.storm import lags_ms
from bench.errors import BenchError
from bench.plot import Bar, bars, distribution
from bench.report import write_report
from bench.results import CaseResult, Run, ScenarioResult, compared, overlaid, to_json
from bench.sample import Sample, Spread, spreads
from bench.table import markdown, rows

VOID = {"meta", "!doctype"}


class Page(HTMLParser):
    """Collects what a page opens, closes and points at."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.unpaired: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in {"href", "src"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unpaired.append(tag)


@pytest.fixture
def run() -> Run:
    loaded = scenario.load("hit_playlist", quick=False)
    cell = CaseResult(loaded.cases[0])
    for cpu in (4.0, 5.0, 6.0):
        cell.add("floor-writev", "floor, writev", Sample({"cpu_us": cpu, "p50_ms": 0.1}))
        cell.add("edgecache", "edgecache", Sample({"cpu_us": cpu * 2, "p50_ms": 0.2}))
    cell.add("edgecache", "edgecache", Sample({"cpu_us": 900.0}, ("client <saturated>",)))
    cell.add("varnish", "Varnish malloc", Sample({}, ("did not start",)))
    known = dict.fromkeys(("date", "commit", "processor", "kernel", "network"), "a<b")
    known["congestion control"] = "bbr"
    return Run(known, 3, False, ["nginx: skipped"], [ScenarioResult(loaded, [cell])])


def test_spreads_count_only_sound_samples() -> None:
    samples = [
        Sample({"x": 1.0}),
        Sample({"x": 3.0}),
        Sample({"x": 2.0}),
        Sample({"x": 99.0}, ("bad",)),
    ]
    assert spreads(samples) == {"x": Spread(2.0, 1.0, 3.0)}
    assert spreads(samples[3:]) == {}


def test_json_holds_every_sample_and_the_ratios(run: Run) -> None:
    case = json.loads(json.dumps(to_json(run)))["scenarios"][0]["cases"][0]
    ours = case["servers"]["edgecache"]
    assert len(ours["samples"]) == 4
    assert ours["spread"]["cpu_us"] == {"median": 10.0, "low": 8.0, "high": 12.0}
    assert ours["ratios"] == {"cpu_us": {"floor-writev": 2.0}}
    assert case["servers"]["varnish"]["ratios"] == {"cpu_us": {}}


def test_table_rows(run: Run) -> None:
    result = run.scenarios[0]
    table = list(rows(result, result.cases[0]))
    assert table[1][:4] == ["edgecache", "10.0 (8.0–12.0)", "×2.00", "×1.00"]
    assert table[2][:2] == ["Varnish malloc", "not measured"]
    assert len({len(row) for row in table}) == 1


def test_markdown_says_what_was_not_counted(run: Run) -> None:
    text = markdown(run)
    assert "1 KiB, edgecache: 1 of 4 samples not counted: client <saturated>" in text
    assert "1 KiB, varnish: 1 of 1 samples not counted: did not start" in text


def test_compared_cases() -> None:
    loaded = scenario.load("hot_key", quick=False)
    cells = [CaseResult(case) for case in loaded.cases]
    for cell, cpu in zip(cells, (11.0, 10.0), strict=True):
        cell.add("edgecache", "edgecache", Sample({"cpu_us": cpu}))
    assert compared(ScenarioResult(loaded, cells)) == {"edgecache": pytest.approx(1.1)}


def test_report_is_whole_and_self_contained(run: Run, tmp_path: Path) -> None:
    write_report(run, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.unpaired == []
    assert page.open == []
    assert all(link.startswith("#") for link in page.links)
    assert "url(" not in text
    assert "@import" not in text
    assert "client &lt;saturated&gt;" in text


def test_plots_are_well_formed() -> None:
    bar = Bar("a & b", 2.0, 1.0, 3.0, "2 (1–3)", colour=3, own=True)
    svg = ElementTree.fromstring(bars([bar], mark=1.0, mark_label="<floor>", caption="µs"))
    assert [text.text for text in svg.iter("text")] == ["a & b", "2 (1–3)", "<floor>"]
    line = [float(n) for n in range(101)]
    svg = ElementTree.fromstring(distribution({"a": line}, {"a": 1}, "lag"))
    assert [title.text for title in svg.iter("title")] == ["a: p50 50.00, p99 99.00, max 100.00"]


def test_series_of_the_middle_round() -> None:
    samples = [Sample({}, series={"lag": [middle] * 3}) for middle in (9.0, 1.0, 5.0)]
    assert overlaid(samples) == {"lag": [5.0] * 3}
    assert overlaid([Sample({}, ("bad",), {"lag": [1.0]})]) == {}


@pytest.mark.parametrize(
    ("head", "changed", "commit"),
    [("46d02998d2", "", "46d02998d2"), ("46d02998d2", " M setup.py", "46d02998d2+"), ("", "", "?")],
)
def test_only_a_clean_commit_is_recorded(
    head: str, changed: str, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An untracked file is a difference too: it may be imported."""
    said = {"rev-parse": head, "status": changed}
    monkeypatch.setattr(facts, "_git", lambda command, *_: said[command])
    assert facts.commit() == commit
    if commit == head:
        facts.exact_commit()
    else:
        with pytest.raises(BenchError, match=r"--record: commit .*: the tree is not as committed"):
            facts.exact_commit()


def test_what_was_recorded_is_no_other_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True, capture_output=True)

    (tmp_path / "bench").mkdir()
    page, program = tmp_path / "bench/SOAK.md", tmp_path / "bench/soak.py"
    page.write_text("once")
    program.write_text("pass")
    git("init")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "Begin")
    monkeypatch.setattr(facts, "REPOSITORY", tmp_path)
    page.write_text("again")
    assert not facts.commit().endswith("+")
    program.write_text("pass  # other")
    assert facts.commit().endswith("+")


def test_lag_behind_each_chunk() -> None:
    """The second read brought chunks two and three: both arrived then."""
    arrivals = [(1_000_000, 10), (9_000_000, 30)]
    assert lags_ms(arrivals, [10, 20, 30], [500_000, 4_000_000, 8_000_000]) == [0.5, 5.0, 1.0]
