"""A certificate authority for tests: for one run, in one folder, believed by who is told to."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_DAY: Final = datetime.timedelta(days=1)


class Authority:
    """`file` is its certificate."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("authority")
        built = _built(self._name, self._name, self._key.public_key(), -_DAY, _DAY)
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.file = folder / "authority.pem"
        self.file.write_bytes(_pem(built.sign(self._key, hashes.SHA256())))

    def signs(self, host: str, *, ends: datetime.timedelta = _DAY, itself: bool = False) -> Path:
        """A file with a key and its certificate for `host`, a name or an address. `ends`: from now
        on. `itself`: it is its own signer."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _named(host)
        built = _built(
            name if itself else self._name, name, key.public_key(), ends - 2 * _DAY, ends
        )
        built = built.add_extension(x509.SubjectAlternativeName([_alternative(host)]), False)
        certificate = built.sign(key if itself else self._key, hashes.SHA256())
        file = self._folder / f"{host}-{certificate.serial_number:x}.pem"
        plain = serialization.NoEncryption()
        pkcs8, pem = serialization.PrivateFormat.PKCS8, serialization.Encoding.PEM
        file.write_bytes(key.private_bytes(pem, pkcs8, plain) + _pem(certificate))
        return file


def serving(file: Path) -> ssl.SSLContext:
    """For a server with the key and the certificate in `file`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _built(
    issuer: x509.Name,
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    begins: datetime.timedelta,
    ends: datetime.timedelta,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    built = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
    return built.not_valid_before(now + begins).not_valid_after(now + ends)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
