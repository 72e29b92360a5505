"""EC1: how our own processes sign requests to each other (ARCHITECTURE.md, "Between origin and
edge").

Law: the signature covers method, target, time, nonce and every `edge-*` field; the body is covered
by its `Edge-Digest`. A receiver refuses a request older or newer than 30 s and a nonce seen within
that window; only nonces of *valid* signatures are remembered, so nobody without a secret can fill
the table. At its bound new requests are refused (503) rather than old nonces forgotten: forgetting
would re-open replay. So would a kill: what was signed before anybody of ours began to remember is
refused (503), as it may have been taken by a process that is dead; who sent it signs it again. Time
stamps are wall clock (they travel between hosts), to the millisecond; how long a nonce is
remembered is monotonic.
"""

from __future__ import annotations

import hmac
import re
import secrets as _random
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from .errors import SignatureError

WINDOW_S: Final = 30
_GRAIN_S: Final = 0.001  # of a time stamp
Fields = Iterable[tuple[str, str]]

_HEADER: Final = re.compile(
    r"EC1 kid=([A-Za-z0-9_.-]{1,64}),ts=([0-9]{1,12}(?:\.[0-9]{1,6})?),"
    r"nonce=([0-9a-f]{16}),sig=([0-9a-f]{64})",
    re.ASCII,
)
_UNKNOWN_KID_SECRET: Final = _random.token_bytes(32)


def _message(method: str, target: str, stamp: str, nonce: str, fields: Fields) -> bytes:
    signed = sorted(
        f"{name.lower()}:{value.strip()}" for name, value in fields if name[:5].lower() == "edge-"
    )
    return "\n".join((method, target, stamp, nonce, *signed)).encode("latin-1", "replace")


def _signature(secret: bytes, message: bytes) -> str:
    return hmac.new(secret, message, "sha256").hexdigest()


def sign(
    method: str,
    target: str,
    fields: Fields = (),
    *,
    kid: str,
    secret: bytes,
    now_s: float | None = None,
    nonce: str | None = None,
) -> str:
    """The value of `Authorization` for a request. `target` as sent on the request line; `fields`
    may hold all header fields, only `edge-*` ones are covered. `now_s` and `nonce` are for tests
    with known answers."""
    stamp = f"{time.time():.3f}" if now_s is None else str(now_s)
    nonce = nonce or _random.token_hex(8)
    signature = _signature(secret, _message(method, target, stamp, nonce, fields))
    return f"EC1 kid={kid},ts={stamp},nonce={nonce},sig={signature}"


class Verifier:
    """Checks signatures under several key ids, so that secrets rotate without a burst of 403."""

    def __init__(
        self,
        secrets: Mapping[str, bytes],
        *,
        max_nonces: int = 1 << 18,
        wall_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._secrets = dict(secrets)
        self._max_nonces = max_nonces
        self._wall_s = wall_s
        self._monotonic_s = monotonic_s
        self._seen: OrderedDict[str, float] = OrderedDict()
        self.since_s = monotonic_s()  # nothing was forgotten from here on

    def replace_secrets(self, secrets: Mapping[str, bytes]) -> None:
        """New key ids count from now on; seen nonces stay remembered."""
        self._secrets = dict(secrets)

    def remembered(self) -> dict[str, float]:
        """What was seen, and until when (monotonic) that counts; for recall() on the same host."""
        return dict(self._seen)

    def recall(self, seen: Mapping[str, float], since_s: float) -> None:
        """Go on from another process that remembers all it saw since then (monotonic)."""
        self._seen.update(seen)
        self.since_s = since_s

    def verify(self, method: str, target: str, fields: Fields) -> str:
        """The key id that signed the request. Raises SignatureError (401 malformed or absent, 403
        wrong, stale or replayed, 503 table full or perhaps replayed: signed anew it is good).
        `fields` are all header fields as received."""
        fields = list(fields)
        given = [value.strip() for name, value in fields if name.lower() == "authorization"]
        match = _HEADER.fullmatch(given[0]) if len(given) == 1 else None
        if match is None:
            raise SignatureError("unsigned", status=401)
        kid, stamp, nonce, signature = match.groups()
        secret = self._secrets.get(kid)
        expected = _signature(
            secret or _UNKNOWN_KID_SECRET, _message(method, target, stamp, nonce, fields)
        )
        # Compared even for an unknown kid, so that timing does not tell which ids exist.
        if not hmac.compare_digest(expected, signature) or secret is None:
            raise SignatureError("bad_signature", status=403)
        age_s = self._wall_s() - float(stamp)
        if abs(age_s) > WINDOW_S:
            raise SignatureError("stale", status=403)
        if age_s > self._monotonic_s() - self.since_s + _GRAIN_S:
            raise SignatureError("before_start", status=503)
        self._remember(f"{kid}:{nonce}")
        return kid

    def _remember(self, nonce: str) -> None:
        now = self._monotonic_s()
        while self._seen and next(iter(self._seen.values())) <= now:
            self._seen.popitem(last=False)
        if nonce in self._seen:
            raise SignatureError("replayed", status=403)
        if len(self._seen) >= self._max_nonces:
            raise SignatureError("nonce_table_full", status=503)
        # A stamp may lie 30 s ahead and stays acceptable 30 s past that.
        self._seen[nonce] = now + 2 * WINDOW_S
