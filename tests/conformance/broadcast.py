"""One live stream for the whole suite, and the three doors it is watched through.

What is published is a recording of ffmpeg's, sent tag by tag at its own pace, so that it can fall
silent and end when a test says so. The origin is a process with a real encoder; two edges stand in
front of it: one is pushed to, the other has no push door and so can only pull.
"""

from __future__ import annotations

import http.client
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edgecache.flv import HEADER, FlvReader, Tag
from edgecache.signing import sign
from tests.conformance.playlist import Media, read_media
from tests.conformance.recording import FPS, record, with_words
from tests.running import KID, LIMIT_S, ROOT, SECRET, Answer, Edge, ask
from tests.sockets import free_port

STREAM: Final = "cam"
BASE: Final = f"/live/{STREAM}/"
MASTER: Final = f"{BASE}master.m3u8"
VIDEO: Final = ("hi", "lo")
MEDIA: Final = (*VIDEO, "audio")
TEXT: Final = "text-en"
TRACKS: Final = (*MEDIA, TEXT)
PARTS: Final = 3  # a segment of 1 s
FRAMES: Final = 6  # of three tracks: well into a part, which has 10 to 16 of each
WINDOW_S: Final = 10.0
_WAITING: Final = "origin_frames_waiting "
CROWD: Final = 16  # requests at once
WAITED_S: Final = 0.05  # an answer that took longer was waited for
AT_ONCE_S: Final = 0.25  # an answer that waits for nothing takes less, one for a part longer


