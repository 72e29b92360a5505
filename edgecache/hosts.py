"""Whether a request was meant for us, by the host that it names. At an operators' door a web page
can make a browser send one to loopback under a name of its own (DNS rebinding); at the viewers' a
name may belong to somebody else. Shared by both daemons; knows nothing of HTTP.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import urlsplit


def host_is_ours(host: str, names: frozenset[str]) -> bool:
    """Is the Host field (host[:port]) an address literal, localhost, or one of `names`?"""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def name_of(host: str) -> str:
    """Of a Host field, without its port."""
    return re.sub(r":[0-9]*$", "", host.lower())


def host_is_among(host: str, names: Sequence[str]) -> bool:
    """Does a Host field name one of `names` (lower case), of which `*.example.org` is all below
    that? Without names any does, and an empty field names nobody else. As native/hosts.pxd."""
    name = name_of(host)
    return not names or not name or any(_fits(name, own) for own in names)


def _fits(name: str, own: str) -> bool:
    if own.startswith("*."):
        return name.endswith(own[1:]) and len(name) >= len(own)
    return name == own
