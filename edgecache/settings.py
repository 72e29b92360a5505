"""Settings from defaults, one TOML file, the environment and the command line, in rising
precedence.

Law: all problems are reported at once, one line each: where, which key, what was found, what is
allowed, the nearest valid key. Every effective value knows where it came from. Secrets are never
shown. Used by both daemons; knows nothing about what the settings mean.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Generic, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    SecretStr,
    ValidationError,
)
from pydantic_core import ErrorDetails

from . import units
from .errors import ConfigError, UnitError

M = TypeVar("M", bound=BaseModel)


def _unit(parse: Any, form: Any) -> tuple[BeforeValidator, PlainSerializer]:
    def check(value: object) -> int:
        try:
            return int(parse(value))
        except UnitError as error:
            raise ValueError(str(error)) from None

    return BeforeValidator(check), PlainSerializer(form, return_type=str, when_used="json")


def _split(value: object) -> object:
    """`a, b` from the environment or the command line is a list."""
    return (
        [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, str)
        else value
    )


Size = Annotated[int, *_unit(units.parse_size, units.format_size)]  # bytes
DurationMs = Annotated[int, *_unit(units.parse_duration_ms, units.format_duration_ms)]
Rate = Annotated[int, *_unit(units.parse_rate, units.format_rate)]  # bytes per second
Names = Annotated[tuple[str, ...], BeforeValidator(_split)]


class Section(BaseModel):
    """Base of every table: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


@dataclass(frozen=True)
class Loaded(Generic[M]):
    """A validated value, and for each dotted key that was given explicitly the place it came
    from."""

    value: M
    sources: Mapping[str, str]

    def rows(self) -> list[tuple[str, str, str]]:
        """(key, effective value, source) for every key, secrets masked: what `-T` prints."""
        return [
            (key, text, self.sources.get(key, "default"))
            for key, text in _leaves(self.value.model_dump(mode="json"))
        ]


def differences(old: BaseModel, new: BaseModel) -> list[str]:
    """Dotted keys whose values are not the same, sorted."""
    one, other = ({key: value for key, value, _ in Loaded(v, {}).rows()} for v in (old, new))
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))


