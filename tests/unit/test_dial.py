"""The way to an origin: names, addresses, certificates."""

from __future__ import annotations

import asyncio
import datetime
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from edgecache import tls
from edgecache.control import dial
from edgecache.control.dial import Address, Way
from edgecache.control.response import Head
from edgecache.control.upstream import Origin, Patience
from edgecache.errors import ConfigError, UpstreamError
from tests.authority import Authority, serving
from tests.looped import eventually, looped

REQUEST = b"GET /x HTTP/1.1\r\nHost: o\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CALM = Patience(connect_s=5.0, min_rate=0, connections=4)
HASTY = replace(CALM, connect_s=0.3)
HERE, NOBODY = "127.0.0.1", "127.9.9.9"


class Silent:
    """A Sink that keeps the body."""

    def __init__(self) -> None:
        self.body = b""

    def head(self, head: Head) -> None: ...

    def data(self, chunk: bytes) -> None:
        self.body += chunk


@dataclass
class Server:
    """Answers each request with `answer`, then hangs up if told so. `names`: what clients sent as
    SNI."""

    port: int = 0
    answer: bytes = OK
    then: str = ""  # "end": with what TLS says at the end; "cut": without
    connections: int = 0
    reused: list[bool] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if (sslobj := writer.get_extra_info("ssl_object")) is not None:
            self.reused.append(bool(sslobj.session_reused))
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(self.answer)
                await writer.drain()
                if self.then == "cut":  # below TLS, which says nothing of it
                    descriptor = os.dup(writer.get_extra_info("socket").fileno())
                    with socket.socket(fileno=descriptor) as below:
                        below.shutdown(socket.SHUT_WR)
                if self.then:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def sni(self, _object: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        self.names.append(name)


@asynccontextmanager
async def server(certificate: Path | None = None, host: str = HERE) -> AsyncIterator[Server]:
    found = Server()
    context = serving(certificate) if certificate else None
    if context is not None:
        context.sni_callback = found.sni
    listening = await asyncio.start_server(found.serve, host, 0, ssl=context)
    found.port = listening.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        listening.close()
        await asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def origin_at(host: str, port: int, authority: Authority | None) -> Origin:
    """Over TLS where there is an authority."""
    scheme = "https" if authority else "http"
    patience = replace(CALM, ca_file=authority.file if authority else None)
    return Origin(f"{scheme}://{host}:{port}", patience)


async def asked(origin: Origin) -> bytes:
    sink = Silent()
    await origin.get(REQUEST, sink, first_byte_s=5)
    return sink.body


# -- TLS


@looped
async def test_a_certificate_of_the_authority_for_that_name_is_good(authority: Authority) -> None:
    for host in ("localhost", HERE):
        async with server(authority.signs(host)) as there:
            origin = origin_at(host, there.port, authority)
            assert await asked(origin) == b"hello"
            assert there.names == ["localhost" if host == "localhost" else None]  # RFC 6066 3
            await origin.close()


Case = Callable[[Authority], Path]


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda a: a.signs(HERE, ends=datetime.timedelta(hours=-1)), "has expired"),
        (lambda a: a.signs("elsewhere.example"), "IP address mismatch"),
        (lambda a: a.signs(HERE, itself=True), "self-signed certificate"),
    ],
    ids=["expired", "other name", "self-signed"],
)
def test_any_other_certificate_is_refused_before_anything_is_sent(
    authority: Authority, made: Case, told: str
) -> None:
    @looped
    async def case() -> None:
        async with server(made(authority)) as there:
            origin = origin_at(HERE, there.port, authority)
            with pytest.raises(UpstreamError) as caught:
                await asked(origin)
            assert caught.value.reason == "certificate"
            assert told in str(caught.value)
            assert "\n" not in str(caught.value)
            assert (origin.connections, origin.counts["failures.certificate"]) == (0, 1)
            assert there.reused in ([], [False])
            await origin.close()

    case()


@looped
async def test_who_trusts_the_system_does_not_trust_an_unknown_authority(
    authority: Authority,
) -> None:
    async with server(authority.signs(HERE)) as there:
        origin = Origin(f"https://{HERE}:{there.port}", CALM)
        with pytest.raises(UpstreamError) as caught:
            await asked(origin)
        assert caught.value.reason == "certificate"


@looped
async def test_one_certificate_can_be_pinned(authority: Authority) -> None:
    file = authority.signs(HERE, itself=True)
    async with server(file) as there:
        pinned = Origin(f"https://{HERE}:{there.port}", replace(CALM, ca_file=file))
        assert await asked(pinned) == b"hello"
        await pinned.close()


