"""How a viewer's bytes are judged, and the page that is made of what was seen."""

from __future__ import annotations

import pytest

from bench.reliability.cases import CASES, Seen
from bench.reliability.crowd import judge
from bench.reliability.page import PROMISES, Row, page

BODY = b"0123456789" * 100
OTHER = b"9876543210" * 100
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = b"3e8\r\n" + BODY + b"\r\n"


@pytest.mark.parametrize(
    ("data", "ended", "verdict"),
    [
        (LENGTH + BODY, True, "whole"),
        (LENGTH + BODY, False, "whole"),
        (LENGTH + BODY[:500], True, "cut"),
        (LENGTH + OTHER, True, "wrong"),
        (LENGTH + BODY[:500] + OTHER[:100], False, "wrong"),
        (CHUNKED + CHUNK + b"0\r\n\r\n", True, "whole"),
        (CHUNKED + CHUNK, True, "cut"),
        (CHUNKED + CHUNK[:400], False, "cut"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + BODY, True, "whole"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + BODY, False, "cut"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + BODY[:500], True, "wrong"),
        (b"HTTP/1.1 504 Gateway Timeout\r\n\r\n", True, "504"),
        (b"HTTP/1.1 200", False, "cut"),
        (b"", False, "refused"),
    ],
)
def test_what_a_viewer_got(data: bytes, ended: bool, verdict: str) -> None:
    assert judge(data, ended, [BODY]) == verdict


def test_the_page_has_every_case_and_promise() -> None:
    seen = Row(Seen("50 whole", True), {})
    lost = Row(Seen("50 cut", False), {"accepted = closed": 2.0})
    results = {case.name: {"ours": seen, "theirs": Row(None, None)} for case in CASES}
    judged = Row(Seen("p99 11 ms", True, "0.1 ms → 0.2 ms"), {})
    results["B1"] = {"ours": judged, "theirs": Row(Seen("p99 99 ms", False, "88 ms"), None)}
    results["D3"] = {"ours": lost, "theirs": Row(Seen("3 whole | 47 cut", False), None)}
    text = page(CASES, results, {"ours": "edgecache", "theirs": "nginx"}, ["2 cores"])
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({row.count("|") - row.count("\\|") for row in rows}) == 3, "three tables"
    assert all(any(row.startswith(f"| {case.name} |") for row in rows) for case in CASES)
    assert all(any(row.startswith(f"| {name} |") for row in rows) for name in PROMISES)
    d3 = next(row for row in rows if row.startswith("| D3 |"))
    assert "✗ 50 cut | accepted = closed: 2 | ✗ 3 whole \\| 47 cut |" in d3
    assert "| B1 | 0.1 ms → 0.2 ms | 88 ms |" in rows, "what is not judged is told beside it"
    r9 = next(row for row in rows if row.startswith("| R9 |"))
    assert f"{len(CASES) - 1} of {len(CASES)} cases" in r9


def test_cases_are_named_once_and_say_what_they_do() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert all(case.what and case.expected and case.promise in PROMISES for case in CASES)
