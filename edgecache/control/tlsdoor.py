"""A door behind TLS: connections are accepted, shaken hands with, and given to a protocol.

Laws: TLS 1.2 and newer. Bounds: handshakes at once (beyond: closed) and the time of each; who only
connects is not a publisher yet. The certificate may be replaced while it serves, and the old one
stays when the new one is wrong. Does not know what is spoken inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..errors import ConfigError

_HANDSHAKES: Final = 64
_HANDSHAKE_S: Final = 5.0
_BATCH: Final = 16  # connections accepted before others have their turn


class Certificate:
    """The files of a certificate chain and its key, as the context of a server. Raises
    ConfigError."""

    def __init__(self, chain: Path, key: Path) -> None:
        self._chain = chain
        self._key = key
        self.context = self._made()

    def reload(self) -> None:
        """New connections get what the files hold now. Raises ConfigError, and changes nothing."""
        self._made()
        self.context.load_cert_chain(self._chain, self._key)

    def _made(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            # A key that is encrypted is an error, not a question on the terminal.
            context.load_cert_chain(self._chain, self._key, password="")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", "") or str(error)
            text = f"ingest.certificate: found {self._chain} with {self._key}: {reason}"
            raise ConfigError([text]) from None
        return context


class TlsDoor:
    """start(listener, certificate), then close(): connections that are on go on."""

    def __init__(
        self, protocol: Callable[[], asyncio.Protocol], counts: Counter[str], *,
        handshakes: int = _HANDSHAKES, handshake_s: float = _HANDSHAKE_S,
    ) -> None:  # fmt: skip
        self._protocol = protocol
        self._counts = counts  # rejected.handshakes: too many at once; rejected.tls: failed
        self._handshakes = handshakes
        self._handshake_s = handshake_s
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, listener: socket.socket, certificate: Certificate) -> None:
        """Serve on a listening socket, which becomes ours."""
        listener.setblocking(False)
        self._listener = listener
        self._context = certificate.context
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def close(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def stop(self) -> None:
        """`close`, and give up the handshakes."""
        self.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_BATCH):
            try:
                connection, _ = listener.accept()
            except OSError:  # none any more, gone again, or no descriptor
                return
            if len(self._tasks) >= self._handshakes:
                self._counts["rejected.handshakes"] += 1
                connection.close()
                continue
            task = asyncio.get_running_loop().create_task(self._shake(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _shake(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            async with asyncio.timeout(self._handshake_s):
                await asyncio.get_running_loop().connect_accepted_socket(
                    self._protocol, connection, ssl=self._context
                )
        except (OSError, TimeoutError):
            self._counts["rejected.tls"] += 1
            with contextlib.suppress(OSError):
                connection.close()
