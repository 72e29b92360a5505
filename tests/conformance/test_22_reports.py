"""Rendition reports (RFC 8216bis 4.4.5.4, B.1)."""

from __future__ import annotations

from tests.conformance.broadcast import AT_ONCE_S, TRACKS, Broadcast, Door, each, wanted
from tests.conformance.rules import MUST, rule


@rule(
    "B.1",
    MUST,
    "Exactly one EXT-X-RENDITION-REPORT for each other media playlist, by relative URI.",
)
def test_one_report_for_every_other_rendition(door: Door, broadcast: Broadcast) -> None:
    def holds(track: str) -> None:
        uris = sorted(report["URI"] for report in door.newest(track).reports)
        assert uris == sorted(f"{other}.m3u8" for other in TRACKS if other != track)

    each(holds)


@rule(
    "4.4.5.4",
    MUST,
    "What a report says is last can be had without waiting.",
)
def test_reports_are_not_ahead(door: Door, broadcast: Broadcast) -> None:
    def holds(track: str) -> None:
        for report in door.newest(track).reports:
            last = int(report["LAST-MSN"]), int(report["LAST-PART"])
            timed = door.get(report["URI"] + wanted(*last))
            assert timed.media.last >= last
            assert timed.took_s < AT_ONCE_S

    each(holds)
