"""origin/tracks.py: one publisher's requests, with a real encoder's tracks, into one FLV stream."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

import pytest

from edgecache.flv import AUDIO, CODED, VIDEO, FlvReader, Tag
from origin import join
from origin.ffmpeg import find
from origin.ingest import Ingest
from origin.ledger import Tally
from origin.publishers import Publishers
from origin.receive import Body, RefusedError
from origin.tracks import Tracks
from origin.tracksession import Limits, Publisher
from tests.looped import eventually, looped

CAM = Publisher("10.0.0.1", "key")
LIMITS = Limits(
    init_s=0.2, stalled_s=0.1, turn_s=0.3, linger_s=0.1, cut_s=0.1,
    join=join.Limits(gather_s=0.05, wait_s=0.3),
)  # fmt: skip
PICTURES, SOUNDS = 30, 95  # of two seconds
CMAF = ("-f", "mp4", "-movflags", "cmaf+frag_keyframe+empty_moov")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Two seconds, each track in a file of its own; `both` has two, `old` counts from its
    beginning."""
    folder = tmp_path_factory.mktemp("tracks")
    inputs = ("-f", "lavfi", "-i", "testsrc2=s=160x90:r=15", "-f", "lavfi", "-i", "sine=r=48000")
    picture = ("-t", "2", "-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "15")
    sound = ("-t", "2", "-c:a", "aac")
    outputs = {
        "video": ("-map", "0:v", *picture, *CMAF),
        "audio": ("-map", "1:a", *sound, *CMAF, "-frag_duration", "500000"),
        "both": ("-map", "0:v", "-map", "1:a", *picture, *sound, *CMAF),
        "old": ("-map", "1:a", *sound, "-f", "mp4", "-movflags", "frag_keyframe+empty_moov"),
    }
    command = [find().path, "-loglevel", "error", *inputs]
    for name, output in outputs.items():
        command += [*output, str(folder / name)]
    subprocess.run(command, check=True, timeout=30, stdin=subprocess.DEVNULL)
    return {name: (folder / name).read_bytes() for name in outputs}


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at : at + size]
        at += size


def segments(data: bytes) -> tuple[bytes, list[bytes]]:
    """(init section, fragments) of a track; what follows them is left out."""
    found = list(boxes(data))
    init = b"".join(box for kind, box in found if kind in (b"ftyp", b"moov"))
    moofs = [at for at, (kind, _) in enumerate(found) if kind == b"moof"]
    return init, [found[at][1] + found[at + 1][1] for at in moofs]


@dataclass
class Upload:
    """A request's body, as it comes."""

    queue: asyncio.Queue[bytes | BaseException] = field(default_factory=asyncio.Queue)
    taken: int = 0

    @classmethod
    def of(cls, data: bytes, cut: int = 1 << 20) -> Upload:
        body = cls()
        body.send(*(data[at : at + cut] for at in range(0, len(data), cut)), b"")
        return body

    def send(self, *pieces: bytes | BaseException) -> None:
        for piece in pieces:
            self.queue.put_nowait(piece)

    def set_exception(self, exc: BaseException) -> None:
        self.send(exc)

    async def iter_any(self) -> AsyncIterator[bytes]:
        while (data := await self.queue.get()) != b"":
            if isinstance(data, BaseException):
                raise data
            self.taken += len(data)
            yield data


