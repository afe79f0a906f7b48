"""SELECT, INSERT, UPDATE, DELETE and MERGE, read to the last node.

A name in FROM is a table unless a WITH that reaches there has it; so the walk
carries the scope of WITH queries as PostgreSQL's parse_cte.c does. A node that is
not listed here is refused, not passed over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.errors import Denied, TollhouseError
from gateway.sql import functions
from gateway.sql.catalog import Catalog, Relation
from gateway.sql.deeds import Deed, Deeds
from gateway.sql.grammar import parse
from gateway.sql.relations import Named, find, resolve
from gateway.sql.walk import Node, children, range_parts, strings, walk

QUERIES: Final = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})
"""The statements that this module reads."""

_PLAIN_NAMES: Final = """
    A_ArrayExpr A_Const A_Indices A_Star Alias BitString BoolExpr Boolean BooleanTest
    CTECycleClause CTESearchClause CaseWhen CoalesceExpr CollateClause ColumnDef
    CommonTableExpr CurrentOfExpr DefElem Float GroupingFunc GroupingSet IndexElem
    InferClause Integer JsonAggConstructor JsonArgument JsonArrayAgg JsonArrayConstructor
    JsonArrayQueryConstructor JsonBehavior JsonFormat JsonFuncExpr JsonIsPredicate
    JsonKeyValue JsonObjectAgg JsonObjectConstructor JsonOutput JsonParseExpr JsonReturning
    JsonScalarExpr JsonSerializeExpr JsonTable JsonTableColumn JsonTablePathSpec
    JsonValueExpr List MergeSupportFunc MergeWhenClause MinMaxExpr MultiAssignRef
    NamedArgExpr NullTest OnConflictClause ParamRef RangeFunction RangeSubselect
    RangeTableFunc RangeTableFuncCol ResTarget ReturningClause ReturningOption RoleSpec
    RowExpr SQLValueFunction SetToDefault String WindowDef XmlExpr XmlSerialize
"""
_PLAIN: Final = frozenset(_PLAIN_NAMES.split())
"""Nodes that do nothing by themselves; what is below them is read."""

# On an older server the same text is a call of a function of that name, or an error.
_SINCE: Final = {
    "JsonArrayAgg": 16,
    "JsonArrayConstructor": 16,
    "JsonArrayQueryConstructor": 16,
    "JsonIsPredicate": 16,
    "JsonObjectAgg": 16,
    "JsonObjectConstructor": 16,
    "JsonFuncExpr": 17,
    "JsonParseExpr": 17,
    "JsonScalarExpr": 17,
    "JsonSerializeExpr": 17,
    "JsonTable": 17,
    "MergeSupportFunc": 17,
    "ReturningOption": 18,
}

_BETWEEN: Final = ("<", "<=", ">", ">=")

# Types of pg_catalog that the grammar leaves unqualified.
_BUILTIN_TYPE_NAMES: Final = """
    bool box bytea char cidr circle date datemultirange daterange float4 float8 inet int2
    int4 int4multirange int4range int8 int8multirange int8range json jsonb jsonpath line
    lseg macaddr macaddr8 money name numeric nummultirange numrange oid path pg_lsn point
    polygon record regclass regcollation regconfig regdictionary regnamespace regoper
    regoperator regproc regprocedure regrole regtype text tid timestamptz timetz tsmultirange
    tsquery tsrange tstzmultirange tstzrange tsvector unknown uuid varbit void xid xid8 xml
