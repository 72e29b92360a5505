"""Jobs (jobs.py) in a NATS JetStream work queue: a message each, gone when it is acknowledged.

Laws: the server's clock measures leases, so hosts need not agree on the time. What was taken over a
connection that is lost is redelivered when its lease is over, whatever its worker says then.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from .jobs import LEASE_S, QUEUE, Job
from .nats_link import NatsLink

if TYPE_CHECKING:
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

_WORKERS: Final = "workers"
_STEP_S: Final = 1.0  # a question to the server is as long as this at most
_KNOWN: Final = 10077  # the server's code for: a message of this subject is there


class NatsJobs:
    """Over `link`, which somebody else closes. queue: a stream of its own."""

    def __init__(self, link: NatsLink, *, lease_s: float = LEASE_S, queue: str = QUEUE) -> None:
        self._link = link
        self._stream = f"{link.place.bucket}-{queue}"
        self._subject = f"{link.place.bucket}.{queue}"
        self._made = False
        self.lease_s = lease_s

    async def offer(self, name: str, body: bytes) -> None:
        async def ask(js: JetStreamContext) -> None:
            from nats.js.errors import APIError

            await self._make(js)
            try:
                await js.publish(f"{self._subject}.{name}", body)
            except APIError as error:
                if error.err_code != _KNOWN:
                    raise

        await self._link.ask(ask)

    async def withdraw(self, name: str) -> None:
        async def ask(js: JetStreamContext) -> None:
            await self._make(js)
            await js.purge_stream(self._stream, subject=f"{self._subject}.{name}")

        await self._link.ask(ask)

    async def open(self, prefix: str) -> set[str]:
        async def ask(js: JetStreamContext) -> set[str]:
            await self._make(js)
            below = f"{self._subject}.{prefix}.>"
            info = await js.stream_info(self._stream, subjects_filter=below)
            return {each.removeprefix(f"{self._subject}.") for each in info.state.subjects or ()}

        return await self._link.ask(ask)

    async def take(self, wait_s: float) -> Job | None:
        left_s = wait_s
        while left_s > 0:
            step_s = min(left_s, _STEP_S)
            left_s -= step_s
            if job := await self._link.ask(partial(self._fetch, wait_s=step_s)):
                return job
        return None

    async def _fetch(self, js: JetStreamContext, wait_s: float) -> Job | None:
        import nats.errors

        await self._make(js)
        pulled = await js.pull_subscribe_bind(durable=_WORKERS, stream=self._stream)
        try:
            (message,) = await pulled.fetch(1, timeout=wait_s)
        except (TimeoutError, nats.errors.TimeoutError):
            return None
        finally:
            await pulled.unsubscribe()
        name = message.subject.removeprefix(f"{self._subject}.")
        return _NatsJob(self._link, message, name)

    async def _make(self, js: JetStreamContext) -> None:
        """Stream and consumer, once a process: another one's are the same, or are brought up to
        date."""
        from nats.js.api import (
            AckPolicy,
            ConsumerConfig,
            DiscardPolicy,
            RetentionPolicy,
            StreamConfig,
        )

        if self._made:
            return
        await js.add_stream(
            StreamConfig(
                name=self._stream,
                subjects=[f"{self._subject}.>"],
                retention=RetentionPolicy.WORK_QUEUE,
                discard=DiscardPolicy.NEW,
                discard_new_per_subject=True,
                max_msgs_per_subject=1,
                num_replicas=self._link.place.replicas,
            )
        )
        await js.add_consumer(
            self._stream,
            ConsumerConfig(
                durable_name=_WORKERS, ack_policy=AckPolicy.EXPLICIT, ack_wait=self.lease_s
            ),
        )
        self._made = True


class _NatsJob:
    def __init__(self, link: NatsLink, message: Msg, name: str) -> None:
        self._link = link
        self._message = message
        self.name = name
        self.body = message.data
        self.tries = message.metadata.num_delivered or 1

    async def beat(self) -> None:
        await self._link.ask(lambda _: self._message.in_progress())

    async def done(self) -> None:
        async def ask(_: JetStreamContext) -> None:
            await self._message.ack_sync()

        await self._link.ask(ask)

    async def retry(self, after_s: float) -> None:
        await self._link.ask(lambda _: self._message.nak(delay=after_s))
