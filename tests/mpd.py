"""A DASH manifest as a player works it out: which paths it implies."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any

from mpegdash.nodes import MPEGDASH
from mpegdash.parser import MPEGDASHParser


def parse(text: str) -> MPEGDASH:
    return MPEGDASHParser.parse(text)


def seconds(value: str) -> float:
    """An xs:duration of seconds only, as ours are."""
    return float(value.removeprefix("PT").removesuffix("S"))


def _representations(period: Any) -> Iterator[tuple[Any, str]]:
    for adaptation in period.adaptation_sets:
        for representation in adaptation.representations:
            yield adaptation.segment_templates[0], representation.id


def inits(text: str, base: str) -> set[str]:
    """Paths of the init sections of all periods."""
    return {
        base + template.initialization.replace("$RepresentationID$", track)
        for period in parse(text).periods
        for template, track in _representations(period)
        if template.initialization  # WebVTT has none
    }


def segments(text: str, base: str) -> set[str]:
    """Paths of the segments of all periods that have ended."""
    paths = set()
    for period in parse(text).periods:
        if period.duration is None:
            continue
        for template, track in _representations(period):
            count = ceil(seconds(period.duration) * 1000 / template.duration)
            for number in range(template.start_number, template.start_number + count):
                uri = template.media.replace("$RepresentationID$", track)
                paths.add(base + uri.replace("$Number$", str(number)))
    return paths
