"""What a run of the swarm found: counts and times, of one process or of several together.

Lag is against the first viewer of the same process that saw the object or version. `steady` is the
time after the ramp.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

PERCENTILES: Final = (50, 90, 99, 100)
_SUB: Final = 16


@dataclass(frozen=True)
class Digests:
    """Bodies whose ETag is an xxh3-128: how many are right and wrong; others have none to check."""

    right: int = 0
    wrong: int = 0
    without: int = 0


@dataclass(frozen=True)
class Result:
    """Names and meanings of tallies and spans are in native/tallies.h. Times in seconds."""

    viewers: int
    playing: int
    elapsed_s: float
    steady_s: float
    tallies: Mapping[str, int]
    steady: Mapping[str, int]
    spans: Mapping[str, Sequence[int]]
    digests: Digests
    samples: Sequence[str] = field(default_factory=tuple)

    @property
    def errors(self) -> dict[str, int]:
        """By kind, those that happened; a wrong digest is one."""
        found = {
            name.removeprefix("error_"): count
            for name, count in self.tallies.items()
            if name.startswith("error_") and count
        }
        return found | ({"digest": self.digests.wrong} if self.digests.wrong else {})

    @property
    def sound(self) -> bool:
        """No error, no stall, and everybody played."""
        lost = self.tallies["lost"] + self.viewers - self.tallies["started"]
        return not (self.errors or self.tallies["stalls"] or lost)

    def percentiles_ms(self, span: str) -> dict[str, float] | None:
        """None when nothing was timed."""
        counts = self.spans[span]
        if not any(counts):
            return None
        return {f"p{q}": round(quantile_us(counts, q) / 1e3, 3) for q in PERCENTILES}

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        tallies, steady, window = self.tallies, self.steady, self.steady_s or 1.0
        asked = max(1, steady["asked"])
        cpu = steady["cpu_us"] / 1e6 / window
        media = steady["bytes_media"] + steady["bytes_playlist"]
        return {
            "viewers": self.viewers,
            "joined": tallies["joined"],
            "started": tallies["started"],
            "playing": self.playing,
            "sound": self.sound,
            "elapsed_s": round(self.elapsed_s, 3),
            "steady_s": round(self.steady_s, 3),
            "requests_s": round(steady["asked"] / window, 1),
            "megabits_s": round(8e-6 * media / window, 3),
            "requests_s_viewer": round(steady["asked"] / window / max(1, self.playing), 3),
            "stalls": tallies["stalls"],
            "stalled_viewers": tallies["stalled_viewers"],
            "stall_s": round(tallies["stall_us"] / 1e6, 3),
            "errors": self.errors,
            "error_samples": list(self.samples),
            "digests": vars(self.digests),
            "client_cpu": round(cpu, 4),
            "client_us_request": round(steady["cpu_us"] / asked, 2),
            "client_viewers_core": round(self.playing / cpu) if cpu else 0,
            "ms": {name: self.percentiles_ms(name) for name in self.spans},
            "tallies": dict(tallies),
        }


def bucket_us(index: int) -> float:
    """Middle of a bucket (see sw_bucket in native/tally.pxd)."""
    if index < _SUB:
        return float(index)
    octave, sub = divmod(index, _SUB)
    width = 1 << (octave - 1)
    return (_SUB + sub) * width + (width - 1) / 2


def quantile_us(counts: Sequence[int], percent: float) -> float:
    """Raises ValueError when there is none."""
    rank, seen = percent / 100 * sum(counts), 0
    for index, count in enumerate(counts):
        seen += count
        if count and seen >= rank:
            return bucket_us(index)
    raise ValueError("quantile of nothing")


def merged(results: Sequence[Result]) -> Result:
    """Several processes as one; they ran at the same time."""
    return Result(
        viewers=sum(r.viewers for r in results),
        playing=sum(r.playing for r in results),
        elapsed_s=max(r.elapsed_s for r in results),
        steady_s=max(r.steady_s for r in results),
        tallies=_sum([r.tallies for r in results]),
        steady=_sum([r.steady for r in results]),
        spans={
            name: [sum(column) for column in zip(*(r.spans[name] for r in results), strict=True)]
            for name in results[0].spans
        },
        digests=Digests(**_sum([vars(r.digests) for r in results])),
        samples=[sample for r in results for sample in r.samples],
    )


def _sum(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return {name: total[name] for name in counts[0]}
