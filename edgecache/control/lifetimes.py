"""How long what an origin did not date may be served: RFC 8216bis B.1, in target durations.

    answer                                 success   refusal (4xx)
    playlist, blocking (`_HLS_msn`)        6         4
    playlist or manifest, not blocking     1/2       1
    media segment or part                  6         1

Law: what is not there *yet* is refused no longer than `cache.negative`, or the refusal would
outlive the wait: a media name counts as that unless its number is at or below one that was seen.
The target duration is the one that a playlist of the same directory, or of one above, said last;
`cache.target_duration` until then. Bounds: directories and kinds of names remembered (the oldest
are forgotten). Sans-IO.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Final

from ..config import Cache
from ..units import SECOND_MS

_REMEMBERED: Final = 4096
_MEDIA: Final = re.compile(rb"\.(?:m4s|mp4|m4a|m4v|cmf[avt]|ts|aac|vtt|webm|mp3|jpg)(?:\?|$)")
_PLAYLIST: Final = re.compile(rb"\.(?:m3u8|mpd)(?:\?|$)")
_BLOCKING: Final = re.compile(rb"[?&]_HLS_msn=")
_TARGET: Final = re.compile(rb"^#EXT-X-TARGETDURATION:(\d{1,4})\s*$", re.MULTILINE)
_NUMBER: Final = re.compile(rb"(\d{1,18})(?=\D*\.[^.]*$)")  # the last one before the ending


def _remember(table: OrderedDict[bytes, int], key: bytes, value: int) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > _REMEMBERED:
        table.popitem(last=False)


def _numbered(key: bytes) -> tuple[bytes, int] | None:
    """`/a/1042.m4s` -> (`/a/#.m4s`, 1042): the kind of name, and which of its kind."""
    folder, _, name = key.partition(b"?")[0].rpartition(b"/")
    match = _NUMBER.search(name)
    if match is None:
        return None
    return folder + b"/" + name[: match.start()] + b"#" + name[match.end() :], int(match[1])


class Lifetimes:
    """Learns from what passes; answers for what does not say itself. All times in ms."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._targets: OrderedDict[bytes, int] = OrderedDict()
        self._seen: OrderedDict[bytes, int] = OrderedDict()

    def learn(self, key: bytes, text: bytes) -> None:
        """The beginning of a body; those of playlists say their target duration."""
        match = _TARGET.search(text) if _PLAYLIST.search(key) else None
        if match is not None:
            self.target(key, int(match[1]))

    def target(self, key: bytes, seconds: int) -> None:
        """The playlist `key` has this target duration; 0: it has none."""
        if seconds:
            _remember(self._targets, key.partition(b"?")[0].rpartition(b"/")[0], seconds)

    def saw(self, key: bytes) -> None:
        """It exists, so that what comes before it in its kind is not awaited any more."""
        found = _numbered(key) if _MEDIA.search(key) else None
        if found is not None:
            kind, number = found
            _remember(self._seen, kind, max(number, self._seen.get(kind, 0)))

    def target_ms(self, key: bytes) -> int:
        folder = key.partition(b"?")[0]
        while folder:
            folder = folder.rpartition(b"/")[0]
            if folder in self._targets:
                return self._targets[folder] * SECOND_MS
        return self._cache.target_duration

    def success_ms(self, key: bytes) -> int:
        if _PLAYLIST.search(key):
            return 6 * self.target_ms(key) if _BLOCKING.search(key) else self.target_ms(key) // 2
        return 6 * self.target_ms(key) if _MEDIA.search(key) else self._cache.other

    def refusal_ms(self, key: bytes) -> int:
        if _PLAYLIST.search(key):
            return (4 if _BLOCKING.search(key) else 1) * self.target_ms(key)
        found = _numbered(key) if _MEDIA.search(key) else None
        if found is None or found[1] > self._seen.get(found[0], -1):
            return self._cache.negative
        return self.target_ms(key)
