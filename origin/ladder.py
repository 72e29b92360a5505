"""What one stream is encoded into, and the ffmpeg command that does it.

Laws: pure values and functions; no picture is larger than its source; the command decodes once,
encodes each sound once, reads one pipe and writes one pipe a track, and can open nothing else. All
renditions have their keyframes at the same multiples of the segment. Knows nothing of processes.
Every flag was tried on ffmpeg 5.1.9 and 9.0.2; what each is for stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from edgecache.flv import MAX_TRACKS

from . import coders
from .config import Config
from .ffmpeg import Ffmpeg
from .model import Rendition
from .source import Source
from .subtitles import bandwidth as text_bandwidth

Size = tuple[int, int]  # of a picture: width, height in pixels

AUDIO_TRACK: Final = "audio"
SAMPLE_RATE: Final = 48_000
_CHANNELS: Final = 2
# Sound keeps to its time stamps without a hole: it begins with the picture (first_pts), what lacks
# is silence, small differences are stretched. Without the resampler in place from the start (res),
# the first of these differences starts it anew, and its output has a hole (ffmpeg 5.1 and 9.0, and
# sources of the same rate only).
_RESAMPLE: Final = "aresample=async=1000:flags=res:first_pts=0"
_MUX_OVERHEAD: Final = 1.02  # moof of a 10-frame part: 208 bytes
# A decoded 7680x4320 picture; a header that claims more is refused before memory is taken.
_MAX_PIXELS: Final = 33_177_600
_MAX_STREAMS: Final = MAX_TRACKS + 4  # every sound, a picture, data
_MAX_ALLOC: Final = 256 << 20  # bytes at once; such a picture in 10 bit and 4:2:0 takes 100 MB
# What a publisher's bytes can make an ffmpeg do, in front of its input.
GUARDED: Final = (
    *("-protocol_whitelist", "pipe", "-max_pixels", str(_MAX_PIXELS)),
    *("-max_streams", str(_MAX_STREAMS), "-max_alloc", str(_MAX_ALLOC)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One video rendition: size in pixels, rate in bit/s, preset of the codec's encoder. fps: at
    most so many pictures a second, 0: the plan's. away: a worker encodes it."""

    track: str
    width: int
    height: int
    bitrate: int
    preset: str = "veryfast"
    codec: str = "h264"
    fps: int = 0
    away: bool = False

    @property
    def short(self) -> int:
        """The shorter side, which rungs are named by."""
        return min(self.width, self.height)

    @property
    def threads(self) -> int:
        """zerolatency makes one slice a thread: a 32-core host would cut pictures to shreds."""
        return 1 if self.short <= 480 else 2 if self.short <= 720 else 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """One audio rendition. source: the publisher's track it is made of; channels: left and right of
    that, from 0; None: all of them, mixed down. What is not sent is silence. language: RFC 5646, ""
    for none; name: for people, "" for the track's."""

    track: str = AUDIO_TRACK
    language: str = ""
    name: str = ""
    source: int = 0
    channels: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """One subtitle rendition, made of what the publisher says in `language` (RFC 5646). name: for
    people, "" for the track's."""

    track: str
    language: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The encoding of one stream. `rungs` from best to worst, empty for a source without picture;
    `sounds` and `texts` the default first; audio_bitrate in bit/s, of each; segment_s is the grid
    that keyframes stand on, parts how many it is cut into."""

    rungs: tuple[Rung, ...]
    sounds: tuple[Sound, ...] = (Sound(),)
    texts: tuple[Text, ...] = ()
    audio_bitrate: int = 96_000
    fps: int = 30
    segment_s: float = 2.0
    parts: int = 8

    @property
    def tracks(self) -> tuple[str, ...]:
        """What ffmpeg makes, in the order of the pipes."""
        video = tuple(rung.track for rung in self.rungs)
        return (*video, *(sound.track for sound in self.sounds))

    def step(self, rung: Rung) -> int:
        """Of how many pictures the rung has one: a whole number, so that its key frames stand where
        those of the others do."""
        return -(-self.fps // rung.fps) if 0 < rung.fps < self.fps else 1

    @property
    def sides(self) -> frozenset[int]:
        """The publisher's tracks of sound that are of use, beside the first."""
        return frozenset(sound.source for sound in self.sounds) - {0}


