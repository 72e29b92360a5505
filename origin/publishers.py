"""Who publishes here by which key, for as long as the key opens its stream.

Laws: a publisher came with a key at the POP, and its media comes with the key's id; `look` ends
those whose key opens the stream no more, and they are told so (403). Owner: the loop. Does not know
keys, nor what is published.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

log = logging.getLogger(__name__)

REVOKED: Final = "this stream key was revoked"


class Body(Protocol):
    """What can be broken off: aiohttp's StreamReader."""

    def set_exception(self, exc: BaseException) -> None: ...


@dataclass(eq=False, slots=True)
class Seat:
    """One publisher."""

    stream: str
    key_id: str  # "": it came without one, from somebody who signs
    body: Body
    revoked: bool = False


class Publishers:
    """`opens(stream, key_id)`: does it, now?"""

    def __init__(self, opens: Callable[[str, str], bool]) -> None:
        self._opens = opens
        self._seats: set[Seat] = set()

    def may(self, stream: str, key_id: str) -> bool:
        return self._opens(stream, key_id)

    @contextmanager
    def enter(self, stream: str, key_id: str, body: Body) -> Iterator[Seat]:
        """with enter(…) as seat: its body is read; then `seat.revoked` says why it broke off."""
        seat = Seat(stream, key_id, body)
        self._seats.add(seat)
        try:
            yield seat
        finally:
            self._seats.discard(seat)

    def look(self) -> None:
        """Call it often: revocations come at any time, from anywhere."""
        for seat in self._seats:
            if seat.key_id and not seat.revoked and not self._opens(seat.stream, seat.key_id):
                seat.revoked = True
                told = {"stream": seat.stream, "key": seat.key_id}
                log.warning("publisher ended: its key was revoked", extra=told)
                seat.body.set_exception(ConnectionResetError(REVOKED))
