"""What a run of the matrix found, as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from .cells import Cell
from .run import Books, Result

_HEAD = ("publisher", "protocol", "codecs", "event", "", "picture", "sound", "frames", "notes")
_SHOWN = ("publisher", "protocol", "event", "", "hls.js", "picture", "frames", "notes")


def page(
    cells: Sequence[Cell], results: Mapping[str, Result], books: Books, facts: Sequence[str]
) -> str:
    wrong = [cell.name for cell in cells if results[cell.name].wrong]
    plain = [cell for cell in cells if cell.stalled_s is None]
    shown = [cell for cell in cells if cell.stalled_s is not None]
    verdict = f"not as expected: {', '.join(wrong)}" if wrong else "all as expected"
    return "\n".join([
        "# The ingest matrix",
        "",
        f"What one run of `python -m bench.ingest --record` saw: {'; '.join(facts)}. Everybody "
        "publishes to one POP, the origin behind it encodes",
        "each stream into one small rung and a sound in segments of a second, and afterwards"
        " ffprobe reads at the POP all that the playlists list. A *hole* is a packet that does not",
        "begin where the one before ended, a discontinuity aside. *Tags* are the publisher's:"
        " sent = encoded or kept + dropped, by reason (`not_media`: the end of a sequence).",
        "*Frames* are what came from the encoders = what is in parts + what was dropped.",
        "",
        f"{len(cells)} cells, {verdict}.",
        "",
        *_table(_HEAD, (_row(cell, results[cell.name]) for cell in plain)),
        "",
        "## What a player made of it",
        "",
        "Our watch page in a Chromium, which came when there was something to see and was left"
        " alone; what happens does so half way through",
        "16 s. A stall is the element's `waiting` until its picture moves again, those of the first"
        " 3 s aside, until the publisher had sent all: what it took longer",
        "than that to play on is not in it. Where media goes on, none may be longer than"
        " 0.25 s in all; where the publisher is away, none longer than that.",
        "",
        *_table(_SHOWN, (_shown(cell, results[cell.name]) for cell in shown)),
        "",
        "## The books",
        "",
        *_books(books),
        "",
    ])  # fmt: skip


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _row(cell: Cell, found: Result) -> Sequence[str]:
    shown = [str(found.seen.get(track, "–")) for track in ("v", "audio")]
    told = (cell.publisher, cell.way.name, cell.codec, cell.event, _mark(found))
    return (*told, *shown, _frames(found), _note(found))


def _shown(cell: Cell, found: Result) -> Sequence[str]:
    seen = (str(found.watched or "–"), str(found.seen.get("v", "–")))
    told = (cell.publisher, cell.way.name, cell.event, _mark(found))
    return (*told, *seen, _frames(found), _note(found))


def _mark(found: Result) -> str:
    return "✗" if found.wrong else "✓"


def _frames(found: Result) -> str:
    """Of all encoders of the stream: in = out, and what was dropped."""
    books = found.ledger
    dropped = "frames.dropped."
    out = [str(books.get("frames.packaged", 0))]
    out += [f"{n} {name.removeprefix(dropped)}" for name, n in books.items() if dropped in name]
    return f"{books.get('frames.encoded', 0)} = {' + '.join(out)}"


def _note(found: Result) -> str:
    said = list(found.wrong)
    if found.told and found.told.what:
        said.append(found.told.what)
    if found.told and found.told.sent:
        lost = ", ".join(f"{reason} {count}" for reason, count in found.told.dropped.items())
        said.append(f"{found.told.sent} sent" + (f", dropped: {lost}" if lost else ""))
    return " ".join("; ".join(said).replace("|", "/").split())


def _books(books: Books) -> Iterator[str]:
    yield "| | made | |"
    yield "|---|---|---|"
    yield f"| parts | {books.made} | {books.pushed} pushed to the POP |"
    yield f"| segments and init sections | {books.finished} | {books.kept} in the archive |"
    yield f"| equations of the ledgers (`bench/ledger.py`) | | {books.open or 'all hold'} |"
    for name, counts in (("tags", books.tags), ("frames", books.frames)):
        told = ", ".join(f"{what} {count}" for what, count in counts.items())
        yield f"| {name} of all streams | | {told} |"
