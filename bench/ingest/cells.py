"""The cells of the matrix: who publishes what by which way, what happens, what a viewer must see.

Laws: a cell has a stream of its own, so that cells play at the same time. What a publisher that
exists cannot be made to do is done by one of ours, to tags that a real encoder made (`script`).
"""

from __future__ import annotations

import asyncio
import functools
import os
import shutil
import signal
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from origin import testpattern
from origin.ffmpeg import find

from . import clips, events
from .client import RefusedError
from .clips import AV1, HEVC, OBS, OPUS, Clip
from .events import Event
from .protocols import CMAF, DASH, HLS, HTTP, RTMP, SRT, Sender, Way
from .seen import Seen, listing
from .site import Site
from .watching import Watched

SECONDS: Final = 6.0
_SLACK_S: Final = 0.6  # of media: what an encoder's start and the last, short part may cost
_PATIENCE_S: Final = 40.0
_TS_WRAP_S: Final = (1 << 33) / 90_000
_TAGS_S: Final = clips.FPS + 48_000 / 1024  # of both kinds


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the publisher saw: sent, 0 if nobody counted; ledger: of its tags, at the origin."""

    what: str = ""
    sent: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


Play = Callable[["Cell", Site], Coroutine[None, None, Told]]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """video_s, audio_s: of media that a viewer must see at least, 0: no such track. stalled_s: how
    long a player may stand still in all; None: none plays it."""

    name: str
    publisher: str
    codec: str
    event: str
    play: Play
    way: Way = RTMP
    video_s: float = SECONDS
    audio_s: float = SECONDS
    discontinuities: int = 0
    told: str = ""  # begins so
    stalled_s: float | None = None

    def url(self, site: Site) -> str:
        return self.way.url(site.doors[self.way.door], site.keys[self.name])

    def judge(self, told: Told, seen: dict[str, Seen]) -> list[str]:
        """What is not as expected."""
        wrong = []
        wanted = {"v": self.video_s, "audio": self.audio_s}
        if seen.keys() != {track for track, seconds in wanted.items() if seconds}:
            wrong.append(f"tracks {sorted(seen)}")
        for track, found in seen.items():
            if not found.continuous:
                wrong.append(f"{track} is not continuous")
            if found.discontinuities != self.discontinuities:
                wrong.append(f"{track}: {self.discontinuities} discontinuities expected")
            if found.seconds < wanted[track] - _SLACK_S:
                wrong.append(f"{track}: at least {wanted[track] - _SLACK_S:.1f} s expected")
        if not told.what.startswith(self.told):
            wrong.append(f"{self.told!r} expected, found {told.what!r}")
        return wrong

    def judge_player(self, found: Watched) -> list[str]:
        """The same of a player, which `stalled_s` is not None for."""
        assert self.stalled_s is not None
        wrong = [] if found.went_on else ["the player stands still"]
        if found.stalled_s > self.stalled_s:
            wrong.append(f"the player stalls for {found.stalled_s:.1f} s")
        return wrong


def script(clip: Clip, event: Event = events.steady) -> Play:
    """Tags of `clip`, each at its time."""

    async def play(cell: Cell, site: Site) -> Told:
        made = await asyncio.to_thread(clips.tags, clip)
        return await _send(cell, site, event(made))

    return play


async def _send(cell: Cell, site: Site, todo: events.Script) -> Told:
    assert cell.way.send is not None
    clock = asyncio.get_running_loop().time
    began, sent = clock(), 0
    sender: Sender | None = None
    for at_s, tag in todo:
        await asyncio.sleep(max(0.0, began + at_s - clock()))
        if sender is None:
            sender, sent = await cell.way.send(cell.url(site)), 0
        if tag is None:
            sender.abort()
            sender = None
        else:
            await sender.send(tag)
            sent += 1
    assert sender is not None
    row = await _arrived(cell, site, sent)
    await sender.close()
    return Told(sent=sent, dropped=row)


async def _arrived(cell: Cell, site: Site, sent: int) -> dict[str, int]:
    """Wait until the origin has all tags of the session; what it dropped of them."""
    met = functools.partial(_has, site, cell.name, sent)
    await asyncio.to_thread(site.until, met, f"all tags of {cell.name} arrive")
    dropped: dict[str, int] = site.state(cell.name)["dropped_tags"]
    return dropped


def _has(site: Site, stream: str, tags: int) -> bool:
    row = site.state(stream)
    return row.get("state") == "live" and bool(row["tags"] >= tags)


def process(command: Callable[[str], list[str]]) -> Play:
    """A publisher that exists, until it has sent all."""

    async def play(cell: Cell, site: Site) -> Told:
        return Told(what=await _run(command(cell.url(site))))

    return play


def killed(command: Callable[[str], list[str]], tags: int, away_s: float) -> Play:
    """The same, killed when the origin has so many tags of it, and started again."""

    async def play(cell: Cell, site: Site) -> Told:
        under_way = functools.partial(_has, site, cell.name, tags)
        await _run(command(cell.url(site)), under_way, site)
        await asyncio.sleep(away_s)
        ended = "#EXT-X-ENDLIST" in await asyncio.to_thread(listing, site.master(cell.name))
        failed = await _run(command(cell.url(site)))
        return Told(what=failed or ("a new timeline" if ended else "the same timeline"))

    return play


async def _run(
    command: Sequence[str], until: Callable[[], bool] | None = None, site: Site | None = None
) -> str:
    """Until it ends, or is killed for what is met; its last words if it failed by itself."""
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        if until is not None and site is not None:
            await asyncio.to_thread(site.until, until, "the publisher is under way")
            return ""
        async with asyncio.timeout(_PATIENCE_S):
            _, errors = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()
    said = errors.decode(errors="replace").strip()[-200:]
    return f"failed: {said}" if child.returncode else ""


def second(clip: Clip) -> Play:
    """Another publisher with the same key, while the first is on."""

    async def play(cell: Cell, site: Site) -> Told:
        first = asyncio.create_task(script(clip)(cell, site))
        live = functools.partial(_has, site, cell.name, 1)
        await asyncio.to_thread(site.until, live, f"{cell.name} is live")
        assert cell.way.send is not None
        try:
            intruder = await cell.way.send(cell.url(site))
        except RefusedError as error:
            what = f"the second is refused: {error}"
        else:
            intruder.abort()
            what = "the second is let in"
        told = await first
        return Told(what=what, sent=told.sent, dropped=told.dropped)

    return play


def encoder_killed(clip: Clip) -> Play:
    """kill -9 of what encodes it, half way."""

    async def play(cell: Cell, site: Site) -> Told:
        publisher = asyncio.create_task(script(clip)(cell, site))
        half = functools.partial(_has, site, cell.name, round(_TAGS_S * clip.seconds / 2))
        await asyncio.to_thread(site.until, half, f"half of {cell.name} has arrived")
        os.kill(site.state(cell.name)["encoder_pid"], signal.SIGKILL)
        told = await publisher
        return replace(told, what=f"encoder restarts: {site.state(cell.name)['restarts']}")

    return play


def ffmpeg(clip: Clip, way: Way = RTMP, offset_s: float = 0.0) -> Callable[[str], list[str]]:
    """Its command, for a URL. offset_s: where its time stamps begin."""
    begin = ("-output_ts_offset", f"{offset_s:g}") if offset_s else ()
    return lambda url: [*clips.command(clip, paced=True), *begin, *way.output(url)]


def file(clip: Clip) -> Play:
    """A file, sent as it is at the pace of the clock."""

    async def play(cell: Cell, site: Site) -> Told:
        made = await asyncio.to_thread(clips.written, clip, site.home)
        head = [clips.tool(clip).path, "-hide_banner", "-loglevel", "error", "-nostdin"]
        output = cell.way.output(cell.url(site))
        return Told(what=await _run([*head, "-re", "-i", str(made), "-c", "copy", *output]))

    return play


def pattern(url: str) -> list[str]:
    small = testpattern.Pattern(width=160, height=90, bitrate=200_000, seconds=SECONDS)
    return testpattern.argv(find(), url, small)


def gstreamer(way: Way = RTMP) -> Callable[[str], list[str]]:
    """With encoders that Debian's packages have."""
    frames = round(SECONDS * clips.FPS)
    assert way.sink is not None
    sink = way.sink
    return lambda url: [
        "gst-launch-1.0",
        *f"videotestsrc is-live=true num-buffers={frames} ! "
        f"video/x-raw,width=160,height=90,framerate={clips.FPS}/1 ! videoconvert ! "
        "openh264enc gop-size=30 complexity=low ! h264parse ! queue ! mux. "
        f"audiotestsrc is-live=true num-buffers={round(SECONDS * 48000 / 1024)} ! "
        "audio/x-raw,rate=48000,channels=2 ! voaacenc ! aacparse ! queue ! mux. "
        f"{sink(url)}".split(),
    ]


