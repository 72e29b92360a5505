"""DTLS with a WHIP publisher: who it is, by its certificate's fingerprint, and the keys of SRTP.

Laws: no socket: datagrams go in and come out. A peer with another certificate than the offer said
never gets as far as keys. Our own certificate is made at the start and lives as long as the
process. Bounds: what OpenSSL holds of one handshake. Source: RFC 5764, RFC 8827 6.5.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from pylibsrtp import Policy, Session

from edgecache.errors import EdgeError, Source

_DATAGRAM: Final = 1200
_RECORD_HEAD: Final = 13
_KEY, _SALT = 16, 14  # SRTP_AES128_CM_SHA1_80
_LABEL: Final = b"EXTRACTOR-dtls_srtp"
_READ: Final = 1 << 16
_WINDOW: Final = 1024  # packets: what is sent again comes late


class DtlsError(EdgeError):
    """The handshake failed, or the peer has ended the connection."""

    source: Source = "downstream"


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate that says nothing, and its key."""

    context: SSL.Context
    fingerprint: bytes


def identity() -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "edgecache")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    context = SSL.Context(SSL.DTLS_METHOD)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
    context.use_certificate(certificate)
    context.use_privatekey(key)
    context.set_tlsext_use_srtp(b"SRTP_AES128_CM_SHA1_80")
    return Identity(context, certificate.fingerprint(hashes.SHA256()))


class Dtls:
    """feed() what comes, or nothing when `due` has passed; send what either returns. `receiving`
    and `sending` are there once `ready`."""

    def __init__(self, ours: Identity, fingerprint: bytes, *, server: bool) -> None:
        self._fingerprint = fingerprint
        self._server = server
        connection = self._connection = SSL.Connection(ours.context)
        (connection.set_accept_state if server else connection.set_connect_state)()
        connection.set_ciphertext_mtu(_DATAGRAM)
        self.ready = False
        self.receiving: Session | None = None
        self.sending: Session | None = None

    def feed(self, datagram: bytes = b"") -> list[bytes]:
        """Raises DtlsError."""
        if datagram:
            self._connection.bio_write(datagram)
        try:
            if not self.ready:
                self._connection.do_handshake()
                self._agree()
            elif datagram:
                self._connection.recv(_READ)  # no data is taken; an end is
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            raise DtlsError("the publisher said goodbye") from None
        except SSL.Error as error:
            raise DtlsError(f"DTLS failed: {error}") from None
        return self._out()

    def due_s(self) -> float | None:
        """In how many seconds something has to be sent again; None: nothing."""
        return None if self.ready else self._connection.DTLSv1_get_timeout()

    def again(self) -> list[bytes]:
        """What has to be sent again. Raises DtlsError."""
        try:
            self._connection.DTLSv1_handle_timeout()
        except SSL.Error as error:
            raise DtlsError(f"DTLS failed: {error}") from None
        return self._out()

    def close(self) -> list[bytes]:
        """Our goodbye."""
        if self.ready:
            self._connection.shutdown()
        return self._out()

    def _agree(self) -> None:
        certificate = self._connection.get_peer_certificate(as_cryptography=True)
        assert certificate is not None, "verified without a certificate"
        der = certificate.public_bytes(serialization.Encoding.DER)
        if not hmac.compare_digest(hashlib.sha256(der).digest(), self._fingerprint):
            raise DtlsError("the certificate is not the one of the offer")
        if self._connection.get_selected_srtp_profile() != b"SRTP_AES128_CM_SHA1_80":
            raise DtlsError("no SRTP was agreed on")
        keys = self._connection.export_keying_material(_LABEL, 2 * (_KEY + _SALT), None)
        parts = (keys[:_KEY], keys[_KEY : 2 * _KEY], keys[2 * _KEY : -_SALT], keys[-_SALT:])
        client, server = parts[0] + parts[2], parts[1] + parts[3]
        theirs, ours = (client, server) if self._server else (server, client)
        policy = Policy(key=theirs, ssrc_type=Policy.SSRC_ANY_INBOUND)
        policy.window_size = _WINDOW
        self.receiving = Session(policy)
        self.sending = Session(Policy(key=ours, ssrc_type=Policy.SSRC_ANY_OUTBOUND))
        self.ready = True

    def _out(self) -> list[bytes]:
        """Whole records, as many as fit into each datagram."""
        try:
            data = self._connection.bio_read(_READ)
        except SSL.WantReadError:
            return []
        datagrams: list[bytes] = []
        while data:
            size = _RECORD_HEAD + int.from_bytes(data[11:_RECORD_HEAD], "big")
            if datagrams and len(datagrams[-1]) + size <= _DATAGRAM:
                datagrams[-1] += data[:size]
            else:
                datagrams.append(data[:size])
            data = data[size:]
        return datagrams
