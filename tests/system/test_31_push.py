"""The pusher against a scripted POP: order, bounds, conflicts, reconnects, back-fill."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from edgecache.signing import sign
from origin.model import Publication
from origin.pusher import Limits, PopPusher
from origin.store import Store
from origin.subscriptions import HotPop, SubscriptionError, Subscriptions
from origin.window import track_of
from tests.hand_made import HandMade
from tests.looped import eventually, looped
from tests.scripted_pop import KID, SECRET, Pop, Received

pytestmark = pytest.mark.timeout(40)

LIMITS = Limits(queue_bytes=1 << 20, queue_items=1000, connections=2, pipeline=8, timeout_s=5.0)


class Half:
    """The distribution half of an origin: a store, and pushers that it fills."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.store = Store()
        self.limits = limits
        self.pushers: list[PopPusher] = []

    def pusher(self, name: str, url: str) -> PopPusher:
        pusher = PopPusher(
            name,
            url,
            sign=functools.partial(sign, kid=KID, secret=SECRET),
            backfill=functools.partial(self.store.backfill, segments=3),
            limits=self.limits,
        )
        self.pushers.append(pusher)
        return pusher

    def publish(self, items: list[Publication], stream: str = "cam") -> None:
        for item in items:
            self.store.add(stream, item)
            for pusher in self.pushers:
                pusher.publish(stream, item)


@asynccontextmanager
async def pushing(
    pop: Pop, limits: Limits = LIMITS, stream: str = "cam"
) -> AsyncIterator[tuple[Half, PopPusher]]:
    half = Half(limits)
    pusher = half.pusher("pop", pop.url)
    pusher.start()
    pusher.subscribe(stream)
    try:
        yield half, pusher
    finally:
        await pusher.stop()
    closed(pusher)


def closed(pusher: PopPusher) -> None:
    """The counts close, whatever happened."""
    counted, pending = pusher.counters, pusher.gauges()["pending"]
    ends = ("acknowledged", "refused", "dropped", "superseded", "lost")
    assert counted["enqueued"] == sum(counted[name] for name in ends) + pending
    assert pending == 0


async def settled(pusher: PopPusher, met: Callable[[], object] = lambda: True) -> None:
    """Until nothing is pending, and `met()`."""
    await eventually(lambda: not pusher.gauges()["pending"] and met())


@looped
async def test_order_is_the_order_of_truth() -> None:
    made = HandMade()
    async with Pop() as pop, pushing(pop) as (half, pusher):
        await settled(pusher, lambda: pusher.connected == 2)
        half.publish(made.opening("v", "a"))
        for _ in range(5):
            half.publish(made.segment("v", "a"))
        await settled(pusher)
        by_track = {
            track: [got for got in pop.requests if track_of(got.path) == track] for track in "va"
        }
        for track, got in by_track.items():
            assert len({each.connection for each in got}) == 1, track
            in_order(got)
        assert {got[0].connection for got in by_track.values()} == {0, 1}
        assert pusher.counters["dropped"] == pusher.counters["refused"] == 0


def in_order(requests: list[Received]) -> None:
    """Parts follow each other, and no playlist names what did not arrive before it."""
    offsets: dict[str, int] = {}
    parts: list[tuple[int, int]] = []
    for got in requests:
        if segment := got.fields.get("edge-segment"):
            assert int(got.fields["edge-offset"]) == offsets.get(segment, 0)
            offsets[segment] = offsets.get(segment, 0) + len(got.body)
            parts.append((int(got.name.split(".")[0]), int(got.name.split(".")[1])))
        elif version := got.fields.get("edge-version"):
            msn, listed, _ = map(int, version.split("."))
            assert (msn, listed - 1) in parts if listed else (msn - 1, 2) in parts
    assert parts == sorted(parts)


@looped
async def test_what_is_on_the_wire() -> None:
    made = HandMade()
    async with Pop() as pop, pushing(pop) as (half, pusher):
        await settled(pusher, lambda: pusher.connected == 2)
        half.publish(made.opening("v"))
        await settled(pusher)
        by_name = {got.name: got for got in pop.requests if got.method == "PUT"}
        last = by_name["10.2.m4s"].fields
        assert {name: last[name] for name in last if name.startswith("edge-")} == {
            "edge-digest": last["edge-digest"],
            "edge-ttl": "60000",
            "edge-segment": "/live/cam/abc/v/10.m4s",
            "edge-offset": "128",
            "edge-final": "1",
            "edge-segment-digest": last["edge-segment-digest"],
        }
        assert "edge-final" not in by_name["10.1.m4s"].fields
        playlist = by_name["v.m3u8"]
        version = made.version("v")
        assert playlist.fields["edge-version"] == "11.0.3"
        assert playlist.fields["edge-variants"] == ",".join(
            f"{name}={len(body)}" for name, body in version.variants
        )
        assert playlist.body == version.body
        assert (playlist.fields["edge-hold"], playlist.fields["edge-ended"]) == ("6000", "0")
        assert by_name["master.m3u8"].fields["edge-hold"] == "0"


