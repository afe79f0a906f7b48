"""Plans: what the guard lets through, and what of the answer is masked.

A plan is made when a line is decided and travels to the guard beside the exact
bytes. The guard holds an ordered queue of units; anything else ends the session.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gateway.core.action import Action


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """One output column.

    Attributes:
        name: as the server will label it; for people and the record only.
        masked: whether its cells are hidden.
        kind: the PHI kind (``ssn``, ``name``, …) where the column is a plain copy
            of one classified PHI column and may therefore show a typed tag; None
            shows the constant, also for NULL, because a mask must not speak.
        why: the derivation, as ``ssn ← patients.ssn``; empty if not masked.
    """

    name: str
    masked: bool
    kind: str | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class CopyOut:
    """How the rows of a COPY TO STDOUT are written, as the decided text says."""

    format: Literal["text", "csv"] = "text"
    delimiter: bytes = b"\t"
    null: bytes = b"\\N"
    header: bool = False


@dataclass(frozen=True, slots=True)
class ResultPlan:
    """What one SQL statement may answer.

    Attributes:
        columns: by position; None when they are not known, then every cell is
            masked with the constant.
        touches_phi: server messages about this statement are replaced by a
            generic text, because errors quote values.
        returns: ``rows``, only a command ``tag``, or ``copy``.
        copy: set when returns is ``copy``.
        counts_rows: the command tag counts every row that the statement changes, or
            it changes none. False for a writing WITH, a call, TRUNCATE, and a target
            with rules or triggers. Rows that foreign keys cascade to are in no tag.
    """

    columns: tuple[ColumnPlan, ...] | None
    touches_phi: bool
    returns: Literal["rows", "tag", "copy"]
    copy: CopyOut | None = None
    counts_rows: bool = False


@dataclass(frozen=True, slots=True)
class Unit:
    """The exact bytes of one Query message and what each of its statements may answer.

    ``psql -c`` sends a whole string as one message, a script one statement a
    message; both are kept as they would be, so transactions behave the same.
    """

    text: bytes
    results: tuple[ResultPlan, ...]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a connector made of a line.

    Attributes:
        units: in the order in which they are to be sent.
        actions: of all units, in order; never empty for a line that may run.
        shown: the line as the record shows it, PHI literals masked.
        writes: some action is not a read, so the writer login is needed.
        catalog: fingerprint of the catalog that was used, hex; empty if none.
    """

    units: tuple[Unit, ...]
    actions: tuple[Action, ...]
    shown: str
    writes: bool
    catalog: str = ""
