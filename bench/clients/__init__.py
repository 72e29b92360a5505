"""Clients that h2load cannot be: crowds that wait, idle or crawl. Each is a process of its own in
the client's namespace: `python -m bench.clients NAME '{json}'`, one JSON object a line on stdout.
"""

from __future__ import annotations
