"""origin/orientation.py, and all that a picture which is to be turned passes on its way: however it
is said, it comes out upright and in the sizes of what is shown."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from edgecache.flv import CODED, VIDEO, Tag
from origin import ladder
from origin.broker import Broker
from origin.ffmpeg import Ffmpeg, find
from origin.orientation import told_turn, turn_of
from origin.remux import flv
from tests.looped import looped

FFMPEG: Final = find()
NEWER: Final = FFMPEG.since((6, 0))  # has -display_rotation
PICTURE: Final = "color=c=blue:s=160x90:r=15,drawbox=w=80:h=90:c=red:t=fill"  # red on the left
WHERE: Final = {0: "left", 90: "top", 180: "right", 270: "bottom"}  # by degrees clockwise


def run(tool: Ffmpeg, *arguments: str) -> bytes:
    command = [tool.path, "-nostdin", "-v", "error", *arguments]
    done = subprocess.run(command, capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second, not turned."""
    path = tmp_path_factory.mktemp("turned") / "plain.mp4"
    inputs = ("-f", "lavfi", "-i", PICTURE, "-f", "lavfi", "-i", "sine", "-t", "1")
    run(FFMPEG, *inputs, "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", str(path))
    return path


def by_sei(picture: Path, turn: int) -> bytes:
    told = f"h264_metadata=display_orientation=insert:rotate={-turn % 360}"
    return run(FFMPEG, "-i", str(picture), "-c", "copy", "-bsf:v", told, "-f", "flv", "pipe:1")


async def by_matrix(picture: Path, turn: int) -> bytes:
    """As a phone sends a file: HTTP, fragmented MP4."""
    assert NEWER is not None
    path = picture.with_name(f"turned-{turn}.mp4")
    fragmented = ("-c", "copy", "-movflags", "frag_keyframe+empty_moov", "-y", str(path))
    run(NEWER, "-display_rotation", str(-turn), "-i", str(picture), *fragmented)

    async def body() -> AsyncIterator[bytes]:
        yield path.read_bytes()

    return b"".join([data async for data in flv(body(), "mov", FFMPEG)])


def red_side(movie: Path, width: int, height: int) -> str:
    """Where it is, in a picture that every player shows like that: nothing says that it is to be
    turned."""
    assert NEWER is not None
    shown = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-frames:v", "1", "pipe:1")
    raw = run(NEWER, "-i", str(movie), *shown)
    assert raw == run(NEWER, "-noautorotate", "-i", str(movie), *shown)
    assert len(raw) == 3 * width * height
    quarters = [(x * width // 4, y * height // 4) for y in (1, 3) for x in (1, 3)]
    red = tuple(raw[3 * (y * width + x)] > 128 for x, y in quarters)
    sides = {
        "left": (1, 0, 1, 0),
        "right": (0, 1, 0, 1),
        "top": (1, 1, 0, 0),
        "bottom": (0, 0, 1, 1),
    }
    return next(side for side, where in sides.items() if red == where)


def encode(command: Sequence[str], sent: bytes, fd: int) -> None:
    made = subprocess.run(command, input=sent, pass_fds=[fd], capture_output=True, timeout=30)
    assert made.returncode == 0, made.stderr.decode()


@pytest.mark.parametrize("turn", [90, 180, 270])
@looped
async def test_it_is_said(turn: int, picture: Path) -> None:
    for sent in (by_sei(picture, turn), await by_matrix(picture, turn)):
        broker = Broker()
        broker.feed(sent)
        assert broker.source is not None
        assert broker.source.turn == turn
        assert broker.source.size == ((90, 160) if turn % 180 else (160, 90))


@pytest.mark.parametrize("how", ["matrix", "sei"])
@looped
async def test_it_comes_out_upright(how: str, picture: Path, tmp_path: Path) -> None:
    """Once: whoever decodes does not turn it again, nor is a player told to."""
    plan = ladder.Plan(rungs=(ladder.Rung(track="v", width=160, height=90, bitrate=200_000),))
    for turn in WHERE if how == "sei" else (90,):
        sent = await by_matrix(picture, turn) if how == "matrix" else by_sei(picture, turn)
        broker = Broker()
        broker.feed(sent)
        assert broker.source is not None
        assert broker.source.size is not None
        shaped = replace(ladder.shape(plan, broker.source.size), sounds=())
        size = (shaped.rungs[0].width, shaped.rungs[0].height)
        assert size == ((90, 160) if turn % 180 else (160, 90))
        for tool in (FFMPEG, NEWER):
            assert tool is not None
            path = tmp_path / f"{turn}.mp4"
            with path.open("wb") as file:
                fd = file.fileno()
                command = ladder.argv(shaped, tool, fds=[fd], offset_s=0.0, source=broker.source)
                await asyncio.to_thread(encode, command, sent, fd)
            assert red_side(path, *size) == WHERE[turn]


def test_only_quarter_turns_are_told() -> None:
    assert [told_turn(each) for each in (0.0, 90.0, -90.0, 450.0)] == [0, 90, 270, 90]
    assert [told_turn(each) for each in (45.0, "90", None, float("nan"), float("inf"))] == [0] * 5


def sei(*payload: int, kind: int = 47) -> bytes:
    """Of HEVC, with the emulation prevention that its zeros need."""
    return bytes((39 << 1, 1, kind, len(payload), *payload, 0x80)).replace(b"\0\0\1", b"\0\0\3\1")


def hevc(*units: bytes, packet: int = 1) -> Tag:
    times = b"\0\0\0" if packet == 1 else b""
    body = b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)
    return Tag(VIDEO, 0, bytes((0x90 | packet,)) + b"hvc1" + times + body)


PARAMETERS: Final = bytes((32 << 1, 1, 7))
SLICE: Final = bytes((19 << 1, 1, 255, 255))
ANTICLOCKWISE: Final = (0x08, 0, 0)  # 16384 of 65536, behind three flags


def test_hevc_says_it_likewise() -> None:
    told = sei(*ANTICLOCKWISE)
    for packet in (1, 3):
        assert hevc(PARAMETERS, SLICE, packet=packet).packet == CODED
        assert turn_of(hevc(PARAMETERS, told, SLICE, packet=packet)) == 270
        assert turn_of(hevc(PARAMETERS, SLICE, packet=packet)) is None
    assert turn_of(hevc(sei(5, 5, kind=5), told, SLICE)) == 270
    assert turn_of(hevc(sei(0x60, 0, 0), SLICE)) == 180  # flipped both ways
    assert turn_of(hevc(sei(0x80, 0, 0), SLICE)) == 0  # cancelled
    assert turn_of(hevc(SLICE, told)) is None  # late


def test_what_is_cut_short_says_nothing() -> None:
    whole = hevc(PARAMETERS, sei(*ANTICLOCKWISE), SLICE).body
    found = {turn_of(Tag(VIDEO, 0, whole[:end])) for end in range(1, len(whole) + 1)}
    assert found == {None, 270}
    lies = hevc(b"\x4e\x01\x2f\xff\xff\xff\x03\0", SLICE)
    assert turn_of(lies) is None
