"""edgecache/control/caching.py: RFC 9111 and RFC 9213, rule by rule."""

from __future__ import annotations

import pytest

from edgecache.control import caching, httpdate
from edgecache.control.caching import Fields, Verdict

NOW = 1_800_000_000.0


def at(offset_s: float) -> str:
    return httpdate.render(NOW + offset_s)


def verdict(*fields: tuple[str, str], status: int = 200, authorized: bool = False) -> Verdict:
    given = (("date", at(0)), *fields)
    return caching.judge(status, given, authorized=authorized, now_s=NOW, if_error_s=60.0)


@pytest.mark.parametrize(
    ("fields", "lifetime_s"),
    [
        ([("cache-control", "max-age=60")], 60),
        ([("cache-control", "max-age=60, s-maxage=5")], 5),
        ([("cache-control", "s-maxage=5"), ("cache-control", "max-age=60")], 5),
        ([("cache-control", "MAX-AGE=60")], 60),
        ([("cache-control", 'max-age="60"')], 60),
        ([("cache-control", "max-age=060")], 60),
        ([("cache-control", 'x="max-age=9", max-age=60')], 60),
        ([("cache-control", "max-age=60, max-age=9")], 60),
        ([("cache-control", "max-age=99999999999")], caching.DELTA_MAX_S),
        ([("expires", at(90))], 90),
        ([("expires", at(90)), ("cache-control", "max-age=60")], 60),
        ([("last-modified", at(-1000))], 100),
        ([("last-modified", at(-100 * 24 * 3600))], 24 * 3600),
        ([("cache-control", "max-age=1"), ("cdn-cache-control", "max-age=70")], 70),
        ([("cache-control", "no-store"), ("cdn-cache-control", "max-age=70")], 70),
        ([("cache-control", "max-age=60"), ("cdn-cache-control", "MAX-AGE=70")], 60),
    ],
)
def test_lifetime(fields: list[tuple[str, str]], lifetime_s: float) -> None:
    found = verdict(*fields)
    assert (found.stores, found.lifetime_s) == (True, lifetime_s)


@pytest.mark.parametrize(
    "value",
    ["max-age=-1", "max-age=1.5", "max-age='60'", "max-age=a60", "max-age =60", "max-age= 60",
     "max-age", "max-age=", 'max-age="60', "max-age=٦"],
)  # fmt: skip
def test_an_invalid_lifetime_is_none(value: str) -> None:
    found = verdict(("cache-control", value), ("expires", at(90)), ("etag", '"x"'))
    assert (found.stores, found.lifetime_s) == (True, 0.0)


@pytest.mark.parametrize("expires", ["0", at(-1), at(0), f"{at(60)}, {at(60)}", "tomorrow"])
def test_an_expires_that_is_over_or_no_date(expires: str) -> None:
    assert not verdict(("expires", expires)).stores


@pytest.mark.parametrize(
    "fields",
    [
        [("cache-control", "max-age=60, no-store")],
        [("cache-control", "max-age=60, private")],
        [("cache-control", "max-age=60"), ("vary", "*")],
        [("cache-control", "max-age=60"), ("vary", "accept, *")],
        [("cache-control", "max-age=60"), ("set-cookie", "a=b")],
        [("cache-control", "max-age=60"), ("cdn-cache-control", "no-store")],
        [("cache-control", "no-store"), ("cdn-cache-control", "max-age=60, &&&")],
        [("cache-control", "no-store"), ("cdn-cache-control", 'max-age="60"')],
        [],
    ],
)
def test_what_may_not_be_stored(fields: list[tuple[str, str]]) -> None:
    assert not verdict(*fields).stores


def test_one_viewers_cookie_is_everybodys_if_the_origin_says_so() -> None:
    for control in ("public, max-age=60", "s-maxage=60"):
        assert verdict(("cache-control", control), ("set-cookie", "a=b")).stores


@pytest.mark.parametrize(
    "control", ["public, max-age=9", "s-maxage=9", "max-age=9, must-revalidate"]
)
def test_authorized_answers_need_leave(control: str) -> None:
    assert verdict(("cache-control", control), authorized=True).stores
    assert not verdict(("cache-control", "max-age=9"), authorized=True).stores


