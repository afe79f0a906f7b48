"""What a reading of the tree collects: deeds, which become Actions once PHI is traced."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from gateway.core.action import ObjectKind
from gateway.core.plan import CopyOut
from gateway.sql.catalog import Relation
from gateway.sql.relations import Named

Returns = Literal["rows", "tag", "copy"]


@dataclass(frozen=True, slots=True)
class Deed:
    """One verb on one object, as the text alone tells.

    Attributes:
        verb, kind, name: as in Action.
        relation: the catalog's entry, for relations that it knows.
        phi: the object holds PHI or may, whatever columns are used.
        has_where: the rows are limited by a condition that names a column.
        recursive, wildcard, setting_safe: as in Facts.
        written: columns that are written, for insert, update and copy-out's list.
    """

    verb: str
    kind: ObjectKind
    name: str
    relation: Relation | None = None
    phi: bool = False
    has_where: bool = False
    recursive: bool = False
    wildcard: bool = False
    setting_safe: bool = False
    written: frozenset[str] = frozenset()

    def merged(self, other: Deed) -> Deed:
        """One deed for two on the same object: as dangerous as the worse of them."""
        return replace(
            self,
            phi=self.phi or other.phi,
            has_where=self.has_where and other.has_where,
            recursive=self.recursive or other.recursive,
            wildcard=self.wildcard or other.wildcard,
            setting_safe=self.setting_safe and other.setting_safe,
            written=self.written | other.written,
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """What one statement would do.

    Attributes:
        deeds: in the order in which the text names them, one per verb and object.
        returns: what the server answers with.
        copy: how, if it answers with COPY.
        traceable: it is a query or holds one, so lineage can follow its columns.
        opaque: its answer is not told by its text (FETCH, EXECUTE, CALL).
        leaky: it reads a system relation that may hold values.
        shows: the setting that SHOW would print, if it is the server's own.
    """

    deeds: tuple[Deed, ...]
    returns: Returns = "tag"
    copy: CopyOut | None = None
    traceable: bool = False
    opaque: bool = False
    leaky: bool = False
    shows: str = ""


@dataclass
class Deeds:
    """Collects deeds; two on the same object and verb are merged."""

    leaky: bool = False
    _found: dict[tuple[str, str, str], Deed] = field(default_factory=dict)

    def add(self, deed: Deed) -> None:
        """Take one deed."""
        key = (deed.verb, deed.kind, deed.name)
        known = self._found.get(key)
        self._found[key] = known.merged(deed) if known else deed

    def add_all(self, deeds: Iterable[Deed]) -> None:
        """Take several."""
        for deed in deeds:
            self.add(deed)

    def on(
        self,
        verb: str,
        named: Named,
        *,
        has_where: bool = False,
        recursive: bool = False,
        written: frozenset[str] = frozenset(),
    ) -> None:
        """Take a deed on a relation."""
        self.leaky = self.leaky or named.leaky
        self.add(
            Deed(
                verb,
                named.kind,
                named.name,
                named.relation,
                phi=named.leaky,
                has_where=has_where,
                recursive=recursive,
                written=written,
            )
        )

    def all(self) -> tuple[Deed, ...]:
        """All of them."""
        return tuple(self._found.values())
