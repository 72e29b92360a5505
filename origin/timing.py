"""The time grid of a stream, and the constants of its playlists that follow from it.

Laws: the same in all renditions and for the life of the stream (RFC 8216bis 6.2.4), so a value that
cannot be kept is refused before anything is made. Times are ns of media time. Knows nothing of
segments that were made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Final

from origin.model import Rendition

NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The constants of a stream's grid and of its playlists: the same in all renditions, for life
    (RFC 8216bis 6.2.4). parts: per segment. window_ns: what the playlists list; live_ns: the newest
    of it, which everybody watches and memory holds."""

    segment_ms: int
    parts: int
    part_target_ns: int
    window_ns: int
    live_ns: int

    @classmethod
    def plan(
        cls,
        renditions: Sequence[Rendition],
        *,
        segment_s: float = 2.0,
        part_s: float = 1 / 3,
        window_s: float = 60.0,
        dvr_s: float = 0.0,
    ) -> Timing:
        """Part target: the longest part any planned frame rate or sample rate can give. dvr_s: how
        far back playlists reach when that is more than the live window. Raises ValueError naming
        the setting."""
        segment_ms = round(segment_s * 1000)
        if not 500 <= segment_ms <= 20_000:
            raise ValueError(f"segment {segment_s} s, allowed 0.5 to 20 s")
        parts = round(segment_s / part_s) if part_s > 0 else 0
        if parts < 1 or abs(parts * part_s - segment_s) > 0.01 * segment_s:
            raise ValueError(f"part {part_s} s, want a whole fraction of segment {segment_s} s")
        part = Fraction(segment_ms, 1000 * parts)
        renditions = [rendition for rendition in renditions if rendition.kind != "text"]  # follow
        longest = max((_longest(part, rendition) for rendition in renditions), default=part)
        timing = cls(
            segment_ms=segment_ms,
            parts=parts,
            part_target_ns=ceil(longest * NS / 10_000) * 10_000,  # playlists carry 10 µs
            window_ns=round(max(window_s, dvr_s) * NS),
            live_ns=round(window_s * NS),
        )
        for rendition in renditions:
            frame = _frame(rendition)
            most = timing.part_target_ns // (frame * NS) * frame * NS
            if most < timing.part_least_ns:
                raise ValueError(
                    f"part {part_s:.3f} s: found {rendition.track} with frames of"
                    f" {float(frame):.3f} s, allowed parts that whole frames fill to 85 % of the"
                    " longest (4.4.4.9)"
                )
        if window_s < 3 * timing.target_duration:
            raise ValueError(f"window {window_s} s, want 3 target durations or more (6.2.2)")
        return timing

    @property
    def segment_ns(self) -> int:
        return self.segment_ms * 1_000_000

    @property
    def part_least_ns(self) -> int:
        """The least a part may last that is not the last one of its segment (4.4.4.9)."""
        return -(-self.part_target_ns * 85 // 100)

    @property
    def early_ms(self) -> int:
        """How long before its time a key frame may open a segment."""
        return min(self.segment_ms // 4, 490)

    @property
    def target_duration(self) -> int:
        """Seconds; what the longest segment rounds to (4.4.3.1)."""
        return max(1, (self.segment_ms + self.early_ms + 500) // 1000)

    @property
    def linger_ns(self) -> int:
        """How long a segment that left the playlist can still be had. It must be there its own and
        the playlist's duration after it first appeared (6.2.2); that is over two segments after it
        left, and the rest is for who is slow."""
        return 3 * self.target_duration * NS + 2 * self.segment_ns

    @property
    def skip_until_s(self) -> int:
        """Skip boundary: 6 target durations, the least allowed (4.4.3.8)."""
        return 6 * self.target_duration

    @property
    def hold_ms(self) -> int:
        """Longest a playlist reload may block: 3 target durations (6.2.5.2)."""
        return 3000 * self.target_duration

    @property
    def advance(self) -> int:
        """Advance Part Limit (6.2.5.2), in whole parts."""
        return 3 * NS // min(self.part_target_ns, NS)


def _longest(part: Fraction, rendition: Rendition) -> Fraction:
    """Cut by a grid of `part`, frames of f seconds give at most ceil(part ÷ f) of them a part."""
    frame = _frame(rendition)
    return ceil(part / frame) * frame


def _frame(rendition: Rendition) -> Fraction:
    """Seconds that a frame of the plan lasts."""
    if rendition.kind == "audio":
        return Fraction(1024, rendition.sample_rate or 48_000)  # AAC
    return 1 / Fraction(rendition.frame_rate or 30).limit_denominator(1001)