# 0.26 of a core for both rungs (media.md section 2): keeps real time on two shared cores.
SMALL: Final = (
    Rung(track="360p", width=640, height=360, bitrate=700_000),
    Rung(track="180p", width=320, height=180, bitrate=250_000),
)
_HIGH_FPS: Final = 30  # more than this is for sources that have more
# Degrees clockwise -> filters. What said so is taken out: ffmpeg 9 would write it into the output,
# and players would turn the picture once more.
_TOLD: Final = "sidedata=mode=delete:type=DISPLAYMATRIX,"
_TURNS: Final = {
    0: "",
    90: f"{_TOLD}transpose=clock,",
    180: f"{_TOLD}hflip,vflip,",
    270: f"{_TOLD}transpose=cclock,",
}


def plan_of(config: Config) -> Plan:
    """The configured ladder, best rung first. Rates there are bytes/s."""
    rungs = [
        Rung(
            track=track,
            width=rung.width,
            height=rung.height,
            bitrate=rung.bitrate * 8,
            preset=rung.preset,
            codec=rung.codec,
            fps=rung.fps,
            away=rung.on == "workers",
        )
        for track, rung in config.ladder.items()
    ]
    return Plan(
        rungs=tuple(sorted(rungs, key=_rank)),
        sounds=tuple(
            Sound(
                track=track,
                language=sound.language,
                name=sound.name,
                source=sound.source,
                channels=sound.channels,
            )
            for track, sound in config.audio.tracks.items()
        )
        or (Sound(),),
        texts=tuple(
            Text(track=track, language=text.language, name=text.name)
            for track, text in config.text.tracks.items()
        ),
        audio_bitrate=config.audio.bitrate * 8,
        fps=config.encoder.fps,
        segment_s=config.live.segment / 1000,
        parts=config.live.parts,
    )


def _rank(rung: Rung) -> tuple[int, int, int]:
    return list(coders.SOFTWARE).index(rung.codec), -rung.height, -rung.bitrate


def _alike(plan: Plan) -> tuple[Rung, ...]:
    """The rungs that every player of the best one can play."""
    return tuple(rung for rung in plan.rungs if rung.codec == plan.rungs[0].codec)


def fit(plan: Plan, size: Size | None, fps: float = 0.0) -> Plan:
    """`plan` without rungs above a source of `size`; at least a smallest one stays. None: it has no
    picture; (0, 0): it is not known how large, and everything stays. The shorter side counts, so
    that a picture held upright has as many rungs. fps: what the source says, 0 for nothing; a plan
    of 60 is one of 30 for a source of no more."""
    if size is None:
        return replace(plan, rungs=())
    kept = tuple(rung for rung in plan.rungs if 0 < rung.short <= min(size) or not min(size))
    half = plan.fps % 2 == 0 and plan.fps > _HIGH_FPS and 0 < fps <= plan.fps // 2 + 1
    rate = plan.fps // 2 if half else plan.fps
    return replace(plan, rungs=kept or _alike(plan)[-1:], fps=rate)


def shape(plan: Plan, size: Size) -> Plan:
    """`plan` in the sizes that a source of `size` gets: within each rung's box, which is turned for
    an upright picture, in the source's proportions, and never enlarged. (0, 0): as planned."""
    if not min(size):
        return plan
    return replace(plan, rungs=tuple(_shaped(rung, size) for rung in plan.rungs))


def _shaped(rung: Rung, size: Size) -> Rung:
    upright = size[0] < size[1]
    box = (rung.height, rung.width) if upright else (rung.width, rung.height)
    factor = min(Fraction(1), Fraction(box[0], size[0]), Fraction(box[1], size[1]))
    # 4:2:0 wants even numbers
    width, height = (max(2, min(2 * round(n * factor / 2), n - n % 2)) for n in size)
    return replace(rung, width=width, height=height)


