"""A publisher's data messages become markers, or nothing; never an exception."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecache import amf
from edgecache.flv import HEADER, SCRIPT, VIDEO, encode_tag
from origin.broker import MAX_CUES, Broker
from origin.cues import marker_of
from origin.markers import Marker

AT = 1_763_800_000_123_000_000
SECTION = bytes.fromhex("fc302500000000000000fff01405000000017feffe")
CUE = base64.b64encode(SECTION).decode()


@pytest.mark.parametrize(
    ("values", "marker"),
    [
        (
            ["onAdCue", {"type": "SCTE-35", "cue": CUE, "id": "break 7", "duration": 30.0}],
            Marker(
                id="break-7",
                start_ns=AT,
                kind="scte35",
                planned_ns=30_000_000_000,
                scte35_cmd=SECTION.hex(),
            ),
        ),
        (
            ["onAdCue", {"cue": CUE, "duration": -1.0}],
            Marker(id="adcue-1763800000123", start_ns=AT, kind="scte35", scte35_cmd=SECTION.hex()),
        ),
        (
            ["onCuePoint", {"name": "goal", "parameters": {"id": 12.0, "duration": 2.5}}],
            Marker(id="12", start_ns=AT, kind="goal", duration_ns=2_500_000_000),
        ),
        (
            ["onCuePoint", {"name": 'a"b\n'}],
            Marker(id="a-b-1763800000123", start_ns=AT, kind="a-b"),
        ),
        (["onAdCue", {"cue": "!"}], None),
        (["onAdCue", {"cue": base64.b64encode(b"G@no section").decode()}], None),
        (["onAdCue", {"cue": "A" * 10_000}], None),
        (["onMetaData", {}], None),
        (["onCuePoint"], None),
        ([], None),
    ],
)
def test_messages(values: list[amf.Value], marker: Marker | None) -> None:
    assert marker_of(values, at_ns=AT) == marker


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=80),
    lambda inner: st.dictionaries(
        st.sampled_from(["cue", "id", "name", "duration", "parameters", "x"]), inner
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["onAdCue", "onCuePoint"]), VALUES)
def test_anything_at_all(name: str, value: amf.Value) -> None:
    marker = marker_of([name, value], at_ns=AT)
    if marker is not None:
        assert 0 < len(marker.id) <= 64
        assert '"' not in marker.id + marker.kind
        assert marker.end_ns >= marker.start_ns


def test_the_broker_places_messages_by_their_own_time() -> None:
    """Within a second of the media; some publishers say 0."""
    broker = Broker()
    broker.feed(HEADER)
    for at in range(90_000, 95_000, 40):
        broker.feed(encode_tag(VIDEO, at, bytes.fromhex("1200")))
    for at, body in ((94_500, "onTextData"), (0, "onTextData"), (95_200, "onCuePoint")):
        broker.feed(encode_tag(SCRIPT, at, amf.encode(body, {"text": "hi"})))
    assert [at_ms for at_ms, _ in broker.cues()] == [4_500, 4_960, 5_200]


def test_the_broker_keeps_the_newest_until_asked() -> None:
    broker = Broker()
    broker.feed(HEADER)
    for number in range(MAX_CUES + 5):
        body = amf.encode("onCuePoint", {"name": str(number)})
        broker.feed(encode_tag(SCRIPT, 0, body))
    found = broker.cues()
    assert [values[1] for _, values in found][:2] == [{"name": "5"}, {"name": "6"}]
    assert len(found) == MAX_CUES
    assert broker.cues() == []
    assert broker.dropped["script"] == 0
