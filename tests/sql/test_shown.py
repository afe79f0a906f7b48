from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sql.shown import shown, shown_name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"select 'x', 12, 1234 from t", "select '[PHI]', 12, [PHI] from t"),
        (b"select E'a\\'b', $$c$$, $q$d$q$, B'1', X'1F'", "select " + ", ".join(["'[PHI]'"] * 5)),
        (b"select 'it''s' -- Smith\n+ 1", "select '[PHI]' -- [PHI]\n+ 1"),
        (b"select /* Smith /* x */ */ 1", "select /* [PHI] */ 1"),
        (b'select "ssn" from "Tom Smith"', 'select "ssn" from "[PHI]"'),
        (b"where ssn = 123-45-6789", "where ssn = [PHI]"),
        (b"where d = 1980.01.02 or x=1e9+a12345", "where d = [PHI] or x=1e9+[PHI]"),
        (b"select 'open Smith", "select '[PHI]'"),
        (b'select "open Smith', 'select "[PHI]"'),
        (b"select /* open Smith", "select /* [PHI] */"),
        (b"select $x$ Smith", "select '[PHI]'"),
        ("select 'é' é".encode(), "select '[PHI]' é"),
        (b"a \xff", "a \ufffd"),
    ],
)
def test_values_are_replaced(text: bytes, expected: str) -> None:
    assert shown(text, touches_phi=True) == expected


def test_a_line_without_phi_is_shown_as_it_is() -> None:
    assert shown(b"select 'x', 12345 -- y", touches_phi=False) == "select 'x', 12345 -- y"


@given(st.binary(max_size=300))
def test_it_never_raises(text: bytes) -> None:
    assert isinstance(shown(text, touches_phi=True), str)


@given(
    st.sampled_from(
        ["'{}'", "E'{}'", "$${}$$", "$q${}$q$", "U&'{}'", "/* {} */", "-- {}\n", "'{}"]
    ),
    st.text(alphabet="ab ", max_size=8),
)
def test_a_quoted_value_never_shows(quotes: str, before: str) -> None:
    text = f"select {before} ;" + quotes.format("planted") + " from t"
    assert "planted" not in shown(text.encode(), touches_phi=True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("patients", "patients"),
        ("public.patients", "public.patients"),
        ("Tom Smith", "[name]"),
        ("123-45-6789", "[name]"),
        ("a1234", "[name]"),
        ("a.b.c.d", "[name]"),
        ("", "[name]"),
    ],
)
def test_names_in_messages(name: str, expected: str) -> None:
    assert shown_name(name) == expected
