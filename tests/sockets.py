"""Ports for servers that are started as processes and must be told one."""

from __future__ import annotations

from dataclasses import asdict

from edgecache.demo_plan import Ports, free_ports

_given: set[int] = set()


def free_port() -> int:
    """One that was free a moment ago, that no outgoing connection is given meanwhile, and that was
    given to nobody else here, who may not listen yet."""
    while (found := int(asdict(free_ports(Ports()))["origin"])) in _given:
        pass
    _given.add(found)
    return found