"""
_BUILTIN_TYPES: Final = frozenset(_BUILTIN_TYPE_NAMES.split())


@dataclass(frozen=True, slots=True)
class Scope:
    """Where the walk is.

    Attributes:
        ctes: names that a WITH has given, as far as they reach here.
        has_where: the nearest query limits its rows.
        locking: the nearest query locks what it reads (FOR UPDATE and its kin).
    """

    ctes: frozenset[str] = frozenset()
    has_where: bool = False
    locking: bool = False


class QueryReader:
    """Reads one statement's queries into deeds.

    Args:
        catalog: what the names mean.
        deeds: where the deeds go.
        views: names of the views whose bodies are being read already.
    """

    def __init__(self, catalog: Catalog, deeds: Deeds, views: frozenset[str] = frozenset()) -> None:
        self._catalog = catalog
        self._deeds = deeds
        self._views = views
        self._readers: dict[str, Callable[[Node, Scope], None]] = {
            "SelectStmt": self._select,
            "InsertStmt": self._insert,
            "UpdateStmt": self._update,
            "DeleteStmt": self._delete,
            "MergeStmt": self._merge,
            "RangeVar": self._read_relation,
            "FuncCall": self._call,
            "A_Expr": self._expression,
            "SubLink": self._sublink,
            "SortBy": self._sort,
            "CaseExpr": self._case,
            "JoinExpr": self._join,
            "TypeName": self._type,
            "TypeCast": self._descend,
            "ColumnRef": self._column,
            "A_Indirection": self._attribute,
            "RangeTableSample": self._sample,
            "LockingClause": self._nothing,
        }

    def read(self, node: Node, scope: Scope) -> None:
        """Read a node and all below it.

        Raises:
            Denied: something in it is unknown, not reviewed, or could be captured.
        """
        self._since(_SINCE.get(node.kind, 0))
        reader = self._readers.get(node.kind)
        if reader is not None:
            reader(node, scope)
        elif node.kind in _PLAIN:
            self._descend(node, scope)
        else:
            raise Denied(
                f"the gate does not read {node.kind} within a query",
                "Write the statement another way.",
                "sql.node",
            )

    def _since(self, major: int) -> None:
        if major * 10000 > self._catalog.server_version:
            raise Denied(
                f"PostgreSQL before {major} reads this syntax as something else",
                "Write it as this server's version knows it.",
                "sql.version",
            )

    def _descend(self, node: Node, scope: Scope, *, skip: tuple[str, ...] = ()) -> None:
        for child in children(node):
            if child.field not in skip:
                self.read(child, scope)

    def _nothing(self, node: Node, scope: Scope) -> None:
        """Names in FOR UPDATE OF are aliases; the relations behind them are read in FROM."""

    def _with(self, node: Node, scope: Scope) -> Scope:
        """Read the WITH of a statement; the scope in which the rest of it stands."""
        clause = node.fields.get("withClause")
        if not clause:
            return scope
        queries = [Node("CommonTableExpr", cte["CommonTableExpr"]) for cte in clause["ctes"]]
        names = frozenset(str(query.fields["ctename"]) for query in queries)
        after = replace(scope, ctes=scope.ctes | names)
        before = after if clause.get("recursive") else scope
        for query in queries:
            self.read(query, replace(before, has_where=False, locking=False))
            if not clause.get("recursive"):
                seen = before.ctes | {str(query.fields["ctename"])}
                before = replace(before, ctes=seen)
        return after

    def _select(self, node: Node, scope: Scope) -> None:
        inner = self._with(node, replace(scope, has_where=False, locking=False))
        if "intoClause" in node.fields:
            named = find(range_parts(node.fields["intoClause"]["rel"]), self._catalog)
            self._deeds.on("create", named)
        limited = replace(
            inner,
            has_where=self.limits_rows(node.fields.get("whereClause")),
            locking="lockingClause" in node.fields or scope.locking,
        )
        for child in children(node):
            if child.field == "fromClause":
                self.read(child, limited)
            elif child.field not in ("withClause", "intoClause"):
                self.read(child, inner)

    def _insert(self, node: Node, scope: Scope) -> None:
        inner = self._with(node, replace(scope, has_where=False, locking=False))
        named = self._target(node)
        columns = _names(node.fields.get("cols")) or _all_columns(named.relation)
        self._deeds.on("insert", named, written=columns)
        conflict = node.fields.get("onConflictClause", {})
        if conflict.get("action") == "ONCONFLICT_UPDATE":
            limited = self.limits_rows(conflict.get("whereClause"))
            changed = _names(conflict.get("targetList"))
            self._deeds.on("update", named, has_where=limited, written=changed)
        self._returning(node, named)
        self._descend(node, inner, skip=("withClause", "relation"))

    def _update(self, node: Node, scope: Scope) -> None:
        limited = self._limited(node, scope)
        named = self._target(node)
        columns = _names(node.fields.get("targetList"))
        self._deeds.on("update", named, has_where=limited.has_where, written=columns)
        self._returning(node, named)
        self._descend(node, limited, skip=("withClause", "relation"))

    def _delete(self, node: Node, scope: Scope) -> None:
        limited = self._limited(node, scope)
        named = self._target(node)
        self._deeds.on("delete", named, has_where=limited.has_where)
        self._returning(node, named)
        self._descend(node, limited, skip=("withClause", "relation"))

    def _limited(self, node: Node, scope: Scope) -> Scope:
        inner = self._with(node, replace(scope, locking=False))
        return replace(inner, has_where=self.limits_rows(node.fields.get("whereClause")))

    def _merge(self, node: Node, scope: Scope) -> None:
        inner = self._with(node, replace(scope, locking=False))
        named = self._target(node)
        joined = self.limits_rows(node.fields.get("joinCondition"))
        written: frozenset[str] = frozenset()
        every = joined
        for wrapped in node.fields.get("mergeWhenClauses", []):
            clause = wrapped["MergeWhenClause"]
            verb = str(clause.get("commandType", "")).removeprefix("CMD_").lower()
            by_source = clause.get("matchKind") == "MERGE_WHEN_NOT_MATCHED_BY_SOURCE"
            limited = joined and (not by_source or self.limits_rows(clause.get("condition")))
            every = every and limited
            columns = _names(clause.get("targetList"))
            if verb == "insert":
                columns = columns or _all_columns(named.relation)
            if verb in ("insert", "update", "delete"):
                self._deeds.on(verb, named, has_where=limited, written=columns)
            written |= columns
        self._deeds.on("merge", named, has_where=every, written=written)
        self._returning(node, named)
        self._descend(node, replace(inner, has_where=joined), skip=("withClause", "relation"))

    def _target(self, node: Node) -> Named:
        """The table that is written: never a WITH query, whatever its name."""
        named = resolve(range_parts(node.fields["relation"]), self._catalog)
        relation = named.relation
        if relation is not None and relation.side_effects:
            what = f"{relation.schema}.rules, triggers and expressions of {relation.name}()"
            self._deeds.add(Deed("call", "function", what))
        return named

    def _returning(self, node: Node, named: Named) -> None:
        if "returningClause" in node.fields:
            self._deeds.on("select", named, has_where=False)

    def limits_rows(self, condition: dict[str, Any] | None) -> bool:
        """Whether a condition names a column, or is a cursor's row; WHERE true limits nothing."""
        if not condition:
            return False
        ((kind, fields),) = condition.items()
        return any(n.kind in ("ColumnRef", "CurrentOfExpr") for n in walk(Node(kind, fields)))

    def _read_relation(self, node: Node, scope: Scope) -> None:
        parts = range_parts(node.fields)
        if len(parts) == 1 and parts[0] in scope.ctes:
            return
        named = resolve(parts, self._catalog)
        self._deeds.on("select", named, has_where=scope.has_where)
        if scope.locking:
            self._deeds.on("lock", named, has_where=scope.has_where)
        if named.relation is not None and named.relation.kind == "view":
            self._read_view(named, named.relation)

    def _read_view(self, named: Named, view: Relation) -> None:
        """Read a view's body for what it calls; its tables are the view owner's to read."""
        if named.name in self._views:
            return
        inner = Deeds()
        reader = QueryReader(self._catalog, inner, self._views | {named.name})
        try:
            for statement in parse((view.definition or "").encode()):
                reader.read(Node(statement.kind, statement.fields), Scope())
        except TollhouseError as error:
            raise Denied(
                f"view {view.schema}.{view.name}: {error.reason}",
                "Read the tables below it instead.",
                "sql.view",
            ) from error
        self._deeds.leaky = self._deeds.leaky or inner.leaky
        self._deeds.add_all(deed for deed in inner.all() if deed.verb == "call")

    def _call(self, node: Node, scope: Scope) -> None:
        name = strings(node.fields["funcname"])
        if name[-1] == "system_user" and node.fields.get("funcformat") == "COERCE_SQL_SYNTAX":
            self._since(16)  # a column of that name before
        for action in functions.call_actions(name, self._catalog):
            self._deeds.add(Deed(action.verb, action.kind, action.name))
        self._descend(node, scope, skip=("funcname",))

    def _expression(self, node: Node, scope: Scope) -> None:
        if "BETWEEN" in str(node.fields.get("kind", "")):
            self._operators(*((operator,) for operator in _BETWEEN))
        else:
            self._operators(strings(node.fields["name"]))
        self._descend(node, scope, skip=("name",))

    def _sublink(self, node: Node, scope: Scope) -> None:
        if "testexpr" in node.fields:
            self._operators(strings(node.fields.get("operName", [])) or ("=",))
        self._descend(node, scope, skip=("operName",))

    def _sort(self, node: Node, scope: Scope) -> None:
        if "useOp" in node.fields:
            self._operators(strings(node.fields["useOp"]))
        self._descend(node, scope, skip=("useOp",))

    def _case(self, node: Node, scope: Scope) -> None:
        if "arg" in node.fields:
            self._operators(("=",))
        self._descend(node, scope)

    def _join(self, node: Node, scope: Scope) -> None:
        if node.fields.get("isNatural") or "usingClause" in node.fields:
            self._operators(("=",))
        self._descend(node, scope)

    def _operators(self, *names: tuple[str, ...]) -> None:
        for name in names:
            functions.check_operator(name, self._catalog)

    def _type(self, node: Node, scope: Scope) -> None:
        """A cast to or from a type of pg_catalog could be redefined by a superuser only."""
        name = strings(node.fields.get("names", []))
        builtin = name[:1] == ("pg_catalog",) or (len(name) == 1 and name[0] in _BUILTIN_TYPES)
        if self._catalog.casts and not builtin:
            raise Denied(
                "a cast outside pg_catalog could be used with this type",
                "Cast to a type of pg_catalog.",
                "sql.cast",
            )
        self._descend(node, scope, skip=("names",))

    def _column(self, node: Node, scope: Scope) -> None:
        names = strings(node.fields["fields"])
        for name in names[1:]:
            self._attribute_call(name)

    def _attribute(self, node: Node, scope: Scope) -> None:
        for part in node.fields.get("indirection", []):
            if "String" in part:
                self._attribute_call(strings([part])[0])
        self._descend(node, scope)

    def _attribute_call(self, name: str) -> None:
        for action in functions.attribute_actions(name, self._catalog):
            self._deeds.add(Deed(action.verb, action.kind, action.name))

    def _sample(self, node: Node, scope: Scope) -> None:
        functions.check_sampling(strings(node.fields["method"]), self._catalog)
        self._descend(node, scope, skip=("method",))


def _names(targets: list[dict[str, Any]] | None) -> frozenset[str]:
    return frozenset(str(target["ResTarget"].get("name", "")) for target in targets or ())


def _all_columns(relation: Relation | None) -> frozenset[str]:
    return frozenset(column.name for column in relation.columns) if relation else frozenset()
