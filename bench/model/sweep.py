"""The same question at other numbers of POPs, lengths of a part, and ramps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .inputs import World
from .predict import Prediction, predict

POPS: Final = (5, 10, 20, 50, 100, 200, 500)
PARTS_S: Final = (0.2, 0.25, 1 / 3, 0.5, 1.0, 0.0)
RAMPS_S: Final = (5.0, 10.0, 30.0, 60.0, 300.0, 600.0)

Point = tuple[Any, World, Prediction]


@dataclass(frozen=True)
class Sweep:
    """`label` puts a value of `field` into words."""

    name: str
    question: str
    field: str
    values: Sequence[Any]
    label: Callable[[Any], str]

    def worlds(self, world: World) -> Iterator[tuple[Any, World]]:
        for value in self.values:
            yield value, world.with_(**{self.field: value})

    def run(self, world: World) -> list[Point]:
        return [(value, there, predict(there)) for value, there in self.worlds(world)]


def _part(value: float) -> str:
    return f"{value * 1e3:.0f} ms" if value else "classic"


SWEEPS: Final = (
    Sweep("POPs", "How many places should serve it?", "pops", POPS, lambda n: f"{n:,}"),
    Sweep("Parts", "How long should a part be?", "part_s", PARTS_S, _part),
    Sweep("Ramp", "How fast may they come?", "ramp_s", RAMPS_S, lambda s: f"{s:g} s"),
)

# (heading, value in words) of every column of a table
COLUMNS: Final[tuple[tuple[str, Callable[[Prediction], str]], ...]] = (
    ("requests/s", lambda p: f"{p.need.requests_s / 1e6:.2f} M"),
    ("requests/s at the peak", lambda p: f"{p.need.peak_requests_s / 1e6:.2f} M"),
    ("out, Tb/s", lambda p: f"{p.need.bits_s / 1e12:.2f}"),
    ("busy cores", lambda p: f"{p.need.cores:,.0f}"),
    ("cores at the peak", lambda p: f"{p.need.peak_cores:,.0f}"),
    ("viewers a core", lambda p: f"{p.need.viewers_core:,.0f}"),
    ("hosts", lambda p: f"{p.need.hosts:,}"),
    ("bound by", lambda p: p.need.bound_by),
    ("origin out, Gb/s", lambda p: f"{p.need.push_bps / 1e9:.2f}"),
    ("lag p50, ms", lambda p: f"{p.lag_ms['p50']:,.0f}"),
    ("lag p95", lambda p: f"{p.lag_ms['p95']:,.0f}"),
    ("lag p99", lambda p: f"{p.lag_ms['p99']:,.0f}"),
    ("behind the camera, s", lambda p: f"{p.behind_s:.2f}"),
    ("start-up p95, ms", lambda p: f"{p.startup_ms['p95']:,.0f}"),
    ("pulls if cold", lambda p: f"{p.pulls:,}"),
    ("not coalesced", lambda p: f"{p.pulls_alone:,}"),
)


def row(prediction: Prediction) -> list[str]:
    return [words(prediction) for _, words in COLUMNS]
