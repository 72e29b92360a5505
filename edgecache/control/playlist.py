"""HLS playlists as they pass through: what is needed to follow one, and no more. Sans-IO.

Law: read leniently, for a playlist of another server is what it is; any text gives a value or None,
in time that is linear in its length. URIs are returned as they stand there. What is not to be
fetched ahead is left out: gaps, byte ranges (the whole resource may still be growing), keys.
Sections are those of RFC 8216bis. Does not know fetching, caching, time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

_ATTRIBUTE: Final = re.compile(r'([A-Z0-9-]+)=(?:"([^"\r\n]*)"|([^,"\s]*))')
_NUMBER: Final = re.compile(r"\d{1,12}(?:\.\d{1,9})?", re.ASCII)
_ADVANCE_PARTS: Final = 3  # Advance Part Limit: 3, or 3 seconds of parts below a second (6.2.5.2)


@dataclass(frozen=True)
class Named:
    """A resource that a playlist names: `part` -1 is a whole segment."""

    msn: int
    part: int
    uri: str


@dataclass
class MediaPlaylist:
    """Times in milliseconds. The version is (msn, parts): segment `msn` is the first that is not
    complete, `parts` of its parts are listed; segment msn - 1 had `last_parts`."""

    target_ms: int = 0
    part_target_ms: int = 0  # 0: no parts
    msn: int = 0
    parts: int = 0
    last_parts: int = 0
    blocks: bool = False  # CAN-BLOCK-RELOAD
    skips: bool = False  # CAN-SKIP-UNTIL
    skips_dates: bool = False  # CAN-SKIP-DATERANGES
    dated: bool = False  # has EXT-X-DATERANGE
    ended: bool = False
    delta: bool = False  # some of its segments are skipped
    named: list[Named] = field(default_factory=list)  # segments and parts, oldest first
    maps: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    @property
    def version(self) -> tuple[int, int]:
        return self.msn, self.parts

    @property
    def hold_ms(self) -> int:
        """How long a request may be held (6.2.5.2); 0: it never is."""
        return 3 * self.target_ms if self.blocks and not self.ended else 0

    @property
    def advance(self) -> int:
        """Advance Part Limit, in parts; 0: no parts."""
        if not self.part_target_ms:
            return 0
        return max(_ADVANCE_PARTS, -(-3000 // self.part_target_ms))


def read(text: str) -> MediaPlaylist | None:
    """A media playlist (4.4.3.1: it has a target duration); None for anything else."""
    if not text.startswith("#EXTM3U"):
        return None
    reader = _Reader()
    for line in text.splitlines():
        reader.line(line.strip())
    return reader.found if reader.found.target_ms else None


class _Reader:
    """One pass, line by line."""

    def __init__(self) -> None:
        self.found = MediaPlaylist()
        self._gap = self._ranged = False

    def line(self, line: str) -> None:
        if line.startswith("#EXT"):
            tag, _, value = line.partition(":")
            handle = _TAGS.get(tag)
            if handle is not None:
                handle(self, value)
        elif line and not line.startswith("#"):
            self._segment(line)

    def _segment(self, uri: str) -> None:
        found = self.found
        if not (self._gap or self._ranged):
            found.named.append(Named(found.msn, -1, uri))
        found.msn += 1
        found.last_parts, found.parts = found.parts, 0
        self._gap = self._ranged = False

    def target(self, value: str) -> None:
        self.found.target_ms = _ms(value)

    def part_target(self, value: str) -> None:
        self.found.part_target_ms = _ms(attributes(value).get("PART-TARGET", ""))

    def control(self, value: str) -> None:
        given = attributes(value)
        self.found.blocks = given.get("CAN-BLOCK-RELOAD") == "YES"
        self.found.skips = "CAN-SKIP-UNTIL" in given
        self.found.skips_dates = given.get("CAN-SKIP-DATERANGES") == "YES"

    def date_range(self, _: str) -> None:
        self.found.dated = True

    def sequence(self, value: str) -> None:
        self.found.msn = _ms(value) // 1000

    def skip(self, value: str) -> None:
        self.found.delta = True
        self.found.msn += _ms(attributes(value).get("SKIPPED-SEGMENTS", "")) // 1000

    def part(self, value: str) -> None:
        given = attributes(value)
        if "URI" in given and given.get("GAP") != "YES" and "BYTERANGE" not in given:
            self.found.named.append(Named(self.found.msn, self.found.parts, given["URI"]))
        self.found.parts += 1

    def map(self, value: str) -> None:
        given = attributes(value)
        uri = given.get("URI", "")
        if uri and "BYTERANGE" not in given and uri not in self.found.maps[-1:]:
            self.found.maps.append(uri)

    def hint(self, value: str) -> None:
        given = attributes(value)
        if "URI" in given and not {"BYTERANGE-START", "BYTERANGE-LENGTH"} & given.keys():
            self.found.hints.append(given["URI"])

    def gap(self, _: str) -> None:
        self._gap = True

    def byte_range(self, _: str) -> None:
        self._ranged = True

    def end(self, _: str) -> None:
        self.found.ended = True


_TAGS: Final = {
    "#EXT-X-TARGETDURATION": _Reader.target,
    "#EXT-X-PART-INF": _Reader.part_target,
    "#EXT-X-SERVER-CONTROL": _Reader.control,
    "#EXT-X-DATERANGE": _Reader.date_range,
    "#EXT-X-MEDIA-SEQUENCE": _Reader.sequence,
    "#EXT-X-SKIP": _Reader.skip,
    "#EXT-X-PART": _Reader.part,
    "#EXT-X-MAP": _Reader.map,
    "#EXT-X-PRELOAD-HINT": _Reader.hint,
    "#EXT-X-GAP": _Reader.gap,
    "#EXT-X-BYTERANGE": _Reader.byte_range,
    "#EXT-X-ENDLIST": _Reader.end,
}


def attributes(text: str) -> Mapping[str, str]:
    """An attribute list (4.2) as name -> value without quotes."""
    return dict(_attributes(text))


def _attributes(text: str) -> Iterator[tuple[str, str]]:
    for match in _ATTRIBUTE.finditer(text):
        yield match[1], match[3] if match[2] is None else match[2]


def _ms(text: str) -> int:
    """Decimal seconds (or any other number, times 1000) at the front; 0 when there are none."""
    match = _NUMBER.match(text)
    return round(float(match[0]) * 1000) if match else 0
