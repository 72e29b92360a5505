"""Addresses in settings: where to listen, and base URLs of others."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator


def _listen(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not (host and colon and port.isdigit() and int(port) < 65536):
        raise ValueError('an address such as "127.0.0.1:8080" or "[::]:8080"')
    return value


def _url(value: str) -> str:
    parts = urlsplit(value)
    try:
        usable = parts.scheme == "http" and bool(parts.hostname) and (parts.port or 80) > 0
    except ValueError:
        usable = False
    if not usable or parts.path not in ("", "/") or parts.query or parts.username:
        raise ValueError('a base URL such as "http://pop1.example:9000"')
    return value.rstrip("/")


Listen = Annotated[str, AfterValidator(_listen)]
OptionalListen = Annotated[str, AfterValidator(lambda text: _listen(text) if text else text)]
Url = Annotated[str, AfterValidator(_url)]