@pytest.mark.parametrize("status", [201, 202, 302, 403, 500, 502, 599])
def test_a_lifetime_is_guessed_for_some_statuses_only(status: int) -> None:
    modified = ("last-modified", at(-1000))
    assert not verdict(modified, status=status).stores
    assert verdict(modified, status=404).lifetime_s == 100
    assert verdict(("cache-control", "max-age=5"), status=status).lifetime_s == 5
    assert verdict(modified, ("cache-control", "public"), status=status).lifetime_s == 100


def test_must_understand_overrules_no_store_for_what_is_understood() -> None:
    control = ("cache-control", "max-age=60, no-store, must-understand")
    assert verdict(control).stores
    assert not verdict(control, status=599).stores


@pytest.mark.parametrize(
    ("control", "validates", "strict"),
    [
        ("no-cache", True, True),
        ("max-age=60, must-revalidate", False, True),
        ("max-age=60, proxy-revalidate", False, True),
        ("s-maxage=60", False, True),
        ("max-age=60", False, False),
        ('max-age=60, no-cache="x-token"', False, False),
    ],
)
def test_when_stale_is_never_right(control: str, validates: bool, strict: bool) -> None:
    found = verdict(("cache-control", control), ("etag", '"x"'))
    assert (found.validates, found.strict) == (validates, strict)


def test_fields_that_are_named_are_not_reused() -> None:
    found = verdict(("cache-control", 'max-age=60, no-cache="A, b", private="c"'))
    assert found.unshown == {"a", "b", "c"}


def test_windows_of_stale() -> None:
    given = "max-age=1, stale-while-revalidate=20, stale-if-error=30"
    found = verdict(("cache-control", given))
    assert (found.while_revalidate_s, found.if_error_s) == (20.0, 30.0)
    assert verdict(("cache-control", "max-age=1")).if_error_s == 60.0


@pytest.mark.parametrize(
    ("fields", "age_s"),
    [
        ([("date", at(0))], 2),
        ([("date", at(-100))], 100),
        ([("date", at(-100)), ("age", "300")], 302),
        ([("date", at(0)), ("age", "7200, 0")], 7202),
        ([("age", "0"), ("age", "7200")], 2),
        ([("age", "abc")], 2),
        ([("age", "-5")], 2),
        ([("age", "72.0")], 2),
        ([("date", at(500))], 2),
    ],
)
def test_initial_age(fields: Fields, age_s: float) -> None:
    found = caching.initial_age_s(tuple(fields), asked_s=NOW - 2, answered_s=NOW)
    assert found == pytest.approx(age_s)


def test_variants_are_compared_without_white_space() -> None:
    names = caching.vary_names((("vary", "Accept-Encoding, Foo"), ("vary", ", foo")))
    assert names == ("accept-encoding", "foo")
    one = caching.variant(names, (("foo", "a,  b"), ("other", "1")))
    other = caching.variant(names, (("foo", "a"), ("foo", "b")))
    assert one == other == (None, "a,b")
    assert caching.variant(names, (("foo", "b, a"),)) != one


def test_hop_by_hop_fields_stay_here() -> None:
    given = (("connection", "X-Hop, close"), ("x-hop", "1"), ("te", "trailers"), ("a", "2"))
    assert caching.end_to_end(given) == (("a", "2"),)


def test_a_304_updates_what_does_not_describe_the_bytes() -> None:
    stored = (("a", "1"), ("b", "2"), ("content-length", "10"), ("etag", '"x"'))
    news = (("a", "3"), ("content-length", "0"), ("connection", "c"), ("c", "4"))
    assert dict(caching.refreshed(stored, news)) == {
        "a": "3", "b": "2", "content-length": "10", "etag": '"x"',
    }  # fmt: skip


@pytest.mark.parametrize(
    ("request_", "same"),
    [
        ([("if-none-match", '"x"')], True),
        ([("if-none-match", 'W/"x"')], True),
        ([("if-none-match", '"y", "x"')], True),
        ([("if-none-match", '"a,b"')], False),
        ([("if-none-match", "*")], True),
        ([("if-none-match", '"y"'), ("if-modified-since", at(0))], False),
        ([("if-modified-since", at(-10))], True),
        ([("if-modified-since", at(-11))], False),
        ([("if-modified-since", "yesterday")], False),
        ([], False),
    ],
)
def test_not_modified(request_: Fields, same: bool) -> None:
    stored = (("etag", '"x"'), ("last-modified", at(-10)), ("date", at(0)))
    assert caching.not_modified(tuple(request_), stored, stored_s=NOW) is same
