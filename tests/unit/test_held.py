"""What a POP holds for a data centre that begins in the middle."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecache import amf
from edgecache.containers import TagReader
from edgecache.control.held import Body, Held
from edgecache.flv import AUDIO, CONFIG, HEADER, SCRIPT, VIDEO, FlvReader, Tag
from edgecache.pieces import Piece

LIMIT = 4000
SPAN_S = 8.0
META = Tag(SCRIPT, 0, amf.encode("onMetaData", {"width": 320.0}))
WORDS = Tag(SCRIPT, 0, amf.encode("onTextData", {"text": "hello"}))
AVC = Tag(VIDEO, 0, b"\x17\x00\x00\x00\x00config")
AAC = Tag(AUDIO, 0, b"\xaf\x00\x11\x90")


def key(at: int, size: int = 100) -> Tag:
    return Tag(VIDEO, at, b"\x17\x01\x00\x00\x00" + bytes(size))


def inter(at: int, size: int = 50) -> Tag:
    return Tag(VIDEO, at, b"\x27\x01\x00\x00\x00" + bytes(size))


def sound(at: int) -> Tag:
    return Tag(AUDIO, at, b"\xaf\x01" + bytes(20))


def held(counts: Counter[str] | None = None) -> Held:
    return Held(
        header=HEADER,
        limit_bytes=LIMIT,
        span_s=SPAN_S,
        counts=Counter() if counts is None else counts,
    )


def piece(tag: Tag) -> Piece:
    return TagReader().piece(tag)


def tags_of(body: Body) -> tuple[Tag, ...]:
    return tuple(FlvReader().feed(body.encode()))


def fed(tags: list[Tag], *, given: bool = False) -> Held:
    made, reader = held(), TagReader()
    for number, tag in enumerate(tags):
        made.add(reader.piece(tag), number / 10, given=given)
    return made


def test_it_begins_with_what_was_in_force_there() -> None:
    other = Tag(VIDEO, 100, AVC.body + b"!")
    made = fed([META, AVC, AAC, key(0), inter(40), WORDS, other, key(120), inter(160)])
    body = made.body(2.0)
    assert tags_of(body)[:3] == (META, AVC, AAC)
    assert (body.first, body.head, body.end, body.age_s) == (3, 3, 9, 1.7)
    made.keep(7)
    body = made.body(2.0)
    assert tags_of(body) == (META, other, AAC, key(120), inter(160))
    assert (body.first, body.head) == (7, 3)


def test_without_a_picture_any_sound_is_a_beginning() -> None:
    made = fed([AAC, sound(0), sound(21), sound(42)])
    made.keep(2)
    assert tags_of(made.body(0.0)) == (AAC, sound(21), sound(42))


def test_given_is_also_what_came_since() -> None:
    made = fed([AVC, key(0), inter(40)])
    body = made.body(0.0)
    made.add(piece(inter(80)), 0.0, given=False)
    data = made.give(body)
    assert data is not None
    assert FlvReader().feed(data) == [AVC, key(0), inter(40), inter(80)]


def test_a_body_with_a_hole_behind_it_is_not_given() -> None:
    made = fed([AVC, key(0), inter(40)])
    body = made.body(0.0)
    for at in range(200):
        made.add(piece(key(at)), 0.0, given=False)
    assert made.give(body) is None


def test_at_its_bounds_whole_gops_go_the_oldest_first() -> None:
    counts: Counter[str] = Counter()
    made = held(counts)
    made.add(piece(AVC), 0.0, given=False)
    for gop in range(3):
        made.add(piece(key(gop * 100, 1500)), 3.0 * gop, given=False)
        made.add(piece(inter(gop * 100 + 40)), 3.0 * gop, given=False)
    assert tags_of(made.body(0.0)) == (AVC, *(t for g in (1, 2) for t in gop_at(g)))
    assert counts == {"held.configuration": 1, "held.dropped": 2}
    made.add(piece(inter(300)), 3.0 + SPAN_S + 0.1, given=False)
    assert tags_of(made.body(0.0))[1] == key(200, 1500)


def gop_at(number: int) -> tuple[Tag, Tag]:
    return key(number * 100, 1500), inter(number * 100 + 40)


def test_a_gop_beyond_the_bounds_goes_until_the_next_keyframe() -> None:
    made = fed([AVC, key(0), inter(1, LIMIT), inter(2), key(3)])
    assert tags_of(made.body(0.0)) == (AVC, key(3))


TAGS = st.sampled_from([META, WORDS, AVC, AAC, key(1), key(2, 900), inter(3), inter(4), sound(5)])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("tag"), TAGS, st.booleans()),
        st.tuples(st.just("keep"), st.integers(0, 60)),
        st.tuples(st.just("give")),
        st.tuples(st.just("wait"), st.floats(0, 3)),
    ),
    max_size=80,
)


@given(STEPS)
def test_nothing_is_uncounted_reordered_or_beyond_the_bounds(
    steps: list[tuple[object, ...]],
) -> None:
    counts: Counter[str] = Counter()
    made, came, now_s, kept = held(counts), [], 0.0, 0
    reader = TagReader()
    seen: set[int] = set()  # by some data centre
    for step in steps:
        match step:
            case ("tag", Tag() as tag, bool(connected)):
                came.append(tag)
                if connected:
                    seen.add(len(came) - 1)
                made.add(reader.piece(tag), now_s, given=connected)
            case ("keep", int(number)):
                kept = max(kept, min(number, len(came)))
                made.keep(number)
            case ("give",):
                body = made.body(now_s)
                assert made.give(body) is not None
                seen |= set(range(body.first, len(came)))
            case ("wait", float(passed_s)):
                now_s += passed_s
        body = made.body(now_s)
        assert tags_of(body)[body.head :] == tuple(came[made.first :])
        assert made.next == len(came)
        assert made.bytes == sum(len(tag.encode()) for tag in came[made.first :]) <= LIMIT
        assert len(made) + sum(counts.values()) == len(came)
        assert counts["held.acknowledged"] <= kept
        assert all(tag.packet == CONFIG or tag == META for tag in tags_of(body)[: body.head])
    lost = counts["held.dropped"]
    assert lost <= len(came) - len(seen)


def test_an_end_counts_what_was_still_held() -> None:
    counts: Counter[str] = Counter()
    made = held(counts)
    for tag in (AVC, key(0), inter(40)):
        made.add(piece(tag), 0.0, given=False)
    made.close(given=False)
    assert counts == {"held.configuration": 1, "held.dropped": 2}
    assert (len(made), made.bytes) == (0, 0)


@pytest.mark.parametrize("count", [1, 5])
def test_numbers_go_on_behind_a_hole(count: int) -> None:
    made = fed([inter(at) for at in range(count)])
    assert (made.first, made.next) == (count, count)
    made.add(piece(key(9)), 0.0, given=True)
    firsts = [made.body(0.0).first, made.next]
    assert firsts == [count, count + 1]
    assert all(b == a + 1 for a, b in pairwise(firsts))
