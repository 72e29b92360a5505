"""A whole broadcast, as `make demo` runs it: RTMP through POP A, encoded once, pushed, watched at
POP B by classic and low-latency clients. Figures are printed at the end of the run."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import pytest

from bench.demo import demo
from bench.ledger import LAWS, ORIGIN_LAWS, broken, read
from origin.ffmpeg import find
from tests.looped import looped

CLASSIC_S: Final = 20  # tests/browser/classic.py watches for more than a minute
VIEWERS: Final = 200
VERSIONS: Final = 24

pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True)
class Broadcast:
    facts: dict[str, Any]
    client: subprocess.Popen[bytes]  # a classic one, from the beginning
    found: Path  # what it gets

    @property
    def master(self) -> str:
        """At POP B; the publisher is at POP A."""
        found: str = self.facts["playlists"][1]
        return found

    def metrics(self) -> dict[str, float]:
        """Of POP B, by sample name with labels."""
        return samples(self.facts["metrics"][1])


def fetch(url: str, method: str = "GET") -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, method=method), timeout=15
        ) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def samples(url: str) -> dict[str, float]:
    text = fetch(url)[1].decode()
    rows = (line.rpartition(" ") for line in text.splitlines() if line[:1] != "#")
    return {name: float(value) for name, _, value in rows}


@pytest.fixture(scope="module")
def broadcast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broadcast]:
    home = tmp_path_factory.mktemp("demo")
    with (
        demo({}, home=home) as facts,
        classic(facts["playlists"][1], CLASSIC_S, home / "classic") as client,
    ):
        yield Broadcast(facts, client, home / "classic")


def media_playlists(broadcast: Broadcast) -> dict[str, str]:
    """URL -> text of every media playlist of the multivariant one."""
    status, body = fetch(broadcast.master)
    assert status == 200
    text = body.decode()
    names = [line for line in text.splitlines() if line and line[0] != "#"]
    names += re.findall(r'#EXT-X-MEDIA:.*URI="([^"]+)"', text)
    urls = [urljoin(broadcast.master, name) for name in names]
    return {url: fetch(url)[1].decode() for url in urls}


def listed(url: str, text: str) -> list[str]:
    """Everything the playlist says is there; a preload hint is not yet."""
    names = [line for line in text.splitlines() if line and line[0] != "#"]
    tags = [line for line in text.splitlines() if line.startswith(("#EXT-X-MAP", "#EXT-X-PART:"))]
    names += [found for tag in tags for found in re.findall(r'URI="([^"]+)"', tag)]
    return [urljoin(url, name) for name in names]


@contextmanager
def classic(master: str, seconds: int, found: Path) -> Iterator[subprocess.Popen[bytes]]:
    """ffmpeg, which knows no low latency, writes what it gets of so many seconds of picture and
    sound: whole segments from the same playlists."""
    command = [str(find().path), "-hide_banner", "-loglevel", "warning", "-nostdin", "-i", master]
    command += ["-t", str(seconds), "-map", "0:v:0", "-map", "0:a:0", "-c", "copy"]
    process = subprocess.Popen([*command, "-f", "framecrc", str(found)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def continuous(found: Path, seconds: int) -> Iterator[dict[str, object]]:
    """Each frame begins where the one before ended."""
    text = found.read_text()
    for stream in (0, 1):
        rows = [line.split(",") for line in text.splitlines() if line[0] == str(stream)]
        times = [int(row[1]) for row in rows]
        steps = {later - earlier for earlier, later in pairwise(times)}
        tick = re.search(rf"#tb {stream}: 1/(\d+)", text)
        assert tick
        took = (times[-1] - times[0]) / int(tick[1])
        assert took > seconds - 2
        assert len(steps) == 1, f"stream {stream}: steps {sorted(steps)}"
        yield {"stream": stream, "packets": len(times), "seconds": round(took, 2), "steps": steps}


def test_a_publisher_over_srt_is_watched_at_another_pop(
    broadcast: Broadcast, tmp_path: Path
) -> None:
    """As OBS sends it: B-frames, a key frame every 2 s. In through POP A, seen at POP B."""
    command = [str(find().path), "-hide_banner", "-loglevel", "error", "-nostdin", "-re"]
    command += ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=30", "-f", "lavfi", "-i", "sine=440"]
    command += ["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "60"]
    command += ["-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "160k", "-f", "mpegts"]
    publisher = subprocess.Popen([*command, broadcast.facts["srt"]])
    try:
        master = broadcast.facts["own"]["playlists"][1]
        deadline = time.monotonic() + 30
        while fetch(master)[0] != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with classic(master, 6, tmp_path / "found") as client:
            assert client.wait(60) == 0
        assert len(list(continuous(tmp_path / "found", 6))) == 2
        assert publisher.poll() is None
    finally:
        publisher.kill()
        publisher.wait()


class Viewer:
    """One kept-alive connection that reloads a playlist by blocking, and fetches what is new."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.address = urlsplit(url)

    async def play(self, versions: int) -> None:
        host, port = self.address.hostname, self.address.port
        self.reader, self.writer = await asyncio.open_connection(host, port)
        text = (await self.get(self.address.path)).decode()
        for _ in range(versions):
            hint = re.search(r'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="([^"]+)"', text)
            assert hint
            number = re.search(r"/(\d+)\.(\d+)\.m4s$", hint[1])
            assert number
            wanted = f"?_HLS_msn={number[1]}&_HLS_part={number[2]}"
            text = (await self.get(self.address.path + wanted)).decode()
            assert hint[1] in text
            await self.get(urlsplit(urljoin(self.url, hint[1])).path)
        self.writer.close()

    async def get(self, target: str) -> bytes:
        self.writer.write(f"GET {target} HTTP/1.1\r\nHost: pop\r\n\r\n".encode())
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length
        return await self.reader.readexactly(int(length[1]))


