"""What the origin writes, the POP reads: the two halves of the push contract against each other."""

from __future__ import annotations

import gzip
from dataclasses import replace
from typing import Any

import lz4.block
import pytest

from edgecache.control.http1 import Request
from edgecache.control.pushed import Part, PushError, Version, epoch_of, parse
from origin.model import Hops, PlaylistVersion, digest_of
from origin.pushwire import Pushed, Removal, render
from tests.hand_made import HandMade


def sent(item: Pushed, *, epoch: str = "", **changed: Any) -> Request:
    """`item` as the POP's door receives it; `changed`: fields to replace, body included."""
    head, body = render(item, host="pop", sign=lambda *_: "EC1 signed", epoch=epoch)
    lines = head.decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    fields |= {name.replace("_", "-"): value for name, value in changed.items() if name != "body"}
    whole = changed.get("body", b"".join(body))
    return Request(
        method=method, target=target, fields=list(fields.items()), length=len(whole), body=whole
    )


def version(parts: int = 4) -> PlaylistVersion:
    full = b"#EXTM3U\n" + b"".join(
        b'#EXT-X-PART:DURATION=0.33333,URI="abc/v/%d.m4s"\n' % i for i in range(100)
    )
    delta = full[-400:]
    return PlaylistVersion(
        path="/live/cam/v.m3u8", msn=7, parts=parts, last_parts=6, hold_ms=6000, advance=9,
        ended=False, ttl_ms=6000, cache_control="max-age=1", full=full, delta=delta,
        full_gzip=gzip.compress(full, mtime=0), delta_gzip=gzip.compress(delta, mtime=0),
        delta2=delta[:-90], delta2_gzip=gzip.compress(delta[:-90], mtime=0),
    )  # fmt: skip


def test_a_version_arrives_as_it_was_made_in_a_fraction_of_its_size() -> None:
    made = version()
    request = sent(made)
    got = parse(request)
    assert isinstance(got, Version)
    assert got.bodies == (
        made.full, made.full_gzip, made.delta, made.delta_gzip, made.delta2, made.delta2_gzip,
    )  # fmt: skip
    assert got.number == (7, 4, 6)
    assert (got.hold_ms, got.advance, got.ended) == (6000, 9, False)
    assert len(request.body) < len(made.body) / 3


def test_a_playlist_and_its_removal_say_of_which_epoch_they_are() -> None:
    got = parse(sent(version(), epoch="tp3nt8"))
    assert isinstance(got, Version)
    assert got.epoch == int("tp3nt8", 36)
    assert epoch_of(sent(Removal("/live/cam/v.m3u8"), epoch="10")) == 36
    assert epoch_of(sent(Removal("/live/cam/v.m3u8"))) == 0
    assert "edge-epoch" not in dict(sent(HandMade().part("v"), epoch="10").fields)
    with pytest.raises(PushError, match="edge-epoch"):
        parse(sent(version(), edge_epoch="-1"))


def test_absent_variants_stay_absent() -> None:
    made = HandMade().version("v")
    got = parse(sent(made))
    assert isinstance(got, Version)
    assert got.bodies == (made.full, made.full_gzip, made.delta, made.delta_gzip, None, None)


def test_a_part_travels_as_it_is() -> None:
    made = HandMade().part("v")
    request = sent(made)
    got = parse(request)
    assert isinstance(got, Part)
    assert request.body == got.body == made.body
    assert got.segment.decode() == made.segment_path


HOPS = Hops(capture_s=0.002, encode_s=0.0412, package_s=0.001, ready_s=1_700_000_000.0)


def test_what_the_ledger_has_is_told_to_viewers() -> None:
    """In the stored fields of parts and playlists: a hit has nothing to add."""
    part = replace(HandMade().part("v"), hops=HOPS)
    got = parse(sent(part), now_ms=1_700_000_000_007.5)
    assert isinstance(got, Part)
    assert got.hops_ms == {"capture": 2.0, "encode": 41.2, "package": 1.0, "push": 7.5}
    timing = (
        b"Server-Timing: capture;dur=2.0, encode;dur=41.2, package;dur=1.0, push;dur=7.5\r\n"
        b"Timing-Allow-Origin: *\r\n"
    )
    assert got.fields.endswith(timing)
    listed = parse(sent(replace(version(), hops=HOPS)), now_ms=1_700_000_000_007.5)
    assert isinstance(listed, Version)
    assert all(timing in fields for fields in listed.fields if fields)


def test_a_clock_behind_the_origins_takes_no_time_back() -> None:
    got = parse(sent(replace(HandMade().part("v"), hops=HOPS)), now_ms=1_600_000_000_000.0)
    assert isinstance(got, Part)
    assert got.hops_ms["push"] == 0.0


@pytest.mark.parametrize("changed", [{"edge_timing": "a=1.0\r\nx: y"}, {"edge_timing": ""},
                                     {"edge_ready": "now"}, {"edge_ready": ""}])  # fmt: skip
def test_an_odd_ledger_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(PushError) as found:
        parse(sent(replace(HandMade().part("v"), hops=HOPS), **changed))
    assert found.value.status == 400


def test_a_removal_has_no_body() -> None:
    request = sent(Removal("/live/cam/abc/v/1.m4s"))
    assert (request.method, request.length) == ("DELETE", 0)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"edge_coding": "zstd"}, 400),
        ({"edge_variants": "full=99999999999"}, 400),  # would unpack beyond the bound
        ({"edge_variants": ""}, 400),
        ({"body": b"\xff" * 40}, 400),
        ({"body": lz4.block.compress(b"x" * 10, store_size=False)}, 422),
        ({"edge_digest": digest_of(b"other")}, 422),
    ],
)
def test_lies_about_the_packing_are_refused(changed: dict[str, Any], status: int) -> None:
    with pytest.raises(PushError) as found:
        parse(sent(version(), **changed))
    assert found.value.status == status
