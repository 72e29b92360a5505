"""Ports for servers that are started as processes and must be told one."""

from __future__ import annotations

from dataclasses import asdict

from edgecache.demo_plan import Ports, free_ports


def free_port() -> int:
    """One that was free a moment ago, and that no outgoing connection is given meanwhile."""
    found: int = asdict(free_ports(Ports()))["origin"]
    return found
