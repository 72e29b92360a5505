"""The newest group of pictures, and the configuration it began with: what a new encoder is fed.

Laws: sans-IO. Bounds: `GOP_BYTES` and `GOP_MS`; what outgrows them is forgotten whole, since a part
of it is of no use. Does not know who sends or who encodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from edgecache.flv import AUDIO, SCRIPT, VIDEO, Tag, encode_tag

GOP_BYTES: Final = 16 << 20
GOP_MS: Final = 12_000


@dataclass(frozen=True, slots=True)
class Head:
    """Configuration in force: bodies of the tags, b"" for none."""

    script: bytes = b""
    video: bytes = b""
    audio: bytes = b""

    def tags(self) -> Iterator[bytes]:
        """The encoded tags, at time 0."""
        for kind, body in ((SCRIPT, self.script), (VIDEO, self.video), (AUDIO, self.audio)):
            if body:
                yield encode_tag(kind, 0, body)


class Gop:
    """Tags since the last keyframe, while they stay within the bounds."""

    def __init__(self) -> None:
        self.head = Head()
        self.tags: list[Tag] = []
        self.arrived_s = 0.0
        self.whole = False
        self._bytes = 0

    def begin(self, head: Head, arrived_s: float) -> None:
        self.head, self.arrived_s = head, arrived_s
        self.tags, self._bytes, self.whole = [], 0, True

    def add(self, tag: Tag) -> None:
        """Keep the tag; past a bound forget all."""
        if not self.whole:
            return
        self.tags.append(tag)
        self._bytes += len(tag.body)
        if self._bytes > GOP_BYTES or self.span_ms(tag.timestamp) > GOP_MS:
            self.tags, self._bytes, self.whole = [], 0, False

    def span_ms(self, now_ms: int) -> int:
        return now_ms - self.tags[0].timestamp if self.tags else 0
