"""RTP packets as they come -> in order, each once; what lacks is asked for again, then given up.

Laws: sans-IO; who calls says the time (monotonic, s). A packet waits for an earlier one for
`wait_s`, and no more than `held` of them do; then what lacks is passed over, told as None, once for
each hole. A jump of more than that is a sender that began anew. Does not know media.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .rtp import Packet, unwrap

_AGAIN_S: Final = 0.05  # between two questions for one packet
_ASKED_MAX: Final = 64  # packets in one question
_SETTLE_S: Final = 0.01  # what only overtook another comes by itself


class Reorder:
    """put() what comes, then take() what is due; missing() says what to ask for."""

    def __init__(self, *, wait_s: float, held: int) -> None:
        self._wait_s = wait_s
        self._limit = held
        self._held: dict[int, Packet] = {}
        self._next: int | None = None
        self._first = 0  # number of the first one, as if the sender had never begun anew
        self._missed: dict[int, tuple[float, float]] = {}  # since when, when to ask (again)
        self._cut = False  # began anew, which take() has not said yet
        self.newest = 0  # sequence number, of 32 bits
        self.received = 0

    @property
    def lost(self) -> int:
        """How many never came, so far."""
        return max(0, self.newest + 1 - self._first - self.received)

    def put(self, packet: Packet, now_s: float) -> None:
        if self._next is None:
            self._begin(packet.sequence)
        number = unwrap(packet.sequence, self.newest, 16)
        if abs(number - self.newest) > self._limit:
            self._begin(number)
            self._cut = True
        self.received += 1
        assert self._next is not None
        if number < self._next:
            return
        for lacking in range(max(self.newest + 1, self._next), number):
            self._missed[lacking] = (now_s, now_s + _SETTLE_S)
        self._missed.pop(number, None)
        self._held[number] = packet
        self.newest = max(self.newest, number)

    def take(self, now_s: float) -> Iterator[Packet | None]:
        """All that is due. None: something before the next one is lost."""
        if self._cut:
            self._cut = False
            yield None
        while self._held:
            assert self._next is not None
            if (packet := self._held.pop(self._next, None)) is not None:
                self._next += 1
                yield packet
            elif len(self._held) > self._limit or self._is_late(self._next, now_s):
                following = min(self._held)
                for lacking in range(self._next, following):
                    self._missed.pop(lacking, None)
                self._next = following
                yield None
            else:
                return

    def missing(self, now_s: float) -> list[int]:
        """What to ask for now, ascending."""
        due = [number for number, (_, again_s) in self._missed.items() if again_s <= now_s]
        due = sorted(due)[:_ASKED_MAX]
        for number in due:
            self._missed[number] = (self._missed[number][0], now_s + _AGAIN_S)
        return due

    def _is_late(self, number: int, now_s: float) -> bool:
        since_s, _ = self._missed.get(number, (0.0, 0.0))
        return now_s - since_s >= self._wait_s

    def _begin(self, number: int) -> None:
        self._held.clear()
        self._missed.clear()
        self._next = number
        self.newest = number - 1
        self._first = number - self.received
