"""WHIP at the viewers' door: an offer in, an answer out, and the end of a session (RFC 9725).

Laws: a publisher is admitted by the key in `Authorization`, like everybody; its offer goes on to
the data centre as it is, with the place here that media is to come to (whip.py), and what that says
goes back. A session's address is a secret that only its publisher was told; who knows it may end
it, and is told why (410) when the data centre ended it for good. There is no trickle and no ICE
restart (4.3: PATCH is 405), since a publisher is known by name and password wherever it sends from.
Pages of any site may publish, with a key. Bounds: an offer's length, the time of each question,
sessions that are over and not asked for. Keys and names are never logged.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Final
from urllib.parse import quote, unquote, urlsplit

import xxhash
from aiohttp import hdrs, web

from ..config import UPLOADS
from ..errors import UpstreamError
from .admission import Admission, RefusedError, SignFields
from .put import Answer, post
from .straight import REASONS
from .whip import Session, WhipRelay

log = logging.getLogger(__name__)

ENDPOINT: Final = f"{UPLOADS}whip"
_TYPE: Final = "application/sdp"
_OFFER_BYTES: Final = 64 << 10
_ASK_S: Final = 3.0
_OVER: Final = 256
_TITLE_CHARS: Final = 100
_END: Final = "/whip/end"
_STATUS: Final = {
    "no_key": 401,
    "bad_key": 401,
    "not_found": 404,
    "method": 405,
    "busy": 409,
    "type": 415,
    "large": 413,
    "refused": 400,
}
_OPEN: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Location, Edge-Stream",
}
_MAY: Final = {
    **_OPEN,
    "Access-Control-Allow-Methods": "POST, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Edge-Title",
    "Access-Control-Max-Age": "600",
}


class WhipDoor:
    """answer() each request at or below `ENDPOINT`; `takes` says which those are."""

    def __init__(self, relay: WhipRelay, *, admission: Admission, sign: SignFields) -> None:
        self.relay = relay
        self._admission = admission
        self._sign = sign
        self._known: dict[str, tuple[Session, str]] = {}  # by name: and its data centre
        self.counts = relay.counts  # rejected.<reason>, too

    def takes(self, request: web.BaseRequest) -> bool:
        return request.path == ENDPOINT or request.path.startswith(ENDPOINT + "/")

    async def answer(self, request: web.BaseRequest) -> web.Response:
        try:
            answer = await self._answer(request)
        except RefusedError as error:
            self.counts[f"rejected.{error.reason}"] += 1
            extra = {"addr": request.remote, "reason": error.reason, "protocol": "whip"}
            log.warning("publisher rejected", extra=extra)
            status = _STATUS.get(error.reason, 503)
            fields = {**_OPEN, **({"WWW-Authenticate": "Bearer"} if status == 401 else {})}
            fields |= {"Allow": "POST, DELETE, OPTIONS"} if error.reason == "method" else {}
            answer = web.Response(status=status, text=f"{error}\n", headers=fields)
        answer.force_close()
        return answer

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        name = request.path.removeprefix(ENDPOINT).removeprefix("/")
        if request.method == "OPTIONS":
            offers = {"Accept-Post": _TYPE} if self.relay.is_open else {}
            return web.Response(status=204, headers={**_MAY, **offers})
        if request.method == "POST" and not name:
            return await self._open(request)
        if request.method == "DELETE" and name:
            why = await self._end(name)
            return web.Response(status=410 if why else 200, text=why, headers=_OPEN)
        raise RefusedError("method", "allowed are POST of an offer, DELETE of a session, OPTIONS")

    async def _open(self, request: web.BaseRequest) -> web.Response:
        if request.content_type != _TYPE:
            raise RefusedError(
                "type", f"Content-Type: found {request.content_type}, allowed {_TYPE}"
            )
        scheme, _, key = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise RefusedError("no_key", "a stream key is needed: Authorization: Bearer KEY")
        if not self.relay.is_open:
            raise RefusedError("closed", "WHIP is not served here")
        offer = await self._offer(request)
        admitted = await self._admission.ask(key.strip(), request.remote or "")
        session = self.relay.expect()
        session.stream = admitted.stream
        try:
            name, answer = await self._negotiate(request, session, admitted.whip, offer)
        except BaseException:
            self.relay.end(session, "rejected")
            raise
        extra = {"stream": admitted.stream, "addr": request.remote, "protocol": "whip"}
        log.info("publisher on", extra=extra)
        fields = {**_OPEN, "Location": f"{ENDPOINT}/{quote(name, safe='')}"}
        fields["Edge-Stream"] = admitted.stream
        return web.Response(status=201, text=answer, content_type=_TYPE, headers=fields)

    async def _offer(self, request: web.BaseRequest) -> str:
        try:
            async with asyncio.timeout(_ASK_S):
                data = await request.content.read(_OFFER_BYTES + 1)
                while len(data) <= _OFFER_BYTES and not request.content.at_eof():
                    data += await request.content.readany()
        except (TimeoutError, web.RequestPayloadError):
            raise RefusedError("refused", "the offer did not come") from None
        if len(data) > _OFFER_BYTES:
            raise RefusedError("large", f"offer: allowed {_OFFER_BYTES} bytes")
        return data.decode("utf-8", "replace")

    async def _negotiate(
        self, request: web.BaseRequest, session: Session, urls: tuple[str, ...], offer: str
    ) -> tuple[str, str]:
        """(the session's name, the answer) of the first data centre that answers."""
        assert request.transport is not None
        host, port = self.relay.place(str(request.transport.get_extra_info("sockname")[0]))
        told = {
            "offer": offer,
            "ufrag": session.ufrag,
            "password": session.password,
            "host": host,
            "port": port,
            "addr": request.remote or "",
            "title": unquote(request.headers.get("Edge-Title", ""))[:_TITLE_CHARS],
        }
        for url in urls:
            try:
                said = await self._ask(url, told)
                name, media, answer = _read(said)
                await self.relay.lead(session, media)
            except UpstreamError:
                continue
            self._forget()
            self._known[name] = (session, f"{_base(url)}{_END}")
            return name, answer
        why = "no data centre answers" if urls else "the data centre takes no WHIP"
        raise RefusedError("away", f"{why}; try again")

    async def _end(self, name: str) -> str:
        """Why it was ended already, for good; "" when it was not."""
        session, url = self._known.pop(name, (None, ""))
        if session is None:
            raise RefusedError("not_found", "no such session")
        try:
            answer = await self._ask(url, {"session": name})
            return answer.body.decode("utf-8", "replace") if answer.status == 410 else ""
        except UpstreamError:
            log.info("publisher's end not told", extra={"stream": session.stream})
            return ""
        finally:
            self.relay.end(session, "ended")

    def _forget(self) -> None:
        """The oldest sessions that are over: not all of them are said goodbye to."""
        over = [name for name, (session, _) in self._known.items() if session.ended]
        for name in over[:-_OVER]:
            del self._known[name]

    async def _ask(self, url: str, told: dict[str, object]) -> Answer:
        body = json.dumps(told).encode()
        fields = [("Edge-Digest", xxhash.xxh3_128_hexdigest(body))]
        signed = ("Authorization", self._sign("POST", urlsplit(url).path, fields))
        kind = ("Content-Type", "application/json")
        return await post(
            url, body, (signed, kind, *fields), ways=self._admission.ways, timeout_s=_ASK_S
        )


def _base(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _read(answer: Answer) -> tuple[str, str, str]:
    """(session, place of its media, answer). Raises RefusedError, UpstreamError."""
    if answer.status != 201:
        said = answer.body[:200].decode("utf-8", "replace").strip()
        reason = REASONS.get(answer.status, "bad_key" if answer.status == 403 else "failed")
        raise RefusedError(reason, said or f"the data centre answered {answer.status}")
    try:
        told = json.loads(answer.body)
        name, media, text = (str(told[key]) for key in ("session", "media", "answer"))
    except (ValueError, TypeError, KeyError):
        raise UpstreamError("malformed", "WHIP: the data centre answered nonsense") from None
    return name, media, text
