"""Rows of one result: which columns are hidden, and DataRow frames with tags in them.

Two sources say that a column is hidden, and the union holds: the plan that was decided
(``gateway.core.plan``), and the origin that the server itself names in RowDescription.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise

from gateway.core.mask import tag
from gateway.core.plan import ColumnPlan, ResultPlan
from gateway.errors import GuardBroken
from gateway.guards.pgwire.codec import Run, frame
from gateway.guards.pgwire.text import clean, may_hold_controls
from gateway.sql.catalog import Catalog, Relation

FIRST_NORMAL_OID = 16384
"""Objects below are the system's own (src/include/access/transam.h)."""

_TEXT_OID = 25
_FIELD = struct.Struct("!IhIhih")
_INT32 = struct.Struct("!i")
_ROW_HEADER = struct.Struct("!BI")
_MAX_COLUMNS = 1664


@dataclass(frozen=True, slots=True)
class MaskedColumn:
    """How many cells of one column were hidden; never what they held.

    Attributes:
        index: position in the result, 0 for the first.
        name: as the plan has it; empty where no plan knows the column.
        kind: the PHI kind, or None for the constant tag.
        cells: how many cells.
    """

    index: int
    name: str
    kind: str | None
    cells: int


@dataclass(frozen=True, slots=True)
class _Field:
    name: bytes
    table_oid: int
    attnum: int
    type_oid: int
    type_len: int
    type_mod: int


class Origins:
    """Which of the columns that RowDescription names as origins are hidden.

    Args:
        catalog: what the decision knew; None knows no relation, so that every column
            of a relation that is not the system's is hidden.
    """

    def __init__(self, catalog: Catalog | None) -> None:
        relations = () if catalog is None else catalog.relations
        self._hidden = {r.oid: _hidden_numbers(r) for r in relations}
        self._known = {r.oid: frozenset(c.number for c in r.columns) for r in relations}

    def hides(self, table_oid: int, attnum: int) -> bool:
        """Whether a column with this origin is hidden, whatever the plan says.

        Args:
            table_oid: 0 where the column is no plain reference.
            attnum: 0 for a whole row, negative for a system column such as ``ctid``.
        """
        if table_oid < FIRST_NORMAL_OID:
            return False
        if table_oid not in self._hidden:
            return True
        if attnum == 0:
            return bool(self._hidden[table_oid])
        if attnum > 0 and attnum not in self._known[table_oid]:
            return True
        return attnum in self._hidden[table_oid]


def _hidden_numbers(relation: Relation) -> frozenset[int]:
    # The plan looked through views: only a view's column that somebody classified counts.
    if relation.kind in ("view", "matview"):
        return frozenset(c.number for c in relation.columns if c.phi == "yes")
    return frozenset(c.number for c in relation.columns if c.masked)


