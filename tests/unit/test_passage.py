"""edgecache/control/passage.py: a scripted data centre that takes, refuses, hangs or dies."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from edgecache.control.admission import Admitted, RefusedError
from edgecache.control.dial import Ways
from edgecache.control.passage import Passage
from edgecache.control.relay import Limits
from edgecache.signing import Fields, Verifier, sign
from tests.looped import eventually, looped

SECRET = b"0123456789abcdef"
FIELDS = (("Edge-Title", "a%20b"),)
LIMITS = Limits(connect_s=2.0, proceed_s=2.0, stall_s=0.3, finish_s=2.0, move_s=0.0, away_s=0.5)
ABC, DEFG = b"G" + bytes(187), b"G" + b"\xff" * 187  # packets


def signed(method: str, target: str, fields: Fields, /) -> str:
    return sign(method, target, fields, kid="k", secret=SECRET)


class Centre:
    """Says 100 or `refusal` to a head, then reads while `reads`; answers `last` at the end."""

    def __init__(self) -> None:
        self._verifier = Verifier({"k": SECRET})
        self.refusal = b""
        self.last = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        self.reads = True
        self.body = b""
        self.titles: list[str] = []
        self.writer: asyncio.StreamWriter | None = None
        self.server: asyncio.Server | None = None
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = [(name, value) for name, _, value in (x.partition(": ") for x in lines[1:])]
            self._verifier.verify("PUT", lines[0].split()[1], fields)
            assert dict(fields)["Content-Type"] == "video/mp2t"
            self.titles.append(dict(fields)["Edge-Title"])
            writer.write(self.refusal or b"HTTP/1.1 100 Continue\r\n\r\n")
            while self.reads and not self.body.endswith(b"0\r\n\r\n"):
                data = await reader.read(65536)
                if not data:
                    return
                self.body += data
            if self.reads:
                writer.write(self.last)


@contextlib.asynccontextmanager
async def centre() -> AsyncIterator[Centre]:
    found = Centre()
    server = found.server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/ingest/cam"
    try:
        yield found
    finally:
        server.close()
        if found.writer:
            found.writer.transport.abort()


async def opened(*urls: str) -> Passage:
    way = Passage(
        Admitted("cam", urls), "video/mp2t", FIELDS,
        ways=Ways(), sign=signed, limits=LIMITS, counts=Counter(),
    )  # fmt: skip
    await way.open()
    return way


async def sending(way: Passage, data: bytes) -> None:
    """Until it is refused."""
    while True:
        await way.send(data)
        await asyncio.sleep(0)


@looped
async def test_the_first_data_centre_that_answers_gets_the_bytes_as_they_are() -> None:
    async with centre() as at:
        way = await opened("http://127.0.0.1:1/ingest/cam", at.url)
        await way.send(ABC)
        await way.send(DEFG + b"Gi")  # what is no packet goes on at the end
        await way.finish()
        assert at.body == b"".join(
            (b"bc\r\n", ABC, b"\r\nbc\r\n", DEFG, b"\r\n2\r\nGi\r\n0\r\n\r\n")
        )
        assert at.titles == ["a%20b"]


@pytest.mark.parametrize(
    ("status", "reason", "said"),
    [
        (409, "busy", "being published already"),
        (503, "full", "taken"),
        (418, "away", "does not answer"),
    ],
)
@looped
async def test_a_refusal_is_told_before_anything_is_sent(
    status: int, reason: str, said: str
) -> None:
    async with centre() as at:
        at.refusal = b"HTTP/1.1 %d No\r\nContent-Length: 6\r\n\r\ntaken\n" % status
        with pytest.raises(RefusedError, match=said) as caught:
            await opened(at.url)
        assert caught.value.reason == reason


@looped
async def test_nobody_answers() -> None:
    with pytest.raises(RefusedError) as caught:
        await opened("http://127.0.0.1:1/ingest/cam")
    assert caught.value.reason == "away"


@looped
async def test_a_data_centre_that_takes_no_more_is_lost() -> None:
    async with centre() as at:
        at.reads = False
        way = await opened(at.url)
        full = asyncio.create_task(sending(way, ABC * 5000))  # more than sockets and buffers hold
        await eventually(lambda: not way._free.is_set())
        assert at.server is not None
        at.server.close()
        with pytest.raises(RefusedError, match="lost"):
            await full
        with pytest.raises(RefusedError, match="lost"):
            await way.finish()


@looped
async def test_a_data_centre_may_end_it_in_the_middle() -> None:
    async with centre() as at:
        way = await opened(at.url)
        assert at.writer is not None
        at.writer.write(b"HTTP/1.1 410 Gone\r\nContent-Length: 5\r\n\r\nother")
        with pytest.raises(RefusedError, match="other") as caught:
            await sending(way, ABC)
        assert caught.value.reason == "replaced"


@looped
async def test_what_was_sent_is_judged_at_the_end() -> None:
    async with centre() as at:
        at.last = b"HTTP/1.1 400 Bad\r\nContent-Length: 8\r\n\r\nno media"
        way = await opened(at.url)
        await way.send(ABC)
        with pytest.raises(RefusedError, match="no media"):
            await way.finish()
