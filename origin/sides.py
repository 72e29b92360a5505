"""Sounds of a publisher beside its first one: tracks of Enhanced RTMP, by their number.

Laws: sans-IO; only tracks that are wanted are kept, at most flv.MAX_TRACKS. A track is *heard* from
its first configuration or frame until nothing of it has come for `QUIET_MS`: what is not heard is
made silent by whoever encodes, because filling it in here would mix codecs. Knows nothing of GOPs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from edgecache.flv import AUDIO, CONFIG, MULTITRACK, Tag, encode_tag

QUIET_MS: Final = 1_000


@dataclass(slots=True)
class _Side:
    """newest_ms: of the broker's time."""

    codec: str
    config: bytes
    newest_ms: int


class Sides:
    """`wanted`: numbers of tracks, none of them 0."""

    def __init__(self, wanted: frozenset[int]) -> None:
        self.wanted = wanted
        self._sides: dict[int, _Side] = {}

    def take(self, tag: Tag, at_ms: int, *, configured: frozenset[str]) -> bool:
        """A tag of a wanted track, at `at_ms`. False: of no use, since its codec is one of
        `configured` and its configuration has not come."""
        side = self._sides.get(tag.track)
        if tag.packet == CONFIG:
            self._sides[tag.track] = _Side(tag.codec, tag.body, at_ms)
            return True
        if side is None or side.codec != tag.codec:
            if tag.codec in configured:
                return False
            side = self._sides[tag.track] = _Side(tag.codec, b"", at_ms)
        side.newest_ms = max(side.newest_ms, at_ms)
        return True

    def heard(self, now_ms: int) -> tuple[tuple[int, str], ...]:
        """(track, codec) of those that are, in the order of their numbers."""
        return tuple(
            (track, side.codec)
            for track, side in sorted(self._sides.items())
            if now_ms - side.newest_ms <= QUIET_MS
        )

    def configs(self, heard: Sequence[tuple[int, str]]) -> Iterator[bytes]:
        """Their sequence headers as encoded tags at time 0, in the order of `heard`: a reader
        numbers sounds by who comes first. What needs none has one without content."""
        for track, codec in heard:
            empty = bytes((0x90 | MULTITRACK[AUDIO], 0)) + codec.encode() + bytes((track,))
            yield encode_tag(AUDIO, 0, self._sides[track].config or empty)
