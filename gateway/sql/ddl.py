"""A catalog from DDL text, for ``explain --catalog schema.sql``.

Reads CREATE TABLE, CREATE [MATERIALIZED] VIEW, CREATE FUNCTION or PROCEDURE and
COMMENT ON COLUMN. Object numbers are made up, in the order of the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.core.phi import classify
from gateway.errors import BadCommand
from gateway.sql.catalog import Catalog, Column, Function, Relation
from gateway.sql.grammar import RawStatement, parse
from gateway.sql.lexing import SqlUnreadable
from gateway.sql.limits import SqlLimits
from gateway.sql.lineage import Untraceable, shape_of
from gateway.sql.views import settle

_FIRST_OID = 16384
_SERVER_VERSION = 180000
_LIMITS = SqlLimits(statement_bytes=1024 * 1024, statements=10_000)
_DEFAULT_SCHEMA = "public"


class DdlRefused(BadCommand):
    """The file holds something that is no part of a catalog; the message names its line."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(
            f"line {line}: {reason}",
            "Keep to CREATE TABLE, CREATE VIEW, CREATE FUNCTION and COMMENT ON COLUMN.",
            "sql.catalog",
        )
        self.line = line


@dataclass(slots=True)
class _Table:
    schema: str
    name: str
    columns: list[tuple[str, str]]
    generated: dict[str, str] = field(default_factory=dict)


def catalog_from_ddl(
    text: bytes, target: str, database: str, overrides: Mapping[str, str]
) -> Catalog:
    """Make a catalog of DDL.

    Args:
        text: UTF-8; unqualified names go to ``public``.
        target: the target's name in the configuration.
        database: the database's name.
        overrides: the configuration's classification, see ``gateway.core.phi.classify``.

    Returns:
        A catalog whose fingerprint is the digest of the text, so that it equals no server's.

    Raises:
        SqlUnreadable: the text is not SQL.
        DdlRefused: a statement is not one of those above.
    """
    reader = _Reader(text, target, database, overrides)
    for statement in parse(text, _LIMITS):
        reader.read(statement)
    return reader.catalog()


class _Reader:
    """Collects relations in order; a view sees what stands above it."""

    def __init__(
        self, text: bytes, target: str, database: str, overrides: Mapping[str, str]
    ) -> None:
        self._text = text
        self._overrides = overrides
        self._empty = Catalog(
            target, database, _SERVER_VERSION, (), fingerprint=hashlib.sha256(text).hexdigest()
        )
        self._relations: dict[tuple[str, str], Relation] = {}
        self._functions: list[Function] = []
        self._comments: dict[tuple[str, str, str], str] = {}
        self._generated: dict[tuple[int, int], str] = {}
        self._line = 1

    def read(self, statement: RawStatement) -> None:
        """Take one statement in."""
        self._line = _line_of(self._text, statement.start)
        body = statement.fields
        if statement.kind == "CreateStmt":
            self._table(body)
        elif statement.kind == "ViewStmt":
            self._view(body["view"], body, body.get("aliases", []), statement)
        elif statement.kind == "CreateTableAsStmt" and body.get("objtype") == "OBJECT_MATVIEW":
            self._view(body["into"]["rel"], body, body["into"].get("colNames", []), statement)
        elif statement.kind == "CreateFunctionStmt":
            self._function(body)
        elif statement.kind == "CommentStmt" and body.get("objtype") == "OBJECT_COLUMN":
            self._comment(body)
        else:
            raise DdlRefused(self._line, "this statement defines no relation or function")

    def catalog(self) -> Catalog:
        """Everything read so far, classified."""
        relations = tuple(self._classified(r) for r in self._relations.values())
        catalog = replace(self._empty, relations=relations, functions=tuple(self._functions))
        return settle(catalog, self._generated)

    def _classified(self, relation: Relation) -> Relation:
        columns = []
        for c in relation.columns:
            comment = self._comments.get((relation.schema, relation.name, c.name))
            phi, kind = classify(
                relation.schema, relation.name, c.name, c.type, comment, self._overrides
            )
            columns.append(replace(c, phi=phi, kind=kind))
        return replace(relation, columns=tuple(columns))

    def _add(self, relation: Relation) -> None:
        key = (relation.schema, relation.name)
        if key in self._relations:
            raise DdlRefused(self._line, "a relation of this name is defined above")
        self._relations[key] = relation

    def _next_oid(self) -> int:
        return _FIRST_OID + len(self._relations)

    def _table(self, body: dict[str, Any]) -> None:
        if body.get("inhRelations") or body.get("partbound") or body.get("ofTypename"):
            raise DdlRefused(self._line, "INHERITS, PARTITION OF and OF are not read here")
        oid = self._next_oid()
        columns: list[Column] = []
        for element in body.get("tableElts", []):
            if "Constraint" in element:
                continue
            if "ColumnDef" not in element:
                raise DdlRefused(self._line, "LIKE is not read here")
            definition = element["ColumnDef"]
            number = len(columns) + 1
            generated = any(_is_generated(c) for c in definition.get("constraints", []))
            columns.append(
                Column(
                    definition["colname"],
                    type_name(definition["typeName"]),
                    number,
                    generated=generated,
                )
            )
            if generated:
                # The text of the expression is not kept by the grammar: any other column may be
                # in it, so the whole row is.
                self._generated[oid, number] = _quoted(body["relation"]["relname"]) + "::text"
        self._add(Relation(*_name(body["relation"]), "table", oid, tuple(columns)))

    def _view(
        self,
        name: dict[str, Any],
        body: dict[str, Any],
        aliases: list[dict[str, Any]],
        statement: RawStatement,
    ) -> None:
        query = body["query"].get("SelectStmt")
        if query is None:
            raise DdlRefused(self._line, "a view must be a SELECT")
        above = replace(self._empty, relations=tuple(self._relations.values()))
        try:
            shape = shape_of(query, above)
            fields = shape.renamed([a["String"]["sval"] for a in aliases]).fields
        except Untraceable as error:
            raise DdlRefused(self._line, error.reason) from error
        if shape.rest is not None or not all(f.name for f in fields):
            raise DdlRefused(self._line, "the columns of this view are not known; give them names")
        # Their types are not worked out, so nothing about them is taken for harmless.
        columns = tuple(Column(f.name or "", "unknown", n) for n, f in enumerate(fields, 1))
        kind = "view" if statement.kind == "ViewStmt" else "matview"
        text = self._definition(statement)
        self._add(
            Relation(
                *_name(name),
                "view" if kind == "view" else "matview",
                self._next_oid(),
                columns,
                text,
            )
        )

    def _definition(self, statement: RawStatement) -> str:
        """The text of a view's SELECT, from the first word after AS that makes it one."""
        raw = self._text[statement.start : statement.end]
        lowered = raw.lower()
        at = lowered.find(b"as")
        while at >= 0:
            try:
                found = parse(raw[at + 2 :], _LIMITS)
            except SqlUnreadable:
                found = []
            if len(found) == 1 and found[0].kind == "SelectStmt":
                return raw[at + 2 :].decode()
            at = lowered.find(b"as", at + 2)
        raise DdlRefused(self._line, "the SELECT of this view is not found")

    def _function(self, body: dict[str, Any]) -> None:
        names = [part["String"]["sval"] for part in body["funcname"]]
        parameters = [p["FunctionParameter"] for p in body.get("parameters", [])]
        inputs = [
            p for p in parameters if p.get("mode") not in ("FUNC_PARAM_OUT", "FUNC_PARAM_TABLE")
        ]
        arguments = ", ".join(
            " ".join(filter(None, (p.get("name"), type_name(p["argType"])))) for p in inputs
        )
        definer = any(
            o["DefElem"]["defname"] == "security"
            and o["DefElem"]["arg"].get("Boolean", {}).get("boolval", False)
            for o in body.get("options", [])
        )
        schema = names[-2] if len(names) > 1 else _DEFAULT_SCHEMA
        self._functions.append(Function(schema, names[-1], arguments, definer))

    def _comment(self, body: dict[str, Any]) -> None:
        parts = [part["String"]["sval"] for part in body["object"]["List"]["items"]]
        if len(parts) not in (2, 3):
            raise DdlRefused(self._line, "write COMMENT ON COLUMN schema.table.column")
        schema, table, column = parts if len(parts) == 3 else (_DEFAULT_SCHEMA, *parts)
        relation = self._relations.get((schema, table))
        if relation is None or relation.column(column) is None:
            raise DdlRefused(self._line, "the column is not defined above")
        self._comments[schema, table, column] = body.get("comment", "")


