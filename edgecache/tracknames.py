"""What a path below a publisher's own says: which track of a broadcast, or a manifest of it.

Laws: pure. Encoders name requests in their own ways: one for all of a track (`video.cmfv`,
`Streams(video.cmfv)`: DASH-IF Live Media Ingest, Interface 1), or an init section and numbered
segments (`init-stream0.m4s`, `chunk-stream0-00001.m4s`; `v1/init.mp4`, `v1/17.m4s`). What is left
without the words that say what it is, and without a segment's number, names the track. Known to POP
and data centre, so that both mean the same by it. Does not know HTTP, nor media.
"""

from __future__ import annotations

import re
from typing import Final

MAX_CHARS: Final = 256  # of a path
_MANIFEST: Final = re.compile(r"\.(?:mpd|m3u8)$")
_SUFFIX: Final = re.compile(r"\.(?:cmf[vatm]|m4[svaf]|mp4|mp4a|dash)(?=\)?$)")
_WORD: Final = re.compile(r"[a-z]+|[0-9]+")
_OF_NO_TRACK: Final = frozenset(("streams", "init", "header", "chunk", "seg", "segment", "frag"))


def is_manifest(path: str) -> bool:
    """Is it of HLS or DASH?"""
    return _MANIFEST.search(path.lower()) is not None


def name_of(path: str) -> str:
    """The track of a request that begins with an init section."""
    return "-".join(_words(path))


def names_of(path: str) -> tuple[str, ...]:
    """The tracks that a request without one may be of, the likelier first."""
    words = _words(path)
    names = ["-".join(words)]
    if words and words[-1].isdigit():
        names.append("-".join(words[:-1]))
    return tuple(names)


def _words(path: str) -> list[str]:
    words = _WORD.findall(_SUFFIX.sub("", path.lower()))
    return [word for word in words if word not in _OF_NO_TRACK]
