"""Names on the wire: every path a viewer or a POP may ask for, as pure functions.

Laws: a name never repeats (the epoch of the timeline is in every media path), and nothing but this
module spells a path. Playlists name their media relative to themselves, see `relative`.
Knows nothing of bytes, clocks or who asks.
"""

from __future__ import annotations

import re
from typing import Final

_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}")
TIME: Final = "/edgecache/time"  # the wall clock; a POP answers it itself (control/clock.py)
# Who only has a name knows by it that a track is text: what its files are called, who counts it.
TEXT_TRACK: Final = re.compile(r"text(?:-[a-z0-9_-]{1,59})?")
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


def check_name(kind: str, name: str) -> str:
    """Return `name` when it may stand in a path; `kind` ("stream", "track") is for the message.

    Raises ValueError: names become paths, file names and log fields, so the alphabet is closed.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{kind} name {name[:80]!r}: want 1 to 64 characters of a-z 0-9 _ -")
    return name


def epoch_of(unix_s: int) -> str:
    """Name of a timeline that starts at `unix_s` (seconds): base 36. Raises ValueError below 0."""
    if unix_s < 0:
        raise ValueError(f"epoch {unix_s}: want unix seconds, 0 or more")
    digits = ""
    while True:
        unix_s, digit = divmod(unix_s, 36)
        digits = _DIGITS[digit] + digits
        if not unix_s:
            return digits


def epoch_after(before: str | None, now_s: float) -> str:
    """The next timeline of a stream. Names never repeat: one that begins within the second of the
    one `before` it gets the next one."""
    return epoch_of(max(int(now_s), epoch_seconds(before) + 1 if before else 0))


def epoch_seconds(epoch: str) -> int:
    """Unix seconds of an epoch name. Raises ValueError when it is not base 36."""
    if not re.fullmatch(r"[0-9a-z]{1,12}", epoch):
        raise ValueError(f"epoch {epoch[:80]!r}: want unix seconds in base 36")
    return int(epoch, 36)


def is_newer(epoch: str, than: str) -> bool:
    """Both may be "", which is older than any."""
    return bool(epoch) and (not than or epoch_seconds(epoch) > epoch_seconds(than))


def multivariant_path(stream: str) -> str:
    """Path of the playlist that lists all renditions."""
    return f"/live/{stream}/master.m3u8"


def mpd_path(stream: str) -> str:
    """Path of the DASH manifest."""
    return f"/live/{stream}/manifest.mpd"


def media_path(stream: str, track: str) -> str:
    """Path of one rendition's media playlist."""
    return f"/live/{stream}/{track}.m3u8"


def iframe_path(stream: str, track: str) -> str:
    """Path of the playlist of a video rendition's key frames."""
    return f"/live/{stream}/{track}.iframes.m3u8"


def init_path(stream: str, epoch: str, track: str, generation: int) -> str:
    """Path of the init section of one encoder generation (0, 1, ...)."""
    return f"/live/{stream}/{epoch}/{track}/init{generation}.mp4"


def segment_path(stream: str, epoch: str, track: str, msn: int) -> str:
    """Path of the segment with media sequence number `msn`."""
    return f"/live/{stream}/{epoch}/{track}/{msn}.{suffix(track)}"


def part_path(stream: str, epoch: str, track: str, msn: int, part: int) -> str:
    """Path of part `part` (0, 1, ...) of segment `msn`."""
    return f"/live/{stream}/{epoch}/{track}/{msn}.{part}.{suffix(track)}"


def suffix(track: str) -> str:
    """What the names of its segments and parts end with."""
    return "vtt" if TEXT_TRACK.fullmatch(track) else "m4s"


def storyboard_path(stream: str) -> str:
    """Path of the list of a recording's small pictures (WebVTT)."""
    return f"/live/{stream}/storyboard.vtt"


def sheet_path(stream: str, epoch: str, number: int) -> str:
    """Path of one sheet of them."""
    return f"/live/{stream}/{epoch}/storyboard/{number}.jpg"


def vod_path(stream: str, epoch: str) -> str:
    """What all names of one recording begin with, for as long as it is kept: playlists and objects
    are below it as they are below /live/{stream}/, so that the same texts hold for both."""
    return f"/vod/{stream}/{epoch}/"


def relative(stream: str, path: str) -> str:
    """`path` as a URI relative to this stream's playlists, which all live in /live/{stream}/."""
    return path.removeprefix(f"/live/{stream}/")