@looped
async def test_who_does_not_speak_tls_is_told_so() -> None:
    async def plain(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    listening = await asyncio.start_server(plain, HERE, 0)
    origin = Origin(f"https://{HERE}:{listening.sockets[0].getsockname()[1]}", CALM)
    with pytest.raises(UpstreamError) as caught:
        await asked(origin)
    assert (caught.value.reason, origin.connections) == ("tls", 0)
    listening.close()


@looped
async def test_a_handshake_that_stalls_is_left_at_the_deadline_to_connect() -> None:
    gone = asyncio.Event()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass
        writer.close()
        gone.set()

    listening = await asyncio.start_server(stall, HERE, 0)
    origin = Origin(f"https://{HERE}:{listening.sockets[0].getsockname()[1]}", HASTY)
    with pytest.raises(UpstreamError) as caught:
        await asked(origin)
    assert (caught.value.reason, origin.connections) == ("connect_timeout", 0)
    await gone.wait()  # nothing of it is left open
    listening.close()


@looped
async def test_the_next_connection_begins_where_the_last_one_ended(authority: Authority) -> None:
    async with server(authority.signs("localhost")) as there:
        there.then = "end"
        origin = origin_at("localhost", there.port, authority)
        for _ in range(3):
            assert await asked(origin) == b"hello"
            await eventually(lambda: not origin.connections)
        assert there.reused == [False, True, True]
        await origin.close()


@pytest.mark.parametrize("then", ["end", "cut"])
def test_a_body_to_the_close_is_whole_only_if_the_origin_said_that_it_ends(
    authority: Authority, then: str
) -> None:
    """RFC 9112 9.8: anybody on the way can close a connection; close_notify is the origin's."""

    @looped
    async def case() -> None:
        async with server(authority.signs(HERE)) as there:
            there.answer, there.then = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", then
            origin = origin_at(HERE, there.port, authority)
            if then == "end":
                assert await asked(origin) == b"hello"
            else:
                with pytest.raises(UpstreamError) as caught:
                    await asked(origin)
                assert caught.value.reason == "cut"
            await origin.close()

    case()


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_a_file_of_signers_that_is_none_is_one_line(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "ca.pem"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        tls.client(file)
    [problem] = caught.value.problems
    assert problem.startswith(f"origin.ca_file: found {file}")


# -- names and addresses


class Resolver:
    """Says what it is told to, one answer after the other; the last repeats."""

    def __init__(self, *answers: Sequence[str] | OSError | asyncio.Event) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, _host: str, port: int) -> Sequence[Address]:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            return []
        if isinstance(answer, OSError):
            raise answer
        return [(where, port) for where in answer]


class Passing(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.where: str = transport.get_extra_info("peername")[0]
        transport.close()


async def reached(way: Way, within_s: float = 2.0) -> str:
    async with asyncio.timeout(within_s):
        return (await way.connect(Passing)).where


NXDOMAIN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@looped
async def test_the_last_good_address_stays_when_the_name_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers: list[list[str] | OSError] = [NXDOMAIN, []]
    for lost in answers:
        async with server() as there:
            resolver = Resolver([HERE], lost)
            way = Way("o.example", there.port, resolve_s=0.0, lookup=resolver)
            for _ in range(5):
                assert await reached(way) == HERE
                await asyncio.sleep(0)
            assert resolver.asked > 1
    assert "o.example does not resolve, its last addresses stay" in caplog.text


@looped
async def test_a_name_is_looked_up_once_in_its_time() -> None:
    async with server() as there:
        resolver = Resolver([HERE])
        way = Way("o.example", there.port, resolve_s=60.0, lookup=resolver)
        assert await asyncio.gather(*(reached(way) for _ in range(20))) == [HERE] * 20
        assert await reached(way) == HERE
        assert resolver.asked == 1


@looped
async def test_a_resolver_that_hangs_holds_up_nobody_who_knows_an_address() -> None:
    async with server() as there:
        way = Way("o.example", there.port, resolve_s=0.0, lookup=Resolver([HERE], asyncio.Event()))
        assert [await reached(way) for _ in range(5)] == [HERE] * 5
        way.close()


@looped
async def test_and_others_no_longer_than_their_deadline() -> None:
    origin = Origin("http://o.example", HASTY)
    resolver = Resolver(asyncio.Event())
    origin._way = Way("o.example", 80, lookup=resolver)
    failed = await asyncio.gather(*(asked(origin) for _ in range(4)), return_exceptions=True)
    assert [getattr(error, "reason", error) for error in failed] == ["connect_timeout"] * 4
    assert resolver.asked == 1, "one thread of the resolver hangs, however many wait"
    await origin.close()


@looped
async def test_a_name_that_nobody_has_is_one_line_and_not_asked_for_again_at_once() -> None:
    resolver = Resolver(NXDOMAIN)
    way = Way("o.example", 80, lookup=resolver)
    for _ in range(3):
        with pytest.raises(UpstreamError) as caught:
            await reached(way)
        assert caught.value.reason == "unresolved"
        assert str(caught.value) == "o.example does not resolve: Name or service not known"
    assert resolver.asked == 1


@looped
async def test_addresses_are_tried_in_turn() -> None:
    async with server() as there:
        way = Way("o.example", there.port, lookup=Resolver([NOBODY, "127.9.9.8", HERE]))
        assert await reached(way) == HERE


@looped
async def test_one_that_does_not_answer_costs_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue of connections is full, so that it answers no SYN."""
    monkeypatch.setattr(dial, "_HEAD_START_S", 0.02)
    async with server() as there:
        with socket.socket() as full:
            full.bind((NOBODY, there.port))
            full.listen(0)
            clients = [socket.socket() for _ in range(4)]
            for client in clients:
                client.setblocking(False)
                client.connect_ex(full.getsockname())
            way = Way("o.example", there.port, lookup=Resolver([NOBODY, HERE]))
            assert await reached(way) == HERE
            for client in clients:
                client.close()


@looped
async def test_a_host_that_moved_is_found_where_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "_AGAIN_S", 0.0)
    async with server() as there:
        resolver = Resolver([NOBODY], [NOBODY, HERE])
        way = Way("o.example", there.port, resolve_s=60.0, lookup=resolver)
        assert await reached(way) == HERE
        assert resolver.asked == 2


@looped
async def test_a_host_that_is_down_is_refused_and_looked_up_once_a_second() -> None:
    resolver = Resolver([NOBODY])
    way = Way("o.example", 9, resolve_s=60.0, lookup=resolver)
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            await reached(way)
    assert resolver.asked == 1


@looped
async def test_the_system_resolves() -> None:
    found = await dial.look_up("localhost", 80)
    assert (HERE, 80) in found
    with pytest.raises(OSError):  # noqa: PT011 - whatever this system's resolver says
        await dial.look_up("nobody.invalid", 80)
