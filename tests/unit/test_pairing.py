"""origin/pairing.py: which place of a container a tag is of, with what ffmpeg makes of one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from edgecache.containers import READERS
from edgecache.flv import HEADER, VIDEO, Tag
from origin import remux
from origin.entries import PLACES
from origin.ffmpeg import find
from origin.pairing import Pairing
from tests.looped import looped
from tests.unit.test_containers import FORMS, GOPS, written


def key(at: int) -> bytes:
    return Tag(VIDEO, at, b"\x17\x01\0\0\0key").encode()


def paired(entries: list[tuple[int, float]], tags: list[int]) -> list[int]:
    """All go in before anything comes out."""
    pairing = Pairing(7)
    for number, at_ms in entries:
        pairing.entry(number, at_ms)
    pairing.made(HEADER + b"".join(map(key, tags)))
    return [pairing.number(tag) for tag in range(len(tags))]


@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("hevc", "webm")])
@looped
async def test_each_key_frame_is_of_its_entry(form: str) -> None:
    kind, data = FORMS[form][0], written(form)
    reader, pairing, entries, number = READERS[kind](), Pairing(0), [], 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal number
        for at in range(0, len(data), 3000):
            for piece in reader.feed(data[at : at + 3000]):
                if piece.is_entry:
                    pairing.entry(number, piece.at_ms)
                    entries.append(number)
                number += piece.size
            yield data[at : at + 3000]

    async for made in remux.flv(body(), remux.CONTAINERS[kind], find()):
        pairing.made(made)
    assert [place for _, place in pairing._pairs][-GOPS:] == entries


def test_a_tag_between_two_is_of_the_one_before() -> None:
    entries = [(10, 5000.0), (20, 6000.0), (30, 7000.0)]
    assert paired(entries, [0, 500, 1015, 1900, 2000]) == [10, 10, 20, 20, 30]


@pytest.mark.parametrize("then_ms", [100.0, 60_000.0])
def test_a_clock_that_jumps_goes_on_with_the_next_key_frame(then_ms: float) -> None:
    entries = [(10, 5000.0), (20, 6000.0), (30, then_ms), (40, then_ms + 1000)]
    assert paired(entries, [0, 1000, 2000, 2500, 3000]) == [10, 20, 30, 30, 40]


def test_while_nothing_is_known_all_is_needed() -> None:
    assert paired([], [0, 1000]) == [7, 7]


def test_too_many_places_to_remember() -> None:
    """More is needed then than was, never less."""
    many = [(10 * each, 1000.0 * each) for each in range(2 * PLACES)]
    found = paired(many, [1000 * each for each in range(2 * PLACES)])
    assert all(number <= 10 * tag or number == 7 for tag, number in enumerate(found))
    assert found[PLACES // 2] == 5 * PLACES
