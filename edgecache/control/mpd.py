"""DASH manifests as they pass through: which segments a dynamic MPD names, and which comes next.
Sans-IO.

Law: any bytes give a value or None; a document type declaration is refused (entities), time is
linear. Only SegmentTemplate is read, with a SegmentTimeline or a constant duration (ISO/IEC
23009-1 5.3.9); of several periods the last one is live. URLs are resolved against the MPD's path.
Does not know fetching, caching, or what time it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urljoin
from xml.etree import ElementTree

_DURATION: Final = re.compile(
    r"P(?:(\d{1,4})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,8})M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?)?", re.ASCII
)
_VARIABLE: Final = re.compile(r"\$(?:(RepresentationID|Number|Time|Bandwidth)(?:%0(\d{1,2})d)?)?\$")
_NEWEST: Final = 32  # segments of a timeline that are counted out


@dataclass(frozen=True)
class Representation:
    """One track. `listed`: (number, time) of the newest segments of its timeline, oldest first;
    empty with a constant duration: then segment n is there at `first_s` + (n - start) * `each_s`,
    unix time."""

    name: str
    initialization: str
    media: str  # a template, $RepresentationID$ and $Bandwidth$ filled in
    listed: tuple[tuple[int, int], ...]
    start: int
    first_s: float
    each_s: float

    def url(self, number: int, time: int = 0) -> str:
        return _fill(self.media, {"Number": number, "Time": time})

    def newest(self, now_s: float) -> int:
        """The number of the newest segment that is there by the constant duration; below `start`:
        none yet."""
        return self.start + int((now_s - self.first_s) // self.each_s)

    def due_s(self, number: int) -> float:
        """Unix time at which segment `number` is there, by the constant duration."""
        return self.first_s + (number - self.start) * self.each_s

    def pattern(self) -> re.Pattern[str]:
        """Matches the URLs of its segments, whichever number."""
        parts = _VARIABLE.split(self.media)
        return re.compile(r"\d+".join(re.escape(text) for text in parts[::3]), re.ASCII)


@dataclass(frozen=True)
class Mpd:
    """A dynamic presentation. `update_ms`: how often it is renewed; 0: it is not."""

    update_ms: int
    representations: tuple[Representation, ...]


def read(body: bytes, base: str) -> Mpd | None:
    """`base`: the path of the MPD. None: not an MPD, a static one, or not understood."""
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        return None
    try:
        root = ElementTree.fromstring(body)
        return _mpd(root, base)
    except (ElementTree.ParseError, ValueError, OverflowError, ZeroDivisionError):
        return None


def _mpd(root: ElementTree.Element, base: str) -> Mpd | None:
    periods = root.findall("{*}Period")
    if _local(root) != "MPD" or root.get("type") != "dynamic" or not periods:
        return None
    began_s = _date_s(root.get("availabilityStartTime", ""))
    period = periods[-1]
    start_s = began_s + duration_s(period.get("start", ""))
    base = _base(root, base)
    found = [
        item
        for adaptation in period.findall("{*}AdaptationSet")
        for item in _adaptation(adaptation, _base(period, base), start_s)
    ]
    update_s = duration_s(root.get("minimumUpdatePeriod", ""))
    return Mpd(round(update_s * 1000), tuple(found))


def _adaptation(
    adaptation: ElementTree.Element, base: str, start_s: float
) -> Iterator[Representation]:
    base = _base(adaptation, base)
    shared = adaptation.find("{*}SegmentTemplate")
    for item in adaptation.findall("{*}Representation"):
        own = item.find("{*}SegmentTemplate")
        template = own if own is not None else shared
        if template is None or not template.get("media"):
            continue
        inherited = shared.attrib if shared is not None else {}
        timeline = template.find("{*}SegmentTimeline")
        if timeline is None and shared is not None:
            timeline = shared.find("{*}SegmentTimeline")
        given = {**inherited, **template.attrib}
        yield _representation(item, _base(item, base), given, timeline, start_s)


def _representation(
    item: ElementTree.Element,
    base: str,
    given: Mapping[str, str],
    timeline: ElementTree.Element | None,
    start_s: float,
) -> Representation:
    name = item.get("id", "")
    known: dict[str, str | int] = {
        "RepresentationID": name,
        "Bandwidth": int(item.get("bandwidth", "0")),
    }
    scale = float(given.get("timescale", "1"))
    start = int(given.get("startNumber", "1"))
    each_s = int(given.get("duration", "0")) / scale
    early_s = float(given.get("availabilityTimeOffset", "0"))
    if timeline is None and not (0.01 <= each_s < 1e6 and early_s < 1e9):
        raise ValueError("neither a timeline nor a duration")
    initialization = _fill(given.get("initialization", ""), known)
    return Representation(
        name=name,
        initialization=urljoin(base, initialization) if initialization else "",
        media=urljoin(base, _fill(given["media"], known)),
        listed=() if timeline is None else _listed(timeline, start),
        start=start,
        first_s=start_s + each_s - early_s,
        each_s=each_s,
    )


def _listed(timeline: ElementTree.Element, number: int) -> tuple[tuple[int, int], ...]:
    """(number, time) of the newest; an open-ended repetition ends what can be counted."""
    found: list[tuple[int, int]] = []
    time = 0
    for run in timeline.findall("{*}S"):
        time = int(run.get("t", time))
        length, more = int(run.get("d", "0")), int(run.get("r", "0"))
        if more < 0 or length <= 0:
            break
        last = number + more
        skipped = max(more + 1 - _NEWEST, 0)
        number, time = number + skipped, time + skipped * length
        while number <= last:
            found.append((number, time))
            number, time = number + 1, time + length
        del found[:-_NEWEST]
    return tuple(found)


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _base(element: ElementTree.Element, base: str) -> str:
    found = element.find("{*}BaseURL")
    return urljoin(base, (found.text or "").strip()) if found is not None else base


def _fill(template: str, known: Mapping[str, str | int]) -> str:
    """Variables that are known replaced (5.3.9.4.4), others left; `$$` only with the numbers."""

    def put(match: re.Match[str]) -> str:
        value = known.get(match[1] or "")
        if value is None:
            return match[0]
        return f"{value:0{match[2]}d}" if match[2] and isinstance(value, int) else str(value)

    return _VARIABLE.sub(put, template)


def duration_s(text: str) -> float:
    """xs:duration without years and months; 0 when it is not one."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return 0.0
    days, hours, minutes, seconds = (float(value or 0) for value in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _date_s(text: str) -> float:
    """xs:dateTime as unix time; without a zone it is UTC. Raises ValueError."""
    if not text:
        return 0.0
    date = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return date.timestamp() if date.tzinfo else datetime.fromisoformat(text + "+00:00").timestamp()
