"""A scripted low-latency HLS origin: a stream that needs no encoder, and faults on demand.

Everything follows from the clock: which parts exist, what playlists say, what a name's bytes are.
So it holds no state but counts. Laws: plain HTTP/1.1 on loopback, one thread of its own that ends
with the block; blocking reloads wait no longer than three target durations (RFC 8216bis 6.2.5.2).
Knows nothing of the swarm, which is tested and calibrated against it. The bench's stub origin
serves the same show to caches (`answer`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import parse_qs

import uvloop
import xxhash

HOST: Final = "127.0.0.1"
_FIRST_MSN: Final = 1000
_START_S: Final = 10.0
_TIMER_S: Final = 0.001
_OBJECT: Final = re.compile(r"/show/(\w+)/(\d+)(?:\.(\d+))?\.m4s")

Fault = Literal["", "404", "503", "corrupt", "cut", "silent", "stale", "chunked", "pieces", "close"]
# (path with query, how many requests there were for that path before) -> what goes wrong
Script = Callable[[str, int], Fault]


def no_fault(_path: str, _before: int) -> Fault:
    return ""


@dataclass(frozen=True, kw_only=True)
class Show:
    """`history_s`: how much there is at the beginning. `pause`: (media second since the beginning,
    length): all that ends later appears later by that much. `part_bytes` is of the first track,
    `audio_bytes` of the others; 0: the same."""

    part_s: float = 0.2
    parts: int = 5
    part_bytes: int = 2000
    audio_bytes: int = 0
    window: int = 6
    tracks: tuple[str, ...] = ("video",)
    history_s: float = 6.0
    pause: tuple[float, float] = (1e9, 0.0)
    length_s: float = 1e9
    etags: bool = True

    @property
    def segment_s(self) -> float:
        return self.part_s * self.parts

    def size(self, track: str) -> int:
        """Of a part, in bytes."""
        return self.part_bytes if track == self.tracks[0] else self.audio_bytes or self.part_bytes


@dataclass
class Origin:
    """`asked`: requests by path, without the query. `late`: blocking reloads that gave up."""

    show: Show
    script: Script = no_fault
    base: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    late: int = 0
    began: float = 0.0

    @property
    def url(self) -> str:
        return f"{self.base}/show/master.m3u8"

    def made(self, now: float) -> int:
        """Parts that exist at that time of the loop's clock."""
        elapsed, (at, length) = now - self.began, self.show.pause
        if elapsed > at:
            elapsed = max(at, elapsed - length)
        media_s = min(self.show.history_s + elapsed, self.show.length_s)
        return int(media_s / self.show.part_s + 1e-6)

    def appears(self, part: int) -> float:
        """When that part (counted from the first) exists."""
        elapsed, (at, length) = (part + 1) * self.show.part_s - self.show.history_s, self.show.pause
        return self.began + elapsed + (length if elapsed > at else 0.0)

    def multivariant(self) -> str:
        video, *audio = self.show.tracks
        media = '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",DEFAULT=YES'
        group = ',AUDIO="a"' if audio else ""
        lines = [
            "#EXTM3U",
            *(f'{media},NAME="{name}",URI="{name}.m3u8"' for name in audio),
            f"#EXT-X-STREAM-INF:BANDWIDTH=100000{group}",
            f"{video}.m3u8",
            "",
        ]
        return "\n".join(lines)

    def media(self, track: str, made: int, *, skip: bool) -> str:
        show = self.show
        complete, listed = divmod(made, show.parts)
        first = max(0, complete - show.window)
        skipped = max(0, complete - first - 3) if skip else 0
        lines = [
            "#EXTM3U",
            f"#EXT-X-TARGETDURATION:{max(1, round(show.segment_s))}",
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=6"
            f",PART-HOLD-BACK={3 * show.part_s:.3f}",
            f"#EXT-X-PART-INF:PART-TARGET={show.part_s:.3f}",
            f"#EXT-X-MEDIA-SEQUENCE:{_FIRST_MSN + first}",
            *([f"#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}"] if skipped else []),
            f'#EXT-X-MAP:URI="./{track}/init.mp4"',
        ]
        for index in range(first + skipped, complete + 1):
            lines += self._segment(track, index, complete, listed)
        ended = made >= int(show.length_s / show.part_s + 1e-6)
        return "\n".join([*lines, *(["#EXT-X-ENDLIST"] if ended else []), ""])

    def _segment(self, track: str, index: int, complete: int, listed: int) -> Iterator[str]:
        show, msn = self.show, _FIRST_MSN + index
        if index >= complete - 3:
            for part in range(show.parts if index < complete else listed):
                flag = ",INDEPENDENT=YES" if part == 0 else ""
                uri = f'"../show/{track}/{msn}.{part}.m4s"'
                yield f"#EXT-X-PART:DURATION={show.part_s:.5f},URI={uri}{flag}"
        if index < complete:
            yield f"#EXTINF:{show.segment_s:.5f},"
            yield f"/show/{track}/{msn}.m4s"

    def body(self, path: str, now: float) -> bytes | None:
        """Of an object; None: there is none yet, or never."""
        if path.endswith("/init.mp4"):
            return _noise(path, 700)
        found = _OBJECT.fullmatch(path)
        if found is None or found[1] not in self.show.tracks:
            return None
        first = (int(found[2]) - _FIRST_MSN) * self.show.parts
        parts = [first + int(found[3])] if found[3] else range(first, first + self.show.parts)
        if max(parts) >= self.made(now):
            return None
        size = self.show.size(found[1])
        return b"".join(_noise(f"{found[1]}/{part}", size) for part in parts)


