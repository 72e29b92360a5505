"""The commands of `edgecache-origin`: what a person types, and exit codes.

Law: `--help` imports nothing slow; every failure is one clear line on stderr. Exit codes: 0 fine, 1
failed, 2 wrong usage, 78 wrong configuration (EX_CONFIG). Knows nothing but which part to call.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgecache import __version__

from .cli_archive import archive
from .cli_vod import vod
from .command import (
    EX_CONFIG,
    AsJson,
    ConfigFile,
    Override,
    catalog_of,
    date,
    die,
    load,
    shared_of,
    table,
)

if TYPE_CHECKING:
    from edgecache.settings import Loaded

    from .config import Config

Grace = Annotated[float, typer.Option(min=0.0, help="seconds that what is revoked goes on")]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The data centre of a live-video edge.",
)
keys = typer.Typer(no_args_is_help=True, help="Who may publish what.")
app.add_typer(keys, name="keys")
app.add_typer(archive, name="archive")
app.add_typer(vod, name="vod")


@app.command()
def serve(
    config: ConfigFile = None,
    option: Override = None,
    check: Annotated[bool, typer.Option("-t", "--check", help="check settings, then exit")] = False,
    effective: Annotated[
        bool, typer.Option("-T", "--effective", help="print settings and their sources, then exit")
    ] = False,
) -> None:
    """Run a data centre: take publishers, encode, store, push to POPs."""
    overrides = list(option or ())
    loaded = load(config, overrides)
    if effective:
        table(loaded.rows())
    elif check:
        _check(loaded.value)
        print(f"{config or 'defaults'}: fine")
    else:
        _serve(loaded, config, overrides)


def _check(config: Config) -> None:
    """What can be wrong outside the file."""
    from edgecache.errors import ConfigError

    from .hardware import find

    try:
        print(f"using {find(config.encoder)}", file=sys.stderr)
    except ConfigError as error:
        die(EX_CONFIG, error.problems)


def _serve(loaded: Loaded[Config], config: Path | None, overrides: Sequence[str]) -> None:
    from edgecache.errors import ConfigError, EdgeError

    from .config import load_config
    from .server import serve as run

    try:
        run(loaded, lambda: load_config(config, overrides=overrides))
    except ConfigError as error:
        die(EX_CONFIG, error.problems)
    except EdgeError as error:
        die(1, [str(error)])


@keys.command("create")
def create_key(stream: str, config: ConfigFile = None) -> None:
    """Print a new stream key of STREAM. It is shown this once; only its digest is kept."""
    from .rows import CatalogError

    with catalog_of(config) as catalog:
        try:
            print(catalog.create_key(stream))
        except CatalogError as error:
            die(1, [str(error)])


@keys.command("rotate")
def rotate_keys(stream: str, grace: Grace = 0.0, config: ConfigFile = None) -> None:
    """Print a new stream key of STREAM and revoke those that it had. Who publishes with one of
    them is ended, too."""
    from .rows import CatalogError

    with catalog_of(config) as catalog:
        try:
            print(catalog.rotate_keys(stream, grace))
        except CatalogError as error:
            die(1, [str(error)])


@keys.command("list")
def list_keys(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List keys; their secrets are not known."""
    with catalog_of(config) as catalog:
        rows = catalog.all_keys()
    if as_json:
        print(json.dumps([{name: getattr(row, name) for name in row.__slots__} for row in rows]))
        return
    table(
        [
            ("id", "stream", "created", "revoked"),
            *((r.id, r.stream, date(r.created_s), date(r.revoked_s)) for r in rows),
        ]
    )


@keys.command("revoke")
def revoke_key(key_id: str, grace: Grace = 0.0, config: ConfigFile = None) -> None:
    """Revoke the key with this id (see `keys list`). Who publishes with it is ended, too."""
    from .rows import CatalogError

    with catalog_of(config) as catalog:
        try:
            found = catalog.revoke_key(key_id, grace)
        except CatalogError as error:
            die(1, [str(error)])
    if not found:
        die(1, [f"key {key_id}: found none that is not revoked yet"])


@app.command()
def streams(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List the streams of the catalogue."""
    with catalog_of(config) as catalog:
        rows = catalog.streams()
    if as_json:
        print(json.dumps([{name: getattr(row, name) for name in row.__slots__} for row in rows]))
        return
    table(
        [
            ("stream", "state", "started", "ended"),
            *((r.name, r.state, date(r.started_s), date(r.ended_s)) for r in rows),
        ]
    )


@app.command()
def worker(
    config: ConfigFile = None,
    option: Override = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="chunks at a time; default: archive.workers")
    ] = None,
    live: Annotated[int, typer.Option(min=0, help="live streams at a time")] = 0,
) -> None:
    """Encode chunks of recordings, and rungs of live streams, for whoever shares catalogue and
    store, until interrupted."""
    from edgecache.errors import ConfigError, EdgeError

    from .workhost import work

    settings = load(config, list(option or ())).value
    shared = shared_of(settings)
    try:
        with shared.catalog:
            if workers is None:
                workers = max(1, settings.archive.workers)
            work(settings, shared, workers=workers, live=live)
    except ConfigError as error:
        die(EX_CONFIG, error.problems)
    except EdgeError as error:
        die(1, [str(error)])


@app.command("testpattern")
def publish_pattern(
    url: Annotated[str, typer.Argument(help="rtmp://HOST/live/KEY")],
    config: ConfigFile = None,
) -> None:
    """Publish a moving picture with a clock, and a tone, until interrupted."""
    from edgecache.errors import ConfigError

    from .ffmpeg import find
    from .testpattern import argv

    try:
        command = argv(find(load(config).value.encoder.ffmpeg), url)
    except ConfigError as error:
        die(EX_CONFIG, error.problems)
    os.execv(command[0], command)  # signals and the exit code are ffmpeg's own


@app.command()
def version() -> None:
    """Print the version."""
    print(f"edgecache-origin {__version__}")


def main() -> None:
    """Entry point."""
    app()
