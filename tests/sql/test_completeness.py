"""When a prompt sends what was typed, and when it asks for another line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sql.completeness import is_complete

COMPLETE = (
    "",
    "  \n ",
    "select 1;",
    "select 1 ;  -- done",
    "select ';';",
    "select 1; /* ; */",
    "select $$ ; $$;",
    "select (1);",
    "select 1)};",
    "\\d patients",
    "  \\q",
    "select 1; select 2;",
)
OPEN = (
    "select 1",
    "select ';'",
    "select 'it",
    "select 'it;",
    'select "a;',
    "select $$;",
    "select $x$ $$;",
    "select (1;",
    "/* select 1;",
    "/* /* */ ;",
    "-- only a comment;",
    "select 1; select 2",
    "select E'a\\';",
)


@pytest.mark.parametrize("text", COMPLETE)
def test_complete(text: str) -> None:
    assert is_complete(text.encode())


@pytest.mark.parametrize("text", OPEN)
def test_asks_for_another_line(text: str) -> None:
    assert not is_complete(text.encode())


@given(st.binary(max_size=200))
def test_never_raises(text: bytes) -> None:
    is_complete(text)
