"""The bench's one exception: something about the set-up is wrong, said in one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError


class BenchError(Exception):
    """A scenario, a server or the machine is not as the bench needs it. The text names which."""


def said(error: Exception) -> str:
    """What is wrong with a file, key by key, in one line."""
    if not isinstance(error, ValidationError):
        return str(error)
    problems: Sequence[Any] = error.errors()
    return "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in problems)
