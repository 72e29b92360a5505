"""edgecache/containers.py: where a decoder may begin, in what ffmpeg writes, and in nonsense."""

from __future__ import annotations

import functools
import subprocess
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecache.containers import READERS
from edgecache.pieces import Piece
from origin.ffmpeg import find

FPS: Final = 25
GOP: Final = 10
GOPS: Final = 4
PICTURE: Final = f"-f lavfi -i testsrc2=s=64x36:r={FPS}:d={GOP * GOPS / FPS}"
SOUND: Final = f"-f lavfi -i sine=r=48000:d={GOP * GOPS / FPS}"
H264: Final = f"-c:v libx264 -preset ultrafast -bf 2 -g {GOP} -keyint_min {GOP} -sc_threshold 0"
AAC: Final = "-c:a aac"
FRAGMENTS: Final = "-f mp4 -movflags empty_moov+frag_keyframe"
FORMS: Final = {
    "ts": ("video/mp2t", f"{PICTURE} {SOUND} {H264} {AAC} -f mpegts"),
    "offsets": ("video/mp4", f"{PICTURE} {SOUND} {H264} {AAC} {FRAGMENTS}"),
    "cmaf": ("video/mp4", f"{PICTURE} {SOUND} {H264} {AAC} {FRAGMENTS}+default_base_moof"),
    "frames": (
        "video/mp4",
        f"{PICTURE} {H264} {FRAGMENTS}+default_base_moof -frag_duration 40000",
    ),
    "matroska": (
        "video/x-matroska",
        f"{PICTURE} {SOUND} {H264} -c:a libopus -f matroska -live 1",
    ),
    "webm": (
        "video/webm",
        f"{PICTURE} -c:v libvpx -deadline realtime -g {GOP} -f webm -live 1"
        " -cluster_time_limit 390",
    ),
}


@functools.cache
def written(form: str) -> bytes:
    command = f"{find().path} -hide_banner -loglevel error -nostdin {FORMS[form][1]} pipe:1"
    return subprocess.run(command.split(), check=True, capture_output=True, timeout=60).stdout


def read(form: str, data: bytes, step: int) -> list[Piece]:
    reader = READERS[FORMS[form][0]]()
    parts = [data[at : at + step] for at in range(0, len(data), step)]
    return [piece for part in parts for piece in reader.feed(part)] + reader.end()


def pictures(data: bytes) -> list[tuple[float, bool]]:
    """(when it is decoded or shown, is it a key frame) of each, in their order."""
    command = "ffprobe -v error -select_streams v -show_entries packet=dts_time,pts_time,flags"
    told = subprocess.run(
        [*command.split(), "-of", "csv=p=0", "-"], input=data, capture_output=True, check=True
    )
    lines = [line.split(",") for line in told.stdout.decode().split()]
    shown = data.startswith(b"\x1a\x45\xdf\xa3")  # Matroska does not say when it is decoded
    return [(float(line[0 if shown else 1]), "K" in line[2]) for line in lines]


@pytest.mark.parametrize("form", FORMS)
def test_each_gop_may_be_begun_with(form: str) -> None:
    data = written(form)
    pieces = read(form, data, 1000)
    everything = b"".join(piece.data for piece in pieces)
    assert len(everything) == len(data) == sum(piece.size for piece in pieces)
    whole = pictures(data)
    assert pictures(everything) == whole
    entries = [number for number, piece in enumerate(pieces) if piece.is_entry]
    assert len(entries) == GOPS
    times = [pieces[number].at_ms / 1000 for number in entries]
    keys = [time for time, is_key in whole if is_key]
    since = [time - keys[0] for time in keys]
    assert [time - times[0] for time in times] == pytest.approx(since, abs=0.002)
    for number, entry in [*enumerate(entries)][1::2]:
        config = {piece.sets: piece.data for piece in pieces[:entry] if piece.sets}
        head = b"".join(data for _, data in sorted(config.items()))
        found = pictures(head + b"".join(piece.data for piece in pieces[entry:]))
        assert len(found) == len(whole) - number * GOP
        assert found[0][1]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("step", [1, 187, 1 << 20])
def test_it_is_the_same_in_any_cut(form: str, step: int) -> None:
    pieces, again = read(form, written(form), 4096), read(form, written(form), step)
    assert b"".join(piece.data for piece in pieces) == b"".join(piece.data for piece in again)
    assert places(pieces) == places(again)


def places(pieces: list[Piece]) -> list[tuple[int, str, bool]]:
    found, at = [], 0
    for piece in pieces:
        if piece.sets or piece.is_entry:
            found.append((at, piece.sets, piece.is_entry))
        at += piece.size
    return found


@settings(max_examples=60)
@given(
    st.sampled_from([*FORMS]),
    st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=12)), max_size=6),
    st.integers(200, 5000),
)
def test_nonsense_is_passed_on(form: str, changes: list[tuple[float, bytes]], step: int) -> None:
    data = bytearray(written(form)[:20_000])
    for where, what in changes:
        at = int(where * len(data))
        data[at : at + len(what)] = what
    assert sum(piece.size for piece in read(form, bytes(data), step)) == len(data)


@given(st.sampled_from([*FORMS]), st.binary(max_size=600))
def test_noise_is_passed_on(form: str, data: bytes) -> None:
    assert b"".join(piece.data for piece in read(form, data, 100)) == data