@looped
async def test_a_stalled_pop_loses_the_oldest_and_stops_nobody() -> None:
    limits = replace(LIMITS, queue_bytes=1 << 20, timeout_s=30.0)
    made = HandMade(size=50_000)
    async with Pop() as pop, pushing(pop, limits) as (half, pusher):
        await settled(pusher, lambda: pusher.connected == 2)
        pop.reading.clear()
        loop = asyncio.get_running_loop()
        began = loop.time()
        half.publish(made.opening("v"))
        for _ in range(40):
            half.publish(made.segment("v"))
            await asyncio.sleep(0)
            assert pusher.gauges()["queue_bytes"] <= limits.queue_bytes
        assert loop.time() - began < 2.0
        assert pusher.counters["dropped_segments"] > 5
        pop.reading.set()
        await settled(pusher)
        assert f"{made.part('v').msn - 1}.2.m4s" in pop.names()  # the newest came through
        whole: dict[str, int] = {}
        for got in pop.requests:
            if segment := got.fields.get("edge-segment"):
                whole[segment] = whole.get(segment, 0) + 1
        cut = [path for path, parts in whole.items() if parts < 3]
        removed = {got.path for got in pop.requests if got.method == "DELETE"}
        assert set(cut) <= removed  # never half a segment without a word
        versions = [got for got in pop.requests if got.name == "v.m3u8" and got.method == "PUT"]
        assert versions[-1].fields["edge-version"] == "51.0.3"
        assert pusher.counters["superseded"] > 50


@looped
async def test_a_conflict_is_counted_and_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    made = HandMade()
    statuses = {"10.1.m4s": 409, "10.2.m4s": 422, "v.m3u8": 204, "init0.mp4": 200}
    pop = Pop(answer=lambda got: statuses.get(got.name, 201))
    async with pop, pushing(pop) as (half, pusher):
        await settled(pusher, lambda: pusher.connected == 2)
        half.publish(made.opening("v"))
        await settled(pusher)
        assert pusher.statuses[409] == pusher.statuses[422] == 1
        assert pusher.counters["refused"] == 2
        assert pop.names().count("10.1.m4s") == 1
        assert "push refused: 409" in caplog.text


@looped
async def test_a_pop_that_comes_back_gets_the_window() -> None:
    made = HandMade()
    async with Pop() as pop, pushing(pop) as (half, pusher):
        await settled(pusher, lambda: pusher.connected == 2)
        half.publish(made.opening("v"))
        await settled(pusher)
        port = pop.port
    away = half.pusher("pop", f"http://127.0.0.1:{port}")
    away.start()
    away.subscribe("cam")
    for _ in range(5):
        half.publish(made.segment("v"))
        await asyncio.sleep(0.01)
    assert away.gauges()["pending"] == 0  # its queue is the store
    assert away.counters["away"] > 0
    half.publish(made.step("v"))
    async with Pop(port=port) as again:
        await again.until(lambda: "16.0.m4s" in again.names())
        await settled(away, lambda: away.connected == 2)
        names = [name for name in again.names() if name not in ("master.m3u8",)]
        assert names[0] == "init0.mp4"
        assert names[1:8] == [
            *("16.0.m4s", "15.0.m4s", "15.1.m4s", "15.2.m4s"),
            *("14.0.m4s", "14.1.m4s", "14.2.m4s"),
        ]
        assert names[8:] == ["v.m3u8"]
        half.publish(made.step("v"))
        await again.until(lambda: "16.1.m4s" in again.names())
        await away.stop(drain_s=5.0)
    closed(away)


def _cut(pusher: PopPusher, times: int) -> bool:
    return pusher.counters["disconnects"] == times


@looped
async def test_a_cut_connection_is_made_again_and_nothing_is_missing() -> None:
    made = HandMade(size=5000)
    async with Pop() as pop, pushing(pop) as (half, pusher):
        await settled(pusher, lambda: pusher.connected == 2)
        half.publish(made.opening("v", "a"))
        for round_ in range(6):
            half.publish(made.segment("v", "a"))
            if round_ in (1, 3):
                await eventually(lambda: pusher.connected == 2)
                half.publish(made.step("v", "a"))
                await pop.cut()
                await eventually(functools.partial(_cut, pusher, round_ + 1))
        await settled(pusher, lambda: pusher.connected == 2)
        assert pusher.counters["lost"] + pusher.counters["away"] > 0
        got = set(pop.names())
        newest = {f"{msn}.{part}.m4s" for msn in (15, 16) for part in range(3)}
        assert newest <= got
        last = {got.path: got.fields["edge-version"] for got in pop.requests
                if "edge-version" in got.fields}  # fmt: skip
        assert last["/live/cam/v.m3u8"] == last["/live/cam/a.m3u8"]
        assert last["/live/cam/v.m3u8"] == "17.2.3"


