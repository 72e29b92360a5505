"""Scenarios: named questions, committed as TOML beside this file's `scenarios/`.

A scenario has a kind (how it is measured), servers under test, a headline figure, and cases: the
sizes it is asked at. `[defaults]` holds for every case, `[quick]` overrides both in a quick run.
Every key is checked; a problem names file, case and key.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import BenchError, said
from .kinds import KINDS
from .kinds.base import Kind, Params
from .sample import FIGURES

DIRECTORY: Final = Path(__file__).parent / "scenarios"


class _File(BaseModel):
    """A scenario file as written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str
    note: str = ""
    kind: str
    figure: str
    shown: tuple[str, ...]
    servers: tuple[str, ...]
    baseline: str = ""
    compare: tuple[str, str] | None = None
    rounds_max: int | None = None
    defaults: dict[str, Any] = {}
    quick: dict[str, Any] = {}
    case: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Case:
    label: str
    servers: tuple[str, ...]
    baseline: str
    params: Params


@dataclass(frozen=True)
class Scenario:
    """`baseline`: the server that figures are ratios of. `compare`: two cases whose headline
    figures are set against each other, server by server. `rounds_max`: what says nothing new when
    it is asked again. `note`: what a reader must know to read the figures."""

    name: str
    question: str
    kind: Kind[Any]
    figure: str
    shown: tuple[str, ...]
    compare: tuple[str, str] | None
    cases: tuple[Case, ...]
    rounds_max: int | None = None
    note: str = ""


def names() -> list[str]:
    return sorted(path.stem for path in DIRECTORY.glob("*.toml"))


def load(name: str, *, quick: bool) -> Scenario:
    """The scenario `scenarios/<name>.toml`. Raises BenchError naming what is wrong with it."""
    path = DIRECTORY / f"{name}.toml"
    if not path.exists():
        raise BenchError(f"no scenario {name!r}; there are: {', '.join(names())}")
    try:
        file = _File.model_validate(tomllib.loads(path.read_text()))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise BenchError(f"{path.name}: {said(error)}") from None
    if file.kind not in KINDS:
        raise BenchError(f"{path.name}: kind {file.kind!r}, allowed: {', '.join(KINDS)}")
    unknown = {file.figure, *file.shown} - FIGURES.keys()
    if unknown:
        raise BenchError(f"{path.name}: no figure {min(unknown)!r}")
    kind = KINDS[file.kind]
    cases = tuple(_case(path.name, kind, file, raw, quick=quick) for raw in file.case)
    labels = {case.label for case in cases}
    if len(labels) < len(cases) or (file.compare and not labels.issuperset(file.compare)):
        raise BenchError(f"{path.name}: labels must be unique, compare must name two of them")
    return Scenario(
        name,
        file.question,
        kind,
        file.figure,
        file.shown,
        file.compare,
        cases,
        file.rounds_max,
        file.note,
    )


def _case(where: str, kind: Kind[Any], file: _File, raw: Mapping[str, Any], *, quick: bool) -> Case:
    given = {**file.defaults, **raw, **(file.quick if quick else {})}
    label = str(given.pop("label", ""))
    servers = tuple(given.pop("servers", file.servers))
    baseline = str(given.pop("baseline", file.baseline))
    try:
        params = kind.params.model_validate(given)
    except ValidationError as error:
        raise BenchError(f"{where}: case {label!r}: {said(error)}") from None
    return Case(label, servers, baseline, params)
