"""Is everything in the permanent store that a recording names, byte by byte?

Law: reads all of it and changes nothing. One object in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..model import digest_of
from .objects import MissingError, Objects
from .recorder import key_of
from .recording import Recording


@dataclass(frozen=True, slots=True)
class Checked:
    """One object; fault: "", "missing" or "damaged"."""

    key: str
    size: int
    fault: str


def verify(objects: Objects, recording: Recording) -> Iterator[Checked]:
    """In the order of the recording. Raises ObjectError."""
    for path, size, digest in recording.objects():
        key = key_of(path)
        try:
            body = objects.read(key)
        except MissingError:
            yield Checked(key, size, "missing")
        else:
            sound = len(body) == size and digest_of(body) == digest
            yield Checked(key, size, "" if sound else "damaged")
