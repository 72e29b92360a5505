"""Quantities as people write them: `64MiB`, `2s`, `1Gbps`; and dates as machines do.

Law: a bare number other than 0 is refused, because nobody remembers whether it meant bytes or
megabytes. Everything is exact integer arithmetic; a value that is not a whole number of the base
unit is refused. Base units: sizes in bytes, durations in milliseconds, rates in bytes per second.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from .errors import UnitError

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30
SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000

_SIZES: Final[dict[str, Decimal]] = {
    "B": Decimal(1), "kB": Decimal(10**3), "KB": Decimal(10**3), "MB": Decimal(10**6),
    "GB": Decimal(10**9), "TB": Decimal(10**12), "KiB": Decimal(KIB), "MiB": Decimal(MIB),
    "GiB": Decimal(GIB), "TiB": Decimal(1 << 40),
}  # fmt: skip
_DURATIONS: Final[dict[str, Decimal]] = {
    "ms": Decimal(1), "s": Decimal(SECOND_MS), "m": Decimal(MINUTE_MS), "min": Decimal(MINUTE_MS),
    "h": Decimal(HOUR_MS), "d": Decimal(24 * HOUR_MS),
}  # fmt: skip
_RATES: Final[dict[str, Decimal]] = {
    "bps": Decimal(1) / 8, "kbps": Decimal(10**3) / 8, "Mbps": Decimal(10**6) / 8,
    "Gbps": Decimal(10**9) / 8, "B/s": Decimal(1), "kB/s": Decimal(10**3), "KiB/s": Decimal(KIB),
    "MB/s": Decimal(10**6), "MiB/s": Decimal(MIB), "GiB/s": Decimal(GIB),
}  # fmt: skip
_QUANTITY: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z/]+)", re.ASCII)


def _parse(value: object, table: dict[str, Decimal], allowed: str) -> int:
    if value in (0, "0") and not isinstance(value, bool):
        return 0
    match = _QUANTITY.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None or match[2] not in table:
        raise UnitError(allowed)
    amount = Decimal(match[1]) * table[match[2]]
    if amount != int(amount) or amount >= 1 << 62:
        raise UnitError(allowed)
    return int(amount)


def parse_size(value: object) -> int:
    """`"64MiB"` -> bytes. KB, MB, GB are powers of ten; KiB, MiB, GiB of two. Raises UnitError."""
    return _parse(value, _SIZES, 'a size with its unit, such as "64MiB", "512KiB" or "1GB"')


def parse_duration_ms(value: object) -> int:
    """`"2s"`, `"500ms"`, `"1.5h"` -> milliseconds. Raises UnitError."""
    return _parse(value, _DURATIONS, 'a duration with its unit, such as "500ms", "2s" or "1h"')


def parse_rate(value: object) -> int:
    """`"1Gbps"` (bits) or `"64KiB/s"` (bytes) -> bytes per second. Raises UnitError."""
    return _parse(value, _RATES, 'a rate with its unit, such as "20Mbps" or "64KiB/s"')


def _format(amount: int, units: tuple[tuple[str, int], ...]) -> str:
    if amount == 0:
        return "0"
    name, factor = next((unit for unit in units if amount % unit[1] == 0), units[-1])
    return f"{amount // factor}{name}"


def format_size(size_bytes: int) -> str:
    """The shortest exact text that parse_size() reads back to the same number."""
    return _format(size_bytes, (("GiB", GIB), ("MiB", MIB), ("KiB", KIB), ("B", 1)))


def format_duration_ms(duration_ms: int) -> str:
    """The shortest exact text that parse_duration_ms() reads back to the same number."""
    return _format(duration_ms, (("h", HOUR_MS), ("m", MINUTE_MS), ("s", SECOND_MS), ("ms", 1)))


def format_rate(rate_bytes_s: int) -> str:
    """The shortest exact text that parse_rate() reads back to the same number."""
    return _format(rate_bytes_s, (("MiB/s", MIB), ("MB/s", 10**6), ("KiB/s", KIB), ("B/s", 1)))


def xs_date(unix_ns: int) -> str:
    """An xs:dateTime of 1 ms, rounded down: nothing is said to be there before it is made."""
    date = datetime.fromtimestamp(unix_ns // 1_000_000_000, UTC)
    return f"{date:%Y-%m-%dT%H:%M:%S}.{unix_ns % 1_000_000_000 // 1_000_000:03d}Z"
