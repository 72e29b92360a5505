"""The bench's one exception: something about the set-up is wrong, said in one line."""

from __future__ import annotations


class BenchError(Exception):
    """A scenario, a server or the machine is not as the bench needs it. The text names which."""
