"""What a trace notes on its way: where PHI steers the statement, and what it reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gateway.core.action import Influence
from gateway.sql.lineage.scopes import Field, Taint, Untraceable

ALL_INFLUENCES: frozenset[Influence] = frozenset(("filter", "join", "order", "group", "expression"))

_STEPS = 50_000
"""Most syntax nodes looked at: 16 KB of SQL has some 4,000, but recursive queries inside
each other double the work with each level."""


@dataclass(slots=True)
class Notes:
    """The notes of one statement.

    Attributes:
        influences: where PHI steers it other than as a plain output column.
        phi: PHI columns that are read or written, ``schema.table.column``.
        reads: columns read of each relation that the statement names (or a view
            that it names), by ``schema.table``; in the order of reading.
        touches: it may make the server speak about PHI, in a result or a message.
        to_plain: PHI is written into a column that is not expected to hold it.
    """

    influences: set[Influence] = field(default_factory=set)
    phi: set[str] = field(default_factory=set)
    reads: dict[str, dict[str, None]] = field(default_factory=dict)
    touches: bool = False
    to_plain: bool = False
    _proved: dict[int, bool] = field(default_factory=dict)
    _steps: int = 0

    def step(self) -> None:
        """Count one node.

        Raises:
            Untraceable: over the bound.
        """
        self._steps += 1
        if self._steps > _STEPS:
            raise Untraceable("the statement is too large to follow")

    def prove(self, body: dict[str, Any], *, known: bool) -> None:
        """Note whether a ``ColumnRef`` or ``A_Indirection`` is certainly no function call.

        One that is read more than once (a recursive query) must be a field each time.
        """
        self._proved[id(body)] = known and self._proved.get(id(body), True)

    def is_proved(self, identity: int) -> bool:
        """Whether the object of this ``id``, which still lives, was proved to be a field."""
        return self._proved.get(identity, False)

    def steer(self, influence: Influence, *taints: Taint) -> None:
        """Note that these values steer the statement, if PHI is in them."""
        if any(taints):
            self.influences.add(influence)

    def read(self, fields: Iterable[Field]) -> None:
        """Note that these columns are read."""
        for f in fields:
            self.influences |= f.inner
            self.phi |= f.taint.sources
            self.touches = self.touches or bool(f.taint)
            if f.origin is not None:
                relation, column = f.origin
                self.reads.setdefault(relation, {})[column] = None

    def name(self, relation: str) -> None:
        """Note that a relation is named, even if none of its columns is read."""
        self.reads.setdefault(relation, {})

    def adopt(self, inner: Notes) -> None:
        """Take over what a view's body does whatever is asked of it."""
        self.touches = self.touches or inner.touches
        self._steps += inner._steps
