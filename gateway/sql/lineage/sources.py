"""FROM: which columns a query has to read from, and what PHI decides about its rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

from gateway.core.action import Influence
from gateway.sql.catalog import Relation
from gateway.sql.grammar import parse
from gateway.sql.lexing import SqlUnreadable
from gateway.sql.limits import SqlLimits
from gateway.sql.lineage.expressions import Expressions
from gateway.sql.lineage.influences import Notes
from gateway.sql.lineage.labels import Node, last_name, returned_names
from gateway.sql.lineage.scopes import (
    CLEAN,
    Cte,
    Entry,
    Field,
    Item,
    Level,
    Shape,
    Taint,
    Untraceable,
    either,
    item,
    mixed,
    opaque,
)
from gateway.sql.system import is_harmless, system_schema


class Sources(Expressions):
    """Shapes of FROM items."""

    def from_items(self, nodes: list[Node], outer: Level) -> tuple[Item, ...]:
        """Read a FROM clause; later items may be LATERAL to earlier ones."""
        items: tuple[Item, ...] = ()
        for node in nodes:
            items = (*items, self._source(node, outer, items))
        return items

    def _source(self, node: Node, outer: Level, siblings: tuple[Item, ...]) -> Item:
        self.notes.step()
        ((tag, body),) = node.items()
        if tag == "RangeVar":
            return self.relation(body, outer)
        if tag == "JoinExpr":
            return self._join(body, outer, siblings)
        lateral = Level(outer, siblings)
        if tag == "RangeSubselect":
            level = lateral if body.get("lateral") else outer
            return _aliased(self.query(body["subquery"]["SelectStmt"], level), body)
        if tag == "RangeFunction":
            return self._function(body, lateral)
        if tag in ("RangeTableFunc", "JsonTable"):
            return self._table_function(body, lateral)
        if tag == "RangeTableSample":
            sampled = self._source(body["relation"], outer, siblings)
            taint = self.values(body.get("args", []), lateral)
            self.notes.steer("filter", taint)
            return sampled.tainted(taint)
        raise Untraceable("a FROM item is not known")

    # Relations

    def relation(self, body: Node, outer: Level) -> Item:
        """The FROM item of a relation, a view or a WITH query named in FROM."""
        name, schema = body["relname"], body.get("schemaname")
        if schema is None:
            cte = outer.cte(name)
            if cte is not None:
                return _aliased(self._cte(cte), body, name)
        system = system_schema(schema, name)
        if system is not None:
            if is_harmless(system, name):
                return _aliased(Shape((), CLEAN, system=True), body, name)
            self.notes.touches = True
            return _aliased(Shape((), opaque(f"{system}.{name}"), system=True), body, name)
        return _aliased(self.stored(self.target(body)), body, name)

    def target(self, body: Node) -> Relation:
        """The relation in the catalog that a name means.

        Raises:
            Untraceable: there is none.
        """
        found = self.catalog.resolve(body.get("schemaname"), body["relname"])
        if found is None:
            raise Untraceable("a relation is not in the catalog")
        self.notes.name(f"{found.schema}.{found.name}")
        return found

    def stored(self, relation: Relation) -> Shape:
        """The shape of a relation of the catalog; views are looked through."""
        if relation.kind not in ("view", "matview"):
            return self.base(relation)
        if relation.definition is None:
            raise Untraceable("a view has no definition")
        if relation.oid not in self.views:
            if relation.oid in self.open_views:
                raise Untraceable("a view refers to itself")
            self.open_views.add(relation.oid)
            self.views[relation.oid] = self._view(relation, relation.definition)
            self.open_views.discard(relation.oid)
        return self.views[relation.oid]

    def _view(self, relation: Relation, definition: str) -> Shape:
        outside = self.notes
        self.notes = Notes()
        try:
            body = self.query(_definition(definition), Level())
        finally:
            inside, self.notes = self.notes, outside
        outside.adopt(inside)
        outside.influences |= inside.influences - {"expression"}
        outside.phi |= body.control.sources
        if body.control:
            # What only computes a column counts where that column is used (Field.inner).
            outside.influences |= inside.influences & {"expression"}
        if body.rest is not None or len(body.fields) != len(relation.columns):
            raise Untraceable("a view has other columns than its definition")
        origin = f"{relation.schema}.{relation.name}"
        expression: frozenset[Influence] = frozenset(("expression",))
        fields = []
        stored = zip(body.fields, self.base(relation).fields, relation.columns, strict=True)
        for through, own, column in stored:
            # What the catalog says of a view's column can add to what its body shows, never remove.
            taint = own.taint if column.phi == "yes" and not through.taint else through.taint
            inner = expression if taint and not taint.copy else frozenset()
            fields.append(Field(column.name, taint, (origin, column.name), inner))
        return Shape(tuple(fields), None, body.control)

    def _cte(self, cte: Cte) -> Shape:
        if cte.shape is None:
            if cte.busy:
                raise Untraceable("WITH queries refer to each other")
            cte.busy = True
            self._trace_cte(cte)
        if cte.shape is None:
            raise Untraceable("a WITH query has no columns")
        return cte.shape

    def _trace_cte(self, cte: Cte) -> None:
        node: dict[str, Any] = dict(cte.node)
        names = [part["String"]["sval"] for part in node.get("aliascolnames", [])]
        extra = _search_and_cycle(node)
        ((tag, body),) = node["ctequery"].items()
        if tag != "SelectStmt":
            cte.shape = self.modified(tag, body, cte.level).renamed(names)
            return
        if not cte.recursive or "larg" not in body:
            cte.shape = self.query(body, cte.level).renamed(names)
            return
        # The least fixed point: start from the anchor, add the recursive arm until nothing new.
        anchor_level = self.with_queries(body.get("withClause"), cte.level)
        shape = _with_extra(self.query(body["larg"], anchor_level).renamed(names), extra)
        while True:
            cte.shape = shape
            step = _with_extra(self.query(body, cte.level).renamed(names), extra)
            grown = _merged(shape, step)
            if grown == shape:
                return
            shape = grown

    def with_queries(self, clause: Node | None, outer: Level) -> Level:
        """A level that knows the WITH queries; each is traced, used or not."""
        if not clause:
            return outer
        bodies = [entry["CommonTableExpr"] for entry in clause["ctes"]]
        made: list[Cte] = []
        if clause.get("recursive"):
            # RECURSIVE also lets a query name a later one.
            ctes: dict[str, Cte] = {}
            level = Level(outer, ctes=ctes)
            for body in bodies:
                ctes[body["ctename"]] = Cte(body["ctename"], body, level, recursive=True)
            made = list(ctes.values())
        else:
            level = outer
            for body in bodies:
                made.append(Cte(body["ctename"], body, level, recursive=False))
                level = Level(level, ctes={body["ctename"]: made[-1]})
        for cte in made:
            self._cte(cte)
        return level

    def modified(self, tag: str, body: Node, outer: Level) -> Shape:
        """The shape that a data-modifying WITH query returns; filled in by the layer above."""
        raise NotImplementedError

    # Functions

    def _function(self, body: Node, level: Level) -> Item:
        fields: list[Field] = []
        rest: Taint | None = None
        taints: list[Taint] = []
        alias = body.get("alias", {}).get("aliasname")
        for entry in body["functions"]:
            call, definitions = (*entry["List"]["items"], {})[:2]
            taint = self._rows(call, level)
            taints.append(taint)
            declared = definitions.get("List", {}).get("items") or body.get("coldeflist", [])
            names = returned_names(call, alias if len(body["functions"]) == 1 else None)
            if declared:
                fields += [Field(d["ColumnDef"]["colname"], taint) for d in declared]
            elif names is not None:
                fields += [Field(name, taint) for name in names]
            else:
                rest = mixed([rest or CLEAN, taint])
        together = mixed(taints)
        if body.get("ordinality"):
            fields.append(Field("ordinality", together))
        if rest is not None:
            rest = mixed([rest, together])
            fields = []
        name = _call_name(body["functions"][0]["List"]["items"][0])
        several = len(body["functions"]) > 1 or body.get("ordinality")
        shape = Shape(tuple(fields), rest, together, scalar=not several)
        return _aliased(shape, body, name)

    def _rows(self, call: Node, level: Level) -> Taint:
        """The taint of a function's rows; PHI in its arguments decides how many there are."""
        taint = mixed([self.value(call, level)])
        self.notes.steer("filter", taint)
        self.notes.touches = self.notes.touches or bool(taint)
        return taint

    def _table_function(self, body: Node, level: Level) -> Item:
        taint = mixed([self.values([v for k, v in body.items() if k != "alias"], level)], "table")
        self.notes.steer("filter", taint)
        self.notes.steer("expression", taint)
        fields = tuple(Field(name, taint) for name in _column_names(body.get("columns", [])))
        return _aliased(Shape(fields, None, taint), body)

    # Joins

    def _join(self, body: Node, outer: Level, siblings: tuple[Item, ...]) -> Item:
        left = self._source(body["larg"], outer, siblings)
        right = self._source(body["rarg"], outer, (*siblings, left))
        names = [part["String"]["sval"] for part in body.get("usingClause", [])]
        if body.get("isNatural"):
            names = _common(left.columns, right.columns)
        equal, other = self._using(left, right, names)
        if "quals" in body:
            # ON sees the two sides and what is around the query, not other FROM items.
            on_equal, on_other = self._on(body["quals"], Level(outer, (left, right)))
            equal, other = mixed([equal, on_equal]), mixed([other, on_other])
        kind = body.get("jointype", "JOIN_INNER")
        if kind in ("JOIN_RIGHT", "JOIN_FULL"):
            left = left.tainted(mixed([other, left.columns.control]))
        if kind in ("JOIN_LEFT", "JOIN_FULL"):
            right = right.tainted(mixed([other, right.columns.control]))
        merged = _merge_columns(left.columns, right.columns, names)
        control = mixed([left.columns.control, right.columns.control, equal, other])
        columns = replace(merged, control=control)
        entries = (*left.entries, *right.entries)
        if "join_using_alias" in body:
            shown = replace(columns, fields=columns.fields[: len(names)])
            entries = (*entries, Entry(body["join_using_alias"]["aliasname"], shown))
        if "alias" in body:
            return _aliased(columns, body)
        return Item(entries, columns)

    def _using(self, left: Item, right: Item, names: list[str]) -> tuple[Taint, Taint]:
        pairs = []
        for name in names:
            sides = [left.columns.named(name), right.columns.named(name)]
            for side in sides:
                self.notes.read(side)
            pairs.append(tuple(_one(side) for side in sides))
        return self._compared(pairs)

    def _on(self, node: Node, level: Level) -> tuple[Taint, Taint]:
        pairs, others = [], []
        for conjunct in _conjuncts(node):
            sides = _equated(conjunct)
            if sides is not None and "=" not in self.catalog.operators:
                pairs.append(tuple(self.value(side, level) for side in sides))
            else:
                others.append(self.value(conjunct, level))
        equal, other = self._compared(pairs)
        self.notes.steer("join", *others)
        self.notes.steer("filter", *others)
        return equal, mixed([other, *others])

    def _compared(self, pairs: list[tuple[Taint, ...]]) -> tuple[Taint, Taint]:
        """Equalities of a join: of PHI with PHI, and of PHI with anything else.

        Only two PHI columns as stored make a mere join: comparing one with values
        that the client chose (VALUES, a literal behind a name) is a filter.
        """
        equal: list[Taint] = []
        other = [self.operator_taint(["="])] if pairs else []
        for one, two in pairs:
            if one or two:
                self.notes.influences.add("join")
                (equal if one.copy and two.copy else other).append(mixed([one, two]))
        self.notes.steer("filter", *other)
        return mixed(equal), mixed(other)


