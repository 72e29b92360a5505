"""The cases: what is done, what is expected, what came of it. Each runs on any server.

A case is a function of a Trial; its docstring says what happens, `expected` what must come of it.
It returns what was seen, a sentence with its figures, and whether that is what was expected.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from ..clients.bystanders import AT_HOME, Bystanders
from ..clients.exhaustion import Felt
from ..clients.lastmile import lastmile
from ..clients.watch import Watched, watched
from ..sample import Spread, spread
from ..stage import client
from .crowd import Outcome, ask
from .origin import Origin, body_of
from .requests import HOSTILE, MARK, accepted
from .servers import Server
from .steady import LOAD, idle_bytes, standing_still, steadily
from .synflood import flooded


@dataclass(frozen=True)
class Trial:
    """One server in front of one origin."""

    server: Server
    origin: Origin
    viewers: int

    def ask(self, path: str, *more: bytes) -> Outcome:
        return ask(*self.server.address, path, self.viewers, body_of(path), *more)


@dataclass(frozen=True)
class Seen:
    """`own`: of a figure that viewers see, what of it is the server's; told, and not judged."""

    told: str
    good: bool
    own: str = ""


@dataclass(frozen=True)
class Case:
    name: str  # of the battery
    promise: str
    what: str
    expected: str
    run: Callable[[Trial], Seen | None]  # None: does not apply


_OTHER_IP: Final = "127.0.0.2"  # of who does harm
_SHORT: Final = "/short/2"  # what healthy viewers ask for: it fits in any window
_RATE: Final = 4000  # connections a second of who stands
_TURN_S: Final = 0.25
_TURNS: Final = 7
_LIMIT_S: Final = 60.0
_RISE: Final = 0.10  # that healthy viewers may see in their p99
_UNMOVED: Final = "healthy viewers' p99 within 10 %"

CASES: Final[list[Case]] = []


def case(
    name: str, promise: str, expected: str
) -> Callable[[Callable[[Trial], Seen | None]], None]:
    def add(run: Callable[[Trial], Seen | None]) -> None:
        what = " ".join((run.__doc__ or "").split()).rstrip(".")
        CASES.append(Case(name, promise, what, expected, run))

    return add


# ---------------------------------------------------------------- the front door


@case("A1", "R1", "all refused, connection closed, nothing reaches the origin")
def _hostile(trial: Trial) -> Seen:
    """Malformed and ambiguous requests, each on a connection of its own."""
    taken = [name for name, data in HOSTILE.items() if accepted(trial.server.address, data)]
    leaked = sum(MARK in head for head in trial.origin.heads)
    told = f"{len(HOSTILE) - len(taken)} of {len(HOSTILE)} refused, {leaked} reached the origin"
    return Seen(told + (f" ({', '.join(taken)})" if taken else ""), not taken and not leaked)


@case("C1", "R1", "no field of a viewer reaches the origin, one request to it")
def _unkeyed(trial: Trial) -> Seen:
    """Fields that move caches to another answer, on a cold object."""
    fields = (
        b"X-Forwarded-Host",
        b"X-Original-URL",
        b"X-HTTP-Method-Override",
        b"Cookie",
        b"Origin",
    )
    lines = b"".join(name + b": " + MARK + b"\r\n" for name in fields)
    before = len(trial.origin.heads)
    accepted(trial.server.address, b"GET /plain/c1?x=1 HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n")
    heads = trial.origin.heads[before:]
    leaked = sum(MARK in head for head in heads)
    return Seen(f"{leaked} of {len(heads)} requests carried them", len(heads) == 1 and not leaked)


# ---------------------------------------------------------------- the origin


def _all_whole(trial: Trial, kind: str, requests: int = 2) -> Seen:
    path = f"/{kind}/1"
    got = trial.ask(path)
    asked = trial.origin.asked[path]
    good = got.counts["whole"] == trial.viewers and asked <= requests
    return Seen(f"{got}; {asked} origin requests; {got.took_s:.1f} s", good)


@case("D0", "R3", "all whole from one request")
def _slow(trial: Trial) -> Seen:
    """A healthy origin that takes half a second for the body."""
    got = trial.ask("/slow/1")
    began = trial.origin.first_byte_s["/slow/1"]
    lag_ms = 1000 * (statistics.median(got.first_byte_s) - began) if got.first_byte_s else 0.0
    asked = trial.origin.asked["/slow/1"]
    good = got.counts["whole"] == trial.viewers and asked == 1
    return Seen(f"{got}; {asked} origin requests; first byte {lag_ms:.0f} ms behind", good)


@case("D3", "R2", "all whole, at most two requests")
def _fin(trial: Trial) -> Seen:
    """The origin closes in the middle of the body; asked again, it has all of it."""
    return _all_whole(trial, "fin")