def load(
    model: type[M],
    path: Path | None = None,
    *,
    env_prefix: str,
    overrides: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Loaded[M]:
    """Read and check everything. `overrides` are `key=value`; `EDGECACHE__CACHE__MEMORY=64MiB` sets
    `cache.memory` when `env_prefix` is `EDGECACHE`. Raises ConfigError with every problem found."""
    problems: list[str] = []
    data: dict[str, Any] = {}
    sources: dict[str, str] = {}
    text = _read(path, problems) if path else ""
    if path:
        _take_file(path, text, data, sources, problems)
    for key, raw, source in _loose(
        env_prefix, os.environ if environ is None else environ, overrides, problems
    ):
        if _put(data, key.split("."), _value(raw)):
            sources[key] = source
        else:
            problems.append(f"{source}: {key}: found a value, allowed a table here")
    value: M | None = None
    try:
        value = model.model_validate(data)
    except ValidationError as error:
        problems += [
            _describe(model, item, sources, path) for item in error.errors(include_url=False)
        ]
    if problems or value is None:
        raise ConfigError(problems)
    return Loaded(value, sources)


def _read(path: Path, problems: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        problems.append(f"{path}: cannot be read: {reason}")
        return ""


def _take_file(
    path: Path, text: str, data: dict[str, Any], sources: dict[str, str], problems: list[str]
) -> None:
    try:
        data.update(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{path}: not valid TOML: {error}")
        return
    lines = _lines(text)
    for key, _ in _leaves(data):
        sources[key] = f"{path}:{lines[key]}" if key in lines else str(path)


_TABLE: Final = re.compile(r"\s*(\[+)\s*([A-Za-z0-9_.\-\s\"]+?)\s*\]+")
_KEY: Final = re.compile(r"\s*([A-Za-z0-9_.\-\"]+)\s*=")


def _lines(text: str) -> dict[str, int]:
    """Dotted key -> line number, good enough to point at (keys inside inline tables are not
    found)."""
    found: dict[str, int] = {}
    lists: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if match := _TABLE.match(line):
            table = match[2].replace('"', "") + "."
            found.setdefault(table[:-1], number)
            if match[1] == "[[":
                index = lists[table] = lists.get(table, -1) + 1
                table += f"{index}."
                found[table[:-1]] = number
        elif match := _KEY.match(line):
            found.setdefault(table + match[1].replace('"', ""), number)
    return found


def _loose(
    prefix: str, environ: Mapping[str, str], overrides: Iterable[str], problems: list[str]
) -> list[tuple[str, str, str]]:
    """(key, raw value, source) of the environment, then of the command line."""
    start = prefix + "__"
    given = [
        (name[len(start) :].lower().replace("__", "."), raw, f"environment {name}")
        for name, raw in sorted(environ.items())
        if name.startswith(start)
    ]
    for item in overrides:
        key, equals, raw = item.partition("=")
        if equals and key.strip():
            given.append((key.strip(), raw, "command line"))
        else:
            problems.append(f"command line: found {item!r}, allowed key=value")
    return given


def _value(raw: str) -> object:
    """Lists, tables and quoted strings are TOML; anything else stays text and is converted by its
    type."""
    if raw[:1] in ("[", "{", '"', "'"):
        try:
            return tomllib.loads(f"v = {raw}")["v"]
        except tomllib.TOMLDecodeError:
            return raw
    return raw


def _put(data: dict[str, Any], keys: list[str], value: object) -> bool:
    node: object = data
    for key in keys[:-1]:
        node = node.setdefault(key, {}) if isinstance(node, dict) else None
    if isinstance(node, dict):
        node[keys[-1]] = value
        return True
    return False


def _leaves(data: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)) and value and isinstance(value[0], Mapping):
            for index, item in enumerate(value):
                yield from _leaves(item, f"{prefix}{name}.{index}.")
        elif isinstance(value, (list, tuple)):
            yield prefix + name, "[" + ", ".join(str(item) for item in value) + "]"
        else:
            yield prefix + name, "" if value is None or value == {} else str(value)


def _sections(annotation: Any) -> list[type[BaseModel]]:
    """The models inside an annotation such as `Http`, `Http | None`, `dict[str, Rung]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _sections(part)]


def _mentions_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(_mentions_secret(part) for part in get_args(annotation))


def _walk(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[type[BaseModel], Any]:
    """The model that owns the last key of `loc`, and that key's annotation (None when unknown)."""
    annotation: Any = model
    for name in loc:
        found = _sections(annotation) if isinstance(annotation, type) else []
        if found:
            model = found[0]
            field = model.model_fields.get(str(name))
            annotation = field.annotation if field else None
        elif inner := _sections(annotation):
            annotation = inner[0]
    return model, annotation


def _describe(
    model: type[BaseModel], item: ErrorDetails, sources: Mapping[str, str], path: Path | None
) -> str:
    loc = item["loc"]
    key = ".".join(str(part) for part in loc)
    where = _where(key, sources) or (str(path) if path else "settings")
    owner, annotation = _walk(model, loc)
    if item["type"] == "extra_forbidden":
        known = list(owner.model_fields)
        close = difflib.get_close_matches(str(loc[-1]), known, n=1)
        hint = f", did you mean {close[0]}?" if close else ""
        return f"{where}: {key}: found an unknown key, allowed {', '.join(known)}{hint}"
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if item["type"] == "missing":
        return f"{where}: {key}: found nothing, allowed a value (it is required)"
    if not loc:
        return f"{where}: {message}"
    return (
        f"{where}: {key}: found {_shown(item['input'], annotation)}, allowed {message}{_near(item)}"
    )


def _where(key: str, sources: Mapping[str, str]) -> str | None:
    """The source of the key itself, of what is below it, or of the nearest table above it."""
    below = (place for name, place in sources.items() if name.startswith(key + "."))
    above = key.rpartition(".")[0]
    return sources.get(key) or next(below, None) or (_where(above, sources) if above else None)


def _shown(value: object, annotation: Any) -> str:
    if _mentions_secret(annotation):
        return "a secret (not shown)"
    if isinstance(value, Mapping):
        return "a table"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _near(item: ErrorDetails) -> str:
    expected = re.findall(r"'([^']+)'", str(item.get("ctx", {}).get("expected", "")))
    close = difflib.get_close_matches(str(item["input"]), expected, n=1)
    return f", did you mean {close[0]}?" if close else ""
