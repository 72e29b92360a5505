"""origin/sandbox.py: what a child of ours finds that it may do."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Sequence

from origin.child import Child
from tests.looped import looped

ASKED = "cat /proc/self/status /proc/self/limits /proc/self/net/dev"


def allowed(*options: str) -> bool:
    """May we leave the network?"""
    return subprocess.run(["unshare", *options, "true"], capture_output=True).returncode == 0


NETLESS = allowed("-n") or allowed("-rn")


async def told() -> str:
    """What a child says of itself. It asks once it has its limits, which is when input comes."""
    said, gone = bytearray(), asyncio.Event()

    def command(fds: Sequence[int]) -> list[str]:
        return ["sh", "-c", f"read go; {ASKED} >/proc/self/fd/{fds[0]}"]

    child = Child(
        command, tracks=1, on_output=lambda _, data: said.extend(data), on_exit=lambda _: gone.set()
    )
    child.write(b"go\n")
    await gone.wait()
    return said.decode()


@looped
async def test_a_child_may_little_and_has_no_network() -> None:
    said = await told()
    assert re.search(r"NoNewPrivs:\s+1", said)
    limits = dict(
        re.findall(r"^Max (file size|core file size|open files) +(\d+)", said, re.MULTILINE)
    )
    assert limits == {"file size": "0", "core file size": "0", "open files": "64"}
    interfaces = re.findall(r"^ *(\w+):.*\d$", said.partition("Inter-|")[2], re.MULTILINE)
    assert interfaces == ["lo"] or not NETLESS
