"""What a value derives from: taints of expressions.

Every node that has no reading of its own here takes the taint of everything
below it, so a construct that nobody thought of is tainted by its parts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from gateway.sql.catalog import Catalog, Relation
from gateway.sql.functions import REVIEWED
from gateway.sql.lineage.fields import (
    ROW_FIELD,
    SYSTEM_COLUMNS,
    are_row_fields,
    cast_type,
    element_type,
    field_type,
    has_column,
)
from gateway.sql.lineage.influences import Notes
from gateway.sql.lineage.labels import Node
from gateway.sql.lineage.scopes import CLEAN, Field, Level, Shape, Taint, Untraceable, mixed, opaque

_NO_INFLUENCE = frozenset(("SubLink", "SelectStmt", "List", "ResTarget", "A_Indirection"))


class Expressions(ABC):
    """Taints of expressions; ``query`` is filled in by the layer above.

    Attributes:
        catalog: names relations, their columns, and what could capture a call.
        notes: what was seen on the way.
    """

    def __init__(self, catalog: Catalog, notes: Notes) -> None:
        self.catalog = catalog
        self.notes = notes
        self.views: dict[int, Shape] = {}
        self.open_views: set[int] = set()
        self._readings = {
            "A_Const": self._constant,
            "ColumnRef": self.column,
            "A_Indirection": self._indirection,
            "FuncCall": self._call,
            "SubLink": self._sublink,
            "SelectStmt": self._subquery,
            "TypeCast": self._cast,
            "A_Expr": self._operator,
            "CaseExpr": self._case,
        }

    @abstractmethod
    def query(self, body: Node, outer: Level) -> Shape:
        """The shape of a SELECT, VALUES or set operation."""

    def value(self, node: Any, level: Level) -> Taint:
        """The taint of an expression; notes the influence ``expression`` where PHI enters one."""
        self.notes.step()
        if isinstance(node, list):
            return self.values(node, level)
        if not isinstance(node, dict):
            return CLEAN
        if len(node) == 1:
            ((tag, body),) = node.items()
            reading = self._readings.get(tag)
            if reading is not None:
                return reading(body, level)
            if tag[:1].isupper():
                taint = mixed([self.value(body, level)], _label(tag))
                if tag not in _NO_INFLUENCE:
                    self.notes.steer("expression", taint)
                return taint
        return self.values(node.values(), level)

    def values(self, nodes: Iterable[Any], level: Level) -> Taint:
        """The taint of several values together."""
        return mixed([self.value(n, level) for n in nodes if isinstance(n, dict | list)])

    # Names

    def column(self, body: Node, level: Level) -> Taint:
        """The taint of a column reference, a copy where it is a plain one."""
        names = [part["String"].get("sval", "") for part in body["fields"] if "String" in part]
        if len(names) < len(body["fields"]):
            raise Untraceable("a * stands where a value is expected")
        fields = self.fields(names, level)
        if len(names) > 1:
            self.notes.prove(body, known=_is_column(names, level))
        if len(fields) == 1:
            return fields[0].taint
        return mixed([f.taint for f in fields])

    def fields(self, names: list[str], level: Level) -> list[Field]:
        """The columns that a reference may mean; they are noted as read.

        Raises:
            Untraceable: no level knows the name.
        """
        found = self._unqualified(names[0], level) if len(names) == 1 else None
        if found is None:
            found = self._qualified(names, level)
        self.notes.read(found)
        return found

    def _unqualified(self, name: str, level: Level) -> list[Field]:
        found = level.columns(name)
        sure = any(f.name == name for f in found)
        if not sure:
            rows = level.relations(name)
            if rows:
                found += self._whole_rows(rows)
            elif name == "tableoid":
                found += self._partition([i.columns for v in level.up() for i in v.items])
            elif name in SYSTEM_COLUMNS:
                found.append(Field(name))
        if not found:
            raise Untraceable("a column is not known")
        return found

    def _qualified(self, names: list[str], level: Level) -> list[Field]:
        column, shapes = names[-1], _relations(names, level)
        if not shapes:
            raise Untraceable("a qualified name names nothing in FROM")
        found = [f for s in shapes for f in s.named(column)]
        if not any(f.name == column for f in found) and column not in SYSTEM_COLUMNS:
            # No such column: the server would call a function of that name on the row. A row
            # of a system relation is taken only by functions that take any row.
            function = column in REVIEWED or self._captured(column)
            if function or not all(s.system for s in shapes):
                found += self._whole_rows(shapes)
                found += [Field(None, self._called([column], CLEAN))]
        elif column == "tableoid":
            found += self._partition(shapes)
        return found or [Field(column)]

    def _partition(self, shapes: list[Shape]) -> list[Field]:
        """``tableoid``: the partition of a row tells its key, and any column may be that."""
        return [Field("tableoid", mixed([s.taint for s in shapes if not s.system], "tableoid"))]

    def _whole_rows(self, shapes: list[Shape]) -> list[Field]:
        for shape in shapes:
            self.notes.read(shape.fields)
        row = mixed([s.taint for s in shapes], "row")
        self.notes.steer("expression", row)
        return [Field(None, row)]

    # Constructs

    def _constant(self, _body: Node, _level: Level) -> Taint:
        return CLEAN

    def _indirection(self, body: Node, level: Level) -> Taint:
        """``(value).field``, ``value[n]``: a field that is none calls a function of that name."""
        parts = body["indirection"]
        names = [p["String"].get("sval", "") for p in parts if "String" in p]
        argument = body["arg"]
        row = argument.get("ColumnRef", {}).get("fields", [])
        row = [p["String"].get("sval", "") for p in row if "String" in p]
        if len(row) == 1 and len(names) == len(parts) == 1 and not level.columns(row[0]):
            taints = [f.taint for f in self.fields([row[0], names[0]], level)]
            self.notes.prove(body, known=_is_column([row[0], names[0]], level))
            return taints[0] if len(taints) == 1 else mixed(taints)
        taint = mixed([self.value(argument, level), self.value(parts, level)])
        known = are_row_fields(argument, names)
        known = known or self._type({"A_Indirection": body}, level) is not None
        self.notes.prove(body, known=known)
        for name in names:
            if self._captured(name) or not (known or ROW_FIELD.fullmatch(name)):
                taint = self._called([name], taint)
        self.notes.steer("expression", taint)
        return taint

    def _type(self, node: Node, level: Level) -> str | None:
        """The type of a stored column, a cast, or a field of either; None if not sure."""
        ((tag, body),) = node.items()
        if tag == "TypeCast":
            return cast_type(body)
        if tag == "ColumnRef":
            return self._column_type(body, level)
        if tag != "A_Indirection":
            return None
        found = self._type(body["arg"], level)
        for part in body["indirection"]:
            if "String" in part:
                found = field_type(found, part["String"].get("sval", ""), self.catalog)
            else:
                found = element_type(found, part)
        return found

    def _column_type(self, body: Node, level: Level) -> str | None:
        names = [part["String"].get("sval", "") for part in body["fields"] if "String" in part]
        if len(names) == 1:
            found = level.columns(names[0])
        else:
            found = [f for s in _relations(names, level) for f in s.named(names[-1])]
        if len(found) != 1 or found[0].name != names[-1] or found[0].origin is None:
            return None
        relation, column = found[0].origin
        return next(
            (
                c.type
                for r in self.catalog.relations
                if f"{r.schema}.{r.name}" == relation
                for c in r.columns
                if c.name == column
            ),
            None,
        )

    def _cast(self, body: Node, level: Level) -> Taint:
        names = [part["String"].get("sval", "") for part in body["typeName"]["names"]]
        taint = mixed([self.value(body["arg"], level)], "cast")
        if self.catalog.casts and names[0] != "pg_catalog" and not _is_builtin_type(names):
            taint = mixed([taint, opaque(f"cast to {names[-1]}")])
        self.notes.steer("expression", taint)
        return taint

    def _operator(self, body: Node, level: Level) -> Taint:
        sides = [self.value(body[side], level) for side in ("lexpr", "rexpr") if side in body]
        names = [part["String"].get("sval", "") for part in body.get("name", [])]
        sides.append(self.operator_taint(names))
        label = {"AEXPR_NULLIF": "nullif", "AEXPR_OP": names[-1] if names else ""}
        taint = mixed(sides, label.get(body.get("kind", ""), "operator"))
        self.notes.steer("expression", taint)
        return taint

    def operator_taint(self, names: list[str]) -> Taint:
        """The taint that an operator itself brings: none if it can only be PostgreSQL's own.

        ``BETWEEN`` and the like stand for comparisons of their own names.
        """
        name = names[-1] if names else "="
        meant = {name} if not name.isalpha() and " " not in name else _COMPARISONS
        captured = len(names) < 2 and not self.catalog.operators.isdisjoint(meant)
        if captured or (len(names) > 1 and names[0] != "pg_catalog"):
            return opaque(f"operator {name}")
        return CLEAN

    def _case(self, body: Node, level: Level) -> Taint:
        compares = self.operator_taint(["="]) if "arg" in body else CLEAN
        taint = mixed([self.value(body, level), compares], "case")
        self.notes.steer("expression", taint)
        return taint

    def _call(self, body: Node, level: Level) -> Taint:
        names = [part["String"].get("sval", "") for part in body["funcname"]]
        parts = [self.value(body.get("args", []), level)]
        order = self.sorted_by(body.get("agg_order", []), level)
        condition = self.value(body.get("agg_filter"), level)
        self.notes.steer("filter", condition)
        window = self.window(body["over"], level) if "over" in body else CLEAN
        taint = self._called(names, mixed([*parts, order, condition, window]))
        self.notes.steer("expression", mixed([*parts, order, condition, window]))
        return taint

    def _called(self, names: list[str], arguments: Taint) -> Taint:
        """The taint of a call: its arguments', unless the function may do more than compute."""
        schema = names[-2] if len(names) > 1 else "pg_catalog"
        known = schema == "pg_catalog" and names[-1] in REVIEWED
        if known and (len(names) > 1 or not self._captured(names[-1])):
            return mixed([arguments], names[-1])
        return mixed([opaque(f"{names[-1]}()"), arguments], names[-1])

    def _captured(self, name: str) -> bool:
        return any(f.name == name for f in self.catalog.functions)

    def sorted_by(self, nodes: list[Node], level: Level) -> Taint:
        """The taint of an ORDER BY of expressions."""
        taint = mixed([self._sort_key(n, level) for n in nodes])
        self.notes.steer("order", taint)
        return taint

    def _sort_key(self, node: Node, level: Level) -> Taint:
        key = node["SortBy"]
        return mixed([self.value(key["node"], level), self.sort_operator(key)])

    def sort_operator(self, key: Node) -> Taint:
        """The taint that ``USING operator`` adds to a sort key."""
        names = [part["String"].get("sval", "") for part in key.get("useOp", [])]
        return self.operator_taint(names) if names else CLEAN

    def window(self, body: Node, level: Level) -> Taint:
        """The taint of a window: which rows it sees, and in which order."""
        groups = self.values(body.get("partitionClause", []), level)
        self.notes.steer("group", groups)
        order = self.sorted_by(body.get("orderClause", []), level)
        frame = self.values([body.get("startOffset"), body.get("endOffset")], level)
        named = [
            level.windows[body[key]]
            for key in ("name", "refname")
            if key in body and body[key] in level.windows
        ]
        return mixed([groups, order, frame, *named])

    def _sublink(self, body: Node, level: Level) -> Taint:
        shape = self.query(body["subselect"]["SelectStmt"], level)
        kind = body.get("subLinkType")
        if kind == "EXPR_SUBLINK" and len(shape.fields) == 1 and shape.rest is None:
            field = shape.fields[0]
            self.notes.read(shape.fields)
            return field.taint if not shape.control else mixed([field.taint, shape.control])
        if kind == "EXISTS_SUBLINK":
            # Cells that are merely listed do not show; those that may multiply rows do.
            cells = [f.taint for f in shape.fields if not f.taint.copy]
        else:
            cells = [shape.taint]
            self.notes.read(shape.fields)
        test = self.value(body.get("testexpr"), level)
        names = [part["String"].get("sval", "") for part in body.get("operName", [])]
        compares = self.operator_taint(names) if "testexpr" in body else CLEAN
        taint = mixed([*cells, shape.control, test, compares], "subquery")
        self.notes.steer("expression", taint)
        return taint

    def _subquery(self, body: Node, level: Level) -> Taint:
        shape = self.query(body, level)
        return mixed([shape.taint, shape.control], "subquery")

    # Relations

    def base(self, relation: Relation) -> Shape:
        """The shape of a table as its columns are classified."""
        origin = f"{relation.schema}.{relation.name}"
        return Shape(
            tuple(
                Field(
                    c.name,
                    Taint(frozenset((f"{origin}.{c.name}",)), copy=True, kind=c.kind)
                    if c.masked
                    else CLEAN,
                    (origin, c.name),
                )
                for c in relation.columns
            )
        )


