"""The push receiver on the real store: parsing to the letter, parts in any order, bounds."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from edgecache._core import Plane
from edgecache.config import EdgeConfig, load_config
from edgecache.control import push as push_module
from edgecache.control.http1 import Request
from edgecache.control.push import PushReceiver
from edgecache.control.pushed import Object, Part, PushError, Version, parse
from edgecache.signing import Verifier, sign
from tests.looped import eventually, looped

SEGMENT = "/live/cam/t0/360p/7.m4s"
SECRET = b"0123456789abcdef"


def digest(body: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(body)


def request(target: str, body: bytes, **fields: str) -> Request:
    given = {"edge-digest": digest(body), "edge-ttl": "1000"}
    given |= {name.replace("_", "-"): value for name, value in fields.items()}
    pairs = [(name, value) for name, value in given.items() if value]
    return Request(method="PUT", target=target, fields=pairs, length=len(body), body=body)


def part(index: int, body: bytes, offset: int, final_digest: str = "") -> Request:
    fields = {"edge_segment": SEGMENT, "edge_offset": str(offset)}
    if final_digest:
        fields |= {"edge_final": "1", "edge_segment_digest": final_digest}
    return request(SEGMENT.replace(".m4s", f".{index}.m4s"), body, **fields)


def test_objects_parts_and_versions_are_told_apart() -> None:
    plain = parse(request("/a/b.mp4", b"x", content_type="video/mp4", cache_control="max-age=1"))
    assert type(plain) is Object
    assert plain.fields == b"Content-Type: video/mp4\r\nCache-Control: max-age=1\r\n"
    first = parse(part(0, b"x", 0))
    assert type(first) is Part
    assert (first.segment, first.offset, first.segment_digest) == (SEGMENT.encode(), 0, None)
    listed = parse(
        request(
            "/a.m3u8",
            b"abcde",
            edge_version="7.2.6",
            edge_variants="full=3,delta=2",
            edge_ended="1",
        )
    )
    assert type(listed) is Version
    assert listed.number == (7, 2, 6)
    assert listed.bodies == (b"abc", None, b"de", None, None, None)
    assert listed.ended


@pytest.mark.parametrize(
    "target", ["/", "/a//b", "/a/../b", "/a/.", "/a?x=1", "/a%20b", "a", "/ä", "/a/", "/a\\b"]
)
def test_names_have_one_spelling(target: str) -> None:
    with pytest.raises(PushError) as caught:
        parse(request(target, b"x"))
    assert (caught.value.status, caught.value.reason) == (400, "name")


@pytest.mark.parametrize(
    "variants",
    [
        "",
        "full",
        "full=x",
        "delta=2,full=3",
        "full=3,full=2",
        "full=3,other=2",
        "full=5,",
        "full=0,delta=5",
    ],
)
def test_variants_must_add_up_in_order(variants: str) -> None:
    with pytest.raises(PushError) as caught:
        parse(request("/a.m3u8", b"abcde", edge_version="1.2.3", edge_variants=variants))
    assert caught.value.status == 400


NAMES = (
    "edge_version edge_offset edge_variants edge_ttl edge_segment edge_final edge_segment_digest "
    "content_type edge_coding"
)
FIELDS = st.sampled_from(NAMES.split())


@given(st.dictionaries(FIELDS, st.text(max_size=40)))
def test_any_field_is_judged_not_crashed_on(fields: dict[str, str]) -> None:
    asked = request("/a.m3u8", b"abcde", **fields)
    with contextlib.suppress(PushError):
        assert parse(asked).key == b"/a.m3u8"


# -- on the store


@pytest.fixture
def plane() -> Iterator[Plane]:
    made = Plane(name=b"edge", budget_bytes=16 << 20)
    yield made
    made.stop()


def receiver(plane: Plane, stored: list[bytes] | None = None, *options: str) -> PushReceiver:
    config: EdgeConfig = load_config(None, ["push.gap=300ms", *options]).value
    record = stored if stored is not None else []
    return PushReceiver(plane, Verifier({"a": SECRET}), config, on_stored=record.append)


def looked(plane: Plane, key: bytes) -> dict[str, int | bytes]:
    return plane.lookup(key) or {}


@looped
async def test_parts_grow_a_segment_and_are_announced(plane: Plane) -> None:
    stored: list[bytes] = []
    door = receiver(plane, stored)
    assert (await door.handle(part(0, b"aaa", 0))).status == 201
    assert door.growing == 1
    assert (await door.handle(part(1, b"bb", 3, digest(b"aaabb")))).status == 201
    assert door.growing == 0
    assert looked(plane, SEGMENT.encode())["state"] == b"complete"
    assert [name.rpartition(b"/")[2] for name in stored] == [b"7.m4s", b"7.0.m4s", b"7.1.m4s"]
    assert door.counts["segments.committed"] == 1
    assert (await door.handle(part(1, b"bb", 3, digest(b"aaabb")))).status == 200
    assert (await door.handle(part(1, b"xx", 3))).status == 409
    door.close()


@looped
async def test_parts_of_all_orders_make_the_same_segment(plane: Plane) -> None:
    bodies = [b"a" * 10, b"b" * 20, b"c" * 30]
    whole = b"".join(bodies)
    asked = [part(n, body, sum(map(len, bodies[:n]))) for n, body in enumerate(bodies)]
    asked[2] = part(2, bodies[2], 30, digest(whole))
    door = receiver(plane)
    await door.handle(asked[0])
    last = asyncio.create_task(door.handle(asked[2]))
    await eventually(lambda: door.counts["parts.waited"])
    middle = await door.handle(asked[1])
    assert (middle.status, (await last).status) == (201, 201)
    assert looked(plane, SEGMENT.encode())["size"] == 60
    door.close()


@looped
async def test_waiting_parts_are_bounded(plane: Plane) -> None:
    door = receiver(plane, None, "push.pending=2", "push.gap=1s")
    await door.handle(part(0, b"a", 0))
    waiting = [asyncio.create_task(door.handle(part(n, b"x%d" % n, 50 * n))) for n in (1, 2)]
    await eventually(lambda: door.counts["parts.waited"] == 2)
    refused = await door.handle(part(3, b"y", 200))
    assert refused.status == 409
    assert b"edge-offset: found 200, allowed 1" in refused.body
    door.close()
    assert {answer.status for answer in await asyncio.gather(*waiting)} == {201}


@looped
async def test_a_silent_segment_is_let_go(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    door = receiver(plane)
    await door.handle(part(0, b"a", 0))
    door.sweep()
    assert door.growing == 1
    monkeypatch.setattr(push_module, "_SILENT_S", -1.0)
    assert door.sweep() == ["cam"]
    assert door.growing == 0
    assert door.counts["segments.silent"] == 1
    assert door.streams == {}
    assert (await door.handle(part(1, b"b", 1))).status == 201
    door.close()


@looped
async def test_a_segment_that_its_maker_has_otherwise_is_let_go(plane: Plane) -> None:
    """An origin that was killed just after it had pushed a part does not know of it, and closes the
    segment without: whoever waits for the rest of it here would wait for nothing."""
    door = receiver(plane)
    await door.handle(part(0, b"aaa", 0))
    await door.handle(part(1, b"bb", 3))
    assert (await door.handle(part(1, b"bb", 3))).status == 200
    assert door.growing == 1
    assert (await door.handle(part(1, b"end", 3, digest(b"aaaend")))).status == 409
    assert door.growing == 0
    assert looked(plane, SEGMENT.encode()).get("state") != b"filling"
    door.close()


@looped
async def test_a_purged_segment_does_not_stop_its_parts(plane: Plane) -> None:
    door = receiver(plane)
    await door.handle(part(0, b"aaa", 0))
    plane.purge_prefix(b"/live/cam/")
    assert (await door.handle(part(1, b"bb", 3))).status == 201
    assert looked(plane, b"/live/cam/t0/360p/7.1.m4s")["size"] == 2
    door.close()


def test_admission_counts_its_refusals(plane: Plane) -> None:
    door = receiver(plane)
    asked = request("/a.mp4", b"x")
    refused = door.admit(asked)
    assert refused is not None
    assert (refused.status, refused.close) == (401, True)
    signed = sign("PUT", "/a.mp4", asked.fields, kid="a", secret=SECRET)
    asked.fields.append(("authorization", signed))
    assert door.admit(asked) is None
    replayed = door.admit(asked)
    assert replayed is not None
    assert replayed.status == 403
    assert door.counts == {"received": 2, "refused.unsigned": 1, "refused.replayed": 1}


@looped
async def test_removal(plane: Plane) -> None:
    door = receiver(plane)
    await door.handle(request("/a.mp4", b"x"))
    asked = Request(method="DELETE", target="/a.mp4", fields=[], length=0)
    assert (await door.handle(asked)).status == 204
    assert plane.lookup(b"/a.mp4") is None
    asked = Request(method="GET", target="/a.mp4", fields=[], length=0)
    assert (await door.handle(asked)).status == 405


@looped
async def test_what_an_older_epoch_says_of_a_playlist_is_refused(plane: Plane) -> None:
    door = receiver(plane)

    def version(msn: int, epoch: str, body: bytes) -> Request:
        told = {"edge_version": f"{msn}.0.1", "edge_hold": "3000", "edge_epoch": epoch}
        told["edge_variants"] = f"full={len(body)}"
        return request("/live/cam/v.m3u8", body, **told)

    assert (await door.handle(version(5, "a1", b"one"))).status == 204
    assert (await door.handle(version(7, "a2", b"two"))).status == 204
    assert (await door.handle(version(9, "a1", b"one, late"))).status == 412
    removal = [("edge-epoch", "a1")]
    asked = Request(method="DELETE", target="/live/cam/v.m3u8", fields=removal, length=0)
    assert (await door.handle(asked)).status == 412
    assert looked(plane, b"/live/cam/v.m3u8")["state"] == b"live"
    assert door.counts["refused.epoch"] == 2
