"""What happens, told to somebody else's HTTP server; and one that may forbid publishing.

Laws: `tell` never waits: events queue, at most `queue` of them (beyond it the oldest is dropped and
counted), and one task delivers them in order, each again and again with back-off until it is taken
(2xx), refused (4xx) or `deadline_s` old. Whoever receives can check that it was us: the field
`Edge-Hook-Signature: t=<unix s>,v1=<hex>` is HMAC-SHA256 of `<t>.` and the body. A publisher waits
for `authorise` at most `authorise_s`; 2xx lets it in, 4xx refuses it with the answer's first line,
anything else does what the settings say. Secrets and keys are never told nor logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import random
import secrets
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final, Literal

import aiohttp

from edgecache import logs

from .catalog import Opened, RecordingRow
from .config import Config
from .names import vod_path
from .secretfiles import hooks_secret

log = logging.getLogger(__name__)

SIGNATURE: Final = "Edge-Hook-Signature"
_BACKOFF_S: Final = 0.2
_BACKOFF_MAX_S: Final = 10.0
_AGAIN: Final = frozenset((408, 425, 429))  # of the 4xx, those that are no refusal
_REASON_BYTES: Final = 200


def signature(secret: bytes, unix_s: int, body: bytes) -> str:
    """Value of the field."""
    mac = hmac.new(secret, f"{unix_s}.".encode() + body, hashlib.sha256)
    return f"t={unix_s},v1={mac.hexdigest()}"


@dataclass(frozen=True, slots=True)
class _Event:
    body: bytes
    name: str
    born_s: float = field(default_factory=time.monotonic)


class Hooks:
    """start() in a loop, then stop(). Raises ConfigError."""

    def __init__(self, config: Config) -> None:
        settings = self._settings = config.hooks
        secret = hooks_secret(config)
        logs.redact(secret)
        self._secret = secret.encode()
        self._waiting: deque[_Event] = deque(maxlen=settings.queue)
        self._wanted = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._client: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None
        # told, dropped, retried, delivered, refused, expired; allowed, forbidden, unanswered
        self.counters: Counter[str] = Counter()

    def start(self) -> None:
        self._client = aiohttp.ClientSession()
        self._task = asyncio.create_task(self._deliver(), name="hooks")

    async def stop(self, drain_s: float) -> None:
        """What is queued has `drain_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                await self._idle.wait()
        if self._task and self._client:
            self._task.cancel()
            await asyncio.wait([self._task])
            await self._client.close()

    def tell(self, event: str, **facts: object) -> None:
        """JSON values."""
        if not self._settings.url:
            return
        self.counters["told"] += 1
        self.counters["dropped"] += len(self._waiting) == self._waiting.maxlen
        self._waiting.append(_Event(self._body(event, facts), event))
        self._idle.clear()
        self._wanted.set()

    def turned(self, stream: str, state: Literal["live", "ended"], publisher: object) -> None:
        """A stream began or ended; `publisher`: who it is of, as an address."""
        event = "publish_start" if state == "live" else "publish_end"
        self.tell(event, stream=stream, publisher=publisher)

    def recorded(self, row: RecordingRow) -> None:
        """Of a broadcast that has ended all is kept."""
        self.tell("recording_ready", path=vod_path(row.stream, row.epoch), **asdict(row))

    async def forbids(self, opened: Opened, address: str) -> str:
        """Why who has this key may not publish now; "" when it may."""
        if not self._settings.authorise:
            return ""
        facts = {"stream": opened.stream, "key": opened.key_id, "publisher": address}
        body = self._body("authorise", facts)
        timeout_s = self._settings.authorise_timeout / 1000
        try:
            status, said = await self._post(self._settings.authorise, body, timeout_s)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            status, said = 0, str(error) or type(error).__name__
        if 200 <= status < 300:
            self.counters["allowed"] += 1
            return ""
        if 400 <= status < 500 and status not in _AGAIN:
            self.counters["forbidden"] += 1
            return said or "not allowed to publish now"
        self.counters["unanswered"] += 1
        told = {"stream": opened.stream, "status": status}
        log.error("hooks.authorise gives no answer: %s", said, extra=told)
        allowed = self._settings.unanswered == "allow"
        return "" if allowed else "nobody can say whether this may be published; try again"

    # -- inside

    def _body(self, event: str, facts: Mapping[str, object]) -> bytes:
        """`id` is the same in every try, for who must not count twice."""
        told = {"event": event, "id": secrets.token_hex(8), "at": round(time.time(), 3), **facts}
        return json.dumps(told).encode()

    async def _post(self, url: str, body: bytes, timeout_s: float) -> tuple[int, str]:
        """Status, and the first line of what was said. Raises ClientError, TimeoutError,
        OSError."""
        assert self._client is not None
        fields = {
            "Content-Type": "application/json",
            SIGNATURE: signature(self._secret, int(time.time()), body),
        }
        async with (
            asyncio.timeout(timeout_s),
            self._client.post(url, data=body, headers=fields, allow_redirects=False) as answer,
        ):
            said = (await answer.content.read(_REASON_BYTES)).decode("utf-8", "replace")
            line = next(iter(said.splitlines()), "")
            return answer.status, "".join(filter(str.isprintable, line))

    async def _deliver(self) -> None:
        while True:
            await self._wanted.wait()
            while self._waiting:
                await self._bring(self._waiting.popleft())
            self._wanted.clear()
            self._idle.set()

    async def _bring(self, event: _Event) -> None:
        """Until it is taken, refused, or too old."""
        backoff_s = _BACKOFF_S
        ends_s = event.born_s + self._settings.deadline / 1000
        while True:
            try:
                timeout_s = self._settings.timeout / 1000
                status, said = await self._post(self._settings.url, event.body, timeout_s)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                status, said = 0, str(error) or type(error).__name__
            if 200 <= status < 300:
                self.counters["delivered"] += 1
                return
            told = {"event": event.name, "status": status}
            if 400 <= status < 500 and status not in _AGAIN:
                self.counters["refused"] += 1
                log.error("hooks.url refuses an event: %s", said, extra=told)
                return
            if time.monotonic() + backoff_s > ends_s:
                self.counters["expired"] += 1
                log.error("hooks.url takes no event: %s", said, extra=told)
                return
            self.counters["retried"] += 1
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(2 * backoff_s, _BACKOFF_MAX_S)
