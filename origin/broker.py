"""A publisher's FLV bytes -> clean FLV for the encoder, and what a new encoder needs to start warm.

Laws: sans-IO; the caller's clocks only stamp when media arrived. Bounds: one tag (edgecache.flv),
and the current GOP (origin.gop); where that outgrew its bounds, pictures are held back from a *new*
encoder until the next keyframe (counted). What leaves has continuous time stamps (origin.rebase),
begins with configuration, has sound always (silence where the publisher sends none) and its picture
from a keyframe on. One broker is one publisher's session; it knows nothing of processes. Every tag
that comes in is forwarded, kept or counted in `dropped`.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

from edgecache import amf
from edgecache.enhanced import plain
from edgecache.errors import EdgeError
from edgecache.errors import Source as ErrorSource
from edgecache.flv import AUDIO, CODED, CONFIG, HEADER, SCRIPT, VIDEO, FlvReader, Tag, encode_tag

from . import cues, subtitles
from .entries import Entries
from .gop import Gop, Head
from .ledger import Arrivals
from .orientation import ROTATION, told_turn, turn_of
from .rebase import Timebase
from .sides import Sides
from .source import Source, told_size
from .sps import picture_size

AUDIO_ONLY_GOP_MS: Final = 2_000
# No sound this long behind the picture: silence takes over. Longer than any publisher's
# interleaving.
SILENCE_AFTER_MS: Final = 1_000
# Publishers announce sound and picture at once; this is for those that start one later.
PROBE_MS: Final = 1_000
STALLED_VIDEO_MS: Final = 10_000
NO_KEYFRAME_MS: Final = 15_000
MAX_CUES: Final = 64

# AAC-LC, 48 kHz, stereo; an all-zero frame of it (tried on ffmpeg 5.1 and 9.0).
SILENT_CONFIG: Final = bytes.fromhex("af001190")
SILENT_FRAME: Final = bytes.fromhex("af01210049900219002380")
_SILENT_SAMPLES: Final = 1024
_SILENT_RATE: Final = 48_000
_MAX_FPS: Final = 1000.0
_SILENCE_CODEC: Final = "aac"
# Codecs with a sequence header that nothing can be decoded without.
_CONFIGURED: Final = frozenset(("avc1", "hvc1", "av01", "aac", "mp4a", "Opus", "fLaC"))


class BrokerError(EdgeError):
    """The publisher's media cannot go on to the encoder; the message is for the publisher, `status`
    says it as an HTTP answer."""

    source: ErrorSource = "downstream"
    status = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a new encoder is fed first. Its time stamps begin at 0, which arrived at `arrived_s`
    (unix s)."""

    data: bytes
    arrived_s: float
    duration_ms: int


