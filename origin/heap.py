"""The C library's heap: what is large and soon over does not make it grow.

Law: set once, before anything of a broadcast is allocated. glibc raises its bound for `mmap` to the
largest block that was ever freed, so that from then on the buffers of every compressed playlist
(zlib: 64 and 128 KiB) are cut from the heap, between small things that live for a minute. What they
leave is never whole again: 0.3 MiB a minute in the origin, all of it free, none of it given back. A
bound that was set stays. Other C libraries are left as they are.
"""

from __future__ import annotations

import ctypes
from typing import Final

_M_MMAP_THRESHOLD: Final = -3  # malloc.h
LARGE_BYTES: Final = 64 << 10


def settle() -> bool:
    """Blocks of LARGE_BYTES and more are the kernel's again as soon as they are freed. False: not
    glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES))
