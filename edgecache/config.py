"""The edge's settings: one TOML file, checked whole.

Law: plain frozen values with the defaults of a live edge; every bound of the process is here, and
what happens at the bound is written beside it. Knows nothing about files other than secrets, and
starts nothing.
"""

from __future__ import annotations

import os
import re
import resource
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from .errors import ConfigError
from .fields import (
    AdminListen,
    Hosts,
    Listen,
    Networks,
    OptionalListen,
    OptionalUrl,
    Urls,
    is_loopback,
    packed,
    split_address,
)
from .hosts import name_of
from .process import Overload, Takeover
from .settings import DurationMs, Loaded, Rate, Section, Size, load
from .sources import Chain, Origin, Route
from .units import HOUR_MS, KIB, MIB, MINUTE_MS, SECOND_MS

ENV_PREFIX: Final = "EDGECACHE"
_FD_RESERVE: Final = 64  # listeners, fills, admin; the rest of the descriptors belongs to viewers
_NAME: Final = r"^[a-z0-9_-]{1,64}$"
UPLOADS: Final = "/publish/"  # what is below it at the viewers' door is for broadcasters
_ROUTES: Final = 14  # the core has room for 16, and two of our own may come behind
_CLIENT_FIELDS: Final = ("none", "forwarded", "x-forwarded-for")  # native/types.pxd: ClientField


class Pop(Section):
    """Who this host is: the name in `Cache-Status` and in subscriptions."""

    name: str = Field("edge", pattern=_NAME)


class Http(Section):
    """The viewers' door (native workers) and its limits."""

    listen: Listen = "0.0.0.0:8080"
    workers: int = Field(0, ge=0, le=256)  # 0: one per core
    # The names we go by, without port, `*.example.org` for all below one: a request that names
    # another is answered 421. None: any. chain.host is one of them; a shield has to list its own.
    hosts: Hosts = ()
    target_max: Size = Field(4 * KIB, ge=256, le=16 * KIB)  # longer request target: 414, close
    header_max: Size = Field(16 * KIB, ge=KIB, le=16 * KIB)  # larger request head: 431, close
    header_fields: int = Field(64, ge=8, le=256)  # more request fields: 431, close
    first_byte: DurationMs = Field(10 * SECOND_MS, ge=100)  # silence after connecting: close
    header: DurationMs = Field(5 * SECOND_MS, ge=100)  # request head not complete: close
    keepalive: DurationMs = Field(75 * SECOND_MS, ge=100)  # idle between requests: close
    # A viewer whose connection is full must acknowledge `min_rate` on the average of every `write`,
    # or it is cut at the end of that window; 0: any progress will do.
    write: DurationMs = Field(20 * SECOND_MS, ge=100)
    min_rate: Rate = Field(4 * KIB, ge=0)
    # All viewers' at once; 0: 90 % of the descriptor limit. Never more than that limit less what
    # fills, pushes and operators need; beyond it 503, close.
    connections: int = Field(0, ge=0)
    # Of one IPv4 address, or one IPv6 /64; beyond it 429, close. Homes and offices share one, and a
    # browser opens six. 0: no bound.
    connections_per_address: int = Field(1024, ge=0)
    beyond: Literal["answer", "reset"] = "answer"  # what these two refuse with
    # Proxies of ours, by network: exempt from connections_per_address, and what they say of a
    # viewer's address is believed, in the two ways below; the word of any other peer never is.
    trusted: Networks = ("127.0.0.0/8", "::1/128")
    proxy_protocol: bool = False  # their connections begin with a PROXY header (1 or 2), or are cut
    # The field of their requests that says whom a request is from. Only one that they all write:
    # many pass on the other as their client sent it.
    client_field: Literal["none", "forwarded", "x-forwarded-for"] = "none"
    parked: int = Field(50_000, ge=1)  # requests waiting, all workers; beyond it 503
    # Bytes a second one viewer is sent at most; 0: no pacing. Unpaced bursts overrun receivers: 230
    # µs of
    # kernel time a 768 KiB answer against 62 paced at 30 MB/s.
    pacing: Rate = Field(30_000_000, ge=0)
    # Congestion control of viewers until their first paced body: a name, `host` for the host's, or
    # `auto`: the host's unless it is BBR without fq, which pays a timer a socket.
    congestion: str = Field("auto", pattern=r"^[a-z0-9_-]{1,15}$")
    # Bodies up to this are sent from the heap by writev, larger ones from memfds by sendfile.
    heap_max: Size = Field(32 * KIB, ge=0)
    drain: DurationMs = Field(30 * SECOND_MS, ge=0, le=HOUR_MS)  # then open connections are cut


