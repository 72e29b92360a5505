"""Who may publish, and where the media goes: asked of all data centres at once, by stream key.

Laws: the word of the nearest one that answers counts; only when none answers does a remembered yes
stand in for it, for `remember_s`. A no is never remembered and forgets a yes. Media goes where the
stream is already, else to the nearest; the others follow, for when that one is lost. One that did
not answer is left alone for a while (breaker). Keys are held as SHA-256 and never logged. Bounds:
remembered keys (the oldest is forgotten), each question's time. Does not know RTMP.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Final, Protocol
from urllib.parse import urlsplit

from .. import signing
from ..errors import EdgeError, Source, UpstreamError
from .breaker import Breaker
from .dial import Ways
from .put import Answer, post

Sign = Callable[[str, str], str]
"""(method, target) -> value of `Authorization`."""


class SignFields(Protocol):
    """(method, target, fields) -> the same, of a request whose `edge-*` fields count."""

    def __call__(self, method: str, target: str, fields: signing.Fields, /) -> str: ...


TARGET: Final = "/api/publish"
_STREAM: Final = re.compile(r"[a-z0-9_-]{1,64}", re.ASCII)
_MAX_URLS: Final = 8
_SAID_BYTES: Final = 200
_OPEN_S: Final = 10.0
# In this order: a data centre that has the stream, one that could, one that says nothing.
_HAVING: Final = {"live": 0, "reconnecting": 1}
_FREE: Final = 2
_UNHEARD: Final = 3


class RefusedError(EdgeError):
    """The publisher is turned away: `reason` is a counter label, the message is for the
    publisher."""

    source: Source = "downstream"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Admitted:
    """`urls`: where the stream's FLV may be PUT; `srt`: where its SRT may go (host:port); `whip`:
    where its offers may be POSTed; all in order of preference. state: of the stream at the data
    centre that said so."""

    stream: str
    urls: tuple[str, ...]
    state: str = ""
    srt: tuple[str, ...] = ()
    whip: tuple[str, ...] = ()


class Admission:
    """`data_centres`: base URLs, the nearest first. `ways`: to them, and to where they send us;
    None: as the system trusts."""

    def __init__(
        self,
        *,
        data_centres: Sequence[str],
        sign: Sign,
        ways: Ways | None = None,
        timeout_s: float = 2.0,
        remember_s: float = 300.0,
        remembered: int = 4096,
    ) -> None:
        self._data_centres = {base: Breaker(1, _OPEN_S) for base in data_centres}
        self._sign = sign
        self.ways = ways or Ways()
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
        bases = self._well() or list(self._data_centres)
        said = await asyncio.gather(*(self._word(base, body) for base in bases))
        words = [word for word in said if word is not None]
        if not words:
            return self._recall(name)
        if isinstance(words[0], RefusedError):
            self._known.pop(name, None)
            raise words[0]
        admitted = self._best(words[0].stream, dict(zip(bases, said, strict=True)))
        self._remember(name, admitted)
        return admitted

    def _well(self) -> list[str]:
        now_s = asyncio.get_running_loop().time()
        return [base for base, breaker in self._data_centres.items() if breaker.allow(now_s)]

    def _best(self, stream: str, said: Mapping[str, Admitted | RefusedError | None]) -> Admitted:
        """All data centres that may take the stream: first the one that has it. They share names,
        so one that says nothing is asked for the same path as the others."""
        ranked: list[tuple[int, Admitted]] = []
        heard = next(word for word in said.values() if isinstance(word, Admitted))
        path = urlsplit(heard.urls[0]).path
        for base in self._data_centres:
            word = said.get(base)
            if word is None:  # it may be well again when it is needed
                ranked.append((_UNHEARD, Admitted(stream, (f"{base}{path}",))))
            elif isinstance(word, Admitted) and word.stream == stream:
                ranked.append((_HAVING.get(word.state, _FREE), word))
        ranked.sort(key=itemgetter(0))  # stable: among equals the nearest first
        urls = dict.fromkeys(chain(*(word.urls for _, word in ranked)))
        srt = dict.fromkeys(chain(*(word.srt for _, word in ranked)))
        whip = dict.fromkeys(chain(*(word.whip for _, word in ranked)))
        return Admitted(stream, tuple(urls), srt=tuple(srt), whip=tuple(whip))

    async def _word(self, base: str, body: bytes) -> Admitted | RefusedError | None:
        """What one says; None when it does not answer."""
        self.counts["asked"] += 1
        try:
            word: Admitted | RefusedError = _read(await self._post(base, body))
        except UpstreamError as error:
            self.counts[f"failures.{error.reason}"] += 1
            self._data_centres[base].failure(asyncio.get_running_loop().time())
            return None
        except RefusedError as error:
            word = error
        self._data_centres[base].success()
        return word

    async def _post(self, base: str, body: bytes) -> Answer:
        url = base + TARGET
        fields = (
            ("Authorization", self._sign("POST", urlsplit(url).path)),
            ("Content-Type", "application/json"),
        )
        return await post(url, body, fields, ways=self.ways, timeout_s=self._timeout_s)

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
        said = answer.body[:_SAID_BYTES].decode("utf-8", "replace").strip()
        raise RefusedError("bad_key", "".join(filter(str.isprintable, said)) or "bad stream key")
    if answer.status != 200:
        raise UpstreamError("status", f"{TARGET} answered {answer.status}")
    try:
        told = json.loads(answer.body)
        stream, urls = told["stream"], tuple(told["ingest"])[:_MAX_URLS]
        srt, whip = (tuple(told.get(way, ()))[:_MAX_URLS] for way in ("srt", "whip"))
        state = str(told.get("state", ""))
    except (ValueError, TypeError, KeyError) as error:
        raise UpstreamError("malformed", f"{TARGET} answered nonsense") from error
    if not isinstance(stream, str) or not _STREAM.fullmatch(stream) or not urls:
        raise UpstreamError("malformed", f"{TARGET} answered without a stream or a URL")
    if not all(isinstance(url, str) for url in (*urls, *srt, *whip)):
        raise UpstreamError("malformed", f"{TARGET} answered URLs that are no strings")
    return Admitted(stream, urls, state, srt, whip)
