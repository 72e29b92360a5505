"""What the kernel charged: CPU, memory and network counters of a server, read from /proc.

CPU is `schedstat` (nanoseconds) over every thread of every process of the server; `utime` ticks are
too coarse. It misses two things, so they stand beside it. Softirq work that runs while the core is
idle (timers of paced sockets, for one) is charged to nobody: `core_busy_s` is all the time the core
was not idle. A tickless kernel keeps idle time exactly (busy ticks are only sampled: 0.56 s read
where 0.65 were spent, 0.69 by idle time), shown to 10 ms; it means something only on an otherwise
quiet machine. A thread that ended between two snapshots took its time with it: counted as lost.

Counters come from /proc/<pid>/net, which shows the network namespace of that process.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .process import tree

TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
Thread = tuple[int, int]  # (pid, tid)


@dataclass(frozen=True)
class Memory:
    """Bytes of a process family. `pss` shares shared pages out, `private` is only its own,
    `anonymous` has no file behind it."""

    rss: int
    pss: int
    private: int
    anonymous: int


@dataclass(frozen=True)
class Snapshot:
    cpu_ns: Mapping[Thread, int]
    net: Mapping[str, int]
    at_s: float  # monotonic
    unused_s: Mapping[int, float]  # idle, waiting for a device, or taken by the hypervisor


@dataclass(frozen=True)
class Spent:
    """Between two snapshots. `core_busy_s` is the sum over the server's cores."""

    cpu_s: float
    lost_threads: int
    core_busy_s: float
    net: Mapping[str, int]


def _thread_times(pids: Iterable[int]) -> dict[Thread, int]:
    times: dict[Thread, int] = {}
    for pid in pids:
        for stat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):  # it may have ended since it was listed
                times[pid, int(stat.parent.name)] = int(stat.read_text().split()[0])
    return times


def parse_counters(text: str) -> dict[str, int]:
    """`Tcp: name name…` / `Tcp: 1 2…` line pairs of /proc/net/snmp and netstat -> {TcpName: 1}."""
    rows = [line.split() for line in text.splitlines()]
    return {
        names[0].rstrip(":") + name: int(value)
        for names, values in zip(rows[::2], rows[1::2], strict=True)
        for name, value in zip(names[1:], values[1:], strict=True)
    }


def net_counters(pid: int) -> dict[str, int]:
    counters: dict[str, int] = {}
    for name in ("snmp", "netstat"):
        counters |= parse_counters(Path(f"/proc/{pid}/net/{name}").read_text())
    return counters


def parse_cores(text: str) -> dict[int, float]:
    """/proc/stat -> seconds each core did not work for anybody here: idle, iowait, steal."""
    unused = {}
    for line in text.splitlines():
        name, *fields = line.split()
        if name[:3] == "cpu" and name[3:].isdigit():
            unused[int(name[3:])] = (int(fields[3]) + int(fields[4]) + int(fields[7])) * TICK_S
    return unused


def snapshot(pid: int) -> Snapshot:
    """State now of the server whose first process is `pid`."""
    unused = parse_cores(Path("/proc/stat").read_text())
    return Snapshot(_thread_times(tree(pid)), net_counters(pid), time.monotonic(), unused)


def spent(before: Snapshot, after: Snapshot, cpus: Iterable[int]) -> Spent:
    gone = before.cpu_ns.keys() - after.cpu_ns.keys()
    cpu_ns = sum(ns - before.cpu_ns.get(thread, 0) for thread, ns in after.cpu_ns.items())
    elapsed_s = after.at_s - before.at_s
    return Spent(
        cpu_s=cpu_ns / 1e9,
        lost_threads=len(gone),
        core_busy_s=sum(max(0.0, elapsed_s - after.unused_s[c] + before.unused_s[c]) for c in cpus),
        net={name: value - before.net.get(name, 0) for name, value in after.net.items()},
    )


def parse_rollup(text: str) -> Memory:
    """/proc/<pid>/smaps_rollup -> Memory."""
    kib = {
        fields[0].rstrip(":"): int(fields[1])
        for line in text.splitlines()
        if len(fields := line.split()) == 3 and fields[2] == "kB"
    }
    private = kib.get("Private_Clean", 0) + kib.get("Private_Dirty", 0)
    return Memory(
        kib.get("Rss", 0) * 1024,
        kib.get("Pss", 0) * 1024,
        private * 1024,
        kib.get("Anonymous", 0) * 1024,
    )


def memory(pid: int) -> Memory:
    parts = []
    for member in tree(pid):
        try:
            parts.append(parse_rollup(Path(f"/proc/{member}/smaps_rollup").read_text()))
        except OSError:
            continue
    return Memory(
        sum(p.rss for p in parts),
        sum(p.pss for p in parts),
        sum(p.private for p in parts),
        sum(p.anonymous for p in parts),
    )
