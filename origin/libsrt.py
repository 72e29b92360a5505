"""libsrt of the host, as far as a listener needs it, through ctypes.

Laws: every call that waits lets go of the GIL; `close` of a listener or caller ends whatever waits
for it, from any thread. A caller is judged by its stream id before it is accepted, on a thread of
libsrt that serves all callers: whoever judges is quick. What libsrt prints itself is silenced: it
would show stream ids, which are keys. Numbers: srt.h of 1.5. Does not know keys or media.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edgecache.errors import EdgeError

_NAMES: Final = ("libsrt-gnutls.so.1.5", "libsrt-openssl.so.1.5", "libsrt.so.1.5")
_INSTALL: Final = "install it (Debian: apt-get install libsrt1.5-gnutls)"
_LATENCY, _PASSPHRASE, _STREAM_ID, _IPV6_ONLY = 23, 26, 46, 54  # SRTO_...
_LOG_CRITICAL: Final = 2
_BACKLOG: Final = 16
_MESSAGE_BYTES: Final = 1500
_STREAM_ID_BYTES: Final = 513
_Hook = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p
)


class LibraryError(EdgeError):
    """libsrt is missing or says no; one line for a person."""

    source = "config"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of a caller: `code` refuses it (0: it may come), `passphrase` is what it must know (none:
    it must not encrypt)."""

    code: int = 0
    passphrase: bytes = b""


Judge = Callable[[str], Verdict]


def load() -> ctypes.CDLL:
    """The library. Raises LibraryError."""
    for name in _NAMES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise LibraryError(f"found no libsrt 1.5 on this host; {_INSTALL}")


class Caller:
    """One accepted connection."""

    def __init__(self, library: ctypes.CDLL, handle: int, address: str) -> None:
        self._library = library
        self._handle = handle
        self._buffer = ctypes.create_string_buffer(_MESSAGE_BYTES)
        self.address = address

    def stream_id(self) -> str:
        """As it was when it was judged."""
        text, size = ctypes.create_string_buffer(_STREAM_ID_BYTES), ctypes.c_int(_STREAM_ID_BYTES)
        self._library.srt_getsockflag(self._handle, _STREAM_ID, text, ctypes.byref(size))
        return text.raw[: size.value].rstrip(b"\0").decode("utf-8", "replace")

    def read(self) -> bytes:
        """The next message; waits for it. b"" when the connection is over, however it ended."""
        size = self._library.srt_recvmsg(self._handle, self._buffer, _MESSAGE_BYTES)
        return self._buffer.raw[:size] if size > 0 else b""

    def close(self) -> None:
        """The publisher is told. Idempotent."""
        self._library.srt_close(self._handle)


class Listener:
    """Bound and listening at once. Raises LibraryError. latency_ms: the least that is agreed on;
    a caller that wants more gets more."""

    def __init__(
        self, library: ctypes.CDLL, host: str, port: int, *, latency_ms: int, judge: Judge
    ) -> None:
        self._library = library
        self._judge = judge
        library.srt_getlasterror_str.restype = ctypes.c_char_p
        library.srt_startup()
        library.srt_setloglevel(_LOG_CRITICAL)
        self._handle = library.srt_create_socket()
        self._hook = _Hook(self._asked)  # libsrt calls it for as long as this lives
        try:
            where = _packed(host, port)
            if host.count(":"):
                self._set(self._handle, _IPV6_ONLY, 0)
            self._set(self._handle, _LATENCY, latency_ms)
            self._check(library.srt_bind(self._handle, where, len(where)))
            self._check(library.srt_listen_callback(self._handle, self._hook, None))
            self._check(library.srt_listen(self._handle, _BACKLOG))
        except BaseException:
            self.close()
            self.release()
            raise

    @property
    def port(self) -> int:
        where, size = ctypes.create_string_buffer(28), ctypes.c_int(28)
        self._library.srt_getsockname(self._handle, where, ctypes.byref(size))
        return _unpacked(where.raw)[1]

    def accept(self) -> Caller | None:
        """The next caller that was let in; waits for it. None once the listener is closed."""
        where, size = ctypes.create_string_buffer(28), ctypes.c_int(28)
        handle = self._library.srt_accept(self._handle, where, ctypes.byref(size))
        return Caller(self._library, handle, _unpacked(where.raw)[0]) if handle >= 0 else None

    def close(self) -> None:
        """Take no more callers; who waits in `accept` is woken."""
        self._library.srt_close(self._handle)

    def release(self) -> None:
        """After `close`, when nobody waits any more: the library's own threads end."""
        self._library.srt_cleanup()

    def _asked(self, _: int, handle: int, _version: int, _peer: int, stream_id: bytes) -> int:
        verdict = self._judge((stream_id or b"").decode("utf-8", "replace"))
        if verdict.code:
            self._library.srt_setrejectreason(handle, verdict.code)
            return -1
        if verdict.passphrase:
            secret = verdict.passphrase
            return int(self._library.srt_setsockflag(handle, _PASSPHRASE, secret, len(secret)))
        return 0

    def _set(self, handle: int, option: int, value: int) -> None:
        number = ctypes.c_int(value)
        self._check(self._library.srt_setsockflag(handle, option, ctypes.byref(number), 4))

    def _check(self, result: int) -> None:
        if result < 0:
            raise LibraryError(self._library.srt_getlasterror_str().decode("utf-8", "replace"))


def _packed(host: str, port: int) -> bytes:
    """A sockaddr. Raises LibraryError for a name that is no address."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise LibraryError(f"{host}: {error.strerror}") from None
    family, address = found[0], socket.inet_pton(found[0], str(found[4][0]))
    head = struct.pack("=H", family) + struct.pack("!H", port)
    if family == socket.AF_INET6:
        return head + bytes(4) + address + bytes(4)
    return head + address + bytes(8)


def _unpacked(where: bytes) -> tuple[str, int]:
    family, port = struct.unpack_from("=H", where)[0], struct.unpack_from("!H", where, 2)[0]
    if family == socket.AF_INET6:
        return socket.inet_ntop(family, where[8:24]), port
    return socket.inet_ntop(socket.AF_INET, where[4:8]), port
