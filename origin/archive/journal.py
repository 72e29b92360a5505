"""The journal of a broadcast: what was taken for the permanent store, a line each, as it was taken.

Laws: one file a broadcast, appended to by one thread; a line that was not finished (the process was
killed) says nothing. Lines may be told twice. It goes when its recording is spooled, so what is
found at start is a broadcast that an earlier process did not live to end. Knows files, not stores.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Final, Self

from ..model import Kept, Rendition
from ..timing import Timing
from .recording import KeptInit, Recording, Sheet

_SUFFIX: Final = ".jsonl"


class Journal:
    """Of one broadcast, at `path`, which may be there: then it goes on. Raises OSError."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file: IO[str] = path.open("a", encoding="utf-8")
        self._file.write("\n")  # after a line that was not finished

    @classmethod
    def begin(cls, folder: Path, stream: str, epoch: str, timing: Timing) -> Self:
        journal = cls(folder / f"{stream}.{epoch}{_SUFFIX}")
        grid = (timing.segment_ms, timing.parts, timing.part_target_ns)
        journal._line("of", (stream, epoch, *grid))
        return journal

    @property
    def stream(self) -> str:
        return self.path.name.split(".")[0]

    @property
    def epoch(self) -> str:
        """That the broadcast began with."""
        return self.path.name.split(".")[1]

    def init(self, track: str, generation: int, kept: KeptInit) -> None:
        row = (track, generation, kept.size, kept.digest, asdict(kept.rendition), kept.epoch)
        self._line("init", row)

    def segment(self, track: str, kept: Kept) -> None:
        self._line("segment", (track, *kept))

    def close(self) -> None:
        self._file.close()

    def _line(self, kind: str, row: tuple[object, ...]) -> None:
        self._file.write(json.dumps((kind, *row), separators=(",", ":")) + "\n")
        self._file.flush()


def found_in(folder: Path) -> list[Path]:
    """Journals that an earlier process left."""
    return sorted(folder.glob(f"*{_SUFFIX}"))


def recording_of(journal: Path) -> Recording | None:
    """What the journal says was taken; None when that is nothing. Raises OSError."""
    recording: Recording | None = None
    segments: dict[str, dict[int, Kept]] = {}
    for kind, *row in _lines(journal):
        if kind == "of":
            recording = recording or _begun(row)
        elif recording is not None and kind == "init":
            track, generation, size, digest, rendition, epoch = row
            sheet = recording.tracks.setdefault(track, Sheet())
            sheet.inits[generation] = KeptInit(size, digest, Rendition(**rendition), epoch)
        elif recording is not None and kind == "segment":
            recording.tracks.setdefault(row[0], Sheet())
            segments.setdefault(row[0], {})[row[1]] = Kept(*row[1:])
    for track, kept in segments.items():
        assert recording is not None
        recording.tracks[track].segments = [kept[msn] for msn in sorted(kept)]
    return recording if recording and recording.whole else None


def _begun(row: list[Any]) -> Recording:
    stream, epoch, segment_ms, parts, part_target_ns = row
    return Recording(
        stream=stream,
        epoch=epoch,
        segment_ms=segment_ms,
        parts=parts,
        part_target_ns=part_target_ns,
    )


def _lines(journal: Path) -> Iterator[list[Any]]:
    with journal.open(encoding="utf-8") as file:
        for line in file:
            with contextlib.suppress(ValueError):
                yield json.loads(line)
