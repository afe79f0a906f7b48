"""Every statement of the grammar that is not a query: its verb and its objects.

One table, so that a reviewer can read it and a test can see that no statement is
missing. Queries (SELECT, INSERT, UPDATE, DELETE, MERGE) and statements whose meaning
depends on their options are read by ``gateway.sql.actions`` itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from gateway.core.action import ObjectKind
from gateway.sql.walk import range_parts, strings


@dataclass(frozen=True, slots=True)
class Rule:
    """How one statement is named.

    Attributes:
        verb: the action's verb.
        kind: the objects' kind; None takes it from the field ``typed_by``.
        field: the field that names the objects; empty for the whole database.
        typed_by: the field with an ``OBJECT_…`` constant.
    """

    verb: str
    kind: ObjectKind | None
    field: str = ""
    typed_by: str = ""


def _rules(verb: str, rows: str) -> dict[str, Rule]:
    """Rows of ``Statement kind field``; the kind ``@field`` means typed by that field."""
    table: dict[str, Rule] = {}
    for row in rows.strip().splitlines():
        statement, kind, *field = row.split()
        typed_by = kind.removeprefix("@") if kind.startswith("@") else ""
        table[statement] = Rule(
            verb, None if typed_by else _KINDS[kind], field[0] if field else "", typed_by
        )
    return table


_KINDS: Final[dict[str, ObjectKind]] = {
    "table": "table",
    "view": "view",
    "sequence": "sequence",
    "function": "function",
    "schema": "schema",
    "database": "database",
    "role": "role",
    "setting": "setting",
    "type": "type",
    "transaction": "transaction",
    "other": "other",
}

OBJECT_KINDS: Final[dict[str, ObjectKind]] = {
    "OBJECT_AGGREGATE": "function",
    "OBJECT_COLUMN": "table",
    "OBJECT_DATABASE": "database",
    "OBJECT_DOMAIN": "type",
    "OBJECT_FOREIGN_TABLE": "table",
    "OBJECT_FUNCTION": "function",
    "OBJECT_MATVIEW": "view",
    "OBJECT_PARAMETER_ACL": "setting",
    "OBJECT_PROCEDURE": "function",
    "OBJECT_ROLE": "role",
    "OBJECT_ROUTINE": "function",
    "OBJECT_SCHEMA": "schema",
    "OBJECT_SEQUENCE": "sequence",
    "OBJECT_TABLE": "table",
    "OBJECT_TYPE": "type",
    "OBJECT_VIEW": "view",
}
"""The grammar's object types; all others are ``other``."""

