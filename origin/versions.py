"""Texts of one stream as the versions that are stored, pushed and waited for.

Laws: one version, one digest (compression is deterministic); what never blocks is numbered by a
count of its own that starts at the epoch, so that numbers grow over all epochs of a stream. Knows
nothing of what the texts say.
"""

from __future__ import annotations

import gzip
from typing import Final

from origin.model import PlaylistVersion
from origin.timing import Timing

# An init section is wanted as long as its generation runs; whoever lost it by then pulls it again.
INIT_TTL_MS: Final = 24 * 3600 * 1000


class Versioned:
    """media_ttl_ms: how long what a playlist names can be had. revision: less than any number that
    `value` is to give."""

    def __init__(self, timing: Timing, *, media_ttl_ms: int, revision: int) -> None:
        self._timing = timing
        self._media_ttl_ms = media_ttl_ms
        self._revision = revision
        # RFC 8216bis B.1: half a target duration for whoever does not block; a blocking answer
        # could be kept for 6, but one version has one header
        self._cache_control = f"public, max-age={max(1, timing.target_duration // 2)}"

    def playlist(
        self,
        path: str,
        version: tuple[int, int, int],
        full: str,
        *deltas: str | None,
        ended: bool,
    ) -> PlaylistVersion:
        """A media playlist, with its delta updates where it has some."""
        msn, parts, last_parts = version
        delta, delta2 = (text.encode() if text else None for text in deltas)
        return PlaylistVersion(
            path=path,
            msn=msn,
            parts=parts,
            last_parts=last_parts,
            hold_ms=self._timing.hold_ms,
            advance=self._timing.advance,
            ended=ended,
            # a live playlist that got no part for 3 target durations is worse than an error; one
            # that ended stays as long as its segments
            ttl_ms=self._media_ttl_ms if ended else self._timing.hold_ms,
            cache_control=self._cache_control,
            full=full.encode(),
            full_gzip=_gzip(full.encode()),
            delta=delta,
            delta_gzip=_gzip(delta) if delta else None,
            delta2=delta2,
            delta2_gzip=_gzip(delta2) if delta2 else None,
        )

    def value(self, path: str, content_type: str, text: str) -> PlaylistVersion:
        """A version that nobody waits for."""
        full = text.encode()
        self._revision += 1
        return PlaylistVersion(
            path=path,
            msn=self._revision,
            parts=0,
            last_parts=0,
            hold_ms=0,
            advance=0,
            ended=False,
            ttl_ms=INIT_TTL_MS,
            cache_control=self._cache_control,
            content_type=content_type,
            full=full,
            full_gzip=_gzip(full),
        )


def _gzip(text: bytes) -> bytes:
    """Deterministic, so that a version has one digest. Level 6: of 3 KiB about 60 µs."""
    return gzip.compress(text, compresslevel=6, mtime=0)
