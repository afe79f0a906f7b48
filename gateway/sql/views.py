"""Columns that are computed from others: those of views, and generated ones.

The server names a view as the origin of its columns, and a generated column is
stored like any other; so each gets in the catalog what its definition derives from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gateway.sql.catalog import Catalog, Column, Relation
from gateway.sql.grammar import parse
from gateway.sql.lexing import SqlUnreadable
from gateway.sql.lineage import Untraceable, shape_of, trace
from gateway.sql.lineage.scopes import Taint, opaque


def settle(catalog: Catalog, generated: Mapping[tuple[int, int], str]) -> Catalog:
    """Classify what nobody classified but a definition tells.

    An unclassified column of a view is no PHI if it derives from none, and is PHI
    (with the kind, if it is a plain copy) if it derives from some. What somebody
    classified as PHI stays so; a ``no`` on a column that derives from PHI does not
    hold, because lineage would mask it all the same. A definition that cannot be
    followed leaves its columns as PHI.

    Args:
        catalog: as classified by configuration, comments and names.
        generated: expressions of generated columns by (relation oid, attnum).
    """
    relations = []
    for relation in catalog.relations:
        own = {n: text for (oid, n), text in generated.items() if oid == relation.oid}
        relations.append(_generated(relation, own, catalog) if own else relation)
    settled = replace(catalog, relations=tuple(relations))
    return replace(
        settled, relations=tuple(_view(relation, settled) for relation in settled.relations)
    )


def _generated(relation: Relation, texts: Mapping[int, str], catalog: Catalog) -> Relation:
    columns = []
    for column in relation.columns:
        if column.number in texts and column.phi != "yes":
            found = _expression_is_phi(relation, texts[column.number], catalog)
            if found or column.phi == "unclassified":
                column = replace(column, phi="yes" if found else "no", kind=None)
        columns.append(column)
    return replace(relation, columns=tuple(columns))


def _expression_is_phi(relation: Relation, expression: str, catalog: Catalog) -> bool:
    name = ".".join(_quoted(part) for part in (relation.schema, relation.name))
    text = f"SELECT {expression} FROM {name}"  # noqa: S608 — read by the grammar, never run
    try:
        (statement,) = parse(text.encode())
    except (SqlUnreadable, ValueError):
        return True
    columns = trace(statement.tree, text, catalog).columns
    return columns is None or any(c.masked for c in columns)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _view(relation: Relation, catalog: Catalog) -> Relation:
    if relation.kind not in ("view", "matview"):
        return relation
    taints = view_taints(relation, catalog)
    columns = zip(relation.columns, taints, strict=True)
    return replace(relation, columns=tuple(_settled(column, taint) for column, taint in columns))


def view_taints(relation: Relation, catalog: Catalog) -> list[Taint]:
    """The taint of each column of a view; opaque where it cannot be followed."""
    text = f"TABLE {_quoted(relation.schema)}.{_quoted(relation.name)}"
    try:
        (statement,) = parse(text.encode())
        taints = [f.taint for f in shape_of(statement.fields, catalog).fields]
    except (SqlUnreadable, Untraceable, RecursionError):
        taints = []
    if len(taints) != len(relation.columns):
        return [opaque("view")] * len(relation.columns)
    return taints


def _settled(column: Column, taint: Taint) -> Column:
    if column.phi == "yes":
        return column
    if taint:
        return replace(column, phi="yes", kind=taint.kind if taint.copy else None)
    return replace(column, phi="no", kind=None)
