"""Events are told in order, only added to, and leave with what they happened in."""

from __future__ import annotations

import pytest

from origin.markers import MAX_MARKERS, Marker, MarkerError, Markers
from origin.timing import NS

START = 1_763_800_000 * NS
OUT = Marker(id="a", start_ns=START, kind="ad", planned_ns=30 * NS, scte35_out="fc30")


def test_what_was_said_is_added_to_and_not_taken_back() -> None:
    markers = Markers()
    markers.tell(OUT, at_ns=1)
    markers.tell(Marker(id="a", start_ns=START, duration_ns=20 * NS, scte35_in="fc31"), at_ns=2)
    assert [(told.marker.id, told.at_ns) for told in markers.told] == [("a", 1), ("a", 2)]
    assert markers.start_of("a") == START
    assert markers.start_of("b") is None
    with pytest.raises(MarkerError, match="a: start_ns was told as"):
        markers.tell(Marker(id="a", start_ns=START + 1), at_ns=3)
    with pytest.raises(MarkerError, match="a: scte35_out was told as fc30, found fc32"):
        markers.tell(Marker(id="a", start_ns=START, scte35_out="fc32"), at_ns=3)
    assert len(markers) == 2


def test_an_event_leaves_when_nothing_of_it_is_listed() -> None:
    markers = Markers()
    markers.tell(OUT, at_ns=0)
    markers.tell(Marker(id="b", start_ns=START + 5 * NS), at_ns=0)
    markers.expire(first_wall_ns=START + 6 * NS, at_ns=50 * NS, recent_ns=12 * NS)
    assert [told.marker.id for told in markers.told] == ["a"]  # planned until 30
    assert markers.removed == ["b"]
    # the break was cut short: its end counts, whatever was planned
    markers.tell(Marker(id="a", start_ns=START, duration_ns=40 * NS), at_ns=50 * NS)
    markers.expire(first_wall_ns=START + 35 * NS, at_ns=60 * NS, recent_ns=12 * NS)
    assert len(markers) == 2
    markers.expire(first_wall_ns=START + 41 * NS, at_ns=70 * NS, recent_ns=12 * NS)
    assert len(markers) == 0
    assert markers.removed == ["a"]  # b is no longer recent


def test_tellings_are_bounded() -> None:
    markers = Markers()
    for number in range(MAX_MARKERS + 3):
        markers.tell(Marker(id=str(number), start_ns=START), at_ns=number)
    assert len(markers) == MAX_MARKERS
    assert markers.removed == ["0", "1", "2"]
