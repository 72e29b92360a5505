"""What a kind of question consists of, and what all kinds that offer load share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from ..bodies import Blob
from ..load import Offer, Outcome
from ..measure import Spent, memory, snapshot, spent
from ..peers.peer import Peer, Running
from ..sample import Sample
from ..stage import Stage

MIB: Final = 1 << 20


class Params(BaseModel):
    """Base of every kind's parameters: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


P = TypeVar("P", bound=Params)


def _as_it_is(peer: Peer, _params: Params, _stage: Stage) -> Peer:
    return peer


@dataclass(frozen=True)
class Kind(Generic[P]):
    """`blobs`: what will be asked for, in order. `measure`: one sample of one running server.
    `equip`: what a server needs beyond its own entry (a push door, a memory budget).
    `simulate`: servers named policy-* are not processes but models, computed by this."""

    params: type[P]
    blobs: Callable[[P], Sequence[Blob]]
    measure: Callable[[Stage, Running, P], Sample]
    warmed: bool = True
    all_cores: bool = False
    workers: int = 1
    equip: Callable[[Peer, P, Stage], Peer] = _as_it_is
    simulate: Callable[[str, P], Sample] | None = None


def watched(running: Running, run: Callable[[], list[Outcome]]) -> tuple[list[Outcome], Spent]:
    """Offered load, and what it cost the server meanwhile."""
    before = snapshot(running.pid)
    outcomes = run()
    return outcomes, spent(before, snapshot(running.pid), running.cpus)


def load_sample(stage: Stage, running: Running, outcomes: Sequence[Outcome], cost: Spent) -> Sample:
    """The figures of a load on objects that were all in the cache before it began."""
    requests = max(1, sum(outcome.requests for outcome in outcomes))
    p50, _, p99, p999 = (max(outcome.latency_ms[n] for outcome in outcomes) for n in range(4))
    problems = [problem for outcome in outcomes for problem in outcome.problems]
    if cost.lost_threads:
        problems.append(f"{cost.lost_threads} server threads ended: their CPU is not counted")
    if running.peer.feeds == "origin" and (pulled := sum(stage.asked().values())):
        problems.append(f"{pulled} origin requests during hits")
    figures = {
        "cpu_us": cost.cpu_s / requests * 1e6,
        "core_us": cost.core_busy_s / requests * 1e6,
        "p50_ms": p50,
        "p99_ms": p99,
        "p999_ms": p999,
        "retransmits": cost.net.get("TcpRetransSegs", 0),
        "pss_mib": memory(running.pid).pss / MIB,
        "client_cpu": sum(outcome.client_cpu for outcome in outcomes),
    }
    return Sample(figures, tuple(problems))


def offer(running: Running, blobs: Sequence[Blob], **load: float) -> Offer:
    """An offer for the blobs in order. Load: connections, rate, duration_s, churn."""
    return Offer(
        base=running.url(""),
        uris=[blob.path for blob in blobs],
        body_bytes=sum(blob.size for blob in blobs) / len(blobs),
        connections=int(load["connections"]),
        rate=int(load["rate"]),
        duration_s=load["duration_s"],
        churn=bool(load.get("churn", False)),
    )
