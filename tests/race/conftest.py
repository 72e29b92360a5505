"""Races use the same edges as tests/native: proven at rest, then stopped."""

from __future__ import annotations

from tests.native.conftest import edges as edges
