"""The bench: named questions about this cache and its peers, answered by one run on one machine.

A figure counts only as a ratio to the floor and to the peers of the same run. It does not know how
the servers work inside: it starts them, offers a fixed load, and reads what the kernel charged.
"""

from __future__ import annotations
