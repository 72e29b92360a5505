"""Blocking playlist reload (RFC 8216bis 6.2.5.2), and what is one request (6.2.5, B.1)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from math import floor

from tests.conformance.broadcast import AT_ONCE_S, CROWD, PARTS, Broadcast, Door, wanted
from tests.conformance.rules import MUST, SHOULD, rule


@rule(
    "6.2.5.2",
    MUST,
    "_HLS_msn alone is answered when that segment is whole, not before.",
)
def test_holds_until_the_segment(door: Door, broadcast: Broadcast) -> None:
    media = door.opened()
    msn = media.next[0]
    timed = door.playlist("hi", wanted(msn))
    assert timed.media.segments[-1].msn >= msn
    assert timed.took_s > media.part_target_s / 2, "two parts were to come"


@rule(
    "6.2.5.2",
    MUST,
    "_HLS_msn and _HLS_part are answered when that part is listed, not before.",
)
def test_holds_until_the_part(door: Door, broadcast: Broadcast) -> None:
    media = door.opened()
    for more in range(2):
        msn, part = media.next
        timed = door.playlist("hi", wanted(msn, part + more))
        assert timed.media.last >= (msn, part + more)
        assert timed.took_s > 0.05, "it was there before it was made"
        media = door.opened()


@rule(
    "6.2.5.2",
    MUST,
    "A part that is listed already is not waited for.",
)
def test_answers_at_once_what_is_listed(door: Door, broadcast: Broadcast) -> None:
    media = door.newest()
    timed = door.playlist("hi", wanted(*media.last))
    assert timed.media.last >= media.last
    assert timed.took_s < AT_ONCE_S


@rule(
    "6.2.5.2",
    MUST,
    "Part last+1 of M is part 0 of M+1: one answer, byte for byte.",
)
def test_a_part_past_the_end_is_the_next_ones_first(door: Door, broadcast: Broadcast) -> None:
    msn = door.opened().next[0]
    names = [wanted(msn, PARTS), wanted(msn + 1, 0)]
    past, first = door.at_once([f"hi.m3u8{name}" for name in names])
    assert first.media.last >= (msn + 1, 0)
    assert past.answer.body == first.answer.body
    assert past.answer.fields["etag"] == first.answer.fields["etag"]


@rule(
    "6.2.5.2",
    MUST,
    "A segment that is old, or no longer listed, gets the whole newest playlist at once.",
)
def test_old_directives_get_the_newest_playlist(door: Door, windowed: Broadcast) -> None:
    media = door.newest()
    for query in (
        wanted(media.first_msn),
        wanted(media.first_msn - 1),
        wanted(media.first_msn - 5, 1),
        wanted(0),
    ):
        timed = door.playlist("hi", query)
        assert timed.took_s < AT_ONCE_S
        assert timed.media.last >= media.last
        assert timed.media.segments[0].msn >= media.first_msn


@rule(
    "6.2.5.2",
    MUST,
    "_HLS_part without _HLS_msn is 400.",
)
def test_part_without_msn_is_refused(door: Door, broadcast: Broadcast) -> None:
    for track in ("hi", "audio"):
        assert door.playlist(track, "?_HLS_part=0").answer.status == 400


@rule(
    "6.2.5.2",
    SHOULD,
    "Beyond the last segment plus two is 400, at once.",
)
def test_more_than_two_segments_ahead_is_refused(door: Door, broadcast: Broadcast) -> None:
    last = door.newest().segments[-1].msn
    for msn in (last + 4, last + 1_000_000):  # one segment more may be made meanwhile
        timed = door.playlist("hi", wanted(msn))
        assert timed.answer.status == 400
        assert timed.took_s < AT_ONCE_S


@rule(
    "6.2.5.2",
    SHOULD,
    "Further past the last part than 3 ÷ part target is 400, at once; at the limit it is held.",
)
def test_beyond_the_advance_part_limit_is_refused(door: Door, broadcast: Broadcast) -> None:
    media = door.opened()
    msn, part = media.next
    limit = floor(3 / media.part_target_s) if media.part_target_s < 1 else 3
    with ThreadPoolExecutor(2) as pool:
        within = pool.submit(door.playlist, "hi", wanted(msn, part - 1 + limit))
        beyond = pool.submit(door.playlist, "hi", wanted(msn, part + 2 + limit))
    assert beyond.result().answer.status == 400
    assert beyond.result().took_s < AT_ONCE_S
    assert within.result().media.last >= (msn + 1, 0)


@rule(
    "B.1",
    MUST,
    "All requests for one version get the same bytes when it is there.",
)
def test_the_held_are_released_together(door: Door, broadcast: Broadcast) -> None:
    media = door.opened()
    timed = door.at_once([f"hi.m3u8{wanted(*media.next)}"] * CROWD)
    assert {one.answer.status for one in timed} == {200}
    assert len({one.answer.body for one in timed}) == 1
    assert timed[0].media.last >= media.next
    first, last = min(one.came_s for one in timed), max(one.came_s for one in timed)
    assert last - first < media.part_target_s


@rule(
    "6.2.5",
    MUST,
    "The same directives in another order get the same bytes.",
)
def test_order_of_parameters_does_not_matter(door: Door, windowed: Broadcast) -> None:
    msn, part = door.opened().next
    pieces = (f"_HLS_msn={msn}", f"_HLS_part={part}", "_HLS_skip=YES")
    orders = [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)]
    targets = ["hi.m3u8?" + "&".join(pieces[i] for i in order) for order in orders]
    timed = door.at_once(targets)
    assert {one.answer.status for one in timed} == {200}
    assert len({one.answer.body for one in timed}) == 1
    assert timed[0].media.skipped


@rule(
    "B.1; live-video 4.2",
    MUST,
    "CMCD, tokens and unknown parameters get the same object, without another fill.",
)
def test_other_parameters_do_not_matter(door: Door, broadcast: Broadcast) -> None:
    media = door.opened()
    others = ("", "CMCD=sid%3D%22a%22%2Cbl%3D1200", "token=s3cr3t", "_hls_msn=7&x", "_HLS_new=1")
    directives = wanted(*media.next)[1:]
    playlists = [f"hi.m3u8?{directives}&{other}" for other in others]
    playlists += [f"hi.m3u8?{other}&{directives}" for other in others]
    parts = [f"{media.parts[-1].uri}?{other}" for other in others]
    for targets in (playlists, parts):
        timed = door.at_once(targets)
        assert {one.answer.status for one in timed} == {200}
        assert len({one.answer.body for one in timed}) == 1
        said = [one.answer.fields.get("cache-status", "") for one in timed]
        fills = [text for text in said if "fwd=" in text and "collapsed" not in text]
        assert len(fills) <= 1, fills
