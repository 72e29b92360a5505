"""A publisher's session over several bodies comes out as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest

from edgecache.flv import AUDIO, HEADER, VIDEO, FlvError, FlvReader, Tag
from edgecache.mpegts import TsReader
from origin.chronicle import Row
from origin.handover import Safe
from origin.receive import Result
from origin.splice import NOTHING, CutError, Place, Splice
from tests.looped import looped
from tests.unit.test_containers import written

SESSION = "0123456789abcdef"
CONFIG = Tag(VIDEO, 0, b"\x17\x00\x00\x00\x00config")
TAGS = [Tag(VIDEO, at, b"\x27\x01\x00\x00\x00" + bytes(at)) for at in range(9)]
KEYFRAME = Tag(VIDEO, 7, b"\x17\x01\x00\x00\x00")
SOUND = Tag(AUDIO, 7, b"\xaf\x01")
DONE = Result(200, 0, "")


def place(first: int, head: int = 0, session: str = SESSION) -> Place:
    return Place(session=session, first=first, head=head)


@dataclass
class Body:
    """Bytes as they are put, until None (whole) or an exception."""

    put: asyncio.Queue[bytes | Exception | None] = field(default_factory=asyncio.Queue)

    async def iter_any(self) -> AsyncIterator[bytes]:
        while (data := await self.put.get()) is not None:
            if isinstance(data, Exception):
                raise data
            yield data

    def send(self, tags: Sequence[Tag], *, begin: bool = True) -> None:
        data = b"".join(tag.encode() for tag in tags)
        self.put.put_nowait(HEADER + data if begin else data)


@dataclass
class Taking:
    """The session's stream, as it comes out."""

    splice: Splice
    reader: FlvReader = field(default_factory=FlvReader)
    tags: list[Tag] = field(default_factory=list)

    async def run(self) -> None:
        async for chunk in self.splice.chunks():
            self.tags += self.reader.feed(chunk)
        self.splice.end(DONE)


@looped
async def test_what_is_repeated_is_skipped() -> None:
    splice = Splice(place(3, 1), hold_s=5.0)
    taking = Taking(splice)
    out = asyncio.create_task(taking.run())
    first, second = Body(), Body()
    one = asyncio.create_task(splice.attach(first.iter_any(), place(3, 1)))
    first.send([CONFIG, *TAGS[3:6]])
    first.put.put_nowait(TAGS[6].encode()[:9])  # cut in the middle of a tag
    first.put.put_nowait(ConnectionError())
    assert (await one).status == 499
    assert splice.waits
    assert splice.continues(place(6, 1))
    assert not splice.continues(place(7))  # a hole
    assert not splice.continues(place(6, session=SESSION[::-1]))
    two = asyncio.create_task(splice.attach(second.iter_any(), place(4, 1)))
    second.send([CONFIG, *TAGS[4:8]])
    second.send([TAGS[8]], begin=False)
    second.put.put_nowait(None)
    assert await two == DONE
    await out
    assert taking.tags == [CONFIG, *TAGS[3:]]
    assert not splice.continues(place(9))  # over


@looped
async def test_a_newer_body_ends_the_one_before() -> None:
    splice = Splice(place(0), hold_s=5.0)
    taking = Taking(splice)
    out = asyncio.create_task(taking.run())
    first, second = Body(), Body()
    one = asyncio.create_task(splice.attach(first.iter_any(), place(0)))
    first.send(TAGS[:2])
    await splice._changed.wait_until(lambda: splice._taken == 2, 5.0)
    two = asyncio.create_task(splice.attach(second.iter_any(), place(0)))
    assert (await one).status == 499
    second.send(TAGS)
    second.put.put_nowait(None)
    assert await two == DONE
    await out
    assert taking.tags == TAGS


