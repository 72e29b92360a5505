"""edgecache/control/httpdate.py: RFC 9110 5.6.7."""

from __future__ import annotations

import pytest

from edgecache.control import httpdate

NOV_6 = 784111777.0  # the RFC's own example


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "SUN, 06 nov 1994 08:49:37 gmt",
    ],
)
def test_the_three_forms(text: str) -> None:
    assert httpdate.parse(text) == NOV_6


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun 06 Nov 1994 08:49:37 GMT",
        "Sun, 06  Nov  1994 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08.49.37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT",
    ],
)
def test_what_only_looks_like_one(text: str) -> None:
    assert httpdate.parse(text) is None


def test_a_two_digit_year_far_ahead_is_past() -> None:
    parsed = httpdate.parse("Thursday, 18-Aug-50 02:01:18 GMT")
    assert parsed is not None
    assert httpdate.render(parsed) == "Thu, 18 Aug 2050 02:01:18 GMT"
    assert httpdate.parse("Sunday, 06-Nov-94 08:49:37 GMT") == NOV_6


def test_render_is_read_again() -> None:
    assert httpdate.render(NOV_6) == "Sun, 06 Nov 1994 08:49:37 GMT"
    assert httpdate.parse(httpdate.render(NOV_6)) == NOV_6
