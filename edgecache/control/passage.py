"""One publisher's bytes on their way to a data centre: cut into pieces, relayed (relay.py).

Laws: bytes go on as they come, and in their order. send() waits while the data centre takes no
more, for as long as the relay allows, and raises what the relay gave up for. Does not know who
publishes, nor how.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from ..containers import READERS
from ..flv import FlvError
from ..signing import Fields
from .admission import Admitted, RefusedError, SignFields
from .dial import Ways
from .relay import Limits, Relay
from .straight import refusal


class Passage:
    """await open(), then send(); at the end await finish(), whatever happened."""

    def __init__(
        self,
        admitted: Admitted,
        kind: str,
        fields: Fields,
        *,
        ways: Ways,
        sign: SignFields,
        limits: Limits,
        counts: Counter[str],
    ) -> None:
        """kind: a media type of READERS."""
        self._reader = READERS[kind]()
        self._free = asyncio.Event()
        self._free.set()
        self._failure: RefusedError | None = None
        self._relay = Relay(
            admitted,
            header=self._reader.header,
            fields=(("Content-Type", kind), *fields),
            ways=ways,
            sign=sign,
            limits=limits,
            counts=counts,
            on_pause=self._paused,
            on_failed=self._failed,
        )

    async def open(self) -> None:
        """At the first data centre that takes it. Raises RefusedError."""
        await self._relay.open()

    async def send(self, data: bytes) -> None:
        """Raises RefusedError when the data centre says no, or none is left."""
        if self._failure is not None:
            raise self._failure
        try:
            self._relay.feed(self._reader.feed(data))
        except FlvError as error:
            raise RefusedError("refused", str(error)) from error
        await self._free.wait()

    async def finish(self) -> None:
        """The body is whole: wait for the answer. Raises RefusedError unless it is good."""
        self._relay.feed(self._reader.end())
        answer = await self._relay.close()
        if self._failure is not None:
            raise self._failure
        if answer is None:
            raise RefusedError("away", "the data centre was lost; begin again")
        if answer.status != 200:
            raise refusal(answer)

    def _paused(self, is_paused: bool) -> None:
        (self._free.clear if is_paused else self._free.set)()

    def _failed(self, error: RefusedError) -> None:
        self._failure = error
        self._free.set()
