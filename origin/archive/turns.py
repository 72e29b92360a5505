"""Whose turn it is to do something that only one should do at a time, over all data centres.

Law: a lease in the catalogue, renewed for as long as it lasts; a process that was killed loses it
when it is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from ..catalog import Catalog, RecordingRow
from ..rows import AwayError

LEASE_S: Final = 30.0


@asynccontextmanager
async def turn(catalog: Catalog, row: RecordingRow) -> AsyncIterator[bool]:
    """async with turn(…) as ours: is the work on this recording ours?"""
    what, holder = f"work.{row.stream}.{row.epoch}", secrets.token_hex(8)
    try:
        ours = await asyncio.to_thread(catalog.hold, what, holder, LEASE_S)
    except AwayError:
        ours = False
    renewing = asyncio.create_task(_renew(catalog, what, holder)) if ours else None
    try:
        yield ours
    finally:
        if renewing is not None:
            renewing.cancel()
            with contextlib.suppress(AwayError):
                await asyncio.to_thread(catalog.let_go, what, holder)


async def _renew(catalog: Catalog, what: str, holder: str) -> None:
    while True:
        await asyncio.sleep(LEASE_S / 4)
        with contextlib.suppress(AwayError):
            await asyncio.to_thread(catalog.hold, what, holder, LEASE_S)
