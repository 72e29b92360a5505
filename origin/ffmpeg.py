"""Finding the one ffmpeg that this origin runs.

Law: looked for in one order: `EDGECACHE_FFMPEG` (or the configured path), then `ffmpeg` on PATH,
then the binary inside the `imageio-ffmpeg` wheel. What is named must be usable, or it is an error;
what is merely found and too old is passed over; if the wheel's is newer than the one on PATH, it
is used for sources that need it. Nothing is ever downloaded. Knows nothing of
streams.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from edgecache.errors import ConfigError

VARIABLE: Final = "EDGECACHE_FFMPEG"
MIN_VERSION: Final = (5, 1)  # every option of origin/ladder.py was tried on 5.1.9 and 9.0.2
_ENCODERS: Final = ("libx264", "aac")
_PROBE_S: Final = 10
_INSTALL: Final = (
    "install ffmpeg >= 5.1 with libx264 (Debian: apt-get install ffmpeg), "
    "or pip install imageio-ffmpeg"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ffmpeg:
    """A usable ffmpeg. `found`: which of the three places it is from. newer: another one, for what
    this one is too old for. h264: the encoder that it uses for live H.264."""

    path: str
    version: tuple[int, int]
    found: str
    newer: Ffmpeg | None = None
    h264: str = "libx264"

    def since(self, version: tuple[int, int]) -> Ffmpeg | None:
        """One of at least `version`: this one if it is."""
        if self.version >= version:
            return self
        return self.newer.since(version) if self.newer else None

    @property
    def software(self) -> Ffmpeg:
        """Without hardware."""
        return replace(self, h264="libx264", newer=self.newer.software if self.newer else None)

    def __str__(self) -> str:
        major, minor = self.version
        hardware = "" if self.h264 == "libx264" else f" with {self.h264}"
        return f"ffmpeg {major}.{minor} ({self.path}, from {self.found}){hardware}"


def find(
    configured: Path | str | None = None, *, environ: Mapping[str, str] | None = None
) -> Ffmpeg:
    """The ffmpeg to use. Raises ConfigError with one line saying what was tried and what to do."""
    environ = os.environ if environ is None else environ
    named = environ.get(VARIABLE) or (str(configured) if configured else "")
    if named:
        found = VARIABLE if environ.get(VARIABLE) else "encoder.ffmpeg"
        problem = _problem(named)
        if isinstance(problem, Ffmpeg):
            return Ffmpeg(path=problem.path, version=problem.version, found=found)
        raise ConfigError([f"{found}: found {named}: {problem}; allowed is an ffmpeg >= 5.1"])
    tried: list[str] = []
    usable: list[Ffmpeg] = []
    for found, path in (("PATH", _on_path(environ)), ("imageio-ffmpeg", _in_wheel())):
        problem = _problem(path) if path else "not there"
        if isinstance(problem, Ffmpeg):
            usable.append(replace(problem, found=found))
        else:
            tried.append(f"{found}: {problem}")
    if usable:
        first, *others = usable
        return replace(first, newer=next((o for o in others if o.version > first.version), None))
    raise ConfigError([f"ffmpeg: found none ({'; '.join(tried)}); {_INSTALL}"])


def version_of(banner: str) -> tuple[int, int] | None:
    """(major, minor) of the first line of `ffmpeg -version`; None when it has no number (a git
    build)."""
    match = re.match(r"ffmpeg version n?(\d+)\.(\d+)", banner)
    return (int(match[1]), int(match[2])) if match else None


def _on_path(environ: Mapping[str, str]) -> str:
    return shutil.which("ffmpeg", path=environ.get("PATH", os.defpath)) or ""


def _in_wheel() -> str:
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ImportError:
        return ""
    try:
        return str(get_ffmpeg_exe())
    except RuntimeError:  # a wheel without a binary for this platform
        return ""


def _problem(path: str) -> Ffmpeg | str:
    """A usable ffmpeg at `path`, or why it is none."""
    try:
        banner = _run(path, "-version")
        encoders = _run(path, "-hide_banner", "-encoders")
    except (OSError, subprocess.SubprocessError) as error:
        return f"does not run ({error.__class__.__name__})"
    version = version_of(banner)
    if version is None:
        return f"version is not readable in {banner.splitlines()[:1]}"
    if version < MIN_VERSION:
        return f"version is {version[0]}.{version[1]}"
    missing = [name for name in _ENCODERS if not re.search(rf"^ \S+ {name} ", encoders, re.M)]
    if missing:
        return f"has no encoder {' and no '.join(missing)}"
    return Ffmpeg(path=path, version=version, found="")


def _run(path: str, *arguments: str) -> str:
    done = subprocess.run(
        [path, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=_PROBE_S,
    )
    return done.stdout.decode("utf-8", "replace")
