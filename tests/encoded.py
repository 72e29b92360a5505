"""What a real encoder writes into its pipes, one run a command line, kept for all tests."""

from __future__ import annotations

import fcntl
import os
import selectors
import subprocess
import time
from functools import cache
from typing import Final

from origin.model import Rendition

SECONDS: Final = 10.5
TRACKS: Final = ("180p", "90p", "audio")  # in the order of the pipes
PLAN: Final = tuple(
    Rendition(
        track=track,
        kind="audio" if track == "audio" else "video",
        bandwidth=300_000,
        average_bandwidth=200_000,
        key_bandwidth=125_000 if track == "180p" else 0,
    )
    for track in TRACKS
)
Chunks = tuple[tuple[str, bytes], ...]


def command(ffmpeg: str, offset_s: float, fds: list[int]) -> list[str]:
    muxer = (
        "-f mp4 -movflags +cmaf+frag_every_frame+frag_discont+skip_trailer -use_editlist 0"
        " -avoid_negative_ts disabled -muxdelay 0 -muxpreload 0 -flush_packets 1"
        f" -output_ts_offset {offset_s:.3f} -t {SECONDS}"
    )
    x264 = (
        "-c:v libx264 -preset ultrafast -tune zerolatency -threads:v 1 -pix_fmt yuv420p -g 120"
        " -keyint_min 1 -sc_threshold 0 -force_key_frames expr:gte(t,n_forced*2)"
        " -video_track_timescale 90000"
    )
    source = "-f lavfi -i testsrc2=size=320x180:rate=30"
    sound = "-f lavfi -i sine=frequency=440:sample_rate=48000"
    return [
        ffmpeg,
        *f"-hide_banner -loglevel error -nostats {source} {sound} -filter_complex".split(),
        "[0:v:0]fps=30:start_time=0,split=2[s0][s1];[s0]setsar=1[v0];[s1]scale=160:90,setsar=1[v1]",
        *f"-map [v0] {x264} -b:v 250k {muxer} pipe:{fds[0]}".split(),
        *f"-map [v1] {x264} -b:v 100k {muxer} pipe:{fds[1]}".split(),
        *f"-map 1:a:0 -c:a aac -b:a 64k -ac 2 -ar 48000 {muxer} pipe:{fds[2]}".split(),
    ]


@cache
def encode(ffmpeg: str, offset_s: float) -> Chunks:
    """(track, bytes) as they came out of the pipes of one run. Raises on a run over 60 s."""
    pipes = {track: os.pipe() for track in TRACKS}
    writers = [write for _, write in pipes.values()]
    process = subprocess.Popen(
        command(ffmpeg, offset_s, writers), stdin=subprocess.DEVNULL, pass_fds=writers
    )
    for write in writers:
        os.close(write)
    chunks: list[tuple[str, bytes]] = []
    deadline = time.monotonic() + 60
    try:
        with selectors.DefaultSelector() as selector:
            for track, (read, _) in pipes.items():
                fcntl.fcntl(read, fcntl.F_SETPIPE_SZ, 1 << 20)
                selector.register(read, selectors.EVENT_READ, track)
            while selector.get_map():
                for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                    data = os.read(key.fd, 65536)
                    if data:
                        chunks.append((key.data, data))
                    else:
                        selector.unregister(key.fd)
                assert time.monotonic() < deadline
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        for read, _ in pipes.values():
            os.close(read)
    return tuple(chunks)
