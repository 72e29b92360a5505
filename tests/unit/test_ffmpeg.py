"""Which ffmpeg is taken, and the one line that says why none is."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgecache.errors import ConfigError
from origin import ffmpeg


def fake(
    folder: Path, banner: str, encoders: str = "x libx264 h\n V..... libx264 x\n A..... aac y\n"
) -> Path:
    path = folder / "ffmpeg"
    path.write_text(
        f"#!/bin/sh\ncase \"$*\" in *-encoders*) cat <<'E'\n{encoders}E\n;;\n"
        f"*) echo '{banner}';; esac\n"
    )
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("banner", "version"),
    [
        ("ffmpeg version 5.1.9-0+deb12u1 Copyright", (5, 1)),
        ("ffmpeg version n9.0.2-17-gabc", (9, 0)),
        ("ffmpeg version 6.1", (6, 1)),
        ("ffmpeg version N-12345-gabc", None),
        ("", None),
    ],
)
def test_version(banner: str, version: tuple[int, int] | None) -> None:
    assert ffmpeg.version_of(banner) == version


def test_order(tmp_path: Path) -> None:
    named, on_path = tmp_path / "a", tmp_path / "b"
    named.mkdir()
    on_path.mkdir()
    first = fake(named, "ffmpeg version 7.0 x")
    fake(on_path, "ffmpeg version 6.1 x")
    path = f"{on_path}:/usr/bin:/bin"
    assert ffmpeg.find(environ={"PATH": path}).version == (6, 1)
    newest = ffmpeg.find(environ={"PATH": path}).since((8, 0))
    assert newest is not None
    assert newest.found == "imageio-ffmpeg"  # for what the one on PATH is too old for
    assert ffmpeg.find(environ={"PATH": path}).since((6, 1)) == ffmpeg.find(environ={"PATH": path})
    assert ffmpeg.find(first, environ={"PATH": path}).since((8, 0)) is None  # named: only that
    found = ffmpeg.find(environ={"PATH": path, ffmpeg.VARIABLE: str(first)})
    assert (found.version, found.found, found.path) == ((7, 0), ffmpeg.VARIABLE, str(first))
    assert str(found) == f"ffmpeg 7.0 ({first}, from EDGECACHE_FFMPEG)"
    assert ffmpeg.find(first, environ={"PATH": path}).found == "encoder.ffmpeg"


def test_old_one_on_path_is_passed_over(tmp_path: Path) -> None:
    fake(tmp_path, "ffmpeg version 4.4.1 x")
    found = ffmpeg.find(environ={"PATH": f"{tmp_path}:/nonexistent"})
    assert found.found == "imageio-ffmpeg"
    assert found.version >= (5, 1)


@pytest.mark.parametrize(
    ("banner", "encoders", "message"),
    [
        ("ffmpeg version 4.4.1 x", "", "version is 4.4"),
        ("nonsense", "", "version is not readable"),
        ("ffmpeg version 6.0 x", " A..... aac x\n", "has no encoder libx264"),
    ],
)
def test_a_named_one_must_be_usable(
    tmp_path: Path, banner: str, encoders: str, message: str
) -> None:
    path = fake(tmp_path, banner, encoders)
    with pytest.raises(ConfigError, match=message) as error:
        ffmpeg.find(environ={"PATH": "/usr/bin:/bin", ffmpeg.VARIABLE: str(path)})
    assert str(error.value).startswith(f"EDGECACHE_FFMPEG: found {path}")
    assert len(error.value.problems) == 1


def test_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg, "_in_wheel", lambda: "")
    with pytest.raises(ConfigError, match="apt-get install ffmpeg") as error:
        ffmpeg.find(environ={"PATH": "/nonexistent"})
    assert "\n" not in str(error.value)
