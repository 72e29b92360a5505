"""Steady state, and its peak while all join: rates, bytes, cores, hosts, the origin's load."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from .inputs import HOLD_PARTS, HOLD_SEGMENTS, Audience, Costs, Stream, World

HEAD_BYTES: Final = 330  # of an answer's fields, and of TCP and IP for a small one


@dataclass(frozen=True)
class Viewer:
    """One viewer: per second while playing, and once at joining. CPU in µs, on the server."""

    requests_s: float
    playlists_s: float
    bytes_s: float
    cpu_s: float
    join_requests: float
    join_bytes: float
    join_cpu: float


@dataclass(frozen=True)
class Need:
    """`peak_*`: at the end of the ramp, when all play and the last ones still join."""

    requests_s: float
    peak_requests_s: float
    bits_s: float
    cores: float
    peak_cores: float
    hosts: int
    bound_by: str
    viewers_core: float
    push_bps: float
    shield_bps: float
    origin_share: float


def backlog_units(stream: Stream) -> tuple[float, ...]:
    """Units that a viewer of each track fetches before it plays, on average over the instants at
    which it may join: from the newest independent one at the hold back to the edge. Video parts are
    independent where a segment begins, audio parts always. The hold back is three part targets, and
    a target is a hair longer than a part (whole AAC frames), so it takes a fourth part to cover."""
    if not stream.low_latency:
        return (float(HOLD_SEGMENTS),) * stream.tracks
    held = HOLD_PARTS + 1
    video = (stream.parts - 1) / 2 + min(held, stream.parts)
    return (video, float(held))[: stream.tracks]


def viewer(stream: Stream, audience: Audience, costs: Costs) -> Viewer:
    reload_bytes = stream.playlist_bytes() * audience.gzip
    reload_cpu = costs.reload() if stream.low_latency else costs.of(reload_bytes)
    units = stream.unit_bytes()
    backlog = backlog_units(stream)
    loads = 1 + 2 * stream.tracks  # multivariant; a playlist and an initialisation section each
    return Viewer(
        requests_s=2 * stream.tracks / stream.unit_s,
        playlists_s=stream.tracks / stream.unit_s,
        bytes_s=sum(size + reload_bytes + 2 * HEAD_BYTES for size in units) / stream.unit_s,
        cpu_s=sum(costs.of(size) + reload_cpu for size in units) / stream.unit_s,
        join_requests=loads + sum(backlog),
        join_bytes=loads * (reload_bytes + HEAD_BYTES)
        + sum(n * (size + HEAD_BYTES) for n, size in zip(backlog, units, strict=True)),
        join_cpu=loads * costs.of(reload_bytes)
        + sum(n * costs.of(size) for n, size in zip(backlog, units, strict=True))
        + audience.connections * costs.connect_us * costs.factor,
    )


def need(world: World) -> Need:
    one = viewer(world.stream, world.audience, world.costs)
    audience, host, wires = world.audience, world.host, world.wires
    joins_s = audience.viewers / audience.ramp_s if audience.ramp_s else math.inf
    # nobody joins faster than one batch a second: the rest waits in the accept queues
    joins_s = min(joins_s, audience.viewers)
    cores = audience.viewers * one.cpu_s / 1e6
    peak = cores + joins_s * one.join_cpu / 1e6
    hosts, bound = _hosts(world, one, joins_s)
    children = wires.shields or audience.pops
    pushed = world.stream.pushed_bps() * children
    return Need(
        requests_s=audience.viewers * one.requests_s,
        peak_requests_s=audience.viewers * one.requests_s + joins_s * one.join_requests,
        bits_s=8 * audience.viewers * one.bytes_s,
        cores=cores,
        peak_cores=peak,
        hosts=hosts,
        bound_by=bound,
        viewers_core=host.busy * 1e6 / one.cpu_s,
        push_bps=pushed,
        shield_bps=world.stream.pushed_bps() * audience.pops / wires.shields
        if wires.shields
        else 0.0,
        origin_share=pushed / wires.origin_bps,
    )


def _hosts(world: World, one: Viewer, joins_s: float) -> tuple[int, str]:
    """Over all POPs, each rounded up for itself; and what decides in the largest one."""
    host, audience, total, bound = world.host, world.audience, 0, ""
    for number, share in enumerate(audience.shares()):
        joining = joins_s * share / audience.viewers
        cpu_s = (share * one.cpu_s + joining * one.join_cpu) / 1e6
        bits_s = 8 * (share * one.bytes_s + joining * one.join_bytes)
        wants = {
            "cores": cpu_s / (host.cores * host.busy),
            "network": bits_s / (host.nic_bps * host.filled),
            "connections": share * audience.connections / host.connections,
        }
        total += math.ceil(max(wants.values())) + host.spare
        if number == 0:
            bound = max(wants, key=lambda name: wants[name])
    return total, bound
