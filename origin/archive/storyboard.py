"""Small pictures of a recording, made of its key frames: sheets in JPEG, and when each is shown.

Laws: only key frames are read (a byte range of each segment, as the I-frame playlist has it), of
the smallest picture there is, and at most `_PICTURES` of them. The times are those of the playlist,
gaps included. Made of bytes alone; who reads and who stores is said by the caller.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ..ffmpeg import Ffmpeg
from ..model import digest_of
from ..timeline import Segment, Track
from .recording import Recording, Storyboard, timeline_of
from .transcode import TranscodeError, transcode

_PICTURES: Final = 600
_COLUMNS: Final = 5
_ROWS: Final = 5
_WIDTH: Final = 160
_JPEGS: Final = re.compile(rb"(?<=\xff\xd9)(?=\xff\xd8\xff)")

Read = Callable[[str, int, int], Awaitable[bytes]]  # path, bytes [start, stop)


@dataclass(frozen=True, slots=True)
class Drawn:
    """The storyboard and its sheets."""

    storyboard: Storyboard
    sheets: list[bytes]


async def draw(
    recording: Recording, read: Read, ffmpeg: Ffmpeg, *, busy: Callable[[], bool] = lambda: False
) -> Drawn | None:
    """None without pictures. Raises TranscodeError, and what `read` raises."""
    timeline = timeline_of(recording)
    tracks = [track for track in timeline.tracks.values() if track.rendition.key_bandwidth]
    if not tracks:
        return None
    track = min(tracks, key=lambda each: each.rendition.height)
    chosen = _chosen(track)
    height = 2 * round(_WIDTH * track.rendition.height / track.rendition.width / 2)
    made = await transcode(
        lambda fds: _argv(ffmpeg, height, fds[0]),
        _frames(recording, track, [segment for _, segment in chosen], read),
        outputs=1,
        busy=busy,
    )
    sheets = _JPEGS.split(made[0])
    if len(sheets) != -(-len(chosen) // (_COLUMNS * _ROWS)):
        raise TranscodeError(f"ffmpeg made {len(sheets)} sheets of {len(chosen)} pictures")
    return Drawn(
        Storyboard(
            columns=_COLUMNS,
            rows=_ROWS,
            width=_WIDTH,
            height=height,
            starts_ms=[start_ms for start_ms, _ in chosen],
            sheets=[(len(sheet), digest_of(sheet)) for sheet in sheets],
        ),
        sheets,
    )


def _chosen(track: Track) -> list[tuple[int, Segment]]:
    """(start in ms of playing time, segment), evenly; the first one always."""
    found: list[tuple[int, Segment]] = []
    at_ns = 0
    for segment in track.segments:
        if segment.key_bytes:
            found.append((at_ns // 1_000_000, segment))
        at_ns += segment.duration_ns
    return found[:: -(-len(found) // _PICTURES)]


async def _frames(
    recording: Recording, track: Track, segments: Sequence[Segment], read: Read
) -> AsyncIterator[bytes]:
    """Init sections, and the fragment that each segment begins with."""
    name, generation = track.rendition.track, -1
    for segment in segments:
        if segment.generation.number != generation:
            generation = segment.generation.number
            init = recording.tracks[name].inits[generation]
            yield await read(track.inits[generation], 0, init.size)
        yield await read(segment.path, 0, segment.key_bytes)


def _argv(ffmpeg: Ffmpeg, height: int, fd: int) -> list[str]:
    return [
        ffmpeg.path,
        *("-hide_banner", "-loglevel", "error", "-nostats", "-nostdin"),
        *("-protocol_whitelist", "pipe", "-threads", "1", "-f", "mp4", "-i", "pipe:0"),
        *("-vf", f"scale={_WIDTH}:{height},tile={_COLUMNS}x{_ROWS}", "-fps_mode", "passthrough"),
        *("-threads:v", "1", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-q:v", "5"),
        *("-f", "image2pipe", "-flush_packets", "1", f"pipe:{fd}"),
    ]
