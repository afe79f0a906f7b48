"""A second opinion: sqlglot's reading of the same text.

The trace over PostgreSQL's own grammar decides. sqlglot's parser, name resolution
and scopes share nothing with it, so a column that sqlglot derives from PHI and the
trace does not is masked too. Where sqlglot cannot read the text, there is no second
opinion: it knows less of PostgreSQL than the trace does
(docs/decisions/0005-lineage-on-libpg-query.md).
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from functools import lru_cache

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope
from sqlglot.schema import MappingSchema

from gateway.sql.catalog import Catalog, Relation

# Qualifying is quadratic in stars and names: 1.1 s was measured on 13 KB full of "*".
_LONGEST = 2048
_MOST_STARS = 8

# sqlglot warns about what it does not know; the texts are not for a log.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)


def suspected(
    sql: str, catalog: Catalog, named: Collection[str], width: int
) -> tuple[bool, ...] | None:
    """Which output columns sqlglot derives from a masked column.

    Args:
        sql: one query.
        catalog: names the columns; views count as their columns are classified.
        named: the relations that the query names, ``schema.table``.
        width: the number of output columns that the trace found.

    Returns:
        By position; None where there is no opinion: the text is long, sqlglot
        cannot read it, or it sees another number of columns.
    """
    if len(sql) > _LONGEST or sql.count("*") > _MOST_STARS:
        return None
    root = _read(sql, [r for r in catalog.relations if f"{r.schema}.{r.name}" in named])
    if root is None or len(_query(root).selects) != width:
        return None
    reader = _Reader(root, catalog)
    return tuple(reader.output(root, n) for n in range(width))


def _read(sql: str, relations: list[Relation]) -> Scope | None:
    tables = tuple((r.schema, r.name, tuple(c.name for c in r.columns)) for r in relations)
    try:
        tree = qualify(
            sqlglot.parse_one(sql, dialect="postgres"),
            schema=_schema(tables),
            dialect="postgres",
            validate_qualify_columns=False,
            quote_identifiers=False,
        )
        root = build_scope(tree)
    except (SqlglotError, RecursionError, LookupError, ValueError, TypeError, AttributeError):
        return None  # what sqlglot raises on texts that it half knows
    return root if root is not None and isinstance(root.expression, exp.Query) else None


def _query(scope: Scope) -> exp.Query:
    assert isinstance(scope.expression, exp.Query)
    return scope.expression


@lru_cache(maxsize=256)
def _schema(tables: tuple[tuple[str, str, tuple[str, ...]], ...]) -> MappingSchema:
    mapping: dict[str, object] = {}
    for schema, name, columns in tables:
        below = mapping.setdefault(schema, {})
        assert isinstance(below, dict)
        below[name] = dict.fromkeys(columns, "text")
    return MappingSchema(mapping, dialect="postgres", normalize=False)


class _Reader:
    """Follows output columns down to tables."""

    def __init__(self, root: Scope, catalog: Catalog) -> None:
        self._catalog = catalog
        self._scopes = {id(scope.expression): scope for scope in root.traverse()}
        self._open: set[tuple[int, int]] = set()

    def output(self, scope: Scope, position: int) -> bool:
        """Whether an output column derives from a masked one."""
        key = (id(scope), position)
        if key in self._open:
            return False  # a recursive query; its other arm answers
        self._open.add(key)
        try:
            if scope.set_operation_scopes:
                return any(self.output(arm, position) for arm in scope.set_operation_scopes)
            projection = _query(scope).selects[position]
            return any(self._is_tainted(c) for c in projection.find_all(exp.Column))
        finally:
            self._open.discard(key)

    def _is_tainted(self, column: exp.Column) -> bool:
        scope = self._scopes.get(id(column.find_ancestor(exp.Select)))
        while scope is not None:
            source = scope.sources.get(column.table)
            if isinstance(source, Scope) and isinstance(source.expression, exp.Query):
                names = source.expression.named_selects
                return column.name in names and self.output(source, names.index(column.name))
            if isinstance(source, exp.Table):
                return self._is_masked(source, column.name)
            scope = scope.parent
        return False

    def _is_masked(self, table: exp.Table, name: str) -> bool:
        relation = self._catalog.resolve(table.db or None, table.name)
        found = relation.column(name) if relation else None
        return found is not None and found.masked
