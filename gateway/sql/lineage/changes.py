"""INSERT, UPDATE, DELETE and MERGE: what steers them, what they write, what they return."""

from __future__ import annotations

from gateway.sql.catalog import Relation
from gateway.sql.lineage.labels import Node
from gateway.sql.lineage.queries import Queries
from gateway.sql.lineage.scopes import (
    CLEAN,
    Field,
    Item,
    Level,
    Shape,
    Taint,
    Untraceable,
    item,
    mixed,
)


class Changes(Queries):
    """Shapes of what data-modifying statements return."""

    def modified(self, tag: str, body: Node, outer: Level) -> Shape:
        """The shape of RETURNING; of no columns without one.

        Raises:
            Untraceable: it is no data-modifying statement, or cannot be followed.
        """
        statement = {
            "InsertStmt": self._insert,
            "UpdateStmt": self._update,
            "DeleteStmt": self._delete,
            "MergeStmt": self._merge,
        }.get(tag)
        if statement is None:
            raise Untraceable("a statement of this kind returns no rows")
        level = self.with_queries(body.get("withClause"), outer)
        return statement(body, level)

    def _opened(self, body: Node) -> tuple[Relation, Item]:
        """The relation that is written, in scope under its name or alias.

        The server's messages may quote a whole row ("Failing row contains"), so a
        relation with PHI is touched whatever columns are named.
        """
        relation = self.target(body)
        if any(c.masked for c in relation.columns):
            self.notes.touches = True
        alias = body.get("alias", {}).get("aliasname", relation.name)
        return relation, item(alias, self.stored(relation))

    def _insert(self, body: Node, level: Level) -> Shape:
        relation, opened = self._opened(body["relation"])
        names = [n["ResTarget"]["name"] for n in body.get("cols", [])]
        names = names or [c.name for c in relation.columns]
        taints: dict[str, Taint] = {}
        if "selectStmt" in body:
            source = self.query(body["selectStmt"]["SelectStmt"], level)
            self.notes.read(source.fields)
            if source.rest is not None:
                taints = dict.fromkeys(names, mixed([source.taint]))
            elif len(source.fields) > len(names):
                raise Untraceable("INSERT has more values than columns")
            else:
                pairs = zip(names, source.fields, strict=False)
                taints = {name: f.taint for name, f in pairs}
        conflict = body.get("onConflictClause", {})
        if conflict:
            excluded = item("excluded", _written(opened.columns, taints, relation))
            scope = Level(level, (opened, Item(excluded.entries, Shape(()))))
            self.notes.steer("filter", self.value(conflict.get("infer"), scope))
            self.condition(conflict.get("whereClause"), scope)
            update = self._assigned(conflict.get("targetList", []), scope)
            taints = {
                n: mixed([taints.get(n, CLEAN), update.get(n, CLEAN)]) for n in {*taints, *update}
            }
        return self._returned(body, relation, opened, taints, level, ())

    def _update(self, body: Node, level: Level) -> Shape:
        relation, opened = self._opened(body["relation"])
        others = self.from_items(body.get("fromClause", []), level)
        scope = Level(level, (opened, *others))
        taints = self._assigned(body.get("targetList", []), scope)
        self.condition(body.get("whereClause"), scope)
        return self._returned(body, relation, opened, taints, level, others)

    def _delete(self, body: Node, level: Level) -> Shape:
        relation, opened = self._opened(body["relation"])
        others = self.from_items(body.get("usingClause", []), level)
        self.condition(body.get("whereClause"), Level(level, (opened, *others)))
        return self._returned(body, relation, opened, {}, level, others)

    def _merge(self, body: Node, level: Level) -> Shape:
        relation, opened = self._opened(body["relation"])
        others = self.from_items([body["sourceRelation"]], level)
        scope = Level(level, (opened, *others))
        match = self.condition(body["joinCondition"], scope)
        self.notes.steer("join", match)
        taints: dict[str, Taint] = {}
        for node in body.get("mergeWhenClauses", []):
            when = node["MergeWhenClause"]
            self.condition(when.get("condition"), scope)
            targets = when.get("targetList", [])
            if when.get("commandType") == "CMD_INSERT":
                names = [t["ResTarget"]["name"] for t in targets]
                names = names or [c.name for c in relation.columns]
                values = [self.value(v, scope) for v in when.get("values", [])]
                assigned = dict(zip(names, values, strict=False))
            else:
                assigned = self._assigned(targets, scope)
            for name, taint in assigned.items():
                taints[name] = mixed([taints.get(name, CLEAN), taint])
        return self._returned(body, relation, opened, taints, level, others)

    def _assigned(self, nodes: list[Node], scope: Level) -> dict[str, Taint]:
        """The taints that SET gives to columns."""
        taints: dict[str, Taint] = {}
        for node in nodes:
            target = node["ResTarget"]
            taint = self.value(target["val"], scope)
            taint = mixed([taint, self.values(target.get("indirection", []), scope)])
            taints[target["name"]] = mixed([taints.get(target["name"], CLEAN), taint])
        return taints

    def _returned(
        self,
        body: Node,
        relation: Relation,
        opened: Item,
        taints: dict[str, Taint],
        level: Level,
        others: tuple[Item, ...],
    ) -> Shape:
        self._note_writes(relation, taints)
        clause = body.get("returningClause")
        if not clause:
            return Shape(())
        row = item(opened.entries[0].alias, _written(opened.columns, taints, relation))
        names = {"RETURNING_OPTION_OLD": "old", "RETURNING_OPTION_NEW": "new"}
        for node in clause.get("options", []):
            option = node["ReturningOption"]
            names[option["option"]] = option["value"]
        used = {e.alias for i in (row, *others) for e in i.entries}
        # PostgreSQL 18's OLD and NEW qualify columns only; both are taken as the row written.
        rows = [
            Item(item(n, row.columns).entries, Shape(())) for n in names.values() if n not in used
        ]
        # For * MERGE gives the source before the target; the others give the target first.
        merge = "mergeWhenClauses" in body
        items = (*others, row) if merge else (row, *others)
        fields, rest = self.targets(clause["exprs"], Level(level, (*items, *rows)))
        return Shape(fields, rest)

    def _note_writes(self, relation: Relation, taints: dict[str, Taint]) -> None:
        for name, taint in taints.items():
            column = relation.column(name)
            if column is None:
                raise Untraceable("a column that is written is not known")
            if column.masked:
                self.notes.phi.add(f"{relation.schema}.{relation.name}.{name}")
            elif taint:
                self.notes.to_plain = True
            self.notes.touches = self.notes.touches or bool(taint)


def _written(shape: Shape, taints: dict[str, Taint], relation: Relation) -> Shape:
    """A row as it is after writing.

    A generated column may be computed from what was written; a trigger may put it
    into any column.
    """
    spill = mixed(taints.values())

    def after(f: Field) -> Field:
        wrote = taints.get(f.name or "", CLEAN)
        column = relation.column(f.name or "")
        if relation.side_effects or column is None or column.generated:
            wrote = mixed([wrote, spill])
        return Field(f.name, mixed([f.taint, wrote]) if wrote else f.taint, f.origin, f.inner)

    return Shape(tuple(after(f) for f in shape.fields), shape.rest, shape.control)
