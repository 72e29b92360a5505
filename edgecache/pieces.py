"""A publisher's body in pieces, so that a decoder may begin at some of them.

Laws: pieces joined are the body, in its order; a piece is numbered by where it stands in it,
counted in bytes, or in tags where the body is made of those (FLV). What is not understood is a
piece like any other, with which nothing begins. Sans-IO; media is not looked into beyond what says
where it begins.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Piece:
    """size: how many numbers it has. sets: which configuration it replaces, "" for none; in the
    order of these names it is given to whoever begins in the middle. is_entry:
    decoding can begin here, behind the configuration in force; its first picture (any sound of a
    body without one) is decoded at `at_ms` of the publisher's clock, where that is known."""

    data: bytes
    size: int
    sets: str = ""
    is_entry: bool = False
    at_ms: float = 0.0

    def behind(self, count: int) -> Piece:
        """What remains of a piece of bytes without its first ones."""
        return replace(self, data=self.data[count:], size=self.size - count, is_entry=False)


@dataclass(frozen=True, slots=True)
class Mark:
    """A piece of bytes begins `at` this offset."""

    at: int
    sets: str = ""
    is_entry: bool = False
    at_ms: float = 0.0


class Reader(Protocol):
    """One body. `header` stands before everything else, configuration included."""

    header: bytes

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces that became whole, of bytes in any cut."""

    def end(self) -> list[Piece]:
        """What never became whole."""


class ByteReader(ABC):
    """A body that is numbered by bytes. `look` is asked at the beginning of each of its elements;
    bytes that are looked at wait, all others are passed on as they come."""

    header = b""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.position = 0  # of the buffer in the body
        self._left = 0  # bytes of the element that is passed on

    @abstractmethod
    def look(self, at: int, marks: list[Mark]) -> int:
        """Mark where pieces begin, from `at` in the buffer on; of marks at one place the last
        counts. How many bytes to pass on from here; 0: more are needed to know."""

    def feed(self, data: bytes) -> list[Piece]:
        self.buffer += data
        marks: list[Mark] = []
        at = 0
        while at < len(self.buffer):
            self._left = self._left or self.look(at, marks)
            if not self._left:
                break
            step = min(self._left, len(self.buffer) - at)
            at, self._left = at + step, self._left - step
        return self._pass(at, marks)

    def end(self) -> list[Piece]:
        return self._pass(len(self.buffer), [])

    def _pass(self, count: int, marks: Sequence[Mark]) -> list[Piece]:
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        self.position += count
        begins = [Mark(0), *marks]
        ends = [*(mark.at for mark in marks), count]
        return [
            Piece(data[mark.at : end], end - mark.at, mark.sets, mark.is_entry, mark.at_ms)
            for mark, end in zip(begins, ends, strict=True)
            if end > mark.at
        ]
