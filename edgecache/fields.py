"""What the text of a setting may be: addresses, URLs, networks, path prefixes, parameter names.

Law: pure; a bad value is a ValueError that says what is allowed. Does not know which setting it is.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator

from .settings import Names

_NETWORKS: Final = 64  # native/door.pxd
_HOSTS: Final = 64  # native/hosts.pxd
_HOST: Final = re.compile(
    r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]", re.ASCII | re.IGNORECASE
)


def split_address(text: str) -> tuple[str, int]:
    """`127.0.0.1:80`, `[::1]:80` or `:80` (all addresses) -> (host, port). Raises ValueError."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\s:\[\]]*)):([0-9]{1,5})", text, re.ASCII)
    if match is None or int(match[3]) > 65535:
        raise ValueError('an address such as "127.0.0.1:8080", "[::1]:8080" or ":8080"')
    return match[1] or match[2] or "0.0.0.0", int(match[3])


def _listen(text: str) -> str:
    split_address(text)
    return text


def _admin_listen(text: str) -> str:
    """An address, "" or `unix:` and an absolute path."""
    if text.startswith("unix:"):
        if not text.removeprefix("unix:").startswith("/"):
            raise ValueError('an absolute path behind "unix:"')
        return text
    return _listen(text) if text else text


def is_loopback(listen: str) -> bool:
    host = split_address(listen)[0]
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _url(text: str) -> str:
    parts = urlsplit(text)
    try:
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
        raise ValueError('a base URL without a path, such as "http://origin.example:8080"')
    return text.rstrip("/")


def _urls(value: object) -> object:
    """`http://a,http://b` from the environment or the command line is a list."""
    return (
        [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, str)
        else value
    )


def _prefix(text: str) -> str:
    if not re.fullmatch(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]+/)*", text) or len(text) > 128:
        raise ValueError('a path that begins and ends with "/", at most 128 long')
    return text


def _query(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(names) > 8 or not all(
        re.fullmatch(r"(?!_HLS_)[A-Za-z0-9._~-]{1,32}", name, re.ASCII) for name in names
    ):
        raise ValueError("up to 8 names of [A-Za-z0-9._~-]{1,32}, none of them _HLS_…")
    return names


def _networks(values: tuple[str, ...]) -> tuple[str, ...]:
    try:
        known = [ipaddress.ip_network(value) for value in values]
    except ValueError:
        known = []
    if len(known) != len(values) or len(values) > _NETWORKS:
        raise ValueError(f'up to {_NETWORKS} networks such as "10.0.0.0/8" or "2001:db8::/32"')
    return values


def _hosts(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(names) > _HOSTS or not all(_HOST.fullmatch(name) and len(name) < 254 for name in names):
        raise ValueError(
            f'up to {_HOSTS} names without a port, such as "pop.example.org" or "*.example.org"'
        )
    return tuple(name.lower() for name in names)


def packed(network: str) -> tuple[bytes, int]:
    """As an IPv6 network: (address, bits). IPv4 is mapped there (RFC 4291 2.5.5.2)."""
    found = ipaddress.ip_network(network)
    mapped = b"" if found.version == 6 else bytes(10) + b"\xff\xff"
    return mapped + found.network_address.packed, 8 * len(mapped) + found.prefixlen


Listen = Annotated[str, AfterValidator(_listen)]
OptionalListen = Annotated[str, AfterValidator(lambda text: _listen(text) if text else text)]
AdminListen = Annotated[str, AfterValidator(_admin_listen)]
Url = Annotated[str, AfterValidator(_url)]
OptionalUrl = Annotated[str, AfterValidator(lambda text: _url(text) if text else text)]
Urls = Annotated[tuple[Url, ...], BeforeValidator(_urls)]
Prefix = Annotated[str, AfterValidator(_prefix)]
Networks = Annotated[Names, AfterValidator(_networks)]
Hosts = Annotated[Names, AfterValidator(_hosts)]
QueryNames = Annotated[Names, AfterValidator(_query)]
