"""A host that only encodes: recordings, and rungs of live streams (`edgecache-origin worker`).

Laws: SIGTERM or SIGINT give back what is begun, at once, and end it. Needs the catalogue that the
data centres use; for recordings their permanent store, for live streams one of their keys. It
encodes so many live streams at a time, and takes no other.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections import Counter

import uvloop

from edgecache import logs
from edgecache.errors import ConfigError
from edgecache.signing import sign

from . import hardware
from .archive.keeper import place_of
from .archive.objects import Objects
from .archive.worker import Worker
from .catalogs import Shared
from .config import Config
from .livework import LiveWorker, Sign
from .secretfiles import secrets_of

log = logging.getLogger(__name__)


def work(config: Config, shared: Shared, *, workers: int, live: int) -> None:
    """So many at a time, until asked to stop. Raises ConfigError, ObjectError."""
    logs.setup(level=config.log.level, fmt=config.log.format)
    tool, runs = hardware.find(config.encoder), []
    if workers:
        objects = Objects(place_of(config))
        runs += workers * [Worker(shared.jobs, objects, tool, counters=Counter()).run]
    if live:
        runs += live * [LiveWorker(shared.live, tool, _signer(config)).run]

    async def main() -> None:
        asked, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked.set)
        tasks = [asyncio.create_task(run()) for run in runs]
        log.info("working", extra={"workers": workers, "live": live})
        stop = asyncio.create_task(asked.wait())
        await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in (stop, *tasks):
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        log.info("stopped")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def _signer(config: Config) -> Sign:
    """With the first key. Raises ConfigError."""
    secrets = secrets_of(config)
    if not secrets:
        raise ConfigError(["keys: found none, allowed one of the data centres' with --live"])
    kid, secret = next(iter(secrets.items()))
    logs.redact(secret.decode("latin-1"))
    return lambda method, target, fields: sign(method, target, fields, kid=kid, secret=secret)
