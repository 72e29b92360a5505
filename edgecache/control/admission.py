"""Who may publish, and where the media goes: asked of the data centres, by stream key.

Laws: a data centre's word counts; only when none answers does a remembered yes stand in for it, for
`remember_s`. A no is never remembered and forgets a yes. Keys are held as SHA-256 and never logged.
Bounds: remembered keys (the oldest is forgotten), each question's time. Does not know RTMP.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from ..errors import EdgeError, Source, UpstreamError
from .put import Answer, post

Sign = Callable[[str, str], str]
"""(method, target) -> value of `Authorization`."""

TARGET: Final = "/api/publish"
_STREAM: Final = re.compile(r"[a-z0-9_-]{1,64}", re.ASCII)
_MAX_URLS: Final = 8


class RefusedError(EdgeError):
    """The publisher is turned away: `reason` is a counter label, the message is for the
    publisher."""

    source: Source = "downstream"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Admitted:
    """`urls`: where the stream's FLV may be PUT, in order of preference."""

    stream: str
    urls: tuple[str, ...]


class Admission:
    """`data_centres`: base URLs, asked in this order until one answers."""

    def __init__(
        self,
        *,
        data_centres: Sequence[str],
        sign: Sign,
        timeout_s: float = 2.0,
        remember_s: float = 300.0,
        remembered: int = 4096,
    ) -> None:
        self._data_centres = tuple(data_centres)
        self._sign = sign
        self._timeout_s = timeout_s
        self._remember_s = remember_s
        self._remembered = remembered
        self._known: OrderedDict[bytes, tuple[float, Admitted]] = OrderedDict()
        self.counts: Counter[str] = Counter()

    async def ask(self, key: str, address: str) -> Admitted:
        """Where `key` publishes to. Raises RefusedError: `bad_key`, or `away` when nobody can
        tell."""
        name = hashlib.sha256(key.encode()).digest()
        body = json.dumps({"key": key, "addr": address}).encode()
        for base in self._data_centres:
            self.counts["asked"] += 1
            try:
                answer = await self._post(base, body)
                admitted = _read(answer)
            except UpstreamError as error:
                self.counts[f"failures.{error.reason}"] += 1
                continue
            except RefusedError:
                self._known.pop(name, None)
                raise
            self._remember(name, admitted)
            return admitted
        return self._recall(name)

    async def _post(self, base: str, body: bytes) -> Answer:
        url = base + TARGET
        fields = (
            ("Authorization", self._sign("POST", urlsplit(url).path)),
            ("Content-Type", "application/json"),
        )
        return await post(url, body, fields, timeout_s=self._timeout_s)

    def _remember(self, name: bytes, admitted: Admitted) -> None:
        now = asyncio.get_running_loop().time()
        self._known[name] = (now + self._remember_s, admitted)
        self._known.move_to_end(name)
        while len(self._known) > self._remembered:
            self._known.popitem(last=False)

    def _recall(self, name: bytes) -> Admitted:
        until, admitted = self._known.get(name, (0.0, None))
        if admitted is None or until < asyncio.get_running_loop().time():
            raise RefusedError("away", "no data centre answers; try again")
        self.counts["remembered"] += 1
        return admitted


def _read(answer: Answer) -> Admitted:
    if answer.status == 403:
        raise RefusedError("bad_key", "bad stream key")
    if answer.status != 200:
        raise UpstreamError("status", f"{TARGET} answered {answer.status}")
    try:
        told = json.loads(answer.body)
        stream, urls = told["stream"], tuple(told["ingest"])[:_MAX_URLS]
    except (ValueError, TypeError, KeyError) as error:
        raise UpstreamError("malformed", f"{TARGET} answered nonsense") from error
    if not isinstance(stream, str) or not _STREAM.fullmatch(stream) or not urls:
        raise UpstreamError("malformed", f"{TARGET} answered without a stream or a URL")
    if not all(isinstance(url, str) for url in urls):
        raise UpstreamError("malformed", f"{TARGET} answered URLs that are no strings")
    return Admitted(stream, urls)