def _line_of(text: bytes, start: int) -> int:
    """The line of the statement's first word, past blanks and comments before it."""
    rest = text[start:]
    while True:
        stripped = rest.lstrip()
        if stripped.startswith(b"--"):
            rest = stripped.partition(b"\n")[2]
        elif stripped.startswith(b"/*"):
            rest = stripped.partition(b"*/")[2]
        else:
            return text[: len(text) - len(stripped)].count(b"\n") + 1


def _name(node: Mapping[str, Any]) -> tuple[str, str]:
    return node.get("schemaname", _DEFAULT_SCHEMA), node["relname"]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _is_generated(node: Mapping[str, Any]) -> bool:
    return bool(node["Constraint"].get("contype") == "CONSTR_GENERATED")


# pg_type's names → format_type's (utils/adt/format_type.c).
_TYPE_NAMES = {
    "bool": "boolean",
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "smallserial": "smallint",
    "serial2": "smallint",
    "serial": "integer",
    "serial4": "integer",
    "bigserial": "bigint",
    "serial8": "bigint",
    "float4": "real",
    "float8": "double precision",
    "varchar": "character varying",
    "bpchar": "character",
    "varbit": "bit varying",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "time": "time without time zone",
    "timetz": "time with time zone",
}


def type_name(node: Mapping[str, Any]) -> str:
    """A type as ``format_type`` prints it, without ``interval``'s fields.

    Args:
        node: a TypeName of the grammar's tree.
    """
    names = [part["String"]["sval"] for part in node["names"]]
    if len(names) > 1 and names[0] != "pg_catalog":
        return ".".join(names) + "[]" * len(node.get("arrayBounds", []))
    name: str = _TYPE_NAMES.get(names[-1], names[-1])
    numbers = [
        str(m["A_Const"].get("ival", {}).get("ival", 0))
        for m in node.get("typmods", [])
        if "A_Const" in m
    ]
    if name == "numeric" and len(numbers) == 1:
        numbers.append("0")
    if numbers and name != "interval":
        head, _, tail = name.partition(" with")
        name = f"{head}({','.join(numbers)})" + (f" with{tail}" if tail else "")
    return name + ("[]" if node.get("arrayBounds") else "")
