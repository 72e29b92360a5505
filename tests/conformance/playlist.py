"""Playlists as values: what a strict client understands of the text (RFC 8216bis 4.4).

Law: what cannot be placed raises ValueError; nothing is guessed. Names in the text are not looked
into: numbers come from the tags, so this tells what a player would know, and no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urljoin

from tests.conformance import grammar


def attributes(value: str) -> dict[str, str]:
    """Name -> value, quotes off."""
    return {name: text.strip('"') for name, text in grammar.attributes(value)}


@dataclass(frozen=True, slots=True)
class Part:
    uri: str
    duration_s: float
    independent: bool
    gap: bool


@dataclass(slots=True)
class Segment:
    """One segment, whole when it has a `uri`. discontinuity: its sequence number. lines: all that
    the playlist says of it but its parts. late_tags: those that stand behind its first part."""

    msn: int
    discontinuity: int
    map_uri: str | None
    tagged: bool = False
    date: datetime | None = None
    gap: bool = False
    duration_s: float = 0.0
    uri: str | None = None
    parts: list[Part] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    late_tags: list[str] = field(default_factory=list)

    @property
    def length_s(self) -> float:
        """So far."""
        return self.duration_s or sum(part.duration_s for part in self.parts)


@dataclass(slots=True)
class Media:
    """A media playlist. `header`: the tags of the whole (4.4.3). `skipped`: segments that a delta
    update leaves out; `segments` begin behind them. `open`: the parts that follow the last whole
    segment, None when there is none."""

    text: str
    header: dict[str, str] = field(default_factory=dict)
    skipped: int = 0
    segments: list[Segment] = field(default_factory=list)
    open: Segment | None = None
    hints: list[dict[str, str]] = field(default_factory=list)
    reports: list[dict[str, str]] = field(default_factory=list)
    events: list[dict[str, str]] = field(default_factory=list)

    @property
    def target_s(self) -> int:
        return int(self.header["EXT-X-TARGETDURATION"])

    @property
    def part_target_s(self) -> float:
        return float(attributes(self.header["EXT-X-PART-INF"])["PART-TARGET"])

    @property
    def control(self) -> dict[str, str]:
        return attributes(self.header["EXT-X-SERVER-CONTROL"])

    @property
    def first_msn(self) -> int:
        return int(self.header.get("EXT-X-MEDIA-SEQUENCE", "0"))

    @property
    def ended(self) -> bool:
        return "EXT-X-ENDLIST" in self.header

    @property
    def every(self) -> list[Segment]:
        """The whole ones and the open one."""
        return [*self.segments, self.open] if self.open else self.segments

    @property
    def parts(self) -> list[Part]:
        return [part for segment in self.every for part in segment.parts]

    @property
    def last(self) -> tuple[int, int]:
        """(media sequence number, part index) of the newest part; the index of a segment without
        parts is −1."""
        newest = self.every[-1]
        return newest.msn, len(newest.parts) - 1

    @property
    def next(self) -> tuple[int, int]:
        """What a client asks for next (6.3.8)."""
        if self.open:
            return self.open.msn, len(self.open.parts)
        return self.segments[-1].msn + 1, 0

    @property
    def hint(self) -> str | None:
        """URI of the part that comes next."""
        return next((h["URI"] for h in self.hints if h["TYPE"] == "PART"), None)

    @property
    def hinted_map(self) -> str | None:
        """URI of the init section that comes with it, if that is another."""
        return next((h["URI"] for h in self.hints if h["TYPE"] == "MAP"), None)

    @property
    def duration_s(self) -> float:
        return sum(segment.length_s for segment in self.every)

    def segment(self, msn: int) -> Segment:
        return next(segment for segment in self.every if segment.msn == msn)


class _Reader:
    """Lines in, a Media out."""

    def __init__(self, text: str) -> None:
        self.media = Media(text)
        self._map: str | None = None
        self._passed = 0  # EXT-X-DISCONTINUITY tags
        self._segment: Segment | None = None

    def line(self, line: str) -> None:
        if not line.startswith("#EXT"):
            if line and not line.startswith("#"):
                self._uri(line)
            return
        name, _, value = line[1:].partition(":")
        media = self.media
        if name == "EXT-X-SKIP":
            media.skipped = int(attributes(value)["SKIPPED-SEGMENTS"])
        elif name == "EXT-X-PRELOAD-HINT":
            media.hints.append(attributes(value))
        elif name == "EXT-X-DATERANGE":
            media.events.append(attributes(value))
        elif name == "EXT-X-RENDITION-REPORT":
            media.reports.append(attributes(value))
        elif name == "EXT-X-PART":
            given = attributes(value)
            part = Part(
                given["URI"],
                float(given["DURATION"]),
                given.get("INDEPENDENT") == "YES",
                given.get("GAP") == "YES",
            )
            self._at().parts.append(part)
        elif name in _OF_SEGMENT:
            self._tag(name, value, line)
        else:
            media.header[name] = value

    def _at(self) -> Segment:
        """The segment that is being described."""
        if self._segment is None:
            media = self.media
            first = int(media.header.get("EXT-X-DISCONTINUITY-SEQUENCE", "0"))
            msn = media.first_msn + media.skipped + len(media.segments)
            self._segment = Segment(msn, first + self._passed, self._map)
        return self._segment

    def _tag(self, name: str, value: str, line: str) -> None:
        segment = self._at()
        segment.lines.append(line)
        if segment.parts and name not in ("EXTINF", "EXT-X-GAP"):
            segment.late_tags.append(line)
        if name == "EXT-X-DISCONTINUITY":
            self._passed += 1
            segment.tagged, segment.discontinuity = True, segment.discontinuity + 1
        elif name == "EXT-X-MAP":
            segment.map_uri = self._map = attributes(value)["URI"]
        elif name == "EXT-X-PROGRAM-DATE-TIME":
            segment.date = datetime.fromisoformat(value)
        elif name == "EXT-X-GAP":
            segment.gap = True
        elif name == "EXTINF":
            segment.duration_s = float(value.partition(",")[0])

    def _uri(self, line: str) -> None:
        segment = self._segment
        if segment is None or not segment.duration_s:
            raise ValueError(f"{line}: a URI without EXTINF")
        segment.uri = line
        segment.lines.append(line)
        self.media.segments.append(segment)
        self._segment = None

    def done(self) -> Media:
        self.media.open, self._segment = self._segment, None
        if self.media.open and self.media.open.duration_s:
            raise ValueError("EXTINF without a URI")
        return self.media


_OF_SEGMENT = frozenset(
    ("EXTINF", "EXT-X-DISCONTINUITY", "EXT-X-MAP", "EXT-X-PROGRAM-DATE-TIME", "EXT-X-GAP")
)


def read_media(text: str) -> Media:
    """A media playlist, whole or delta. Raises ValueError."""
    reader = _Reader(text)
    for line in text.splitlines():
        reader.line(line)
    return reader.done()


@dataclass(frozen=True, slots=True)
class Variant:
    uri: str
    attributes: dict[str, str]


@dataclass(frozen=True, slots=True)
class Multivariant:
    variants: list[Variant]
    renditions: list[dict[str, str]]

    def playlists(self, base: str) -> Iterator[str]:
        """Paths of all media playlists; `base`: the path of this one."""
        for variant in self.variants:
            yield urljoin(base, variant.uri)
        for rendition in self.renditions:
            if "URI" in rendition:
                yield urljoin(base, rendition["URI"])


def read_multivariant(text: str) -> Multivariant:
    """Raises ValueError when a variant has no URI."""
    found = Multivariant([], [])
    lines = iter(text.splitlines())
    for line in lines:
        name, _, value = line.partition(":")
        if name == "#EXT-X-STREAM-INF":
            uri = next(lines, "#")
            if uri.startswith("#"):
                raise ValueError(f"{line}: no URI follows")
            found.variants.append(Variant(uri, attributes(value)))
        elif name == "#EXT-X-MEDIA":
            found.renditions.append(attributes(value))
    return found
