"""`python -m bench.soak`: a broadcast for a long time, and whether anything grows.

python -m bench.soak --minutes 30            plays, samples, prints a table
python -m bench.soak --minutes 30 --record   also writes bench/SOAK.md and bench/soak.svg

Runs the demo with segments of a second, a real publisher through POP A, a crowd that stays at each
POP (low latency at one, and classic beside it at the other) and visitors who come and go. What
/proc says of each process is sampled: memory, descriptors, threads, children. The first fifth is
warming up. Laws: small pictures, so that it is the time that counts and not the load; everything
that was started is ended. Exit status: 0 flat and nobody lost anything, 1 not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from origin import ffmpeg, testpattern

from . import plot, trend
from .demo import demo
from .facts import taken
from .ledger import LAWS, ORIGIN_LAWS, broken, read
from .process import tree
from .swarm.build import build

HERE: Final = Path(__file__).parent
OPTIONS: Final = {
    "LIVE__SEGMENT": "1s",
    "LIVE__PARTS": "4",
    "LIVE__DVR": "60s",
    "LADDER": "{180p={width=320,height=180,bitrate='200kbps'},"
    "90p={width=160,height=90,bitrate='80kbps'}}",
}
PATTERN: Final = testpattern.Pattern(width=320, height=180, bitrate=300_000)
STAYING: Final = (  # at which POP, how many, and how
    (0, 40, ()),
    (1, 20, ("--rendition", "spread")),
    (1, 20, ("--mode", "classic", "--rendition", "spread")),
)
POPS: Final = ("pop-a", "pop-b")
VISITORS: Final = 20
VISIT_S: Final = 20
PLAYING_S: Final = 30.0
SETTLED: Final = 0.2  # of the time
EVERY_S: Final = 5.0
LEDGER_S: Final = 15.0
_MIB: Final = 1 << 20
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")

Samples = dict[str, dict[str, list[tuple[float, float]]]]


@dataclass
class Crowds:
    """What the swarms said, and how many did not play soundly."""

    asked: int = 0
    viewers: int = 0
    stalls: int = 0
    unsound: list[str] = field(default_factory=list)

    def add(self, said: Mapping[str, Any]) -> None:
        self.asked += said["tallies"]["asked"]
        self.viewers += said["viewers"]
        self.stalls += said["stalls"]
        if not said["sound"]:
            what = ("started", "playing", "stalls", "errors", "error_samples")
            self.unsound.append(str({name: said[name] for name in what}))


@dataclass(frozen=True)
class Soak:
    minutes: float
    samples: Samples
    crowds: Crowds
    unbalanced: dict[str, Any]

    @property
    def verdicts(self) -> list[trend.Verdict]:
        return trend.judged(self.samples, 60 * self.minutes * SETTLED)

    @property
    def good(self) -> bool:
        flat = all(verdict.flat for verdict in self.verdicts)
        return flat and not self.crowds.unsound and not self.unbalanced


def swarm(url: str, viewers: int, seconds: float, *how: str) -> dict[str, Any]:
    """What `python -m bench.swarm --json` says of a crowd."""
    command = [sys.executable, "-m", "bench.swarm", url, "--json", "--viewers", str(viewers)]
    command += ["--seconds", f"{seconds:.0f}", "--ramp", "5", *how]
    run = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + 120, check=False
    )
    if run.returncode not in (0, 1):
        raise SystemExit(f"a swarm failed: {run.stderr.strip()}")
    said: dict[str, Any] = json.loads(run.stdout)
    return said


@contextlib.contextmanager
def publishing(url: str) -> Iterator[int]:
    """A real publisher for as long as this lasts; its process id."""
    process = subprocess.Popen(testpattern.argv(ffmpeg.find(), url, PATTERN))
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def until_plays(urls: Sequence[str]) -> None:
    deadline = time.monotonic() + PLAYING_S
    for url in urls:
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
                break
            if time.monotonic() > deadline:
                raise SystemExit(f"{url} does not play after {PLAYING_S:g} s")
            time.sleep(0.1)


def sampled(pid: int) -> dict[str, float]:
    """rss (MiB), fds and threads of one process. Raises OSError when it has gone."""
    at = Path(f"/proc/{pid}")
    pages = int((at / "statm").read_text().split()[1])
    return {
        "rss": pages * _PAGE / _MIB,
        "fds": len(os.listdir(at / "fd")),
        "threads": len(os.listdir(at / "task")),
    }


def viewers_of(metrics: str) -> float:
    """Connections that viewers hold at a POP."""
    with urllib.request.urlopen(metrics, timeout=5) as answer:
        return read(answer.read().decode())["connections_now"]


def look(samples: Samples, roles: Mapping[str, int], facts: Mapping[str, Any], at_s: float) -> None:
    """One sample of everything; the encoders are what the origin has below it, and of a POP's
    descriptors those count that are not its viewers'."""
    held = {pop: viewers_of(page) for pop, page in zip(POPS, facts["metrics"], strict=False)}
    encoders = tree(roles["origin"])[1:]
    named = {**roles, **{f"encoder {n}" if n else "encoder": p for n, p in enumerate(encoders)}}
    for role, pid in named.items():
        with contextlib.suppress(OSError):
            for kind, value in sampled(pid).items():
                value -= held.get(role, 0.0) if kind == "fds" else 0.0
                samples[role][kind].append((at_s, value))
    samples["all"]["processes"].append((at_s, len(tree(facts["pids"]["demo"]))))