class RowMask:
    """The mask of one result, made from its RowDescription.

    Args:
        description: the body of RowDescription.
        plan: of the statement that answers.
        origins: hides columns that the plan shows.

    Raises:
        GuardBroken: malformed, or a column in binary format.
    """

    def __init__(self, description: bytes, plan: ResultPlan, origins: Origins) -> None:
        self._fields = _parse_description(description)
        width = len(self._fields)
        planned = plan.columns if plan.returns == "rows" else None
        if planned is None or len(planned) != width:
            planned = (ColumnPlan("", masked=True),) * width
        self._columns = tuple(
            _with_origin(column, field, origins)
            for column, field in zip(planned, self._fields, strict=True)
        )
        self._count = struct.pack("!h", width)
        hidden = [i for i, column in enumerate(self._columns) if column.masked]
        self._hidden = hidden
        self._nulls = dict.fromkeys(hidden, 0)
        self._steps = tuple(
            _step(column) for column in self._columns[: max(hidden, default=-1) + 1]
        )
        self.rows = 0

    @property
    def masked(self) -> tuple[MaskedColumn, ...]:
        """What was hidden so far."""
        return tuple(
            MaskedColumn(
                i, self._columns[i].name, self._columns[i].kind, self.rows - self._nulls[i]
            )
            for i in self._hidden
        )

    def description(self) -> bytes:
        """RowDescription for the child: hidden columns are text, names are clean."""
        out = [self._count]
        for field, column in zip(self._fields, self._columns, strict=True):
            shape = (field.type_oid, field.type_len, field.type_mod)
            if column.masked:
                shape = (_TEXT_OID, -1, -1)
            # The origin stays with the gateway: the child has no use for oids.
            out += [clean(field.name), b"\0", _FIELD.pack(0, 0, *shape, 0)]
        return frame("T", b"".join(out))

    def rewrite(self, run: Run) -> bytes:
        """The rows for the child.

        Raises:
            GuardBroken: a row that does not fit its description.
        """
        self.rows += len(run.starts)
        block = self._hide(run) if self._hidden else run.block
        if may_hold_controls(block):
            return self._clean_rows(block)
        return block

    def _hide(self, run: Run) -> bytes:
        """Replace hidden cells; the cells after the last hidden one are copied whole."""
        block, steps, count = run.block, self._steps, self._count
        unpack, header = _INT32.unpack_from, _ROW_HEADER.pack
        out: list[bytes] = []
        for start, stop in pairwise((*run.starts, len(block))):
            at = kept = start + 7
            if block[start + 5 : at] != count:
                raise _malformed()
            pieces: list[bytes] = []
            size = stop - start - 1
            for index, (cell, shows_null) in enumerate(steps):
                if at + 4 > stop:
                    raise _malformed()
                (length,) = unpack(block, at)
                if cell is None:
                    at += length + 4 if length > 0 else 4
                elif length < 0 and shows_null:
                    self._nulls[index] += 1
                    at += 4
                else:
                    pieces += (block[kept:at], cell)
                    used = length + 4 if length > 0 else 4
                    size += len(cell) - used
                    at += used
                    kept = at
            if at > stop:
                raise _malformed()
            out += (header(68, size), count, *pieces, block[kept:stop])
        return b"".join(out)

    def _clean_rows(self, block: bytes) -> bytes:
        out: list[bytes] = []
        at, end = 0, len(block)
        while at < end:
            (size,) = _INT32.unpack_from(block, at + 1)
            cells = split_cells(block[at + 5 : at + 1 + size])
            parts = [self._count]
            for cell in cells:
                if cell is None:
                    parts.append(b"\xff\xff\xff\xff")
                else:
                    shown = clean(cell)
                    parts += (_INT32.pack(len(shown)), shown)
            out.append(frame("D", b"".join(parts)))
            at += 1 + size
        return b"".join(out)


def split_cells(body: bytes) -> list[bytes | None]:
    """The cells of a DataRow's body; None for NULL.

    Raises:
        GuardBroken: the lengths do not add up.
    """
    if len(body) < 2:
        raise _malformed()
    (count,) = struct.unpack_from("!h", body)
    cells: list[bytes | None] = []
    at, end = 2, len(body)
    for _ in range(count):
        if at + 4 > end:
            raise _malformed()
        (length,) = _INT32.unpack_from(body, at)
        at += 4
        if length == -1:
            cells.append(None)
            continue
        if length < 0 or at + length > end:
            raise _malformed()
        cells.append(body[at : at + length])
        at += length
    if at != end:
        raise _malformed()
    return cells


def _step(column: ColumnPlan) -> tuple[bytes | None, bool]:
    """The cell that replaces one of this column (None: it passes), and whether NULL shows."""
    if not column.masked:
        return None, True
    shown = tag(column.kind)
    return _INT32.pack(len(shown)) + shown, column.kind is not None


def _with_origin(column: ColumnPlan, field: _Field, origins: Origins) -> ColumnPlan:
    """The plan's column, hidden as well if the server's origin says so."""
    if column.masked or not origins.hides(field.table_oid, field.attnum):
        return column
    return ColumnPlan(column.name, masked=True, why="origin")


def _parse_description(body: bytes) -> tuple[_Field, ...]:
    if len(body) < 2:
        raise _malformed()
    (count,) = struct.unpack_from("!h", body)
    if not 0 <= count <= _MAX_COLUMNS:
        raise _malformed()
    fields: list[_Field] = []
    at = 2
    for _ in range(count):
        end = body.find(b"\0", at)
        if end < 0 or end + 1 + _FIELD.size > len(body):
            raise _malformed()
        table, attnum, oid, length, mod, code = _FIELD.unpack_from(body, end + 1)
        if code != 0:
            raise GuardBroken("the server sent a column in binary", rule="pgwire.binary")
        fields.append(_Field(body[at:end], table, attnum, oid, length, mod))
        at = end + 1 + _FIELD.size
    if at != len(body):
        raise _malformed()
    return tuple(fields)


def _malformed() -> GuardBroken:
    return GuardBroken("a row of the server does not fit its description", rule="pgwire.rows")
