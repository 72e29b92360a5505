"""Which hosts are asked before the origins, and what a parent's silence and answers mean."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from time import monotonic

import pytest

from edgecache.config import load_config
from edgecache.control import policy
from edgecache.control.attempts import Attempts
from edgecache.control.chain import Chain, Parent, identity, ours, ranked
from edgecache.control.response import Head
from edgecache.control.upstream import Patience, Upstreams
from edgecache.errors import ConfigError, UpstreamError
from edgecache.sources import Chain as Settings
from tests.looped import looped
from tests.routed import route

HOSTS = tuple(f"http://10.0.0.{n}:80" for n in range(1, 4))
SHIELD = ("http://s1:80", "http://s2:80")
KEYS = [b"/live/cam/0/v/%d.m4s" % n for n in range(600)]


def chain(host: str) -> Chain:
    return Chain(Settings(siblings=HOSTS, host=host, shield=SHIELD), Patience())


def test_keys_are_shared_out_evenly_and_alike_everywhere() -> None:
    owners = Counter(ranked(HOSTS, key)[0] for key in KEYS)
    assert min(owners.values()) > len(KEYS) / 3 * 0.8
    assert all(ranked(HOSTS[::-1], key) == ranked(HOSTS, key) for key in KEYS)
    without = [host for host in HOSTS if host != HOSTS[0]]
    moved = [key for key in KEYS if ranked(without, key)[0] != ranked(HOSTS, key)[0]]
    assert {ranked(HOSTS, key)[0] for key in moved} == {HOSTS[0]}, "only what the dead one had"


@looped
async def test_the_owner_asks_the_shield_and_the_others_ask_the_owner() -> None:
    for key in KEYS[:50]:
        order = ranked(HOSTS, key)
        for place, host in enumerate(order):
            asked = [parent.url for parent in chain(host).of(key, b"")]
            assert asked == order[:place] + ranked(SHIELD, key)
            through = [parent.url for parent in chain(host).of(key, b"edgecache-a-00000000")]
            assert through == ranked(SHIELD, key)


@looped
async def test_versions_of_a_playlist_belong_together() -> None:
    of = chain(HOSTS[0]).of
    for n in range(20):
        name = b"/live/cam/%d.m3u8" % n
        assert of(name, b"") == of(name + b"?_HLS_msn=3&_HLS_part=1", b"")


@looped
async def test_parents_are_asked_once_each_and_then_the_origins() -> None:
    settings = Settings(siblings=HOSTS, host=HOSTS[2], shield=SHIELD)
    key = next(key for key in KEYS if ranked(HOSTS, key)[2] == HOSTS[2])
    found = route(Upstreams(["http://o1", "http://o2"], Patience()), settings)
    first, failed, *rest = found.parents(key, b"")
    failed.breaker.failure(monotonic())  # one is enough: there is somebody else to ask
    attempts = Attempts(found, key, b"", 3)
    asked = []
    while (origin := attempts.next()) is not None:
        asked.append(origin.url)
        attempts.failed(origin, UpstreamError("refused"), began=False)
    parents = [parent.url for parent in (first, *rest)]
    assert asked == [*parents, "http://o1", "http://o2"]
    assert len(parents) == 3


@pytest.mark.parametrize(
    ("status", "parent", "reason", "retryable"),
    [
        (500, True, "status_5xx", False),
        (502, True, "status_5xx", False),
        (504, True, "timeout", False),
        (503, True, "busy", True),
        (508, True, "loop", True),
        (508, False, "loop", True),
        (504, False, "status_5xx", True),
    ],
)
def test_a_parent_has_tried_already(
    status: int, parent: bool, reason: str, retryable: bool
) -> None:
    with pytest.raises(UpstreamError) as caught:
        policy.check_status(Head(status, (), 0), parent=parent)
    assert (caught.value.reason, caught.value.retryable) == (reason, retryable)


class _Taken:
    def head(self, head: Head) -> None: ...

    def data(self, chunk: bytes) -> None: ...


@looped
async def test_a_parent_that_lives_may_take_its_time_and_a_silent_one_may_not() -> None:
    """Both answer the object only when told to; one of them answers for its clock."""
    clocks = 0
    go = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal clocks
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if b"/edgecache/time" in head:
                    clocks += 1
                    if clocks > 3:
                        await reader.read()
                else:
                    await go.wait()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    parent = Parent(url, Patience(failures=1), 0.05)
    asking = asyncio.create_task(parent.get(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n", _Taken(),
                                            first_byte_s=20.0))  # fmt: skip
    with pytest.raises(UpstreamError) as caught:
        await asking
    assert caught.value.reason == "silent"
    assert clocks == 4
    assert not parent.breaker.closed
    await parent.close()
    go.set()
    server.close()
    await asyncio.sleep(0.01)


def test_two_processes_of_one_name_are_two_caches() -> None:
    assert re.fullmatch(r"edgecache-edge-[0-9a-f]{8}", identity("edge"))
    assert identity("edge") != identity("edge")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["chain.siblings=http://a,http://b"], "found '', allowed one of chain.siblings"),
        (["chain.host=http://a"], "found 'http://a', allowed one of chain.siblings"),
        (["chain.siblings=http://a,http://b", "chain.host=http://c"], "found 'http://c'"),
        (["chain.shield=http://a,http://a"], "found http://a twice"),
        (["chain.siblings=http://a,http://b", "chain.host=http://a", "chain.shield=http://b"],
         "found http://b twice"),
        (["chain.shield=http://a", "origin.urls=http://a"], "http://a, which is an origin too"),
        (["chain.shield=http://a", 'route=[{prefix="/x/", origins=["http://a"]}]'],
         "http://a, which is an origin too"),
        (["chain.shield=a"], "chain.shield.0"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(given: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, given)
    [line] = caught.value.problems
    assert said in line


def test_only_members_in_our_form_are_caches_of_ours() -> None:
    own = identity("pop")
    assert ours(f"cloud, {own};v=1 , edgecache-Ä-0, {own}") == f"{own}, {own}".encode()
    assert ours("") == ours("cloud") == b""
