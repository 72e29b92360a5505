"""The table of rules that people read is the one that is tested."""

from __future__ import annotations

from tests.conformance.rules import DOORS, RULES
from tests.conformance.table import README, render


def test_the_readme_is_up_to_date() -> None:
    assert README.read_text() == render(), "run: python -m tests.conformance.table"


def test_every_rule_is_run_somewhere() -> None:
    render()
    assert len(RULES) > 60
    for rule in RULES.values():
        assert rule.doors, rule.test
        assert set(rule.without) <= set(DOORS)
