"""libpg_query's tree, walked by its own schema.

The JSON names the type of a node only where any type may stand; elsewhere the
field decides (``CopyStmt.relation`` is a ``RangeVar`` without saying so). The
types come from the protobuf descriptor that postgast bundles, so no node can be
passed over because a list of fields here forgot it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from postgast import pg_query_pb2

from gateway.errors import Denied

_ANY: Final = "Node"


def _schema() -> dict[str, dict[str, str | None]]:
    """Message → JSON field → type of the node in it; None for a scalar."""
    return {
        name: {
            field.json_name: field.message_type.name if field.message_type else None
            for field in message.fields
        }
        for name, message in pg_query_pb2.DESCRIPTOR.message_types_by_name.items()
    }


_SCHEMA: Final = _schema()

STATEMENTS: Final = frozenset(name for name in _SCHEMA if name.endswith("Stmt"))
"""Every node kind of the grammar that is a statement."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node and the field of its parent in which it stands (``""`` for the root)."""

    kind: str
    fields: dict[str, Any]
    field: str = ""


def children(node: Node) -> Iterator[Node]:
    """The nodes directly below, in the order of the tree.

    Raises:
        Denied: the node or a field is not in the schema (rule ``sql.node``).
    """
    schema = _SCHEMA.get(node.kind)
    if schema is None:
        raise _unknown(node.kind)
    for field, value in node.fields.items():
        if field not in schema:
            raise _unknown(f"{node.kind}.{field}")
        kind = schema[field]
        if kind is None:
            continue
        for item in value if isinstance(value, list) else (value,):
            if kind != _ANY:
                yield Node(kind, item, field)
            elif item:  # an empty object is a hole in a list, as in a[:2]
                ((inner, fields),) = item.items()
                yield Node(inner, fields, field)


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it, each before its children.

    Raises:
        Denied: see ``children``.
    """
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(reversed(list(children(current))))


def check_depth(node: Node, limit: int) -> bool:
    """Whether no leaf lies more than ``limit`` nodes below the root."""
    level = [node]
    for _ in range(limit):
        level = [child for parent in level for child in children(parent)]
        if not level:
            return True
    return False


def range_parts(fields: dict[str, Any]) -> tuple[str, ...]:
    """The name in a ``RangeVar``: ``[[database,] schema,] name``.

    A temporary table that is made without a schema goes to ``pg_temp``.
    """
    keys = ("catalogname", "schemaname", "relname")
    parts = tuple(str(fields[key]) for key in keys if fields.get(key))
    is_temporary = fields.get("relpersistence") == "t" and len(parts) == 1
    return ("pg_temp", *parts) if is_temporary else parts


def strings(values: list[dict[str, Any]]) -> tuple[str, ...]:
    """The parts of a name that is a list of ``String`` nodes.

    Other nodes in the list, as the star of ``t.*``, give an empty part.
    """
    return tuple(str(value.get("String", {}).get("sval", "")) for value in values)


def _unknown(what: str) -> Denied:
    return Denied(
        f"the gate does not know this part of the grammar: {what}",
        "Report it; until the gate learns it, write the statement another way.",
        "sql.node",
    )
