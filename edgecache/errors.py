"""Errors shared by both daemons.

Law: every error carries who caused it (`source`) and whether trying again may help (`retryable`),
so that callers decide by attribute and never by parsing a message. Knows nothing of HTTP or IO.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Source = Literal["internal", "config", "downstream", "upstream"]


class EdgeError(Exception):
    """Base of all errors raised on purpose by edgecache and origin."""

    source: Source = "internal"
    retryable: bool = False


class ConfigError(EdgeError):
    """One or more problems with settings; `problems` holds one complete line each."""

    source: Source = "config"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems: tuple[str, ...] = tuple(problems)


class UnitError(EdgeError, ValueError):
    """A quantity without, or with an unknown, unit. The message says what is allowed."""

    source: Source = "config"


class SignatureError(EdgeError):
    """A request is not signed as the contract asks; `status` is the answer it deserves."""

    source: Source = "downstream"

    def __init__(self, reason: str, *, status: int = 401) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


class UpstreamError(EdgeError):
    """An origin failed to give a usable response; `reason` is a counter label (`timeout`, `refused`
    …). `retry_after_s`: it said when to ask again."""

    source: Source = "upstream"

    def __init__(
        self, reason: str, message: str = "", *, retryable: bool = True, retry_after_s: int = 0
    ) -> None:
        super().__init__(message or reason)
        self.reason = reason
        self.retryable = retryable
        self.retry_after_s = retry_after_s