class Publisher(threading.Thread):
    """Sends tags when their time has come. `pause` and `go_on` stop and resume its clock."""

    def __init__(self, door: str, tags: list[Tag]) -> None:
        super().__init__(name="publisher")
        host, _, port = door.rpartition(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=LIMIT_S)
        self._tags = tags
        self._over = threading.Event()
        self._going = threading.Event()
        self._going.set()

    def run(self) -> None:
        path = f"/ingest/{STREAM}"
        self._connection.putrequest("PUT", path)
        fields = {"Content-Type": "video/x-flv", "Transfer-Encoding": "chunked"}
        fields["Authorization"] = sign("PUT", path, kid=KID, secret=SECRET.encode())
        for name, value in fields.items():
            self._connection.putheader(name, value)
        self._connection.endheaders()
        self._send(HEADER)
        start_s = time.monotonic()
        for tag in self._tags:
            if self._over.wait(max(start_s + tag.timestamp / 1000 - time.monotonic(), 0)):
                break
            paused_s = time.monotonic()
            self._going.wait()
            start_s += time.monotonic() - paused_s
            self._send(tag.encode())
        self._connection.send(b"0\r\n\r\n")
        self._connection.getresponse().read()
        self._connection.close()

    def _send(self, data: bytes) -> None:
        self._connection.send(b"%x\r\n%b\r\n" % (len(data), data))

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Connected, but sends nothing."""
        self._going.clear()
        try:
            yield
        finally:
            self._going.set()

    def end(self) -> None:
        self._over.set()
        self._going.set()
        self.join(LIMIT_S)


class OriginProcess:
    """`edgecache-origin serve`, its log read as it comes."""

    def __init__(self, port: int, push_url: str, folder: Path) -> None:
        file = folder / "origin.toml"
        rungs = {"hi": (160, 90, "150kbps"), "lo": (96, 54, "60kbps")}
        lines = [
            f'http = {{ listen = "127.0.0.1:{port}", drain = "1s" }}',
            'admin.listen = "127.0.0.1:0"',
            'log.format = "json"',
            f"encoder.fps = {FPS}",
            f'live = {{ segment = "1s", parts = {PARTS}, window = "{WINDOW_S:g}s"'
            ', reconnect = "1s" }',
            f'text.tracks.{TEXT} = {{ language = "en", name = "English" }}',
            f'keys.{KID}.secret = "{SECRET}"',
            f'pops.pushed = {{ push = "{push_url}", hot = ["*"] }}',
            *(
                f"ladder.{track} = {{ width = {w}, height = {h}, bitrate = {rate!r}"
                ', preset = "ultrafast" }'
                for track, (w, h, rate) in rungs.items()
            ),
        ]
        file.write_text("\n".join(lines))
        command = [sys.executable, "-m", "origin", "serve", "-c", str(file)]
        self._process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        ready = self.logged("serving")
        self.http = f"127.0.0.1:{ready['port']}"
        self._admin = f"127.0.0.1:{ready['admin_port']}"

    def _read(self) -> None:
        assert self._process.stderr
        for line in self._process.stderr:
            self._lines.put(line)

    def logged(self, message: str) -> dict[str, object]:
        deadline = time.monotonic() + LIMIT_S
        while True:
            line = self._lines.get(timeout=max(deadline - time.monotonic(), 0.01))
            found = json.loads(line) if line.startswith("{") else {}
            if found.get("message") == message:
                return dict(found)

    def mark(self, marker: dict[str, str]) -> None:
        """Tell of an event."""
        path, fields = f"/api/streams/{STREAM}/markers", {"Content-Type": "application/json"}
        answer = ask(self._admin, "POST", path, fields, json.dumps(marker).encode())
        assert answer.status == 201, answer.body

    def signal_encoder(self, number: int) -> None:
        """To the ffmpeg that runs now."""
        overview = json.loads(ask(self._admin, "GET", "/api/streams", {}).body)
        os.kill(overview["streams"][0]["encoder_pid"], number)

    def frames_waiting(self) -> float:
        """That the encoder has put out, for a part to be whole; of all tracks."""
        metrics = ask(self._admin, "GET", "/metrics", {}).body.decode()
        (line,) = (each for each in metrics.splitlines() if each.startswith(_WAITING))
        return float(line.removeprefix(_WAITING))

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(LIMIT_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join(LIMIT_S)
            assert self._process.stderr
            self._process.stderr.close()


@dataclass(frozen=True, slots=True)
class Timed:
    """An answer and when it came, monotonic seconds."""

    answer: Answer
    asked_s: float
    came_s: float

    @property
    def took_s(self) -> float:
        return self.came_s - self.asked_s

    @property
    def media(self) -> Media:
        assert self.answer.status == 200, (self.answer.status, self.answer.body)
        return read_media(self.answer.body.decode())


@dataclass(frozen=True, slots=True)
class Seen:
    """A version of a playlist as it reached a viewer."""

    came_s: float
    media: Media


@dataclass
class Door:
    """One way to the stream: `push`, `pull` or `origin`."""

    name: str
    address: str
    record: dict[str, list[Seen]] = field(default_factory=dict)

    def get(self, path: str, *, method: str = "GET", **fields: str) -> Timed:
        """`path` relative to the playlists', or absolute; underscores in `fields` are hyphens."""
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        target = path if path.startswith("/") else BASE + path
        asked_s = time.monotonic()
        answer = ask(self.address, method, target, named)
        return Timed(answer, asked_s, time.monotonic())

    def playlist(self, track: str, query: str = "", **fields: str) -> Timed:
        return self.get(f"{track}.m3u8{query}", **fields)

    def newest(self, track: str = "hi") -> Media:
        """A version that has just been made: the first that had to be waited for."""
        timed = self.after(track, self.playlist(track).media)
        while timed.took_s < WAITED_S:
            timed = self.after(track, timed.media)
        return timed.media

    def after(self, track: str, media: Media, more: str = "") -> Timed:
        """What a low-latency client asks next."""
        return self.playlist(track, wanted(*media.next) + more)

    def opened(self, track: str = "hi") -> Media:
        """A version that was just made, with the first part of a segment as its newest."""
        media = self.newest(track)
        while media.open is None or len(media.open.parts) != 1:
            media = self.after(track, media).media
        return media

    def at_once(self, targets: Sequence[str]) -> list[Timed]:
        with ThreadPoolExecutor(len(targets)) as pool:
            return list(pool.map(self.get, targets))

    def body(self, uri: str | None) -> bytes:
        """Of what a playlist names."""
        assert uri is not None
        answer = self.get(uri).answer
        assert answer.status == 200, (uri, answer.status)
        return answer.body


def each(case: Callable[[str], None], tracks: Sequence[str] = TRACKS) -> None:
    """All at the same time, since most of it is waiting."""
    with ThreadPoolExecutor(len(tracks)) as pool:
        list(pool.map(case, tracks))


def wanted(msn: int, part: int | None = None) -> str:
    """The delivery directives."""
    return f"?_HLS_msn={msn}" + ("" if part is None else f"&_HLS_part={part}")


class Follower(threading.Thread):
    """A viewer that keeps every version of one playlist it is given, by blocking reload, until the
    end."""

    def __init__(self, door: Door, track: str) -> None:
        super().__init__(name=f"{door.name} {track}")
        self._address = door.address
        self._path = f"{BASE}{track}.m3u8"
        self._seen = door.record.setdefault(track, [])
        self.left = threading.Event()

    def run(self) -> None:
        host, _, port = self._address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=LIMIT_S)
        query = ""
        while not self.left.is_set():
            connection.request("GET", self._path + query)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                self.left.wait(0.05)  # nothing comes: the stream is silent, or has not begun
                continue
            media = read_media(body.decode())
            self._seen.append(Seen(time.monotonic(), media))
            if media.ended:
                break
            query = wanted(*media.next)
        connection.close()


