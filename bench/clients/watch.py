"""What healthy viewers see of something, in turns: a window alone, one beside it, a moment of rest.

A window's figure is the p50 and p99 of all who asked in it; how many turns there are and that their
median counts is the caller's. All is counted at the end: who waited beyond a window is in it with
all that it waited. Over a last mile a request is in the window in which it is at the cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from .bystanders import Bystanders, owed_ms
from .lastmile import LastMile

_SETTLE_S: Final = 0.3

Window = tuple[int, int]  # wall ns
Quantiles = tuple[float, float]  # p50, p99 in ms


@dataclass(frozen=True)
class Watched:
    """Of each turn, alone and beside: what viewers saw. Over a last mile also the server's part of
    it, and what the relay was late by itself."""

    alone_ms: Sequence[Quantiles]
    beside_ms: Sequence[Quantiles]
    server_alone_ms: Sequence[Quantiles] = ()
    server_beside_ms: Sequence[Quantiles] = ()
    late_alone_ms: Sequence[Quantiles] = ()
    late_beside_ms: Sequence[Quantiles] = ()


def _window(act: Callable[[], None]) -> Window:
    began = time.time_ns()
    act()
    return began, time.time_ns()


def _quantiles(found: Iterable[float]) -> Quantiles:
    ranked = sorted(found)
    return ranked[len(ranked) // 2], ranked[len(ranked) * 99 // 100]


def _waited(hits: Sequence[Window], window: Window, period_s: float) -> Quantiles:
    """Of those who asked in the window; `hits` are from asking to the answer's end."""
    took = ((end - start) / 1e6 for start, end in hits if window[0] <= start < window[1])
    return _quantiles(owed_ms(took, period_s))


def watched(
    viewers: Bystanders, beside: Callable[[], None], *, duration_s: float, turns: int,
    behind: LastMile | None = None,
) -> Watched:  # fmt: skip
    """`beside` runs the viewers, too; `behind`: what they are connected through."""
    alone_in, beside_in = [], []
    for _ in range(turns):
        viewers.run(_SETTLE_S)
        alone_in.append(_window(lambda: viewers.run(duration_s)))
        beside_in.append(_window(beside))
    viewers.run(_SETTLE_S)
    seen = [*viewers.seen, *viewers.waits()]
    period_s = viewers.pace.period_s
    if behind is None:
        return Watched(*([_waited(seen, window, period_s) for window in windows]
                         for windows in (alone_in, beside_in)))  # fmt: skip
    here = [(start + behind.delay_ns, end + behind.delay_ns) for start, end in seen]
    hits = behind.hits()
    there = [(hit.asked_ns, hit.answered_ns) for hit in hits]
    return Watched(
        *([_waited(which, window, period_s) for window in windows]
          for which in (here, there) for windows in (alone_in, beside_in)),
        *([_quantiles(hit.late_ns / 1e6 for hit in hits if window[0] <= hit.asked_ns < window[1])
           for window in windows] for windows in (alone_in, beside_in)),
    )  # fmt: skip