@case("D4", "R2", "all whole, at most two requests")
def _rst(trial: Trial) -> Seen:
    """The same with a reset."""
    return _all_whole(trial, "rst")


@case("D5a", "R2", "all whole, or all cut so that they can tell; never stored")
def _chunked(trial: Trial) -> Seen:
    """A chunked body without its last chunk; asked again, it has all of it."""
    got = trial.ask("/chunked/1")
    again = trial.ask("/chunked/1")
    good = not got.count("wrong", "hung") and again.counts["whole"] == trial.viewers
    return Seen(f"{got}; then {again}; {trial.origin.asked['/chunked/1']} origin requests", good)


@case("D5b", "R2", "the length counts; that connection is not used again")
def _extra(trial: Trial) -> Seen:
    """300 bytes more than the length says."""
    return _all_whole(trial, "extra", 1)


def _refused(trial: Trial, path: str) -> Seen:
    got = trial.ask(path)
    told = f"{got}; {trial.origin.asked[path]} origin requests"
    return Seen(told, got.count("502", "503") == trial.viewers)


@case("D5c", "R1", "refused: 5xx for all")
def _lengths(trial: Trial) -> Seen:
    """A response with two different lengths."""
    return _refused(trial, "/lengths/1")


@case("D5d", "R1", "refused: 5xx for all")
def _smuggled(trial: Trial) -> Seen:
    """A response with a length and chunks."""
    return _refused(trial, "/smuggled/1")


@case("D6", "R2", "never spliced: cut or the new body, and the new body afterwards")
def _changed(trial: Trial) -> Seen:
    """Cut in the middle, and what the origin has now are other bytes; again half a second later."""
    new = body_of("/changed/12")
    got = trial.ask("/changed/1", new)
    time.sleep(0.5)
    again = trial.ask("/changed/1", new)
    good = not got.count("wrong", "hung") and again.counts["whole"] == trial.viewers
    return Seen(f"{got}; then {again}", good)


def _errors(trial: Trial, kind: str, requests: int, *statuses: str) -> Seen:
    got = trial.ask(f"/{kind}/1")
    asked = trial.origin.asked[f"/{kind}/1"]
    good = got.count(*statuses) == trial.viewers and asked <= requests and got.took_s < 8
    return Seen(f"{got}; {asked} origin requests; {got.took_s:.1f} s", good)


@case("D1", "R3", "answered together at the deadline (3 s), a request each deadline of the origin")
def _hang(trial: Trial) -> Seen:
    """The origin takes the request and never answers."""
    return _errors(trial, "hang", 3, "502", "503", "504")


@case("D10", "R3", "one request an attempt, all answered together")
def _busy(trial: Trial) -> Seen:
    """500 after 0.3 s."""
    return _errors(trial, "busy", 3, "500", "502", "503", "504")


@case("D11", "R3", "one request, all answered together")
def _late(trial: Trial) -> Seen:
    """404 after 0.3 s."""
    return _errors(trial, "late", 1, "404")


# ---------------------------------------------------------------- processes and clients


def _under_load(
    trial: Trial, action: Callable[[], bool], times: int, *, cut: int = 0
) -> Seen | None:
    """`cut`: how many connections may end in mid-request. The origin is asked once."""
    trial.ask("/plain/1")
    counts = steadily(trial.server.address, "/plain/1", action, times)
    if counts is None:
        return None
    asked = trial.origin.asked["/plain/1"]
    lost = ", ".join(f"{counts[kind]} {kind}" for kind in ("refused", "reset", "eof", "hung"))
    ended = counts["reset"] + counts["eof"]
    good = counts.total() - ended == counts["ok"] > 0 and ended <= cut and asked == 1
    return Seen(f"{counts['ok']} whole, {lost}; {asked} origin requests", good)


@case("E1", "R4", "no viewer is cut or refused, nothing is fetched again")
def _restart(trial: Trial) -> Seen | None:
    """Another process takes the place of the one that serves, under load."""
    return _under_load(trial, trial.server.restart, 1)


@case("E2", "R4", "no viewer is cut or refused, nothing is fetched again")
def _reload(trial: Trial) -> Seen | None:
    """Reloaded three times under load: kept-alive connections and new ones."""
    return _under_load(trial, trial.server.reload, 3)


@case("E4", "R5", "open connections only: nobody is refused, and the cache is kept")
def _kill(trial: Trial) -> Seen | None:
    """SIGKILL to the process that has the viewers, where another of the server starts it again."""
    seen = _under_load(trial, trial.server.kill_worker, 1, cut=LOAD)
    if seen is None:
        return None
    kept = "kept" if trial.origin.asked["/plain/1"] == 1 else "lost"
    return replace(seen, told=f"{seen.told}: cache {kept}")


