"""The catalog: what the gate knows of a database when it decides.

A frozen snapshot, taken by ``gateway.edge`` from a live server or built from
DDL (``explain --catalog``). Its fingerprint travels with the decision; the
guard sees that it still holds before the first cell leaves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

Phi = Literal["yes", "no", "unclassified"]
RelationKind = Literal["table", "view", "matview", "foreign", "sequence", "index", "composite"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a relation.

    Attributes:
        name: as stored (case kept, unquoted).
        type: PostgreSQL's name of the type, as ``format_type`` prints it.
        number: ``attnum``, 1 for the first.
        phi: yes, no, or unclassified; unclassified text-like columns are masked.
        kind: PHI kind (``ssn``, ``name``, ``date`` …) if phi is yes and one kind is
            known; None for a column that is computed from PHI.
        generated: computed from other columns; COPY of a whole table leaves it out.
    """

    name: str
    type: str
    number: int
    phi: Phi = "unclassified"
    kind: str | None = None
    generated: bool = False

    @property
    def masked(self) -> bool:
        """Whether cells of this column are hidden."""
        return self.phi == "yes" or (self.phi == "unclassified" and not is_shown_type(self.type))


_SHOWN_TYPES = frozenset(
    {"smallint", "integer", "bigint", "real", "double precision", "numeric", "boolean", "oid"}
)


def is_shown_type(type_name: str) -> bool:
    """Whether an unclassified column of this type may be shown.

    Numbers and booleans only: text, dates, JSON, bytea, arrays, domains and all
    else that could carry an identifier stay masked until someone classifies them.
    """
    return type_name.split("(")[0].strip() in _SHOWN_TYPES


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, view or the like outside the system schemas.

    Attributes:
        schema, name: as stored.
        kind: see RelationKind.
        oid: the server's, or a made-up one for a catalog from DDL.
        columns: by attnum, dropped ones left out.
        definition: the SELECT of a view or materialised view, else None.
        side_effects: writing to it may run more than the statement says: rules, triggers,
            or users' functions and operators in defaults, generated columns, checks,
            domains, indexes, partition keys or row security; of its own, its partitions
            and children, of tables that its foreign keys cascade to, or under a view.
    """

    schema: str
    name: str
    kind: RelationKind
    oid: int
    columns: tuple[Column, ...]
    definition: str | None = None
    side_effects: bool = False

    def column(self, name: str) -> Column | None:
        """The column of that name, or None."""
        return next((c for c in self.columns if c.name == name), None)


@dataclass(frozen=True, slots=True)
class Function:
    """A function or procedure outside ``pg_catalog``: it may capture a call by its name."""

    schema: str
    name: str
    arguments: str
    security_definer: bool = False


@dataclass(frozen=True)
class Catalog:
    """Everything outside the system schemas that a decision may rest on.

    Attributes:
        target: the target's name in the configuration.
        database: the database's name.
        server_version: ``server_version_num``, for instance 160014.
        relations: all outside ``pg_catalog``, ``information_schema``, ``pg_toast``.
        functions: all outside ``pg_catalog`` and ``information_schema``.
        operators: names of operators outside ``pg_catalog`` (they may capture one).
        casts: number of casts that are not the system's.
        search_path: the schemas the guard pins, ``pg_catalog`` first, ``pg_temp`` last.
        fingerprint: hex SHA-256 over the catalog rows, as the guard's query computes it.
    """

    target: str
    database: str
    server_version: int
    relations: tuple[Relation, ...]
    functions: tuple[Function, ...] = ()
    operators: frozenset[str] = frozenset()
    casts: int = 0
    search_path: tuple[str, ...] = ("pg_catalog", "public", "pg_temp")
    fingerprint: str = ""
    extra: dict[str, str] = field(default_factory=dict, compare=False)

    @cached_property
    def by_name(self) -> dict[tuple[str, str], Relation]:
        """Relations by (schema, name)."""
        return {(r.schema, r.name): r for r in self.relations}

    @cached_property
    def origins(self) -> dict[tuple[int, int], Column]:
        """Columns by (relation oid, attnum), as RowDescription names its origins."""
        return {(r.oid, c.number): c for r in self.relations for c in r.columns}

    def resolve(self, schema: str | None, name: str) -> Relation | None:
        """The relation that the server would find for a name, or None.

        An unqualified name goes through ``search_path``; a system relation is
        not in the catalog and gives None.
        """
        if schema is not None:
            return self.by_name.get((schema, name))
        for candidate in self.search_path:
            found = self.by_name.get((candidate, name))
            if found is not None:
                return found
        return None
