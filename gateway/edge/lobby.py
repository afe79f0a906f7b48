"""The lobby: connections that have not yet proved who they are, so many and no more.

Each holds a descriptor for up to the login's time limit, and needs no certificate for
that: without a bound, one address could take all descriptors and keep everybody out.
"""

from __future__ import annotations

from collections import Counter

TOTAL = 512
EACH = 64
"""Of one address: runners behind one address log in within a tenth of a second each."""


class Lobby:
    """Counts those who wait to be let in; belongs to one event loop.

    Args:
        total: connections in all.
        each: of one address.
    """

    def __init__(self, total: int = TOTAL, each: int = EACH) -> None:
        self._total = total
        self._each = each
        self._waiting: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """Take a place; False if there is none, then the connection must be closed."""
        if self._waiting[address] >= self._each or self._waiting.total() >= self._total:
            return False
        self._waiting[address] += 1
        return True

    def leave(self, address: str) -> None:
        """Give the place back: authenticated, or gone."""
        self._waiting[address] -= 1
        if self._waiting[address] <= 0:
            del self._waiting[address]
