"""Settings of the process itself: who succeeds it, and what it gives up when memory runs out."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .settings import DurationMs, Section, Size
from .units import HOUR_MS


class Takeover(Section):
    """Restart without a gap: a process that starts with the same `socket` takes over from the one
    that runs (and SIGUSR2 starts it). Empty: none."""

    socket: Annotated[str, Field(max_length=90)] = ""  # its path; 107 bytes are all there are
    # The process that was succeeded lives on for publishers it has; then they are cut.
    publishers: DurationMs = Field(4 * HOUR_MS, ge=0, le=24 * HOUR_MS)


class Overload(Section):
    """What a POP gives up before memory runs out (control/pressure.py): its cache, what is not
    live, new viewers, idle connections."""

    cgroup: bool = True  # the limit of our control group counts
    # This process and its cache together; 0: only the control group's limit counts.
    memory: Size = Field(0, ge=0)
