"""The origin's settings: one TOML file, checked whole.

Law: plain frozen values with safe defaults; every bound of the process is here, and what happens at
the bound is written beside it. Reads no other file (secretfiles.py), and starts nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from edgecache.flv import MAX_TRACKS
from edgecache.settings import DurationMs, Loaded, Names, Rate, Section, Size, load
from edgecache.units import GIB, MIB, SECOND_MS

from . import names
from .addresses import Listen, OptionalListen, Url

ENV_PREFIX: Final = "ORIGIN"
_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}", re.ASCII)
# A POP counts viewers by playlists of pictures or of sound, and tells them apart by this.
_AUDIO: Final = re.compile(r"audio(?:-[a-z0-9_-]{1,58})?", re.ASCII)
_TEXT: Final = names.TEXT_TRACK
_KID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


def _names(values: Mapping[str, object], what: str, pattern: re.Pattern[str] = _NAME) -> None:
    for name in values:
        if not pattern.fullmatch(name):
            raise ValueError(f"found {what} {name!r}, allowed {pattern.pattern}")


Channel = Annotated[int, Field(ge=0, le=15)]


class Http(Section):
    """The public door: pull, pages, what POPs ask."""

    listen: Listen = "127.0.0.1:8080"
    # Base URL that POPs are told to send publishers' media to; "" means the Host they asked.
    public: Url | Literal[""] = ""
    # Time that requests in flight get after SIGTERM.
    drain: DurationMs = Field(3 * SECOND_MS, ge=0, le=600 * SECOND_MS)


class Data(Section):
    """Where streams, keys and windows are kept. Without `dir` everything lives in memory."""

    dir: Path | None = None
    # Media waiting for the disk; beyond it writes are dropped and counted, the live path goes on.
    queue: Size = Field(64 * MIB, ge=MIB)


class ArchiveRung(Section):
    """One rendition that recordings are encoded into; its table name is the track's name."""

    width: int = Field(ge=16, le=7680, multiple_of=2)
    height: int = Field(ge=16, le=4320, multiple_of=2)
    bitrate: Rate
    codec: Literal["h264", "hevc", "av1"] = "h264"
    preset: str = Field("slow", pattern=r"^(?:[a-z]{4,9}|[0-9]{1,2})$")  # a number for av1


class Archive(Section):
    """What stays of a broadcast: the permanent store. There is none without `data.dir`."""

    enabled: bool = True
    # A folder or s3://bucket/prefix; "" is the folder `archive` below data.dir.
    store: str = Field("", pattern=r"^(?:s3://[a-z0-9.-]+(?:/.*)?|[^:]*)$")
    endpoint: str = Field("", pattern=r"^(?:https?://\S+)?$")  # of a server that is not Amazon's
    region: str = ""
    # Without them the AWS_... variables of the environment are used.
    access_key: str = ""
    secret_file: Path | None = None
    # What waits on the disk for a store that is away; beyond it segments become gaps, counted.
    spool: Size = Field(4 * GIB, ge=MIB)
    uploads: int = Field(4, ge=1, le=64)  # at a time
    retention: DurationMs = Field(0, ge=0)  # older recordings are deleted, everywhere; 0: never
    # What recordings are encoded into afterwards, beside what they have: in chunks of this length,
    # so many at a time here, in time that no live stream wants. 0 workers: other hosts do it.
    ladder: dict[str, ArchiveRung] = Field(default_factory=dict, max_length=8)
    chunk: DurationMs = Field(20 * SECOND_MS, ge=SECOND_MS, le=600 * SECOND_MS)
    workers: int = Field(1, ge=0, le=64)
    # A chunk whose worker is silent for this long is another one's.
    lease: DurationMs = Field(30 * SECOND_MS, ge=SECOND_MS, le=3600 * SECOND_MS)


def _nats_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("nats", "tls") or not parts.hostname or parts.username:
        raise ValueError('a URL such as "nats://nats.example:4222", without a user')
    return value


