"""What a broadcast throws away every moment does not stay on the heap of the origin.

It grew by a quarter of a mebibyte a minute, with as many objects as before and ever more holes:
the buffers of compressed playlists were cut from it.
"""

from __future__ import annotations

import subprocess
import sys

# How many of 32 blocks of zlib's largest size are the kernel's, after a much larger one has come
# and gone: glibc takes that as a hint that all up to its size are better cut from the heap.
_CHILD = """
import ctypes, sys
from edgecache.settings import Loaded
from origin import server
from origin.config import Config

class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd",
        "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Mallinfo

class Broadcast:
    def __init__(self, config):
        pass

    async def run(self, reload):
        measure()

def measure():
    large = bytes(4 << 20)
    del large
    before = libc.mallinfo2().hblks
    held = [bytes(128 << 10) for _ in range(32)]
    print(libc.mallinfo2().hblks - before)

server.Origin = Broadcast
if sys.argv[1] == "served":
    server.serve(Loaded(Config(), {}), None)
else:
    measure()
"""


def mapped(how: str) -> int:
    run = subprocess.run(
        [sys.executable, "-c", _CHILD, how],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return int(run.stdout)


def test_large_buffers_never_become_part_of_the_heap() -> None:
    assert mapped("served") > 16  # a few fit into holes that imports have left
    assert mapped("as Python starts") == 0, "this C library has no such habit"
