"""Plays cells on one pair of daemons, several at the same time, and collects what came of each.

Laws: a cell that fails is a result; every wait has a deadline.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from ..errors import BenchError
from .cells import Cell, Told
from .seen import Seen, listing, look
from .site import Site
from .watching import Show, Watched, watch

AT_ONCE: Final = 8
_ENDED_S: Final = 30.0
_POLL_S: Final = 0.1
_READY_S: Final = 30.0
# What comes in = what goes on + what is dropped, by reason.
_BOOKS: Final = {
    "tags": (("received", "made"), ("forwarded", "kept", "waiting")),
    "frames": (("encoded",), ("packaged", "waiting")),
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """told: None of a cell that broke off; watched: None without a player; ledger: what became of
    tags and frames; wrong: what is not as expected, empty: all is."""

    told: Told | None = None
    seen: dict[str, Seen] = field(default_factory=dict)
    watched: Watched | None = None
    ledger: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Books:
    """Of all cells together, when all streams had ended. pushed: parts that the POP has taken;
    finished: segments and init sections; kept: of those, in the permanent store."""

    made: int
    pushed: int
    finished: int
    kept: int
    open: dict[str, float]  # laws of the ledgers that do not hold
    tags: dict[str, int]  # of publishers: what became of them
    frames: dict[str, int]  # of encoders

    @property
    def wrong(self) -> list[str]:
        found = [f"the ledger does not close: {law}: {by:g}" for law, by in self.open.items()]
        if self.made != self.pushed:
            found.append(f"{self.made} parts made, {self.pushed} pushed")
        if self.finished != self.kept:
            found.append(f"{self.finished} segments and init sections made, {self.kept} kept")
        return found


def play(
    site: Site,
    cells: Sequence[Cell],
    *,
    at_once: int = AT_ONCE,
    say: Callable[[str], None] = lambda _text: None,
) -> dict[str, Result]:
    """Name -> what came of it."""

    async def everything() -> dict[str, Result]:
        turn = asyncio.Semaphore(at_once)
        # cells wait in threads: one must not wait for another's
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * at_once))

        async def one(cell: Cell) -> Result:
            async with turn:
                result = await _played(cell, site)
            say(f"{'!!' if result.wrong else 'ok'} {cell.name}: {'; '.join(result.wrong)}")
            return result

        found = await asyncio.gather(*map(one, cells))
        return {cell.name: result for cell, result in zip(cells, found, strict=True)}

    return asyncio.run(everything())


async def _played(cell: Cell, site: Site) -> Result:
    try:
        told, watched = await _watched(cell, site)
        await asyncio.to_thread(_settled, cell, site)
        ledger: dict[str, int] = site.state(cell.name)["ledger"]
        seen = await asyncio.to_thread(look, site.master(cell.name))
    except (AssertionError, BenchError, OSError, TimeoutError) as error:
        return Result(wrong=[f"{error.__class__.__name__}: {error}"])
    wrong = [*cell.judge(told, seen), *unbalanced(ledger)]
    if watched is not None:
        wrong += cell.judge_player(watched)
    return Result(told=told, seen=seen, watched=watched, ledger=ledger, wrong=wrong)


async def _watched(cell: Cell, site: Site) -> tuple[Told, Watched | None]:
    """Play it, with a player that is up before and comes as soon as there is something to see."""
    if cell.stalled_s is None:
        return await cell.play(cell, site), None
    show = Show(
        page=f"http://{site.doors['http']}/watch/{cell.name}",
        begun=functools.partial(_begun, cell, site),
    )
    watching = asyncio.create_task(asyncio.to_thread(watch, show))
    try:
        await asyncio.to_thread(show.ready.wait, _READY_S)
        told = await cell.play(cell, site)
    finally:
        show.over.set()
    return told, await watching


def _begun(cell: Cell, site: Site) -> None:
    """Wait until the POP lists media of it."""
    site.until(lambda: _lists(site.master(cell.name)), f"{cell.name} has begun")


def _lists(master: str) -> bool:
    try:
        return "#EXT-X-PART:" in listing(master)
    except OSError:
        return False


def unbalanced(ledger: Mapping[str, int]) -> list[str]:
    """What does not add up of a stream: tags of its newest publisher, frames of its encoders."""
    wrong = []
    for what, (taken, given) in _BOOKS.items():
        came = sum(ledger.get(f"{what}.{name}", 0) for name in taken)
        went = sum(ledger.get(f"{what}.{name}", 0) for name in given) + _dropped(ledger, what)
        if came != went:
            wrong.append(f"{came} {what} came, {went} are accounted for")
    return wrong


def _dropped(ledger: Mapping[str, int], what: str) -> int:
    return sum(n for name, n in ledger.items() if name.startswith(f"{what}.dropped."))


def _settled(cell: Cell, site: Site) -> None:
    """Wait until its publisher is gone for the origin, and all that was made is at the POP."""
    gone = ("reconnecting", "ended")
    site.until(lambda: site.state(cell.name).get("state") in gone, "the publisher is gone")
    site.until(lambda: not site.counts("origin")["push_state{pending}"], "all is pushed")


def close(site: Site) -> Books:
    """Wait until all streams have ended and are kept, then do the books."""
    deadline = time.monotonic() + site.reconnect_s + _ENDED_S
    while (books := _books(site)).wrong or site.counts("origin")["store_streams_live"]:
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
    return books


def _books(site: Site) -> Books:
    origin, pop = site.counts("origin"), site.counts("pop")
    return Books(
        made=round(origin["made{parts}"]),
        pushed=round(pop["push_accepted{part}"]),
        finished=round(origin["made{segments}"] + origin["made{inits}"]),
        kept=round(origin["archive_events{recorded_taken}"]),
        open=site.unbalanced(),
        tags=_became(origin, "tags"),
        frames=_became(origin, "frames"),
    )


def _became(counts: Mapping[str, float], what: str) -> dict[str, int]:
    """Event, or reason of a drop -> count."""
    names = {f"{what}{{": "", f"{what}_dropped{{": "dropped: "}
    return {
        shown + name.removeprefix(start).rstrip("}"): round(count)
        for start, shown in names.items()
        for name, count in counts.items()
        if name.startswith(start)
    }