class Catalogue(Section):
    """Where streams, keys and recordings are known: a file in `data.dir`, or servers that several
    data centres share."""

    # NATS servers with JetStream. Away: what is known goes on to be known, and nothing can be
    # changed.
    nats: Annotated[Names, AfterValidator(lambda urls: tuple(map(_nats_url, urls)))] = ()
    token_file: Path | None = None
    bucket: str = Field("edgecache", pattern=r"^[a-z0-9_-]{1,32}$")  # whose name all begins with
    replicas: int = Field(1, ge=1, le=5)  # in a cluster of servers
    home: str = Field("", pattern=r"^[a-z0-9_-]{0,64}$")  # the name of this data centre

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.nats and not self.home:
            raise ValueError("catalog.home: found none, allowed a name with catalog.nats")
        return self


class Live(Section):
    """The time grid of all renditions, and how much of it stays."""

    segment: DurationMs = Field(2 * SECOND_MS, ge=500, le=10 * SECOND_MS)
    # A part is segment / parts; RFC 8216bis asks parts of one size, and players at least 200 ms.
    parts: int = Field(8, ge=1, le=30)
    window: DurationMs = Field(30 * SECOND_MS, ge=6 * SECOND_MS, le=24 * 3600 * SECOND_MS)
    # How far back playlists reach, beyond `window` from the disk. 0: no further than `window`.
    dvr: DurationMs = Field(0, ge=0, le=24 * 3600 * SECOND_MS)
    # A publisher that is gone this long ends the stream.
    reconnect: DurationMs = Field(30 * SECOND_MS, ge=SECOND_MS)
    # A second publisher of a stream: false refuses it, true lets it in and ends the first one's.
    takeover: bool = False
    # An origin that was killed and is back goes on with a stream whose newest media is this old at
    # most, and waits `reconnect` for its publisher; it ends older ones. Needs `data.dir`. 0: never.
    resume: DurationMs = Field(60 * SECOND_MS, ge=0)
    # Ended streams kept for pull; beyond it the oldest is forgotten in memory (its files stay).
    ended: int = Field(64, ge=0, le=10_000)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.window < 3 * self.segment:
            raise ValueError("live.window: allowed at least 3 segments (RFC 8216bis 6.2.2)")
        if 0 < self.dvr < self.window:
            raise ValueError("live.dvr: allowed 0, or live.window and more")
        return self


class Slate(Section):
    """What viewers see while a publisher is gone, until it is back or `live.reconnect` is over."""

    show: Literal["nothing", "clock", "still"] = "nothing"
    after: DurationMs = Field(1 * SECOND_MS, ge=0)  # a short loss is only a discontinuity
    colour: str = Field("#101820", pattern=r"^#[0-9a-fA-F]{6}$")
    still: Path | None = None  # a picture that ffmpeg reads

    @model_validator(mode="after")
    def _still(self) -> Self:
        if self.show == "still" and self.still is None:
            raise ValueError('slate.still: allowed a file with slate.show = "still"')
        return self


class Secret(Section):
    """`secret` or `secret_file`, not both."""

    secret: SecretStr | None = None
    secret_file: Path | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.secret is None) == (self.secret_file is None):
            raise ValueError("either secret or secret_file")
        return self


class Key(Secret):
    """One shared secret between our own processes."""

    secret: SecretStr | None = Field(None, min_length=16)


class Srt(Section):
    """The publishers' door for SRT, by libsrt. Empty `listen`: closed."""

    listen: OptionalListen = ""
    # host:port that POPs are told to route publishers to; "" means the host they asked, our port.
    public: OptionalListen = ""
    # What libsrt has to ask again for what was lost, before it is too late. A caller may want more.
    latency: DurationMs = Field(120, ge=20, le=8 * SECOND_MS)
    # What publishers encrypt with, 10 to 79 bytes; by stream, "default" for all others. A stream
    # without one is taken unencrypted only.
    passphrases: dict[str, Secret] = Field(default_factory=dict)


class Whip(Section):
    """Media of publishers by WHIP, which POPs send here. Empty `listen`: closed."""

    listen: OptionalListen = ""
    # host:port that POPs are told to send media to; "" means the host they asked, our port.
    public: OptionalListen = ""


