"""The client for origins: strict about responses, bounded in time, honest about health."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
import uvloop

from edgecache.control import policy
from edgecache.control.breaker import Breaker
from edgecache.control.response import Head, ResponseReader
from edgecache.control.upstream import Origin, Patience, Upstreams
from edgecache.errors import UpstreamError

REQUEST = b"GET /x HTTP/1.1\r\nHost: o\r\n\r\n"
FAST = Patience(connect_s=5.0, min_rate=1000, idle_s=5.0, connections=2, failures=2, open_s=0.1)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@dataclass
class Taken:
    heads: list[Head] = field(default_factory=list)
    body: bytes = b""

    def head(self, head: Head) -> None:
        self.heads.append(head)

    def data(self, chunk: bytes) -> None:
        self.body += chunk


def read(*pieces: bytes, eof: bool = False) -> tuple[ResponseReader, Taken]:
    taken = Taken()
    reader = ResponseReader(taken)
    for piece in pieces:
        reader.feed(piece)
    if eof:
        reader.eof()
    return reader, taken


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GOOD = [
    (OK, b"hello", True),
    (CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello", True),
    (CHUNKED + b"1\r\na\r\n0\r\nX-T: y\r\n\r\n", b"a", True),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: a\r\n\r\n" + OK, b"hello", True),
    (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", b"", True),
    (b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n', b"", True),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", False),
    (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", b"hello", False),
]


@pytest.mark.parametrize(("message", "body", "keep_alive"), GOOD)
def test_a_response_is_read_the_same_at_every_split(
    message: bytes, body: bytes, keep_alive: bool
) -> None:
    for cut in range(len(message)):
        reader, taken = read(message[:cut], message[cut:])
        assert (taken.body, reader.complete, reader.keep_alive) == (body, True, keep_alive)
        assert len(taken.heads) == 1


@pytest.mark.parametrize(
    "message",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
        b"HTTP/1.1 200 OK\r\nX: \x00\r\n\r\n",
        b"HTTP/1.1 99 Odd\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw",
        b"HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nhe\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nhe\n0\n\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40_000,
        b"hello",
    ],
)
def test_a_doubtful_response_is_refused(message: bytes) -> None:
    for pieces in ([message], [bytes([byte]) for byte in message]):
        with pytest.raises(UpstreamError) as caught:
            read(*pieces)
        assert caught.value.reason == "protocol"


@pytest.mark.parametrize("cut", range(1, len(OK)))
def test_an_end_before_the_end_is_a_cut(cut: int) -> None:
    with pytest.raises(UpstreamError) as caught:
        read(OK[:cut], eof=True)
    assert caught.value.reason == "cut"


def test_a_missing_last_chunk_is_a_cut_and_a_body_to_the_close_is_whole() -> None:
    with pytest.raises(UpstreamError):
        read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", eof=True)
    reader, taken = read(b"HTTP/1.0 200 OK\r\n\r\nall of it", eof=True)
    assert reader.complete
    assert taken.body == b"all of it"


@pytest.mark.parametrize("extra", [b"x" * 300, OK, b"\r\n"])
def test_bytes_after_the_end_are_not_part_of_the_body(extra: bytes) -> None:
    for pieces in ((OK + extra,), (OK, extra)):
        reader, taken = read(*pieces)
        assert (taken.body, reader.complete) == (b"hello", True)
        assert len(taken.heads) == 1
        assert reader.extra or extra == b"\r\n"


def test_breaker_opens_probes_and_closes() -> None:
    breaker = Breaker(2, 10.0)
    breaker.failure(0.0)
    assert breaker.allow(0.0)
    breaker.failure(1.0)
    assert breaker.state(10.9) == "open"
    assert not breaker.allow(10.9)
    assert breaker.state(11.0) == "half-open"
    assert breaker.allow(11.0)  # the probe
    assert breaker.state(11.0) == "open"
    assert not breaker.allow(11.1)
    breaker.failure(11.2)
    assert not breaker.allow(21.1)
    assert breaker.allow(21.2)
    breaker.success()
    assert breaker.allow(21.3)
    assert breaker.closed
    assert (breaker.state(21.3), breaker.probes) == ("closed", 2)


# -- over real sockets


@dataclass
class Script:
    """Answers request number n with script n (the last repeats): bytes sent, floats waited, "fin",
    "rst"."""

    answers: Sequence[Sequence[bytes | float | str]]
    requests: int = 0
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                script = self.answers[min(self.requests, len(self.answers) - 1)]
                self.requests += 1
                for step in script:
                    if isinstance(step, bytes):
                        writer.write(step)
                        await writer.drain()
                    elif isinstance(step, float):
                        await asyncio.sleep(step)
                    else:
                        self._end(writer, step)
                        return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @staticmethod
    def _end(writer: asyncio.StreamWriter, how: str) -> None:
        if how == "rst":
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


@asynccontextmanager
async def origin_with(
    *answers: Sequence[bytes | float | str], patience: Patience = FAST
) -> AsyncIterator[tuple[Origin, Script]]:
    script = Script(answers)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    origin = Origin(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", patience)
    try:
        yield origin, script
    finally:
        await origin.close()
        server.close()
        await asyncio.sleep(0.01)


def run(case: Coroutine[None, None, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the daemon does
        runner.run(asyncio.wait_for(case, 10))


def test_connections_are_reused() -> None:
    async def case() -> None:
        async with origin_with([OK]) as (origin, script):
            for _ in range(5):
                taken = Taken()
                await origin.get(REQUEST, taken, first_byte_s=1)
                assert taken.body == b"hello"
            assert (script.requests, script.connections, origin.connections) == (5, 1, 1)

    run(case())


def test_the_pool_is_bounded_and_others_wait() -> None:
    async def case() -> None:
        async with origin_with([0.05, OK]) as (origin, script):
            takers = [Taken() for _ in range(6)]
            await asyncio.gather(*(origin.get(REQUEST, t, first_byte_s=1) for t in takers))
            assert script.connections == 2
            assert all(taken.body == b"hello" for taken in takers)

    run(case())


def test_a_connection_closed_while_idle_is_replaced_once() -> None:
    async def case() -> None:
        async with origin_with([OK, "fin"], [OK], ["fin"]) as (origin, script):
            await origin.get(REQUEST, Taken(), first_byte_s=1)
            await asyncio.sleep(0.05)
            await origin.get(REQUEST, Taken(), first_byte_s=1)
            with pytest.raises(UpstreamError) as caught:
                await origin.get(REQUEST, Taken(), first_byte_s=1)
            assert caught.value.reason == "cut"
            assert script.requests == 4

    run(case())


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ([1.0], "timeout"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "fin"], "cut"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "rst"], "cut"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\nhalf", 3.0], "slow"),
        ([b"SSH-2.0-OpenSSH\r\n", "fin"], "protocol"),
    ],
)
def test_failures_have_their_reason_and_count(
    script: Sequence[bytes | float | str], reason: str
) -> None:
    async def case() -> None:
        async with origin_with(script) as (origin, _):
            with pytest.raises(UpstreamError) as caught:
                await origin.get(REQUEST, Taken(), first_byte_s=0.2)
            assert caught.value.reason == reason
            assert origin.counts[f"failures.{reason}"] == 1

    run(case())


def test_a_body_that_is_being_made_is_slow_only_when_it_is_silent() -> None:
    """A live segment of 16 KB/s of audio was cut for being below 64 KiB/s, again and again."""

    async def case() -> None:
        parts: list[bytes | float] = [CHUNKED]
        for _ in range(6):
            parts += [b"2\r\nab\r\n", 0.4]
        async with origin_with([*parts, b"0\r\n\r\n"]) as (origin, _):
            taken = Taken()
            await origin.get(REQUEST, taken, first_byte_s=0.8)
            assert taken.body == b"ab" * 6
        async with origin_with([*parts, 5.0]) as (origin, _):
            with pytest.raises(UpstreamError) as caught:
                await origin.get(REQUEST, Taken(), first_byte_s=0.8)
            assert caught.value.reason == "slow"

    run(case())


def test_extra_bytes_close_the_connection_and_are_counted() -> None:
    async def case() -> None:
        async with origin_with([OK + b"x" * 300], [OK]) as (origin, script):
            for _ in range(2):
                taken = Taken()
                await origin.get(REQUEST, taken, first_byte_s=1)
                assert taken.body == b"hello"
            assert script.connections == 2
            assert origin.counts["failures.extra_bytes"] == 1

    run(case())


def test_errors_open_the_breaker_and_the_second_origin_is_picked() -> None:
    async def case() -> None:
        bad = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
        async with origin_with([bad]) as (first, _), origin_with([OK]) as (second, _):
            upstreams = Upstreams((first.url, second.url), FAST)
            asked = upstreams.pick()
            assert asked is not None
            assert asked.url == first.url
            for _ in range(2):
                await asked.get(REQUEST, Taken(), first_byte_s=1)
            assert upstreams.pick() is upstreams.origins[1]
            assert upstreams.pick([upstreams.origins[1]]) is None
            await asyncio.sleep(0.11)
            assert upstreams.pick([upstreams.origins[1]]) is asked  # half-open: one probe
            await asyncio.sleep(0.11)
            assert upstreams.pick() is asked  # and shy no more
            assert upstreams.pick() is upstreams.origins[1]
            await upstreams.close()

    run(case())


def test_nobody_listening_is_refused_at_once() -> None:
    async def case() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        origin = Origin(f"http://127.0.0.1:{port}", FAST)
        with pytest.raises(UpstreamError) as caught:
            await origin.get(REQUEST, Taken(), first_byte_s=1)
        assert caught.value.reason == "refused"

    run(case())


def test_a_host_that_takes_no_connection_is_left_in_time() -> None:
    """Its queue of connections is full, so that it answers no SYN, like a host that is gone."""

    async def case() -> None:
        with socket.socket() as full, contextlib.ExitStack() as waiting:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for _ in range(4):
                client = waiting.enter_context(socket.socket())
                client.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    client.connect(full.getsockname())
            hasty = replace(FAST, connect_s=0.3)
            origin = Origin(f"http://127.0.0.1:{full.getsockname()[1]}", hasty)
            with pytest.raises(UpstreamError) as caught:
                await origin.get(REQUEST, Taken(), first_byte_s=5)
            assert caught.value.reason == "connect_timeout"
            assert origin.connections == 0

    run(case())


@pytest.mark.parametrize(
    ("status", "status_fails", "closed"),
    [(500, True, False), (503, True, True), (429, True, True), (502, False, True)],
)
def test_an_answer_that_says_no_is_one_of_an_origin_that_lives(
    status: int, status_fails: bool, closed: bool
) -> None:
    """Fills refuse such heads, and that opened the breaker whatever they said: five 503 in a row
    kept everybody from the origin."""

    class Refusing(Taken):
        def head(self, head: Head) -> None:
            policy.check_status(head)

    async def case() -> None:
        answer = b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status
        patience = replace(FAST, status_fails=status_fails)
        async with origin_with([answer], patience=patience) as (origin, _):
            for _ in range(FAST.failures):
                with pytest.raises(UpstreamError):
                    await origin.get(REQUEST, Refusing(), first_byte_s=1)
            assert origin.breaker.closed == closed

    run(case())


@pytest.mark.parametrize("cut_fails", [True, False])
def test_a_page_that_cuts_is_not_a_site_that_is_away(cut_fails: bool) -> None:
    """Five pages that crashed, one beside the other, had everybody wait for two seconds."""

    async def case() -> None:
        patience = replace(FAST, cut_fails=cut_fails)
        async with origin_with(["fin"], patience=patience) as (origin, _):
            for _ in range(FAST.failures):
                with pytest.raises(UpstreamError):
                    await origin.get(REQUEST, Taken(), first_byte_s=1)
            assert origin.breaker.closed == (not cut_fails)

    run(case())