UTILITY: Final[dict[str, Rule]] = (
    _rules(
        "create",
        """
        CompositeTypeStmt type typevar
        CreateAmStmt other amname
        CreateCastStmt other
        CreateConversionStmt other conversion_name
        CreateDomainStmt type domainname
        CreateEnumStmt type typeName
        CreateEventTrigStmt other trigname
        CreateExtensionStmt other extname
        CreateFdwStmt other fdwname
        CreateForeignServerStmt other servername
        CreateForeignTableStmt table base
        CreateFunctionStmt function funcname
        CreateOpClassStmt other opclassname
        CreateOpFamilyStmt other opfamilyname
        CreatePLangStmt other plname
        CreatePolicyStmt table table
        CreatePublicationStmt other pubname
        CreateRangeStmt type typeName
        CreateRoleStmt role role
        CreateSchemaStmt schema schemaname
        CreateSeqStmt sequence sequence
        CreateStatsStmt table relations
        CreateStmt table relation
        CreateSubscriptionStmt other subname
        CreateTableAsStmt @objtype into
        CreateTableSpaceStmt other tablespacename
        CreateTransformStmt type type_name
        CreateTrigStmt table relation
        CreateUserMappingStmt role user
        CreatedbStmt database dbname
        DefineStmt @kind defnames
        ImportForeignSchemaStmt schema local_schema
        IndexStmt table relation
        RuleStmt table relation
        ViewStmt view view
        """,
    )
    | _rules(
        "alter",
        """
        AlterCollationStmt other collname
        AlterDatabaseRefreshCollStmt database dbname
        AlterDatabaseSetStmt database dbname
        AlterDatabaseStmt database dbname
        AlterDomainStmt type typeName
        AlterEnumStmt type typeName
        AlterEventTrigStmt other trigname
        AlterExtensionContentsStmt other extname
        AlterExtensionStmt other extname
        AlterFdwStmt other fdwname
        AlterForeignServerStmt other servername
        AlterFunctionStmt function func
        AlterObjectDependsStmt @objectType object
        AlterObjectSchemaStmt @objectType object
        AlterOpFamilyStmt other opfamilyname
        AlterOperatorStmt other opername
        AlterOwnerStmt @objectType object
        AlterPolicyStmt table table
        AlterPublicationStmt other pubname
        AlterRoleSetStmt role role
        AlterRoleStmt role role
        AlterSeqStmt sequence sequence
        AlterStatsStmt other defnames
        AlterSubscriptionStmt other subname
        AlterSystemStmt setting setstmt
        AlterTSConfigurationStmt other cfgname
        AlterTSDictionaryStmt other dictname
        AlterTableMoveAllStmt other orig_tablespacename
        AlterTableSpaceOptionsStmt other tablespacename
        AlterTableStmt @objtype relation
        AlterTypeStmt type typeName
        AlterUserMappingStmt role user
        ReassignOwnedStmt role roles
        RenameStmt @renameType object
        """,
    )
    | _rules(
        "drop",
        """
        DropOwnedStmt role roles
        DropRoleStmt role roles
        DropStmt @removeType objects
        DropSubscriptionStmt other subname
        DropTableSpaceStmt other tablespacename
        DropUserMappingStmt role user
        DropdbStmt database dbname
        """,
    )
    | _rules(
        "grant",
        """
        AlterDefaultPrivilegesStmt database
        GrantRoleStmt role granted_roles
        GrantStmt @objtype objects
        """,
    )
    | _rules("truncate", "TruncateStmt table relations")
    | _rules("lock", "LockStmt table relations")
    | _rules("set", "ConstraintsSetStmt setting\nDiscardStmt setting")
    | _rules("listen", "ListenStmt other conditionname\nUnlistenStmt other conditionname")
    | _rules("notify", "NotifyStmt other conditionname")
    | _rules("prepare", "PrepareStmt other name\nDeallocateStmt other name")
    | _rules("execute", "ExecuteStmt other name")
    | _rules("declare", "DeclareCursorStmt other portalname")
    | _rules("fetch", "FetchStmt other portalname\nClosePortalStmt other portalname")
    | _rules("do", "DoStmt database")
    | _rules("comment", "CommentStmt @objtype object\nSecLabelStmt @objtype object")
    | _rules(
        "maintain",
        """
        CheckPointStmt database
        ClusterStmt table relation
        RefreshMatViewStmt view relation
        ReindexStmt table relation
        VacuumStmt table rels
        """,
    )
    | _rules("other", "LoadStmt database")
)
"""Statement → rule."""

DDL_VERBS: Final = frozenset({"create", "alter", "drop", "grant", "comment"})
"""Verbs that change definitions or who may use them."""


def objects_of(rule: Rule, fields: dict[str, Any]) -> tuple[tuple[str, ...], ...]:
    """The names of the objects of a statement, each as its parts; may be empty."""
    value = fields.get(rule.field)
    if value is None and "relation" in fields:  # ALTER TABLE ... RENAME and its kin
        value = fields["relation"]
    if rule.field == "objects":  # a list of names, also where each is a single String
        return tuple(name for item in value or () for name in object_names(item))
    return tuple(object_names(value))


def object_names(value: Any) -> Iterator[tuple[str, ...]]:
    """The names in a field, each as its parts.

    Args:
        value: any shape in which the grammar keeps names: a text, a ``RangeVar``,
            ``RoleSpec``, ``TypeName``, ``ObjectWithArgs`` with or without its type, a
            list of ``String`` nodes (one name), or a list of any of these.
    """
    if isinstance(value, str):
        yield (value,)
    elif isinstance(value, list):
        if value and all(set(item) == {"String"} for item in value):
            yield strings(value)
        else:
            for item in value:
                yield from object_names(item)
    elif isinstance(value, dict):
        yield from _names_of_node(value)


_WRAPPERS: Final = ("RangeVar", "RoleSpec", "TypeName", "ObjectWithArgs", "VacuumRelation")
_INSIDE: Final = ("relation", "rel", "base", "names", "objname", "rolename", "priv_name", "name")


def _names_of_node(node: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    if "relname" in node:
        yield range_parts(node)
        return
    if "List" in node:
        yield from object_names(node["List"].get("items", []))
        return
    if "String" in node:
        yield strings([node])
        return
    for key in (*_WRAPPERS, "AccessPriv", *_INSIDE):
        if key in node:
            yield from object_names(node[key])
            return
