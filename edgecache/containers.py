"""What a publisher's body may be, and who reads its pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .flv import AUDIO, CONFIG, HEADER, MAX_TRACKS, SCRIPT, VIDEO, FlvReader, Tag
from .isobmff import BoxReader
from .matroska import EbmlReader
from .mpegts import TsReader
from .pieces import Piece, Reader

FLV: Final = "video/x-flv"
_ORDER: Final = {SCRIPT: 0, VIDEO: 1, AUDIO: 2}
_METADATA: Final = b"\x02\x00\x0aonMetaData"


class TagReader:
    """FLV: pieces are tags, each one number. Raises FlvError."""

    header = HEADER

    def __init__(self) -> None:
        self._reader = FlvReader()
        self._has_picture = False

    def feed(self, data: bytes) -> list[Piece]:
        return [self.piece(tag) for tag in self._reader.feed(data)]

    def end(self) -> list[Piece]:
        return []  # a part of a tag is of no use

    def piece(self, tag: Tag) -> Piece:
        """The next tag. Bounded: configuration of MAX_TRACKS tracks of each kind is remembered."""
        self._has_picture |= tag.kind == VIDEO
        configures = tag.packet == CONFIG or (tag.kind == SCRIPT and tag.body.startswith(_METADATA))
        return Piece(
            tag.encode(),
            1,
            sets=f"{_ORDER[tag.kind]} {tag.track}" if configures and tag.track < MAX_TRACKS else "",
            is_entry=tag.is_entry(has_picture=self._has_picture),
        )


READERS: Final[dict[str, Callable[[], Reader]]] = {
    FLV: TagReader,
    "video/mp2t": TsReader,
    "video/mp4": BoxReader,
    "video/webm": EbmlReader,
    "video/x-matroska": EbmlReader,
}
