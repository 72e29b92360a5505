"""HTTP-date (RFC 9110 5.6.7): the three forms a recipient must read, and nothing that looks alike.

A date that is nearly right is no date: a cache that guesses keeps what was meant to be stale.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Final

_MONTHS: Final = [
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
]
_MONTH: Final = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME: Final = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_DAY: Final = "(?:mon|tue|wed|thu|fri|sat|sun)"
_LONG_DAY: Final = "(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_FORMS: Final = tuple(
    re.compile(form, re.ASCII | re.IGNORECASE)
    for form in (
        rf"{_DAY}, (?P<day>\d\d) {_MONTH} (?P<year>\d{{4}}) {_TIME} GMT",
        rf"{_LONG_DAY}, (?P<day>\d\d)-{_MONTH}-(?P<short>\d\d) {_TIME} GMT",
        rf"{_DAY} {_MONTH} (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})",
    )
)
_SHORT_YEARS_AHEAD: Final = 50  # a two-digit year further ahead is meant to be past


def parse(text: str) -> float | None:
    """Unix seconds; None when it is not an HTTP-date."""
    match = next(filter(None, (form.fullmatch(text) for form in _FORMS)), None)
    if match is None:
        return None
    found = match.groupdict()
    try:
        return datetime(
            _year(found),
            _MONTHS.index(found["month"].lower()) + 1,
            int(found["day"]),
            int(found["hour"]),
            int(found["minute"]),
            min(int(found["second"]), 59),  # a leap second
            tzinfo=UTC,
        ).timestamp()
    except ValueError:
        return None


def _year(found: dict[str, str | None]) -> int:
    if found.get("year"):
        return int(found["year"] or 0)
    now = datetime.now(UTC).year
    year = now - now % 100 + int(found["short"] or 0)
    return year - 100 if year > now + _SHORT_YEARS_AHEAD else year


def render(unix_s: float) -> str:
    """The one form a sender may write."""
    return formatdate(unix_s, usegmt=True)