PLAIN: Final = Clip(seconds=SECONDS)
AS_OBS: Final = Clip(seconds=SECONDS, video=OBS)
SMALLER: Final = Clip(seconds=SECONDS, size="96x54")
VARIABLE: Final = Clip(seconds=SECONDS, filters="select='gt(mod(n*7,10),3)'")
CODECS: Final = {
    "HEVC, AAC": Clip(seconds=SECONDS, video=HEVC),
    "AV1, AAC": Clip(seconds=SECONDS, video=AV1),
    "H.264, Opus": Clip(seconds=SECONDS, audio=OPUS),
    "HEVC, Opus": Clip(seconds=SECONDS, video=HEVC, audio=OPUS),
}
_H264: Final = "H.264, AAC"


def by(publisher: str, name: str, play: Play, way: Way = RTMP, codec: str = _H264) -> Cell:
    return Cell(name=name, publisher=publisher, codec=codec, event="steady", play=play, way=way)


def publishers() -> list[Cell]:
    """Everybody who publishes, undisturbed."""
    found = [
        by("ffmpeg", "ffmpeg", process(ffmpeg(PLAIN))),
        by("OBS's settings (B-frames)", "obs", process(ffmpeg(AS_OBS))),
        by("a file", "file", file(AS_OBS)),
        by("test pattern", "pattern", process(pattern)),
    ]
    if shutil.which("gst-launch-1.0"):
        found.append(by("GStreamer rtmp2sink", "gstreamer", process(gstreamer())))
    return found


