"""The POP that a broadcaster publishes through is upgraded, or killed, in mid-broadcast."""

from __future__ import annotations

import asyncio
import itertools
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

from origin import ffmpeg, testpattern
from tests.running import KID, LIMIT_S, SECRET
from tests.serving_origin import ROOT, listening, run
from tests.sockets import free_port
from tests.supervised import Supervised

pytestmark = pytest.mark.timeout(120)

FPS = 30
SECONDS = 9.0
SETTINGS = """
http = {{ listen = "127.0.0.1:{port}", drain = "1s" }}
admin.listen = ""
data.dir = "{home}"
keys.{kid}.secret = "{secret}"
live.segment = "1s"
live.reconnect = "4s"
ladder.v = {{ width = 160, height = 90, bitrate = "100kbps", preset = "ultrafast" }}
"""


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Callable[[str], str]]]:
    """(a data centre's address, what makes a stream and its key)."""
    home, port = tmp_path_factory.mktemp("origin"), free_port()
    config = home / "o.toml"
    config.write_text(SETTINGS.format(port=port, home=home, kid=KID, secret=SECRET))
    command = [sys.executable, "-m", "origin", "serve", "-c", str(config)]

    def made(stream: str) -> str:
        return f"{run('keys', 'create', stream, '-c', str(config)).stdout.strip()}"

    keys = {stream: made(stream) for stream in ("upgraded", "killed")}
    with subprocess.Popen(command, cwd=ROOT) as process:
        asyncio.run(listening(port))
        yield f"http://127.0.0.1:{port}", keys.__getitem__
        process.terminate()


@pytest.fixture
def pop(tmp_path: Path, centre: tuple[str, Callable[[str], str]]) -> Iterator[Supervised]:
    options = [f"origin.urls={centre[0]}", "http.workers=1", "http.drain=5s"]
    options += ["ingest.listen=127.0.0.1:0", f"takeover.socket={tmp_path}/socket"]
    with Supervised(options) as edge:
        yield edge
        assert edge.stop() == 0


def publishing(pop: Supervised, key: str, seconds: float) -> subprocess.Popen[bytes]:
    door = pop.ready["ingest"]
    pattern = testpattern.Pattern(width=320, height=180, bitrate=300_000, seconds=seconds)
    command = testpattern.argv(ffmpeg.find(), f"rtmp://{door}/live/{key}", pattern)
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def playlist(pop: Supervised, stream: str) -> str:
    answer = pop.get(f"/live/{stream}/v.m3u8")
    return answer.body.decode() if answer.status == 200 else ""


def until(pop: Supervised, stream: str, met: Callable[[str], bool]) -> str:
    deadline = time.monotonic() + 40
    while not met(text := playlist(pop, stream)):
        assert time.monotonic() < deadline, text
        time.sleep(0.1)
    return text


def frames(pop: Supervised, stream: str) -> int:
    """Video frames that a player of the whole playlist gets."""
    url = f"http://{pop.http}/live/{stream}/v.m3u8"
    command = [ffmpeg.find().path, "-v", "error", "-nostdin", "-i", url, "-map", "0:v:0"]
    command += ["-c", "copy", "-f", "framecrc", "-"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    return sum(not line.startswith("#") for line in shown.splitlines())


def numbers(text: str) -> list[int]:
    return [int(msn) for msn in re.findall(r"^[0-9a-z]+/v/(\d+)\.m4s$", text, re.MULTILINE)]


def test_an_upgrade_does_not_cut_the_publisher(
    pop: Supervised, centre: tuple[str, Callable[[str], str]]
) -> None:
    """It stays with the old process, whoever comes goes to the new one; both know of each other
    through the data centre."""
    key = centre[1]("upgraded")
    with publishing(pop, key, SECONDS) as publisher:
        until(pop, "upgraded", lambda text: "#EXTINF" in text)
        pop.process.send_signal(signal.SIGUSR2)
        pop.logged("serving")
        assert pop.logged("handed over")["publishers"] == 1
        with publishing(pop, key, 1.0) as second:
            _, why = second.communicate(timeout=LIMIT_S)
        assert second.returncode
        assert b"this stream is being published already" in why
        assert publisher.wait(40) == 0
    pop.logged("stopped")  # the old process, now that its publisher has ended
    text = until(pop, "upgraded", lambda text: "#EXT-X-ENDLIST" in text)
    seen = frames(pop, "upgraded")
    print(f"\nmeasured: upgrade in mid-broadcast, {SECONDS * FPS - seen:.0f} frames lost of {seen}")
    assert seen == SECONDS * FPS
    assert "#EXT-X-DISCONTINUITY\n" not in text


def test_a_kill_costs_the_publisher_a_reconnect(
    pop: Supervised, centre: tuple[str, Callable[[str], str]]
) -> None:
    """One that comes back by itself goes on in the same playlist, behind a discontinuity."""
    key, over = centre[1]("killed"), threading.Event()

    def goes_on() -> None:
        """As OBS does, and whoever runs ffmpeg in a loop."""
        while not over.is_set():
            with publishing(pop, key, 60.0) as publisher:
                while publisher.poll() is None and not over.wait(0.02):
                    pass
                publisher.terminate()

    wrapper = threading.Thread(target=goes_on)
    wrapper.start()
    try:
        before = until(pop, "killed", lambda text: text.count("#EXTINF") > 2)
        pop.kill()
        after = until(pop, "killed", lambda text: "#EXT-X-DISCONTINUITY\n" in text)
        more = after.count("#EXTINF") + 2
        until(pop, "killed", lambda text: text.count("#EXTINF") > more)
    finally:
        over.set()
        wrapper.join(LIMIT_S)
    text = until(pop, "killed", lambda text: "#EXT-X-ENDLIST" in text)
    assert text.count("#EXT-X-DISCONTINUITY\n") == 1
    assert numbers(text)[: len(numbers(before))] == numbers(before)
    assert all(after - before == 1 for before, after in itertools.pairwise(numbers(text)))
    print(f"\nmeasured: kill -9 in mid-broadcast, {lost_s(text):.2f} s of video lost")
    assert lost_s(text) < 15


def lost_s(text: str) -> float:
    """Of the programme, between the first segment and the last."""
    dates = re.findall(r"#EXT-X-PROGRAM-DATE-TIME:(\S+)", text)
    first, last = (datetime.fromisoformat(date).timestamp() for date in (dates[0], dates[-1]))
    lengths = [float(length) for length in re.findall(r"#EXTINF:([\d.]+)", text)]
    return last - first - sum(lengths[:-1])
