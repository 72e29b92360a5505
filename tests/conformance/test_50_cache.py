"""HTTP as caches and players need it (RFC 9110, 9111, 9211; RFC 8216bis B.1)."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from math import ceil

from tests.conformance.broadcast import CROWD, MASTER, TRACKS, Broadcast, Door, Timed, each, wanted
from tests.conformance.playlist import Segment
from tests.conformance.rules import EDGES_ONLY, MUST, PLAIN_WHEN_PULLED, PULL_ONLY, SHOULD, rule


def whole(door: Door) -> Segment:
    """A segment that is whole, with its parts listed."""
    return door.newest().segments[-1]


def hinted(door: Door) -> list[Timed]:
    """Many at once ask for the part that comes next."""
    hint = door.opened().hint
    assert hint is not None
    return door.at_once([hint] * CROWD)


def fills(timed: list[Timed]) -> int:
    """How many of the answers had to be fetched."""
    return sum("stored" in one.answer.fields["cache-status"] for one in timed)


def lifetime_s(timed: Timed) -> int:
    """max-age; 0 when it must not be stored."""
    rules = timed.answer.fields["cache-control"].split(", ")
    found = [int(rule.partition("=")[2]) for rule in rules if rule.startswith("max-age=")]
    return 0 if "no-store" in rules else found[0]


@rule(
    "B.1; RFC 9111 5.1",
    MUST,
    "Caches say the Age of playlists and media.",
    without=EDGES_ONLY,
)
def test_age_is_told(door: Door, broadcast: Broadcast) -> None:
    segment = whole(door)
    for uri in (segment.uri, segment.map_uri, segment.parts[0].uri, "hi.m3u8", MASTER):
        assert uri is not None
        assert int(door.get(uri).answer.fields["age"]) >= 0


@rule(
    "RFC 9111 4.2.3",
    MUST,
    "Age counts the seconds since an object was stored.",
    without=EDGES_ONLY,
)
def test_age_grows(door: Door, broadcast: Broadcast) -> None:
    media = door.newest()
    uri = str(media.segments[-1].uri)
    first = door.get(uri)
    door.playlist("hi", wanted(media.next[0] + 1))  # a second and more later
    later = door.get(uri)
    grown_s = int(later.answer.fields["age"]) - int(first.answer.fields["age"])
    assert 1 <= grown_s <= later.came_s - first.asked_s + 1


@rule(
    "live-video 4.2; Fetch",
    MUST,
    "CORS exposes Age to pages of other origins, and answers a preflight.",
)
def test_age_can_be_read_across_origins(door: Door, broadcast: Broadcast) -> None:
    segment = whole(door)
    for uri in ("hi.m3u8", str(segment.uri), segment.parts[0].uri):
        fields = door.get(uri, Origin="https://player.example").answer.fields
        assert fields["access-control-allow-origin"] == "*"
        exposed = fields["access-control-expose-headers"].lower().replace(" ", "").split(",")
        assert {"age", "date", "cache-status"} <= set(exposed)
        asked = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": "range"}
        flight = door.get(uri, method="OPTIONS", Origin="https://player.example", **asked).answer
        assert flight.status == 204
        assert flight.fields["access-control-allow-origin"] == "*"
        assert "range" in flight.fields["access-control-allow-headers"].lower()


@rule(
    "RFC 9211 2.1",
    MUST,
    "Cache-Status of what is in the cache says hit, and names the cache.",
    without=EDGES_ONLY,
)
def test_a_hit_is_said(door: Door, broadcast: Broadcast) -> None:
    segment = door.newest().segments[-2]
    uris = (str(segment.uri), segment.parts[0].uri, str(segment.map_uri))
    for uri in uris:
        door.get(uri)
    for uri in uris:
        name, _, told = door.get(uri).answer.fields["cache-status"].partition("; ")
        assert name == {"push": "pushed", "pull": "pulling"}[door.name]
        assert told.split("; ")[0] == "hit"


@rule(
    "RFC 9211 2.2",
    MUST,
    "Cache-Status of what had to be fetched says fwd=uri-miss and stored.",
    without=PULL_ONLY,
)
def test_a_fill_is_said(door: Door, broadcast: Broadcast) -> None:
    uri = door.newest("lo").segments[-1].uri
    assert uri is not None
    told = door.get(uri).answer.fields["cache-status"]
    assert told.split("; ")[1:] == ["fwd=uri-miss", "stored"]


@rule(
    "RFC 9211 2.6",
    MUST,
    "Cache-Status of those who shared that fetch says collapsed.",
    without=PULL_ONLY,
)
def test_a_collapsed_request_is_said(door: Door, broadcast: Broadcast) -> None:
    told = [timed.answer.fields["cache-status"] for timed in hinted(door)]
    assert any(text.split("; ")[1:] == ["fwd=uri-miss", "collapsed"] for text in told)


@rule(
    "B.1",
    MUST,
    "Requests for a hinted part or a playlist whose fill is pending are held, and filled once.",
    without=PULL_ONLY,
)
def test_duplicates_wait_for_one_fill(door: Door, broadcast: Broadcast) -> None:
    timed = hinted(door)
    assert len({one.answer.body for one in timed}) == 1
    assert fills(timed) <= 1  # none: it was on its way before anybody asked
    msn, part = door.opened().next
    timed = door.at_once([f"hi.m3u8{wanted(msn, part)}&_HLS_skip=YES"] * CROWD)
    assert fills(timed) <= 1
    assert {one.answer.status for one in timed} == {200}


def codings(door: Door, target: str) -> tuple[Timed, Timed]:
    """(identity, gzip) of the same version."""
    with ThreadPoolExecutor(2) as pool:
        plain = pool.submit(door.get, target, Accept_Encoding="identity")
        packed = pool.submit(door.get, target, Accept_Encoding="br, gzip;q=0.9")
    return plain.result(), packed.result()


@rule(
    "6.2.1, B.1",
    SHOULD,
    "A media playlist is gzipped for who accepts that, and is the identity's text.",
)
def test_gzip_is_the_same_text(door: Door, windowed: Broadcast) -> None:
    def holds(track: str) -> None:
        for more in ("", "&_HLS_skip=YES"):
            query = wanted(*door.newest(track).next)
            plain, packed = codings(door, f"{track}.m3u8{query}{more}")
            assert "content-encoding" not in plain.answer.fields
            assert packed.answer.fields["content-encoding"] == "gzip"
            assert gzip.decompress(packed.answer.body) == plain.answer.body

    each(holds)
    refused = door.playlist("hi", Accept_Encoding="gzip;q=0").answer
    assert "content-encoding" not in refused.fields


@rule(
    "6.2.1",
    SHOULD,
    "So is the multivariant playlist.",
    without=PLAIN_WHEN_PULLED,
)
def test_gzip_of_the_multivariant_playlist(door: Door, broadcast: Broadcast) -> None:
    plain, packed = codings(door, MASTER)
    assert packed.answer.fields["content-encoding"] == "gzip"
    assert gzip.decompress(packed.answer.body) == plain.answer.body


@rule(
    "RFC 9110 8.8.3, 12.5.5",
    MUST,
    "Codings differ in ETag and say Vary: Accept-Encoding.",
)
def test_gzip_has_its_own_validator(door: Door, broadcast: Broadcast) -> None:
    plain, packed = codings(door, f"hi.m3u8{wanted(*door.newest().next)}")
    assert plain.answer.fields["etag"] != packed.answer.fields["etag"]
    for timed in (plain, packed):
        assert timed.answer.fields["vary"].lower() == "accept-encoding"


@rule(
    "B.1",
    SHOULD,
    "Media may be kept for six target durations and more, and is immutable.",
)
def test_media_is_immutable(door: Door, broadcast: Broadcast) -> None:
    media = door.newest()
    segment = media.segments[-1]
    for uri in (str(segment.uri), str(segment.map_uri), segment.parts[0].uri):
        timed = door.get(uri)
        assert lifetime_s(timed) >= 6 * media.target_s
        assert "immutable" in timed.answer.fields["cache-control"]


@rule(
    "B.1",
    SHOULD,
    "What was asked without directives may be kept half a target duration, rounded up to a second.",
)
def test_a_playlist_is_fresh_for_half_a_target(door: Door, broadcast: Broadcast) -> None:
    for track in TRACKS:
        timed = door.playlist(track)
        assert lifetime_s(timed) == ceil(timed.media.target_s / 2)


@rule(
    "B.1",
    SHOULD,
    "Answers to blocking requests may be kept for six target durations.",
)
def test_a_version_is_fresh_for_six_targets(door: Door, broadcast: Broadcast) -> None:
    def holds(track: str) -> None:
        media = door.playlist(track).media
        for more in ("", "&_HLS_skip=YES"):
            timed = door.after(track, media, more)
            assert lifetime_s(timed) == 6 * media.target_s

    each(holds)


@rule(
    "B.1",
    SHOULD,
    "404 and 400 are not fresh for longer than a target duration.",
)
def test_a_refusal_is_not_kept(door: Door, broadcast: Broadcast) -> None:
    for target in ("none.m3u8", "x/hi/1.m4s", "hi.m3u8?_HLS_part=1", f"hi.m3u8{wanted(1 << 40)}"):
        timed = door.get(target)
        assert timed.answer.status in (400, 404)
        assert lifetime_s(timed) <= 1


@rule(
    "RFC 9110 13.1.2",
    MUST,
    "If-None-Match with its ETag gets 304 and no body.",
)
def test_a_known_object_is_not_sent_again(door: Door, broadcast: Broadcast) -> None:
    segment = whole(door)
    for uri in (str(segment.uri), segment.parts[0].uri, str(segment.map_uri), MASTER):
        etag = door.get(uri).answer.fields["etag"]
        for condition in (etag, f'"other", W/{etag}', "*"):
            answer = door.get(uri, If_None_Match=condition).answer
            assert (answer.status, answer.body) == (304, b"")
            assert answer.fields["etag"] == etag
        assert door.get(uri, If_None_Match='"other"').answer.status == 200


@rule(
    "RFC 9110 9.3.2",
    MUST,
    "HEAD has the fields of GET, of a part and of a playlist that is waited for.",
)
def test_head_is_get_without_a_body(door: Door, broadcast: Broadcast) -> None:
    media = door.opened()
    waited = f"hi.m3u8{wanted(*media.next)}"
    for target in (waited, str(media.segments[-1].uri), media.parts[0].uri):
        with ThreadPoolExecutor(2) as pool:
            sent = pool.submit(door.get, target)
            told = pool.submit(door.get, target, method="HEAD")
        get, head = sent.result().answer, told.result().answer
        assert (head.status, head.body) == (200, b"")
        for name in ("content-length", "content-type", "etag", "cache-control"):
            assert head.fields[name] == get.fields[name]


@rule(
    "RFC 9110 14",
    MUST,
    "First bytes, a middle, a suffix, and RFC 8673's open end of parts and segments.",
)
def test_a_range_is_that_part_of_the_bytes(door: Door, broadcast: Broadcast) -> None:
    segment = whole(door)
    for uri in (str(segment.uri), segment.parts[-1].uri):
        body = door.get(uri).answer.body
        size = len(body)
        for asked, first, end in (
            ("0-9", 0, 10),
            ("100-199", 100, 200),
            (f"{size - 5}-", size - 5, size),
            ("-7", size - 7, size),
            ("8-9007199254740991", 8, size),  # RFC 8673
            (f"0-{size + 100}", 0, size),
        ):
            answer = door.get(uri, Range=f"bytes={asked}").answer
            assert (answer.status, answer.body) == (206, body[first:end]), asked
            assert answer.fields["content-range"] == f"bytes {first}-{end - 1}/{size}"


@rule(
    "RFC 9110 15.5.17",
    MUST,
    "It gets 416 with the size.",
)
def test_a_range_past_the_end_is_refused(door: Door, broadcast: Broadcast) -> None:
    uri = whole(door).parts[0].uri
    size = len(door.get(uri).answer.body)
    answer = door.get(uri, Range=f"bytes={size}-").answer
    assert (answer.status, answer.fields["content-range"]) == (416, f"bytes */{size}")
