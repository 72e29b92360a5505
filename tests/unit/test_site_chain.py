"""Whom a site asks: hosts of the chain, then origins, and what of that is done twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edgecache.sources import Chain
from tests.looped import looped
from tests.running import ScriptedOrigin, Step, ok
from tests.site_front import front


@pytest.fixture
def origin() -> Iterator[ScriptedOrigin]:
    server = ScriptedOrigin()
    yield server
    server.close()


@looped
async def test_parents_are_asked_first_and_those_behind_them_when_they_do_not_answer(
    origin: ScriptedOrigin,
) -> None:
    parent = ScriptedOrigin()
    chain = Chain(shield=(parent.url, "http://127.0.0.1:9"))
    try:
        for path in ("/a", "/gone", "/circle"):
            origin.says(path, ok(b"origin"))
        parent.says("/a", ok(b"parent"))
        parent.says("/gone", "fin")
        parent.says("/circle", ok(b"", status="508 Loop Detected"))
        async with front(origin.url, chain=chain) as edge:
            assert (await edge.get("/a")).body == b"parent"
            assert (await edge.get("/gone")).body == b"origin"
        async with front(origin.url, chain=chain) as edge:
            assert (await edge.get("/circle")).body == b"origin"
            assert (await edge.get("/a")).body == b"origin", "a parent in a circle is asked no more"
        assert (parent.count("/circle"), parent.count("/a")) == (1, 1)
    finally:
        parent.close()


@pytest.mark.parametrize(
    ("answer", "status"), [("fin", 502), (None, 200)], ids=["sent", "not sent"]
)
def test_what_may_not_be_repeated_is_sent_once(
    origin: ScriptedOrigin, answer: Step | None, status: int
) -> None:
    """A host that nobody listens at has not had it, so that the next may."""

    @looped
    async def case() -> None:
        parent = ScriptedOrigin()
        parent.scripts["/a"] = lambda _: [answer] if answer is not None else []
        origin.says("/a", ok(b"origin"))
        if answer is None:
            parent.close()
        try:
            async with front(origin.url, chain=Chain(shield=(parent.url,))) as edge:
                assert (await edge.ask("POST", "/a", {}, b"x")).status == status
            assert origin.count("/a") + parent.count("/a") == 1
        finally:
            if answer is not None:
                parent.close()

    case()


@looped
async def test_an_origin_that_cuts_is_asked_once(origin: ScriptedOrigin) -> None:
    """Asked twice, a page that cuts opened the breaker for all others in half the time."""
    origin.says("/a", b"HTTP/1.1 200 OK\r\n", "fin")
    async with front(origin.url) as edge:
        assert (await edge.get("/a")).status == 502
    assert origin.count("/a") == 1
