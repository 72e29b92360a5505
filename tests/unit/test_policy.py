"""What a fill decides, case by case: freshness, validators, resuming, what is held for a push."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache.config import Cache
from edgecache.control import policy
from edgecache.control.policy import MediaName
from edgecache.control.response import Head
from edgecache.errors import UpstreamError

CACHE = Cache()
TRACK = (b"cam", b"t0", b"360p")
DIGEST = "0123456789abcdef0123456789abcdef"


def head(*fields: tuple[str, str], status: int = 200, length: int = 10) -> Head:
    return Head(status, fields, length)


DEFAULT_MS = 777


def freshness(*fields: tuple[str, str]) -> tuple[int, int]:
    found = head(*fields)
    return policy.freshness_ms(found, CACHE, DEFAULT_MS, policy.age_ms(found))


@pytest.mark.parametrize(
    ("cache_control", "ttl_ms"),
    [
        ("", DEFAULT_MS),
        ("max-age=5", 5000),
        ("max-age=5, s-maxage=7", 7000),
        ('Max-Age="5"', 5000),
        ("max-age=0", 0),
        ("max-age=99999999999999999999", CACHE.ttl_max),
        ("max-age=-5", DEFAULT_MS),
        ("max-age=x", DEFAULT_MS),
        ("no-store", 0),
        ("private, max-age=60", 0),
        ("no-cache", 0),
        ("public, immutable", DEFAULT_MS),
    ],
)
def test_time_to_live(cache_control: str, ttl_ms: int) -> None:
    assert freshness(("cache-control", cache_control))[0] == ttl_ms


def test_age_expires_vary_and_grace() -> None:
    date = ("date", "Sun, 22 Nov 2026 10:00:00 GMT")
    later = ("expires", "Sun, 22 Nov 2026 10:00:30 GMT")
    assert freshness(("cache-control", "max-age=10"), ("age", "4")) == (6000, 0)
    assert freshness(("cache-control", "max-age=10"), ("age", "40")) == (0, 0)
    swr = ("cache-control", "max-age=1, stale-while-revalidate=3")
    assert freshness(swr) == (1000, 3000)
    assert freshness(date, later) == (30_000, 0)
    assert freshness(date, ("expires", "0")) == (0, 0)
    assert freshness(date, later, ("cache-control", "max-age=1")) == (1000, 0)
    assert freshness(("cache-control", "max-age=10"), ("vary", "*")) == (0, 0)
    assert freshness(("cache-control", "max-age=10"), ("cache-control", "no-store")) == (0, 0)


@pytest.mark.parametrize(
    ("targeted", "others", "found"),
    [
        ("max-age=60", "no-store", (60_000, 0)),
        ("no-store", "max-age=60", (0, 0)),
        ("max-age=9, stale-while-revalidate=2", "max-age=60", (9000, 2000)),
        ("private=x", "max-age=60", (0, 0)),
        ("public", "max-age=60", (DEFAULT_MS, 0)),
        ("", "max-age=60", (60_000, 0)),
        ("???", "max-age=60", (60_000, 0)),
    ],
)
def test_what_is_said_to_caches_like_us_goes_first(
    targeted: str, others: str, found: tuple[int, int]
) -> None:
    """RFC 9213 2.1: with a usable CDN-Cache-Control, Cache-Control and Expires do not count."""
    date = ("date", "Sun, 22 Nov 2026 10:00:00 GMT")
    past = ("expires", "Sun, 22 Nov 2026 09:00:00 GMT")
    fields = (("cdn-cache-control", targeted), ("cache-control", others), date, past)
    assert freshness(*fields) == found
    assert b"60" not in policy.viewer_fields(head(("cdn-cache-control", "max-age=60")))


def test_the_age_on_arrival() -> None:
    assert policy.age_ms(head(("age", "7"))) == 7000
    assert policy.age_ms(head(("age", "x"))) == policy.age_ms(head()) == 0
    assert policy.age_ms(head(("age", "7"), ("age", "5"))) == 7000  # RFC 9111 5.1
    assert policy.age_ms(head(("age", "7")), delay_ms=1500) == 8500


@pytest.mark.parametrize(
    ("via", "date", "age_ms"),
    [
        ("1.1 a, 1.0 b", "Sun, 22 Nov 2026 10:00:00 GMT", 60_000),
        ("HTTP/1.0 b", "Sun, 22 Nov 2026 10:00:00 GMT", 60_000),
        ("1.0 b", "Sun, 22 Nov 2026 10:02:00 GMT", 7000),  # from the future
        ("1.0 b", "yesterday", 7000),
        ("1.1 a", "Sun, 22 Nov 2026 10:00:00 GMT", 7000),
        ("", "Sun, 22 Nov 2026 10:00:00 GMT", 7000),
    ],
)
def test_a_date_counts_where_a_cache_may_have_said_nothing(
    via: str, date: str, age_ms: int
) -> None:
    """RFC 9111 4.2.3: apparent_age. Everywhere else it would be the difference of two clocks."""
    now_s = 1795341660.0  # Sun, 22 Nov 2026 10:01:00 GMT
    found = head(("via", via), ("date", date), ("age", "7"))
    assert policy.age_ms(found, now_s=now_s) == age_ms


@given(st.text(max_size=80))
def test_any_field_gives_some_lifetime(text: str) -> None:
    names = ("cdn-cache-control", "cache-control", "age", "expires", "date", "vary")
    ttl_ms, grace_ms = freshness(*[(name, text) for name in names])
    assert 0 <= ttl_ms <= CACHE.ttl_max
    assert 0 <= grace_ms <= CACHE.ttl_max


def test_requests_are_built_from_the_key_alone() -> None:
    assert policy.build_request(b"/a.m3u8?_HLS_msn=1", "o:8", loop="edgecache-e-00000000") == (
        b"GET /a.m3u8?_HLS_msn=1 HTTP/1.1\r\nHost: o:8\r\n"
        b"Accept-Encoding: identity\r\nCdn-Loop: edgecache-e-00000000\r\n\r\n"
    )
    resumed = policy.build_request(b"/a", "o", loop="a", offset=5, etag="x")
    assert resumed.endswith(b'Range: bytes=5-\r\nIf-Match: "x"\r\n\r\n')


def test_viewers_see_an_allow_list() -> None:
    fields = policy.viewer_fields(
        head(
            ("content-type", "video/mp4"),
            ("set-cookie", "a=b"),
            ("connection", "close"),
            ("x-internal", "1"),
            ("etag", '"x"'),
            ("transfer-encoding", "chunked"),
            ("access-control-allow-origin", "http://evil"),
            ("content-language", "de"),
        )
    )
    assert fields == b"Content-Type: video/mp4\r\nContent-Language: de\r\n"


@pytest.mark.parametrize(
    ("value", "strong"),
    [
        ('"abc"', "abc"),
        ('W/"abc"', ""),
        ("abc", ""),
        ('""', ""),
        ('"a"b"', ""),
        ('"a", "b"', ""),
        ('"', ""),
        ('"\x7f"', ""),
        ('"ä"', ""),
    ],
)
def test_strong_validators(value: str, strong: str) -> None:
    assert policy.strong_etag(head(("etag", value))) == strong


def test_announced_digests() -> None:
    assert policy.announced_digest(head(("edge-digest", DIGEST))) == DIGEST
    assert policy.announced_digest(head(("etag", f'"{DIGEST}"'))) == DIGEST
    assert policy.announced_digest(head(("etag", f'W/"{DIGEST}"'))) == ""
    assert policy.announced_digest(head(("etag", '"5f3-1"'))) == ""


@pytest.mark.parametrize(("status", "verdict"), [(200, 0), (404, 404), (403, 403), (410, 410)])
def test_statuses_that_decide(status: int, verdict: int) -> None:
    assert policy.check_status(head(status=status)) == verdict


@pytest.mark.parametrize(
    ("status", "retryable"),
    [(500, True), (503, True), (429, True), (301, False), (206, False), (304, False), (412, False)],
)
def test_statuses_that_fail(status: int, retryable: bool) -> None:
    with pytest.raises(UpstreamError) as caught:
        policy.check_status(head(status=status))
    assert caught.value.retryable is retryable


def resume(answer: Head) -> int:
    return policy.skip_of(answer, offset=5, etag="v1", length=10)


def test_resuming_the_same_bytes() -> None:
    part = ("content-range", "bytes 5-9/10")
    assert resume(head(part, ("etag", '"v1"'), status=206, length=5)) == 0
    assert resume(head(part, status=206, length=5)) == 0  # If-Match has answered for the validator
    assert resume(head(("etag", '"v1"'))) == 5  # the whole again: what is known is dropped


@pytest.mark.parametrize(
    "answer",
    [
        head(("content-range", "bytes 5-9/10"), ("etag", '"v2"'), status=206),
        head(("content-range", "bytes 4-9/10"), status=206),
        head(("content-range", "bytes 5-10/11"), status=206),
        head(("content-range", "bytes */10"), status=206),
        head(status=206),
        head(("etag", '"v2"')),
        head(("etag", '"v1"'), length=11),
        head(),
        head(status=412),
        head(status=416),
        head(status=404),
    ],
)
def test_other_bytes_are_not_spliced(answer: Head) -> None:
    with pytest.raises(UpstreamError) as caught:
        resume(answer)
    assert caught.value.reason == "different"


def test_streams_and_media_names() -> None:
    assert policy.stream_of(b"/live/cam/360p.m3u8") == "cam"
    assert policy.stream_of(b"/watch/cam") == ""
    assert policy.stream_of(b"/live/CAM/x") == ""
    assert policy.media_name(b"/live/cam/t0/360p/7.m4s") == MediaName(TRACK, 7, -1)
    assert policy.media_name(b"/live/cam/t0/360p/7.0.m4s") == MediaName(TRACK, 7, 0)
    assert policy.media_name(b"/live/cam/t0/text/7.0.vtt") is not None
    assert policy.media_name(b"/live/cam/t0/360p/init0.mp4") is None
    assert policy.media_name(b"/live/cam/t0/360p/7.m4s?x") is None


@pytest.mark.parametrize(
    ("msn", "part", "held"),
    [
        (7, 3, True),
        (7, 9, True),
        (8, 0, True),
        (8, -1, True),
        (7, 2, False),
        (7, -1, False),
        (6, 5, False),
        (9, 0, False),
        (11, -1, True),
        (12, -1, False),
    ],
)
def test_only_what_comes_next_is_held_for_the_push(msn: int, part: int, held: bool) -> None:
    assert policy.is_next(MediaName(TRACK, msn, part), {TRACK: (7, 2)}) is held
    assert not policy.is_next(MediaName(TRACK, msn, part), {})


def test_what_is_worth_finishing_alone() -> None:
    assert policy.worth_finishing(0, 1000, 1)
    assert not policy.worth_finishing(0, 1000, 0)
    assert not policy.worth_finishing(0, -1, 1)
    assert not policy.worth_finishing(10 << 20, 50 << 20, 1)
    assert policy.worth_finishing(25 << 20, 50 << 20, 1)


def test_a_busy_origin_is_a_503_and_any_other_failure_a_502() -> None:
    """RFC 8216bis 6.2.5.2: a playlist that was held in vain."""
    for status, answer in ((503, 503), (500, 502), (429, 502)):
        with pytest.raises(UpstreamError) as failed:
            policy.check_status(Head(status, (), -1))
        assert policy.answer_for(failed.value.reason) == answer


def test_a_playlist_whose_origin_is_away_is_unavailable() -> None:
    for reason in ("refused", "cut", "timeout", "connect_timeout", "status_5xx", "unavailable"):
        assert policy.answer_for(reason, text=True) == 503
    for reason in ("too_large", "protocol", "redirect", "digest"):
        assert policy.answer_for(reason, text=True) == 502


def test_a_text_is_kept_by_others_until_it_is_renewed() -> None:
    """RFC 8216bis B.1: its origin's word is for answers to blocking requests."""
    for told, every_s, plain, waited in (
        ("max-age=12", 1.0, "max-age=1", "max-age=12"),
        ("max-age=12", 2.5, "max-age=3", "max-age=12"),
        ("max-age=1", 1.0, "max-age=1", "max-age=1"),
        ("no-cache", 1.0, "no-cache", "no-cache"),
        ("", 0.5, "max-age=1", "max-age=1"),
    ):
        head = Head(200, (("cache-control", told),) if told else (), 9)
        for kind, expected in ((False, plain), (True, waited)):
            lines = policy.text_fields(head, every_s, waited=kind).decode().split("\r\n")
            assert lines == [f"Cache-Control: {expected}", ""]
