"""What a description is made of."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from edgecache.openapi import Says, described, says


@dataclass(frozen=True)
class Made:
    """One."""

    name: str


@says(Says(summary="One more", answers={201: Made}, refuses=(409,), query=("why",), body=Made))
def make() -> None:
    """A handler."""


@says(Says(summary="Well?", answers={200: str}, guarded=False))
def health() -> None:
    """Another one."""


def test_a_route_is_described_by_what_it_says() -> None:
    table = [("/things/{kind}", "POST", make), ("/health", "GET", health)]
    whole = described("door", "1.2", table, (421,))
    assert whole["openapi"] == "3.1.0"
    assert whole["info"] == {"title": "door", "version": "1.2"}
    operation = whole["paths"]["/things/{kind}"]["post"]
    assert sorted(operation["responses"]) == ["201", "401", "409", "421"]
    where = [(each["name"], each["in"], each["required"]) for each in operation["parameters"]]
    assert where == [("kind", "path", True), ("why", "query", False)]
    made = operation["responses"]["201"]["content"]["application/json"]["schema"]
    assert made["properties"]["name"]["type"] == "string"
    assert made == operation["requestBody"]["content"]["application/json"]["schema"]
    assert sorted(whole["paths"]["/health"]["get"]["responses"]) == ["200", "421"]


def test_a_route_that_says_nothing_is_found() -> None:
    with pytest.raises(AttributeError, match="says"):
        described("door", "1", [("/", "GET", print)], ())