class Live:
    """What Tracks knows of Ingest: one stream at a time, and what came of it."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.counts: Counter[str] = Counter()
        self.tally = Tally()
        self.tracks: dict[str, Callable[[], dict[str, str]]] = {}
        self.tags: list[Tag] = []
        self.sessions: list[str] = []  # how each ended
        self.busy = False
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.opens = True
        self.publishers = Publishers(lambda *_: self.opens)
        self.door = Tracks(cast(Ingest, self), self.publishers, limits)

    def check(self, _stream: str) -> None:
        if self.busy:
            raise RefusedError(409, "stream cam is being published already")

    async def serve(self, stream: str, body: Body, *, publisher: str, title: str) -> None:
        self.check(stream)
        assert (publisher, title) == (CAM.address, "")
        self.busy = True
        reader, end = FlvReader(), "whole"
        try:
            async for data in body.iter_any():
                self.tags += reader.feed(data)
                await self.go_on.wait()
        except ConnectionError as error:
            end = str(error)
        finally:
            self.busy = False
            self.sessions.append(end)

    def media(self, kind: int) -> list[Tag]:
        return [tag for tag in self.tags if tag.kind == kind and tag.packet == CODED]

    async def take(self, path: str, body: Upload, by: Publisher = CAM) -> None:
        await self.door.take("cam", path, body, by)

    async def ended(self) -> None:
        await eventually(lambda: self.sessions)
        total = self.tally.total()
        gone = sum(n for name, n in total.items() if name.startswith("joins.dropped."))
        assert total["joins.received"] == total["joins.joined"] + gone
        assert total["joins.waiting"] == 0
        assert self.tracks == {}


def refused(status: int, text: str) -> contextlib.AbstractContextManager[object]:
    return pytest.raises(RefusedError, check=lambda e: e.status == status and text in e.reason)


def whole(live: Live) -> None:
    """All of both tracks has come, in the order of its times."""
    assert len(live.media(VIDEO)) == PICTURES
    assert len(live.media(AUDIO)) == SOUNDS
    times = [tag.timestamp for tag in live.tags if tag.packet == CODED]
    assert times == sorted(times)


@pytest.mark.parametrize("cut", [1, 7, 4096])
def test_a_request_for_each_track_in_any_cut(made: dict[str, bytes], cut: int) -> None:
    @looped
    async def run() -> None:
        live = Live()
        await asyncio.gather(
            live.take("Streams(video.cmfv)", Upload.of(made["video"], cut)),
            live.take("audio.cmfa", Upload.of(made["audio"], cut)),
        )
        await live.ended()
        assert live.sessions == ["whole"]
        whole(live)

    run()


def test_a_request_for_each_segment(made: dict[str, bytes]) -> None:
    """As ffmpeg's DASH muxer does it: a segment may overtake its init section."""

    @looped
    async def run() -> None:
        live = Live()
        sent = []
        for number, track in enumerate(("video", "audio")):
            init, parts = segments(made[track])
            names = [f"chunk-stream{number}-{n + 1:05d}.m4s" for n in range(len(parts))]
            first = asyncio.create_task(live.take(names[0], Upload.of(parts[0])))
            await asyncio.sleep(0)
            await live.take(f"init-stream{number}.m4s", Upload.of(init))
            await first
            sent += list(zip(names[1:], parts[1:], strict=True))
        await live.take("live.mpd", Upload.of(b'<MPD type="dynamic">'))
        for name, part in sent:
            await live.take(name, Upload.of(part))
        await eventually(lambda: len(live.media(VIDEO)) == PICTURES)
        assert live.tracks["cam"]().keys() == {"stream-0", "stream-1"}
        # what was sent again is no news, and the last manifest ends it
        await live.take(sent[-1][0], Upload.of(sent[-1][1]))
        await live.take("live.mpd", Upload.of(b'<MPD type="static">', 3))
        await live.ended()
        whole(live)
        assert live.tally.total()["joins.dropped.again"] > 0

    run()


def test_the_brand_of_a_last_segment_ends_its_track(made: dict[str, bytes]) -> None:
    brand = struct.pack(">I4s4s4x4s", 20, b"styp", b"msdh", b"lmsg")

    @looped
    async def run() -> None:
        live = Live()
        for track in ("video", "audio"):
            init, parts = segments(made[track])
            await live.take(f"{track}/init.mp4", Upload.of(init))
            for number, part in enumerate(parts):
                last = brand if part is parts[-1] else b""
                await live.take(f"{track}/{number}.m4s", Upload.of(last + part, 11))
        await live.ended()
        whole(live)

    run()


def test_what_cannot_be_read_is_told_in_a_line(made: dict[str, bytes]) -> None:
    text = made["audio"].replace(b"mp4a", b"wvtt")

    @looped
    async def run() -> None:
        live = Live()
        init, parts = segments(made["video"])
        await live.take("video.cmfv", Upload.of(b""))  # a source that asks
        with refused(412, "7.m4s: no init section of this track has come"):
            await live.take("v1/7.m4s", Upload.of(parts[0]))
        with refused(415, "tracks: more than one track in a file"):
            await live.take("both.mp4", Upload.of(made["both"]))
        with refused(415, "sample entry b'wvtt', allowed avc1"):
            await live.take("text.cmft", Upload.of(text))
        with refused(400, "bytes, allowed 16777216"):
            await live.take("video.cmfv", Upload.of(init + b"dalgood bye, and more of it"))
        with refused(400, "old.mp4: not readable as a CMAF track: base_offset"):
            await live.take("old.mp4", Upload.of(made["old"]))
        assert live.counts["tracks.dropped.base_offset"] == 1
        assert live.sessions == [], "what is refused ends nothing"
        await live.take("live.m3u8", Upload.of(b"#EXTM3U\n#EXT-X-ENDLIST\n", 9))
        await live.ended()

    run()


