"""Following: a live playlist or MPD that passed through is renewed, and what it names fetched,
before viewers ask, for as long as it has viewers. So a POP without push is ahead of demand.

Law: the newest text is published as a version of its name (native/live.pxd), which answers and
holds `_HLS_msn/_HLS_part` by itself: however many viewers wait, the origin is asked once for each
version, and once more for its delta update. No text is shown before what it names newly is here, or
`_WAIT` of its period has passed. Bounds: playlists of a route (`route.followed`; those beyond are
filled on a miss), one request each at a time, names fetched ahead (`route.prefetch`). A playlist
that nobody asked for in `_IDLE_PERIODS`, that ended, left its origin, or is pushed, is let go. Does
not know viewers, only whether there were any.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urljoin

import xxhash

from ..config import EdgeConfig
from ..errors import UpstreamError
from . import policy
from .ahead import Ahead
from .fill import Filler
from .response import Head
from .retrieve import Text, retrieve
from .routes import Route, Routes
from .views import DashView, HlsView, View

if TYPE_CHECKING:
    from .._core import Plane

log = logging.getLogger(__name__)

_IDLE_PERIODS: Final = 4  # of half a target duration
_IDLE_MAX_S: Final = 60.0
_KEPT_PERIODS: Final = 12  # 6 target durations (RFC 8216bis B.1)
_WAIT: Final = 0.5  # of a period: how long a text waits for what it names
_WAIT_MAX_S: Final = 2.0
_GZIP_FROM: Final = 512  # bytes; below it the coding saves no packet
_GONE: Final = (404, 410)
_VARY: Final = b"Vary: Accept-Encoding\r\n"
_GZIP: Final = b"Content-Encoding: gzip\r\n"
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//")
_SAFE: Final = "%/:?#[]@!$&'()*+,;=~-._"


class Follower:
    """All that is followed, by key. `counts`: followed, versions, prefetched, used, wasted,
    ended.<why>, failures.<reason>."""

    def __init__(self, plane: Plane, routes: Routes, filler: Filler, config: EdgeConfig) -> None:
        self._routes = routes
        self._plane = plane
        self._filler = filler
        self._config = config
        self._open: dict[bytes, tuple[Follow, asyncio.Task[None]]] = {}
        self._in_routes: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def passed(self, key: bytes, text: Text) -> bool:
        """A playlist or MPD came because a viewer asked for it. True: it is published, and answers
        for `key`."""
        name = policy.playlist_name(key)
        route = self._routes.of(name)
        rules = route.rules
        if not rules.prefetch or name in self._open or b"_HLS_skip" in key:
            return False
        if self._in_routes[rules.prefix] >= rules.followed:
            return False
        path = name.decode("latin-1").partition("?")[0]
        view: View = DashView(path) if path.endswith(".mpd") else HlsView()
        head = policy.heed(text.head, rules)
        if not view.take(text.body) or view.ended or not policy.may_keep(head, self._config.cache):
            return False
        self.counts["followed"] += 1
        self._in_routes[rules.prefix] += 1
        ahead = Ahead(self._plane, self._filler, self.counts)
        follow = Follow(name, route, view, self._plane, ahead, self._config, self._filler.outdated)
        follow.begin(text)
        self._open[name] = (follow, asyncio.create_task(self._run(follow)))
        return name == key

    def missed(self, key: bytes) -> None:
        """A viewer asked for media that was not here: its track is in use."""
        path = key.decode("latin-1").partition("?")[0]
        for follow, _ in self._open.values():
            if follow.media_of(path):
                return

    def pushed(self, key: bytes) -> None:
        """A push renews it from now on."""
        found = self._open.get(key)
        if found is not None:
            found[0].pushed = True
            found[1].cancel()

    def rerouted(self) -> None:
        """Routes changed: what came by one that is no more begins anew with its next viewer."""
        for key, (follow, task) in list(self._open.items()):
            if self._routes.of(key) is not follow.route:
                task.cancel()

    def resume(self, key: bytes, version: Mapping[str, Any]) -> None:
        """Follow what another process followed until now, from the version it had."""
        body: bytes = version["bodies"][0]
        lines = version["fields"][0].decode("latin-1").splitlines()
        split = (line.partition(": ") for line in lines)
        fields = [(name.lower(), value) for name, _, value in split]
        fields.append(("age", str(version["age_ms"] // 1000)))
        self.passed(key, Text(Head(200, tuple(fields), len(body)), body))

    def leave(self) -> None:
        """Somebody else renews all of them from now on."""
        for key in list(self._open):
            self.pushed(key)

    async def close(self) -> None:
        tasks = [task for _, task in self._open.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, follow: Follow) -> None:
        why = "cancelled"
        try:
            why = await follow.run(self.counts)
        except Exception:
            why = "internal"
            log.exception("following failed", extra={"key": follow.key.decode("latin-1")})
        finally:
            self.counts["ended.pushed" if follow.pushed else f"ended.{why}"] += 1
            self._in_routes[follow.route.rules.prefix] -= 1
            del self._open[follow.key]
            follow.end(why)


class Follow:
    """One playlist or MPD."""

    def __init__(
        self,
        key: bytes,
        route: Route,
        view: View,
        plane: Plane,
        ahead: Ahead,
        config: EdgeConfig,
        outdated: Callable[[bytes, Head], bool],
    ) -> None:
        self.key = key
        self.route = route
        self.pushed = False
        self._view = view
        self._plane = plane
        self._ahead = ahead
        self._config = config
        self._outdated = outdated
        self._missed = asyncio.Event()
        self._seen_s = monotonic()
        self._asked_s = monotonic()  # when the newest text was asked for
        self._path = key.decode("latin-1").partition("?")[0]

    def begin(self, text: Text) -> None:
        """With what just passed through: viewers wait for it, so it waits for nothing."""
        self._fetch_named()
        self._publish([text])

    def end(self, why: str) -> None:
        """What nobody renews any more must not be taken for the newest."""
        self._ahead.settle(0.0)
        if why != "ended" and not self.pushed:
            self._plane.purge(self.key)

    def media_of(self, path: str) -> bool:
        """A viewer asked for `path`. True: it is ours, and what comes next is looked for now."""
        if not self._view.seen(path):
            return False
        self._missed.set()
        return True

    async def _sleep(self, for_s: float) -> None:
        self._missed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(for_s):
                await self._missed.wait()

    async def run(self, counts: Counter[str]) -> str:
        """Until there is a reason to stop, which is returned."""
        while self._has_viewers():
            due_s = self._asked_s + self._view.every_s - monotonic()
            if not self._view.directives and due_s > 0:
                await self._sleep(min(due_s, max(self._view.due_s(), 0.01)))
                self._fetch_named()
                continue
            try:
                text, *updates = await self._renew()
            except UpstreamError as error:
                counts[f"failures.{error.reason}"] += 1
                await asyncio.sleep(self._view.every_s)
                continue
            if text.refused in _GONE:
                return "gone"
            if text.refused:
                counts[f"failures.status_{text.refused}"] += 1
                await asyncio.sleep(self._view.every_s)
                continue
            before = _version(self._view)
            if not self._view.take(text.body):
                return "unreadable"
            await self._arrived(self._fetch_named())
            if _version(self._view) < before:
                self._plane.purge(self.key)  # it started anew; a version never goes back
            covering = (u if u and self._view.covers(u.body) else None for u in updates)
            self._publish([text, *covering])
            counts["versions"] += 1
            if self._view.ended:
                return "ended"
            if self._view.directives and _version(self._view) == before:
                await asyncio.sleep(self._view.every_s)  # it says that it holds, and does not
        return "idle"

    def _has_viewers(self) -> bool:
        now_s = monotonic()
        asked = self._ahead.settle(_KEPT_PERIODS * self._view.every_s)
        media = [self._view.seen(key.decode("latin-1").partition("?")[0]) for key in asked]
        if self._plane.asked(self.key) or any(media):
            self._seen_s = now_s
        patience_s = max(_IDLE_PERIODS * self._view.every_s, 1.0)
        return now_s - self._seen_s <= min(patience_s, _IDLE_MAX_S)

    async def _renew(self) -> tuple[Text, *tuple[Text | None, ...]]:
        """The next text, and each delta update of it on offer that could be had."""
        self._asked_s = monotonic()
        held = bool(self._view.directives)
        key = policy.with_query(self.key, self._view.directives)
        updates = (policy.with_query(key, f"_HLS_skip={kind}") for kind in self._view.skips)
        ask = partial(
            retrieve, self.route,
            settings=self._config.origin, held=held, outdated=self._outdated,
        )  # fmt: skip
        whole, *found = await asyncio.gather(*map(ask, (key, *updates)), return_exceptions=True)
        if isinstance(whole, BaseException):
            raise whole
        return whole, *(update if isinstance(update, Text) else None for update in found)

    def _fetch_named(self) -> list[asyncio.Task[bool]]:
        """Media that exists; hints beside it, which nobody waits for here."""
        named = []
        for uri in self._view.media(self.route.rules.prefetch):
            for task in self._ahead.fetch(self._keys([uri])):
                task.add_done_callback(partial(self._judge, uri))
                named.append(task)
        self._ahead.fetch(self._keys(self._view.hints()), held=True)
        return named

    def _judge(self, uri: str, task: asyncio.Task[bool]) -> None:
        if not task.cancelled() and not task.result():
            self._view.failed(uri)

    async def _arrived(self, tasks: list[asyncio.Task[bool]]) -> None:
        if tasks:
            await asyncio.wait(tasks, timeout=min(_WAIT * self._view.every_s, _WAIT_MAX_S))

    def _keys(self, uris: list[str]) -> list[bytes]:
        """The names viewers will ask by; what is not ours, or would be refused, is left out."""
        found: list[bytes] = []
        for uri in uris:
            target: str | None = urljoin(self._path, quote(uri.partition("#")[0], safe=_SAFE))
            if target and _ABSOLUTE.match(target):
                found_at = self.route.at(target)
                target = found_at[1] if found_at else None
            key = self._plane.key(target.encode("ascii")) if target else None
            if key is not None:
                found.append(key)
        return found

    def _publish(self, texts: Sequence[Text | None]) -> None:
        """The whole text, then its delta updates."""
        text = texts[0]
        assert text is not None
        head, every_s = policy.heed(text.head, self.route.rules), self._view.every_s
        bodies: list[bytes | None] = []
        for each in texts:
            plain = each.body if each else None
            bodies += [plain, _gzip(plain)]

        def heads(*, waited: bool) -> list[bytes]:
            fields = policy.text_fields(head, every_s, waited=waited) + _VARY
            return [fields, fields + _GZIP] * len(texts)

        self._plane.publish(
            self.key,
            **self._view.stamp,
            ended=self._view.ended,
            ttl_ms=min(int(_KEPT_PERIODS * every_s * 1000), self._config.cache.ttl_max),
            fields=heads(waited=False),
            waited=heads(waited=True) if self._view.stamp["hold_ms"] else (),
            bodies=bodies,
            etags=[xxhash.xxh3_128_hexdigest(body).encode() if body else None for body in bodies],
            age_ms=1000 * text.age_s,
            pulled=True,
        )


def _version(view: View) -> tuple[int, int]:
    return view.stamp["msn"], view.stamp["parts"]


def _gzip(body: bytes | None) -> bytes | None:
    """None when it is not worth it."""
    if body is None or len(body) < _GZIP_FROM:
        return None
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()
