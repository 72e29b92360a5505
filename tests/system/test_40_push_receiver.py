"""The push door: what is believed, what becomes visible and when, what is refused and why."""

from __future__ import annotations

import gzip
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import xxhash

from edgecache.signing import sign
from tests.running import KID, SECRET, Answer, Edge, ScriptedOrigin, ask, ok, read_all

pytestmark = pytest.mark.timeout(60)

PARTS = [os.urandom(size) for size in (1000, 40_000, 7, 3000, 64_000, 500)]
WHOLE = b"".join(PARTS)


def digest(body: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(body)


def object_fields(body: bytes) -> dict[str, str]:
    return {
        "Edge-Digest": digest(body),
        "Edge-TTL": "60000",
        "Content-Type": "video/mp4",
        "Cache-Control": "max-age=60",
    }


def part_fields(segment: str, index: int, parts: Sequence[bytes] = PARTS) -> dict[str, str]:
    fields = object_fields(parts[index])
    fields |= {"Edge-Segment": segment, "Edge-Offset": str(sum(map(len, parts[:index])))}
    if index == len(parts) - 1:
        fields |= {"Edge-Final": "1", "Edge-Segment-Digest": digest(b"".join(parts))}
    return fields


def push_part(edge: Edge, track: str, msn: int, index: int) -> Answer:
    segment = f"{track}/{msn}.m4s"
    return edge.put(f"{track}/{msn}.{index}.m4s", PARTS[index], part_fields(segment, index))


def push_version(
    edge: Edge,
    path: str,
    text: bytes,
    version: str,
    *,
    hold_ms: int = 2000,
    ended: bool = False,
    epoch: str = "0",
) -> Answer:
    variants = {"full": text, "full.gzip": gzip.compress(text), "delta": b"#DELTA " + text}
    body = b"".join(variants.values())
    fields = {
        "Edge-Digest": digest(body),
        "Edge-TTL": "60000",
        "Edge-Version": version,
        "Edge-Hold": str(hold_ms),
        "Edge-Advance": "12",
        "Edge-Ended": str(int(ended)),
        "Edge-Epoch": epoch,
        "Edge-Variants": ",".join(f"{name}={len(data)}" for name, data in variants.items()),
        "Content-Type": "application/vnd.apple.mpegurl",
        "Cache-Control": "max-age=1",
    }
    return edge.put(path, body, fields)


def test_a_data_centre_that_lost_a_stream_is_not_believed_when_it_is_pulled(
    edge: Edge, origin: ScriptedOrigin, spare: ScriptedOrigin
) -> None:
    """One that was back had the playlist of its past: numbers went back when the pushed one's time
    ran out in a fail-over, and a blocking request was a bad one (400)."""
    late, news = "Edge-Epoch: t1", "Edge-Epoch: t2"
    assert push_version(edge, "/live/moved/v.m3u8", b"pushed", "9.0.8", epoch="t2").status == 204
    for name, said in (
        ("w", ok(b"past", late)),
        ("x", ok(b"too far", late, status="400 Bad Request")),
    ):
        path, nobody = f"/live/moved/{name}.m3u8", f"/live/moved/{name}{name}.m3u8"
        for at, answer in ((path, ok(b"news", news)), (nobody, said)):
            origin.says(at, said)
            spare.says(at, answer)
        assert edge.get(path).body == b"news"
        assert edge.get(nobody).status == 503


def test_an_object_is_stored_once_and_never_changed(edge: Edge, origin: ScriptedOrigin) -> None:
    path = "/live/obj/a/360p/init0.mp4"
    assert edge.put(path, b"bytes", object_fields(b"bytes")).status == 201
    assert edge.put(path, b"bytes", object_fields(b"bytes")).status == 200
    answer = edge.put(path, b"other", object_fields(b"other"))
    assert answer.status == 409
    assert path.encode() in answer.body
    seen = edge.get(path)
    assert (seen.status, seen.body) == (200, b"bytes")
    assert seen.fields["etag"] == f'"{digest(b"bytes")}"'
    assert seen.fields["content-type"] == "video/mp4"
    assert seen.fields["cache-control"] == "max-age=60"
    assert seen.fields["cache-status"].startswith("edge; hit")
    assert origin.count(path) == 0


def test_removal(edge: Edge) -> None:
    path = "/live/gone/a/360p/init0.mp4"
    edge.put(path, b"bytes", object_fields(b"bytes"))
    assert edge.get(path).status == 200
    assert edge.put(path, b"", {}, method="DELETE").status == 204
    assert edge.get(path).status == 404


def test_parts_grow_a_segment(edge: Edge, origin: ScriptedOrigin) -> None:
    track = "/live/grow/a/360p"
    for index in range(len(PARTS)):
        assert push_part(edge, track, 7, index).status == 201
        part = edge.get(f"{track}/7.{index}.m4s")
        assert part.body == PARTS[index]
        assert part.fields["etag"] == f'"{digest(PARTS[index])}"'
    whole = edge.get(f"{track}/7.m4s")
    assert whole.body == WHOLE
    assert whole.fields["etag"] == f'"{digest(WHOLE)}"'
    assert push_part(edge, track, 7, 2).status == 200
    assert push_part(edge, track, 7, 5).status == 200
    assert sum(asked.target.startswith(track) for asked in origin.asked) == 0


def test_a_growing_segment_streams_to_whoever_asks(edge: Edge) -> None:
    track = "/live/stream/a/360p"
    push_part(edge, track, 1, 0)
    with ThreadPoolExecutor(3) as pool:
        early = [pool.submit(edge.get, f"{track}/1.m4s") for _ in range(3)]
        for index in range(1, len(PARTS)):
            push_part(edge, track, 1, index)
        assert [viewer.result().body for viewer in early] == [WHOLE] * 3


def test_a_part_out_of_order_waits_for_its_predecessor(edge: Edge) -> None:
    track = "/live/order/a/360p"
    push_part(edge, track, 1, 0)
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(push_part, edge, track, 1, 2)
        edge.settled('edge_push_parts_total{reason="waited"}', 1)
        assert push_part(edge, track, 1, 1).status == 201
        assert ahead.result().status == 201
    for index in (3, 4, 5):
        assert push_part(edge, track, 1, index).status == 201
    assert edge.get(f"{track}/1.m4s").body == WHOLE


def test_a_part_whose_predecessor_never_comes_stands_alone(
    edge: Edge, origin: ScriptedOrigin
) -> None:
    track = "/live/gap/a/360p"
    origin.says(f"{track}/1.m4s", ok(WHOLE, f'ETag: "{digest(WHOLE)}"'))
    push_part(edge, track, 1, 0)
    assert push_part(edge, track, 1, 2).status == 201
    assert edge.get(f"{track}/1.2.m4s").body == PARTS[2]
    assert edge.get(f"{track}/1.m4s").body == WHOLE
    assert origin.count(f"{track}/1.m4s") == 1
    assert push_part(edge, track, 1, 3).status == 201


def test_a_miss_on_the_next_part_waits_for_the_push(edge: Edge, origin: ScriptedOrigin) -> None:
    track = "/live/hint/a/360p"
    push_part(edge, track, 1, 0)
    with ThreadPoolExecutor(30) as pool:
        viewers = [pool.submit(edge.get, f"{track}/1.1.m4s") for _ in range(30)]
        edge.settled("edge_fill_held_total", 1)
        push_part(edge, track, 1, 1)
        assert {viewer.result().body for viewer in viewers} == {PARTS[1]}
    assert origin.count(f"{track}/1.1.m4s") == 0


def test_a_held_miss_is_pulled_when_no_push_comes(edge: Edge, origin: ScriptedOrigin) -> None:
    track = "/live/late/a/360p"
    push_part(edge, track, 1, 0)
    origin.says(f"{track}/1.1.m4s", ok(PARTS[1], f'ETag: "{digest(PARTS[1])}"'))
    assert edge.get(f"{track}/1.1.m4s").body == PARTS[1]
    assert origin.count(f"{track}/1.1.m4s") == 1


def test_a_wrong_segment_digest_is_never_whole(edge: Edge, origin: ScriptedOrigin) -> None:
    segment = "/live/lie/a/360p/1.m4s"
    origin.says(segment, ok(WHOLE))
    fields = part_fields(segment, 0, PARTS[:1])
    fields["Edge-Segment-Digest"] = "0" * 32
    assert edge.put("/live/lie/a/360p/1.0.m4s", PARTS[0], fields).status == 422
    assert edge.get(segment).body == WHOLE


def test_playlist_versions_wake_blocked_reloads(edge: Edge, origin: ScriptedOrigin) -> None:
    path = "/live/list/360p.m3u8"
    assert push_version(edge, path, b"#EXTM3U 5.0\n", "5.0.6").status == 204
    assert edge.get(path).body == b"#EXTM3U 5.0\n"
    zipped = edge.get(path, {"Accept-Encoding": "gzip"})
    assert zipped.fields["content-encoding"] == "gzip"
    assert "Accept-Encoding" in zipped.fields["vary"]
    assert gzip.decompress(zipped.body) == b"#EXTM3U 5.0\n"
    with ThreadPoolExecutor(50) as pool:
        wanted = [pool.submit(edge.get, f"{path}?_HLS_msn=5&_HLS_part=0") for _ in range(50)]
        deadline = time.monotonic() + 5
        while edge.metrics()["edge_parked_now"] < 50:
            assert time.monotonic() < deadline
        assert push_version(edge, path, b"#EXTM3U 5.1\n", "5.1.6").status == 204
        assert {viewer.result().body for viewer in wanted} == {b"#EXTM3U 5.1\n"}
    assert push_version(edge, path, b"#EXTM3U old\n", "5.0.6").status == 204
    assert edge.get(path).body == b"#EXTM3U 5.1\n"
    assert edge.get(f"{path}?_HLS_msn=5&_HLS_part=0&_HLS_skip=YES").body == b"#DELTA #EXTM3U 5.1\n"
    assert origin.count(path) == 0


def test_strangers_are_refused_before_their_body(edge: Edge) -> None:
    path, fields = "/live/auth/a/360p/init0.mp4", object_fields(b"x")
    assert ask(edge.push, "PUT", path, fields, b"x").status == 401
    for kid, secret, target, status in (
        ("nobody", SECRET, path, 403),
        (KID, "another secret, 16 or more", path, 403),
        (KID, SECRET, "/live/auth/a/360p/init1.mp4", 403),
    ):
        signed = sign("PUT", target, fields.items(), kid=kid, secret=secret.encode())
        answer = ask(edge.push, "PUT", path, {**fields, "Authorization": signed}, b"x")
        assert answer.status == status
        assert answer.fields["connection"] == "close"
    changed = {**fields, "Edge-TTL": "1"}
    signed = sign("PUT", path, fields.items(), kid=KID, secret=SECRET.encode())
    assert ask(edge.push, "PUT", path, {**changed, "Authorization": signed}, b"x").status == 403
    assert edge.get(path).status == 404


def test_a_replay_and_an_old_signature_are_refused(edge: Edge) -> None:
    path, fields = "/live/replay/a/360p/init0.mp4", object_fields(b"x")
    signed = sign("PUT", path, fields.items(), kid=KID, secret=SECRET.encode())
    request = {**fields, "Authorization": signed}
    assert ask(edge.push, "PUT", path, request, b"x").status == 201
    assert ask(edge.push, "PUT", path, request, b"x").status == 403
    now_s = int(time.time()) - 40
    signed = sign("PUT", path, fields.items(), kid=KID, secret=SECRET.encode(), now_s=now_s)
    assert ask(edge.push, "PUT", path, {**fields, "Authorization": signed}, b"x").status == 403


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Edge-Digest": "0" * 32}, 422),
        ({"Edge-Digest": "short"}, 400),
        ({"Edge-TTL": "-1"}, 400),
        ({"Edge-TTL": ""}, 400),
        ({"Edge-Segment": "/a/../b", "Edge-Offset": "0"}, 400),
        ({"Edge-Segment": "/a/b.m4s", "Edge-Offset": "1e3"}, 400),
        ({"Edge-Version": "1.2", "Edge-Variants": "full=1"}, 400),
        ({"Edge-Version": "1.2.3", "Edge-Variants": "full=2"}, 400),
        ({"Edge-Version": "1.2.3", "Edge-Variants": "delta=1"}, 400),
    ],
)
def test_a_malformed_push_is_refused_in_words(
    edge: Edge, change: dict[str, str], status: int
) -> None:
    answer = edge.put("/live/bad/a/360p/init0.mp4", b"x", {**object_fields(b"x"), **change})
    assert answer.status == status
    assert b"edge-" in answer.body
    assert edge.get("/live/bad/a/360p/init0.mp4").status == 404


