"""Settings: precedence, provenance, and all problems at once."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, SecretStr

from edgecache.errors import ConfigError
from edgecache.settings import DurationMs, Loaded, Names, Rate, Section, Size, load


class Http(Section):
    listen: str = "a:1"
    workers: int = Field(1, ge=0, le=8)
    idle: DurationMs = 1000


class Rung(Section):
    bitrate: Rate
    height: int = 1


class Model(Section):
    http: Http = Http()
    memory: Size = 1024
    tags: Names = ()
    level: Literal["debug", "info"] = "info"
    keys: dict[str, SecretStr] = Field(default_factory=dict)
    ladder: dict[str, Rung] = Field(default_factory=dict)


def read(
    text: str = "", environ: dict[str, str] | None = None, *overrides: str, path: Path | None = None
) -> Loaded[Model]:
    if path is not None:
        path.write_text(text)
    return load(Model, path, env_prefix="T", overrides=overrides, environ=environ or {})


def problems(*args: object, path: Path | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        read(*args, path=path)  # type: ignore[arg-type]
    return caught.value.problems


def test_precedence_and_provenance(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    text = 'memory = "1MiB"\n[http]\nlisten = "file:1"\nworkers = 2\nidle = "3s"\n'
    environ = {"T__HTTP__WORKERS": "3", "T__HTTP__IDLE": "4s", "OTHER__X": "1"}
    loaded = read(text, environ, "http.idle=5s", path=path)
    http = loaded.value.http
    assert (http.listen, http.workers, http.idle) == ("file:1", 3, 5000)
    assert loaded.value.memory == 1 << 20
    assert {key: (value, source) for key, value, source in loaded.rows()} == {
        "http.listen": ("file:1", f"{path}:3"),
        "http.workers": ("3", "environment T__HTTP__WORKERS"),
        "http.idle": ("5s", "command line"),
        "memory": ("1MiB", f"{path}:1"),
        "tags": ("[]", "default"),
        "level": ("info", "default"),
        "keys": ("", "default"),
        "ladder": ("", "default"),
    }


@pytest.mark.parametrize("raw", ["a,b", '["a", "b"]', "a , b,"])
def test_lists_from_one_line(raw: str) -> None:
    assert read("", {"T__TAGS": raw}).value.tags == ("a", "b")
    assert read("", {}, f"tags={raw}").value.tags == ("a", "b")


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    text = (
        'memory = 64\nlevel = "inof"\n[http]\nworkrs = 2\nworkers = 9\n'
        '[ladder.low]\nheight = "tall"\n'
    )
    environ = {"T__HTTP__IDLE": "5"}
    told = problems(text, environ, "nonsense", "http.listen.port=1", path=path)
    size = 'a size with its unit, such as "64MiB", "512KiB" or "1GB"'
    duration = 'a duration with its unit, such as "500ms", "2s" or "1h"'
    known = "listen, workers, idle"
    assert sorted(told) == sorted(
        (
            "command line: found 'nonsense', allowed key=value",
            "command line: http.listen: found a table, allowed a valid string",
            f"{path}:1: memory: found 64, allowed {size}",
            f"{path}:2: level: found 'inof', allowed 'debug' or 'info', did you mean info?",
            f"{path}:4: http.workrs: found an unknown key, allowed {known}, did you mean workers?",
            f"{path}:5: http.workers: found 9, allowed less than or equal to 8",
            f"environment T__HTTP__IDLE: http.idle: found '5', allowed {duration}",
            f"{path}:7: ladder.low.bitrate: found nothing, allowed a value (it is required)",
            f"{path}:7: ladder.low.height: found 'tall', allowed a valid integer, "
            "unable to parse string as an integer",
        )
    )


def test_a_value_is_not_a_table() -> None:
    told = problems("", {}, "memory=1MiB", "memory.size=1MiB")
    assert told == ("command line: memory.size: found a value, allowed a table here",)


def test_secrets_are_never_shown() -> None:
    told = problems("", {"T__KEYS__K": '["hunter2hunter2"]'})
    assert "hunter2" not in "".join(told)
    loaded = read("", {"T__KEYS__K": "hunter2hunter2"})
    assert loaded.value.keys["k"].get_secret_value() == "hunter2hunter2"
    assert "hunter2" not in str(loaded.rows())
    assert "hunter2" not in repr(loaded.value)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        load(Model, missing, env_prefix="T", environ={})
    assert "not valid TOML" in problems("[http", {}, path=tmp_path / "t.toml")[0]
    (tmp_path / "b.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(Model, tmp_path / "b.toml", env_prefix="T", environ={})
