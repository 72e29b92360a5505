"""The rules of low-latency HLS delivery that this suite holds the servers to, one test each.

A rule is stated where it is proved: `@rule(section, level, text)` on the test. The test then runs
once for each door the rule applies to; where it does not, the reason stands there and nothing is
collected. RULES is all of them, once the test files are imported; README.md is made from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest

DOORS: Final = ("push", "pull", "origin")
MUST: Final = "MUST"
MUST_NOT: Final = "MUST NOT"
SHOULD: Final = "SHOULD"
SHOULD_NOT: Final = "SHOULD NOT"

# Doors that a rule does not apply to, and why.
EVERYWHERE: Final[Mapping[str, str]] = {}
EDGES_ONLY: Final = {"origin": "an origin is no cache"}
PULL_ONLY: Final = {**EDGES_ONLY, "push": "what was pushed is not filled"}
PLAIN_WHEN_PULLED: Final = {"pull": "only what is followed is kept in two codings"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """section: of RFC 8216bis unless it names another source. text: in our own words. test: file
    and function."""

    section: str
    level: str
    text: str
    test: str
    without: Mapping[str, str]

    @property
    def doors(self) -> tuple[str, ...]:
        return tuple(door for door in DOORS if door not in self.without)


RULES: Final[dict[str, Rule]] = {}
"""By test, in the order they stand."""

Test = Callable[..., None]


def rule(
    section: str, level: str, text: str, *, without: Mapping[str, str] = EVERYWHERE
) -> Callable[[Test], Any]:
    """The decorated test proves this, at its argument `door`."""

    def stated(test: Test) -> Any:
        where = f"{test.__module__.rpartition('.')[2]}.py::{test.__name__}"
        found = Rule(section=section, level=level, text=text, test=where, without=without)
        RULES[where] = found
        return pytest.mark.parametrize("door", found.doors, indirect=True)(test)

    return stated


# What the specifications ask for and this suite does not prove: (section, rule, why).
UNMET: Final = (
    (
        "B.1",
        "HTTP/2 or HTTP/3, with priorities and pings",
        "a terminator in front speaks them (README, Limits)",
    ),
    (
        "B.1",
        "Refusals of blocking requests may be kept for four target durations",
        "the playlist is refused, for one; a 400 is right again with the next segments",
    ),
    (
        "6.2.1",
        "Each single part is listed within a part target of the one before",
        "a part is as long as its target, so an encoder's jitter breaks it; proved in the mean",
    ),
    (
        "6.2.2",
        "Expires says when a segment will be removed",
        "names never come back, so Cache-Control says immutable and a copy kept longer is right",
    ),
    (
        "RFC 9213",
        "An origin may say CDN-Cache-Control",
        "ours does not: edges take what is pushed; what others say is obeyed (test_13_cache_rules)",
    ),
)
