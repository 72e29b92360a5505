"""What a run of the matrix found, as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .cells import Cell
from .run import Books, Result

_HEAD = ("publisher", "protocol", "codecs", "event", "", "picture", "sound", "tags, and notes")


def page(
    cells: Sequence[Cell], results: Mapping[str, Result], books: Books, facts: Sequence[str]
) -> str:
    wrong = [cell.name for cell in cells if results[cell.name].wrong]
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
        "",
        f"{len(cells)} cells, {verdict}.",
        "",
        *_table(cells, results),
        "",
        "## The books",
        "",
        *_books(books),
        "",
    ])  # fmt: skip


def _table(cells: Sequence[Cell], results: Mapping[str, Result]) -> Iterator[str]:
    yield "| " + " | ".join(_HEAD) + " |"
    yield "|" + "---|" * len(_HEAD)
    for cell in cells:
        found = results[cell.name]
        shown = [str(found.seen.get(track, "–")) for track in ("v", "audio")]
        mark = "✗" if found.wrong else "✓"
        words = (cell.publisher, cell.way.name, cell.codec, cell.event, mark, *shown, _note(found))
        yield "| " + " | ".join(words) + " |"


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
