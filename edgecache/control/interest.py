"""Interest: streams that have viewers here are subscribed at the origin, which then pushes them.

Law: the whole list is sent again before its lease ends, so an origin that restarted knows it at the
next renewal and a POP that vanished is forgotten. A stream is watched if it missed, or any of its
playlists was asked for, within `interest.idle`: players that poll count for that like those that
wait; so is each of its tracks, and those that are not are not pushed. How many watch is an
estimate, told for every stream that is pushed here, hot ones too: the most requests that were
parked at once on its playlists since the telling before, and how often one of the newest segments
was taken whole. A low-latency HLS player waits on its playlist nearly always, and takes parts; any
other one, of HLS or DASH, takes each segment of its track once. Bounds: streams (beyond it new ones
are only pulled, and not counted), looks (spread out beyond 10 000 playlists a second), each
question's time, back-off. Does not know what is pushed, nor how.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import xxhash
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..config import Interest as InterestConfig
from ..errors import UpstreamError
from . import policy
from .dial import Ways
from .put import post

if TYPE_CHECKING:
    from .._core import Plane

log = logging.getLogger(__name__)

TARGET: Final = "/api/subscriptions"
_TIMEOUT_S: Final = 2.0
_SETTLE_S: Final = 0.02  # a page asks for several playlists at once; one question for all of them
_RETRY_S: Final = 0.5
_PLAYLISTS_MAX: Final = 64  # of one stream that are looked at for viewers
_SEGMENTS: Final = 4  # of a track that are looked at; players are that far behind
_LOOK_S: Final = 0.1  # between two looks; a part lasts longer, and so does the wait for it
_LOOKS_A_SECOND: Final = 10_000
_AUDIO: Final = re.compile(r"audio(?:-[a-z0-9_-]+)?")
_TEXT: Final = re.compile(r"text(?:-[a-z0-9_-]+)?")

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
    tracks: dict[str, float] = field(default_factory=dict)  # as of the playlists; when last seen
    state: str = "new"  # then what the origin said: live, ended, unknown


def _persons(counts: Iterable[tuple[str, int]]) -> int:
    """Of requests by track. A player of separate audio makes two, a listener the audio's only: the
    larger number is nobody twice. Nobody has subtitles alone."""
    rows = [
        (bool(_AUDIO.fullmatch(track)), number)
        for track, number in counts
        if not _TEXT.fullmatch(track)
    ]
    video, audio = (sum(n for of, n in rows if of is kind) for kind in (False, True))
    return max(video, audio)


@dataclass
class Audience:
    """Of one stream that is pushed here, asked for or not. `parked` now, `peak` since it was last
    told, and who is `taking` segments, all in viewers; `pushed_s`: its newest playlist, monotonic.
    `segments`: the newest of each track."""

    pushed_s: float
    parked: int = 0
    peak: int = 0
    taking: int = 0
    playlists: set[bytes] = field(default_factory=set)
    segments: dict[str, deque[bytes]] = field(default_factory=dict)

    @property
    def viewers(self) -> int:
        return self.peak + self.taking

    def count(self, waiting: Mapping[bytes, int], taken: Mapping[str, int]) -> None:
        """How many wait on each playlist, and took the most wanted of the newest segments of each
        track: the one before that may still be growing, the one after it has not been asked for by
        all."""
        self.parked = _persons((policy.track_of(key), n) for key, n in waiting.items())
        self.peak = max(self.peak, self.parked)
        self.taking = _persons(taken.items())


class Watch:
    """Who is watched, and by how many: bounded, forgets by itself. Sans-IO."""

    def __init__(self, config: InterestConfig) -> None:
        self._config = config
        self.streams: dict[str, Watched] = {}
        self.audiences: dict[str, Audience] = {}
        self.fresh = False  # a look found something that has to be subscribed now

    def note(self, stream: str, now_s: float, track: str = "") -> bool:
        """A viewer asked, for one track or for what is none's. True: that has to be subscribed now
        rather than at the next renewal."""
        watched = self.streams.get(stream)
        if watched is None:
            if len(self.streams) >= self._config.streams:
                return False
            watched = self.streams[stream] = Watched(now_s)
        watched.seen_s = now_s
        added = bool(track) and track not in watched.tracks
        if track and (not added or len(watched.tracks) < _PLAYLISTS_MAX):
            watched.tracks[track] = now_s
        return watched.state == "new" or added

    def playlist(self, stream: str, key: bytes, now_s: float) -> None:
        """A playlist of `stream` was pushed: from now on it is looked at for viewers."""
        audience = self.audiences.get(stream)
        if audience is None:
            if len(self.audiences) >= self._config.streams:
                return
            audience = self.audiences[stream] = Audience(now_s)
        audience.pushed_s = now_s
        if len(audience.playlists) < _PLAYLISTS_MAX:
            audience.playlists.add(key)

    def segment(self, stream: str, key: bytes) -> None:
        """A segment of `stream` began to be pushed."""
        audience, track = self.audiences.get(stream), policy.track_of(key)
        if audience is not None and len(audience.segments.keys() | {track}) <= _PLAYLISTS_MAX:
            newest = audience.segments.setdefault(track, deque(maxlen=_SEGMENTS))
            if key not in newest:
                newest.append(key)

    def look(
        self,
        waiters: Callable[[bytes], int],
        asked: Callable[[bytes], bool],
        now_s: float,
        taken: Callable[[bytes], int] = lambda _key: 0,
    ) -> int:
        """Hits and reloads never pass here, so who waits, how many have taken it, and whether
        anybody `asked` since the look before, is read off the store. Returns how many keys were
        looked at."""
        for stream, audience in self.audiences.items():
            waiting = {key: waiters(key) for key in audience.playlists}
            segments = audience.segments.items()
            audience.count(waiting, {of: max(map(taken, newest)) for of, newest in segments})
            for key, number in waiting.items():
                if asked(key) or number:
                    self.fresh |= self.note(stream, now_s, policy.track_of(key))
            for track, newest in audience.segments.items():
                used = [asked(key) for key in newest]  # all of them: each is also forgotten
                if any(used):
                    self.fresh |= self.note(stream, now_s, track)
        return sum(len(a.playlists) + _SEGMENTS * len(a.segments) for a in self.audiences.values())

    def tracks(self, now_s: float) -> dict[str, list[str]]:
        """Of each stream the tracks that are watched; no entry while none is known to be."""
        idle_s = self._config.idle / 1000
        found = {
            stream: sorted(name for name, at in watched.tracks.items() if now_s - at <= idle_s)
            for stream, watched in self.streams.items()
        }
        for stream, names in found.items():
            held = self.streams[stream].tracks
            self.streams[stream].tracks = {name: held[name] for name in names}
        return {stream: names for stream, names in found.items() if names}

    def wanted(self, now_s: float) -> list[str]:
        """Streams to subscribe; what was idle too long is forgotten first."""
        idle_s = self._config.idle / 1000
        for stream in [s for s, w in self.streams.items() if now_s - w.seen_s > idle_s]:
            del self.streams[stream]
        for stream in [s for s, a in self.audiences.items() if now_s - a.pushed_s > idle_s]:
            del self.audiences[stream]
        return sorted(self.streams)

    def viewers(self) -> dict[str, int]:
        """Of every stream that is pushed here."""
        return {stream: audience.viewers for stream, audience in self.audiences.items()}

    def told(self) -> None:
        """The origin knows: count anew."""
        for audience in self.audiences.values():
            audience.peak = audience.parked

    def granted(self, states: Mapping[str, str]) -> None:
        for stream, state in states.items():
            if stream in self.streams:
                self.streams[stream].state = state


class Interest:
    """await run(); note() from anywhere on the loop. `counts`: asked, granted,
    failures.<reason>."""

    def __init__(
        self,
        plane: Plane,
        config: InterestConfig,
        *,
        pop: str,
        push_url: str,
        sign: SignFields,
        ways: Ways,
    ) -> None:
        self._plane = plane
        self._ways = ways
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
        if stream and self.watch.note(stream, time.monotonic(), policy.track_of(key)):
            self._new.set()

    def stored(self, key: bytes) -> None:
        """A push made `key` visible."""
        if key.endswith(b".m3u8"):
            self.watch.playlist(policy.stream_of(key), key, time.monotonic())
        elif (name := policy.media_name(key)) is not None and name.part < 0:
            self.watch.segment(policy.stream_of(key), key)

    def describe(self) -> dict[str, dict[str, object]]:
        """For the admin door, by stream; JSON values."""
        now_s, nobody = time.monotonic(), Audience(0.0)
        found: dict[str, dict[str, object]] = {}
        for stream in sorted(self.watch.streams.keys() | self.watch.audiences.keys()):
            watched = self.watch.streams.get(stream)
            audience = self.watch.audiences.get(stream, nobody)
            found[stream] = {
                "state": watched.state if watched else "pushed",
                "viewers_parked": audience.parked,
                "viewers_taking": audience.taking,
                "idle_s": round(now_s - watched.seen_s, 1) if watched else None,
                "playlists": {
                    key.decode(): self._plane.version(key) for key in sorted(audience.playlists)
                },
            }
        return found

    async def run(self) -> None:
        """Count and renew until cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._count())
            both.create_task(self._renew())

    async def _count(self) -> None:
        while True:
            looked = self.watch.look(
                partial(self._known, "waiters"), self._plane.asked, time.monotonic(),
                partial(self._known, "taken"),
            )  # fmt: skip
            if self.watch.fresh:
                self.watch.fresh = False
                self._new.set()
            await asyncio.sleep(max(_LOOK_S, looked / _LOOKS_A_SECOND))

    def _known(self, what: str, key: bytes) -> int:
        found = self._plane.lookup(key)
        return int(found[what]) if found is not None else 0

    async def _renew(self) -> None:
        while True:
            wanted = self.watch.wanted(time.monotonic())
            renewed = not (wanted or self.watch.audiences) or await self._subscribe(wanted)
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
        viewers = dict.fromkeys(streams, 0) | self.watch.viewers()
        answered = False
        for origin in self.origins:
            try:
                granted = await self._ask(origin, streams, viewers)
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
        if answered:
            self.watch.told()
        return answered

    async def _ask(
        self, origin: str, streams: Sequence[str], viewers: Mapping[str, int]
    ) -> Granted:
        text = {
            "pop": self._pop, "push": self._push_url, "streams": list(streams),
            "lease_ms": self._lease_ms, "viewers": dict(viewers),
            "tracks": self.watch.tracks(time.monotonic()),
        }  # fmt: skip
        body = json.dumps(text).encode()
        fields = [("Edge-Digest", xxhash.xxh3_128_hexdigest(body))]
        fields.append(("Authorization", self._sign("POST", TARGET, fields)))
        fields.append(("Content-Type", "application/json"))
        self.counts["asked"] += 1
        answer = await post(origin + TARGET, body, fields, ways=self._ways, timeout_s=_TIMEOUT_S)
        if answer.status != 200:
            raise UpstreamError(f"status_{answer.status}", f"origin answered {answer.status}")
        try:
            return Granted.model_validate_json(answer.body)
        except ValidationError as error:
            raise UpstreamError("protocol", f"not a grant: {error.errors()[0]['msg']}") from None
