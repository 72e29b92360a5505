"""A data centre is killed while two broadcasts over HTTP are on, and another one goes on with both:
MPEG-TS, and fragments whose offsets count from the beginning of the body."""

from __future__ import annotations

import asyncio
import functools
import itertools
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from origin import testpattern
from origin.ffmpeg import find
from origin.testpattern import Pattern
from tests.looped import looped
from tests.running import Edge
from tests.serving_origin import child, run
from tests.sockets import free_port
from tests.system.test_28_data_centres import (
    Viewer,
    between,
    centre,
    goes_on,
    lost_s,
    pictures,
    positions,
)

pytestmark = pytest.mark.timeout(150)
patiently = functools.partial(looped, limit_s=120.0)
FORMS: Final = {
    "ts": "f=mpegts:content_type=video/mp2t",
    "mp4": "f=mp4:movflags=frag_keyframe+empty_moov:content_type=video/mp4",
}


def publishing(urls: Mapping[str, str], copy: Path) -> list[str]:
    """The test pattern, encoded once, sent to each URL as the stream's name says, and kept."""
    command = testpattern.argv(find(), "", Pattern(width=320, height=180, bitrate=400_000))
    begin = len(command) - command[::-1].index("-f") - 1
    sent = [f"[{FORMS[name]}:method=POST:flush_packets=1]{url}" for name, url in urls.items()]
    outputs = "|".join((*sent, f"[f=flv:flush_packets=1]{copy}"))
    return [*command[:begin], "-flags", "+global_header", "-f", "tee", outputs]


@patiently
async def test_what_a_container_carries_is_not_lost_either(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    urls = ",".join(f"http://127.0.0.1:{port}" for port in ports)
    options = (f"origin.urls={urls}", "http.workers=1", "ingest.http=true", "ingest.move=500ms")
    with Edge(("pop.name=pop", *options)) as pop:
        first, second = (
            centre(tmp_path / str(port), ("127.0.0.1", port), pop, ()) for port in ports
        )
        to: dict[str, str] = {}
        for name in FORMS:
            made = await asyncio.to_thread(run, "keys", "create", name, "-c", str(first.config))
            to[name] = f"http://{pop.http}/publish/{made.stdout.strip()}"
        for file in (tmp_path / str(ports[0])).glob("catalog.db*"):
            shutil.copy(file, tmp_path / str(ports[1]))
        async with (
            first.serving() as dying,
            second.serving(),
            aiohttp.ClientSession(f"http://{pop.http}") as http,
            child(*publishing(to, tmp_path / "sent.flv")) as publisher,
        ):
            viewers = {name: Viewer(http, name) for name in FORMS}
            playing = [asyncio.create_task(viewer.play()) for viewer in viewers.values()]
            await asyncio.gather(*(viewer.until(1, 2) for viewer in viewers.values()))
            dying.kill()
            await asyncio.gather(*(viewer.until(2, 2) for viewer in viewers.values()))
            for task in playing:
                task.cancel()
            await asyncio.gather(*playing, return_exceptions=True)
            counts = pop.metrics()
            sent = pictures((tmp_path / "sent.flv").read_bytes())
            assert publisher.returncode is None
    lost = {name: lost_s(sent, [*itertools.chain(*v.stamps())]) for name, v in viewers.items()}
    told = ", ".join(f"{each:.2f} s of {name}" for name, each in lost.items())
    sys.stderr.write(f"\nmeasured: {told} lost with the data centre\n")
    assert set(lost.values()) == {0.0}
    for viewer in viewers.values():
        assert between(viewer, 0, 1)[-1] == "#EXT-X-DISCONTINUITY"
        goes_on([*map(positions, viewer.texts)])
    assert counts["edge_upload_moved_total"] == len(FORMS)
    assert not [name for name in counts if "upload_held_dropped" in name]
