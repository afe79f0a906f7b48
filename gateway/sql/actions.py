"""A statement's tree → deeds: every statement of the grammar has a verb here, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from gateway.core.action import ObjectKind
from gateway.errors import Denied
from gateway.sql.catalog import Catalog
from gateway.sql.copying import copy_out
from gateway.sql.deeds import Deed, Deeds, Reading, Returns
from gateway.sql.limits import SqlLimits
from gateway.sql.queries import QUERIES, QueryReader, Scope
from gateway.sql.relations import find, resolve
from gateway.sql.settings import is_safe_change, is_safe_to_show, unsafe_modes
from gateway.sql.statements import OBJECT_KINDS, UTILITY, Rule, objects_of
from gateway.sql.walk import STATEMENTS, Node, children, range_parts, strings

READ_VERBS: Final = frozenset(
    {
        "select",
        "explain",
        "copy-out",
        "show",
        "set",
        "begin",
        "commit",
        "rollback",
        "savepoint",
        "declare",
        "fetch",
    }
)
"""Verbs that the reader's login can do; a SET that is not safe counts as a write."""

_TRANSACTIONS: Final = {
    "TRANS_STMT_BEGIN": "begin",
    "TRANS_STMT_START": "begin",
    "TRANS_STMT_COMMIT": "commit",
    "TRANS_STMT_ROLLBACK": "rollback",
    "TRANS_STMT_SAVEPOINT": "savepoint",
    "TRANS_STMT_RELEASE": "savepoint",
    "TRANS_STMT_ROLLBACK_TO": "rollback",
    "TRANS_STMT_PREPARE": "other",
    "TRANS_STMT_COMMIT_PREPARED": "other",
    "TRANS_STMT_ROLLBACK_PREPARED": "other",
}
_RELATIONS: Final[frozenset[ObjectKind]] = frozenset({"table", "view", "sequence"})
# Utility statements whose relations must exist, because they read or change rows.
_NEEDS_RELATION: Final = frozenset({"TruncateStmt", "LockStmt"})
# Their query runs later, or its rows go elsewhere; lineage follows it all the same.
_HOLDS_QUERY: Final = frozenset(
    {"CreateTableAsStmt", "DeclareCursorStmt", "PrepareStmt", "ViewStmt"}
)
_ANSWERS_ROWS: Final = frozenset({"FetchStmt", "ExecuteStmt"})


def read_statement(node: Node, catalog: Catalog, limits: SqlLimits | None = None) -> Reading:
    """What one statement would do, from its whole tree.

    Args:
        node: the statement at the root.
        catalog: what its names mean.
        limits: how far a SET may go; the defaults if None.

    Raises:
        Denied: the statement, a node, a function, an operator, a relation or an option
            is not known or not taken here (rules ``sql.*``).
        BadCommand: a form that the gateway does not carry.
    """
    return _StatementReader(catalog, limits or SqlLimits()).read(node)


