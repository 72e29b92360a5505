"""What the model is told, with defaults that say where they come from. `assumptions` lists it all.

Units: seconds, bytes, bits a second where the name says so, CPU in microseconds of one core.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ..errors import BenchError

KIB: Final = 1024
HOLD_PARTS: Final = 3  # PART-HOLD-BACK in parts
HOLD_SEGMENTS: Final = 3  # HOLD-BACK in target durations


@dataclass(frozen=True, kw_only=True)
class Stream:
    """`part_s` 0: classic HLS, whole segments and polled playlists. `ladder_bps`: every rendition
    that is pushed; viewers play `video_bps` on average. `audio_bps` 0: in the video's segments."""

    part_s: float = 1 / 4
    segment_s: float = 2.0
    window_s: float = 30.0
    video_bps: float = 3e6
    audio_bps: float = 128e3
    ladder_bps: tuple[float, ...] = (6e6, 3e6, 1.5e6, 0.8e6)
    encode_s: float = 0.3

    @property
    def low_latency(self) -> bool:
        return self.part_s > 0

    @property
    def unit_s(self) -> float:
        return self.part_s or self.segment_s

    @property
    def tracks(self) -> int:
        return 2 if self.audio_bps else 1

    @property
    def parts(self) -> int:
        """Of a segment."""
        return round(self.segment_s / self.part_s) if self.part_s else 1

    def unit_bytes(self) -> tuple[float, ...]:
        """Of each track a viewer plays."""
        rates = (self.video_bps, self.audio_bps)[: self.tracks]
        return tuple(rate / 8 * self.unit_s for rate in rates)

    def pushed_bps(self) -> float:
        """To one POP: everything, whether somebody plays it or not."""
        return sum(self.ladder_bps) + self.audio_bps

    def playlist_bytes(self) -> float:
        """Of a whole media playlist on average, as our origin writes it (counted on the demo: 515
        for its head and end, 95 a segment, 73 a part, parts listed of what began within three
        target durations of the edge)."""
        parts = 2 * self.parts + (self.parts + 1) / 2 if self.low_latency else 0
        return 515 + 95 * self.window_s / self.segment_s + 73 * parts


@dataclass(frozen=True, kw_only=True)
class Audience:
    """`skew`: exponent of Zipf's law over the POPs' shares; 0: all the same size."""

    viewers: int = 1_000_000
    pops: int = 50
    ramp_s: float = 60.0
    skew: float = 0.7
    connections: int = 2
    rtt_s: float = 0.020  # median, to the POP
    rtt_spread: float = 0.6  # sigma of its logarithm
    bandwidth_bps: float = 20e6  # of a viewer's access
    gzip: float = 0.25  # size of a playlist as it travels

    def shares(self) -> tuple[float, ...]:
        """Viewers of each POP, the largest first."""
        weights = [(rank + 1) ** -self.skew for rank in range(self.pops)]
        return tuple(self.viewers * weight / sum(weights) for weight in weights)


@dataclass(frozen=True, kw_only=True)
class Costs:
    """CPU of the server. `hit`: (body bytes, µs), ascending. `factor` covers what a veth pair does
    not charge: network card, interrupts, acknowledgements over real distances."""

    hit: tuple[tuple[float, float], ...] = ((KIB, 4.4), (64 * KIB, 10.8), (768 * KIB, 77.5))
    wake_us: float = 4.4
    park_us: float = 2.5
    connect_us: float = 30.0
    factor: float = 1.5
    source: str = "the targets of the project (nothing was measured)"

    def of(self, size: float) -> float:
        """One hit, by straight lines between the sizes that were measured; beyond the last one by
        the last line, below the first one as the first one."""
        sizes = [point[0] for point in self.hit]
        if size <= sizes[0] or len(sizes) == 1:
            return self.hit[0][1] * self.factor
        index = min(bisect_left(sizes, size), len(sizes) - 1)
        (x0, y0), (x1, y1) = self.hit[index - 1], self.hit[index]
        return (y0 + (y1 - y0) * (size - x0) / (x1 - x0)) * self.factor

    def reload(self) -> float:
        """A blocking reload: taken, parked, and answered."""
        return (self.park_us + self.wake_us) * self.factor


@dataclass(frozen=True, kw_only=True)
class Host:
    cores: int = 16
    nic_bps: float = 25e9
    busy: float = 0.6  # of the cores, at the peak
    filled: float = 0.7  # of the network card
    connections: int = 500_000
    spare: int = 1  # per POP, beyond what the load needs


@dataclass(frozen=True, kw_only=True)
class Wires:
    """Between origin and POPs. `shields` 0: the origin pushes to every POP itself."""

    origin_bps: float = 10e9
    push_bps: float = 400e6  # of one connection over that distance
    rtt_s: float = 0.080  # median, origin to POP
    rtt_spread: float = 0.5
    shields: int = 0
    hot: bool = True  # pushed before anybody asks; else from a POP's first miss on


