"""edgecache/control/relay.py: a data centre that falls silent somewhere, or that is behind TLS."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from edgecache.containers import FLV, TagReader
from edgecache.control.admission import Admission, Admitted, RefusedError
from edgecache.control.dial import Ways
from edgecache.control.relay import Limits, Relay
from edgecache.flv import AUDIO, HEADER, FlvReader, Tag
from edgecache.pieces import Piece
from edgecache.signing import Fields, sign
from tests.authority import Authority, serving
from tests.looped import eventually, looped

SECRET = b"0123456789abcdef"
LIMITS = Limits(
    connect_s=2.0, proceed_s=10.0, stall_s=0.2, move_s=0.1, away_s=10.0, finish_s=0.2,
    hold_bytes=64 << 20,
)  # fmt: skip
PATIENT = replace(LIMITS, finish_s=20.0)
HASTY = replace(LIMITS, proceed_s=0.1)
FLOOD = 400  # tags of 64 KiB: more than the kernel takes
# What it has said when it falls silent. It reads no more then, but for the head of the request.
UNHEARD = {"head": b"", "half a head": b"HTTP/1.1 10"}
SILENT = {
    "body": b"HTTP/1.1 100 Continue\r\n\r\n",
    "answer": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n",
    "line": b"HTTP/1.1 100 Continue\r\n\r\n"
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{"keep":\r\n',
}


def signed(method: str, target: str, fields: Fields = ()) -> str:
    return sign(method, target, fields, kid="k", secret=SECRET)


def sound(number: int) -> Tag:
    return Tag(AUDIO, number, b"\xaf\x01" + number.to_bytes(4, "big") + bytes(1 << 16))


def piece(tag: Tag) -> Piece:
    return TagReader().piece(tag)


@dataclass
class Centre:
    """Silent behind `says` while that is not None, else one that takes everything."""

    says: bytes | None = None
    scheme: str = "http"
    port: int = 0
    puts: list[bytearray] = field(default_factory=list)
    ended: int = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            body = bytearray()
            self.puts.append(body)
            if self.says is not None:
                writer.write(self.says)
                await asyncio.Event().wait()
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            while size := int(await reader.readline(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
            self.ended += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def running(centre: Centre, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(asyncio.CancelledError):
            await centre.serve(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    centre.port = server.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class Publisher:
    """What a relay tells its publisher."""

    paused: list[bool] = field(default_factory=list)
    failed: list[RefusedError] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def relay(self, centre: Centre, ways: Ways, limits: Limits = LIMITS) -> Relay:
        return Relay(
            Admitted("cam", (f"{centre.url}/ingest/cam",)),
            header=HEADER, fields=(("Content-Type", FLV),), counts=self.counts,
            ways=ways, sign=signed, limits=limits,
            on_pause=self.paused.append, on_failed=self.failed.append,
        )  # fmt: skip


@pytest.mark.parametrize("place", UNHEARD)
@looped
async def test_one_that_says_nothing_is_given_nothing(place: str) -> None:
    """Not even that it may begin: as if it were away."""
    centre, publisher = Centre(UNHEARD[place]), Publisher()
    async with running(centre), asyncio.timeout(30):
        with pytest.raises(RefusedError, match="does not answer"):
            await publisher.relay(centre, Ways(), HASTY).open()
        assert centre.puts == [b""]


@pytest.mark.parametrize("place", SILENT)
@looped
async def test_silence_has_an_end_and_nothing_is_lost_by_it(place: str) -> None:
    """Of a data centre that takes no more: the publisher is held up for `stall_s`, then goes on
    into what is held; once it is well it is given all of that. Its silence at the end is waited
    for as long as `finish_s`."""
    centre, publisher = Centre(SILENT[place]), Publisher()
    async with running(centre), asyncio.timeout(30):
        relay = publisher.relay(centre, Ways())
        await relay.open()
        relay.feed([piece(sound(number)) for number in range(FLOOD)])
        assert publisher.paused == [True]
        await eventually(lambda: publisher.paused[-1] is False, 10)
        centre.says = None
        await eventually(lambda: publisher.counts["reconnects"] and centre.puts[-1], 10)
        relay.feed([piece(sound(FLOOD))])
        # those of the silent ones end when they are lost
        await eventually(lambda: sound(FLOOD).encode() in centre.puts[-1][-(1 << 17) :], 10)
        tags = FlvReader().feed(bytes(centre.puts[-1]))
        assert [tag.body for tag in tags] == [sound(number).body for number in range(FLOOD + 1)]
        centre.says = b""
        await relay.close()
        assert publisher.failed == []


@looped
async def test_silence_at_the_end_is_not_waited_for() -> None:
    centre, publisher = Centre(SILENT["body"]), Publisher()
    async with running(centre), asyncio.timeout(30):
        relay = publisher.relay(centre, Ways())
        await relay.open()
        relay.feed([piece(sound(0))])
        await relay.close()
        assert sum(n for name, n in publisher.counts.items() if name.startswith("held.")) == 1


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@looped
async def test_a_data_centre_behind_tls_is_given_the_media(authority: Authority) -> None:
    centre, publisher = Centre(scheme="https"), Publisher()
    async with running(centre, serving(authority.signs("localhost"))), asyncio.timeout(30):
        relay = publisher.relay(centre, Ways(authority.file), PATIENT)
        await relay.open()
        relay.feed([piece(sound(number)) for number in range(50)])
        await relay.close()
        [body] = centre.puts
        assert centre.ended == 1
        assert len(FlvReader().feed(bytes(body))) == 50
        assert publisher.counts["reconnects"] == 0


@pytest.mark.parametrize("name", ["other.example", ""])
@looped
async def test_one_that_nobody_vouches_for_is_told_nothing(
    authority: Authority, tmp_path: Path, name: str
) -> None:
    """Neither media nor keys: the certificate is for another name, or of an unknown signer."""
    signer = authority if name else Authority(tmp_path)
    centre, publisher = Centre(scheme="https"), Publisher()
    async with running(centre, serving(signer.signs(name or "localhost"))), asyncio.timeout(30):
        ways = Ways(authority.file)
        with pytest.raises(RefusedError, match="does not answer"):
            await publisher.relay(centre, ways).open()
        admission = Admission(data_centres=[centre.url], sign=signed, ways=ways)
        with pytest.raises(RefusedError, match="no data centre answers"):
            await admission.ask("a-key", "127.0.0.1")
        assert admission.counts["failures.certificate"] == 1
        assert centre.puts == []
