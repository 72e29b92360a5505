"""Broadcasters who send each track by itself (CMAF ingest): real ffmpeg, by a real POP. The ingest
matrix has more of them (bench.ingest, `each_track`)."""

from __future__ import annotations

import asyncio
import functools
import re

import pytest

from tests.looped import eventually
from tests.system.test_26_upload import H264, Site, more_than, publisher, site_of

pytestmark = pytest.mark.timeout(60)

CMAF = ("-f", "mp4", "-movflags", "cmaf+frag_keyframe+empty_moov", "-method", "PUT")
FRAMES = 30 + 95  # of two seconds, AAC's priming included


@site_of
async def test_by_tracks_of_a_switching_set_and_by_segments(at: Site) -> None:
    bearer = ("-headers", f"Authorization: Bearer {at.key}\r\n")
    sent = (
        *("-map", "0:v", "-vf", "scale=96:54", *H264, *CMAF, *bearer),
        f"{at.url}Streams(small.cmfv)",
        *("-map", "0:v", *H264, *CMAF, f"{at.url}{at.key}/large.cmfv"),
        *("-map", "1:a", "-c:a", "aac", *CMAF, "-frag_duration", "500000"),
        f"{at.url}{at.key}/sound.cmfa",
    )
    async with publisher(*sent):
        await eventually(functools.partial(more_than, at.parts, 2), 30)
        assert at.live.describe()["source"] == "avc1 160x90, aac"
        tracks = at.origin._ingest.describe("cam")["tracks"]
        assert isinstance(tracks, dict)
        assert {name: said.rpartition(", ")[2] for name, said in tracks.items()} == {
            "small": "left out",
            "large": "sent",
            "sound": "sent",
        }
        media = ("-H", "Content-Type: video/mp2t")
        second = await at.curl(*media, sends="/dev/zero", key=at.key)
        assert second == (409, "this stream is being published already")
        shown = await asyncio.to_thread(at.edge.metrics)
        assert shown["edge_publishers"] == 3
    await eventually(lambda: at.live.state == "reconnecting")
    await _by_segments(at)
    counts = at.origin._ingest.tally.total()
    gone = sum(n for name, n in counts.items() if re.match(r"joins\.dropped", name))
    assert counts["joins.received"] == counts["joins.joined"] + gone
    assert counts["joins.dropped.left_out"] > 0


async def _by_segments(at: Site) -> None:
    """The same goes on with a request for each segment; none of its frames is lost, and it is over
    when its manifest says so."""
    ingest = at.origin._ingest
    before, parts = ingest.tally.total(), len(at.parts)
    dash = ("-f", "dash", "-seg_duration", "0.5", "-streaming", "1", "-ldash", "1")
    forgets = ("-window_size", "2", "-extra_window_size", "0", "-method", "PUT")
    sent = ("-t", "2", *H264, "-c:a", "aac", *dash, *forgets, f"{at.url}{at.key}/live.mpd")
    async with publisher(*sent) as process:
        assert await process.wait() == 0
    await eventually(lambda: ingest.counts["results.200"] == 2)
    joined = ingest.tally.total()["joins.joined"] - before["joins.joined"]
    assert joined == FRAMES
    numbers = {part.msn for part in at.parts[parts:]}
    assert sorted(numbers) == list(range(min(numbers), max(numbers) + 1))
