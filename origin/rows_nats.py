"""The catalogue's values in a NATS JetStream key-value bucket, which several data centres share.

Laws: what is read comes from `mirror`, a cache that a watch keeps up to date within milliseconds,
and which may be a file: so a server that is away, even at start, costs nothing but writes
(AwayError). Each connection begins with all that there is. A change is in the mirror before `put`
returns.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Final

from .nats_link import NatsLink, NatsPlace
from .rows import NEW, CatalogError, ChangedError, Row
from .rows_sqlite import SqliteRows

if TYPE_CHECKING:
    from nats.js import JetStreamContext
    from nats.js.kv import KeyValue

log = logging.getLogger(__name__)

_FIRST_S: Final = 5.0  # for all that there is to arrive, at start


class NatsRows:
    """At `place`; `mirror` becomes ours. Raises CatalogError when nothing is known and nobody
    answers."""

    def __init__(self, place: NatsPlace, mirror: SqliteRows) -> None:
        self._mirror = mirror
        self._there = False  # all that there is
        self.link = NatsLink(place, self._watch)
        self.link.start()
        self.link.tried.wait(_FIRST_S)
        if self._there:
            return
        urls, why = ", ".join(place.urls), self.link.fault or "it takes too long"
        if not mirror.version():
            self.close()
            raise CatalogError(f"catalog.nats: found {urls}, which cannot be used: {why}")
        log.error("the catalogue is as it was: %s cannot be used: %s", urls, why)

    def close(self) -> None:
        self.link.close()
        self._mirror.close()

    def get(self, key: str) -> Row | None:
        return self._mirror.get(key)

    def below(self, prefix: str) -> list[Row]:
        return self._mirror.below(prefix)

    def version(self) -> int:
        return self._mirror.version()

    def put(self, key: str, value: bytes, revision: int) -> None:
        async def ask(js: JetStreamContext) -> int:
            from nats.js.errors import KeyWrongLastSequenceError

            bucket = await js.key_value(self.link.place.bucket)
            try:
                if revision == NEW:
                    return await bucket.create(key, value)
                return await bucket.update(key, value, last=revision)
            except KeyWrongLastSequenceError:
                await self._refresh(bucket, key)
                raise ChangedError(f"{key}: somebody else changed it") from None

        self._mirror.mirror(key, value, self.link.call(ask))

    def drop(self, key: str, revision: int) -> None:
        async def ask(js: JetStreamContext) -> None:
            from nats.js.errors import APIError

            bucket = await js.key_value(self.link.place.bucket)
            try:
                await bucket.delete(key, last=revision)
            except APIError:
                await self._refresh(bucket, key)
                raise ChangedError(f"{key}: somebody else changed it") from None

        self.link.call(ask)
        # The marker's revision is the watch's to tell; until then nothing newer is known.
        self._mirror.mirror(key, None, revision + 1)

    async def _refresh(self, bucket: KeyValue, key: str) -> None:
        """The watch may be a moment behind."""
        from nats.js.errors import KeyNotFoundError

        try:
            entry = await bucket.get(key)
        except KeyNotFoundError as gone:
            revision = gone.entry.revision if gone.entry else None
            self._mirror.mirror(key, None, revision or 1 << 62)
        else:
            self._mirror.mirror(key, entry.value or b"", entry.revision or NEW)

    # -- the link's thread

    async def _watch(self, js: JetStreamContext) -> None:
        bucket = await self._bucket(js)
        watcher = await bucket.watchall()
        seen: set[str] | None = set()
        try:
            async for entry in watcher:
                if entry is not None:
                    value = None if entry.operation else entry.value
                    self._mirror.mirror(entry.key, value, entry.revision)
                    if seen is not None and value is not None:
                        seen.add(entry.key)
                if seen is not None and await self._is_all(bucket, entry):
                    self._mirror.keep(seen)
                    seen = None
                    self._there = True
                    self.link.is_up()
        finally:
            with contextlib.suppress(Exception):  # the connection is gone, most likely
                await watcher.stop()  # type: ignore[no-untyped-call]

    async def _is_all(self, bucket: KeyValue, entry: KeyValue.Entry | None) -> bool:
        """Is it the last of what there was? None says so, too, but also where entries are still on
        their way (nats-py counts those that it has looked at), so it is believed of nothing."""
        if entry is not None:
            return entry.delta == 0
        status = await bucket.status()
        return status.values == 0

    async def _bucket(self, js: JetStreamContext) -> KeyValue:
        from nats.js.api import KeyValueConfig
        from nats.js.errors import BadRequestError, BucketNotFoundError

        place = self.link.place
        with contextlib.suppress(BucketNotFoundError):
            return await js.key_value(place.bucket)
        with contextlib.suppress(BadRequestError):  # another one was first
            config = KeyValueConfig(bucket=place.bucket, history=1, replicas=place.replicas)
            return await js.create_key_value(config)
        return await js.key_value(place.bucket)
