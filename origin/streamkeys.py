"""Stream keys: how they look, and the ring of keys that one stream has.

Laws: a key is `{stream}_{secret}` with 128 random bits; only its SHA-256 is kept (a random secret
needs no slow hash), so what is stored gives nobody the right to publish. A key is told by the first
letters of that digest. Comparisons take constant time. Bounds: `MAX_KEYS` of a stream that open it
(beyond: refused), and as many that are revoked (beyond: the oldest is forgotten). Plain values.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final, Self

from .rows import CatalogError

MAX_KEYS: Final = 16
STREAM: Final = re.compile(r"[a-z0-9_-]{1,64}", re.ASCII)
KEY_ID: Final = re.compile(r"[0-9a-f]{8}", re.ASCII)
_ID_LETTERS: Final = 8


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key without its secret, which nobody has; times in unix seconds. `revoked_s` may be to
    come: until then it opens its stream."""

    id: str
    stream: str
    created_s: int
    revoked_s: int | None


@dataclass(frozen=True, slots=True)
class _Key:
    digest: str
    created_s: int
    revoked_s: int | None = None

    @property
    def id(self) -> str:
        return self.digest[:_ID_LETTERS]

    def opens(self, now_s: float) -> bool:
        if len(self.digest) <= _ID_LETTERS:
            return False
        return self.revoked_s is None or now_s < self.revoked_s

    def revoked(self, now_s: int, at_s: int) -> _Key:
        """What is to end earlier does so. At once: nothing is left to compare a key with, so that
        no clock which is set back brings it to life again."""
        until_s = min(at_s, self.revoked_s or at_s)
        return replace(self, revoked_s=until_s, digest=self.id if until_s <= now_s else self.digest)


def mint(stream: str) -> str:
    """A new key. Raises CatalogError for a name that no stream may have."""
    if not STREAM.fullmatch(stream):
        raise CatalogError(f"stream: found {stream!r}, allowed {STREAM.pattern}")
    return f"{stream}_{secrets.token_hex(16)}"


def stream_of(key: str) -> str | None:
    """Which one `key` says it opens."""
    stream = key.rpartition("_")[0]
    return stream if STREAM.fullmatch(stream) else None


@dataclass(frozen=True, slots=True)
class Ring:
    """The keys of `stream`, the oldest first. Changing it makes another one."""

    stream: str
    keys: tuple[_Key, ...] = ()

    @classmethod
    def of(cls, stream: str, stored: bytes | None) -> Self:
        rows = json.loads(stored) if stored else ()
        return cls(stream, tuple(_Key(**row) for row in rows))

    def stored(self) -> bytes:
        return json.dumps([asdict(key) for key in self.keys]).encode()

    def rows(self) -> list[KeyRow]:
        return [KeyRow(k.id, self.stream, k.created_s, k.revoked_s) for k in self.keys]

    def find(self, key: str, now_s: float) -> str | None:
        """The id of `key`, if it opens the stream. Time does not tell how much of it was right."""
        given, found = _digest(key), None
        for each in self.keys:
            if hmac.compare_digest(each.digest, given) and each.opens(now_s):
                found = each.id
        return found

    def opens(self, key_id: str, now_s: float) -> bool:
        return any(key.id == key_id and key.opens(now_s) for key in self.keys)

    def add(self, key: str, now_s: int) -> Ring:
        """Raises CatalogError when it is full."""
        if len(self._open(now_s)) >= MAX_KEYS:
            found = f"{self.stream}: found {MAX_KEYS} keys"
            raise CatalogError(f"{found}, allowed {MAX_KEYS}: revoke one first")
        gone = [each for each in self.keys if not each.opens(now_s)][-MAX_KEYS:]
        kept = [each for each in self.keys if each.opens(now_s) or each in gone]
        return replace(self, keys=(*kept, _Key(_digest(key), now_s)))

    def revoke(self, key_ids: Sequence[str], now_s: int, at_s: int) -> Ring:
        """From `at_s` on these open nothing; what was to end earlier does so."""
        keys = tuple(
            key.revoked(now_s, at_s) if key.id in key_ids and key.opens(now_s) else key
            for key in self.keys
        )
        return replace(self, keys=keys)

    def rotate(self, key: str, now_s: int, at_s: int) -> Ring:
        """`key` instead of all others, which open the stream until `at_s`. With a full ring the
        oldest ends now. Raises CatalogError when there are none."""
        had = [each.id for each in self._open(now_s)]
        if not had:
            raise CatalogError(f"{self.stream}: found no key, allowed a stream that has one")
        room = self.revoke(had[: len(had) - MAX_KEYS + 1], now_s, now_s)
        return room.revoke(had, now_s, at_s).add(key, now_s)

    def _open(self, now_s: float) -> list[_Key]:
        return [key for key in self.keys if key.opens(now_s)]


def _digest(key: str) -> str:
    secret = key.rpartition("_")[2]
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
