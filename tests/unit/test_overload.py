"""What each rung of the overload ladder gives up, and gets back."""

from __future__ import annotations

import pytest

from edgecache._core import Fill, Plane
from edgecache.config import EdgeConfig
from edgecache.control.fill import Filler
from edgecache.control.overload import Overload
from edgecache.control.routes import Routes
from tests.native.kit import TYPE

MIB = 1 << 20
CONFIG = EdgeConfig.model_validate(
    {
        "cache": {"memory": "8MiB", "object_max": "1MiB"},
        "route": [{"prefix": "/vod/", "kind": "vod"}],
    }
)


class Pressed(Overload):
    """Under the pressure it is told."""

    now = 0.0

    def tightest(self) -> tuple[float, int]:
        return self.now, 10 * MIB


@pytest.fixture
def plane() -> Plane:
    return Plane(name=b"pop", budget_bytes=CONFIG.cache.memory)


@pytest.fixture
def overload(plane: Plane) -> Pressed:
    filler = Filler(Routes(CONFIG).of, CONFIG)
    filler.pushed(b"/live/s/a/v/100.m4s")
    return Pressed(plane, filler, CONFIG)


def miss(plane: Plane, key: bytes) -> Fill:
    fill = plane.open(key)
    assert fill is not None
    return fill


def test_the_cache_shrinks_to_a_quarter_and_no_further(plane: Plane, overload: Pressed) -> None:
    for number in range(28):
        plane.put(b"/%d" % number, bytes(MIB // 4), TYPE, etag=b"e", ttl_ms=60_000)
    before = plane.counters()["store_bytes_now"]
    overload.now = 0.86
    overload.look()
    assert before - 0.7 * MIB <= plane.counters()["store_bytes_now"] <= before - 0.4 * MIB
    for _ in range(30):
        overload.look()
    assert MIB < plane.counters()["store_bytes_now"] <= 2 * MIB
    assert plane.counters()["store_budget_bytes"] == 2 * MIB
    overload.now = 0.83
    overload.look()
    assert plane.counters()["store_budget_bytes"] == 2 * MIB
    overload.now = 0.8
    overload.look()
    assert plane.counters()["store_budget_bytes"] == 8 * MIB


def test_what_is_not_live_is_not_fetched(plane: Plane, overload: Pressed) -> None:
    live, back, vod, unknown = (
        b"/live/s/a/v/95.m4s", b"/live/s/a/v/80.m4s", b"/vod/film.mp4", b"/live/t/a/v/1.m4s",
    )  # fmt: skip
    overload.now = 0.91
    overload.look()
    assert not overload.refused(miss(plane, vod))
    overload.now = 0.93
    overload.look()
    plane.purge(vod)
    refused = {key: overload.refused(miss(plane, key)) for key in (live, back, vod, unknown)}
    assert refused == {live: False, back: True, vod: True, unknown: False}
    found = plane.lookup(back)
    assert found is not None
    assert found["status"] == 503
    assert overload.counts["refused_dvr"] == 2
