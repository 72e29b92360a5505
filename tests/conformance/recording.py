"""What is published: a recording of ffmpeg's, and words that say when they are said."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edgecache import amf
from edgecache.flv import SCRIPT, Tag
from origin.ffmpeg import find

FPS: Final = 15
SPOKEN_MS: Final = (700, 1_600)  # between two texts, and how long each is shown: across segments
LENGTH_S: Final = 170  # of the recording; the suite is over before


def record(folder: Path) -> Path:
    """The recording: picture and tone, a key frame each second."""
    file = folder / "recording.flv"
    command = [
        *(str(find().path), "-hide_banner", "-loglevel", "error", "-nostdin"),
        *("-f", "lavfi", "-i", f"testsrc2=s=160x90:r={FPS}"),
        *("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"),
        *("-t", str(LENGTH_S), "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency"),
        *("-pix_fmt", "yuv420p", "-b:v", "100k", "-g", str(FPS), "-threads:v", "1"),
        *("-c:a", "aac", "-b:a", "64k", "-f", "flv", str(file)),
    ]
    subprocess.run(command, check=True, timeout=60)
    return file


def with_words(tags: list[Tag]) -> Iterator[Tag]:
    """A text every so often, which says when that is, in front of the media of that time."""
    due_ms = 0
    for tag in tags:
        if tag.timestamp >= due_ms:
            said: amf.Value = {"text": f"at {tag.timestamp} ms", "duration": SPOKEN_MS[1] / 1000}
            yield Tag(SCRIPT, tag.timestamp, amf.encode("onTextData", said))
            due_ms += SPOKEN_MS[0]
        yield tag
