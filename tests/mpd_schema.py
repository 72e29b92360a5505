"""Is a text a DASH manifest? What the schema of ISO/IEC 23009-1:2022 says of each element that we
write (no package carries the schema itself), and what its clauses and the profile of live services
(8.4) demand of them together.

Strict: an element or attribute that is not in the table is a problem, allowed by the standard or
not, so whoever adds one to the manifest reads what it is allowed to be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Final
from xml.etree import ElementTree

Element = ElementTree.Element

NAMESPACE: Final = "{urn:mpeg:dash:schema:mpd:2011}"
LIVE: Final = "urn:mpeg:dash:profile:isoff-live:2011"

# Lexical spaces of XML Schema and of the standard's own simple types.
UINT: Final = r"\d{1,10}"
ULONG: Final = r"\d{1,20}"
DOUBLE: Final = r"\d+(\.\d+)?"
BOOLEAN: Final = r"true|false|0|1"
DURATION: Final = r"P(?!$)(\d+D)?(T(?!$)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?"
DATE_TIME: Final = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"
URI: Final = r"\S+"
WORD: Final = r"\S+"
FRAME_RATE: Final = r"\d+(/[1-9]\d*)?"
SAP: Final = r"[0-6]"
MIME: Final = r"[a-z]+/[a-z0-9.+-]+"
CODECS: Final = r"[A-Za-z0-9.]+(,[A-Za-z0-9.]+)*"
LANGUAGE: Final = r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*"
TEXT: Final = r".*"


@dataclass(frozen=True)
class Kind:
    """An element: its attributes by the form of their values, those that must be there, and its
    children in their order, each by how often: "?", "*" or "+"."""

    attributes: Mapping[str, str]
    required: tuple[str, ...] = ()
    children: Mapping[str, str] = field(default_factory=dict)


DESCRIPTOR: Final = Kind({"schemeIdUri": URI, "value": TEXT, "id": TEXT}, ("schemeIdUri",))
KINDS: Final = {
    "MPD": Kind(
        {
            "profiles": r"\S+(,\S+)*",
            "type": "static|dynamic",
            "publishTime": DATE_TIME,
            "availabilityStartTime": DATE_TIME,
            "mediaPresentationDuration": DURATION,
            "minimumUpdatePeriod": DURATION,
            "minBufferTime": DURATION,
            "timeShiftBufferDepth": DURATION,
            "suggestedPresentationDelay": DURATION,
            "maxSegmentDuration": DURATION,
        },
        ("profiles", "minBufferTime"),
        {"ServiceDescription": "*", "Period": "+", "UTCTiming": "*"},
    ),
    "ServiceDescription": Kind({"id": UINT}, ("id",), {"Latency": "*", "PlaybackRate": "*"}),
    "Latency": Kind({"referenceId": UINT, "target": UINT, "min": UINT, "max": UINT}),
    "PlaybackRate": Kind({"min": DOUBLE, "max": DOUBLE}),
    "Period": Kind(
        {"id": TEXT, "start": DURATION, "duration": DURATION}, (), {"AdaptationSet": "*"}
    ),
    "AdaptationSet": Kind(
        {
            "id": UINT,
            "contentType": "video|audio|text|image|application|font",
            "mimeType": MIME,
            "lang": LANGUAGE,
            "segmentAlignment": BOOLEAN,
            "startWithSAP": SAP,
        },
        (),
        {"ProducerReferenceTime": "*", "Role": "*", "SegmentTemplate": "?", "Representation": "*"},
    ),
    "ProducerReferenceTime": Kind(
        {
            "id": UINT,
            "inband": BOOLEAN,
            "type": "encoder|captured|application",
            "wallClockTime": DATE_TIME,
            "presentationTime": ULONG,
        },
        ("id", "wallClockTime", "presentationTime"),
        {"UTCTiming": "?"},
    ),
    "SegmentTemplate": Kind(
        {
            "timescale": UINT,
            "presentationTimeOffset": ULONG,
            "duration": UINT,
            "startNumber": UINT,
            "initialization": TEXT,
            "media": TEXT,
            "availabilityTimeOffset": f"INF|{DOUBLE}",
            "availabilityTimeComplete": BOOLEAN,
        },
    ),
    "Representation": Kind(
        {
            "id": WORD,
            "bandwidth": UINT,
            "codecs": CODECS,
            "width": UINT,
            "height": UINT,
            "frameRate": FRAME_RATE,
            "audioSamplingRate": r"\d+( \d+)?",
        },
        ("id", "bandwidth"),
        {"AudioChannelConfiguration": "*"},
    ),
    "AudioChannelConfiguration": DESCRIPTOR,
    "Role": DESCRIPTOR,
    "UTCTiming": DESCRIPTOR,
}


def problems(text: str) -> list[str]:
    """What is wrong with it, each with where; none: it is one."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        return [f"XML: {error}"]
    if root.tag != f"{NAMESPACE}MPD":
        return [f"root: found {root.tag}"]
    # clauses are only asked of what has the right form
    return [*_form(root, "MPD")] or [*_mpd(root), *_periods(root), *_adaptations(root)]


