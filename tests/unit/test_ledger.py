"""The latency ledger: when media came, how late, and how long each hop took."""

from __future__ import annotations

from collections import Counter

import pytest

from edgecache.flv import AUDIO, HEADER, SCRIPT, VIDEO, encode_tag
from origin.broker import Broker
from origin.ledger import Arrivals, Ledger, Recent, Tally, durations
from origin.model import Hops

HOPS = Hops(capture_s=0.002, encode_s=0.04, package_s=0.001, ready_s=1_700_000_000.5)


def test_a_part_is_as_old_as_its_last_frame() -> None:
    seen = Arrivals()
    for number in range(20):
        seen.add(number * 33, 100.0 + number * 0.033)
    arrived_s, late_s = seen.at(330) or (0.0, 0.0)
    assert arrived_s == pytest.approx(100.0 + 9 * 0.033)
    assert late_s == pytest.approx(0.0, abs=1e-9)
    assert seen.at(0) is None


def test_late_is_against_the_most_punctual_of_the_last_minute() -> None:
    """A publisher's clock drifts: what was punctual an hour ago must not count for ever."""
    seen = Arrivals()
    seen.add(0, 100.0)
    seen.add(40, 100.34)
    assert (seen.at(41) or (0, 0))[1] == pytest.approx(0.3)
    for number in range(100):  # 1 s of media a second, 0.3 s later than it began
        seen.add(1000 * number, 100.3 + number)
    assert (seen.at(20_001) or (0, 0))[1] == pytest.approx(0.3)
    assert (seen.at(99_001) or (0, 0))[1] == pytest.approx(0.0)


def test_arrivals_are_bounded() -> None:
    seen = Arrivals()
    for number in range(10_000):
        seen.add(number, number / 1000)
    assert seen.at(5_000) is None
    assert seen.at(9_999.5) is not None


def test_the_broker_knows_when_the_encoders_media_came() -> None:
    """Asked in the time of the running encoder, which began with the newest keyframe."""
    now = [100.0]
    broker = Broker(monotonic_s=lambda: now[0])
    broker.feed(HEADER + encode_tag(SCRIPT, 0, b""))
    broker.feed(encode_tag(VIDEO, 0, b"\x17\x00\x00\x00\x00\x01") + _aac())
    for frame in range(60):
        now[0] = 100.0 + frame / 30
        key = frame % 30 == 0
        body = (b"\x17" if key else b"\x27") + b"\x01\x00\x00\x00frame"
        broker.feed(encode_tag(VIDEO, frame * 1000 // 30, body))
        broker.feed(encode_tag(AUDIO, frame * 1000 // 30, b"\xaf\x01sound"))
    replay = broker.replay()
    assert replay.duration_ms == pytest.approx(966, abs=2)
    arrived_s, late_s = broker.arrived("video", 340) or (0.0, 0.0)
    assert arrived_s == pytest.approx(100.0 + 40 / 30)
    assert late_s < 0.002  # FLV counts in whole ms
    assert broker.arrived("audio", 340) is not None


def _aac() -> bytes:
    return encode_tag(AUDIO, 0, b"\xaf\x00\x11\x90")


def test_hops_are_counted_by_track() -> None:
    ledger = Ledger()
    ledger.add("360p", HOPS)
    ledger.add("audio", HOPS)
    assert {key: value.count for key, value in ledger.hops.items()} == {
        (hop, track): 1 for hop in ("capture", "encode", "package") for track in ("360p", "audio")
    }
    assert ledger.hops["encode", "360p"].sum_s == 0.04


def test_the_newest_parts_are_described() -> None:
    recent = Recent()
    assert recent.describe() == {}
    recent.add(durations(HOPS))
    assert recent.describe()["encode"] == {"p50": 40.0, "p95": 40.0}
    for _ in range(1000):
        recent.add({"encode": 0.1})
    assert recent.describe()["encode"] == {"p50": 100.0, "p95": 100.0}


def test_a_tally_keeps_what_has_gone() -> None:
    one, two = Counter(a=1), Counter(a=10, b=1)
    tally = Tally()
    tally.add(one.copy)
    tally.add(two.copy)
    one["a"] += 1
    tally.settle(one.copy)
    tally.settle(one.copy)
    one["a"] = 100  # nobody asks any more
    two["b"] += 1
    assert tally.total() == {"a": 12, "b": 2}
