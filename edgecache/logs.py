"""Log records on stderr: JSON lines for machines, aligned lines for people; to the journal of
systemd with their level before them (sd-daemon(3)).

Law: one record is one line whatever a peer put in it (control bytes are escaped); values registered
with `redact()` and anything that looks like a credential never reach the output. Nobody waits for
who reads stderr (outlet.py), so lines may be dropped, which is counted and told.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import re
import sys
import time
from collections import Counter
from typing import Final, Literal, TextIO

from .outlet import Outlet

Format = Literal["console", "json"]

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CREDENTIAL: Final = re.compile(
    r"(?i)\b(sig|secret|token|password|passphrase|stream_?key|authorization)"
    r"(\"?\s*[=:]\s*\"?)[^\s,;&\"']+"
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_MASK: Final = "[redacted]"
_SYSLOG: Final = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)
_secrets: set[str] = set()

# Of lines to stderr: written, dropped because it took none.
counts: Final = Counter(lines_written=0, lines_dropped=0)


def redact(secret: str) -> None:
    """From now on `secret` is masked wherever it appears. Shorter than 4 characters is ignored (it
    would mask words)."""
    if len(secret) >= 4:
        _secrets.add(secret)


def clean(text: str) -> str:
    """`text` without credentials and with control characters escaped."""
    for secret in _secrets:
        text = text.replace(secret, _MASK)
    text = _CREDENTIAL.sub(rf"\1\2{_MASK}", text)
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {
        name: value if isinstance(value, (int, float, bool)) or value is None else clean(str(value))
        for name, value in vars(record).items()
        if name not in _STANDARD
    }


def _trace(record: logging.LogRecord, formatter: logging.Formatter) -> str:
    return (
        formatter.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""
    )


class JsonFormatter(logging.Formatter):
    """{"time": RFC 3339 UTC, "level", "logger", "message", …extra fields, "trace"}"""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": clean(record.getMessage()),
            **_extras(record),
        }
        if trace := _trace(record, self):
            line["trace"] = "\n".join(clean(part) for part in trace.splitlines())
        return json.dumps(line, ensure_ascii=False)


class ConsoleFormatter(logging.Formatter):
    """`12:00:01.123 INFO    edgecache.server  message  key=value`"""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        extras = "".join(f"  {name}={value}" for name, value in _extras(record).items())
        head = f"{stamp}.{int(record.msecs):03d} {record.levelname:<7} {record.name}"
        text = f"{head}  {clean(record.getMessage())}{extras}"
        trace = _trace(record, self)
        return "\n".join((text, *(f"    {clean(part)}" for part in trace.splitlines())))


class JournalFormatter(logging.Formatter):
    """`<6>` + each line that `inner` makes, whose levels are those of syslog(3)."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        number = next((each for least, each in _SYSLOG if record.levelno >= least), 7)
        return "\n".join(f"<{number}>{line}" for line in self._inner.format(record).split("\n"))


def _is_journal(stream: TextIO) -> bool:
    """Is that where the service manager has put us? (systemd.exec(5), JOURNAL_STREAM)"""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def setup(*, level: str = "info", fmt: Format = "console", stream: TextIO | None = None) -> None:
    """Route all records to `stream`, or to stderr without waiting for it. Replaces earlier
    handlers, so it may be called again."""
    formatter = _formatter(fmt, stream or sys.stderr)
    handler = _handler(stream or _stderr(formatter))
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    set_level(level)


def _formatter(fmt: Format, stream: TextIO | None) -> logging.Formatter:
    plain = JsonFormatter() if fmt == "json" else ConsoleFormatter()
    return JournalFormatter(plain) if stream is not None and _is_journal(stream) else plain


def _handler(out: TextIO | Outlet | None) -> logging.Handler:
    return logging.NullHandler() if out is None else logging.StreamHandler(out)


def _stderr(formatter: logging.Formatter) -> Outlet | None:
    """None: the process began without one."""

    def dropped(lines: int) -> str:
        told = {"name": __name__, "levelname": "WARNING", "msg": "log lines dropped"}
        return formatter.format(logging.makeLogRecord(told | {"lines": lines})) + "\n"

    if sys.stderr is None:
        return None
    outlet = Outlet(sys.stderr.fileno(), dropped, counts)
    atexit.register(outlet.close)
    return outlet


def set_level(level: str) -> None:
    """`debug`, `info`, `warning` or `error`; third-party loggers stay at warning."""
    logging.getLogger().setLevel(logging.WARNING)
    for name in ("edgecache", "origin"):
        logging.getLogger(name).setLevel(level.upper())