@looped
async def test_a_silent_pop_is_cut() -> None:
    limits = replace(LIMITS, timeout_s=0.2)
    made = HandMade()
    async with Pop() as pop, pushing(pop, limits) as (half, pusher):
        await settled(pusher, lambda: pusher.connected == 2)
        pop.reading.clear()
        half.publish(made.opening("v"))
        half.publish(made.segment("v"))
        await eventually(lambda: pusher.counters["timeouts"])
        pop.reading.set()
        await settled(pusher, lambda: "11.2.m4s" in pop.names())


@looped
async def test_an_unsigned_welcome_backs_off() -> None:
    """403 now is 403 for the next hundred too: the connection is left alone for a while."""
    made = HandMade()
    pop = Pop(answer=lambda _: 403)
    async with pop, pushing(pop) as (half, pusher):
        await settled(pusher, lambda: pusher.connected == 2)
        half.publish(made.opening("v"))
        await asyncio.sleep(0.6)
        assert pusher.counters["refused"] >= 1
        assert pop.connections < 12


@looped
async def test_a_new_epoch_removes_what_has_ended() -> None:
    made = HandMade()
    async with Pop() as pop, pushing(pop) as (half, pusher):
        await settled(pusher, lambda: pusher.connected == 2)
        half.publish(made.opening("v"))
        half.publish([made.version("v", ended=True)])
        again = HandMade(epoch="abd", first_msn=0)
        half.publish(again.opening("v"))
        await settled(pusher)
        verbs = [
            (got.method, got.fields.get("edge-ended"))
            for got in pop.requests
            if got.name == "v.m3u8"
        ]
        assert verbs[:2] == [("DELETE", None), ("PUT", "0")]  # an earlier origin's, if any
        end = verbs.index(("PUT", "1"))
        assert verbs[end + 1 : end + 3] == [("DELETE", None), ("PUT", "0")]
        assert ("DELETE", None) not in verbs[end + 3 :]


@looped
async def test_publish_to_acknowledged_is_measured() -> None:
    made = HandMade(size=40_000)
    async with Pop() as pop, pushing(pop) as (half, pusher):
        await settled(pusher, lambda: pusher.connected == 2)
        half.publish(made.opening("v"))
        for _ in range(30):
            half.publish(made.step("v"))
            await settled(pusher)
        assert pusher.latency.count == pusher.counters["acknowledged"]
        assert 0 < pusher.latency.quantile(0.5) <= 0.05


@looped
async def test_leases_and_hot_lists() -> None:
    now = [0.0]
    async with Pop() as hot, Pop() as guest:
        half = Half()
        subscriptions = Subscriptions(
            make=half.pusher,
            live=lambda: [w.stream for w in half.store.streams()],
            monotonic_s=lambda: now[0],
        )
        subscriptions.start({"hot": HotPop(hot.url, frozenset({"cam"}))})

        def publish(made: HandMade, items: list[Publication]) -> None:
            for item in items:
                half.store.add(made.stream, item)
                subscriptions.publish(made.stream, item)

        cam, other = HandMade("cam"), HandMade("other")
        publish(cam, cam.opening("v"))
        publish(other, other.opening("v"))
        await hot.until(lambda: "10.2.m4s" in hot.names())
        assert hot.paths("10.0.m4s") == ["/live/cam/abc/v/10.0.m4s"]
        granted = subscriptions.subscribe(
            "guest", guest.url, streams=["other"], lease_s=30, viewers={"other": 7}, tracks={}
        )
        assert granted == 30
        assert subscriptions.viewers("other") == 7
        await guest.until(lambda: "10.2.m4s" in guest.names())
        publish(other, other.step("v"))
        await guest.until(lambda: "11.0.m4s" in guest.names())
        now[0] = 31.0
        await eventually(lambda: len(subscriptions.pushers()) == 1)
        publish(other, other.step("v"))
        publish(cam, cam.step("v"))
        await hot.until(lambda: "11.0.m4s" in hot.names())
        assert "11.1.m4s" not in guest.names()
        with pytest.raises(SubscriptionError, match="allowed 4096"):
            subscriptions.subscribe(
                "hot", hot.url, streams=map(str, range(5000)), lease_s=9, viewers={}, tracks={}
            )
        await subscriptions.stop(1.0)
        for pusher in half.pushers:
            closed(pusher)