class Cache(Section):
    """The store's budget and how long things stay that do not say so themselves."""

    memory: Size = Field(256 * MIB, ge=MIB)  # beyond it the least useful entries are evicted
    object_max: Size = Field(64 * MIB, ge=KIB)  # a larger body fails its fill or push (502, 413)
    # What an origin does not date is served for so many target durations (RFC 8216bis B.1): half of
    # one a playlist, six a blocking reload or media. Assumed until a playlist says its own.
    target_duration: DurationMs = Field(2 * SECOND_MS, ge=100, le=MINUTE_MS)
    other: DurationMs = Field(10 * SECOND_MS, ge=0)  # neither playlist nor media
    ttl_max: DurationMs = Field(24 * HOUR_MS, ge=0)
    # What is past its time stays this long if it has a validator: an origin that says 304 saves the
    # transfer, and for one that fails it stands in, unless it is a playlist or says otherwise.
    stale: DurationMs = Field(MINUTE_MS, ge=0)
    # Failures, and refusals of what may be there soon: about one part. A playlist that is refused,
    # or media that is gone: one target duration; a blocking reload: four.
    negative: DurationMs = Field(300, ge=0, le=2 * SECOND_MS)


class Site(Section):
    """Routes of kind `http`: a general shared cache beside the media's."""

    memory: Size = Field(64 * MIB, ge=MIB)  # beyond it the least recently used is evicted
    object_max: Size = Field(8 * MIB, ge=KIB)  # a larger body passes without being kept
    body_max: Size = Field(8 * MIB, ge=0)  # a larger request body: 413
    variants: int = Field(8, ge=1, le=64)  # by Vary, of one target; the oldest goes first
    requests: int = Field(1024, ge=1)  # at once; beyond it 503
    # A stale response that says nothing about it may stand in this long for an origin that fails.
    stale_if_error: DurationMs = Field(MINUTE_MS, ge=0)


class Key(Section):
    """One shared secret between our own processes; `secret` or `secret_file`, not both."""

    secret: SecretStr | None = Field(None, min_length=16)
    secret_file: Path | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.secret is None) == (self.secret_file is None):
            raise ValueError("found both or neither, allowed either secret or secret_file")
        return self


class Push(Section):
    """The door that data centres push through. Empty `listen`: closed."""

    listen: OptionalListen = ""
    # Base URL the origin is told to push to; empty: made from `listen`.
    advertise: OptionalUrl = ""
    connections: int = Field(64, ge=1)  # beyond it the connection is closed
    pending: int = Field(256, ge=0)  # parts waiting for the one before them; beyond it 409
    gap: DurationMs = Field(SECOND_MS, ge=0)  # such a part waits this long, then 409
    # What one stream may hold here by pushes that have not expired; beyond it 429, and the others
    # are left alone; 0: half of cache.memory.
    stream: Size = Field(0, ge=0)