def spread(before: dict[str, float], after: dict[str, float], name: str) -> dict[float, float]:
    """Upper bound in seconds -> share of the observations at or below it."""
    bounds = {}
    for sample in after:
        found = re.match(rf'{name}_bucket{{le="([^"]+)"}}', sample)
        if found:
            bounds[float(found[1])] = after[sample] - before.get(sample, 0)
    total = bounds[float("inf")]
    assert total, f"no observations of {name}"
    return {bound: count / total for bound, count in sorted(bounds.items())}


@looped
async def watched(url: str) -> None:
    await asyncio.gather(*(Viewer(url).play(VERSIONS) for _ in range(VIEWERS)))


def test_low_latency_viewers_cost_the_origin_nothing(
    broadcast: Broadcast, measured: Callable[..., None]
) -> None:
    url = next(url for url in media_playlists(broadcast) if "360p" in url)
    before = broadcast.metrics()
    started = time.monotonic()
    watched(url)
    seconds = time.monotonic() - started
    after = broadcast.metrics()
    asked = after["edge_requests_total"] - before["edge_requests_total"]
    fills = sum(after[name] - before.get(name, 0) for name in after if "upstream_requests" in name)
    assert asked >= VIEWERS * (2 * VERSIONS + 1)
    assert fills == 0, "a viewer's request reached the origin"
    shares = spread(before, after, "edge_wake_lag_seconds")
    p50, p99 = (min(b for b, share in shares.items() if share >= q) for q in (0.5, 0.99))
    measured(viewers=VIEWERS, requests=asked, seconds=round(seconds, 1), at_the_origin=fills)
    measured(publish_to_first_byte_p50_at_most_s=p50, p99_at_most_s=p99, shares=shares)
    assert p99 < 0.25


def test_the_ledger_is_told_at_every_door(
    broadcast: Broadcast, measured: Callable[..., None]
) -> None:
    """Histograms at origin and POP, the newest parts in the state, and with each answer."""
    url, text = next(each for each in media_playlists(broadcast).items() if "360p" in each[0])
    part = [uri for uri in listed(url, text) if re.search(r"/\d+\.\d+\.m4s$", uri)][-1]
    for asked in (url, part):
        with urllib.request.urlopen(asked, timeout=15) as answer:
            told, allowed = answer.headers["Server-Timing"], answer.headers["Timing-Allow-Origin"]
        names = re.findall(r"([a-z]+);dur=\d+\.\d", told)
        assert names == ["capture", "encode", "package", "push"], told
        assert allowed == "*"
    _, pop_b, origin = (samples(page) for page in broadcast.facts["metrics"])
    means = {}
    for hop in names:
        count = pop_b[f'edge_part_hop_seconds_count{{hop="{hop}"}}']
        means[hop] = pop_b[f'edge_part_hop_seconds_sum{{hop="{hop}"}}'] / count
    assert 0 < means["package"] < means["encode"] < 0.5
    assert 0 < means["push"] < 0.2
    for hop in ("capture", "encode", "package"):
        for track in ("360p", "180p", "audio"):
            assert origin[f'origin_part_hop_seconds_count{{hop="{hop}",track="{track}"}}'] > 5
    for hop in ("queue", "push"):
        assert origin[f'origin_push_part_seconds_count{{hop="{hop}",pop="pop-b"}}'] > 5
    state = json.loads(fetch(broadcast.facts["admin"]["origin"] + "/api/streams")[1])
    stream = next(row for row in state["streams"] if row["name"] == "demo")
    assert stream["latency_ms"]["encode"]["p50"] > 1
    assert state["pops"][1]["parts_ms"].keys() == {"queue", "push"}
    measured(**{hop: f"{1000 * seconds:.1f} ms" for hop, seconds in means.items()})


def test_every_ledger_closes(broadcast: Broadcast) -> None:
    """Both POPs and the origin, while the broadcast goes on: at some instant soon all of it adds
    up, and what was lost would be missing at every instant."""
    for url, laws in zip(broadcast.facts["metrics"], (LAWS, LAWS, ORIGIN_LAWS), strict=True):
        deadline = time.monotonic() + 15
        while off := broken(read(fetch(url)[1].decode()), laws):
            assert time.monotonic() < deadline, (url, off)
            time.sleep(0.1)


def test_a_classic_client_saw_continuous_timestamps(
    broadcast: Broadcast, measured: Callable[..., None]
) -> None:
    """It has watched since the beginning."""
    assert broadcast.client.wait(60) == 0
    for found in continuous(broadcast.found, CLASSIC_S):
        measured(**found)


def test_every_listed_uri_is_there(broadcast: Broadcast) -> None:
    """Last, when the window is full."""
    deadline = time.monotonic() + 30
    while True:
        uris = {url: listed(url, text) for url, text in media_playlists(broadcast).items()}
        if min(map(len, uris.values())) > 30:
            break
        assert time.monotonic() < deadline, uris
        time.sleep(0.2)
    assert len(uris) == 3
    for named in uris.values():
        answers = {uri: fetch(uri, "HEAD")[0] for uri in named}
        assert set(answers.values()) == {200}, answers
