"""What lies between healthy viewers and a cache: a relay with a round trip (lastmile.c).

A viewer is never on loopback, and a tenth of what it waits for depends on where it is. ROUND_TRIP_S
is of the best lines to a nearby host: in Ookla's reports on fixed broadband the best American
provider, on fibre, has 9 ms (a second quarter, summed up by CCG's Pots and Pans) and the best of
Argentina 12 ms (Q1 2023). On any other line the same harm is a smaller part.

Law: what the relay is late by itself is in what viewers see, alone and beside harm, and is told.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from ..process import compiled

SOURCE: Final = Path(__file__).parent.parent / "lastmile.c"
_BUILT: Final = SOURCE.parents[1] / "build" / "lastmile"
ROUND_TRIP_S: Final = 0.010
_BACKLOG: Final = 1024
_HIT: Final = struct.Struct("qqq")

Address = tuple[str, int]


class Hit(NamedTuple):
    """A request as the relay saw it at the cache's end, in wall ns: when it was sent on, the
    kernel's stamp on the end of the answer, and how late the relay was, both ways together."""

    asked_ns: int
    answered_ns: int
    late_ns: int


class LastMile:
    """Viewers connect to `address`; `delay_ns` later their bytes are at the cache."""

    def __init__(self, address: Address, delay_ns: int, records: int) -> None:
        self.address = address
        self.delay_ns = delay_ns
        self._records = records

    def hits(self) -> list[Hit]:
        """Of connections that have asked again since."""
        size = os.fstat(self._records).st_size // _HIT.size * _HIT.size
        # Not read(2): the relay writes where that would have moved the offset to.
        return [Hit._make(row) for row in _HIT.iter_unpack(os.pread(self._records, size, 0))]


def _program() -> str:
    """Made when its source is newer. Raises BenchError with the compiler's words."""
    if not _BUILT.exists() or _BUILT.stat().st_mtime < SOURCE.stat().st_mtime:
        _BUILT.parent.mkdir(exist_ok=True)
        os.replace(compiled(SOURCE, _BUILT.with_suffix(f".{os.getpid()}")), _BUILT)
    return str(_BUILT)


@contextlib.contextmanager
def lastmile(cache: Address, round_trip_s: float = ROUND_TRIP_S) -> Iterator[LastMile]:
    """In front of `cache`, on the core that we are on; ends with the block."""
    delay_us = round(round_trip_s * 1e6 / 2)
    records = os.memfd_create("hits")
    try:
        with socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as listener:
            relay = subprocess.Popen(
                [_program(), str(delay_us), cache[0], str(cache[1])],
                stdin=listener.fileno(), stdout=records,
            )  # fmt: skip
            try:
                yield LastMile(listener.getsockname(), delay_us * 1000, records)
            finally:
                relay.kill()
                relay.wait()
    finally:
        os.close(records)