def over_srt() -> list[Cell]:
    """What ffmpeg had not sent when it closed is lost: live mode does not wait for it."""
    hevc = Clip(seconds=SECONDS, video=HEVC)
    found = [
        by("OBS's settings (B-frames)", "srt-obs", process(ffmpeg(AS_OBS, SRT)), SRT),
        by("ffmpeg", "srt-hevc", process(ffmpeg(hevc, SRT)), SRT, "HEVC, AAC"),
    ]
    if shutil.which("gst-launch-1.0"):
        sink = process(gstreamer(SRT))
        found.append(by("GStreamer srtsink", "srt-gstreamer", sink, SRT))
    return [least(cell, SECONDS - 1) for cell in (*found, _wrapped("srt-wrap", SRT))]


def over_http() -> list[Cell]:
    steady = process(ffmpeg(AS_OBS, HTTP))
    return [by("ffmpeg", "http", steady, HTTP), _wrapped("http-wrap", HTTP), *each_track()]


def each_track() -> list[Cell]:
    """Publishers that send every track, or every segment of one, by itself."""
    hevc = Clip(seconds=SECONDS, video=HEVC)
    return [
        by("OBS's settings (B-frames)", "cmaf", process(ffmpeg(AS_OBS, CMAF)), CMAF),
        by("ffmpeg", "dash", process(ffmpeg(hevc, DASH)), DASH, "HEVC, AAC"),
        by("ffmpeg", "hls", process(ffmpeg(PLAIN, HLS)), HLS),
    ]