def _relations(names: list[str], level: Level) -> list[Shape]:
    """The relations that qualify a name."""
    alias = names[-2]
    return level.all_relations(alias) if len(names) > 2 else level.relations(alias)


def _is_column(names: list[str], level: Level) -> bool:
    """Whether a qualified name can be nothing but a column."""
    shapes = _relations(names, level)
    return bool(shapes) and all(has_column(s, names[-2], names[-1]) for s in shapes)


def _is_builtin_type(names: list[str]) -> bool:
    return len(names) == 1 and names[0] in _BUILTIN_TYPES


_BUILTIN_TYPE_NAMES = """
    text uuid date json jsonb xml bytea inet cidr macaddr macaddr8 money name oid regclass regtype
    regproc regprocedure regrole regnamespace int4range int8range numrange tsrange tstzrange
    daterange point line lseg box path polygon circle tsvector tsquery pg_lsn
"""
_BUILTIN_TYPES = frozenset(_BUILTIN_TYPE_NAMES.split())

_COMPARISONS = frozenset(("=", "<>", "<", "<=", ">", ">="))

_LABELS = {
    "CoalesceExpr": "coalesce",
    "NullTest": "is null",
    "BoolExpr": "condition",
    "RowExpr": "row",
    "A_ArrayExpr": "array",
    "MinMaxExpr": "greatest or least",
}


def _label(tag: str) -> str:
    return _LABELS.get(tag, "")