class Pop(Section):
    """A POP that is known before it subscribes."""

    push: Url
    # Streams pushed before anybody asks; "*" is all.
    hot: Names = ()


class Push(Section):
    """Bounds of each POP's queue."""

    # At either bound the oldest media is dropped, whole segments at a time, and counted.
    queue_bytes: Size = Field(64 * MIB, ge=MIB)
    queue_items: int = Field(4096, ge=64)
    connections: int = Field(4, ge=1, le=16)
    # Requests on the wire of one connection without an answer; more would wait in the queue.
    pipeline: int = Field(32, ge=1, le=256)
    # No answer for this long: the connection is closed and its requests are sent again.
    timeout: DurationMs = Field(10 * SECOND_MS, ge=100)
    backfill: int = Field(3, ge=1, le=64)  # newest segments of each track given to a new POP


class Rung(Section):
    """One video rendition; its table name is the track's name."""

    width: int = Field(ge=16, le=7680, multiple_of=2)
    height: int = Field(ge=16, le=4320, multiple_of=2)
    bitrate: Rate
    codec: Literal["h264", "hevc", "av1"] = "h264"  # players pass over what they cannot play
    preset: str = Field("veryfast", pattern=r"^(?:[a-z]{4,9}|[0-9]{1,2})$")  # a number for av1
    fps: int = Field(0, ge=0, le=120)  # 0: encoder.fps, which it divides
    on: Literal["here", "workers"] = "here"  # who encodes it; nobody: it is a copy of one below


class Sound(Section):
    """One audio rendition; its table name is the track's name."""

    language: str = Field("", pattern=r"^[A-Za-z0-9-]{0,35}$")  # RFC 5646
    name: str = Field("", pattern=r"^[^\"\x00-\x1f]{0,64}$")  # as players show it
    # Which of the publisher's sounds: a track of multitrack Enhanced RTMP. A missing one is silent.
    source: int = Field(0, ge=0, lt=MAX_TRACKS)
    # Left and right, from 0, of the source's channels; without it all are mixed to stereo.
    channels: tuple[Channel, Channel] | None = None


