"""Files that are whole or absent: they are written under another name, and renamed.

Law: survives a kill of the process, not a loss of power (no fsync). Knows nothing of what is in
them, nor when they go.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

PARTIAL: Final = ".tmp"  # what the name of a file that is not whole ends with


def partial_of(file: Path) -> Path:
    return file.with_name(file.name + PARTIAL)


def write_whole(file: Path, chunks: Iterable[bytes]) -> None:
    """With its folder. Raises OSError, and then nothing of it is left."""
    partial = partial_of(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as out:
            out.writelines(chunks)
        partial.replace(file)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
