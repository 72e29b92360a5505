"""origin/remote.py, workwire.py, outbox.py: a worker's place, who may have it, and what passes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from origin import ladder
from origin.outbox import Outbox
from origin.remote import GoneError, Limits, Remote, Stay
from origin.source import Source
from origin.workwire import (
    BEGIN,
    END,
    MAX_FRAME,
    MEDIA,
    PING,
    Frame,
    Frames,
    Life,
    WireError,
    frame,
    life_of,
    media,
)
from tests.looped import eventually, looped

SOURCE = Source(video="avc1", audio="aac", width=640, height=360, sides=((1, "Opus"),))
LIFE = Life(ladder.Plan(rungs=ladder.SMALL[:1], sounds=()), SOURCE, 7200.0)


class Found:
    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.offers: list[str] = []

    def offer(self, stream: str, offer: str) -> None:
        assert stream == "cam"
        self.offers.append(offer)

    def withdraw(self, offer: str) -> None:
        self.offers.remove(offer)


class Place:
    """A stream's side of it."""

    def __init__(self, limits: Limits) -> None:
        self.finder = Found()
        self.came: list[tuple[int, bytes]] = []
        self.changes = 0
        self.remote = Remote(
            "cam",
            self.finder,
            limits,
            on_output=lambda track, data: self.came.append((track, data)),
            on_change=self._changed,
        )
        self.remote.open()

    def _changed(self) -> None:
        self.changes += 1

    async def enter(self) -> Stay:
        await eventually(lambda: self.finder.offers)
        return self.remote.enter(self.finder.offers[0])


async def fed_until(place: Place, met: Callable[[], object]) -> None:
    """A publisher that goes on."""
    while not met():
        place.remote.write(b"tag")
        await asyncio.sleep(0.002)


async def sent(stay: Stay) -> list[Frame]:
    return Frames().feed(await anext(stay.chunks()))


@looped
async def test_an_offer_lets_one_in_once_and_who_was_lost_cannot_write() -> None:
    place = Place(Limits(again_s=0.01))
    (offer,) = place.finder.offers
    first = place.remote.enter(offer)
    for stale in (offer, "", "another"):
        with pytest.raises(GoneError):
            place.remote.enter(stale)
    place.remote.begin(LIFE, b"flv")
    begun, fed = await sent(first)
    assert (begun.kind, life_of(begun.body)) == (BEGIN, LIFE)
    assert (fed.kind, fed.life, fed.body) == (MEDIA, begun.life, b"flv")
    first.take(frame(MEDIA, begun.life, b"one"))
    first.leave()
    first.leave()
    second = await place.enter()
    with pytest.raises(GoneError):
        place.remote.enter(offer)
    place.remote.begin(LIFE, b"")
    (again,) = await sent(second)
    first.take(frame(MEDIA, again.life, b"of one that was lost"))
    second.take(frame(MEDIA, begun.life, b"of another life"))
    second.take(frame(MEDIA, again.life, b"two"))
    assert place.came == [(0, b"one"), (0, b"two")]
    assert [each async for each in first.chunks()] == []
    place.remote.close()
    assert place.finder.counters == {"came": 2, "lost.gone": 1, "left": 1}
    assert place.changes == 3


@looped
async def test_who_does_not_answer_read_or_make_sense_is_lost() -> None:
    place = Place(Limits(again_s=0.01, stall_s=0.05, start_s=0.05, queue_bytes=1000))
    told = place.finder.counters
    silent = await place.enter()
    place.remote.begin(LIFE, b"flv")
    await fed_until(place, lambda: told["lost.stall"])
    assert silent.outbox.closed
    hung = await place.enter()
    place.remote.begin(LIFE, b"flv")
    hung.take(frame(MEDIA, 2, b"one"))
    await fed_until(place, lambda: told["lost.stall"] == 2)
    place.came.clear()
    await place.enter()
    place.remote.begin(LIFE, b"flv" * 1000)
    assert told["lost.slow"] == 1
    for wrong in (b"x" * 20, frame(MEDIA, 5, b"no such track", track=1), frame(BEGIN, 6)):
        stay = await place.enter()
        place.remote.begin(LIFE, b"")
        stay.take(wrong)
    assert told["lost.garbage"] == 3
    assert place.came == []
    place.remote.close()
    assert place.finder.offers == []


@looped
async def test_a_publisher_that_pauses_does_not_cost_a_worker() -> None:
    """Its last tag was often of sound, which a worker of pictures has no answer to: a pause of 2 s
    was taken for a hung worker, and all tracks began two generations more."""
    place = Place(Limits(stall_s=0.04, start_s=0.04))
    stay = await place.enter()
    place.remote.begin(LIFE, b"picture")
    stay.take(frame(MEDIA, 1, b"its parts"))
    place.remote.write(b"sound")
    await asyncio.sleep(0.2)
    place.remote.write(b"sound")
    stay.take(frame(MEDIA, 1, b"more"))
    await asyncio.sleep(0.2)
    assert place.came == [(0, b"its parts"), (0, b"more")]
    assert place.finder.counters == {"came": 1}
    assert place.remote.state == "there"
    place.remote.close()


@looped
async def test_the_next_is_looked_for_at_once_and_then_ever_later() -> None:
    place = Place(Limits(again_s=0.2, again_max_s=0.3))
    loop, waits = asyncio.get_running_loop(), []
    for _ in range(4):
        began_s = loop.time()
        stay = await place.enter()
        waits.append(loop.time() - began_s)
        stay.leave()
    assert waits[2] >= 0.19
    assert waits[3] >= 0.29
    place.remote.close()


@looped
async def test_the_rest_is_waited_for_but_not_for_ever() -> None:
    place = Place(Limits(stop_s=0.1))
    stay = await place.enter()
    place.remote.begin(LIFE, b"")
    await sent(stay)
    ending = asyncio.create_task(place.remote.finish())
    (asked,) = await sent(stay)
    assert asked.kind == END
    stay.take(frame(MEDIA, asked.life, b"rest") + frame(END, asked.life))
    stay.take(frame(MEDIA, asked.life, b"after the end"))
    await ending
    assert place.came == [(0, b"rest")]
    place.remote.begin(LIFE, b"")
    await place.remote.finish()
    place.remote.close()


def test_frames_in_any_cut() -> None:
    data = bytes(range(256)) * (MAX_FRAME // 256 + 1)
    wire = PING + b"".join(media(7, data, track=2)) + frame(END, 7)
    for step in (1 << 16, 333_333, len(wire)):
        frames = Frames()
        found = [
            each for at in range(0, len(wire), step) for each in frames.feed(wire[at : at + step])
        ]
        assert [each.kind for each in found] == [MEDIA, MEDIA, MEDIA, END]
        assert {each[1:3] for each in found[1:3]} == {(7, 2)}
        assert b"".join(each.body for each in found) == data
    small = Frames()
    assert [each for at in range(len(PING)) for each in small.feed(PING[at : at + 1])]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"plan": 1, "source": 2, "offset_s": 3}'])
def test_what_is_no_life_is_said_so(body: bytes) -> None:
    with pytest.raises(WireError, match="not a life"):
        life_of(body)


@looped
async def test_an_outbox_is_bounded_says_when_it_is_idle_and_ends() -> None:
    box = Outbox(limit_bytes=4, idle=b"-", idle_s=0.02)
    chunks = box.chunks()
    assert await anext(chunks) == b"-"
    assert box.put(b"ab")
    assert box.put(b"cd")
    assert not box.put(b"e")
    assert await anext(chunks) == b"abcd"
    assert box.put(b"efgh")
    box.close()
    assert [each async for each in chunks] == []
