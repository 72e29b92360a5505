"""RTP time stamps of a publisher's sound and picture -> milliseconds of one clock.

Laws: sans-IO. A track begins when its first packet came; what its sender reports (RTCP) then says
how its stamps belong to the other's, and the sound is moved there by `_STEP_MS` a packet at most,
so no listener hears it. Without reports both stay as they came. Source: RFC 3550 6.4.1.
"""

from __future__ import annotations

from typing import Final

from .rtp import SenderReport, unwrap

_STEP_MS: Final = 1.0
_BITS: Final = 32


class TrackClock:
    """rate: Hz; begun_s: what is 0."""

    def __init__(self, rate: int, begun_s: float) -> None:
        self._rate = rate
        self._begun_s = begun_s
        self._newest: int | None = None
        self._shift_ms = 0.0
        self._lead_s: float | None = None  # of the sender's clock before ours

    def at_ms(self, timestamp: int, now_s: float) -> float:
        """When a packet with this stamp, which came now, belongs."""
        if self._newest is None:
            self._newest = timestamp
            self._shift_ms = (now_s - self._begun_s) * 1000 - self._plain_ms(timestamp)
        self._newest = unwrap(timestamp, self._newest, _BITS)
        return self._plain_ms(self._newest) + self._shift_ms

    def report(self, told: SenderReport) -> None:
        if self._newest is not None:
            stamp = unwrap(told.timestamp, self._newest, _BITS)
            self._lead_s = told.at_s - self._plain_ms(stamp) / 1000

    def follow(self, other: TrackClock) -> None:
        """Come a step nearer to where the reports say that this belongs beside `other`."""
        if self._lead_s is not None and other._lead_s is not None:
            wanted_ms = (self._lead_s - other._lead_s) * 1000 + other._shift_ms
            away_ms = wanted_ms - self._shift_ms
            self._shift_ms += max(-_STEP_MS, min(away_ms, _STEP_MS))

    def _plain_ms(self, stamp: int) -> float:
        return stamp * 1000 / self._rate
