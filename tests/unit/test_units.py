"""Quantities: exact both ways, and refused when a unit would have to be guessed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache import units
from edgecache.errors import UnitError

SIZE, TIME, RATE = units.parse_size, units.parse_duration_ms, units.parse_rate
Parse = Callable[[object], int]
Format = Callable[[int], str]


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (SIZE, "64MiB", 64 << 20),
        (SIZE, "1.5 KiB", 1536),
        (SIZE, "1GB", 10**9),
        (SIZE, "10B", 10),
        (SIZE, "0", 0),
        (SIZE, 0, 0),
        (TIME, "2s", 2000),
        (TIME, "500ms", 500),
        (TIME, "1.5s", 1500),
        (TIME, "1h", 3_600_000),
        (TIME, " 1d ", 86_400_000),
        (RATE, "1Gbps", 125_000_000),
        (RATE, "64KiB/s", 65_536),
        (RATE, "8bps", 1),
    ],
)
def test_known_answers(parse: Parse, text: object, value: int) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("unix_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_763_800_000_999_999_999, "2025-11-22T08:26:40.999Z"),
        (1_763_800_000_009_000_000, "2025-11-22T08:26:40.009Z"),
    ],
)
def test_a_date_has_milliseconds_and_is_never_early(unix_ns: int, text: str) -> None:
    assert units.xs_date(unix_ns) == text


@pytest.mark.parametrize("parse", [SIZE, TIME, RATE])
@pytest.mark.parametrize(
    "text",
    [
        "64",
        64,
        "",
        "MiB",
        "-1s",
        "1 parsec",
        "1e3s",
        "0x10B",
        "1s1",
        "٣s",
        "9" * 30 + "B",
        None,
        True,
        False,
        1.5,
    ],
)
def test_what_would_have_to_be_guessed_is_refused(parse: Parse, text: object) -> None:
    with pytest.raises(UnitError, match="with its unit"):
        parse(text)


def test_fractions_of_the_base_unit_are_refused() -> None:
    for parse, text in ((SIZE, "0.5B"), (TIME, "0.5ms"), (RATE, "1bps")):
        with pytest.raises(UnitError):
            parse(text)


@pytest.mark.parametrize(
    ("parse", "form"),
    [
        (SIZE, units.format_size),
        (TIME, units.format_duration_ms),
        (RATE, units.format_rate),
    ],
)
@given(value=st.integers(0, 1 << 49))
def test_what_is_shown_reads_back(parse: Parse, form: Format, value: int) -> None:
    assert parse(form(value)) == value