def _form(element: Element, where: str) -> Iterator[str]:
    """What the schema says of an element and all that is in it."""
    kind = KINDS[element.tag.removeprefix(NAMESPACE)]
    for name, value in element.attrib.items():
        if name not in kind.attributes:
            yield f"{where}@{name}: unknown"
        elif not re.fullmatch(kind.attributes[name], value):
            yield f"{where}@{name}: found {value!r}"
    yield from (f"{where}@{name}: missing" for name in kind.required if name not in element.attrib)
    if (element.text or "").strip():
        yield f"{where}: found text"
    found = [child.tag.removeprefix(NAMESPACE) for child in element]
    unknown = [name for name in found if name not in kind.children]
    if unknown:
        yield from (f"{where}/{name}: unknown" for name in unknown)
        return
    order = list(kind.children)
    if [*map(order.index, found)] != sorted(map(order.index, found)):
        yield f"{where}: found {' '.join(found)}, in another order"
    for name, often in kind.children.items():
        if (often == "+" and name not in found) or (often == "?" and found.count(name) > 1):
            yield f"{where}/{name}: found {found.count(name)}, allowed {often}"
    for child, name in zip(element, found, strict=True):
        yield from _form(child, f"{where}/{name}")


def _seconds(text: str) -> Fraction:
    units = {"D": 86_400, "H": 3600, "M": 60, "S": 1}
    found = re.findall(r"([\d.]+)([DHMS])", text)
    return sum((Fraction(value) * units[unit] for value, unit in found), Fraction())


def _named(element: Element, path: str) -> list[Element]:
    return element.findall("/".join(NAMESPACE + name for name in path.split("/")))


def _mpd(root: Element) -> Iterator[str]:
    """5.3.1.2."""
    dynamic = root.get("type", "static") == "dynamic"
    needed = ("availabilityStartTime", "publishTime", "minimumUpdatePeriod") if dynamic else ()
    banned = () if dynamic else ("timeShiftBufferDepth", "minimumUpdatePeriod")
    yield from (
        f"MPD@{name}: missing in a dynamic one" for name in needed if name not in root.attrib
    )
    yield from (f"MPD@{name}: in a static one" for name in banned if name in root.attrib)
    last = _named(root, "Period")[-1]
    if not dynamic and "mediaPresentationDuration" not in root.attrib:
        yield "MPD@mediaPresentationDuration: missing in a static one"
    if dynamic and "mediaPresentationDuration" in root.attrib and "duration" not in last.attrib:
        yield "MPD@mediaPresentationDuration: the last period has no end"
    if dynamic and not _named(root, "UTCTiming"):
        yield "MPD/UTCTiming: missing in a dynamic one"
    if LIVE not in root.attrib["profiles"].split(","):
        yield f"MPD@profiles: without {LIVE}"