def _noise(name: str, size: int) -> bytes:
    return random.Random(name).randbytes(size)


@contextlib.contextmanager
def serving(show: Show, script: Script = no_fault) -> Iterator[Origin]:
    """An origin on a free port of loopback, while the block lasts."""
    origin = Origin(show, script)
    ready: threading.Event = threading.Event()
    stop: list[Callable[[], object]] = []

    async def main() -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        stop.append(lambda: loop.call_soon_threadsafe(over.set))
        tasks: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            try:
                await _converse(origin, reader, writer)
            except asyncio.CancelledError:
                pass  # the block has ended: nobody waits for this task
            finally:
                tasks.discard(task)
                writer.close()

        server = await asyncio.start_server(connected, HOST, 0, backlog=4096)
        origin.base = f"http://{HOST}:{server.sockets[0].getsockname()[1]}"
        origin.began = loop.time()
        ready.set()
        await over.wait()
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    thread = threading.Thread(target=lambda: uvloop.run(main()), name="origin")
    thread.start()
    try:
        if not ready.wait(_START_S):
            raise RuntimeError("the scripted origin did not start")
        yield origin
    finally:
        for end in stop:
            end()
        thread.join(_START_S)


async def _converse(
    origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            target = head.split(b" ", 2)[1].decode()
            path, _, query = target.partition("?")
            fault = origin.script(target, origin.seen[path])
            origin.seen[path] += 1
            origin.asked[path] += 1
            if not await _answer(origin, writer, path, query, fault):
                return


async def _answer(
    origin: Origin, writer: asyncio.StreamWriter, path: str, query: str, fault: Fault
) -> bool:
    """Whether the connection goes on."""
    if fault == "silent":
        await asyncio.sleep(_START_S)
        return False
    if fault in ("404", "503"):
        writer.write(f"HTTP/1.1 {fault} No\r\nContent-Length: 2\r\n\r\nno".encode())
        return True
    body = await answer(origin, path, query, stale=fault == "stale")
    if body is None:
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        return True
    etag = f'ETag: "{xxhash.xxh3_128_hexdigest(body)}"\r\n' if origin.show.etags else ""
    if fault == "corrupt":
        body = body[:-1] + bytes([body[-1] ^ 1])
    head = f"HTTP/1.1 200 OK\r\n{etag}Content-Type: x/y\r\n"
    return await _write(writer, head, body, fault)


async def _write(writer: asyncio.StreamWriter, head: str, body: bytes, fault: Fault) -> bool:
    if fault == "chunked":
        half = len(body) // 2
        chunks = b"".join(b"%x;x=y\r\n%b\r\n" % (len(c), c) for c in (body[:half], body[half:]))
        writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks)
        await asyncio.sleep(0.005)
        writer.write(b"0\r\nTrailer: x\r\n\r\n")
        return True
    ends = "Connection: close\r\n" if fault == "close" else ""
    data = f"{head}{ends}Content-Length: {len(body)}\r\n\r\n".encode() + body
    if fault == "cut":
        writer.write(data[:-1])
        return False
    if fault == "pieces":
        for at in range(0, 120, 40):
            writer.write(data[at : at + 40])
            await asyncio.sleep(0.002)
        data = data[120:]
    writer.write(data)
    await writer.drain()
    return fault != "close"


async def answer(origin: Origin, path: str, query: str, *, stale: bool = False) -> bytes | None:
    """The body of that name, when it is time; None: there is none."""
    loop = asyncio.get_running_loop()
    if path == "/show/master.m3u8":
        return origin.multivariant().encode()
    if not path.endswith(".m3u8"):
        return origin.body(path, loop.time())
    track = path.removeprefix("/show/").removesuffix(".m3u8")
    wanted = parse_qs(query)
    if "_HLS_msn" in wanted and not stale:
        msn, part = int(wanted["_HLS_msn"][0]), int(wanted.get("_HLS_part", ["0"])[0])
        await _blocked(origin, (msn - _FIRST_MSN) * origin.show.parts + part)
    made = origin.made(loop.time())
    return origin.media(track, made, skip="_HLS_skip" in wanted).encode()


async def _blocked(origin: Origin, part: int) -> None:
    """Until that part exists, or the stream has ended without it."""
    loop = asyncio.get_running_loop()
    last = int(origin.show.length_s / origin.show.part_s + 1e-6) - 1
    wait_s = origin.appears(min(part, last)) - loop.time()
    limit_s = 3 * max(1, round(origin.show.segment_s))
    origin.late += wait_s > limit_s
    if wait_s > 0:
        # timers of whole milliseconds ring up to one early: the part would not be listed yet
        await asyncio.sleep(min(wait_s, limit_s) + _TIMER_S)