def test_harm_does_not_go_far(made: dict[str, bytes]) -> None:
    """Whatever bytes come, a request ends well or in one of our refusals, and a broadcast goes on
    with what is good."""
    chance = random.Random(6)
    init, parts = segments(made["video"])

    @looped
    async def run() -> None:
        live = Live()
        await live.take("video-init.mp4", Upload.of(init))
        told = Counter[int]()
        for number in range(300):
            body = bytearray(parts[0])
            for _ in range(chance.choice((1, 3, 20))):
                body[chance.randrange(200)] = chance.randrange(256)
            try:
                await live.take(f"video-{number}.mp4", Upload.of(bytes(body)))
                told[200] += 1
            except RefusedError as error:
                told[error.status] += 1
        assert told.keys() == {200, 400}
        await live.take("video-300.mp4", Upload.of(parts[1]))
        await eventually(lambda: any(tag.body == last for tag in live.tags))
        assert live.sessions == []
        live.door._sessions["cam"].set_exception(ConnectionResetError("enough"))
        await live.ended()

    last = _last(made["video"])
    run()


def _last(track: bytes) -> bytes:
    """The body of the tag of the last picture."""
    found: list[bytes] = []

    @looped
    async def run() -> None:
        live = Live()
        await live.take("video.cmfv", Upload.of(track))
        await live.ended()
        found.append(live.media(VIDEO)[-1].body)

    run()
    return found[0]


def test_who_sends_from_elsewhere_is_another_publisher(made: dict[str, bytes]) -> None:
    @looped
    async def run() -> None:
        live = Live()
        init, parts = segments(made["video"])
        await live.take("video/init.mp4", Upload.of(init))
        await eventually(lambda: live.busy)
        other = Publisher("10.0.0.2", "key")
        with refused(409, "is being published already"):
            await live.take("video/2.mp4", Upload.of(parts[0]), other)
        with refused(409, "is being published already"):
            live.door.check("cam", other.address)
        live.door.check("cam", CAM.address)
        # a key that is revoked ends it, though no request is under way
        live.opens = False
        live.publishers.look()
        await live.ended()
        assert live.sessions == ["this stream key was revoked"]

    run()


def test_requests_of_one_track_are_read_in_turn(made: dict[str, bytes]) -> None:
    @looped
    async def run() -> None:
        live = Live()
        init, parts = segments(made["video"])
        first = Upload()
        first.send(init, parts[0][:100])
        reading = asyncio.create_task(live.take("video.cmfv", first))
        await eventually(lambda: live.busy)
        # one that goes on keeps its place
        second = asyncio.create_task(live.take("video.cmfv", Upload.of(init)))
        while not second.done():
            first.send(b"".join(box for _, box in boxes(struct.pack(">I4s", 8, b"free"))))
            await asyncio.sleep(0.02)
        with refused(409, "video is being sent by another request"):
            await second
        # one that stands still gives way
        await live.take("video.cmfv", Upload.of(made["video"]))
        with refused(410, "the next request took its place"):
            await reading
        await live.ended()
        assert len(live.media(VIDEO)) == PICTURES

    run()


def test_readers_wait_while_too_much_does(made: dict[str, bytes]) -> None:
    @looped
    async def run() -> None:
        live = Live(Limits(waiting_bytes=100, join=join.Limits(gather_s=0.05, wait_s=60)))
        live.go_on.clear()
        init, parts = segments(made["audio"])
        body = Upload.of(init + b"".join(parts), 500)
        reading = asyncio.create_task(live.take("audio.cmfa", body))
        await eventually(lambda: live.tags)
        await asyncio.sleep(0.05)  # enough to read all of it
        assert body.taken < len(init) + sum(map(len, parts[:-1]))
        live.go_on.set()
        await reading
        assert body.taken == len(init) + sum(map(len, parts))

    run()


def test_a_publisher_that_is_cut_has_gone(made: dict[str, bytes]) -> None:
    @looped
    async def run() -> None:
        live = Live()
        init, parts = segments(made["video"])
        body = Upload()
        body.send(init + parts[0], parts[1][:100], ConnectionResetError("cut"))
        await live.take("video.cmfv", body)
        await live.ended()
        assert live.sessions == ["whole"]
        assert live.counts["tracks.cut"] == 1
        assert 0 < len(live.media(VIDEO)) < PICTURES

    run()
