"""Micro-benchmarks: what one operation of each native unit costs, in nanoseconds.

Not part of any claim about the whole: a tool to see which unit a change made slower. Collected only
when asked for (`python -m pytest bench/micro`); nothing here has a threshold.
"""

from __future__ import annotations