def watch(facts: Mapping[str, Any], publisher: int, seconds: float) -> tuple[Samples, Crowds]:
    """Play and sample for so long."""
    samples: Samples = defaultdict(lambda: defaultdict(list))
    roles = {name: pid for name, pid in facts["pids"].items() if name != "demo"}
    roles["publisher"] = publisher
    urls: list[str] = facts["own"]["playlists"]
    crowds, over = Crowds(), threading.Event()
    began = time.monotonic()

    def visits() -> None:
        for turn in range(int(seconds)):
            if over.is_set() or time.monotonic() - began > seconds - VISIT_S - 10:
                return
            crowds.add(swarm(urls[turn % len(urls)], VISITORS, VISIT_S))

    with ThreadPoolExecutor(len(STAYING) + 1) as pool:
        staying: list[Future[dict[str, Any]]] = [
            pool.submit(swarm, urls[pop], viewers, seconds - 10, *how)
            for pop, viewers, how in STAYING
        ]
        visiting = pool.submit(visits)
        try:
            while (at_s := time.monotonic() - began) < seconds:
                look(samples, roles, facts, at_s)
                time.sleep(EVERY_S)
        finally:
            over.set()
        for each in staying:
            crowds.add(each.result())
        visiting.result()
    return samples, crowds


def unbalanced(metrics: Sequence[str]) -> dict[str, Any]:
    """Ledgers that do not close, by page."""
    found = {}
    for url, laws in zip(metrics, (LAWS, LAWS, ORIGIN_LAWS), strict=True):
        deadline = time.monotonic() + LEDGER_S
        while True:
            with urllib.request.urlopen(url, timeout=5) as answer:
                off = broken(read(answer.read().decode()), laws)
            if not off or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        if off:
            found[url] = off
    return found


def soak(minutes: float) -> Soak:
    """Run it all."""
    build()
    with demo(OPTIONS, ("--no-publish",)) as facts, publishing(facts["publish"]) as publisher:
        until_plays(facts["own"]["playlists"])
        samples, crowds = watch(facts, publisher, 60 * minutes)
        return Soak(minutes, samples, crowds, unbalanced(facts["metrics"]))


def page(found: Soak) -> str:
    """bench/SOAK.md."""
    crowds = found.crowds
    staying = sum(viewers for _, viewers, _ in STAYING)
    grows = [f"{v.kind} of {v.process}" for v in found.verdicts if not v.flat]
    return "\n".join((
        "# Soak",
        "",
        f"What one run of `python -m bench.soak --minutes {found.minutes:g} --record` saw:",
        f"{taken()}. The demo with",
        f"segments of a second, ffmpeg as publisher, {staying} viewers who stay (60 of low-latency "
        f"and 20 of classic HLS, over both POPs) and {VISITORS} more who come for {VISIT_S} s and",
        "go, again and again. A sample every 5 s; the first fifth is warming up and is not judged."
        " *Grown* is the slope (Theil and Sen) times the time watched. Of a POP's descriptors",
        "those count that are not its viewers' connections.",
        "",
        *trend.table(found.verdicts),
        "",
        f"Verdict: {'; '.join(grows) + ' grows' if grows else 'everything is flat'}. "
        f"{crowds.viewers} viewers joined and asked {crowds.asked:,} times: {crowds.stalls} stalls,"
        f" {len(crowds.unsound)} crowds with an error or a stall. Ledgers: "
        f"{found.unbalanced or 'all close'}.",
        "",
        *(f"* {each}" for each in crowds.unsound),
        "![Memory and descriptors over time](soak.svg)",
        "",
    ))  # fmt: skip


def drawn(found: Soak) -> str:
    """Memory, then descriptors, of each process over the whole time."""
    panels = []
    for kind, title in (("rss", "memory, MiB"), ("fds", "descriptors")):
        series = {
            role: [(at_s / 60, value) for at_s, value in kinds[kind]]
            for role, kinds in found.samples.items()
            if kinds.get(kind)
        }
        panels.append(plot.over_time(series, f"{title}, by minutes"))
    return plot.alone(plot.stacked(panels, "Soak: memory and descriptors"))


def main() -> int:
    """Play, print, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--record", action="store_true", help="write bench/SOAK.md and its plot")
    given = parser.parse_args()
    found = soak(given.minutes)
    text = page(found)
    sys.stdout.write(text)
    if given.record:
        (HERE / "SOAK.md").write_text(text)
        (HERE / "soak.svg").write_text(drawn(found) + "\n")
    return 0 if found.good else 1


if __name__ == "__main__":
    sys.exit(main())
