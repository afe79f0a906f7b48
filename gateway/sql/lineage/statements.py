"""Lineage: which output columns of a statement derive from PHI, and where PHI steers it.

Read over libpg_query's own tree, the grammar that also decides (docs/decisions/
0005-lineage-on-libpg-query.md). Whatever cannot be followed is masked whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.core.action import Influence
from gateway.core.plan import ColumnPlan
from gateway.sql.catalog import Catalog
from gateway.sql.lineage.changes import Changes
from gateway.sql.lineage.fields import attribute_names
from gateway.sql.lineage.influences import ALL_INFLUENCES, Notes
from gateway.sql.lineage.labels import Node
from gateway.sql.lineage.scopes import CLEAN, Field, Level, Shape, Taint, Untraceable, opaque
from gateway.sql.lineage.second import suspected


@dataclass(frozen=True, slots=True)
class Trace:
    """What lineage found in one statement.

    Attributes:
        columns: the output by position, empty if the statement returns no rows;
            None where it is not known, then every cell is masked.
        influences: where PHI steers the statement other than as a plain output
            column.
        phi_columns: PHI (and unclassified) columns that are read or written,
            ``schema.table.column``, also those under a view.
        columns_read: columns read of each relation that the statement names, by
            ``schema.table``; those of a view, not of the tables under it.
        touches_phi: a result or a message of the server may speak about PHI.
        phi_to_plain: PHI is written where none is expected.
        untraced: why the statement could not be followed; empty if it was.
        calls: names after a dot that are not certainly columns: PostgreSQL may call
            a function of that name.
    """

    columns: tuple[ColumnPlan, ...] | None
    influences: frozenset[Influence]
    phi_columns: frozenset[str]
    columns_read: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    touches_phi: bool = True
    phi_to_plain: bool = False
    untraced: str = ""
    calls: frozenset[str] = frozenset()


def trace(statement_tree: Mapping[str, Any], sql: str, catalog: Catalog) -> Trace:
    """Follow PHI through one statement.

    Args:
        statement_tree: ``{kind: fields}`` as ``RawStatement.tree`` gives it.
        sql: the text of that statement alone, for the second opinion.
        catalog: the relations, functions and operators that names may mean.

    Returns:
        The trace. It never raises: what cannot be followed is masked whole, with
        every influence.
    """
    notes = Notes()
    columns: tuple[ColumnPlan, ...] | None = None
    try:
        ((kind, fields),) = statement_tree.items()
        shape = Statements(catalog, notes).statement(kind, fields)
        if shape.rest is None:
            columns = tuple(map(_plan, shape.fields))
            if kind == "SelectStmt" and not all(c.masked for c in columns):
                columns = doubted(columns, suspected(sql, catalog, notes.reads, len(columns)))
    except Untraceable as error:
        return _closed(notes, error.reason, statement_tree)
    except Exception as error:  # any fault of ours masks, it never passes
        return _closed(notes, f"lineage failed ({type(error).__name__})", statement_tree)
    touches = notes.touches or bool(shape.taint)
    return Trace(
        columns,
        frozenset(notes.influences),
        frozenset(notes.phi),
        {relation: tuple(names) for relation, names in notes.reads.items()},
        touches,
        notes.to_plain,
        calls=_calls(notes, statement_tree),
    )


def shape_of(query: Mapping[str, Any], catalog: Catalog) -> Shape:
    """The columns of a query, for what is built from it (views).

    Raises:
        Untraceable: it cannot be followed.
    """
    return Statements(catalog, Notes()).query(dict(query), Level())


def _closed(notes: Notes, why: str, tree: Mapping[str, Any]) -> Trace:
    reads = {relation: tuple(names) for relation, names in notes.reads.items()}
    calls = _calls(notes, tree)
    return Trace(None, ALL_INFLUENCES, frozenset(notes.phi), reads, True, True, why, calls)


def _calls(notes: Notes, tree: Mapping[str, Any]) -> frozenset[str]:
    """The names that nothing proved to be columns, also where the trace did not come."""
    return frozenset(name for node, name in attribute_names(tree) if not notes.is_proved(node))


def doubted(
    columns: tuple[ColumnPlan, ...], opinion: tuple[bool, ...] | None
) -> tuple[ColumnPlan, ...]:
    """Mask also what the second opinion derives from PHI; it never shows anything."""
    if opinion is None:
        return columns
    return tuple(
        ColumnPlan(c.name, masked=True, why=f"{c.name} ← by the second opinion")
        if tainted and not c.masked
        else c
        for c, tainted in zip(columns, opinion, strict=True)
    )


def _plan(f: Field) -> ColumnPlan:
    name = f.name or "?column?"
    if not f.taint:
        return ColumnPlan(name, masked=False)
    kind = f.taint.kind if f.taint.copy else None
    return ColumnPlan(name, masked=True, kind=kind, why=f"{name} ← {derivation(f.taint)}")


_LISTED = 4


def derivation(taint: Taint) -> str:
    """What a value derives from, for people: ``substr(patients.ssn)``."""
    names = sorted(s.removeprefix("public.") for s in taint.sources) + sorted(taint.opaque)
    listed = ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
    if taint.copy or not taint.via or names == [taint.via]:
        return listed
    return f"{taint.via}({listed})"


class Statements(Changes):
    """Shapes of whole statements."""

    def statement(self, kind: str, body: Node) -> Shape:
        """The output of a statement.

        Raises:
            Untraceable: it cannot be followed.
        """
        readings: dict[str, Callable[[Node], Shape]] = {
            "SelectStmt": self._top_query,
            "ExplainStmt": self._explain,
            "CopyStmt": self._copy,
            "DeclareCursorStmt": self._inner,
            "PrepareStmt": self._inner,
            "CreateTableAsStmt": self._create_as,
            "ViewStmt": self._inner,
            "VariableShowStmt": self._show,
        }
        if kind in ("InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"):
            return self.modified(kind, body, Level())
        if kind in readings:
            return readings[kind](body)
        if kind in _SILENT:
            return Shape(())
        raise Untraceable("statements of this kind are not followed")

    def _top_query(self, body: Node) -> Shape:
        shape = self.query(body, Level())
        self.notes.read(shape.fields)
        if "intoClause" in _first_arm(body):
            return self._stored_anew(shape)
        return shape

    def _inner(self, body: Node) -> Shape:
        """A statement that holds another and returns no rows of it now."""
        inner = body.get("query", {})
        ((kind, fields),) = inner.items()
        self.statement(kind, fields)
        return Shape(())

    def _create_as(self, body: Node) -> Shape:
        ((kind, fields),) = body["query"].items()
        shape = self.statement(kind, fields)
        return self._stored_anew(shape)

    def _stored_anew(self, shape: Shape) -> Shape:
        """A new table takes the rows: it has no classification yet."""
        if shape.taint:
            self.notes.to_plain = True
            self.notes.touches = True
        return Shape(())

    def _explain(self, body: Node) -> Shape:
        ((kind, fields),) = body["query"].items()
        inner = self.statement(kind, fields)
        touches = self.notes.touches or bool(inner.taint)
        # Plans print conditions, estimates and constants folded from PHI.
        return Shape((Field("QUERY PLAN", opaque("explain") if touches else CLEAN),))

    def _copy(self, body: Node) -> Shape:
        if body.get("is_from"):
            relation = self.target(body["relation"])
            names = [part["String"]["sval"] for part in body.get("attlist", [])]
            self.notes.touches = True
            written = names or [c.name for c in relation.columns]
            self._note_writes(relation, dict.fromkeys(written, CLEAN))
            return Shape(())
        if "query" in body:
            ((kind, fields),) = body["query"].items()
            return self.statement(kind, fields)
        relation = self.target(body["relation"])
        shape = self.stored(relation)
        names = [part["String"]["sval"] for part in body.get("attlist", [])]
        if not names and any(c.generated for c in relation.columns):
            # COPY of a whole table leaves generated columns out (CopyGetAttnums).
            names = [c.name for c in relation.columns if not c.generated]
        if names:
            known = {f.name: f for f in shape.fields}
            if not set(names) <= set(known):
                raise Untraceable("a column that is copied is not known")
            shape = Shape(tuple(known[n] for n in names))
        self.notes.read(shape.fields)
        return Shape(tuple(Field(f.name, f.taint) for f in shape.fields), shape.rest)

    def _show(self, body: Node) -> Shape:
        """A setting of a name with a dot is anybody's variable; so is the client's name."""
        name = body["name"].lower()
        if name == "all":
            return Shape((), opaque("settings"))
        free = "." in name or name == "application_name"
        return Shape((Field(name, opaque("setting") if free else CLEAN),))


def _first_arm(body: Node) -> Node:
    while "larg" in body:
        body = body["larg"]
    return body


# They return no rows, and their messages quote no cells.
_SILENT = frozenset(
    (
        "TransactionStmt",
        "VariableSetStmt",
        "DiscardStmt",
        "DeallocateStmt",
        "ClosePortalStmt",
        "ListenStmt",
        "UnlistenStmt",
        "LockStmt",
        "CheckPointStmt",
    )
)
