"""Places for sessions: so many in all, and never all of them for one identity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.errors import GatewayFault

SHARE = 2
"""One identity may hold this part of all places, so that it cannot lock out the others."""


class Places:
    """Counts the sessions that run; belongs to one event loop.

    Args:
        total: sessions at the same time, 1 or more.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._each = max(1, total // SHARE)
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, identity_id: str) -> Iterator[None]:
        """Hold a place while a session runs.

        Args:
            identity_id: ``Identity.id`` of who asks.

        Raises:
            GatewayFault: all are taken, or all that one identity may have.
        """
        if self._taken.total() >= self._total:
            raise GatewayFault(
                "This gateway serves as many sessions as it may",
                "Try again in a moment; [limits] sessions sets how many",
                rule="limits.sessions",
            )
        if self._taken[identity_id] >= self._each:
            raise GatewayFault(
                f"You have {self._each} sessions, as many as one identity may",
                f"End some first; it is one part in {SHARE} of [limits] sessions",
                rule="limits.identity-sessions",
            )
        self._taken[identity_id] += 1
        try:
            yield
        finally:
            self._taken[identity_id] -= 1
            if not self._taken[identity_id]:
                del self._taken[identity_id]
