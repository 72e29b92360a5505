"""TLS towards origins: who is believed.

Law: a certificate is always verified, its signer and its name; there is no way to say otherwise. A
file of signers replaces the system's: it is how a private authority is named, or one certificate
pinned. One context for all who trust the same, which remembers the last session with each host, so
that a connection costs its first handshake only. Does not know connections.
"""

from __future__ import annotations

import functools
import ssl
from pathlib import Path

from .errors import ConfigError


class Client(ssl.SSLContext):
    """`sessions[host]`: with what the next connection to it may begin (RFC 8446 2.2)."""

    sessions: dict[str | bytes | None, ssl.SSLSession]

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Event loops call this and know no sessions."""
        known = session or self.sessions.get(server_hostname)
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, known)


@functools.cache
def client(ca_file: Path | None = None) -> Client:
    """The context for who trusts `ca_file`, or the system's signers. Raises ConfigError."""
    context = Client(ssl.PROTOCOL_TLS_CLIENT)  # verifies signer and name
    context.sessions = {}
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is None:
        context.load_default_certs()
        return context
    try:
        context.load_verify_locations(ca_file)
    except ssl.SSLError:
        problem = f"found {ca_file}, allowed a PEM file of certificates"
    except OSError as error:
        problem = f"found {ca_file}: {error.strerror}"
    else:
        return context
    raise ConfigError([f"origin.ca_file: {problem}"])
