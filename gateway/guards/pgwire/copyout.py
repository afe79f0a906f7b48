"""COPY TO STDOUT: lines in PostgreSQL's text or CSV format with tags in them.

Source: PostgreSQL documentation, COPY, "File Formats". The server sends each row as
one CopyData message that ends in a line feed; anything else is refused, because a row
that is cut could hide where a column begins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

from gateway.core.mask import tag
from gateway.core.plan import ColumnPlan, CopyOut, ResultPlan
from gateway.errors import GuardBroken
from gateway.guards.pgwire.codec import Run, frame
from gateway.guards.pgwire.rows import MaskedColumn
from gateway.guards.pgwire.text import clean

_MAX_COLUMNS = 1664


class CopyMask:
    """The mask of one COPY TO STDOUT, made from its CopyOutResponse.

    Args:
        response: the body of CopyOutResponse.
        plan: of the statement; its ``copy`` says how lines are written.

    Raises:
        GuardBroken: binary, malformed, or not planned as a COPY.
    """

    def __init__(self, response: bytes, plan: ResultPlan) -> None:
        if plan.copy is None or plan.returns != "copy":
            raise GuardBroken("the server began a COPY that was not decided", rule="pgwire.copy")
        if len(response) < 3 or response[0] != 0 or any(response[3:]):
            raise GuardBroken("the server sent a COPY in binary", rule="pgwire.binary")
        width = int.from_bytes(response[1:3], "big")
        if width > _MAX_COLUMNS or len(response) != 3 + 2 * width:
            raise GuardBroken("the server's CopyOutResponse is malformed", rule="pgwire.copy")
        columns = plan.columns
        if columns is None or len(columns) != width:
            columns = (ColumnPlan("", masked=True),) * width
        self._columns = columns
        self._format = plan.copy
        self._hides = any(column.masked for column in columns)
        self._tags = tuple(_encode(tag(c.kind), plan.copy) for c in columns)
        self._constant = _encode(tag(None), plan.copy)
        self._cells = [0] * width
        self._header_due = plan.copy.header
        # CSV quotes a value that looks like the null. Text writes both alike, unless the
        # null is \\N, which no value can be: another one is the client's guess at a value.
        self._null_is_sure = plan.copy.format == "csv" or plan.copy.null == rb"\N"
        self.rows = 0

    @property
    def masked(self) -> tuple[MaskedColumn, ...]:
        """What was hidden so far."""
        return tuple(
            MaskedColumn(i, column.name, column.kind, self._cells[i])
            for i, column in enumerate(self._columns)
            if column.masked
        )

    def rewrite(self, run: Run) -> bytes:
        """The lines for the child, one CopyData each.

        Raises:
            GuardBroken: a message that is not one whole line.
        """
        out = []
        for start, stop in pairwise((*run.starts, len(run.block))):
            line = run.block[start + 5 : stop]
            if line[-1:] != b"\n" or (self._format.format == "text" and b"\n" in line[:-1]):
                raise GuardBroken("the server cut a COPY line", rule="pgwire.copy")
            out.append(frame("d", clean(self._line(line[:-1])) + b"\n"))
        return b"".join(out)

    def _line(self, line: bytes) -> bytes:
        if self._header_due:
            self._header_due = False
            return self._joined(line, self._header_field)
        self.rows += 1
        return self._joined(line, self._field) if self._hides else line

    def _joined(self, line: bytes, shown: Callable[[int, bytes], bytes]) -> bytes:
        fields = split_line(line, self._format)
        if fields is None or len(fields) != len(self._columns):
            for index in range(len(self._columns)):
                self._cells[index] += 1
            fields = [self._constant] * len(self._columns)
        else:
            fields = [shown(index, field) for index, field in enumerate(fields)]
        return self._format.delimiter.join(fields)

    def _field(self, index: int, field: bytes) -> bytes:
        column = self._columns[index]
        if not column.masked:
            return field
        if column.kind is not None and self._null_is_sure and field == self._format.null:
            return field
        self._cells[index] += 1
        return self._tags[index]

    def _header_field(self, index: int, field: bytes) -> bytes:
        """A column's name; where cells are hidden only the name that the plan foretold.

        Were the first line not the header that the plan expects, it would be a row.
        """
        column = self._columns[index]
        if not column.masked or field == _encode(column.name.encode(), self._format):
            return field
        return self._tags[index]


def split_line(line: bytes, form: CopyOut) -> Sequence[bytes] | None:
    """The raw fields of one line without its end, or None if it is not well formed."""
    if form.format == "text":
        if b"\\" not in line:
            return line.split(form.delimiter)
        return _split(line, rb"(?:[^\\%b]|\\.)*", form.delimiter)
    if b'"' not in line:
        return None if b"\n" in line else line.split(form.delimiter)
    return _split(line, rb'(?:"(?:[^"]|"")*"|[^"%b\n]*)', form.delimiter)


def _split(line: bytes, field: bytes, delimiter: bytes) -> Sequence[bytes] | None:
    pattern = re.compile(field.replace(b"%b", re.escape(delimiter)), re.DOTALL)
    fields: list[bytes] = []
    at = 0
    while True:
        match = pattern.match(line, at)
        if match is None:
            return None
        fields.append(match[0])
        at = match.end()
        if at == len(line):
            return fields
        if line[at : at + 1] != delimiter:
            return None
        at += 1


def _encode(value: bytes, form: CopyOut) -> bytes:
    """A text as the server would write it in one field."""
    if form.format == "text":
        escaped = value.replace(b"\\", b"\\\\")
        return escaped.replace(form.delimiter, b"\\" + form.delimiter)
    special = (form.delimiter, b'"', b"\n", b"\r")
    if value == form.null or value == b"\\." or any(mark in value for mark in special):
        return b'"' + value.replace(b'"', b'""') + b'"'
    return value
