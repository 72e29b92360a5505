"""The test pattern's clock, read from what the smallest rung shows of it."""

from __future__ import annotations

from typing import Final

from origin.testpattern import BARCODE_BITS, BARCODE_PART

WIDTH: Final = 320
HEIGHT: Final = 180


def stamps_of(pictures: bytes) -> list[int | None]:
    """Of grey pictures, one after the other: the low 32 bits of the unix ms at which each was made;
    None when its check bits do not fit."""
    size = WIDTH * HEIGHT
    return [_stamp(pictures[at : at + size]) for at in range(0, len(pictures), size)]


def _stamp(picture: bytes) -> int | None:
    row = HEIGHT - HEIGHT // BARCODE_PART // 2
    line, block = picture[row * WIDTH : (row + 1) * WIDTH], WIDTH // BARCODE_BITS
    bits = ["01"[line[block * bit + block // 2] > 127] for bit in range(BARCODE_BITS)]
    when, check = int("".join(bits[:32]), 2), int("".join(bits[32:]), 2)
    return when if when % 256 + check == 255 else None
