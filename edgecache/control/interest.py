"""Interest: streams that have viewers here are subscribed at the origin, which then pushes them.

Law: the whole list is sent again before its lease ends, so an origin that restarted knows it at the
next renewal and a POP that vanished is forgotten. A stream is watched if it missed, or its
playlists were asked for, within `interest.idle`. Bounds: streams (beyond it new ones are only
pulled), each question's time, back-off. Does not know what is pushed, nor how.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import xxhash
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..config import Interest as InterestConfig
from ..errors import UpstreamError
from . import policy
from .put import post

if TYPE_CHECKING:
    from .._core import Plane

log = logging.getLogger(__name__)

TARGET: Final = "/api/subscriptions"
_TIMEOUT_S: Final = 2.0
_SETTLE_S: Final = 0.02  # a page asks for several playlists at once; one question for all of them
_RETRY_S: Final = 0.5
_PLAYLISTS_MAX: Final = 64  # of one stream that are looked at for viewers

SignFields = Callable[[str, str, Sequence[tuple[str, str]]], str]
"""(method, target, fields) -> value of `Authorization`."""


class Granted(BaseModel):
    """The origin's answer."""

    model_config = ConfigDict(extra="ignore")

    lease_ms: int = Field(ge=1)
    streams: dict[str, str]


@dataclass
class Watched:
    """One stream that viewers asked for. Times are monotonic seconds."""

    seen_s: float
    state: str = "new"  # then what the origin said: live, ended, unknown
    viewers: int = 0  # parked on its playlists when last looked
    uses: int = 0
    playlists: set[bytes] = field(default_factory=set)


class Watch:
    """Who is watched: bounded, forgets by itself. Sans-IO."""

    def __init__(self, config: InterestConfig) -> None:
        self._config = config
        self.streams: dict[str, Watched] = {}

    def note(self, stream: str, now_s: float) -> bool:
        """A viewer asked. True: it has to be subscribed now rather than at the next renewal."""
        watched = self.streams.get(stream)
        if watched is not None:
            watched.seen_s = now_s
            return watched.state == "new"
        if len(self.streams) >= self._config.streams:
            return False
        self.streams[stream] = Watched(now_s)
        return True

    def playlist(self, stream: str, key: bytes) -> None:
        """A playlist of `stream` was pushed: from now on it is looked at for viewers."""
        watched = self.streams.get(stream)
        if watched is not None and len(watched.playlists) < _PLAYLISTS_MAX:
            watched.playlists.add(key)

    def look(
        self, lookup: Callable[[bytes], Mapping[str, int | bytes] | None], now_s: float
    ) -> None:
        """Hits never pass here, so their traces are read off the store."""
        for watched in self.streams.values():
            found = [entry for key in watched.playlists if (entry := lookup(key)) is not None]
            watched.viewers = sum(int(entry.get("waiters", 0)) for entry in found)
            uses = sum(int(entry.get("uses", 0)) for entry in found)
            if watched.viewers or uses > watched.uses:
                watched.seen_s = now_s
            watched.uses = uses

    def wanted(self, now_s: float) -> list[str]:
        """Streams to subscribe; what was idle too long is forgotten first."""
        idle_s = self._config.idle / 1000
        for stream in [s for s, w in self.streams.items() if now_s - w.seen_s > idle_s]:
            del self.streams[stream]
        return sorted(self.streams)

    def granted(self, states: Mapping[str, str]) -> None:
        for stream, state in states.items():
            if stream in self.streams:
                self.streams[stream].state = state


class Interest:
    """await run(); note() from anywhere on the loop. `counts`: asked, granted,
    failures.<reason>."""

    def __init__(
        self, plane: Plane, config: InterestConfig, *, pop: str, push_url: str, sign: SignFields
    ) -> None:
        self._plane = plane
        self._lease_ms = config.lease
        self._pop = pop
        self._push_url = push_url
        self._sign = sign
        self._new = asyncio.Event()
        self.origins: Sequence[str] = ()
        self.watch = Watch(config)
        self.counts: Counter[str] = Counter()

    def missed(self, key: bytes) -> None:
        """A viewer asked for something that was not here."""
        stream = policy.stream_of(key)
        if stream and self.watch.note(stream, time.monotonic()):
            self._new.set()

    def stored(self, key: bytes) -> None:
        """A push made `key` visible."""
        if key.endswith(b".m3u8"):
            self.watch.playlist(policy.stream_of(key), key)

    async def run(self) -> None:
        """Renew until cancelled."""
        while True:
            self.watch.look(self._plane.lookup, time.monotonic())
            wanted = self.watch.wanted(time.monotonic())
            renewed = not wanted or await self._subscribe(wanted)
            wait_s = self._lease_ms / 3000 if renewed else _RETRY_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._new.wait()
            if self._new.is_set():
                await asyncio.sleep(_SETTLE_S)
            self._new.clear()

    async def _subscribe(self, streams: Sequence[str]) -> bool:
        """Ask the origins in order; those after the first only for what the ones before did not
        know. False: nobody answered."""
        answered = False
        for origin in self.origins:
            try:
                granted = await self._ask(origin, streams)
            except UpstreamError as error:
                self.counts[f"failures.{error.reason}"] += 1
                log.warning("subscription failed: %s", str(error), extra={"origin": origin})
                continue
            answered = True
            self.counts["granted"] += 1
            self.watch.granted(granted.streams)
            streams = [
                name for name in streams if granted.streams.get(name, "unknown") == "unknown"
            ]
            if not streams:
                break
        return answered

    async def _ask(self, origin: str, streams: Sequence[str]) -> Granted:
        viewers = {name: self.watch.streams[name].viewers for name in streams}
        text = {
            "pop": self._pop, "push": self._push_url, "streams": list(streams),
            "lease_ms": self._lease_ms, "viewers": viewers,
        }  # fmt: skip
        body = json.dumps(text).encode()
        fields = [("Edge-Digest", xxhash.xxh3_128_hexdigest(body))]
        fields.append(("Authorization", self._sign("POST", TARGET, fields)))
        fields.append(("Content-Type", "application/json"))
        self.counts["asked"] += 1
        answer = await post(origin + TARGET, body, fields, timeout_s=_TIMEOUT_S)
        if answer.status != 200:
            raise UpstreamError(f"status_{answer.status}", f"origin answered {answer.status}")
        try:
            return Granted.model_validate_json(answer.body)
        except ValidationError as error:
            raise UpstreamError("protocol", f"not a grant: {error.errors()[0]['msg']}") from None
