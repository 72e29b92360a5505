"""What following a playlist or MPD comes down to: how often to look, what to ask for, which media
it names next. Sans-IO, but for the wall clock, which an MPD counts segments by.

Law: a name is given out once. What is asked ahead is the newest that is named, never the past.
Does not know the store, origins or keys: URIs are relative to the text or as they stand in it.
"""

from __future__ import annotations

import re
from time import time
from typing import Final, Protocol

from . import mpd, playlist

_GIVEN_MAX: Final = 64
_UNCHANGING_S: Final = 10.0  # an MPD that announces no update is looked at this often


class View(Protocol):
    """`take` the newest text, then ask for the rest."""

    @property
    def every_s(self) -> float:
        """A text older than this is looked for again."""

    @property
    def directives(self) -> str:
        """What makes the origin hold the request until there is a newer text; "": nothing."""

    @property
    def skips(self) -> tuple[str, ...]:
        """Which delta updates are on offer and differ, as values of `_HLS_skip`."""

    @property
    def stamp(self) -> dict[str, int]:
        """Of the version: msn, parts, last_parts, hold_ms, advance."""

    @property
    def ended(self) -> bool:
        """The text taken last is the last one."""

    def take(self, body: bytes) -> bool:
        """False: it is no such text, and nothing changed."""

    def covers(self, body: bytes) -> bool:
        """Is it a delta update to the text taken last, or a later one?"""

    def media(self, limit: int) -> list[str]:
        """At most `limit` URIs that were not named before and exist, for each track in use."""

    def failed(self, uri: str, /) -> None:
        """What media() gave out could not be had."""

    def hints(self) -> list[str]:
        """URIs that the origin answers as soon as they exist."""

    def seen(self, path: str, /) -> bool:
        """A viewer asked for this media. True: it is one of ours."""

    def due_s(self) -> float:
        """Seconds until media() may have more without a newer text."""


class HlsView:
    """A media playlist. Who asks for it plays it, so all of its media is in use."""

    def __init__(self) -> None:
        self._now = playlist.MediaPlaylist()
        self._upto = (-1, -1)
        self._map = ""
        self._dated = False  # it has had events

    @property
    def every_s(self) -> float:
        return max(self._now.target_ms, 200) / 2000

    @property
    def directives(self) -> str:
        now = self._now
        if not now.blocks:
            return ""
        part = f"&_HLS_part={now.parts}" if now.part_target_ms else ""
        return f"_HLS_msn={now.msn}{part}"

    @property
    def skips(self) -> tuple[str, ...]:
        """That of version 2 is the same until there have been events."""
        if not self._now.skips:
            return ()
        return ("YES", "v2") if self._now.skips_dates and self._dated else ("YES",)

    @property
    def stamp(self) -> dict[str, int]:
        now = self._now
        return {
            "msn": now.msn, "parts": now.parts, "last_parts": now.last_parts,
            "hold_ms": now.hold_ms, "advance": now.advance,
        }  # fmt: skip

    @property
    def ended(self) -> bool:
        return self._now.ended

    def take(self, body: bytes) -> bool:
        found = playlist.read(body.decode("utf-8", "replace"))
        if found is None:
            return False
        if found.version < self._now.version:  # it started anew
            self._upto = (-1, -1)
        self._now = found
        self._dated |= found.dated
        return True

    def covers(self, body: bytes) -> bool:
        found = playlist.read(body.decode("utf-8", "replace"))
        return found is not None and found.delta and found.version >= self._now.version

    def media(self, limit: int) -> list[str]:
        now = self._now
        parts = bool(now.part_target_ms)
        fresh = [
            item for item in now.named
            if (item.part >= 0) == parts and (item.msn, item.part) > self._upto
        ][-limit:]  # fmt: skip
        if fresh:
            self._upto = (fresh[-1].msn, fresh[-1].part)
        newest = now.maps[-1:]
        maps = [uri for uri in newest if uri != self._map]
        self._map = newest[0] if newest else ""
        return maps + [item.uri for item in fresh]

    def failed(self, _uri: str) -> None:
        """It is named, so it was there; who asks for it gets another answer."""

    def hints(self) -> list[str]:
        return self._now.hints

    def seen(self, _path: str) -> bool:
        return False

    def due_s(self) -> float:
        return self.every_s


class DashView:
    """A dynamic MPD. Its tracks are in use while viewers ask for their segments."""

    def __init__(self, base: str) -> None:
        """`base`: the path of the MPD."""
        self._base = base
        self._mpd = mpd.Mpd(0, ())
        self._patterns: list[tuple[re.Pattern[str], str]] = []
        self._upto: dict[str, int] = {}  # media template -> newest time or number given out
        self._given: dict[str, tuple[mpd.Representation, int]] = {}  # URL -> of the newest ones
        self._late = False  # one that was due was not there
        self._used_s: dict[str, float] = {}  # media template -> when a viewer asked

    @property
    def every_s(self) -> float:
        return max(self._mpd.update_ms / 1000, 0.5) if self._mpd.update_ms else _UNCHANGING_S

    directives = ""
    skips = ()
    ended = False

    @property
    def stamp(self) -> dict[str, int]:
        return {"msn": 0, "parts": 0, "last_parts": 0, "hold_ms": 0, "advance": 0}

    def take(self, body: bytes) -> bool:
        found = mpd.read(body, self._base)
        if found is None:
            return False
        self._mpd = found
        self._patterns = [(track.pattern(), track.media) for track in found.representations]
        return True

    def covers(self, _body: bytes) -> bool:
        return False

    def _in_use(self) -> list[mpd.Representation]:
        """Asked for within the last four segments, and no less than ten seconds."""
        now_s = time()
        return [
            track for track in self._mpd.representations
            if now_s - self._used_s.get(track.media, 0.0) <= max(4 * track.each_s, 10.0)
        ]  # fmt: skip

    def media(self, limit: int) -> list[str]:
        given: dict[str, tuple[mpd.Representation, int]] = {}
        self._late = False
        for track in self._in_use():
            # by time where there is one: numbers may begin anew with each window
            order = 1 if track.listed else 0
            named = track.listed or self._due(track, limit)
            upto = self._upto.get(track.media, -1)
            fresh = [item for item in named if item[order] > upto][-limit:]
            if fresh:
                self._upto[track.media] = fresh[-1][order]
            given |= {track.url(*item): (track, item[0]) for item in fresh}
        self._given |= given
        for url in list(self._given)[:-_GIVEN_MAX]:
            del self._given[url]
        return list(given)

    @staticmethod
    def _due(track: mpd.Representation, limit: int) -> list[tuple[int, int]]:
        newest = track.newest(time())
        first = max(newest - limit + 1, track.start)
        return [(number, 0) for number in range(first, newest + 1)]

    def failed(self, uri: str) -> None:
        """Encoders are late: what was only due by the clock is tried again."""
        track, number = self._given.get(uri, (None, 0))
        if track is not None and not track.listed:
            self._upto[track.media] = min(self._upto.get(track.media, -1), number - 1)
            self._late = True

    def hints(self) -> list[str]:
        return []

    def seen(self, path: str) -> bool:
        for pattern, media in self._patterns:
            if pattern.fullmatch(path):
                self._used_s[media] = time()
                return True
        return False

    def due_s(self) -> float:
        now_s = time()
        timed = [track for track in self._in_use() if not track.listed]
        waits = [track.due_s(track.newest(now_s) + 1) - now_s for track in timed]
        if self._late:
            waits += [track.each_s / 8 for track in timed]
        return min([*waits, self.every_s])