@dataclass(frozen=True, kw_only=True)
class World:
    stream: Stream = field(default_factory=Stream)
    audience: Audience = field(default_factory=Audience)
    costs: Costs = field(default_factory=Costs)
    host: Host = field(default_factory=Host)
    wires: Wires = field(default_factory=Wires)

    def with_(self, **changes: Any) -> World:
        """A world that differs in some fields, whichever part they belong to; where two have one of
        that name, the first (stream, audience, costs, host, wires)."""
        parts: dict[str, Any] = {}
        for name, value in changes.items():
            owner = next((key for key, part in vars(self).items() if hasattr(part, name)), None)
            if owner is None:
                raise TypeError(f"no part of a world has a field {name!r}")
            parts[owner] = replace(parts.get(owner, getattr(self, owner)), **{name: value})
        return replace(self, **parts)


def assumptions(world: World) -> Iterator[tuple[str, str]]:
    """(what, its value in words) for everything the prediction rests on."""
    s, a, c, h, w = world.stream, world.audience, world.costs, world.host, world.wires
    mode = f"parts of {s.part_s * 1e3:.0f} ms" if s.low_latency else "whole segments, polled"
    ladder = ", ".join(f"{rate / 1e6:g}" for rate in s.ladder_bps)
    yield "stream", f"segments of {s.segment_s:g} s, {mode}, window {s.window_s:g} s"
    yield (
        "bit rates",
        f"video {s.video_bps / 1e6:g} Mb/s as played, audio {s.audio_bps / 1e3:g} kb/s"
        f"{' apart' if s.audio_bps else ' inside'}; pushed ladder {ladder} Mb/s",
    )
    yield (
        "audience",
        f"{a.viewers:,} viewers on {a.pops} POPs (Zipf {a.skew:g}), joining evenly over "
        f"{a.ramp_s:g} s, {a.connections} connections each",
    )
    yield (
        "viewers' network",
        f"round trip {a.rtt_s * 1e3:g} ms (log-normal, sigma {a.rtt_spread:g}), "
        f"{a.bandwidth_bps / 1e6:g} Mb/s, playlists compressed to {a.gzip:.0%}",
    )
    hits = ", ".join(f"{size / KIB:g} KiB {us:.1f}" for size, us in c.hit)
    yield "CPU of a hit, µs", f"{hits}; source: {c.source}"
    yield (
        "CPU of the rest, µs",
        f"parking a reload {c.park_us:.1f}, waking it {c.wake_us:.1f}, a connection "
        f"{c.connect_us:.1f}; all times {c.factor:g} for the network card; no TLS",
    )
    yield (
        "host",
        f"{h.cores} cores to {h.busy:.0%}, {h.nic_bps / 1e9:g} Gb/s to {h.filled:.0%}, "
        f"{h.connections:,} connections; {h.spare} spare host(s) a POP",
    )
    tree = f"through {w.shields} shields" if w.shields else "straight to every POP"
    yield (
        "origin",
        f"{w.origin_bps / 1e9:g} Gb/s out, {tree}, {w.push_bps / 1e6:g} Mb/s a connection, "
        f"round trip {w.rtt_s * 1e3:g} ms; {'pushed ahead' if w.hot else 'pulled at first'}",
    )


def costs_of(results: Path, server: str = "edgecache") -> Costs:
    """From a results.json of the bench: hits by size, the wake of a parked reload, a connection.
    What it does not have stays at its default. Raises BenchError when it has no hit at all."""
    try:
        data = json.loads(results.read_text())
    except (OSError, ValueError) as error:
        raise BenchError(f"{results}: {error}") from None
    hits: dict[float, float] = {}
    found: dict[str, float] = {}
    for scenario, case, figures in _cells(data, server):
        cpu = figures.get("cpu_us", {}).get("median")
        objects = case["params"].get("objects", [])
        if cpu is None:
            continue
        if scenario in ("hit_playlist", "hit_part", "hit_segment") and len(objects) == 1:
            hits[float(objects[0]["size"])] = cpu
        elif scenario == "churn":
            found["churn"] = cpu
        elif scenario == "reload_fanout":
            found["wake_us"] = cpu
    if not hits:
        raise BenchError(f"{results}: no hit_* scenario with a sound sample of {server}")
    date, commit = data["facts"].get("date", "?")[:10], data["facts"].get("commit", "?")
    small = hits[min(hits)]
    known = {"wake_us": found["wake_us"]} if "wake_us" in found else {}
    if "churn" in found:
        known["connect_us"] = max(0.0, found["churn"] - small)
    return replace(
        Costs(), hit=tuple(sorted(hits.items())), park_us=0.57 * small, **known,
        source=f"{results.name} of {date}, commit {commit}",
    )  # fmt: skip


def _cells(
    data: Mapping[str, Any], server: str
) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    for scenario in data.get("scenarios", ()):
        for case in scenario["cases"]:
            row = case["servers"].get(server)
            if row:
                yield scenario["name"], case, row["spread"]
