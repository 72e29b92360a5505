"""An ffmpeg that says it has NVENC, for hosts without: the real one, behind a script that makes
libx264 of h264_nvenc and of its options."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TypedDict, Unpack

SCRIPT = """#!{python} -IS
import os, sys
REAL, WITHOUT, LIMIT = {real!r}, {without!r}, {limit!r}
MEANS = {{"h264_nvenc": "libx264", "p4": "ultrafast", "ll": "zerolatency", **{means!r}}}
NO_X264 = ("-init_hw_device", "-rc", "-forced-idr", "-no-scenecut", "-zerolatency", "-delay")
arguments = sys.argv[1:]
if "h264_nvenc" in arguments:
    given, arguments = iter(arguments), []
    for word in given:
        if word in (*NO_X264, *WITHOUT):
            next(given)
        elif word == "-use_editlist":
            limit = ["-t", open(LIMIT).read()] if os.path.exists(LIMIT) else []
            arguments += ["-sc_threshold", "0", "-threads", "1", *limit, word]
        else:
            arguments.append(MEANS.get(word, word))
os.execv(REAL, [REAL, *arguments])
"""


class Made(TypedDict, total=False):
    """without: options that it does not heed; means: what words of the command mean, beside those
    of NVENC."""

    without: tuple[str, ...]
    means: dict[str, str]


def script(folder: Path, real: str, **made: Unpack[Made]) -> Path:
    """Its path. real: the ffmpeg behind it. Once there is a file `seconds` beside it, each begun
    since exits after so much media."""
    path = folder / "ffmpeg"
    path.write_text(
        SCRIPT.format(
            python=sys.executable,
            real=real,
            without=made.get("without", ()),
            limit=str(folder / "seconds"),
            means=made.get("means", {}),
        )
    )
    path.chmod(0o755)
    return path