def _periods(root: Element) -> Iterator[str]:
    """5.3.2.2: they follow on, and only the last of a dynamic one may be open."""
    periods = _named(root, "Period")
    yield from _unique("Period", [period.get("id") for period in periods])
    if root.get("type") == "dynamic":
        yield from ("Period@start: missing" for period in periods if "start" not in period.attrib)
    for period, after in pairwise(periods):
        start, end = period.get("start"), after.get("start")
        if start is None or end is None:
            continue
        if _seconds(start) + _seconds(period.get("duration", "PT0S")) > _seconds(end):
            yield f"Period {period.get('id')}: ends after {after.get('id')} has begun"


def _adaptations(root: Element) -> Iterator[str]:
    longest = _seconds(root.get("maxSegmentDuration", "PT0S"))
    wanted = {each.get("referenceId") for each in _named(root, "ServiceDescription/Latency")}
    for period in _named(root, "Period"):
        where = f"Period {period.get('id')}"
        sets = _named(period, "AdaptationSet")
        yield from _unique(f"{where}/AdaptationSet", [each.get("id") for each in sets])
        tracks = _named(period, "AdaptationSet/Representation")
        yield from _unique(f"{where}/Representation", [each.get("id") for each in tracks])
        for adaptation in sets:
            told = {each.get("id") for each in _named(adaptation, "ProducerReferenceTime")}
            if not wanted - {None} <= told:  # Annex K.3.2
                yield f"{where}: Latency@referenceId {wanted} without its ProducerReferenceTime"
            yield from _adaptation(adaptation, where, longest)


def _adaptation(adaptation: Element, where: str, longest: Fraction) -> Iterator[str]:
    """5.3.3, 5.3.5, 5.3.9 and, of the live profile, 8.4.3."""
    where = f"{where}/AdaptationSet {adaptation.get('id')}"
    tracks = _named(adaptation, "Representation")
    if not tracks:
        yield f"{where}: no Representation"
    switchable = adaptation.get("startWithSAP") in {"1", "2", "3"}
    if adaptation.get("segmentAlignment") != "true" or not switchable:
        yield f"{where}: neither aligned nor switchable"
    if "mimeType" not in adaptation.attrib:
        yield f"{where}@mimeType: missing"
    yield from (
        f"{where}/{t.get('id')}@codecs: missing" for t in tracks if "codecs" not in t.attrib
    )
    templates = _named(adaptation, "SegmentTemplate")
    if not templates:
        yield f"{where}/SegmentTemplate: missing"
        return
    track, number = "RepresentationID", "Number"
    addresses = {"media": {track, number}, "initialization": {track}}
    if adaptation.get("mimeType") == "text/vtt":  # which has no init section
        del addresses["initialization"]
    yield from _template(templates[0], f"{where}/SegmentTemplate", longest, addresses)


def _template(
    template: Element, where: str, longest: Fraction, addresses: Mapping[str, set[str]]
) -> Iterator[str]:
    """5.3.9.4: what a player makes addresses and times of."""
    if "duration" not in template.attrib:
        yield f"{where}@duration: missing, and no SegmentTimeline"
        return
    duration = Fraction(int(template.attrib["duration"]), int(template.get("timescale", "1")))
    if not 0 < duration <= longest:
        yield f"{where}@duration: found {duration} s, maxSegmentDuration is {longest}"
    for name, wanted in addresses.items():
        text = template.get(name, "")
        if text.count("$") % 2 or set(text.split("$")[1::2]) != wanted:
            yield f"{where}@{name}: found {text!r}"
    offset = template.get("availabilityTimeOffset")
    if offset is not None and Fraction(offset) >= duration:
        yield f"{where}@availabilityTimeOffset: found {offset}, a segment lasts {duration} s"
    if offset is None and "availabilityTimeComplete" in template.attrib:
        yield f"{where}@availabilityTimeComplete: without availabilityTimeOffset"


def _unique(what: str, ids: Sequence[str | None]) -> Iterator[str]:
    if None in ids or len(set(ids)) < len(ids):
        yield f"{what}@id: found {ids}"