@dataclass
class Broadcast:
    origin: OriginProcess
    publisher: Publisher
    doors: Mapping[str, Door]
    troubles: list[tuple[float, float]] = field(default_factory=list)  # from, to; monotonic
    in_silence: dict[str, Timed] = field(default_factory=dict)

    def until(self, met: Callable[[list[Seen]], bool], limit_s: float = 60.0) -> None:
        """Wait until `met` holds of what every follower has seen."""
        deadline = time.monotonic() + limit_s
        while not all(met(seen) for door in self.doors.values() for seen in door.record.values()):
            assert time.monotonic() < deadline, f"{met}: not seen in {limit_s} s"
            time.sleep(0.05)

    def fall_silent(self) -> None:
        """Until the first answer at each door that is no playlist; those are kept."""

        def refused(door: Door) -> Timed:
            media = door.playlist("hi").media
            while (timed := door.after("hi", media)).answer.status == 200:
                media = timed.media
            return timed

        began_s = time.monotonic()
        with self.publisher.silent(), ThreadPoolExecutor(len(self.doors)) as pool:
            answers = pool.map(refused, self.doors.values())
            self.in_silence |= dict(zip(self.doors, answers, strict=True))
        over_s = time.monotonic()
        self.until(lambda seen: seen[-1].came_s > over_s)
        self.troubles.append((began_s, time.monotonic()))

    def kill_encoder(self) -> None:
        """In the middle of a segment of every track, and of a part, which is then a short one: it
        is stopped there first."""
        door, began_s = self.doors["origin"], time.monotonic()
        while True:
            door.opened()
            while self.origin.frames_waiting() < FRAMES:
                time.sleep(0.01)
            self.origin.signal_encoder(signal.SIGSTOP)
            opened = all(door.playlist(track).media.open for track in TRACKS)
            if opened and self.origin.frames_waiting() >= FRAMES:
                break
            self.origin.signal_encoder(signal.SIGCONT)
        self.origin.signal_encoder(signal.SIGKILL)
        self.until(restarted)
        self.troubles.append((began_s, time.monotonic()))

    def end(self) -> None:
        self.publisher.end()


def window_is_full(seen: list[Seen]) -> bool:
    return seen[-1].media.first_msn > seen[0].media.first_msn + 1


def restarted(seen: list[Seen]) -> bool:
    """The newest segment is of another encoder."""
    return seen[-1].media.segments[-1].discontinuity > 0


def restart_is_past(seen: list[Seen]) -> bool:
    """All segments are, and the tag between the two has left."""
    first = seen[-1].media.segments[0]
    return first.discontinuity > 0 and not first.tagged


def is_over(seen: list[Seen]) -> bool:
    return seen[-1].media.ended


@contextmanager
def on_air(folder: Path) -> Iterator[Broadcast]:
    """The stream, its doors and their followers; multivariant playlist and first parts are there
    at every door."""
    tags = list(with_words(FlvReader().feed(record(folder).read_bytes())))
    port = free_port()
    with ExitStack() as stack:
        upstream = f"origin.urls=http://127.0.0.1:{port}"
        pushed = stack.enter_context(Edge((upstream, "pop.name=pushed", "http.workers=1")))
        pulling = ("pop.name=pulling", "http.workers=1", "push.listen=")
        pulled = stack.enter_context(Edge((upstream, *pulling)))
        origin = OriginProcess(port, f"http://{pushed.push}", folder)
        stack.callback(origin.stop)
        doors = {
            "push": Door("push", pushed.http),
            "pull": Door("pull", pulled.http),
            "origin": Door("origin", origin.http),
        }
        publisher = Publisher(origin.http, tags)
        publisher.start()
        stack.callback(publisher.end)
        deadline = time.monotonic() + 20
        while {door.get(MASTER).answer.status for door in doors.values()} != {200}:
            assert time.monotonic() < deadline, "no multivariant playlist"
            time.sleep(0.1)
        for follower in [Follower(door, track) for door in doors.values() for track in TRACKS]:
            follower.start()
            stack.callback(follower.join, LIMIT_S)
            stack.callback(follower.left.set)
        broadcast = Broadcast(origin, publisher, doors)
        broadcast.until(bool)
        yield broadcast