@pytest.mark.parametrize("picture", [True, False])
@looped
async def test_who_leaves_ends_before_what_another_one_can_begin_with(picture: bool) -> None:
    splice = Splice(place(3, 1), hold_s=5.0)
    taking, body = Taking(splice), Body()
    out = asyncio.create_task(taking.run())
    one = asyncio.create_task(splice.attach(body.iter_any(), place(3, 1)))
    before = [CONFIG, *TAGS[3:6], KEYFRAME, SOUND] if picture else [SOUND] * 6
    body.send(before)
    await splice._changed.wait_until(lambda: splice._taken == 8, 5.0)
    splice.leave()
    between = [SOUND, TAGS[6]] if picture else []
    body.send([*between, KEYFRAME if picture else SOUND, TAGS[8]], begin=False)
    await out
    assert splice.left
    assert taking.tags == [*before, *between]
    splice.leave_off([Row("head", "", 0, 0, {})])
    assert splice.keep == 8 + len(between)
    assert await one == DONE


@looped
async def test_without_a_body_it_is_cut() -> None:
    splice = Splice(place(0), hold_s=0.05)
    taking = Taking(splice)
    body = Body()
    task = asyncio.create_task(splice.attach(body.iter_any(), place(0)))
    body.send(TAGS)
    body.put.put_nowait(ConnectionError())
    with pytest.raises(CutError, match="no connection"):
        await taking.run()
    assert taking.tags == TAGS  # nothing that came is lost
    assert (await task).status == 499


@looped
async def test_nonsense_ends_the_session() -> None:
    splice = Splice(place(0), hold_s=5.0)
    body = Body()
    task = asyncio.create_task(splice.attach(body.iter_any(), place(0)))
    body.put.put_nowait(b"not an FLV stream")
    with pytest.raises(FlvError):
        await Taking(splice).run()
    splice.end(Result(400, 0, "not FLV"))
    assert (await task).status == 400


@looped
async def test_acknowledged_are_numbers_of_the_publisher() -> None:
    splice = Splice(place(100, 3), hold_s=5.0)
    said, past = [], NOTHING
    for tag in (0, 3, 7):
        splice.acknowledge(Safe(tag, [Row("head", "", tag, 0, {})]))
        said.append(splice.keep)
        past = await splice.news(past, 5.0)  # also of what was told before anybody asked
        assert past[0].number == tag
    assert said == [100, 100, 104]
    assert await splice.news(past, 0.0) is past


@pytest.mark.parametrize(
    "query",
    [{"session": "x"}, {"session": SESSION, "first": "-1"}, {"session": SESSION, "age": "1e9"}],
)
def test_a_place_that_is_none(query: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="allowed"):
        Place.of(query)


def test_a_place() -> None:
    query = {"session": SESSION, "first": "7", "head": "2", "age": "1500", "others": "1"}
    assert Place.of(query) == Place(session=SESSION, first=7, head=2, age_s=1.5, others=1)
    assert Place.of({}) is None


@pytest.mark.parametrize("leaves", [False, True])
@looped
async def test_bytes_of_a_container_come_out_once(leaves: bool) -> None:
    """The second body begins at an entry, behind its configuration, in what was taken already."""
    data = written("ts")
    pieces, numbers = TsReader().feed(data), [0]
    for piece in pieces:
        numbers.append(numbers[-1] + piece.size)
    entries = [n for n, piece in zip(numbers, pieces, strict=False) if piece.is_entry]
    config = {piece.sets: piece.data for piece in pieces if piece.sets}
    head = b"".join(value for _, value in sorted(config.items()))
    splice = Splice(place(0), hold_s=5.0, kind="video/mp2t")
    out: list[bytes] = []

    async def take() -> None:
        out.extend([chunk async for chunk in splice.chunks()])
        splice.end(DONE)

    taking = asyncio.create_task(take())
    first, second = Body(), Body()
    one = asyncio.create_task(splice.attach(first.iter_any(), place(0)))
    first.put.put_nowait(data[: entries[2] - 1000])
    first.put.put_nowait(ConnectionError())
    assert (await one).status == 499
    if leaves:
        splice.leave()
    two = asyncio.create_task(splice.attach(second.iter_any(), place(entries[1], len(head))))
    second.put.put_nowait(head + data[entries[1] :])
    second.put.put_nowait(None)
    assert await two == DONE
    await taking
    assert b"".join(out) == (data[: entries[2]] if leaves else data)
    assert splice.left is leaves
