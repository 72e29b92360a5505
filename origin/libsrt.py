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
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edgecache.errors import EdgeError

_NAMES: Final = ("libsrt-gnutls.so.1.5", "libsrt-openssl.so.1.5", "libsrt.so.1.5")
_INSTALL: Final = "install it (Debian: apt-get install libsrt1.5-gnutls)"
# SRTO_...
_WAITS, _LATENCY, _PASSPHRASE, _AGREED_LATENCY, _STREAM_ID, _IPV6_ONLY = 2, 23, 26, 43, 46, 54
_LEFT: Final = 20  # SRTO_RCVDATA: packets that have arrived and were not read
_READABLE: Final = 0x1 | 0x8  # SRT_EPOLL_IN, _ERR
_NOTHING_YET: Final = 6002  # SRT_EASYNCRCV
_LOG_CRITICAL: Final = 2
_BACKLOG: Final = 16
_MESSAGE_BYTES: Final = 1500
_STREAM_ID_BYTES: Final = 513
_LOOK_S: Final = 1.0  # a wait that is not told of an end notices it then
_SHAKE_S: Final = 5.0  # the longest that a handshake waits before a caller gives up, and more
_END_S: Final = 0.01  # between two looks for what is left at the end
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
    """One accepted connection. Read without blocking: a read that waits when the connection ends
    takes a message with it."""

    def __init__(self, library: ctypes.CDLL, handle: int, address: str) -> None:
        self._library = library
        self._handle = handle
        self._buffer = ctypes.create_string_buffer(_MESSAGE_BYTES)
        self._closed = threading.Event()
        number, size = ctypes.c_int(0), ctypes.c_int(4)
        library.srt_setsockflag(handle, _WAITS, ctypes.byref(number), 4)
        library.srt_getsockflag(handle, _AGREED_LATENCY, ctypes.byref(number), ctypes.byref(size))
        self._latency_s = number.value / 1000
        self._until_s = 0.0  # of what is left at the end
        self._poll = library.srt_epoll_create()
        number.value = _READABLE
        library.srt_epoll_add_usock(self._poll, handle, ctypes.byref(number))
        self.address = address

    def stream_id(self) -> str:
        """As it was when it was judged."""
        text, size = ctypes.create_string_buffer(_STREAM_ID_BYTES), ctypes.c_int(_STREAM_ID_BYTES)
        self._library.srt_getsockflag(self._handle, _STREAM_ID, text, ctypes.byref(size))
        return text.raw[: size.value].rstrip(b"\0").decode("utf-8", "replace")

    def read(self) -> bytes:
        """The next message; waits for it. b"" when the connection is over, however it ended, and
        all that had arrived has been read."""
        while True:
            size = self._library.srt_recvmsg(self._handle, self._buffer, _MESSAGE_BYTES)
            if size > 0:
                return self._buffer.raw[:size]
            if self._library.srt_getlasterror(None) == _NOTHING_YET:
                self._wait()
            elif not self._lingers():
                return b""

    def close(self) -> None:
        """The publisher is told, whoever reads is woken. Idempotent."""
        if not self._closed.is_set():
            self._closed.set()
            self._library.srt_close(self._handle)
            self._library.srt_epoll_release(self._poll)

    def _wait(self) -> None:
        event = (ctypes.c_int * 2)()  # SRT_EPOLL_EVENT
        self._library.srt_epoll_uwait(self._poll, event, 1, ctypes.c_int64(round(_LOOK_S * 1000)))

    def _lingers(self) -> bool:
        """After the end: is a message left whose time has not come? libsrt gives each at its time,
        also then. That is later by what the handshake had to wait for."""
        if not self._until_s:
            self._until_s = time.monotonic() + self._latency_s + _SHAKE_S
        left, size = ctypes.c_int(0), ctypes.c_int(4)
        self._library.srt_getsockflag(self._handle, _LEFT, ctypes.byref(left), ctypes.byref(size))
        in_time = time.monotonic() < self._until_s
        return bool(left.value) and in_time and not self._closed.wait(_END_S)


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
