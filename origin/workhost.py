"""A host that only encodes chunks of recordings (`edgecache-origin worker`).

Laws: SIGTERM or SIGINT give back what is begun, at once, and end it. Needs the catalogue and the
permanent store that the data centres use, and nothing else of them.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections import Counter

import uvloop

from edgecache import logs

from .archive.keeper import place_of
from .archive.objects import Objects
from .archive.worker import Worker
from .catalogs import Shared
from .config import Config
from .ffmpeg import find

log = logging.getLogger(__name__)


def work(config: Config, shared: Shared, workers: int) -> None:
    """Until asked to stop. Raises ConfigError, ObjectError."""
    logs.setup(level=config.log.level, fmt=config.log.format)
    worker = Worker(
        shared.jobs, Objects(place_of(config)), find(config.encoder.ffmpeg), counters=Counter()
    )

    async def main() -> None:
        asked, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked.set)
        tasks = [asyncio.create_task(worker.run()) for _ in range(workers)]
        log.info("working", extra={"workers": workers})
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
