"""Taints and names: what a value derives from, and what a name means where it stands.

Name lookup follows PostgreSQL's ``parse_relation.c``: the innermost level that
knows a name wins. Where the gate cannot be sure which of several values a name
means, it takes all of them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from gateway.core.action import Influence
from gateway.errors import TollhouseError


class Untraceable(TollhouseError):
    """The statement cannot be followed; all of its output is masked."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, rule="sql.lineage")


@dataclass(frozen=True, slots=True)
class Taint:
    """What PHI a value may tell about; false if none.

    Attributes:
        sources: PHI columns, ``schema.table.column``.
        opaque: calls and relations that the gate cannot look into, as ``f()``.
        copy: the value is an unchanged copy of its one source (or NULL).
        kind: the PHI kind of that source; None unless it is a copy.
        via: the outermost construct, for people; two taints that differ in it only are equal.
    """

    sources: frozenset[str] = frozenset()
    opaque: frozenset[str] = frozenset()
    copy: bool = False
    kind: str | None = None
    via: str = field(default="", compare=False)

    def __bool__(self) -> bool:
        return bool(self.sources or self.opaque)


CLEAN = Taint()


def mixed(taints: Iterable[Taint], via: str = "") -> Taint:
    """The taint of a value computed from others: never a copy."""
    parts = [taint for taint in taints if taint]
    if not parts:
        return CLEAN
    if len(parts) == 1:
        return replace(parts[0], copy=False, kind=None, via=via or parts[0].via)
    return Taint(
        frozenset().union(*(p.sources for p in parts)),
        frozenset().union(*(p.opaque for p in parts)),
        via=via or parts[0].via,
    )


def either(one: Taint, other: Taint) -> Taint:
    """The taint of a value that is one of two: a copy only if both are the same copy."""
    return one if one == other else mixed((one, other), "union")


def opaque(what: str) -> Taint:
    """The taint of something that the gate cannot look into."""
    return Taint(opaque=frozenset((what,)), via=what)


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a relation in scope.

    Attributes:
        name: as the server would call it; None where that is not sure, then it
            may be meant by any name.
        taint: of its cells.
        origin: (``schema.table``, column) of the relation that the statement names.
        inner: influences inside a view that computing this column brings.
    """

    name: str | None
    taint: Taint = CLEAN
    origin: tuple[str, str] | None = None
    inner: frozenset[Influence] = frozenset()


@dataclass(frozen=True, slots=True)
class Shape:
    """The columns of a relation in scope.

    Attributes:
        fields: by position.
        rest: taint of further columns that the gate does not know; None if there are none.
        control: PHI that decides which rows there are, and in which order.
        system: one of PostgreSQL's own relations: its columns are not listed here.
        scalar: a function's rows, which may be single values of any type; all other
            relations have rows of a composite type.
    """

    fields: tuple[Field, ...]
    rest: Taint | None = None
    control: Taint = CLEAN
    system: bool = False
    scalar: bool = False

    @property
    def taint(self) -> Taint:
        """Of a whole row."""
        return mixed((*(f.taint for f in self.fields), self.rest or CLEAN), "row")

    def named(self, name: str) -> list[Field]:
        """The columns that a name may mean: those so called, else the unsure ones."""
        return [f for f in self.fields if f.name == name] or self.unsure()

    def unsure(self) -> list[Field]:
        """The columns that any name may mean."""
        unsure = [f for f in self.fields if f.name is None]
        return unsure if self.rest is None else [*unsure, Field(None, self.rest)]

    def renamed(self, names: list[str]) -> Shape:
        """With a column alias list over the first columns.

        Raises:
            Untraceable: more names than columns.
        """
        if len(names) > len(self.fields) and self.rest is None:
            raise Untraceable("a column alias list is longer than its relation")
        fields = [replace(f, name=n) for f, n in zip(self.fields, names, strict=False)]
        extra = [Field(name, self.rest or CLEAN) for name in names[len(self.fields) :]]
        return replace(self, fields=(*fields, *extra, *self.fields[len(names) :]))

    def tainted(self, taint: Taint) -> Shape:
        """With another taint on each column, as on the nullable side of an outer join."""
        if not taint:
            return self
        fields = tuple(replace(f, taint=mixed((f.taint, taint))) for f in self.fields)
        rest = None if self.rest is None else mixed((self.rest, taint))
        return replace(self, fields=fields, rest=rest, control=mixed((self.control, taint)))


@dataclass(frozen=True, slots=True)
class Entry:
    """A relation in scope under the name that qualifies its columns; "" if it has none."""

    alias: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class Item:
    """One item of FROM.

    Attributes:
        entries: what a qualified name may name.
        columns: what an unqualified name may name, and ``*`` gives.
    """

    entries: tuple[Entry, ...]
    columns: Shape

    def tainted(self, taint: Taint) -> Item:
        """With another taint on every column."""
        if not taint:
            return self
        entries = tuple(Entry(e.alias, e.shape.tainted(taint)) for e in self.entries)
        return Item(entries, self.columns.tainted(taint))


def item(alias: str, shape: Shape) -> Item:
    """A FROM item of one relation."""
    return Item((Entry(alias, shape),), shape)


@dataclass(slots=True)
class Cte:
    """A WITH query, traced when it is first needed."""

    name: str
    node: Mapping[str, object]
    level: Level
    recursive: bool
    shape: Shape | None = None
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Level:
    """One level of names; lookups go on in the parent.

    Attributes:
        items: FROM items whose columns are visible here.
        ctes: WITH queries by name.
        windows: taints of the WINDOW clause, by name.
    """

    parent: Level | None = None
    items: tuple[Item, ...] = ()
    ctes: Mapping[str, Cte] = field(default_factory=dict)
    windows: Mapping[str, Taint] = field(default_factory=dict)

    def up(self) -> Iterator[Level]:
        """The level itself and those around it, innermost first."""
        level: Level | None = self
        while level is not None:
            yield level
            level = level.parent

    def cte(self, name: str) -> Cte | None:
        """The WITH query that the name means here, or None."""
        return next((level.ctes[name] for level in self.up() if name in level.ctes), None)

    def columns(self, name: str) -> list[Field]:
        """The columns that an unqualified name may mean; empty if none."""
        found: list[Field] = []
        for level in self.up():
            shapes = [i.columns for i in level.items]
            exact = [f for s in shapes for f in s.fields if f.name == name]
            if exact:
                # An unsure column of the same level would make the name ambiguous: an error.
                return [*found, *exact]
            found += [f for s in shapes for f in s.unsure()]
        return found

    def relations(self, alias: str) -> list[Shape]:
        """The relations that a name may mean, of the innermost level that knows it."""
        for level in self.up():
            found = [e.shape for i in level.items for e in i.entries if e.alias == alias]
            if found:
                return found
        return []

    def all_relations(self, alias: str) -> list[Shape]:
        """The relations of that name on all levels, for names with a schema."""
        return [e.shape for v in self.up() for i in v.items for e in i.entries if e.alias == alias]
