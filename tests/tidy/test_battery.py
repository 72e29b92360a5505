"""tests/BATTERY.md: every case of the battery is there, and what it names as a proof exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.reliability.cases import CASES

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "tests" / "BATTERY.md"
ROW = re.compile(r"^\| ([A-H]\d+) \| ([CNS]) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
CHAPTERS = {"A": 15, "B": 18, "C": 15, "D": 17, "E": 17, "F": 16, "G": 14, "H": 8}
UNPROVEN = ("not offered: ", "open: ")  # the second is not for tier C, which is for each submission


class Row(NamedTuple):
    case: str
    tier: str
    what: str
    shown: str

    @property
    def proofs(self) -> list[str]:
        return re.findall(r"`([^`]+)`", self.shown)


def rows() -> list[Row]:
    return [Row(*found) for found in ROW.findall(TABLE.read_text())]


def names_in(path: Path) -> set[str]:
    """Of the tests that a file defines."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {name for name in found if name.lower().startswith("test")}


def exists(proof: str) -> bool:
    if proof.startswith("bench "):
        return proof.removeprefix("bench ") in {case.name for case in CASES}
    file, _, test = proof.partition("::")
    if not test:
        return (ROOT / file).is_file()
    path = ROOT / "tests" / f"{file}.py"
    return path.is_file() and test in names_in(path)


def test_every_case_has_its_row() -> None:
    wanted = [f"{chapter}{n + 1}" for chapter, many in CHAPTERS.items() for n in range(many)]
    assert [row.case for row in rows()] == wanted
    assert TABLE.read_text().count("\n| ") == len(wanted) + 1, "a row that cannot be read"


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.case)
def test_what_shows_it_exists(row: Row) -> None:
    assert [proof for proof in row.proofs if not exists(proof)] == []
    if not row.shown.startswith(UNPROVEN):
        assert row.proofs
    elif row.tier == "C":
        assert row.shown.startswith("not offered: ")
