"""Hits while thousands are woken: `python -m bench.experiments.flat [VIEWERS [RELEASES]]`.

A prober in a process of its own asks for a hit of 1 KiB every millisecond; meanwhile playlists are
published that all the viewers are parked on. A hit's time is the kernel's stamp of its arrival less
the time it was sent, so that neither client's reading is taken for the server's.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import select
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Final

from ..bodies import Blob
from ..clients.crowd import Crowd, Viewer, request
from ..clients.pushdoor import Door, playlist, version_fields
from ..kinds.publish import FanoutParams, equip
from ..load import percentiles
from ..peers.peer import Running, Site, running
from ..peers.table import build_floor, peers
from ..stage import Stage, stage, warm

SIZE: Final = 1024
HIT: Final = Blob(f"/blob/{SIZE}/0.m3u8", SIZE)
PLAYLIST: Final = "/live/bench/v.m3u8"
MSN: Final = 100
PARTS: Final = 4
SETTLE_S: Final = 1.0
PATIENCE_S: Final = 20.0


def probe(address: tuple[str, int], orders: Connection) -> None:
    """(sent ns, ms) of every hit until told to stop."""
    found: list[tuple[int, float]] = []
    viewer, ask, buffer = (
        Viewer(address, lambda _: None),
        request(address, HIT.path),
        bytearray(4096),
    )
    while not orders.poll(0.001):
        sent_ns = time.time_ns()
        viewer.ask(ask)
        while viewer.body_bytes < SIZE:
            select.select([viewer.socket], [], [], PATIENCE_S)
            viewer.read(buffer)
        found.append((sent_ns, (viewer.arrivals[-1][0] - sent_ns) / 1e6))
    orders.send(found)


def publish(door: Door, number: int) -> int:
    """Wall ns just before the version that lists `number` parts since MSN left."""
    msn, listed = MSN + number // PARTS, number % PARTS
    fields = version_fields(msn, listed, PARTS, SIZE)
    sent_ns = door.send(door.message(PLAYLIST, playlist(SIZE, number), fields))
    door.status()
    return sent_ns


def releases(crowd: Crowd, door: Door, number: int) -> Iterator[tuple[int, int]]:
    """(first, last ns) of each time that everybody was woken."""
    publish(door, 0)
    for each in range(number):
        msn, part = MSN + each // PARTS, each % PARTS
        crowd.ask(request(crowd.address, f"{PLAYLIST}?_HLS_msn={msn}&_HLS_part={part}"))
        crowd.read_for(SETTLE_S)
        if len(crowd.waiting) < len(crowd.viewers):
            raise SystemExit("not everybody was parked")
        began_ns = publish(door, each + 1)
        crowd.read_for(PATIENCE_S)
        yield began_ns, max(viewer.arrivals[-1][0] for viewer in crowd.answered())


@contextmanager
def served(here: Stage, viewers: int) -> Iterator[Running]:
    peer = equip(peers(build_floor(here.scratch))["edgecache"],
                 FanoutParams(viewers=viewers, size=SIZE), here)  # fmt: skip
    site = Site(here.network, here.scratch / "site", here.docroot, here.origin_port, [HIT])
    with running(peer, site) as server:
        warm(here, server, [HIT])
        yield server


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def report(name: str, times_ms: Sequence[float]) -> None:
    p50, p99, top = percentiles(times_ms, (50, 99, 100))
    say(f"{name}: {len(times_ms)} hits, p50 {p50:.2f}, p99 {p99:.2f}, max {top:.2f} ms")


def main(viewers: int, number: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with stage() as here, served(here, viewers) as server, here.network.client_side():
        os.sched_setaffinity(0, here.network.client_cpus)
        address = (server.address, server.port)
        secret = next(word for word in server.peer.argv if word.startswith("keys.")).partition("=")
        door = Door((server.address, int(server.values["door"])), secret[2])
        ours, theirs = multiprocessing.Pipe()
        prober = multiprocessing.get_context("fork").Process(target=probe, args=(address, theirs))
        prober.start()
        woken = list(releases(Crowd(address, viewers), door, number))
        ours.send(None)
        hits: list[tuple[int, float]] = ours.recv()
        prober.join()
    inside = [ms for at, ms in hits if any(a <= at <= b for a, b in woken)]
    quiet = [ms for at, ms in hits if not any(a <= at <= b + 1_000_000_000 for a, b in woken)]
    spans = percentiles([(b - a) / 1e6 for a, b in woken], (50, 100))
    say(f"{number} times {viewers} woken: last byte p50 {spans[0]:.0f}, max {spans[1]:.0f} ms")
    report("while they park or wait", quiet)
    report("while they are woken", inside)


if __name__ == "__main__":
    main(*(int(word) for word in [*sys.argv[1:], *("10000", "10")[len(sys.argv) - 1 :]]))
