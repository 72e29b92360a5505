"""Settings of where things come from: the origins, hosts of ours before them, and routes.

Law: as config.py, whose part it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from .fields import OptionalUrl, Prefix, QueryNames, Urls
from .settings import DurationMs, Rate, Section
from .units import KIB, SECOND_MS


class Origin(Section):
    """Where a miss is filled from. The first healthy URL in the list is asked first."""

    urls: Urls = ()
    kind: Literal["live", "vod", "http"] = "live"  # of the route for what no other route takes
    connect: DurationMs = Field(SECOND_MS, ge=10)
    first_byte: DurationMs = Field(2 * SECOND_MS, ge=10)
    blocking: DurationMs = Field(10 * SECOND_MS, ge=10)  # first byte of a `_HLS_msn` request
    min_rate: Rate = Field(64 * KIB, ge=0)  # slower over a second: cut, resumed elsewhere
    # Where no rate is asked, of pages and hosts of the chain: silent for so long, and it is cut.
    silence: DurationMs = Field(60 * SECOND_MS, ge=100)
    total: DurationMs = Field(15 * SECOND_MS, ge=100)  # waiting for the head, retries included: 504
    attempts: int = Field(3, ge=1, le=10)
    # Percent of first requests that may be asked again before anything came, and beside one whose
    # answer is later than 95 of 100 of that origin's; what goes beyond it is not.
    retries: int = Field(20, ge=0, le=100)
    hedges: int = Field(5, ge=0, le=100)
    connections: int = Field(64, ge=1)  # per origin; a fill beyond it waits for one
    idle: DurationMs = Field(30 * SECOND_MS, ge=0)
    # How long the addresses of a name are used before it is looked up again; longer if that fails.
    resolve: DurationMs = Field(30 * SECOND_MS, ge=SECOND_MS)
    # PEM file: who may have signed the certificates of https origins and hosts of the chain, and
    # nobody else; none: who the system trusts. They are always verified.
    ca_file: Path | None = None
    # A miss on what comes next of a track that is being pushed is pulled when its pushes pause for
    # this long, or after `total`.
    push_wait: DurationMs = Field(SECOND_MS, ge=0)
    breaker_failures: int = Field(5, ge=1)  # in a row: the origin is left alone for breaker_open
    breaker_open: DurationMs = Field(2 * SECOND_MS, ge=10)


class Chain(Section):
    """Hosts of ours that are asked before the origins. Each has the same routes."""

    # The hosts of this POP by their viewers' doors, the same list on each: a key belongs to one of
    # them, which the others ask, so that the POP asks further up once.
    siblings: Urls = ()
    host: OptionalUrl = ""  # which of them this is
    # The hosts of the POP that a region asks the origins through; empty: each POP asks them itself.
    shield: Urls = ()
    alive: DurationMs = Field(500, ge=50)  # no sign of life for this long: passed over

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.siblings) != bool(self.host) or (self.host and self.host not in self.siblings):
            raise ValueError(
                f"chain.host: found {self.host!r}, allowed one of chain.siblings, with them only"
            )
        named = (*self.siblings, *self.shield)
        twice = next((url for url in named if named.count(url) > 1), "")
        if twice:
            raise ValueError(f"chain: found {twice} twice, allowed each host once")
        return self


class Route(Section):
    """Paths below a prefix, where they come from and how; the longest prefix that fits decides."""

    prefix: Prefix = "/"
    # live: playlists are followed while they have viewers; vod: only what is asked for is fetched;
    # http: any site, with all methods, by RFC 9111 alone (query, prefetch, followed do not apply).
    kind: Literal["live", "vod", "http"] = "live"
    origins: Urls = ()  # empty: origin.urls
    # Parameters that the origin is sent, and that are part of the key; all others are dropped.
    query: QueryNames = ()
    # Newest segments and parts of a followed playlist that are fetched before viewers ask; 0: none,
    # and nothing is followed.
    prefetch: int = Field(3, ge=0, le=16)
    followed: int = Field(256, ge=1)  # playlists at once; those beyond it are only filled on a miss
    # What Cache-Control and Expires of the origin count for: packagers that say `no-cache` on
    # everything are common.
    cache_control: Literal["obey", "ignore"] = "obey"
