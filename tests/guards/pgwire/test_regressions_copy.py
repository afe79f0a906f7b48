"""COPY TO STDOUT: the client's own null must not tell which values are like it."""

from __future__ import annotations

import pytest

from gateway.core.plan import ColumnPlan, CopyOut, ResultPlan
from gateway.guards.pgwire.codec import COPY_DATA, Run
from gateway.guards.pgwire.copyout import CopyMask

RESPONSE = b"\0\0\1\0\0"
NAME = ColumnPlan("first_name", masked=True, kind="name")


def shown(form: CopyOut, *fields: bytes) -> bytes:
    """What the child would get of one column's fields."""
    plan = ResultPlan((NAME,), touches_phi=True, returns="copy", copy=form)
    mask = CopyMask(RESPONSE, plan)
    out = b""
    for line in fields:
        block = b"d" + (len(line) + 5).to_bytes(4, "big") + line + b"\n"
        out += mask.rewrite(Run(COPY_DATA, block, [0]))[5:]
    return out


@pytest.mark.parametrize("null", [b"Zebulonia", b"", b"\\Z"])
def test_a_guessed_null_of_the_text_format_tells_nothing(null: bytes) -> None:
    form = CopyOut("text", b"\t", null, header=False)
    assert shown(form, null, b"Bo") == b"[NAME]\n[NAME]\n"


def test_nulls_that_no_value_can_look_like_are_shown() -> None:
    assert shown(CopyOut("text", b"\t", rb"\N", header=False), rb"\N", b"Bo") == b"\\N\n[NAME]\n"
    quoted = CopyOut("csv", b",", b"Zebulonia", header=False)
    assert shown(quoted, b"Zebulonia", b'"Zebulonia"') == b"Zebulonia\n[NAME]\n"
