"""What a publisher's data messages say of events, as markers. Sans-IO.

Laws: untrusted input: what cannot be read gives no marker, never an exception; names are reduced to
what a playlist may quote. Known: `onAdCue` (a SCTE-35 section in base64, as broadcast encoders send
it over RTMP) and `onCuePoint` (a name, and parameters of the publisher's own choice).
Knows nothing of FLV, clocks or playlists.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterable, Iterator
from typing import Final

from edgecache import amf

from .markers import Marker, MarkerError
from .timeline import Timeline

EVENTS: Final = frozenset(("onAdCue", "onCuePoint"))
MAX_SECONDS: Final = 7 * 86_400.0

_ODD: Final = re.compile(r"[^A-Za-z0-9_.:-]+")
_SECTION_MAX: Final = 4096  # bytes; a private section has 12 bits of length


def tell(said: Iterable[tuple[int, list[amf.Value]]], timeline: Timeline) -> Iterator[MarkerError]:
    """Put messages, each with the ms of the encoder's time where it stands in the media, into the
    timeline. Gives those that contradict what was told before."""
    for at_ms, values in said:
        began_ns = timeline.generations[-1].wall_ns(timeline.timing.segment_ns)
        marker = marker_of(values, at_ns=began_ns + at_ms * 1_000_000)
        try:
            if marker is not None:
                timeline.mark(marker)
        except MarkerError as error:
            yield error


def marker_of(values: list[amf.Value], *, at_ns: int) -> Marker | None:
    """The message `values` (name, object) as an event that starts at `at_ns` (wall clock). None:
    not an event, or of no use."""
    if len(values) < 2 or values[0] not in EVENTS or not isinstance(values[1], dict):
        return None
    told = values[1]
    if values[0] == "onAdCue":
        section = _section(told.get("cue"))
        if not section:
            return None
        name = _name(told.get("id")) or f"adcue-{at_ns // 1_000_000}"
        # a planned length: encoders say it when the break begins, and -1 when nobody knows
        planned_ns = _ns(told.get("duration"))
        return Marker(
            id=name, start_ns=at_ns, kind="scte35", planned_ns=planned_ns, scte35_cmd=section
        )
    more = told.get("parameters")
    more = more if isinstance(more, dict) else {}
    kind = _name(told.get("name"))
    name = _name(more.get("id")) or f"{kind or 'cue'}-{at_ns // 1_000_000}"[-64:]
    return Marker(id=name, start_ns=at_ns, kind=kind, duration_ns=_ns(more.get("duration")))


def _name(value: amf.Value | None) -> str:
    if isinstance(value, float):
        value = f"{value:g}"
    return _ODD.sub("-", value)[:64].strip("-") if isinstance(value, str) else ""


def _ns(value: amf.Value | None) -> int:
    if not isinstance(value, float) or not math.isfinite(value) or not 0 < value <= MAX_SECONDS:
        return 0
    return round(value * 1e9)


def _section(value: amf.Value | None) -> str:
    """splice_info_section in hex; "" when it is not one. It begins with its table id, 0xFC."""
    if not isinstance(value, str) or len(value) > 2 * _SECTION_MAX:
        return ""
    try:
        body = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return ""
    return body.hex() if body[:1] == b"\xfc" and len(body) <= _SECTION_MAX else ""
