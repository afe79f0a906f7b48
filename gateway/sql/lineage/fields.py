"""``row.name``: a field that the gate knows, or maybe a call of the function ``name``.

PostgreSQL reads ``x.f`` and ``(x).f`` as ``f(x)`` where ``f`` is no column, also for a
scalar ``x`` (``ParseFuncOrColumn`` in parse_func.c): ``x.current_setting`` runs. So each
place that could be one is a call until the trace has proved it a field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.sql.catalog import Catalog
from gateway.sql.lineage.labels import Node, returned_names
from gateway.sql.lineage.scopes import Shape

# heapam's system columns (access/sysattr.h): numbers of rows and transactions, no data;
# only ``tableoid`` may tell some (``Expressions._partition``).
SYSTEM_COLUMNS = frozenset(("ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"))
# How the fields of a ROW() are called; no builtin function has such a name.
ROW_FIELD = re.compile(r"f[0-9]+")

# Builtins that take any row and are not reviewed, of PostgreSQL 15 to 18. No other builtin
# takes a row, so a name of a row's with unknown columns is a column unless it is in here.
ROW_TAKERS = frozenset(
    (
        "any_out",
        "anycompatible_out",
        "anycompatiblenonarray_out",
        "anyelement_out",
        "anynonarray_out",
        "hash_record",
        "pg_column_compression",
        "pg_column_toast_chunk_id",
        "pg_restore_attribute_stats",
        "pg_restore_relation_stats",
        "record_out",
        "record_send",
    )
)

_TYPE = re.compile(r'(?:(?:"([^"]+)"|(\w+))\.)?(?:"([^"]+)"|(\w+))((?:\[\])*)')


def attribute_names(tree: Any) -> Iterator[tuple[int, str]]:
    """The names below a tree that may be fields or calls.

    Args:
        tree: libpg_query's JSON, or a part of it.

    Returns:
        (``id`` of the ``ColumnRef`` or ``A_Indirection`` object, name), in no order.
    """
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending += node
        elif isinstance(node, dict):
            pending += node.values()
            reference, selected = node.get("ColumnRef"), node.get("A_Indirection")
            parts = _parts(reference, "fields")
            for part in parts[-1:] if len(parts) > 1 else ():
                yield from ((id(reference), name) for name in _text(part))
            for part in _parts(selected, "indirection"):
                yield from ((id(selected), name) for name in _text(part))


def _parts(body: Any, field: str) -> list[Any]:
    parts = body.get(field) if isinstance(body, dict) else None
    return parts if isinstance(parts, list) else []


def _text(part: Any) -> Iterator[str]:
    """The text of a ``String`` node, none of another; "" of one that no grammar makes."""
    if isinstance(part, dict) and "String" in part:
        body = part["String"]
        text = body.get("sval", "") if isinstance(body, dict) else ""
        yield text if isinstance(text, str) else ""


def has_column(shape: Shape, alias: str, name: str) -> bool:
    """Whether ``alias.name`` is certainly a column of a relation in scope, no call."""
    if name in SYSTEM_COLUMNS or any(f.name == name for f in shape.fields):
        return True
    if shape.rest is None and not shape.system:
        return False
    if shape.scalar and (name != alias or shape.fields):
        # The one column of a scalar function is called as its alias, if not renamed.
        return False
    return name not in ROW_TAKERS


def field_type(type_name: str | None, name: str, catalog: Catalog) -> str | None:
    """The type of a composite type's field; None if the type or the field is not known.

    Args:
        type_name: as ``format_type`` prints it.
        name: of the field.
        catalog: knows tables and composite types.
    """
    match = _TYPE.fullmatch(type_name or "")
    if match is None or match[5]:
        return None
    relation = catalog.resolve(match[1] or match[2], match[3] or match[4])
    column = relation.column(name) if relation is not None else None
    return column.type if column is not None else None


def cast_type(body: Node) -> str | None:
    """The type that a cast names; None if it is not a plain name."""
    name = body["typeName"]
    parts = [part["String"].get("sval", "") for part in name.get("names", [])]
    if "arrayBounds" in name or any('"' in part for part in parts):
        return None
    return ".".join(f'"{part}"' for part in parts)


def element_type(type_name: str | None, part: Mapping[str, Any]) -> str | None:
    """The type of ``value[n]``; a slice and an unknown type give None."""
    if type_name is None or part.get("A_Indices", {}).get("is_slice"):
        return None
    return type_name.removesuffix("[]") if type_name.endswith("[]") else None


def are_row_fields(argument: Node, names: list[str]) -> bool:
    """Whether the names are fields of a ROW(), or of a builtin that returns a known row."""
    if all(ROW_FIELD.fullmatch(name) for name in names):
        return True
    returned = returned_names(argument, None) or []
    return len(returned) > 1 and len(names) == 1 and names[0] in returned
