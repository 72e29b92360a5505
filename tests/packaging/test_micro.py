"""The micro-benchmarks go with the core: they compile, and each loop does what it says."""

from __future__ import annotations

import re

import pytest

from tests.ahead import Ahead

LIMIT_S = 240.0  # on a busy machine


@pytest.mark.timeout(LIMIT_S + 30)
def test_every_loop_does_what_it_says(micro: Ahead) -> None:
    said = micro.done(LIMIT_S)
    passed = re.search(r"^(\d+) passed", said, re.MULTILINE)
    assert passed, said[-3000:]
    assert int(passed[1]) > 30
