"""origin/doors.py: whoever takes nothing any more."""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp import web

from origin.doors import listen, open_door
from tests.looped import looped
from tests.partition import address, apart


@looped
async def test_an_answer_that_a_line_swallows_is_given_up() -> None:
    """What a POP pulls, when the line between is cut in the middle of it."""
    gone: asyncio.Future[type[BaseException]] = asyncio.get_running_loop().create_future()

    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        try:
            while True:
                await answer.write(bytes(1 << 20))
        except ConnectionError as error:
            gone.set_result(type(error))
        return answer

    app = web.Application()
    app.router.add_get("/", endless)
    with apart(2) as router:
        with router.on(1):
            listener = listen("http.listen", f"{address(1)}:0", stall_s=0.3)
        door = await open_door(app, listener, shutdown_s=0.1)
        url = "http://{}:{}/".format(*listener.getsockname())
        try:
            async with aiohttp.ClientSession() as http, http.get(url) as pulled:
                await pulled.content.readany()
                router.cut((0, 1), (1, 0))
                async with asyncio.timeout(10.0):
                    await gone
        finally:
            router.cut()
            await door.cleanup()
