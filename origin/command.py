"""What the commands of `edgecache-origin` share: options, settings, and how they answer.

Law: every failure is one clear line on stderr. Imports nothing slow until it is called.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

if TYPE_CHECKING:
    from edgecache.settings import Loaded

    from .catalog import Catalog
    from .catalogs import Shared
    from .config import Config

EX_CONFIG: Final = 78
_TIMEOUT_S: Final = 60.0

ConfigFile = Annotated[Path | None, typer.Option("-c", "--config", help="TOML file")]
Override = Annotated[list[str] | None, typer.Option("-o", "--option", help="key=value")]
AsJson = Annotated[bool, typer.Option("--json", help="for programs")]


def die(code: int, lines: Sequence[str]) -> NoReturn:
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    raise typer.Exit(code)


def load(config: Path | None, overrides: Sequence[str] = ()) -> Loaded[Config]:
    from edgecache.errors import ConfigError

    from .config import load_config
    from .secretfiles import admin_token, secrets_of

    try:
        loaded = load_config(config, overrides=overrides)
        secrets_of(loaded.value)
        admin_token(loaded.value)
    except ConfigError as error:
        die(EX_CONFIG, error.problems)
    return loaded


def catalog_of(config: Path | None) -> Catalog:
    """The catalogue that a server with this configuration uses; it may be running."""
    return shared_of(load(config).value).catalog


def shared_of(settings: Config) -> Shared:
    """With its jobs."""
    from edgecache.errors import ConfigError, EdgeError

    from .catalogs import open_shared

    if settings.data.dir is None and not settings.catalog.nats:
        die(EX_CONFIG, ["data.dir: found none, allowed a folder: keys in memory help nobody"])
    try:
        return open_shared(settings, cached=False)
    except ConfigError as error:
        die(EX_CONFIG, error.problems)
    except EdgeError as error:
        die(1, [str(error)])


def ask_server(config: Config, method: str, path: str) -> dict[str, object]:
    """What the running server answers at its door for operators. Raises OSError when none does."""
    import urllib.error
    import urllib.request

    from .secretfiles import admin_token

    request = urllib.request.Request(f"http://{config.admin.listen}{path}", method=method)
    if token := admin_token(config):
        request.add_header("Authorization", f"Bearer {token}")
    if method == "POST":
        request.add_header("Content-Type", "application/json")
        request.data = b"{}"
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            found: dict[str, object] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        die(1, [error.read().decode("utf-8", "replace").strip()])


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