class _StatementReader:
    """Reads one statement."""

    def __init__(self, catalog: Catalog, limits: SqlLimits) -> None:
        self._catalog = catalog
        self._limits = limits
        self._deeds = Deeds()
        self._queries = QueryReader(catalog, self._deeds)
        self._readers: dict[str, Callable[[Node], Reading]] = {
            "ExplainStmt": self._explain,
            "CopyStmt": self._copy,
            "VariableSetStmt": self._set,
            "VariableShowStmt": self._show,
            "TransactionStmt": self._transaction,
            "CallStmt": self._call,
        }

    def read(self, node: Node) -> Reading:
        if node.kind in QUERIES:
            return self._query(node)
        reader = self._readers.get(node.kind)
        if reader is not None:
            return reader(node)
        rule = UTILITY.get(node.kind)
        if rule is None:
            raise Denied(
                f"the gate does not know the statement {node.kind}",
                "Report it; it cannot run here.",
                "sql.node",
            )
        return self._utility(node, rule)

    def _done(
        self, returns: Returns = "tag", *, traceable: bool = False, opaque: bool = False
    ) -> Reading:
        return Reading(
            self._deeds.all(),
            returns,
            traceable=traceable,
            opaque=opaque,
            leaky=self._deeds.leaky,
        )

    def _query(self, node: Node) -> Reading:
        self._queries.read(node, Scope())
        if not any(deed.verb != "call" for deed in self._deeds.all()):
            self._on_database("select")
        if node.kind == "SelectStmt":
            return self._done("tag" if "intoClause" in node.fields else "rows", traceable=True)
        return self._done("rows" if "returningClause" in node.fields else "tag", traceable=True)

    def _on_database(self, verb: str, *, wildcard: bool = False) -> None:
        self._deeds.add(Deed(verb, "database", self._catalog.database, wildcard=wildcard))

    def _explain(self, node: Node) -> Reading:
        (inner,) = (child for child in children(node) if child.field == "query")
        explained = _StatementReader(self._catalog, self._limits).read(inner)
        about = [deed for deed in explained.deeds if deed.kind in _RELATIONS]
        for deed in about:
            self._deeds.add(replace(deed, verb="explain"))
        if not about:
            self._on_database("explain")
        # Planning folds functions and ANALYZE runs it all: what is explained counts as done.
        self._deeds.add_all(explained.deeds)
        self._deeds.leaky = explained.leaky
        return self._done("rows", traceable=explained.traceable, opaque=explained.opaque)

    def _copy(self, node: Node) -> Reading:
        options = copy_out(node.fields)
        if "relation" in node.fields:
            relation = Node("RangeVar", node.fields["relation"], "relation")
            self._queries.read(relation, Scope())
            named = resolve(range_parts(node.fields["relation"]), self._catalog)
            columns = frozenset(strings(node.fields.get("attlist", [])))
            self._deeds.on("copy-out", named, written=columns)
        else:
            (query,) = (child for child in children(node) if child.field == "query")
            if query.kind not in QUERIES:
                raise Denied("COPY takes a query only", "Write COPY (SELECT ...).", "sql.copy")
            self._query(query)
            for deed in self._deeds.all():
                if deed.verb == "select":
                    self._deeds.add(replace(deed, verb="copy-out"))
        return replace(self._done("copy", traceable=True), copy=options)

    def _set(self, node: Node) -> Reading:
        kind = node.fields.get("kind")
        if kind == "VAR_RESET_ALL":
            self._deeds.add(Deed("set", "setting", "all", wildcard=True))
        elif kind == "VAR_SET_MULTI":
            safe = not unsafe_modes(node.fields.get("args", []))
            self._deeds.add(Deed("set", "setting", "transaction", setting_safe=safe))
        else:
            name = str(node.fields.get("name", "")).lower()
            safe = is_safe_change(node.fields, self._limits.statement_timeout_ms)
            self._deeds.add(Deed("set", "setting", name, setting_safe=safe))
        return self._done()

    def _show(self, node: Node) -> Reading:
        name = str(node.fields.get("name", "")).lower()
        safe = is_safe_to_show(name)
        every = name == "all"
        self._deeds.add(
            Deed("show", "setting", name, phi=not safe, wildcard=every, setting_safe=safe)
        )
        return replace(self._done("rows", opaque=not safe), shows=name if safe else "")

    def _transaction(self, node: Node) -> Reading:
        verb = _TRANSACTIONS.get(str(node.fields.get("kind")), "other")
        unsafe = unsafe_modes(node.fields.get("options", []))
        self._deeds.add(Deed(verb, "transaction", "transaction", setting_safe=not unsafe))
        for mode in unsafe:
            self._deeds.add(Deed("set", "setting", mode))
        return self._done()

    def _call(self, node: Node) -> Reading:
        self._queries.read(Node("FuncCall", node.fields["funccall"], "funccall"), Scope())
        if not self._deeds.all():
            self._on_database("call")
        return self._done("rows", opaque=True)

    def _utility(self, node: Node, rule: Rule) -> Reading:
        kind = rule.kind or OBJECT_KINDS.get(str(node.fields.get(rule.typed_by)), "other")
        if node.fields.get("targtype") == "ACL_TARGET_ALL_IN_SCHEMA":
            kind = "schema"
        names = objects_of(rule, node.fields)
        for parts in names:
            self._deeds.add(self._on_object(node, rule.verb, kind, parts))
        if not names and kind == "setting":
            self._deeds.add(Deed(rule.verb, kind, "all", wildcard=True))
        elif not names:
            self._on_database(rule.verb, wildcard=True)
        self._nested(node)
        if node.kind in _HOLDS_QUERY:
            return self._done(traceable=True)
        opaque = node.kind in _ANSWERS_ROWS and not node.fields.get("ismove")
        return self._done("rows" if opaque else "tag", opaque=opaque)

    def _on_object(self, node: Node, verb: str, kind: ObjectKind, parts: tuple[str, ...]) -> Deed:
        recursive = node.fields.get("behavior") == "DROP_CASCADE"
        wildcard = _stands_for_many(node)
        if kind not in _RELATIONS:
            # A schema, a database and a role stand for all that is in them.
            phi = kind in ("schema", "database", "role")
            name = ".".join(parts)
            return Deed(verb, kind, name, phi=phi, recursive=recursive, wildcard=wildcard)
        is_column = node.fields.get("objtype", node.fields.get("renameType")) == "OBJECT_COLUMN"
        parts = parts[:-1] if is_column and "relation" not in node.fields else parts
        look_up = resolve if node.kind in _NEEDS_RELATION else find
        named = look_up(parts, self._catalog)
        return Deed(
            verb,
            named.kind if named.relation is not None else kind,
            named.name,
            named.relation,
            phi=named.holds_phi or (named.relation is None and verb != "create"),
            recursive=recursive,
            wildcard=wildcard,
        )

    def _nested(self, node: Node) -> None:
        """Read the statements inside: the query of CREATE TABLE AS, the body of a rule."""
        for child in children(node):
            if child.kind in QUERIES or child.field == "params":  # EXECUTE runs its arguments
                self._queries.read(child, Scope())
            elif child.kind in STATEMENTS - {"ReturnStmt"}:
                inner = _StatementReader(self._catalog, self._limits)
                self._deeds.add_all(inner.read(child).deeds)
            else:
                self._nested(child)


def _stands_for_many(node: Node) -> bool:
    fields = node.fields
    return bool(
        fields.get("targtype") in ("ACL_TARGET_ALL_IN_SCHEMA", "ACL_TARGET_DEFAULTS")
        or fields.get("for_all_tables")
        or fields.get("isall")
        or node.kind
        in ("DropOwnedStmt", "ReassignOwnedStmt", "AlterTableMoveAllStmt", "DiscardStmt")
        or (node.kind in ("DeallocateStmt", "ClosePortalStmt", "UnlistenStmt") and len(fields) == 0)
    )
