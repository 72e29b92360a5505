"""Who encodes chunks of recordings: it takes one job after the other, from wherever it runs.

Laws: a job is held by beats while it is worked on; one that fails is given back, and after `_TRIES`
the failure is its result, also when whoever had it never came back (it may have killed them). What
an origin that goes away has begun is given back at once. A catalogue or a store that is away is
waited for. Owner: the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable
from typing import Final

from edgecache.errors import EdgeError

from ..ffmpeg import Ffmpeg
from ..jobs import Job, Jobs
from ..rows import AwayError
from .chunk import ChunkEncoder, Encoded, EncodeError, Task, conclude
from .objects import MissingError, Objects
from .recorder import index_key
from .recording import Recording
from .transcode import TranscodeError

log = logging.getLogger(__name__)

_TRIES: Final = 3
_WAIT_S: Final = 5.0
_AGAIN_S: Final = 1.0


class Worker:
    """run() until it is cancelled. `busy`: nobody should encode now."""

    def __init__(
        self,
        jobs: Jobs,
        objects: Objects,
        ffmpeg: Ffmpeg,
        *,
        counters: Counter[str],
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._jobs = jobs
        self._objects = objects
        self._ffmpeg = ffmpeg
        self._busy = busy
        self._counters = counters  # chunks, chunks_failed

    async def run(self) -> None:
        while True:
            try:
                job = await self._jobs.take(_WAIT_S)
                if job is not None:
                    await self._work(job)
            except AwayError:
                await asyncio.sleep(_AGAIN_S)

    async def _work(self, job: Job) -> None:
        """Raises AwayError."""
        beating = asyncio.create_task(self._beat(job))
        try:
            finished = await self._do(job)
        except asyncio.CancelledError:
            with contextlib.suppress(AwayError):
                await job.retry(0.0)
            raise
        finally:
            beating.cancel()
        if finished:
            await job.done()
        else:
            await job.retry(_AGAIN_S)

    async def _beat(self, job: Job) -> None:
        while True:
            await asyncio.sleep(self._jobs.lease_s / 4)
            with contextlib.suppress(AwayError):  # perhaps the next one arrives
                await job.beat()

    async def _do(self, job: Job) -> bool:
        """False: it is to be tried again."""
        told = {"job": job.name, "tries": job.tries}
        try:
            await self._encode(job)
        except MissingError:
            log.info("nothing to encode, the recording was deleted", extra=told)
        except (EdgeError, OSError) as error:
            self._counters["chunks_failed"] += 1
            log.warning("chunk not encoded: %s", error, extra=told)
            return False
        except (ValueError, TypeError) as error:
            log.error("not a job, left out: %r", error, extra=told)
        else:
            self._counters["chunks"] += 1
            log.info("chunk encoded", extra=told)
        return True

    async def _encode(self, job: Job) -> None:
        """Until there is a result, if only why there is none. Raises EdgeError, OSError,
        ValueError, TypeError."""
        task = Task.of(job.body)
        key = index_key(task.stream, task.epoch, task.revision)
        recording = Recording.from_json(await asyncio.to_thread(self._objects.read, key))
        encoding = task.encoding(recording)
        chunk = encoding.chunks[task.msn]
        reason = f"begun {job.tries - 1} times and never finished"
        try:
            if job.tries <= _TRIES:
                return await ChunkEncoder(
                    encoding, self._objects, self._ffmpeg, busy=self._busy
                ).run(chunk)
        except (EncodeError, TranscodeError) as error:
            if job.tries < _TRIES:
                raise
            reason = str(error)
        failed = Encoded(rows=[], failed=f"segment {task.msn}: {reason}")
        await asyncio.to_thread(conclude, self._objects, encoding, chunk, failed)