def _wrapped(name: str, way: Way) -> Cell:
    """The clock of MPEG-TS has 33 bits, which are over after 26.5 hours."""
    late = process(ffmpeg(AS_OBS, way, offset_s=_TS_WRAP_S - SECONDS / 2))
    cell = by("ffmpeg", name, late, way)
    return replace(cell, event="time stamps wrap at 33 bits")


def codecs() -> list[Cell]:
    """What Enhanced RTMP carries."""
    return [
        Cell(
            name=name.lower().replace(", ", "-").replace(".", ""),
            publisher="ffmpeg",
            codec=name,
            event="steady",
            play=process(ffmpeg(clip)),
        )
        for name, clip in CODECS.items()
    ]


def under(event: str, name: str, play: Play, codec: str = _H264) -> Cell:
    return Cell(name=name, publisher="tags of an encoder", codec=codec, event=event, play=play)


def least(cell: Cell, seconds: float) -> Cell:
    return replace(cell, video_s=seconds, audio_s=seconds)


def troubles() -> list[Cell]:
    """What happens to the tags of a publisher under way."""
    change = events.then(clips.tags(SMALLER))
    hevc = CODECS["HEVC, Opus"]
    harmed = (
        under("1 % of the tags corrupt", "tags", script(AS_OBS, events.corrupt_tags)),
        under("1 % of the bytes corrupt", "bytes", script(AS_OBS, events.corrupt_bytes)),
        under("1 % of the tags corrupt", "hevc-tags", script(hevc, events.corrupt_tags),
              "HEVC, Opus"),
    )  # fmt: skip
    size = under("another size", "size", script(PLAIN, change))
    sound = under("sound alone", "sound", script(Clip(seconds=SECONDS, video="")))
    again = under("drops for 2 s", "dropped", script(PLAIN, events.drop(2)))
    other = under("a second publisher", "second", second(AS_OBS))
    return [
        under("VFR, 40 % of the pictures lack", "vfr", script(VARIABLE)),
        under("time stamps jump by 20 s", "ahead", script(AS_OBS, events.jump(20_000))),
        under("time stamps jump back by 20 s", "back", script(AS_OBS, events.jump(-20_000))),
        under("time stamps wrap at 32 bits", "wrap", script(AS_OBS, events.wrap)),
        under("time stamps wrap at 32 bits", "hevc-wrap", script(hevc, events.wrap), "HEVC, Opus"),
        under("no sound", "silent", script(Clip(seconds=SECONDS, audio=""))),
        replace(sound, video_s=0.0),
        *(least(cell, 0.9 * SECONDS) for cell in harmed),
        replace(least(size, 2 * SECONDS), discontinuities=1),
        replace(again, discontinuities=1),
        replace(other, told="the second is refused"),
    ]


def drops(seconds: Sequence[float], reconnect_s: float) -> list[Cell]:
    """ffmpeg killed, and back with time stamps from 0; a stream whose publisher is away for longer
    than it may be has ended."""
    return [
        Cell(
            event=f"killed after {SECONDS / 2:g} s, back after {away_s:g} s",
            name=f"drop-{away_s:g}",
            play=killed(ffmpeg(AS_OBS), round(_TAGS_S * SECONDS / 2), away_s),
            publisher="ffmpeg with OBS's settings",
            codec=_H264,
            video_s=SECONDS * (1.4 if away_s < reconnect_s else 1.0),
            audio_s=SECONDS * (1.4 if away_s < reconnect_s else 1.0),
            discontinuities=int(away_s < reconnect_s),
            told="the same timeline" if away_s < reconnect_s else "a new timeline",
        )
        for away_s in seconds
    ]
