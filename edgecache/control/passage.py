"""One publisher's bytes, as they are, on their way to the first data centre that takes them.

Law: once one has them no other is asked, for nothing can be sent again (straight.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from ..errors import UpstreamError
from .admission import Admitted, RefusedError
from .dial import Ways
from .straight import REASONS, Limits, SignFields, Straight

__all__ = ("REASONS", "Limits", "Passage", "SignFields")


class Passage(Straight):
    """await open(), then send(); at the end await finish(), or abort()."""

    @classmethod
    async def open(
        cls,
        admitted: Admitted,
        fields: Sequence[tuple[str, str]],
        *,
        ways: Ways,
        sign: SignFields,
        limits: Limits,
    ) -> Passage:
        """At the first data centre that takes it; `fields` say what it is. Raises RefusedError."""
        for url in admitted.urls:
            with contextlib.suppress(UpstreamError):
                return await cls.to(url, fields, ways=ways, sign=sign, limits=limits)
        raise RefusedError("away", "the data centre does not answer; try again")