class Broker:
    """feed() what came; then take() for the running encoder, or replay() for a new one. sides:
    tracks of sound that are wanted beside the first."""

    def __init__(
        self,
        *,
        sides: frozenset[int] = frozenset(),
        wall_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall_s = wall_s
        self._monotonic_s = monotonic_s
        self._reader = FlvReader()
        self._sides = Sides(sides)
        self._timebase = Timebase()
        self._head = Head()
        self._gop = Gop()
        self._pending: list[Tag] = []
        self._base = 0  # ms; time 0 of the encoder's generation
        self._held_back = False  # the encoder waits for a keyframe
        self._expects: frozenset[int] = frozenset((AUDIO, VIDEO))
        self._size = (0, 0)
        self._fps = 0.0
        self._turn = 0
        self._codecs = {AUDIO: "", VIDEO: ""}
        self._newest = {AUDIO: -1, VIDEO: -1}  # ms; -1: none of that kind yet
        self._sound_config = b""  # the publisher's own, also while silence is in force
        self._silent_from = -1  # ms where the running silence began; -1: the publisher's own sound
        self._silent_count = 0  # frames of it
        self._cues: deque[tuple[int, list[amf.Value]]] = deque(maxlen=MAX_CUES)
        self._arrivals = {AUDIO: Arrivals(), VIDEO: Arrivals()}
        self._entries = Entries()
        self.source: Source | None = None
        self.tags = 0
        self.silent_frames = 0
        self.dropped: Counter[str] = Counter()
        self._became: Counter[str] = Counter()  # received, kept, forwarded
        self._waiting = 0  # tags of media, for the source to be known

    @property
    def jumps(self) -> int:
        """Jumps of the publisher's time stamps that were evened out."""
        return self._timebase.jumps

    @property
    def media_ms(self) -> int:
        """How much media has come in, for pacing."""
        return self._timebase.newest

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes in any cut. Raises FlvError (not FLV) or BrokerError; the session is then
        over."""
        for whole in self._reader.feed(data):
            self.tags += 1
            before = self.dropped.total()
            tags = plain(whole, self.dropped)
            self._became["received"] += len(tags) + self.dropped.total() - before
            for tag in tags:
                self._take(tag)

    def end(self) -> None:
        """Nothing comes any more: what waited goes nowhere."""
        if self._waiting:
            self.dropped["before_source"] += self._waiting
            self._waiting = 0

    def counts(self) -> Counter[str]:
        """What became of the tags: received + made = forwarded + kept + dropped + waiting. Made is
        silence; configuration and words are kept."""
        told = {**self._became, "made": self.silent_frames, "waiting": self._waiting}
        told |= {f"dropped.{reason}": count for reason, count in self.dropped.items()}
        return Counter({f"tags.{name}": count for name, count in told.items()})

    def _take(self, tag: Tag) -> None:
        if tag.kind == SCRIPT:
            self._script(tag)
        elif tag.track:
            self._side(tag)
        elif tag.packet == CONFIG:
            self._config(tag)
        elif tag.packet == CODED:
            self._media(tag)
        else:
            self.dropped["not_media"] += 1

    def take(self) -> bytes:
        """What came since the last take() or replay(), for the encoder that got that replay."""
        pending, self._pending = self._pending, []
        return b"".join(self._encode(tag) for tag in pending)

    def cues(self) -> list[tuple[int, list[amf.Value]]]:
        """Messages of events and words since the last call: (ms of the encoder's time, values)."""
        waiting, self._cues = self._cues, deque(maxlen=MAX_CUES)
        return [(at_ms - self._base, values) for at_ms, values in waiting]

    def replay(self) -> Replay:
        """The beginning of a new encoder's input: header, configuration, current GOP."""
        self._pending.clear()
        gop = self._gop
        self._held_back = not gop.whole
        times = [tag.timestamp for tag in gop.tags] or [self._timebase.newest]
        self._base = min(times)
        head = gop.head if gop.whole else self._head
        duration_ms = max(times) - self._base
        return Replay(
            data=b"".join(
                (
                    HEADER,
                    *head.tags(),
                    *self._sides.configs(self.source.sides if self.source else ()),
                    *(self._encode(tag) for tag in gop.tags),
                )
            ),
            # What comes in a burst was late: dates are by what was most punctual.
            arrived_s=min(gop.arrived_s, self._wall_s() - duration_ms / 1000)
            if gop.whole
            else self._wall_s(),
            duration_ms=duration_ms,
        )

    def arrived(
        self, kind: Literal["video", "audio"], until_ms: float
    ) -> tuple[float, float] | None:
        """When the newest frame before `until_ms` of the encoder's time came (monotonic s), and by
        how many seconds that was later than its time stamp promised."""
        return self._arrivals[VIDEO if kind == "video" else AUDIO].at(self._base + until_ms)

    def entry_before(self, until_ms: float) -> int | None:
        """Which tag another encoder would need first, counted from 0, when everything before
        `until_ms` of the encoder's time has been published; None while none is known."""
        return self._entries.before(self._base + until_ms)

    def _encode(self, tag: Tag) -> bytes:
        return encode_tag(tag.kind, max(0, tag.timestamp - self._base), tag.body)

    def _emit(self, tag: Tag) -> None:
        self._gop.add(tag)
        if not tag.track:
            self._arrivals[tag.kind].add(tag.timestamp, self._monotonic_s())
        media = tag.packet != CONFIG
        if tag.kind == VIDEO and self._held_back:
            self.dropped["before_keyframe"] += media
            return
        self._pending.append(tag)
        if self.source is None:
            self._waiting += media
        else:
            self._became["forwarded"] += media

    def _script(self, tag: Tag) -> None:
        """Metadata is kept for replays and says what to expect; events are kept until they are
        asked for, the newest `MAX_CUES`; anything else is of no use to us."""
        try:
            values = amf.decode(tag.body)
        except amf.AmfError:
            values = []
        if values and (values[0] in cues.EVENTS or values[0] in subtitles.MESSAGES):
            self._cues.append((self._timebase.place(tag.timestamp), values))
            self._became["kept"] += 1
            return
        if len(values) < 2 or values[0] != "onMetaData" or not isinstance(values[1], dict):
            self.dropped["script"] += 1
            return
        told = values[1]
        self._became["kept"] += 1
        self._head = replace(self._head, script=tag.body)
        named = {AUDIO: "audiocodecid", VIDEO: "videocodecid"}
        # Some publishers describe nothing: then both are expected until PROBE_MS has passed.
        expects = frozenset(kind for kind, name in named.items() if told.get(name))
        self._expects = expects or self._expects
        fps = told.get("framerate")
        self._fps = float(fps) if isinstance(fps, float) and 0 < fps < _MAX_FPS else 0.0
        self._turn = told_turn(told.get(ROTATION, self._turn))
        if self._size == (0, 0):
            self._size = told_size(told.get("width"), told.get("height"))

    def _config(self, tag: Tag) -> None:
        self._codecs[tag.kind] = tag.codec
        self._became["kept"] += 1
        if tag.kind == AUDIO:
            self._sound_config = tag.body
            if self._silent_from >= 0 or tag.body == self._head.audio:
                return
            self._head = replace(self._head, audio=tag.body)
        else:
            if tag.body == self._head.video:
                return
            self._head = replace(self._head, video=tag.body)
            self._size = picture_size(tag.body[5:]) or self._size
        if self.source is not None:
            self._emit(Tag(tag.kind, self._timebase.newest, tag.body))

    def _side(self, tag: Tag) -> None:
        """Another sound: it begins no GOP, is never waited for, and silence is the encoder's."""
        if tag.track not in self._sides.wanted:
            self.dropped["track"] += 1
            return
        out = self._timebase.newest
        if tag.packet == CODED:
            out = self._timebase.rebase(AUDIO | tag.track << 8, tag.timestamp)
        if not self._sides.take(tag, out, configured=_CONFIGURED):
            self.dropped["unconfigured"] += 1
            return
        self._became["kept"] += tag.packet == CONFIG
        if not self._gop.whole and self.source is None:
            self.dropped["before_keyframe"] += tag.packet != CONFIG
        else:
            self._emit(Tag(AUDIO, out, tag.body))

    def _media(self, tag: Tag) -> None:
        kind = tag.kind
        if tag.codec != self._codecs[kind]:
            if tag.codec in _CONFIGURED:
                self.dropped["unconfigured"] += 1  # of no use without the sequence header
                return
            self._codecs[kind] = tag.codec
        out = self._timebase.rebase(kind, tag.timestamp)
        self._newest[kind] = max(self._newest[kind], out)
        if kind == AUDIO and not self._sound(out):
            self.dropped["overlap"] += 1
            return
        if kind == VIDEO:
            self._fill_silence(out)  # first, so that a GOP begins with its keyframe
        if tag.is_keyframe and (turn := turn_of(tag)) is not None:
            self._turn = turn
        if tag.is_keyframe or self._cut_without_picture(out):
            self._begin_gop()
            self._entries.add(tag, out, self.tags - 1)
        if not self._gop.whole and self.source is None:
            self.dropped["before_keyframe"] += 1
        else:
            self._emit(Tag(kind, out, tag.body))
        if self.source is None:
            self._probe()
        self._check_picture()

    def _cut_without_picture(self, out: int) -> bool:
        """Sound alone has no keyframes: any place will do, every few seconds."""
        if self._codecs[VIDEO] or self._newest[VIDEO] >= 0:
            return False
        return not self._gop.whole or self._gop.span_ms(out) > AUDIO_ONLY_GOP_MS

    def _begin_gop(self) -> None:
        self._held_back = False
        if self.source is None:
            self.end()  # of the GOP before, which no encoder had
        self._gop.begin(self._head, self._wall_s())
        if self.source is not None:
            self.source = self._described()

    def _described(self) -> Source:
        width, height = self._size if self._codecs[VIDEO] else (0, 0)
        return Source(
            video=self._codecs[VIDEO],
            audio=self._codecs[AUDIO] or _SILENCE_CODEC,
            width=width,
            height=height,
            fps=self._fps if self._codecs[VIDEO] else 0.0,
            sides=self._sides.heard(self._timebase.newest),
            turn=self._turn if self._codecs[VIDEO] else 0,
        )

    def _probe(self) -> None:
        """The source is known once all that it announced has come, or PROBE_MS have."""
        if not self._gop.whole:
            return
        missing = {kind for kind in self._expects if self._newest[kind] < 0}
        waited = self._gop.span_ms(self._timebase.newest)
        if missing and waited < PROBE_MS:
            return
        if not self._codecs[AUDIO]:
            self._begin_silence(self._gop.tags[0].timestamp)
            self._gop.head = replace(self._gop.head, audio=SILENT_CONFIG)
        self.source = self._described()
        self._became["forwarded"] += self._waiting
        self._waiting = 0

    def _begin_silence(self, at_ms: int) -> None:
        self._silent_from, self._silent_count = at_ms, 0
        self._head = replace(self._head, audio=SILENT_CONFIG)

    @property
    def _silent_until(self) -> int:
        return self._silent_from + self._silent_count * _SILENT_SAMPLES * 1000 // _SILENT_RATE

    def _fill_silence(self, until_ms: int) -> None:
        if self.source is None or self.source.audio != _SILENCE_CODEC:
            return
        if self._silent_from < 0:
            if until_ms - self._newest[AUDIO] <= SILENCE_AFTER_MS:
                return
            self._begin_silence(self._newest[AUDIO] + 1)
            self._emit(Tag(AUDIO, self._silent_from, SILENT_CONFIG))
        while (at := self._silent_until) <= until_ms:
            self._emit(Tag(AUDIO, at, SILENT_FRAME))
            self._silent_count += 1
            self.silent_frames += 1

    def _sound(self, out: int) -> bool:
        """True when the publisher's sound may pass; ends a silence that it has caught up with."""
        if self._silent_from < 0:
            return True
        if out < self._silent_until:
            return False
        self._silent_from = -1
        self._head = replace(self._head, audio=self._sound_config)
        if self._sound_config:
            self._emit(Tag(AUDIO, out, self._sound_config))
        return True

    def _check_picture(self) -> None:
        if self.source is None and self._timebase.newest > NO_KEYFRAME_MS:
            raise BrokerError(f"no keyframe in {NO_KEYFRAME_MS // 1000} s")
        behind = self._newest[AUDIO] - self._newest[VIDEO]
        if self._newest[VIDEO] >= 0 and behind > STALLED_VIDEO_MS:
            raise BrokerError(f"no picture for {behind / 1000:.0f} s while sound goes on")
