"""Queries: SELECT, VALUES and set operations, as shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gateway.sql.limits import SqlLimits
from gateway.sql.lineage.labels import Node, output_name
from gateway.sql.lineage.scopes import (
    CLEAN,
    Field,
    Level,
    Shape,
    Taint,
    Untraceable,
    either,
    mixed,
)
from gateway.sql.lineage.sources import Sources

_COLUMNS = SqlLimits().output_columns


class Queries(Sources):
    """Shapes of whole queries."""

    def query(self, body: Node, outer: Level) -> Shape:
        """The shape of a SELECT, VALUES or set operation.

        Raises:
            Untraceable: it cannot be followed.
        """
        self.notes.step()
        level = self.with_queries(body.get("withClause"), outer)
        if "larg" in body:
            # ORDER BY after a set operation names its output columns only.
            return self._limited(body, self._set_operation(body, level), level)
        if body.get("valuesLists"):
            return self._limited(body, self._values(body["valuesLists"], level), level)
        return self._select(body, level)

    def _set_operation(self, body: Node, level: Level) -> Shape:
        left, right = self.query(body["larg"], level), self.query(body["rarg"], level)
        control = mixed([left.control, right.control])
        keeps_all = body["op"] == "SETOP_UNION" and body.get("all")
        if left.rest is not None or right.rest is not None:
            rest = mixed([left.taint, right.taint], "union")
            if not keeps_all:
                self.notes.steer("group", rest)
                self.notes.steer("filter", rest)
                control = mixed([control, rest])
            return Shape((), rest, control)
        if len(left.fields) != len(right.fields):
            raise Untraceable("the arms of a set operation differ in width")
        pairs = list(zip(left.fields, right.fields, strict=True))
        if not keeps_all:
            cells = mixed([f.taint for pair in pairs for f in pair])
            self.notes.steer("group", cells)
            for one, two in pairs:
                # Two PHI columns may be compared; PHI and a value of the client's is a test.
                tested = body["op"] != "SETOP_UNION" or not (one.taint.copy and two.taint.copy)
                self.notes.steer("filter", *((one.taint, two.taint) if tested else ()))
            control = mixed([control, cells])
        fields = tuple(Field(one.name, either(one.taint, two.taint)) for one, two in pairs)
        return Shape(fields, None, control)

    def _values(self, rows: list[Node], level: Level) -> Shape:
        taints: list[Taint] | None = None
        for row in rows:
            cells = [self.value(cell, level) for cell in row["List"]["items"]]
            if taints is None:
                taints = cells
            elif len(cells) != len(taints):
                raise Untraceable("the rows of VALUES differ in width")
            else:
                taints = [either(a, b) for a, b in zip(taints, cells, strict=True)]
        return Shape(tuple(Field(f"column{n}", t) for n, t in enumerate(taints or (), 1)))

    def _select(self, body: Node, level: Level) -> Shape:
        items = self.from_items(body.get("fromClause", []), level)
        windows: dict[str, Taint] = {}
        scope = Level(level, items, windows=windows)
        for node in body.get("windowClause", []):
            window = node["WindowDef"]
            windows[window["name"]] = self.window(window, scope)
        kept = self.condition(body.get("whereClause"), scope)
        fields, rest = self.targets(body.get("targetList", []), scope)
        grouped = [
            self._key(n, scope, Shape(fields, rest), input_first=True) for n in _group_keys(body)
        ]
        self.notes.steer("group", *grouped)
        having = self.condition(body.get("havingClause"), scope)
        control = mixed([*(i.columns.control for i in items), kept, having, *grouped])
        return self._limited(body, self._distinct(body, Shape(fields, rest, control), scope), scope)

    def condition(self, node: Node | None, level: Level) -> Taint:
        """The taint of a WHERE or HAVING; notes the influence ``filter``."""
        taint = self.value(node, level)
        self.notes.steer("filter", taint)
        return taint

    def targets(self, nodes: list[Node], scope: Level) -> tuple[tuple[Field, ...], Taint | None]:
        """The columns of a select list, and the taint of those that are not known one by one."""
        fields: list[Field] = []
        rest: Taint | None = None
        for node in nodes:
            target = node["ResTarget"]
            value = target["val"]
            stars = self._star(value, scope)
            if stars is None:
                name = target.get("name") or output_name(value)
                fields.append(Field(name, self.value(value, scope)))
                continue
            for shape in stars:
                self.notes.read(shape.fields)
                fields += [Field(f.name, f.taint) for f in shape.fields]
                if shape.rest is not None:
                    self.notes.read([Field(None, shape.rest)])
                    rest = mixed([rest or CLEAN, shape.rest])
            if len(fields) > _COLUMNS:
                raise Untraceable(f"the result has more than {_COLUMNS} columns")
        return tuple(fields), rest

    def _star(self, node: Node, scope: Level) -> list[Shape] | None:
        """The relations that a ``*`` stands for; None if the node is no star."""
        if "A_Indirection" in node:
            body = node["A_Indirection"]
            if "A_Star" not in body["indirection"][-1]:
                return None
            names = _names(body["arg"])
            if len(body["indirection"]) == 1 and len(names) == 1 and not scope.columns(names[0]):
                return self._rows_of(names, scope)
            return [Shape((), self.value(body["arg"], scope))]
        fields = node.get("ColumnRef", {}).get("fields", [])
        if not fields or "A_Star" not in fields[-1]:
            return None
        names = _names(node)
        return self._rows_of(names, scope) if names else [i.columns for i in scope.items]

    def _rows_of(self, names: list[str], scope: Level) -> list[Shape]:
        one = len(names) == 1
        shapes = scope.relations(names[0]) if one else scope.all_relations(names[-1])
        if not shapes:
            raise Untraceable("a qualified * names nothing in FROM")
        if len(shapes) == 1:
            return shapes
        for shape in shapes:
            self.notes.read(shape.fields)
        return [Shape((), mixed([s.taint for s in shapes]))]

    def _distinct(self, body: Node, shape: Shape, scope: Level) -> Shape:
        if "distinctClause" not in body:
            return shape
        nodes = [n for n in body["distinctClause"] if n]
        keys = [self._key(n, scope, shape, input_first=False) for n in nodes] or [shape.taint]
        self.notes.steer("group", *keys)
        if nodes:
            # DISTINCT ON sorts by its keys, so the rows that stay come in their order.
            self.notes.steer("order", *keys)
        return replace(shape, control=mixed([shape.control, *keys]))

    def _limited(self, body: Node, shape: Shape, scope: Level) -> Shape:
        """Apply ORDER BY, LIMIT and OFFSET."""
        order = []
        for node in body.get("sortClause", []):
            key = node["SortBy"]
            order.append(self._key(key["node"], scope, shape, input_first=False))
            order.append(self.sort_operator(key))
        self.notes.steer("order", *order)
        limit = self.values([body.get("limitCount"), body.get("limitOffset")], scope)
        self.notes.steer("filter", limit)
        return replace(shape, control=mixed([shape.control, *order, limit]))

    def _key(self, node: Node, scope: Level, output: Shape, *, input_first: bool) -> Taint:
        """The taint of one GROUP BY, DISTINCT ON or ORDER BY key.

        A number counts output columns. A bare name is an output column, for GROUP
        BY only if no input column is called so (``findTargetlistEntrySQL92``).
        """
        number: dict[str, int] | None = node.get("A_Const", {}).get("ival")
        if number is not None:
            position = number.get("ival", 0) - 1
            if 0 <= position < len(output.fields) and output.rest is None:
                return output.fields[position].taint
            return output.taint
        names = _names(node)
        if len(names) == 1 and not (input_first and scope.columns(names[0])):
            found = output.named(names[0])
            if found:
                taints = [f.taint for f in found]
                sure = found[0].name is not None or not scope.columns(names[0])
                return mixed(taints if sure else [*taints, self.value(node, scope)])
        return self.value(node, scope)


def _names(node: Node) -> list[str]:
    fields: list[dict[str, Any]] = node.get("ColumnRef", {}).get("fields", [])
    return [part["String"].get("sval", "") for part in fields if "String" in part]


def _group_keys(body: Node) -> list[Node]:
    """GROUP BY's keys, those of grouping sets among them."""
    found: list[Node] = []
    pending = list(body.get("groupClause", []))
    while pending:
        node = pending.pop()
        if "GroupingSet" in node:
            pending += node["GroupingSet"].get("content", [])
        elif "RowExpr" in node:
            pending += node["RowExpr"].get("args", [])
        elif "List" in node:
            pending += node["List"]["items"]
        else:
            found.append(node)
    return found
