"""Actions: what a line would do, in the one vocabulary that policies read.

A connector turns a line into a list of actions. One action denied denies the
line, so an action that is listed needlessly is safe and one that is missing is
a hole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Influence = Literal["filter", "join", "order", "group", "expression"]
"""Where PHI steers a statement other than as a plain output column."""

Form = Literal["single", "script", "prompt"]
"""How the line came: one exec command, a script on stdin, or the prompt."""

ObjectKind = Literal[
    "table",
    "view",
    "sequence",
    "function",
    "schema",
    "database",
    "role",
    "setting",
    "type",
    "transaction",
    "other",
]


@dataclass(frozen=True, slots=True)
class Facts:
    """What policies may ask about one action (Cedar's ``context``).

    Attributes:
        has_where: the statement limits its rows by a WHERE clause.
        phi: the action reads, writes or names something that holds PHI.
        phi_influences: where PHI steers the statement other than as a plain
            output column.
        phi_to_plain: PHI is written where no PHI is expected.
        ddl: the statement changes definitions.
        recursive: cascades, or acts on everything below the object.
        wildcard: the object stands for more than one (``*``, ALL TABLES).
        setting_safe: a SET of a setting that cannot loosen the gate.
        columns: the columns that are read or written, if known.
        phi_columns: those of them that are PHI or unclassified.
        statements: how many statements the line has.
        form: how the line came.
    """

    has_where: bool = False
    phi: bool = False
    phi_influences: frozenset[Influence] = frozenset()
    phi_to_plain: bool = False
    ddl: bool = False
    recursive: bool = False
    wildcard: bool = False
    setting_safe: bool = False
    columns: tuple[str, ...] = ()
    phi_columns: tuple[str, ...] = ()
    statements: int = 1
    form: Form = "single"


@dataclass(frozen=True, slots=True)
class Action:
    """One verb on one object.

    Attributes:
        verb: lower case, one of ``gateway/core/policy.cedarschema``'s actions.
        kind: what the object is.
        name: canonical: ``database.schema.table`` for relations,
            ``schema.name(argument types)`` for functions, the bare name else.
        facts: see Facts.
    """

    verb: str
    kind: ObjectKind
    name: str
    facts: Facts = field(default_factory=Facts)

    @property
    def object(self) -> str:
        """The object as people and ``--json`` see it, columns in parentheses."""
        if self.facts.columns and self.kind in ("table", "view"):
            return f"{self.name}({', '.join(self.facts.columns)})"
        return self.name
