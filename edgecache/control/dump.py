"""What a daemon knows, as lines for a person: the dump that SIGUSR1 writes to the log. Pure.

Law: one line a thing, `section[which]: name value, …`; sections of many things are cut at LINES,
and say so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

LINES: Final = 64


def _flat(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_flat(inner)}" for name, inner in value.items()) or "none"
    return value if isinstance(value, str) else json.dumps(value)


def _many(section: str, things: Iterator[tuple[object, object]], count: int) -> Iterator[str]:
    for which, value in islice(things, LINES):
        yield f"{section}[{which}]: {_flat(value)}"
    if count > LINES:
        yield f"{section}: and {count - LINES} more"


def dump(state: Mapping[str, object]) -> Iterator[str]:
    """Mappings of mappings and lists of mappings have many things; the rest is one line each."""
    for section, value in state.items():
        if isinstance(value, Mapping) and any(isinstance(v, Mapping) for v in value.values()):
            yield from _many(section, iter(value.items()), len(value))
        elif isinstance(value, Sequence) and value and isinstance(value[0], Mapping):
            yield from _many(section, iter(enumerate(value)), len(value))
        else:
            yield f"{section}: {_flat(value)}"
