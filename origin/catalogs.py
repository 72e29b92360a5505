"""Which catalogue a configuration means, opened.

Laws: a file in `data.dir` by default; with `catalog.nats` a server that several data centres share,
of which a server process keeps a cache in `data.dir` and a command none. Errors are one line that
names the setting.
"""

from __future__ import annotations

from pathlib import Path

from edgecache import logs

from .catalog import Catalog
from .config import Config
from .nats_link import NatsPlace
from .rows import CatalogError
from .rows_nats import NatsRows
from .rows_sqlite import SqliteRows
from .secretfiles import catalog_token


def nats_place(config: Config) -> NatsPlace:
    """Raises ConfigError."""
    given, token = config.catalog, catalog_token(config)
    logs.redact(token)
    return NatsPlace(urls=given.nats, token=token, bucket=given.bucket, replicas=given.replicas)


def open_catalog(config: Config, *, cached: bool) -> Catalog:
    """`cached`: for a process that goes on when the server is away. Raises CatalogError,
    ConfigError."""
    folder, home = config.data.dir, config.catalog.home
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        if not config.catalog.nats:
            return Catalog(SqliteRows(_file(folder, "catalog.db")), home=home)
        cache = _file(folder, "catalog-cache.db") if cached else None
        return Catalog(NatsRows(nats_place(config), SqliteRows(cache)), home=home)
    except OSError as error:
        text = f"data.dir: found {folder}, which cannot be used: {error.strerror}"
        raise CatalogError(text) from None


def _file(folder: Path | None, name: str) -> Path | None:
    return folder / name if folder else None
