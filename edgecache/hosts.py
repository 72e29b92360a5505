"""Whether a request to an operators' door was meant for us: a web page can make a browser send one
to loopback under a name of its own (DNS rebinding). Shared by both daemons; knows nothing of HTTP.
"""

from __future__ import annotations

import ipaddress
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
