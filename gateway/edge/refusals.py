"""Refused logins, counted by source and reason, written as one leaf a minute each.

A flood of bad tokens must not become a flood of the ledger, and the number of
sources that are kept apart is bounded; the rest is summed as "other".
"""

from __future__ import annotations

import secrets
from collections import Counter
from datetime import UTC, datetime
from typing import Protocol

from recorder.leaf import SALT_BYTES, Leaf

MAX_SOURCES = 500
"""Different (source, rule) pairs a minute; a leaf for each at most."""

OTHER = "other"


class Ledger(Protocol):
    """Where leaves go; ``append`` returns once they are durable.

    Raises:
        RecorderFault: nothing was added.
    """

    async def append(self, *leaves: Leaf) -> list[int]:
        """Add leaves in this order."""
        ...


class Refusals:
    """The tally between two writes.

    Args:
        ledger: where the sums go.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._counts: Counter[tuple[str, str]] = Counter()
        self._since: datetime | None = None

    def note(self, source: str, rule: str) -> None:
        """Count one refusal.

        Args:
            source: the client's address.
            rule: the refusal's stable identifier.
        """
        if self._since is None:
            self._since = datetime.now(UTC)
        pair = (source, rule)
        if pair not in self._counts and len(self._counts) >= MAX_SOURCES:
            pair = (OTHER, OTHER)
        self._counts[pair] += 1

    async def flush(self) -> None:
        """Write what was counted; call it once a minute and at the end.

        Raises:
            RecorderFault: the counts are kept for the next time.
        """
        counts, since, now = self._counts, self._since, datetime.now(UTC)
        if since is None:
            return
        self._counts, self._since = Counter(), None
        leaves = [
            Leaf(
                type="auth.refused",
                time=now,
                session="",
                body={
                    "source": source,
                    "rule": rule,
                    "count": count,
                    "since": since.strftime("%Y-%m-%dT%H:%M:%SZ"),
                },
                salt=secrets.token_bytes(SALT_BYTES),
            )
            for (source, rule), count in sorted(counts.items())
        ]
        try:
            await self._ledger.append(*leaves)
        except BaseException:
            self._counts.update(counts)
            self._since = since
            raise