def test_size_is_judged_by_the_head(edge: Edge) -> None:
    path = "/live/big/a/360p/init0.mp4"
    for line, status in ((b"Content-Length: 4194305", b"413"), (b"Edge-X: 1", b"411")):
        with edge.raw(edge.push) as pusher:
            pusher.sendall(
                b"PUT " + path.encode() + b" HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n"
            )
            assert read_all(pusher).split()[1] == status


@pytest.mark.parametrize("cut", [1, 4096, 40_000])
def test_a_cut_push_shows_nothing(edge: Edge, cut: int) -> None:
    path = f"/live/cut/a/360p/{cut}.m4s"
    fields = object_fields(WHOLE)
    fields["Authorization"] = sign("PUT", path, fields.items(), kid=KID, secret=SECRET.encode())
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    head = f"PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(WHOLE)}\r\n{lines}\r\n"
    with edge.raw(edge.push) as pusher:
        pusher.sendall(head.encode() + WHOLE[:cut])
    assert edge.get(path).status == 404


def test_no_room_is_507_and_the_rest_lives(edge: Edge) -> None:
    """A quarter of the budget beyond it, all at once, while nothing may be evicted that is
    growing."""
    kept = "/live/kept/a/360p/init0.mp4"
    edge.put(kept, b"kept", object_fields(b"kept"))
    body = os.urandom(4 << 20)
    statuses = []
    for number in range(12):  # 48 MiB into 32
        path = f"/live/flood{number}/a/360p/0.m4s"  # a stream alone may not go that far
        changed = number.to_bytes(8, "big") + body[8:]
        statuses.append(edge.put(path, changed, object_fields(changed)).status)
    assert set(statuses) <= {201, 507}
    assert statuses[0] == 201
    metrics = edge.metrics()
    assert metrics["edge_store_bytes_now"] <= metrics["edge_store_budget_bytes"] * 1.0625


def test_pushes_are_answered_in_order_on_one_connection(edge: Edge) -> None:
    paths = [f"/live/pipe/a/360p/{number}.m4s" for number in range(50)]
    with edge.raw(edge.push) as pusher:
        done = threading.Thread(target=lambda: pusher.sendall(b"".join(_request(p) for p in paths)))
        done.start()
        answers = read_all(pusher)
        done.join(5)
    assert answers.count(b"HTTP/1.1 201 Created") == 50
    assert all(edge.get(path).body == path.encode() for path in paths)


def _request(path: str) -> bytes:
    body = path.encode()
    fields = object_fields(body)
    fields["Authorization"] = sign("PUT", path, fields.items(), kid=KID, secret=SECRET.encode())
    if path.endswith("/49.m4s"):
        fields["Connection"] = "close"
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    head = f"PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
    return head.encode() + body