def _one(fields: list[Field]) -> Taint:
    if len(fields) == 1:
        return fields[0].taint
    return mixed([f.taint for f in fields])


def _aliased(shape: Shape, body: Node, name: str = "") -> Item:
    """Put a relation into scope under its alias and column aliases."""
    alias = body.get("alias", {})
    names = [part["String"]["sval"] for part in alias.get("colnames", [])]
    return item(alias.get("aliasname", name), shape.renamed(names))


# A view's definition is the server's own text, longer than what a client may send.
_VIEW_LIMITS = SqlLimits(statement_bytes=256 * 1024)


@lru_cache(maxsize=256)
def _definition(text: str) -> Node:
    try:
        statements = parse(text.encode(), _VIEW_LIMITS)
    except SqlUnreadable as error:
        raise Untraceable("a view's definition cannot be read") from error
    if len(statements) != 1 or statements[0].kind != "SelectStmt":
        raise Untraceable("a view's definition is not one query")
    return statements[0].fields


def _search_and_cycle(node: Node) -> list[str]:
    search, cycle = node.get("search_clause"), node.get("cycle_clause")
    names = [search["search_seq_column"]] if search else []
    return names + ([cycle["cycle_mark_column"], cycle["cycle_path_column"]] if cycle else [])


def _with_extra(shape: Shape, names: list[str]) -> Shape:
    """Add the columns of SEARCH and CYCLE, which are made of all others."""
    have = {f.name for f in shape.fields}
    extra = tuple(Field(n, mixed([shape.taint])) for n in names if n not in have)
    return replace(shape, fields=(*shape.fields, *extra))


