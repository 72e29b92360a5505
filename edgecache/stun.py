"""STUN as far as ICE needs it: who asks whether the way is open, and the answer that it is.

Laws: sans-IO; raises nothing: what is no request of this kind is None. A request counts once its
HMAC was made with the password of the session that it names. Source: RFC 8489 (sections 5, 14),
RFC 8445 (section 7); attributes that are not needed here are passed over.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
import struct
import zlib
from dataclasses import dataclass
from typing import Final

_HEADER: Final = struct.Struct("!HHI12s")
_ATTRIBUTE: Final = struct.Struct("!HH")
_MAGIC: Final = 0x2112A442
_REQUEST: Final = 0x0001
_SUCCESS: Final = 0x0101
_USERNAME: Final = 0x0006
_INTEGRITY: Final = 0x0008
_XOR_ADDRESS: Final = 0x0020
_USE_CANDIDATE: Final = 0x0025
_FINGERPRINT: Final = 0x8028
_FINGERPRINT_XOR: Final = 0x5354554E
_MAC_BYTES: Final = 20


@dataclass(frozen=True, slots=True)
class Binding:
    """A request. `ufrag`: of the session that is asked for; nominates: this way is to be used;
    `signed`: the bytes under `mac`."""

    transaction: bytes
    ufrag: str
    nominates: bool
    signed: bytes
    mac: bytes

    def vouched(self, password: str) -> bool:
        """Does whoever asks know the session's password?"""
        made = hmac.digest(password.encode(), self.signed, hashlib.sha1)
        return hmac.compare_digest(made, self.mac)


def binding(datagram: bytes) -> Binding | None:
    """The binding request that a datagram is, if it has a user name and an HMAC."""
    if len(datagram) < _HEADER.size:
        return None
    kind, length, magic, transaction = _HEADER.unpack_from(datagram)
    if (kind, magic) != (_REQUEST, _MAGIC) or _HEADER.size + length != len(datagram):
        return None
    name, nominates, at = b"", False, _HEADER.size
    while at + _ATTRIBUTE.size <= len(datagram):
        attribute, size = _ATTRIBUTE.unpack_from(datagram, at)
        value = datagram[at + 4 : at + 4 + size]
        if attribute == _INTEGRITY and len(value) == _MAC_BYTES:
            ufrag = name.partition(b":")[0].decode("ascii", "replace")
            # 14.5: the length says as if the HMAC were the last attribute.
            head = _HEADER.pack(kind, at + 4 + _MAC_BYTES - _HEADER.size, magic, transaction)
            signed = head + datagram[_HEADER.size : at]
            return Binding(transaction, ufrag, nominates, signed, value)
        if attribute == _USERNAME:
            name = value
        nominates |= attribute == _USE_CANDIDATE
        at += 4 + size + -size % 4
    return None


def success(asked: Binding, address: tuple[str, int], password: str) -> bytes:
    """The answer to a request that came from `address`."""
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    mask = _MAGIC.to_bytes(4, "big") + asked.transaction
    packed = bytes(a ^ b for a, b in zip(socket.inet_pton(family, host), mask, strict=False))
    number = 2 if family == socket.AF_INET6 else 1
    mapped = struct.pack("!HH", number, port ^ _MAGIC >> 16) + packed
    body = _ATTRIBUTE.pack(_XOR_ADDRESS, len(mapped)) + mapped
    return seal(_SUCCESS, asked.transaction, body, password)


def seal(kind: int, transaction: bytes, body: bytes, password: str) -> bytes:
    """A message of these attributes, with its HMAC and its fingerprint."""
    head = _HEADER.pack(kind, len(body) + 4 + _MAC_BYTES, _MAGIC, transaction)
    mac = hmac.digest(password.encode(), head + body, hashlib.sha1)
    body += _ATTRIBUTE.pack(_INTEGRITY, _MAC_BYTES) + mac
    head = _HEADER.pack(kind, len(body) + 8, _MAGIC, transaction)
    check = zlib.crc32(head + body) ^ _FINGERPRINT_XOR
    return head + body + _ATTRIBUTE.pack(_FINGERPRINT, 4) + check.to_bytes(4, "big")
