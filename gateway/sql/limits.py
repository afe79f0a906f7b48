"""How much SQL the gate reads before it refuses to read on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SqlLimits:
    """Bounds on one line; what is over a bound is refused, never cut.

    libpg_query takes time that is quadratic in nested comments and stack that
    is linear in nesting, so both are counted before it sees a byte. The worker
    that parses has limits of time and memory of its own.

    Attributes:
        statement_bytes: longest single command, or statement of a script.
        script_bytes: longest script.
        statements: most statements in one line.
        brackets: deepest nesting of parentheses and square brackets.
        comments: deepest nesting of block comments.
        nodes: most syntax nodes on the way from a statement to a leaf. Chains
            of one operator nest too, one level a link.
        output_columns: most columns of a result; PostgreSQL's own
            MaxTupleAttributeNumber (access/htup_details.h).
        statement_timeout_ms: what the guard pins on the target, in milliseconds; a SET
            to more than that is not safe. 0 if it pins none.
    """

    statement_bytes: int = 16 * 1024
    script_bytes: int = 256 * 1024
    statements: int = 200
    brackets: int = 100
    comments: int = 20
    nodes: int = 200
    output_columns: int = 1664
    statement_timeout_ms: int = 300_000
