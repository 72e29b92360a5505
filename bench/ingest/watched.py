"""The cells that a player watches: what matters most, while it happens.

Law: what happens does so half way, when a player has settled; nothing may stop it but the absence
of media.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from . import clips, events
from .cells import (
    AS_OBS,
    PLAIN,
    SMALLER,
    Cell,
    by,
    encoder_killed,
    ffmpeg,
    least,
    process,
    script,
    second,
    under,
)
from .protocols import HTTP, SRT

SECONDS: Final = 16.0
AWAY_S: Final = (2.0, 10.0)
STALL_S: Final = 0.25  # where media goes on; no viewer calls this one
LONG: Final = replace(AS_OBS, seconds=SECONDS)


def cells() -> list[Cell]:
    """Each with the seconds that its player may stand still."""
    return [
        *(replace(least(cell, SECONDS - 1), stalled_s=STALL_S) for cell in (*ways(), *troubles())),
        *(_away(seconds) for seconds in AWAY_S),
    ]


def ways() -> list[Cell]:
    """Undisturbed."""
    return [
        by("OBS's settings (B-frames)", "p-rtmp", process(ffmpeg(LONG))),
        by("OBS's settings (B-frames)", "p-srt", process(ffmpeg(LONG, SRT)), SRT),
        by("OBS's settings (B-frames)", "p-http", process(ffmpeg(LONG, HTTP)), HTTP),
    ]


def troubles() -> list[Cell]:
    """After which media goes on."""
    half = replace(PLAIN, seconds=SECONDS / 2)
    smaller = script(half, events.then(clips.tags(replace(SMALLER, seconds=SECONDS / 2))))
    size = under("another size", "p-size", smaller)
    killed = under("kill -9 of the encoder", "p-killed", encoder_killed(LONG))
    other = under("a second publisher", "p-second", second(LONG))
    return [
        under("time stamps jump by 20 s", "p-ahead", script(LONG, events.jump(20_000))),
        under("time stamps jump back by 20 s", "p-back", script(LONG, events.jump(-20_000))),
        under("1 % of the tags corrupt", "p-tags", script(LONG, events.corrupt_tags)),
        replace(size, discontinuities=1),
        replace(killed, discontinuities=1, told="encoder restarts: {'signal': 1}"),
        replace(other, told="the second is refused"),
    ]


def _away(seconds: float) -> Cell:
    """A player has something in its buffer, and needs a moment for what is back."""
    gone = script(replace(PLAIN, seconds=SECONDS), events.drop(seconds))
    cell = least(under(f"drops for {seconds:g} s", f"p-drop-{seconds:g}", gone), SECONDS - 1)
    return replace(cell, discontinuities=1, stalled_s=seconds)
