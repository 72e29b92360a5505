"""How much of its memory a process uses, and what it gives up for that. Sans-IO, but for the files
of the kernel that are read.

Law: a rung is climbed when the used share reaches it and left HYSTERESIS below it, so that what is
given up is not taken back in the same breath. The order is what hurts viewers least: see RUNGS.
The limit is the least of the cgroup's (v2 or v1, and of those above it) and the configured one;
without either there is no pressure. Does not know how anything is given up.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

RUNGS: Final = (
    (0.85, "evict"),  # the cache shrinks, what is asked for least goes first
    (0.92, "refuse_dvr"),  # what is behind the live edge and not here is not fetched
    (0.95, "refuse_viewers"),  # new connections: 503, Retry-After
    (0.98, "close_idle"),  # keep-alive connections without a request
)
HYSTERESIS: Final = 0.03
_ROOT: Final = Path("/sys/fs/cgroup")
_SELF: Final = Path("/proc/self")


class Ladder:
    """`rung`: how many of RUNGS are climbed; 0: all is well."""

    def __init__(self) -> None:
        self.rung = 0

    def at(self, share: float) -> int:
        """The rung for this share, given the one before."""
        while self.rung < len(RUNGS) and share >= RUNGS[self.rung][0]:
            self.rung += 1
        while self.rung and share < RUNGS[self.rung - 1][0] - HYSTERESIS:
            self.rung -= 1
        return self.rung


@dataclass(frozen=True)
class Group:
    """A memory cgroup: its files. What the page cache could give back is not counted as used."""

    folder: Path
    limit_file: str
    used_file: str
    inactive: str

    def limit(self) -> int:
        """Bytes; 0: none."""
        text = _read(self.folder / self.limit_file)
        return int(text) if text.isdigit() and int(text) < 1 << 60 else 0

    def used(self) -> int:
        stat = _read(self.folder / "memory.stat").splitlines()
        idle = next((int(s.split()[1]) for s in stat if s.startswith(f"{self.inactive} ")), 0)
        text = _read(self.folder / self.used_file)
        return max(0, int(text) - idle) if text.isdigit() else 0


def groups(root: Path = _ROOT, own: Path = _SELF / "cgroup") -> list[Group]:
    """Those with a limit, from our own up."""
    return [group for group in _groups(root, own) if group.limit()]


def _groups(root: Path, own: Path) -> Iterator[Group]:
    for line in _read(own).splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            base, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        folder = base / path.lstrip("/")
        for each in (folder, *folder.parents):
            if (each / names[0]).is_file():
                yield Group(each, *names)
            if each == base:
                break


def resident() -> int:
    """Bytes of this process that are in memory. A memfd is not among them."""
    pages = _read(_SELF / "statm").split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if len(pages) > 1 else 0


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
