"""What the kernel of our network dropped and tells nobody else: /proc/net/netstat.

Law: the counts are those of the network namespace, all its listeners together, since it was made;
a host that hides them has none. Does not know our sockets.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

_FILE: Final = Path("/proc/self/net/netstat")
_COUNTED: Final = {
    "ListenOverflows": "listen_overflows",  # an accept queue was full: the SYN has to come again
    "ListenDrops": "listen_drops",  # the same, and connections for which there was no memory
    "TCPBacklogDrop": "backlog_drops",  # a segment, while its socket was busy
    "TCPAbortOnMemory": "memory_aborts",  # a connection that was reset for lack of memory
}


def counts(file: Path = _FILE) -> Counter[str]:
    """Name of ours -> number, monotonic."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return Counter()
    told: dict[str, str] = {}
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        told |= zip(names.split(), values.split(), strict=False)
    return Counter({ours: int(told[its]) for its, ours in _COUNTED.items() if its in told})