class Audio(Section):
    bitrate: Rate = Field(96_000 // 8, ge=1000)
    # The first is the default. None: one track, `audio`, of all channels.
    tracks: dict[str, Sound] = Field(default_factory=dict, max_length=8)


class Words(Section):
    """One subtitle rendition; its table name is the track's name."""

    language: str = Field("", pattern=r"^[A-Za-z0-9-]{0,35}$")  # RFC 5646, as publishers say it
    name: str = Field("", pattern=r"^[^\"\x00-\x1f]{0,64}$")  # as players show it


class Text(Section):
    # What publishers say (onTextData) in these languages; the first also what they say in none.
    tracks: dict[str, Words] = Field(default_factory=dict, max_length=8)


H264 = Literal["auto", "libx264", "h264_nvenc", "h264_qsv", "h264_vaapi", "h264_v4l2m2m"]


class Encoder(Section):
    """Empty path: the system's ffmpeg, else the pinned wheel's."""

    ffmpeg: Path | None = None
    # "auto": the first of the host's own that works, tried at the start, else libx264. One that is
    # named has to work. A stream on which it fails later goes on with libx264.
    h264: H264 = "auto"
    fps: int = Field(30, ge=1, le=120)
    streams: int = Field(16, ge=1)  # more publishers than this are refused with 503


class Admin(Section):
    """Health, metrics, the whole state. Loopback unless you know better. Empty `listen`: closed."""

    listen: OptionalListen = "127.0.0.1:8083"
    # Needed for everything but health, as `Authorization: Bearer ...`, and to be there for keys.
    token_file: Path | None = None


def _hook_url(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.username):
        raise ValueError('a URL such as "https://example.com/hooks", without a user')
    return value


HookUrl = Annotated[str, AfterValidator(_hook_url)]


class Hooks(Section):
    """Somebody else's HTTP server that is told what happens, and one that may forbid it."""

    url: HookUrl = ""  # POST of events: publish_start, publish_end, recording_ready
    secret_file: Path | None = None  # what requests are signed with; needed with either URL
    queue: int = Field(1024, ge=1, le=100_000)  # beyond it the oldest event is dropped, counted
    timeout: DurationMs = Field(5 * SECOND_MS, ge=100)  # of one try
    deadline: DurationMs = Field(60 * SECOND_MS, ge=0)  # an older event is not tried again
    authorise: HookUrl = ""  # POST before a publisher is let in: 2xx allows, 4xx refuses
    authorise_timeout: DurationMs = Field(SECOND_MS, ge=50, le=10 * SECOND_MS)
    unanswered: Literal["allow", "refuse"] = "refuse"  # when it says nothing

    @model_validator(mode="after")
    def _signed(self) -> Self:
        if (self.url or self.authorise) and self.secret_file is None:
            raise ValueError("hooks.secret_file: found none, allowed one with a URL")
        return self


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


def _small_ladder() -> dict[str, Rung]:
    # 0.26 core for both (media.md): keeps real time on two shared cores.
    rungs = {
        "360p": {"width": 640, "height": 360, "bitrate": "700kbps"},
        "180p": {"width": 320, "height": 180, "bitrate": "250kbps"},
    }
    return {track: Rung.model_validate(rung) for track, rung in rungs.items()}


class Config(Section):
    """Everything. The first of `keys` signs what the origin sends; all of them are accepted, so
    secrets rotate."""

    http: Http = Http()
    data: Data = Data()
    archive: Archive = Archive()
    catalog: Catalogue = Catalogue()
    live: Live = Live()
    slate: Slate = Slate()
    keys: dict[str, Key] = Field(default_factory=dict)
    pops: dict[str, Pop] = Field(default_factory=dict)
    push: Push = Push()
    ladder: dict[str, Rung] = Field(default_factory=_small_ladder, min_length=1, max_length=8)
    audio: Audio = Audio()
    text: Text = Text()
    encoder: Encoder = Encoder()
    srt: Srt = Srt()
    whip: Whip = Whip()
    admin: Admin = Admin()
    hooks: Hooks = Hooks()
    log: Log = Log()

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        _names(self.keys, "key id", _KID)
        _names(self.pops, "POP")
        _names(self.ladder, "track")
        _names(self.audio.tracks, "audio track", _AUDIO)
        _names(self.text.tracks, "text track", _TEXT)
        _names(self.archive.ladder, "track")
        _names(self.srt.passphrases, "stream")
        others = (_AUDIO, _TEXT)
        for track in self.archive.ladder:
            if track in self.ladder or any(kind.fullmatch(track) for kind in others):
                raise ValueError(f"archive.ladder.{track}: found a name that is taken already")
        taken = [track for track in self.ladder if any(kind.fullmatch(track) for kind in others)]
        if taken:
            raise ValueError(f"ladder.{taken[0]}: found a rung of this name, allowed any other")
        for track, rung in self.ladder.items():
            if rung.fps and self.encoder.fps % rung.fps:
                allowed = f"0 or what divides encoder.fps ({self.encoder.fps})"
                raise ValueError(f"ladder.{track}.fps: found {rung.fps}, allowed {allowed}")
            if rung.preset.isdigit() != (rung.codec == "av1"):
                allowed = "a number with av1, a word otherwise"
                raise ValueError(f"ladder.{track}.preset: found {rung.preset}, allowed {allowed}")
        for pop in self.pops.values():
            _names({name: None for name in pop.hot if name != "*"}, "hot stream")
        if self.live.dvr and self.data.dir is None:
            raise ValueError("live.dvr: found without data.dir, allowed with it")
        if self.pops and not self.keys:
            raise ValueError(
                "pops: found POPs without a key, allowed with at least one [keys.NAME]"
            )
        return self


def load_config(
    path: Path | None,
    *,
    overrides: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Loaded[Config]:
    """The checked configuration of `path` (defaults without one). Raises ConfigError with every
    problem."""
    return load(Config, path, env_prefix=ENV_PREFIX, overrides=overrides, environ=environ)
