"""RTP packets in order, asked for again, given up."""

from __future__ import annotations

import random

from origin.reorder import Reorder
from origin.rtp import Packet


def packet(sequence: int) -> Packet:
    return Packet(102, False, sequence & 0xFFFF, 0, 99, b"")


def taken(order: Reorder, now_s: float) -> list[int | None]:
    return [each.sequence if each else None for each in order.take(now_s)]


def order() -> Reorder:
    return Reorder(wait_s=0.3, held=100)


def test_what_overtakes_is_put_in_order_across_the_wrap() -> None:
    made, chance = order(), random.Random(1)
    numbers = list(range(65500, 65600))
    for at in range(0, 100, 10):
        tens = numbers[at : at + 10]
        chance.shuffle(tens)
        for number in [*([] if at else [65500]), *tens, *tens[:3]]:  # some come twice
            made.put(packet(number), 0.0)
    assert taken(made, 0.0) == [number & 0xFFFF for number in numbers]


def test_a_missing_one_is_asked_for_until_it_comes() -> None:
    made = order()
    for number in (1, 2, 4, 5):
        made.put(packet(number), 1.0)
    assert taken(made, 1.0) == [1, 2]
    assert made.missing(1.0) == []  # it may be on its way
    assert made.missing(1.02) == [3]
    assert made.missing(1.03) == []
    assert made.missing(1.08) == [3]
    made.put(packet(3), 1.1)
    assert taken(made, 1.1) == [3, 4, 5]
    assert made.missing(2.0) == []
    assert (made.received, made.lost) == (5, 0)


def test_what_does_not_come_in_time_is_passed_over_once() -> None:
    made = order()
    for number in (1, 4, 5):
        made.put(packet(number), 1.0)
    assert taken(made, 1.2) == [1]
    assert taken(made, 1.31) == [None, 4, 5]
    made.put(packet(3), 1.4)
    assert (taken(made, 1.4), made.missing(1.4)) == ([], [])


def test_no_more_wait_than_allowed() -> None:
    made = order()
    made.put(packet(1), 1.0)
    for number in range(3, 105):
        made.put(packet(number), 1.0)
    assert taken(made, 1.0)[:3] == [1, None, 3]


def test_a_sender_that_begins_anew_is_followed() -> None:
    made = order()
    made.put(packet(1), 1.0)
    assert taken(made, 1.0) == [1]
    made.put(packet(30000), 1.0)
    made.put(packet(30001), 1.0)
    assert taken(made, 1.0) == [None, 30000, 30001]
    assert made.lost == 0