class Ingest(Section):
    """The broadcasters' doors: `listen` is RTMP's. Those that are empty are closed."""

    listen: OptionalListen = ""
    rtmps_listen: OptionalListen = ""  # RTMP behind TLS
    certificate: Path | None = None  # for it: PEM, with the chain; read again at SIGHUP
    private_key: Path | None = None
    srt_listen: OptionalListen = ""  # UDP
    # Media by WHIP (UDP), whose offers come by HTTP; publishers are told `whip_public`, host:port,
    # or without one the address that they asked at.
    whip_listen: OptionalListen = ""
    whip_public: OptionalListen = ""
    # Media by HTTP and from the go-live page, at http.listen below /publish/; needs a key.
    http: bool = False
    # Asked where a stream key belongs, the nearest first; empty: origin.urls.
    data_centres: Urls = ()
    # What is kept of a publisher's media until a data centre has published it. Beyond either the
    # oldest GOP goes, counted; the publisher is not slowed down.
    hold: DurationMs = Field(20 * SECOND_MS, ge=SECOND_MS, le=600 * SECOND_MS)
    hold_bytes: Size = Field(16 * MIB, ge=MIB)
    # One that says nothing for this long, which it does twice a second, is lost like one whose
    # connection breaks, and the next one is asked at once.
    silence: DurationMs = Field(3 * SECOND_MS, ge=SECOND_MS)
    # A data centre that is lost this long is replaced by the next one that takes the stream.
    move: DurationMs = Field(SECOND_MS, ge=0)
    # Without any for this long the publisher is told so and let go.
    away: DurationMs = Field(30 * SECOND_MS, ge=0)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        files = (self.certificate is not None, self.private_key is not None)
        if files[0] != files[1] or (self.rtmps_listen and not files[0]):
            raise ValueError(
                "found one without the other, allowed ingest.certificate with ingest.private_key,"
                " and both with ingest.rtmps_listen"
            )
        if self.whip_listen and not self.http:
            raise ValueError("found whip_listen without http, allowed with ingest.http = true")
        return self

    @property
    def opens(self) -> bool:
        return bool(self.listen or self.rtmps_listen or self.srt_listen or self.http)


class Interest(Section):
    """Streams with viewers are subscribed at the origin and pushed from then on."""

    lease: DurationMs = Field(30 * SECOND_MS, ge=SECOND_MS)
    idle: DurationMs = Field(60 * SECOND_MS, ge=SECOND_MS)  # without viewers: no longer renewed
    streams: int = Field(4096, ge=1)  # beyond it new streams are only pulled


class Admin(Section):
    """Health, metrics, purge. On loopback or a Unix socket (mode 600), or with a token; never the
    viewers' port."""

    listen: AdminListen = "127.0.0.1:8081"
    # Needed for everything but health, as `Authorization: Bearer …`; none: whoever reaches it.
    token_file: Path | None = None
    refresh: DurationMs = Field(SECOND_MS, ge=0)  # a metrics page is as old as this at most

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        open_to_all = self.listen and not self.listen.startswith("unix:")
        if open_to_all and not is_loopback(self.listen) and self.token_file is None:
            raise ValueError("found an address beyond loopback, allowed with admin.token_file only")
        return self


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"
    access: bool = False  # one record a request


