"""Relations as a statement names them, resolved as the server would."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.action import ObjectKind
from gateway.errors import Denied
from gateway.sql.catalog import Catalog, Relation
from gateway.sql.shown import shown_name
from gateway.sql.system import is_harmless, system_schema

_KINDS: dict[str, ObjectKind] = {"view": "view", "matview": "view", "sequence": "sequence"}


@dataclass(frozen=True, slots=True)
class Named:
    """A relation that a statement names.

    Attributes:
        name: canonical, ``database.schema.table``.
        kind: its object kind.
        relation: the catalog's entry; None for a system relation or an unknown one.
        leaky: a system relation that may hold values.
    """

    name: str
    kind: ObjectKind
    relation: Relation | None
    leaky: bool = False

    @property
    def holds_phi(self) -> bool:
        """Whether some column is PHI or may be."""
        if self.relation is None:
            return self.leaky
        return any(column.masked for column in self.relation.columns)


def resolve(parts: tuple[str, ...], catalog: Catalog) -> Named:
    """The relation that a statement reads or writes by this name.

    Args:
        parts: one to three: ``[[database,] schema,] name``.
        catalog: everything outside the system schemas.

    Raises:
        Denied: the catalog does not know it (rule ``sql.unknown-relation``).
    """
    named = find(parts, catalog)
    if named.relation is None and not _is_system(parts):
        raise Denied(
            f"relation {shown_name('.'.join(parts))} is not in the catalog of {catalog.target}",
            "Check the name; a table made a moment ago is known from the next session on.",
            "sql.unknown-relation",
        )
    return named


def find(parts: tuple[str, ...], catalog: Catalog) -> Named:
    """As ``resolve``, but an unknown relation is named as it would be created.

    Raises:
        Denied: the name has another database in it, or too many parts.
    """
    schema, name = _schema_and_name(parts, catalog)
    system = system_schema(schema, name)
    if system is not None:
        leaky = not is_harmless(system, name)
        return Named(f"{catalog.database}.{system}.{name}", "table", None, leaky)
    relation = catalog.resolve(schema, name)
    if relation is None:
        return Named(f"{catalog.database}.{schema or _first_schema(catalog)}.{name}", "table", None)
    kind = _KINDS.get(relation.kind, "table")
    return Named(f"{catalog.database}.{relation.schema}.{relation.name}", kind, relation)


def _schema_and_name(parts: tuple[str, ...], catalog: Catalog) -> tuple[str | None, str]:
    if len(parts) == 3 and parts[0] == catalog.database:
        parts = parts[1:]
    if len(parts) == 2:
        return parts[0], parts[1]
    if len(parts) == 1:
        return None, parts[0]
    raise Denied(
        "a relation of another database is named",
        f"This session is in database {catalog.database}; write schema.table.",
        "sql.unknown-relation",
    )


def _is_system(parts: tuple[str, ...]) -> bool:
    return system_schema(parts[-2] if len(parts) > 1 else None, parts[-1]) is not None


def _first_schema(catalog: Catalog) -> str:
    """Where an object without a schema would go: the first that is not the system's."""
    return next((s for s in catalog.search_path if not s.startswith("pg_")), "public")