def _merged(one: Shape, two: Shape) -> Shape:
    if len(one.fields) != len(two.fields) or one.rest is not None or two.rest is not None:
        raise Untraceable("the arms of a recursive query differ in width")
    fields = tuple(
        replace(a, taint=either(a.taint, b.taint))
        for a, b in zip(one.fields, two.fields, strict=True)
    )
    return Shape(fields, None, mixed([one.control, two.control]))


def _call_name(call: Node) -> str:
    return last_name(call["FuncCall"]["funcname"]) if "FuncCall" in call else ""


def _column_names(columns: list[Node]) -> Iterator[str]:
    for column in columns:
        ((_tag, body),) = column.items()
        if body.get("coltype") == "JTC_NESTED":
            yield from _column_names(body.get("columns", []))
        else:
            yield body.get("colname") or body.get("name", "")


def _common(left: Shape, right: Shape) -> list[str]:
    """The columns of a NATURAL join."""
    for side in (left, right):
        if side.unsure():
            raise Untraceable("a NATURAL join over columns that are not known")
    names = {f.name for f in right.fields}
    return [f.name for f in left.fields if f.name is not None and f.name in names]


def _merge_columns(left: Shape, right: Shape, names: list[str]) -> Shape:
    shared = []
    for name in names:
        found = [*left.named(name), *right.named(name)]
        taint = found[0].taint if found else CLEAN
        for f in found[1:]:
            taint = either(taint, f.taint)
        shared.append(replace(found[0], name=name, taint=taint) if found else Field(name))
    others = [f for f in (*left.fields, *right.fields) if f.name is None or f.name not in names]
    rests = [s.rest for s in (left, right) if s.rest is not None]
    return Shape((*shared, *others), mixed(rests) if rests else None)


def _conjuncts(node: Node) -> Iterator[Node]:
    body = node.get("BoolExpr", {})
    if body.get("boolop") == "AND_EXPR":
        for argument in body["args"]:
            yield from _conjuncts(argument)
    else:
        yield node


def _equated(node: Node) -> tuple[Node, Node] | None:
    """The two column references of a plain ``a = b``, or None."""
    body = node.get("A_Expr", {})
    if body.get("kind") != "AEXPR_OP" or body["name"] != [{"String": {"sval": "="}}]:
        return None
    sides = (body.get("lexpr", {}), body.get("rexpr", {}))
    return sides if all("ColumnRef" in side for side in sides) else None
