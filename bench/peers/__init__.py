"""The servers under test: one declarative table, and the configuration files it names.

A peer is configured as its manual says is best for this work; a benchmark that hobbles a peer is
worthless. What was set and why stands in each template.
"""

from __future__ import annotations
