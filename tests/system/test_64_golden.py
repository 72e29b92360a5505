"""The golden list: of one broadcast with faults on every wire, each viewer has every segment that
the packager made, byte for byte, and nothing that it did not make.

A real encoder's bytes through the real packager, pushed and pulled by a real origin and POP.
Between them, and between the POP and its viewers, stand relays that cut, reset, corrupt and stall.
"""

from __future__ import annotations

import asyncio
import http.client
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import imageio_ffmpeg
import pytest
import xxhash

from bench.faultrelay import Fault, Relay
from origin.model import PartObject, PlaylistVersion, Publication
from origin.server import Origin
from tests.encoded import encode
from tests.looped import looped
from tests.running import Answer, Edge, ask
from tests.serving_origin import publish, serving
from tests.sockets import free_port
from tests.unit.test_presentation import WALL, presentation

pytestmark = pytest.mark.timeout(90)

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
TRACKS = ("180p", "90p", "audio")
BROADCAST_S = 2.5  # 10.5 s of media, four times as fast
PATIENCE_S = 15.0
TAGGED = re.compile(r'#EXT-X-(?:MAP|PART):.*?URI="([^"]+)"')
HINTED = re.compile(r'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="[^"]*?/(\d+)\.(\d+)\.m4s"')


def digest(body: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(body)


@dataclass
class Golden:
    """What was made: path -> digest, of objects; of playlists all that there ever were."""

    objects: dict[str, str] = field(default_factory=dict)
    segments: set[str] = field(default_factory=set)
    texts: set[tuple[str, str]] = field(default_factory=set)

    def take(self, publications: Iterable[Publication]) -> None:
        for made in publications:
            if isinstance(made, PlaylistVersion):
                self.texts.add((made.path, digest(made.full)))
                continue
            self.objects[made.path] = made.digest
            if isinstance(made, PartObject) and made.segment_digest is not None:
                self.objects[made.segment_path] = made.segment_digest
                self.segments.add(made.segment_path)


class Viewer:
    """Plays one track to its end: every part and segment that a playlist names. What breaks is
    asked for again, as players do."""

    def __init__(self, door: str, track: str) -> None:
        self.path = f"/live/s/{track}.m3u8"
        self._door = door
        self.received: dict[str, str] = {}
        self.texts: set[tuple[str, str]] = set()
        self.retries = 0

    def fetch(self, path: str) -> Answer:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer = ask(self._door, "GET", path, {})
                if answer.status == 200:
                    return answer
            except (OSError, http.client.HTTPException):
                pass
            self.retries += 1
            assert time.monotonic() < deadline, f"{path} never came"
            time.sleep(0.02)

    def play(self) -> None:
        query = ""
        while True:
            body = self.fetch(self.path + query).body
            self.texts.add((self.path, digest(body)))
            text = body.decode()
            names = TAGGED.findall(text)
            names += [line for line in text.splitlines() if line and line[0] != "#"]
            for path in (f"/live/s/{name}" for name in names):
                if path not in self.received:
                    self.received[path] = digest(self.fetch(path).body)
            if "#EXT-X-ENDLIST" in text:
                return
            hint = HINTED.search(text)
            query = f"?_HLS_msn={hint[1]}&_HLS_part={hint[2]}" if hint else ""


async def broadcast(origin: Origin, golden: Golden) -> None:
    show = presentation()
    start = show.begin_generation(wall_ns=WALL)
    chunks = encode(FFMPEG, start.offset_s)
    for track, data in chunks:
        made = show.feed(track, data, WALL)
        golden.take(made)
        publish(origin, made, "s")
        await asyncio.sleep(BROADCAST_S / len(chunks))
    made = [*show.end_generation(), *show.end()]
    golden.take(made)
    publish(origin, made, "s")


async def harm(push: Relay, door: Relay) -> None:
    """One fault after the other on the way of the pushes, the other one all the time."""
    door.set(down=Fault(after=20_000, then="reset", times=8, piece=1400))
    for fault in (
        Fault(after=10_000, then="reset", times=2),
        Fault(after=20_000, then="corrupt", times=2, piece=100),
        Fault(after=20_000, then="stall", times=1),
        Fault(after=5_000, then="half_close", times=1),
    ):
        push.set(up=fault)
        await asyncio.sleep(BROADCAST_S / 5)
    push.set()


def play(door: Relay) -> asyncio.Future[list[Viewer]]:
    """Three viewers of each track, to the end."""
    viewers = [Viewer(door.address, track) for track in TRACKS * 3]

    def run() -> list[Viewer]:
        with ThreadPoolExecutor(len(viewers)) as pool:
            list(pool.map(Viewer.play, viewers))
        return viewers

    return asyncio.get_running_loop().run_in_executor(None, run)


@looped
async def watched(measured: Callable[..., None]) -> None:
    golden, port = Golden(), free_port()
    async with serving() as (origin, _):
        with Relay(f"127.0.0.1:{origin.port}") as pull, Relay(f"127.0.0.1:{port}") as push:
            options = (
                "pop.name=pop-a", "http.workers=2", "interest.lease=1s", "push.gap=300ms",
                f"origin.urls={pull.url}", f"push.listen=127.0.0.1:{port}",
                f"push.advertise={push.url}", "origin.breaker_failures=1000",
            )  # fmt: skip
            with Edge(options) as edge, Relay(edge.http) as door:
                live = play(door)
                await asyncio.gather(broadcast(origin, golden), harm(push, door))
                viewers = await live
                # What was pushed is forgotten, so that who comes late has all of it pulled.
                await asyncio.to_thread(ask, edge.admin, "POST", "/purge?prefix=/live/", {})
                pull.set(down=Fault(after=2_000, then="cut", times=4))
                viewers += await play(door)
                await asyncio.to_thread(edge.balanced)
                counts = await asyncio.to_thread(edge.metrics)
        pushed = sum_of(origin)
    check(golden, viewers)
    assert {"reset", "corrupt", "stall"} <= push.struck.keys()
    assert door.struck["reset"] == 8
    assert pull.struck["cut"] == 4
    accepted = sum(n for name, n in counts.items() if name.startswith("edge_push_accepted_total"))
    assert 0 < pushed["acknowledged"] <= accepted
    outcomes = ("acknowledged", "refused", "dropped", "superseded", "lost", "pending")
    assert pushed["enqueued"] == sum(pushed[outcome] for outcome in outcomes)
    measured(
        made=len(golden.objects), received=sum(len(v.received) for v in viewers),
        retries=sum(v.retries for v in viewers), push=dict(push.struck),
        pull=dict(pull.struck), viewers=dict(door.struck),
        pushed={name: pushed[name] for name in ("enqueued", *outcomes)},
        at_the_origin=sum(n for name, n in counts.items() if "upstream_requests" in name),
    )  # fmt: skip


def sum_of(origin: Origin) -> dict[str, int]:
    """The origin's ledger of its pushes."""
    total: dict[str, int] = {}
    for pusher in origin._subscriptions.pushers():
        for name, n in (pusher.counters | pusher.gauges()).items():
            total[name] = total.get(name, 0) + n
    outcomes = ("enqueued", "acknowledged", "refused", "dropped", "superseded", "lost", "pending")
    return {name: total.get(name, 0) for name in outcomes}


def check(golden: Golden, viewers: list[Viewer]) -> None:
    assert len(golden.segments) >= 3 * 5
    for viewer in viewers:
        track = viewer.path.rpartition("/")[2].removesuffix(".m3u8")
        wanted = {path for path in golden.segments if f"/{track}/" in path}
        foreign = viewer.received.keys() - golden.objects.keys()
        corrupt = {p for p, was in viewer.received.items() if golden.objects.get(p) != was}
        assert wanted - viewer.received.keys() == set(), "lost"
        assert foreign == set()
        assert corrupt == set()
        assert viewer.texts <= golden.texts, "a playlist that nobody made"


def test_every_viewer_has_what_was_made(measured: Callable[..., None]) -> None:
    encode(FFMPEG, presentation().begin_generation(wall_ns=WALL).offset_s)  # kept for it
    watched(measured)