def only(plan: Plan, planned: Sequence[Rendition]) -> Plan:
    """`plan` as far as it makes `planned`, at the rate that was planned then."""
    tracks = {each.track for each in planned}
    return replace(
        fit(plan, (0, 0), max((each.frame_rate for each in planned), default=0.0)),
        rungs=tuple(rung for rung in plan.rungs if rung.track in tracks),
        sounds=tuple(sound for sound in plan.sounds if sound.track in tracks),
    )


def steps(plan: Plan) -> int:
    """How much can be left out of `plan`: see `shed`."""
    return bool(plan.rungs) and (len(_alike(plan)) > 1) + (plan.fps % 2 == 0)


def shed(plan: Plan, level: int) -> tuple[Plan, dict[str, str]]:
    """`plan` with `level` steps left out: first the best rung, which is the one below under its own
    name then, so that whoever watches it goes on; then every other picture. Also returns which
    track is a copy of which."""
    if not level:
        return plan, {}
    if len(_alike(plan)) < 2:
        return replace(plan, fps=plan.fps // 2), {}
    best, below = _alike(plan)[:2]
    fps = plan.fps // 2 if level > 1 else plan.fps
    return replace(plan, rungs=plan.rungs[1:], fps=fps), {below.track: best.track}


def renditions(plan: Plan) -> tuple[Rendition, ...]:
    """The tracks as the manifest lists them: in the order of `plan.tracks`, then texts."""
    video = tuple(
        Rendition(
            track=rung.track,
            kind="video",
            # VBV: a second at most holds maxrate plus one buffer (bufsize = 1 s of rate).
            bandwidth=round(rung.bitrate * _MUX_OVERHEAD * 2),
            average_bandwidth=round(rung.bitrate * _MUX_OVERHEAD),
            width=rung.width,
            height=rung.height,
            frame_rate=plan.fps / plan.step(rung),
            # VBV again: a key frame is at most the buffer, and there is one a segment.
            key_bandwidth=round(rung.bitrate * _MUX_OVERHEAD / plan.segment_s),
        )
        for rung in plan.rungs
    )
    audio = tuple(
        Rendition(
            track=sound.track,
            kind="audio",
            bandwidth=round(plan.audio_bitrate * _MUX_OVERHEAD * 1.25),
            average_bandwidth=round(plan.audio_bitrate * _MUX_OVERHEAD),
            channels=_CHANNELS,
            sample_rate=SAMPLE_RATE,
            language=sound.language,
            name=sound.name,
        )
        for sound in plan.sounds
    )
    text = tuple(
        Rendition(
            track=text.track,
            kind="text",
            bandwidth=text_bandwidth(plan.segment_s, plan.parts),
            average_bandwidth=text_bandwidth(plan.segment_s, plan.parts) // 4,
            codecs="wvtt",
            language=text.language,
            name=text.name,
        )
        for text in plan.texts
    )
    return (*video, *audio, *text)


def argv(
    plan: Plan,
    ffmpeg: Ffmpeg,
    *,
    fds: Sequence[int],
    offset_s: float,
    source: Source | None = None,
) -> list[str]:
    """The command line. `fds`: one writable pipe a track of `plan.tracks`; `offset_s`: media time
    of the first frame (first MSN x segment); `source`: what is sent, None for H.264 and one AAC
    sound. Reads FLV on stdin. Raises ValueError if the pipes do not match."""
    if len(fds) != len(plan.tracks):
        raise ValueError(f"found {len(fds)} pipes for the tracks {plan.tracks}")
    tool = (ffmpeg.since(source.since) if source else None) or ffmpeg
    used = [coders.coder_of(rung.codec, tool.h264) for rung in plan.rungs]
    opening = next((coder.opening for coder in used if coder.opening), ())
    command = [tool.path, *opening, *_input()]
    if plan.rungs:
        command += ["-filter_complex", _filter(plan, tool.h264, source.turn if source else 0)]
    for index, rung in enumerate(plan.rungs):
        command += [*_video(plan, rung, index, tool.h264), *cmaf_output(fds[index], offset_s)]
    sent = [0, *(track for track, _ in source.sides)] if source else [0]
    for sound, fd in zip(plan.sounds, fds[len(plan.rungs) :], strict=True):
        command += [*_audio(plan, sound, sent), *cmaf_output(fd, offset_s)]
    return command


def _input() -> list[str]:
    return [
        *("-hide_banner", "-loglevel", "warning", "-nostats", "-nostdin"),
        *GUARDED,
        # First frame after 0.17 s instead of 1.37 s. Counting frames per second would wait for half
        # a
        # second of media: after a kill -9 early in a GOP the first part came after 0.65 s, not
        # 0.39.
        *("-probesize", "100000", "-analyzeduration", "500000", "-fpsprobesize", "0"),
        *("-threads", "1"),  # decoder frame threads cost 66 ms
        "-noautorotate",  # what is planned for is what is done, see _TURNS
        *("-f", "flv", "-i", "pipe:0"),
    ]


def _filter(plan: Plan, h264: str, turn: int) -> str:
    # fps makes a constant rate of anything; start_time=0 puts the first frame exactly on the grid
    # (without it ffmpeg 9 is 33 ms off for good).
    outs = "".join(f"[s{index}]" for index in range(len(plan.rungs)))
    chains = [f"[0:v:0]{_TURNS[turn]}fps={plan.fps}:start_time=0,split={len(plan.rungs)}{outs}"]
    for index, rung in enumerate(plan.rungs):
        # without the delay of another fps filter
        step = f"framestep={plan.step(rung)}," if plan.step(rung) > 1 else ""
        scale = f"scale={rung.width}:{rung.height}:flags=bilinear"
        upload = coders.coder_of(rung.codec, h264).upload
        chains.append(f"[s{index}]{step}{scale},setsar=1{upload}[v{index}]")
    return ";".join(chains)


def _video(plan: Plan, rung: Rung, index: int, h264: str) -> list[str]:
    return [
        *("-map", f"[v{index}]"),
        *coders.options(
            rung.codec,
            h264,
            preset=rung.preset,
            threads=rung.threads,
            bitrate=rung.bitrate,
            fps=plan.fps / plan.step(rung),
            segment_s=plan.segment_s,
        ),
    ]


def _audio(plan: Plan, sound: Sound, sources: Sequence[int]) -> list[str]:
    there = sound.source in sources
    # a silence that keeps the pace of the sound that is there
    pair = "" if there else "volume=0,"
    if sound.channels is not None:
        # by number: what a source of another layout lacks is then silence, not an error
        pair += "pan=stereo|c0=c{}|c1=c{},".format(*sound.channels)
    source = sources.index(sound.source) if there else 0
    return [
        *("-map", f"0:a:{source}", "-c:a", "aac", "-b:a", str(plan.audio_bitrate)),
        *("-ac", str(_CHANNELS), "-ar", str(SAMPLE_RATE), "-af", f"{pair}{_RESAMPLE}"),
    ]


def cmaf_output(fd: int, offset_s: float) -> list[str]:
    """One track as fragmented MP4 into a pipe, a fragment a frame, from `offset_s` on."""
    return [
        *("-f", "mp4", "-movflags", "+cmaf+frag_every_frame+frag_discont+skip_trailer"),
        # Absolute decode times: without these three every pipe starts at 0 and sync is lost.
        *("-use_editlist", "0", "-avoid_negative_ts", "disabled"),
        *("-output_ts_offset", f"{offset_s:.6f}"),
        *("-muxdelay", "0", "-muxpreload", "0", "-flush_packets", "1"),
        f"pipe:{fd}",
    ]