def _moved(found: Watched, more: str = "") -> Seen:
    """Of healthy viewers, by the p99 of what they saw: within 10 %, whatever that is."""
    alone, beside = (spread([p99 for _, p99 in turns])
                     for turns in (found.alone_ms, found.beside_ms))  # fmt: skip
    rise = beside.median / alone.median - 1
    told = f"p99 {_ms(alone)}; beside {_ms(beside)}: {round(100 * rise):+d} %{more}"
    own = " → ".join(_ms(spread([p99 for _, p99 in turns]))
                     for turns in (found.server_alone_ms, found.server_beside_ms))  # fmt: skip
    late = " → ".join(f"{statistics.median(p99 for _, p99 in turns):.2f}"
                      for turns in (found.late_alone_ms, found.late_beside_ms))  # fmt: skip
    return Seen(told, rise <= _RISE, f"{own}; the line {late}")


def _ms(found: Spread) -> str:
    return f"{found.median:.2f} ms ({found.low:.2f} to {found.high:.2f})"


@case("E6", "R6", f"hits go on, {_UNMOVED}")
def _still(trial: Trial) -> Seen | None:
    """The control thread stands still."""
    if not trial.server.ours:
        return None
    trial.ask(_SHORT)
    with (
        lastmile(trial.server.address) as behind,
        contextlib.closing(Bystanders(behind.address, _SHORT, AT_HOME)) as viewers,
    ):

        def beside() -> None:
            with standing_still(trial.server.pid):
                viewers.run(_TURN_S)

        return _moved(watched(viewers, beside, duration_s=_TURN_S, turns=_TURNS, behind=behind))


def _felt(
    trial: Trial, harm: str, *, clients: int = 200, rate: int = _RATE, path: str = "/plain/3"
) -> Seen:
    """Healthy viewers of 16 KiB, alone and beside the harm (bench/clients/exhaustion.py)."""
    for warm in (_SHORT, path):
        trial.ask(warm)
    with client(trial.server.stage, "exhaustion", {
        "address": trial.server.address, "source": _OTHER_IP, "harm": harm, "path": path,
        "healthy": _SHORT, "clients": clients, "rate": rate, "duration_s": _TURN_S, "turns": _TURNS,
        "at_home": True,
    }) as both:  # fmt: skip
        found = Felt(**both.answer(_LIMIT_S))
    held = round(found.kernel_bytes / 1024)
    return _moved(found, f"; {held} KiB of the kernel each" if held else "")


@case("B1", "R8", _UNMOVED)
def _half_heads(trial: Trial) -> Seen:
    """500 connections that have sent half a request head, and go on byte by byte."""
    return _felt(trial, "heads", clients=500)


@case("B2", "R8", _UNMOVED)
def _unread(trial: Trial) -> Seen:
    """200 viewers that ask for a large object and do not read."""
    return _felt(trial, "unread")


@case("B2p", "R8", _UNMOVED)
def _pipelines(trial: Trial) -> Seen:
    """100 viewers that ask for a hundred parts at once and do not read."""
    return _felt(trial, "pipelines", clients=100, path="/part/3")


@case("B3", "R8", _UNMOVED)
def _zero_window(trial: Trial) -> Seen:
    """200 viewers of a large object whose window is shut from the start."""
    return _felt(trial, "zero_window")


@case("B5", "R8", _UNMOVED)
def _silent(trial: Trial) -> Seen:
    """500 connections that say nothing."""
    return _felt(trial, "silent", clients=500)


@case("B6", "R8", _UNMOVED)
def _resets(trial: Trial) -> Seen:
    """2,000 connections a second that are reset as soon as they are made."""
    return _felt(trial, "resets", rate=2000)


@case("B11", "R8", _UNMOVED)
def _flood(trial: Trial) -> Seen:
    """One address that takes 1,000 connections."""
    return _felt(trial, "flood", clients=1000)


@case("B13", "R8", _UNMOVED)
def _queries(trial: Trial) -> Seen:
    """1,000 requests a second for one object, each with a query of its own."""
    return _felt(trial, "queries", rate=1000, path="/part/4")


@case("B14", "R8", _UNMOVED)
def _names(trial: Trial) -> Seen:
    """500 requests a second for names that nobody has."""
    return _felt(trial, "names", rate=500)


@case("B17", "R8", f"{_UNMOVED}; who comes gets in")
def _syns(trial: Trial) -> Seen | None:
    """As many SYNs as a core sends, from addresses that nobody has, half a second at a time, in a
    network of its own."""
    found = flooded(trial.server.running.peer)
    if found is None:
        return None
    seen = _moved(found.watched, f"; {found.told}")
    return replace(seen, good=seen.good and not found.lost)


@case("B4", "R7", "at most 1 KiB of user memory each")
def _idle(trial: Trial) -> Seen:
    """2,000 connections that have asked once and stay."""
    trial.ask("/part/2")
    each = idle_bytes(trial.server.address, trial.server.pid, "/part/2", 2000)
    return Seen(f"{each:.0f} bytes a connection", each <= 1024)
