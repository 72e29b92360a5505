"""A publisher's newest pieces, for a data centre that has to begin in the middle.

Laws: pieces (pieces.py) are numbered from 0 in the order they came, an FLV tag as one and others by
their bytes, and none is skipped. What is held begins where decoding can, and has before it the
configuration that is in force there. It ends with what a data centre said it no longer needs
(`keep`). Bounds: `limit_bytes` and `span_s`; beyond either the oldest GOP goes, and when there is
no other one everything until the next entry. Every number is held, or counted once: configuration,
acknowledged, passed (given to a data centre that had not acknowledged it when it had to go) or
dropped (no data centre ever saw it). Media is not looked into. Sans-IO.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

from ..pieces import Piece


@dataclass(frozen=True, slots=True)
class Body:
    """What a data centre begins with: after the `header` and `head` numbers of configuration comes
    piece number `first`, which is `age_s` old."""

    header: bytes
    pieces: tuple[Piece, ...]
    first: int
    head: int
    age_s: float

    @property
    def end(self) -> int:
        """Number of what comes behind it."""
        return self.first + sum(piece.size for piece in self.pieces) - self.head

    def encode(self) -> bytes:
        return self.header + b"".join(piece.data for piece in self.pieces)


class Held:
    """add() what came, keep() what is told to be needed; body() for a new connection."""

    def __init__(
        self, *, header: bytes, limit_bytes: int, span_s: float, counts: Counter[str]
    ) -> None:
        self._header = header
        self._limit_bytes = limit_bytes
        self._span_s = span_s
        self._counts = counts  # held.<what became of a number>
        self._config: dict[str, Piece] = {}  # in force before the first held piece
        self._pieces: deque[tuple[Piece, float]] = deque()  # and when they came
        self._given = 0  # the first number that no data centre was given
        self.first = 0
        self.next = 0
        self.bytes = 0

    def __len__(self) -> int:
        return self.next - self.first

    def add(self, piece: Piece, now_s: float, *, given: bool) -> None:
        """Take the next piece. given: a data centre is being sent it now."""
        self.next += piece.size
        if given:
            self._given = self.next
        self._pieces.append((piece, now_s))
        self.bytes += len(piece.data)
        if len(self._pieces) == 1 and not piece.is_entry:
            self._pop()
            return
        while self.bytes > self._limit_bytes or now_s - self._pieces[0][1] > self._span_s:
            self._drop_gop()
            if not self._pieces:
                return

    def keep(self, number: int) -> None:
        """A data centre needs nothing before this number any more, whatever becomes of it."""
        while self._pieces and self.first + self._pieces[0][0].size <= number:
            self._pop("acknowledged")

    def body(self, now_s: float) -> Body:
        """All that is held."""
        config = sorted(self._config.items())
        return Body(
            header=self._header,
            pieces=(*(piece for _, piece in config), *(piece for piece, _ in self._pieces)),
            first=self.first,
            head=sum(piece.size for _, piece in config),
            age_s=now_s - self._pieces[0][1] if self._pieces else 0.0,
        )

    def give(self, body: Body) -> bytes | None:
        """The body, and behind it what came since it was made; None when some of that had to go
        already. All of it counts as given from now on."""
        if body.end < self.first:
            return None
        self._given = self.next
        since, number = [], self.first
        for piece, _ in self._pieces:
            if number >= body.end:
                since.append(piece.data)
            number += piece.size
        return body.encode() + b"".join(since)

    def close(self, *, given: bool) -> None:
        """The publisher has ended. given: a data centre has taken all of it."""
        self._given = self.next if given else self._given
        while self._pieces:
            self._pop()

    def _drop_gop(self) -> None:
        self._pop()
        while self._pieces and not self._pieces[0][0].is_entry:
            self._pop()

    def _pop(self, became: str = "") -> None:
        piece, _ = self._pieces.popleft()
        self.bytes -= len(piece.data)
        if piece.sets:
            self._config[piece.sets] = piece
            became = "configuration"
        elif not became:
            became = "passed" if self.first < self._given else "dropped"
        self._counts[f"held.{became}"] += piece.size
        self.first += piece.size
