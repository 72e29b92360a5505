"""What the commands of `edgecache-origin` share: options, settings, and how they answer.

Law: every failure is one clear line on stderr. Imports nothing slow until it is called.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

if TYPE_CHECKING:
    from edgecache.settings import Loaded

    from .catalog import Catalog
    from .config import Config

EX_CONFIG: Final = 78

ConfigFile = Annotated[Path | None, typer.Option("-c", "--config", help="TOML file")]
Override = Annotated[list[str] | None, typer.Option("-o", "--option", help="key=value")]
AsJson = Annotated[bool, typer.Option("--json", help="for programs")]


def die(code: int, lines: Sequence[str]) -> NoReturn:
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    raise typer.Exit(code)


def load(config: Path | None, overrides: Sequence[str] = ()) -> Loaded[Config]:
    from edgecache.errors import ConfigError

    from .config import load_config, secrets_of

    try:
        loaded = load_config(config, overrides=overrides)
        secrets_of(loaded.value)
    except ConfigError as error:
        die(EX_CONFIG, error.problems)
    return loaded


def catalog_of(config: Path | None) -> Catalog:
    """The catalogue that a server with this configuration uses; it may be running."""
    from edgecache.errors import ConfigError, EdgeError

    from .catalogs import open_catalog

    settings = load(config).value
    if settings.data.dir is None and not settings.catalog.nats:
        die(EX_CONFIG, ["data.dir: found none, allowed a folder: keys in memory help nobody"])
    try:
        return open_catalog(settings, cached=False)
    except ConfigError as error:
        die(EX_CONFIG, error.problems)
    except EdgeError as error:
        die(1, [str(error)])


def date(unix_s: int | None) -> str:
    if unix_s is None:
        return "-"
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(unix_s))


def table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
