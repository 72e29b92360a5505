"""origin/pushqueue.py and origin/pushwire.py: what waits for a POP, and what is dropped."""

from __future__ import annotations

import functools
import random

import pytest

from edgecache.signing import Verifier, sign
from origin.model import PartObject
from origin.pushqueue import Item, PushQueue
from origin.pushwire import Pushed, Removal, render, size_of
from tests.hand_made import HandMade

SECRET = b"0123456789abcdef"


def queue(max_bytes: int = 1 << 20, max_items: int = 1000, lanes: int = 1) -> PushQueue:
    return PushQueue(lanes=lanes, max_bytes=max_bytes, max_items=max_items)


def push(queue: PushQueue, *items: Pushed, lane: int = 0, born_s: float = 0.0) -> None:
    for what in items:
        queue.push(Item(what=what, stream="cam", lane=lane, born_s=born_s))


def drain(queue: PushQueue, lane: int = 0) -> list[str]:
    """Names of everything in a lane, acknowledged."""
    names = []
    while item := queue.take(lane):
        verb = "-" if isinstance(item.what, Removal) else ""
        names.append(verb + item.what.path.rpartition("/")[2])
        queue.settle(item, accepted=True)
    return names


def closes(queue: PushQueue) -> bool:
    counted = queue.counters
    ends = ("acknowledged", "refused", "dropped", "superseded", "lost")
    return counted["enqueued"] == sum(counted[name] for name in ends) + queue.pending


def test_first_in_first_out() -> None:
    made, waiting = HandMade(parts=2), queue()
    push(waiting, made.init("v"), *made.segment("v"))
    assert drain(waiting) == ["init0.mp4", "10.0.m4s", "v.m3u8", "10.1.m4s", "v.m3u8"]
    assert waiting.take(0) is None
    assert (waiting.pending, waiting.bytes) == (0, 0)


def test_of_a_playlist_the_next_in_turn_and_the_newest_wait() -> None:
    """Keeping only the newest would starve a slow POP: each version would leave its place."""
    made, waiting = HandMade(parts=2), queue()
    for _ in range(3):
        push(waiting, *made.segment("v"))
    assert waiting.counters["superseded"] == 4
    assert drain(waiting) == [
        *("10.0.m4s", "v.m3u8", "10.1.m4s", "11.0.m4s", "11.1.m4s", "12.0.m4s", "12.1.m4s"),
        "v.m3u8",
    ]
    assert closes(waiting)


def test_the_oldest_segment_goes_whole() -> None:
    made, waiting = HandMade(parts=3, size=100), queue(max_bytes=700)
    for _ in range(9):
        push(waiting, made.part("v"))
    assert drain(waiting) == [f"{msn}.{part}.m4s" for msn in (11, 12) for part in range(3)]
    assert waiting.counters["dropped"] == 3
    assert waiting.counters["dropped_segments"] == 1
    assert closes(waiting)


def test_items_are_bounded_too() -> None:
    made, waiting = HandMade(parts=3), queue(max_items=6)
    for _ in range(9):
        push(waiting, made.part("v"))
        assert waiting.pending <= 6
    assert drain(waiting)[-1] == "12.2.m4s"


def test_a_segment_that_has_begun_is_taken_back() -> None:
    made, waiting = HandMade(parts=3, size=100), queue(max_bytes=650)
    push(waiting, made.part("v"))
    first = waiting.take(0)
    assert first is not None
    for _ in range(7):
        push(waiting, made.part("v"))
    waiting.settle(first, accepted=True)
    names = drain(waiting)
    assert names == ["11.0.m4s", "11.1.m4s", "11.2.m4s", "12.0.m4s", "-10.m4s", "12.1.m4s"]
    assert closes(waiting)


def test_the_newest_of_a_track_is_the_last_to_go() -> None:
    made, waiting = HandMade(parts=2, size=100), queue(max_bytes=600, lanes=2)
    push(waiting, made.part("a"), made.part("a"), lane=1)  # the oldest of all, but a's newest
    for number in range(1, 7):
        push(waiting, made.part("v"), born_s=number)
    assert drain(waiting, 1) == ["10.0.m4s", "10.1.m4s"]
    assert drain(waiting) == ["11.0.m4s", "11.1.m4s", "12.0.m4s", "12.1.m4s"]


