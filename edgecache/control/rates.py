"""How often an address may ask for what costs us something: a token bucket each.

Laws: pure but for the clock that it is given. Bound: addresses that are known (the one not heard of
for longest is forgotten, and begins anew). An IPv6 /64 is one address.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

_HOST_BITS = 64


class Rates:
    """`per_s` on the average, `burst` at once."""

    def __init__(self, *, per_s: float, burst: float, addresses: int = 4096) -> None:
        self._per_s = per_s
        self._burst = burst
        self._addresses = addresses
        self._known: OrderedDict[int, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def take(self, address: str, now_s: float) -> bool:
        """May it, once more?"""
        name = _name(address)
        left, then_s = self._known.pop(name, (self._burst, now_s))
        left = min(self._burst, left + (now_s - then_s) * self._per_s)
        allowed = left >= 1
        self._known[name] = (left - allowed, now_s)
        while len(self._known) > self._addresses:
            self._known.popitem(last=False)
        return allowed


def _name(address: str) -> int:
    """Of an address without a zone; those of IPv4 and IPv6 do not meet."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        mapped = found.ipv4_mapped
        return int(mapped) if mapped else int(found) >> _HOST_BITS << _HOST_BITS
    return int(found)
