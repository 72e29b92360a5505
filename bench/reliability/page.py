"""What a run found, as a page: every case on every server, and the nine promises with figures.
Pure: results in, Markdown out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..clients.lastmile import ROUND_TRIP_S
from .cases import Case, Seen

# Promise -> (what it says, the case whose figure stands for it; none: all of its cases)
PROMISES: Final = {
    "R1": ("Strict front door: nothing malformed is taken, no byte of a viewer is forwarded", "A1"),
    "R2": ("An origin that breaks in mid-body truncates nobody while it can be asked again", "D3"),
    "R3": ("A hung origin costs one request a deadline; all who wait are answered together", "D1"),
    "R4": ("Reload under load: nobody is refused, reset or cut", "E2"),
    "R5": ("kill -9 of what serves: its own connections only, back at once, cache kept", "E4"),
    "R6": ("The control plane may hang, hits go on", "E6"),
    "R7": ("Memory is a budget; an idle connection costs next to nothing", "B4"),
    "R8": ("A slow or hostile client costs the others nothing", ""),
    "R9": ("Nothing is lost: every ledger closes", ""),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One case on one server. `seen` None: it does not apply. `ledger`: laws that do not hold;
    None: this server promises none."""

    seen: Seen | None
    ledger: Mapping[str, float] | None


Results = Mapping[str, Mapping[str, Row]]  # case -> server -> row


def _cell(row: Row | None) -> str:
    if row is None or row.seen is None:
        return "–"
    return f"{'✓' if row.seen.good else '✗'} {row.seen.told}"


def _all(promise: str, cases: Sequence[Case], results: Results, server: str) -> str:
    """How many of a promise's cases were as expected, and which were not."""
    rows = {each.name: results[each.name].get(server) for each in cases if each.promise == promise}
    tried = {name: row.seen for name, row in rows.items() if row is not None and row.seen}
    if not tried:
        return "–"
    missed = [name for name, seen in tried.items() if not seen.good]
    told = f"{len(tried) - len(missed)} of {len(tried)} cases"
    return f"✗ {told}, not {', '.join(missed)}" if missed else f"✓ {told}"


def _ledger(row: Row | None) -> str:
    if row is None or row.ledger is None:
        return "–"
    return (
        "closes" if not row.ledger else "; ".join(f"{law}: {n:g}" for law, n in row.ledger.items())
    )


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(text.replace("|", "\\|") for text in row) + " |"


def _promised(
    cases: Sequence[Case], results: Results, servers: Sequence[str]
) -> Iterator[Sequence[str]]:
    for name, (says, case) in PROMISES.items():
        if case:
            yield name, says, *(_cell(results[case].get(server)) for server in servers)
        elif name != "R9":
            yield name, says, *(_all(name, cases, results, server) for server in servers)
    rows = [row for by in results.values() for row in by.values() if row.ledger is not None]
    closed = sum(not row.ledger for row in rows)
    yield "R9", PROMISES["R9"][0], f"{closed} of {len(rows)} cases", *("–" for _ in servers[1:])


def _tried(
    cases: Sequence[Case], results: Results, servers: Sequence[str]
) -> Iterator[Sequence[str]]:
    first, *others = servers
    for case in cases:
        by = results[case.name]
        cells = (_cell(by.get(first)), _ledger(by.get(first)))
        yield case.name, case.what, case.expected, *cells, *(_cell(by.get(s)) for s in others)


def _owned(
    cases: Sequence[Case], results: Results, servers: Sequence[str]
) -> Iterator[Sequence[str]]:
    """Of cases with such a figure."""
    for case in cases:
        rows = [results[case.name].get(server) for server in servers]
        cells = [row.seen.own if row is not None and row.seen else "" for row in rows]
        if any(cells):
            yield case.name, *(cell or "–" for cell in cells)


_ABOUT: Final = f"""\
✓: as expected of us. Peers are judged by the same line, which is not always what they
promise; `bench/peers/templates/*_faults` is how they were set up. The server has the first core
to itself; clients, origin and who does harm have the second one, on loopback.

Healthy viewers (R8, E6) are twenty with three connections each, 4,000 hits a second together, at
the far end of lines with a round trip of {1000 * ROUND_TRIP_S:g} ms, as the best ones have
(`bench/clients/lastmile.py`). A p99 is of 1,000 hits in a quarter of a second, from the kernel's
stamp on a viewer's request to that on the end of its answer: the median of seven such windows
(least to most), alone and beside who does harm in turn. Beside it may be a tenth more and nothing
else. Where no other rate is said harm comes at 4,000 connections a second, and when all are there
all ask at once.
"""
_ABOUT_OWN: Final = """\
Of the same hits, from leaving the line to the kernel's stamp on the end of the answer: p99, alone →
beside. Not judged: a tenth of so little is less than one answer's own time. What the line is late
by itself (p99, ms) is in what viewers see, too.
"""


def page(
    cases: Sequence[Case], results: Results, servers: Mapping[str, str], facts: Sequence[str]
) -> str:
    """`servers`: name -> title, ours first."""
    names, (first, *others) = tuple(servers), servers.values()
    seen = "; ".join(facts)
    lines = [
        "# Reliability",
        "",
        f"What one run of `python -m bench.reliability` saw on one machine: {seen}.",
        _ABOUT,
        "## Promises",
        "",
        *_table(("", "promise", *servers.values()), _promised(cases, results, names)),
        "",
        "## Cases",
        "",
        *_table(
            ("case", "what happens", "expected", first, "ledger", *others),
            _tried(cases, results, names),
        ),
        "",
        "## Healthy viewers, at the server's end of their lines",
        "",
        _ABOUT_OWN,
        *_table(("case", *servers.values()), _owned(cases, results, names)),
        "",
    ]
    return "\n".join(lines)