def test_the_rest_of_a_dropped_segment_is_not_taken() -> None:
    made, waiting = HandMade(parts=4, size=400), queue(max_bytes=1000)
    for _ in range(4):  # one segment alone is more than the bound
        push(waiting, made.part("v"))
    assert drain(waiting) == []
    assert waiting.counters["dropped"] == 4
    push(waiting, made.part("v"), made.part("v"))
    assert drain(waiting) == ["11.0.m4s", "11.1.m4s"]
    assert closes(waiting)


def test_back_fill_newest_first_loses_the_oldest_all_the_same() -> None:
    made, waiting = HandMade(parts=1, size=100), queue(max_bytes=300)
    parts = [made.part("v") for _ in range(4)]
    push(waiting, parts[2], parts[1], parts[0])
    push(waiting, parts[3])
    assert drain(waiting) == ["12.0.m4s", "11.0.m4s", "13.0.m4s"]


def test_what_is_lost_is_counted_and_may_come_again() -> None:
    made, waiting = HandMade(parts=3), queue()
    items = made.segment("v")
    push(waiting, *items)
    on_wire = [item for item in (waiting.take(0), waiting.take(0)) if item]
    assert len(waiting.lose(0, on_wire)) == 6 - waiting.counters["superseded"]
    assert (waiting.pending, waiting.bytes) == (0, 0)
    push(waiting, *items)
    assert drain(waiting)[0] == "10.0.m4s"
    assert closes(waiting)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_bounds_hold_and_counts_close(seed: int) -> None:
    chance = random.Random(seed)
    made, waiting = HandMade(parts=3, size=100), queue(max_bytes=3000, max_items=40, lanes=2)
    wire: dict[int, list[Item]] = {0: [], 1: []}
    lanes = {"v": 0, "a": 1}
    offsets: dict[str, int] = {}
    for _ in range(600):
        lane = chance.randrange(2)
        match chance.randrange(5):
            case 0 | 1:
                track = chance.choice(("v", "a"))
                push(waiting, *made.step(track), lane=lanes[track])
            case 2 if item := waiting.take(lane):
                wire[lane].append(item)
                check_offset(item, offsets)
            case 3 if wire[lane]:
                waiting.settle(wire[lane].pop(0), accepted=chance.random() < 0.9)
            case 4 if chance.random() < 0.02:
                waiting.lose(lane, wire[lane])
                wire[lane] = []
                offsets.clear()
        assert waiting.pending <= 40
        assert waiting.bytes <= 3000
        assert closes(waiting)
    for lane in (0, 1):
        waiting.lose(lane, wire[lane])
    assert (waiting.pending, waiting.bytes) == (0, 0)
    assert closes(waiting)


def check_offset(item: Item, offsets: dict[str, int]) -> None:
    """Parts of a segment leave without a hole, from its first one on or not at all."""
    if isinstance(item.what, PartObject) and item.what.segment_path in offsets:
        assert item.what.offset == offsets[item.what.segment_path]
    if isinstance(item.what, PartObject):
        offsets[item.what.segment_path] = item.what.offset + item.size


def test_a_request_is_signed_over_its_fields() -> None:
    made, verifier = HandMade(), Verifier({"k": SECRET})
    for what in (made.init("v"), made.part("v"), made.version("v"), Removal("/live/cam/v.m3u8")):
        signer = functools.partial(sign, kid="k", secret=SECRET)
        head, body = render(what, host="pop:1", sign=signer)
        first, *lines = head.decode().split("\r\n")
        method, target, _ = first.split(" ")
        fields = dict(line.split(": ", 1) for line in lines if line)
        assert verifier.verify(method, target, fields.items()) == "k"
        assert target == what.path
        assert sum(map(len, body)) == int(fields.get("Content-Length", "0"))
        assert sum(map(len, body)) == size_of(what) or "Edge-Coding" in fields
        assert fields["Host"] == "pop:1"
