"""All versions that viewers were given, from the first to ENDLIST, in order (RFC 8216bis 6.2).

The record runs through a full window, a silence, a killed encoder and the end; where a rule is
about time, what passed in those troubles is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise

from tests.conformance.broadcast import MEDIA, TRACKS, Broadcast, Door, Seen
from tests.conformance.playlist import Media, Segment
from tests.conformance.rules import MUST, MUST_NOT, SHOULD, rule

CONSTANT = ("EXT-X-TARGETDURATION", "EXT-X-PART-INF", "EXT-X-SERVER-CONTROL")
COUNTED = ("EXT-X-MEDIA-SEQUENCE", "EXT-X-DISCONTINUITY-SEQUENCE", "EXT-X-ENDLIST")
MOMENT = timedelta(milliseconds=2)  # dates are told in whole milliseconds
OVERLAP = timedelta(seconds=1)  # allowed below it (6.2.1): a new encoder's first sound begins early


def versions(door: Door) -> Iterator[tuple[Media, Media]]:
    """Each version of each rendition with the one before it."""
    for track in TRACKS:
        for before, after in pairwise(door.record[track]):
            yield before.media, after.media


def every(door: Door) -> Iterator[Media]:
    for track in TRACKS:
        for seen in door.record[track]:
            yield seen.media


def made(door: Door, track: str) -> dict[int, Segment]:
    """Whole segments by number, as they were listed last."""
    return {s.msn: s for seen in door.record[track] for s in seen.media.segments}


def said(segment: Segment) -> tuple[list[str], str | None]:
    """What a playlist says of a segment: its own lines, and the map it is in the scope of."""
    return [ln for ln in segment.lines if not ln.startswith("#EXT-X-MAP")], segment.map_uri


@rule(
    "6.2.1",
    MUST,
    "From version to version lines are appended, and removed in front; what is said of a "
    "segment stays.",
)
def test_only_allowed_changes_are_made(door: Door, ended: Broadcast) -> None:
    for before, after in versions(door):
        kept = {s.msn: s for s in after.every}
        for segment in before.every:
            now = kept.get(segment.msn)
            if now is None:
                assert segment.msn < after.first_msn
                continue
            if segment.uri:
                assert said(now) == said(segment)
            assert not now.parts or now.parts[: len(segment.parts)] == segment.parts
        changed = {k for k, v in before.header.items() if after.header.get(k) != v}
        assert changed <= set(COUNTED)
        assert after.header.keys() - before.header.keys() <= {"EXT-X-ENDLIST"}


@rule(
    "6.2.2",
    MUST,
    "EXT-X-MEDIA-SEQUENCE never decreases and grows by one for each segment that left.",
)
def test_media_sequence_counts_what_left(door: Door, ended: Broadcast) -> None:
    for before, after in versions(door):
        left = after.first_msn - before.first_msn
        assert left >= 0
        kept = [segment.uri for segment in before.segments][left:]
        assert [segment.uri for segment in after.segments][: len(kept)] == kept
        assert kept


@rule(
    "6.2.1, 4.4.3.8",
    MUST,
    "Target duration, part target and server control are the same all along, in all renditions.",
)
def test_the_header_never_changes(door: Door, ended: Broadcast) -> None:
    found = {tuple(media.header[name] for name in CONSTANT) for media in every(door)}
    assert len(found) == 1


@rule(
    "4.4.3.1",
    MUST,
    "Each EXTINF rounds to the target duration or less.",
)
def test_segments_are_within_the_target(door: Door, ended: Broadcast) -> None:
    for media in every(door):
        longest_s = max(segment.duration_s for segment in media.segments)
        assert int(longest_s + 0.5) <= media.target_s


@rule(
    "4.4.4.9",
    MUST,
    "No part is longer than PART-TARGET.",
)
def test_parts_are_within_the_part_target(door: Door, ended: Broadcast) -> None:
    for media in every(door):
        assert all(part.duration_s <= media.part_target_s for part in media.parts)


@rule(
    "4.4.4.9",
    MUST,
    "Each is 85 % of PART-TARGET or more, but for independent ones and a segment's last.",
)
def test_parts_are_not_too_short(door: Door, ended: Broadcast) -> None:
    for media in every(door):
        for segment in media.every:
            final = segment.parts[-1:] if segment.uri else []
            for part in segment.parts[: len(segment.parts) - len(final)]:
                enough = part.duration_s >= 0.85 * media.part_target_s
                assert enough or part.independent or part.gap, part


@rule(
    "6.2.2",
    MUST_NOT,
    "Nothing is removed from a playlist that would leave it under three target durations.",
)
def test_never_shorter_than_three_targets(door: Door, ended: Broadcast) -> None:
    removed = 0
    for before, after in versions(door):
        if after.first_msn > before.first_msn:
            removed += 1
            assert after.duration_s >= 3 * after.target_s
    assert removed


@rule(
    "6.2.2",
    SHOULD,
    "Part tags leave when they are three target durations from the end.",
)
def test_old_parts_are_no_longer_listed(door: Door, ended: Broadcast) -> None:
    for media in every(door):
        behind_s = 0.0
        for segment in reversed(media.every):
            assert not segment.parts or behind_s <= 3 * media.target_s, segment.uri
            behind_s += segment.length_s


@rule(
    "6.2.2",
    MUST,
    "A playlist that has a discontinuity and loses segments has EXT-X-DISCONTINUITY-"
    "SEQUENCE, and it never decreases.",
)
def test_discontinuities_are_counted(door: Door, ended: Broadcast) -> None:
    name = "EXT-X-DISCONTINUITY-SEQUENCE"
    for media in every(door):
        assert name in media.header or not any(segment.tagged for segment in media.every)
    for before, after in versions(door):
        assert int(after.header.get(name, "0")) >= int(before.header.get(name, "0"))
    assert int(door.record["hi"][-1].media.header[name]) > 0


@rule(
    "6.2.4",
    MUST,
    "A segment's discontinuity number is the same in all renditions and all versions.",
)
def test_discontinuity_numbers_match(door: Door, ended: Broadcast) -> None:
    found: dict[int, set[int]] = {}
    for media in every(door):
        for segment in media.every:
            found.setdefault(segment.msn, set()).add(segment.discontinuity)
    assert {msn: numbers for msn, numbers in found.items() if len(numbers) > 1} == {}


@rule(
    "4.4.4.3",
    MUST,
    "When the encoder was killed there is one discontinuity, at the same segment in all "
    "renditions, with a new map.",
)
def test_a_restarted_encoder_is_a_discontinuity(door: Door, ended: Broadcast) -> None:
    places = set()
    for track in TRACKS:
        segments = made(door, track)
        tagged = [msn for msn, segment in segments.items() if segment.tagged]
        assert len(tagged) == 1
        if track in MEDIA:
            assert segments[tagged[0]].map_uri != segments[min(segments)].map_uri
        places.add(tagged[0])
    assert len(places) == 1


@rule(
    "B.1",
    MUST,
    "A version made between two encoders hints at the init section of the part it hints at, with "
    "TYPE=MAP; no other one does.",
)
def test_another_init_section_is_hinted(door: Door, ended: Broadcast) -> None:
    cut_short = set()
    for track in TRACKS:
        segments = made(door, track)
        for seen in door.record[track]:
            media = seen.media
            after = segments.get(media.next[0])
            if media.ended or after is None:
                continue
            newest = media.segments[-1]
            seam = after.tagged and not media.open
            hint = media.hinted_map
            if seam and (newest.gap or newest.duration_s < 0.9 * media.target_s):
                cut_short.add(track)
                assert hint == after.map_uri  # None for texts, which have none
            assert hint in ((None, after.map_uri) if seam else (None,))
            assert hint is None or door.get(hint).answer.status == 200
    assert cut_short or door.name != "origin"


@rule(
    "6.2.1",
    MUST,
    "Media sequence numbers follow on across the restart, and all renditions have the same.",
)
def test_no_segment_is_lost(door: Door, ended: Broadcast) -> None:
    numbers = {track: sorted(made(door, track)) for track in TRACKS}
    for found in numbers.values():
        assert found == list(range(found[0], found[-1] + 1))
    assert len({found[-1] for found in numbers.values()}) == 1
    for track in TRACKS:
        empty = [s for s in made(door, track).values() if s.gap and s.parts]
        assert empty == []


@rule(
    "6.2.1",
    MUST_NOT,
    "No date maps to two places: each begins where the one before ended; after a discontinuity "
    "later, or less than a second earlier.",
)
def test_dates_follow_on(door: Door, ended: Broadcast) -> None:
    for track in TRACKS:
        segments = made(door, track)
        for before, after in pairwise(segments[msn] for msn in sorted(segments)):
            assert before.date is not None
            assert after.date is not None
            late = after.date - before.date - timedelta(seconds=before.duration_s)
            if after.tagged:
                assert late > -OVERLAP
                assert after.date > before.date
            else:
                assert abs(late) <= MOMENT


def steps(door: Door, broadcast: Broadcast, what: Callable[[Media], object]) -> list[float]:
    """Seconds between the versions in which `what` was new, outside of troubles and the end."""
    found = []
    for track in TRACKS:
        news: list[Seen] = []
        for seen in door.record[track]:
            if not seen.media.ended and (not news or what(seen.media) != what(news[-1].media)):
                news.append(seen)
        found += [
            after.came_s - before.came_s
            for before, after in pairwise(news)
            if all(
                after.came_s < since or before.came_s > until for since, until in broadcast.troubles
            )
        ]
    assert len(found) > 20
    return sorted(found)


@rule(
    "6.2.1",
    MUST,
    "In the mean a new part is listed within a part target of the one before.",
)
def test_parts_come_in_time(door: Door, ended: Broadcast, measured: Callable[..., None]) -> None:
    found = steps(door, ended, lambda media: media.last)
    target_s = door.record["hi"][0].media.part_target_s
    measured(p95_s=round(found[len(found) * 95 // 100], 3), part_target_s=target_s)
    assert sum(found) / len(found) <= target_s


@rule(
    "6.2.1",
    MUST,
    "A new segment is listed within one and a half target durations, while media comes.",
)
def test_segments_come_in_time(door: Door, ended: Broadcast, measured: Callable[..., None]) -> None:
    found = steps(door, ended, lambda media: media.segments[-1].msn)
    measured(longest_s=round(found[-1], 3))
    assert found[len(found) * 95 // 100] <= 1.5 * door.record["hi"][0].media.target_s


@rule(
    "4.4.5.4",
    MUST,
    "A report has LAST-MSN and LAST-PART, also after a segment that has no parts.",
)
def test_reports_are_complete(door: Door, ended: Broadcast) -> None:
    reports = [report for media in every(door) for report in media.reports]
    assert reports
    assert all(report.keys() == {"URI", "LAST-MSN", "LAST-PART"} for report in reports)


@rule(
    "B.1",
    MUST,
    "What reports say of the others is within a part target of the playlist's own end.",
)
def test_renditions_are_in_step(door: Door, ended: Broadcast) -> None:
    apart = []
    for media in every(door):
        for report in media.reports:
            msn, part = int(report["LAST-MSN"]), int(report["LAST-PART"])
            ours = media.last
            apart.append(abs((msn - ours[0]) * len(_parts(media)) + part - ours[1]))
    assert apart
    assert sorted(apart)[len(apart) * 95 // 100] <= 1


def _parts(media: Media) -> list[object]:
    """Of the newest whole segment that lists some."""
    return next((list(s.parts) for s in reversed(media.segments) if s.parts), [None] * 3)
