"""The small server of our own doors, over real sockets: order, bounds, strictness."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import uvloop

from edgecache.control.http1 import Admit, Limits, Request, Response, refusal
from edgecache.control.httpd import Door

LIMITS = Limits(
    head_bytes=2048, head_fields=16, body_bytes=1000, queue_bytes=4000, connections=4,
    head_s=30.0, body_s=30.0, idle_s=30.0,
)  # fmt: skip


async def echo(request: Request) -> Response:
    await asyncio.sleep(0)
    return Response(200, f"{request.method} {request.target} ".encode() + request.body)


@asynccontextmanager
async def door_at(
    handler: Callable[[Request], Awaitable[Response]] = echo,
    *,
    limits: Limits = LIMITS,
    admit: Admit | None = None,
) -> AsyncIterator[tuple[Door, int]]:
    listener = socket.create_server(("127.0.0.1", 0))
    door = Door("test", handler, limits=limits, admit=admit)
    await door.start(listener)
    try:
        yield door, listener.getsockname()[1]
    finally:
        await door.close(0.2)


def run(case: Coroutine[None, None, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the daemon does
        runner.run(asyncio.wait_for(case, 10))


async def exchange(port: int, *pieces: bytes) -> bytes:
    """Send the pieces one by one, half-close, read to the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


def put(body: bytes, target: str = "/x") -> bytes:
    return (
        f"PUT {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )


def test_pipelined_requests_are_answered_in_order() -> None:
    async def slow_first(request: Request) -> Response:
        await asyncio.sleep(0.05 if request.target == "/0" else 0)
        return await echo(request)

    async def case() -> None:
        async with door_at(slow_first) as (_, port):
            asked = b"".join(put(b"b%d" % n, f"/{n}") for n in range(100))
            answer = await exchange(port, asked)
        bodies = [part.partition(b"HTTP/1.1")[0] for part in answer.split(b"\r\n\r\n")[1:]]
        assert bodies == [b"PUT /%d b%d" % (n, n) for n in range(100)]

    run(case())


def test_every_split_of_a_request_gives_the_same_answer() -> None:
    async def case() -> None:
        message = (
            put(b"hello", "/a?b=c") + b"GET /z HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        async with door_at() as (_, port):
            whole = await exchange(port, message)
            for cut in range(1, len(message)):
                assert await exchange(port, message[:cut], message[cut:]) == whole

    run(case())


BAD = [
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a/b@c\r\n\r\n", 400),
    (b"GET http://evil/x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    (b"GET /\r\n\r\n", 400),
    (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 400),
    (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", 417),
    (b"PUT / HTTP/1.1\r\nHost: a\r\n\r\n", 411),
    (b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
    (b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", 413),
    (b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nab", 400),
    (b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\nab", 400),
    (b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nab", 400),
    (
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nab",
        400,
    ),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 3000 + b"\r\n\r\n", 431),
    (b"GET /" + b"y" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
    (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 20 + b"\r\n", 431),
    (b"\x16\x03\x01\x02\x00\x01\x00", 400),
]


@pytest.mark.parametrize(("request_bytes", "status"), BAD)
def test_a_bad_request_is_refused_after_those_before_it(request_bytes: bytes, status: int) -> None:
    async def case() -> None:
        good = b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n"
        async with door_at() as (door, port):
            alone = await exchange(port, request_bytes)
            behind = await exchange(port, good + request_bytes + good)
            assert door.counts[f"answers.{status}"] == 2
        assert alone.startswith(b"HTTP/1.1 %d " % status)
        assert b"Connection: close" in alone
        first, _, second = behind.partition(b"GET /ok ")
        assert first.startswith(b"HTTP/1.1 200 ")
        assert second.startswith(b"HTTP/1.1 %d " % status)
        assert second.count(b"HTTP/1.1 ") == 1

    run(case())


def test_an_endless_head_is_cut_at_its_bound() -> None:
    async def case() -> None:
        async with door_at() as (_, port):
            assert (await exchange(port, b"GET /" + b"y" * 5000)).startswith(b"HTTP/1.1 431 ")

    run(case())


def test_a_stranger_is_refused_before_the_body_is_read() -> None:
    async def case() -> None:
        async with door_at(admit=lambda _: refusal(401, "who?", close=True)) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
            writer.close()

    run(case())


@pytest.mark.parametrize(
    ("sent", "state"),
    [(b"", "idle"), (b"GET / HT", "head"), (put(b"12345")[:-2], "body")],
    ids=["idle", "head", "body"],
)
def test_each_state_has_a_deadline(sent: bytes, state: str) -> None:
    short = replace(LIMITS, **{f"{state}_s": 0.3})  # type: ignore[arg-type]

    async def case() -> None:
        async with door_at(limits=short) as (door, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            assert door.counts[f"closed.{state}_timeout"] == 1
            writer.close()

    run(case())


def test_connections_beyond_the_bound_are_closed_and_counted() -> None:
    async def case() -> None:
        async with door_at() as (door, port):
            kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            assert door.counts["closed.crowded"] == 1
            assert door.connections == 4
            for _, other in [*kept, (reader, writer)]:
                other.close()

    run(case())


def test_a_failing_handler_is_a_500_and_the_door_lives() -> None:
    async def broken(request: Request) -> Response:
        raise RuntimeError(request.target)

    async def case() -> None:
        async with door_at(broken) as (door, port):
            for _ in range(2):
                answer = await exchange(port, b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
                assert answer.startswith(b"HTTP/1.1 500 ")
                assert b"/x" not in answer
            assert door.counts["answers.500"] == 2

    run(case())


def test_close_answers_what_is_in_hand() -> None:
    entered = asyncio.Event()

    async def slow(request: Request) -> Response:
        entered.set()
        await asyncio.sleep(0.1)
        return await echo(request)

    async def case() -> None:
        async with door_at(slow) as (door, port):
            asked = asyncio.create_task(exchange(port, b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"))
            await entered.wait()
            await door.close(2)
            assert (await asked).startswith(b"HTTP/1.1 200 ")
            assert door.connections == 0

    run(case())
