"""Which catalogue and which jobs a configuration means, opened.

Laws: a file in `data.dir` by default; with `catalog.nats` a server that several data centres share,
of which a server process keeps a cache in `data.dir` and a command none. Errors are one line that
names the setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgecache import logs

from .catalog import Catalog
from .config import Config
from .jobs import Jobs, RowJobs
from .jobs_nats import NatsJobs
from .nats_link import NatsPlace
from .rows import CatalogError
from .rows_nats import NatsRows
from .rows_sqlite import SqliteRows
from .secretfiles import catalog_token

_LIVE: Final = "live-jobs"
_LIVE_LEASE_S: Final = 3.0  # to connect


def nats_place(config: Config) -> NatsPlace:
    """Raises ConfigError."""
    given, token = config.catalog, catalog_token(config)
    logs.redact(token)
    return NatsPlace(urls=given.nats, token=token, bucket=given.bucket, replicas=given.replicas)


@dataclass(frozen=True, slots=True)
class Shared:
    """What hosts have in common. `catalog.close()` closes all. jobs: of recordings; live: who takes
    one comes within its lease, and is not asked for more."""

    catalog: Catalog
    jobs: Jobs
    live: Jobs


def open_shared(config: Config, *, cached: bool) -> Shared:
    """`cached`: for a process that goes on when the server is away. Raises CatalogError,
    ConfigError."""
    folder, home = config.data.dir, config.catalog.home
    lease_s = config.archive.lease / 1000
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        if not config.catalog.nats:
            file = SqliteRows(_file(folder, "catalog.db"))
            live: Jobs = RowJobs(file, lease_s=_LIVE_LEASE_S, queue=_LIVE)
            return Shared(Catalog(file, home=home), RowJobs(file, lease_s=lease_s), live)
        cache = SqliteRows(_file(folder, "catalog-cache.db") if cached else None)
        rows = NatsRows(nats_place(config), cache)
        live = NatsJobs(rows.link, lease_s=_LIVE_LEASE_S, queue=_LIVE)
        return Shared(Catalog(rows, home=home), NatsJobs(rows.link, lease_s=lease_s), live)
    except OSError as error:
        text = f"data.dir: found {folder}, which cannot be used: {error.strerror}"
        raise CatalogError(text) from None


def _file(folder: Path | None, name: str) -> Path | None:
    return folder / name if folder else None