class EdgeConfig(Section):
    """Everything a POP daemon can be told."""

    pop: Pop = Pop()
    http: Http = Http()
    cache: Cache = Cache()
    origin: Origin = Origin()
    chain: Chain = Chain()
    route: tuple[Route, ...] = ()
    site: Site = Site()
    keys: dict[str, Key] = Field(default_factory=dict)
    push: Push = Push()
    ingest: Ingest = Ingest()
    interest: Interest = Interest()
    takeover: Takeover = Takeover()
    overload: Overload = Overload()
    admin: Admin = Admin()
    log: Log = Log()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        bad = [kid for kid in self.keys if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", kid, re.ASCII)]
        if bad:
            raise ValueError(f"keys: found the key id {bad[0]!r}, allowed [A-Za-z0-9_.-]{{1,64}}")
        if (self.push.listen or self.ingest.opens) and not self.keys:
            raise ValueError(
                "keys: found none, allowed at least one with push.listen or ingest.listen"
                " or ingest.http"
            )
        prefixes = [route.prefix for route in self.route]
        if self.ingest.http and UPLOADS in prefixes:
            raise ValueError(f"route: found {UPLOADS}, allowed without ingest.http only")
        if len(prefixes) > _ROUTES or len(set(prefixes)) < len(prefixes):
            raise ValueError(f"route: found one twice or too many, allowed {_ROUTES} prefixes")
        asked = {*self.origin.urls, *(url for route in self.route for url in route.origins)}
        if both := asked & {*self.chain.siblings, *self.chain.shield}:
            raise ValueError(f"chain: found {min(both)}, which is an origin too, allowed either")
        http = self.http
        if not http.trusted and (http.proxy_protocol or http.client_field != "none"):
            raise ValueError(
                "http.trusted: found none, allowed at least one network with http.proxy_protocol"
                " or http.client_field"
            )
        if 0 < http.pacing <= http.min_rate:
            raise ValueError("http.min_rate: found http.pacing or more, allowed less than that")
        if self.site.object_max > self.site.memory:
            raise ValueError("site.object_max: found more than site.memory, allowed at most that")
        if self.cache.object_max > self.cache.memory:
            raise ValueError("cache.object_max: found more than cache.memory, allowed at most that")
        return self

    def routes(self) -> tuple[Route, ...]:
        """Longest prefix first; the last one fits every path."""
        given = self.route
        if self.ingest.http:
            given = (*given, Route(prefix=UPLOADS, kind="http"))
        if not any(route.prefix == "/" for route in given):
            given = (*given, Route(kind=self.origin.kind))
        return tuple(sorted(given, key=lambda route: -len(route.prefix)))

    def workers(self) -> int:
        """How many worker threads `http.workers` asks for."""
        return self.http.workers or len(os.sched_getaffinity(0))

    def limits(self) -> dict[str, int]:
        """The limits of the native plane; what waits is counted per worker there."""
        http, workers = self.http, self.workers()
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        connections = http.connections or max(descriptors * 9 // 10 - _FD_RESERVE, 64)
        connections = min(connections, max(descriptors - _FD_RESERVE, 64))
        return {
            "header_bytes": http.header_max,
            "target_bytes": http.target_max,
            "header_fields": http.header_fields,
            "first_byte_ms": http.first_byte,
            "header_ms": http.header,
            "keepalive_ms": http.keepalive,
            "write_ms": http.write,
            "fill_ms": self.origin.total + SECOND_MS,
            "max_connections": connections,
            "max_per_address": http.connections_per_address,
            "reset_beyond": int(http.beyond == "reset"),
            "proxy_protocol": int(http.proxy_protocol),
            "client_field": _CLIENT_FIELDS.index(http.client_field),
            "max_parked": -(-http.parked // workers),
            "heap_max_bytes": http.heap_max,
            "pacing_bytes_s": http.pacing,
            "min_rate_bytes_s": http.min_rate,
        }

    def hosts(self) -> tuple[str, ...]:
        """`http.hosts`, and what siblings call us; empty: any."""
        asked = name_of(urlsplit(self.chain.host).netloc)
        return (*self.http.hosts, asked) if self.http.hosts and asked else self.http.hosts

    def trusted(self) -> list[tuple[bytes, int]]:
        """`http.trusted` as the core takes it."""
        return [packed(network) for network in self.http.trusted]

    def push_url(self, port: int) -> str:
        """The URL the origin pushes to, given the port the push door really listens on; "" if
        closed."""
        if not self.push.listen or self.push.advertise:
            return self.push.advertise
        host, _ = split_address(self.push.listen)
        host = socket.gethostname() if host in ("0.0.0.0", "::") else host
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def load_config(path: Path | None = None, overrides: Iterable[str] = ()) -> Loaded[EdgeConfig]:
    """Defaults, file, `EDGECACHE__…`, then `key=value`. Raises ConfigError with every problem."""
    return load(EdgeConfig, path, env_prefix=ENV_PREFIX, overrides=overrides)


def load_secrets(config: EdgeConfig) -> dict[str, bytes]:
    """Key id -> secret, files read. Raises ConfigError naming every file that cannot be used."""
    secrets: dict[str, bytes] = {}
    problems: list[str] = []
    for kid, key in config.keys.items():
        if key.secret is not None:
            secrets[kid] = key.secret.get_secret_value().encode()
        else:
            secrets[kid] = _secret(f"keys.{kid}.secret_file", key.secret_file, problems)
    if problems:
        raise ConfigError(problems)
    return secrets


def load_token(config: EdgeConfig) -> bytes:
    """Of the admin door; empty: none is wanted. Raises ConfigError."""
    problems: list[str] = []
    path = config.admin.token_file
    token = _secret("admin.token_file", path, problems) if path else b""
    if problems:
        raise ConfigError(problems)
    return token


def _secret(setting: str, path: Path | None, problems: list[str]) -> bytes:
    try:
        secret = Path(str(path)).read_bytes().strip()
    except OSError as error:
        problems.append(f"{setting}: found {path}: {error.strerror}")
        return b""
    if len(secret) < 16:
        problems.append(f"{setting}: found under 16 bytes, allowed 16 or more")
    return secret
