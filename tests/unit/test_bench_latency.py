"""bench/latency.py: the budget adds up to what was seen on the glass, and can be drawn."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from bench.latency import Hop, budget, drawn, table
from tests.browser.glass import Glass

HOPS = {"capture": 4.0, "encode": 50.0, "package": 1.0, "push": 2.0, "fetch": 9.0}


def seen() -> Glass:
    dates = [None, *[30] * 99]
    frames = [{"at": n, "ms": 1000 + n, "dated": date} for n, date in enumerate(dates)]
    parts = [{"at": n, "video": bool(n % 2), **HOPS} for n in range(100)]
    return Glass(frames=frames, parts=parts, unread=0)


def test_the_players_share_is_what_is_left() -> None:
    rows = budget(seen(), 0.3, (0.5, 1.0))
    assert [row.name for row in rows] == [
        *("capture", "part", "encode", "package", "push", "edge", "player", "whole")
    ]
    by_name = {row.name: row for row in rows}
    assert by_name["whole"].p50 == pytest.approx(1049.5, abs=1)
    assert sum(row.p50 for row in rows[:-1]) == pytest.approx(by_name["whole"].p50)
    assert by_name["part"].p50 == pytest.approx(150)


def test_it_is_a_table_and_a_picture() -> None:
    rows = [Hop("encode", 40.0, 60.0, "-> out"), Hop("whole", 1400.0, 1450.0, "all <of> it")]
    assert table(rows).splitlines()[2] == "| encode | 40.0 | 60.0 | -> out |"
    picture = drawn(rows)
    root = ET.fromstring(picture)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in picture
    assert "whole: 1400 ms, p95 1450" in picture
