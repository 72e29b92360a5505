"""Runs scenarios: every round visits every case, and in it every server in turn (A B C A B C …).

Laws. A server is started fresh for each sample, warmed and checked, measured, and stopped. One that
is not installed is noted and skipped; one that fails costs its sample, never the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .errors import BenchError
from .peers.peer import Peer, Site, running
from .peers.table import build_floor, peers
from .results import CaseResult, Run, ScenarioResult
from .sample import Sample
from .scenario import Case, Scenario
from .stage import Stage, warm

Began = Callable[[str], None]
Ended = Callable[[], None]


@dataclass(frozen=True)
class Plan:
    """`only`: servers to take, empty for all that a case names."""

    scenarios: Sequence[Scenario]
    rounds: int
    only: frozenset[str] = frozenset()

    def servers(self, case: Case) -> list[str]:
        return [name for name in case.servers if not self.only or name in self.only]

    def turns(self, scenario: Scenario) -> int:
        return min(self.rounds, scenario.rounds_max or self.rounds)

    def steps(self) -> int:
        return sum(
            self.turns(each) * len(self.servers(case))
            for each in self.scenarios
            for case in each.cases
        )


def available(stage: Stage) -> dict[str, Peer]:
    return peers(build_floor(stage.scratch))


def absent(plan: Plan, table: Mapping[str, Peer]) -> list[str]:
    """One line for every server that is named and cannot run here."""
    named = dict.fromkeys(s for each in plan.scenarios for c in each.cases for s in plan.servers(c))
    unknown = [name for name in named if name not in table and not name.startswith("policy-")]
    if unknown:
        raise BenchError(f"no server {unknown[0]!r}; there are: {', '.join(table)}")
    gaps = ((name, table[name].missing()) for name in named if name in table)
    return [f"{name}: {why}: skipped" for name, why in gaps if why]


def execute(plan: Plan, stage: Stage, run: Run, began: Began, ended: Ended) -> None:
    """Fills `run`, scenario by scenario; `began` is called with the name of each sample."""
    table = available(stage)
    for scenario in plan.scenarios:
        result = ScenarioResult(scenario, [CaseResult(case) for case in scenario.cases])
        run.scenarios.append(result)
        start = time.monotonic()
        for number in range(plan.turns(scenario)):
            for cell, name in _cells(plan, result):
                began(f"{scenario.name} · {cell.case.label} · {name} · round {number + 1}")
                if name not in table or not table[name].missing():
                    title = table[name].title if name in table else name
                    cell.add(name, title, _sample(scenario, cell.case, name, table, stage))
                ended()
        result.took_s = time.monotonic() - start


def _cells(plan: Plan, result: ScenarioResult) -> Iterator[tuple[CaseResult, str]]:
    for cell in result.cases:
        for name in plan.servers(cell.case):
            yield cell, name


def _sample(
    scenario: Scenario, case: Case, name: str, table: Mapping[str, Peer], stage: Stage
) -> Sample:
    try:
        if name not in table:
            return _simulated(scenario, name, case.params)
        return _measured(scenario, case, table[name], stage)
    except (BenchError, OSError) as error:
        return Sample({}, (str(error),))


def _simulated(scenario: Scenario, name: str, params: Any) -> Sample:
    if scenario.kind.simulate is None:
        raise BenchError(f"{name} is a model, {scenario.name} wants servers")
    return scenario.kind.simulate(name, params)


def _measured(scenario: Scenario, case: Case, peer: Peer, stage: Stage) -> Sample:
    kind, params = scenario.kind, case.params
    peer = kind.equip(peer, params, stage)
    blobs = kind.blobs(params)
    site = Site(
        network=stage.network,
        directory=stage.scratch / "site",
        docroot=stage.docroot,
        origin_port=stage.origin_port,
        blobs=blobs,
        workers=kind.workers,
    )
    if kind.all_cores:
        cores = {*stage.network.server_cpus, *stage.network.client_cpus}
        site = replace(site, cpus=tuple(sorted(cores)))
    if peer.feeds == "files":
        stage.publish_files(blobs)
    stage.forget()
    with running(peer, site) as server:
        if kind.warmed:
            warm(stage, server, blobs)
        return kind.measure(stage, server, params)
