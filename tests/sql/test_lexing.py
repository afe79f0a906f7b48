from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.sql.grammar import parse
from gateway.sql.lexing import SqlUnreadable, split, tokens
from gateway.sql.limits import SqlLimits

LIMITS = SqlLimits()

_FUNCTION = (
    "create or replace function f() returns int begin atomic select 1; "
    "select case when true then 1 end; end;"
)


def pieces(script: str | bytes) -> list[str]:
    text = script.encode() if isinstance(script, str) else script
    return [text[p.start : p.end].decode() for p in split(text, LIMITS)]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("select 1; select 2;", ["select 1;", "select 2;"]),
        ("select 1; select 2", ["select 1;", "select 2"]),
        (";; -- x\n select 1 ;;", ["select 1 ;"]),
        ("", []),
        (" \n-- only this", []),
        ("select ';', ';;';", ["select ';', ';;';"]),
        ("select 'it''s; fine';x", ["select 'it''s; fine';", "x"]),
        ('select "a;""b;";x', ['select "a;""b;";', "x"]),
        (r"select E'a\';';x", [r"select E'a\';';", "x"]),
        (r"select e'\\';x", [r"select e'\\';", "x"]),
        (r"select 'a\';x", [r"select 'a\';", "x"]),
        (
            r"select B'1;', X'1;', U&'\0041;', n';';x",
            [r"select B'1;', X'1;', U&'\0041;', n';';", "x"],
        ),
        ("select $$;$$, $a$ $$ ; $b$ $a$;x", ["select $$;$$, $a$ $$ ; $b$ $a$;", "x"]),
        ("select a$b$;c$b$;", ["select a$b$;", "c$b$;"]),
        ("select 1$a$;$a$;x", ["select 1$a$;$a$;", "x"]),
        ("select $1;x", ["select $1;", "x"]),
        ("select /* ; /* ; */ ; */ 1;x", ["select /* ; /* ; */ ; */ 1;", "x"]),
        ("select 1 -- ;\n+1;x", ["select 1 -- ;\n+1;", "x"]),
        ("select 1*/* ; */2;x", ["select 1*/* ; */2;", "x"]),
        ("select (1;2);x", ["select (1;2);", "x"]),
        ("select 1);x", ["select 1);", "x"]),
        (
            f"{_FUNCTION} x",
            [_FUNCTION, "x"],
        ),
        ("begin; end; x", ["begin;", "end;", "x"]),
        # Two literals with a line break between are one, with the first one's escapes.
        (
            "SELECT E'a'\n'b\\'; DROP TABLE t; --';x",
            ["SELECT E'a'\n'b\\'; DROP TABLE t; --';", "x"],
        ),
        ("SELECT E'a' -- c\n 'b\\'; DROP';x", ["SELECT E'a' -- c\n 'b\\'; DROP';", "x"]),
        ("SELECT 'a'\n'b\\';x", ["SELECT 'a'\n'b\\';", "x"]),
        ("SELECT E'a' 'b\\';x", ["SELECT E'a' 'b\\';", "x"]),
        ('SELECT "a""; DROP TABLE t; --" FROM p;', ['SELECT "a""; DROP TABLE t; --" FROM p;']),
    ],
)
def test_statements_end_where_psql_ends_them(script: str, expected: list[str]) -> None:
    assert pieces(script) == expected


@pytest.mark.parametrize(
    ("script", "rule", "place", "part"),
    [
        ("select 1;\n\\d patients", "sql.meta-command", (2, 1), "\\d "),
        ("select 1 \\; drop table t;", "sql.meta-command", (1, 10), "\\;"),
        ("select 1 \\gexec", "sql.meta-command", (1, 10), "backslash"),
        ("select 1 \\g out", "sql.meta-command", (1, 10), "\\g "),
        ("\\planted_secret", "sql.meta-command", (1, 1), "backslash"),
        ("select 1;\nselect 'open", "sql.parse", (2, 8), "inside quotes"),
        ('select "open', "sql.parse", (1, 8), "inside quotes"),
        ("select $x$ $y$", "sql.parse", (1, 8), "inside quotes"),
        ("select E'open\\'", "sql.parse", (1, 8), "inside quotes"),
        ("select 1; /* /* */", "sql.parse", (1, 11), "inside a comment"),
    ],
)
def test_refusals(script: str, rule: str, place: tuple[int, int], part: str) -> None:
    with pytest.raises(SqlUnreadable) as caught:
        pieces(script)
    error = caught.value
    assert (error.rule, (error.line, error.column)) == (rule, place)
    assert part in error.reason
    assert error.advice
    assert "planted" not in str(error)


def test_a_backslash_in_quotes_is_data() -> None:
    assert pieces(r"select '\d', $$\!$$, E'\\' /* \q */ -- \x") == [
        r"select '\d', $$\!$$, E'\\' /* \q */ -- \x"
    ]


def test_limits() -> None:
    with pytest.raises(SqlUnreadable, match="longer than 10 bytes"):
        list(split(b"select 1234", SqlLimits(script_bytes=10)))
    assert len(list(split(b"a;" * 3, SqlLimits(statements=3)))) == 3
    with pytest.raises(SqlUnreadable, match="more than 2 statements"):
        list(split(b"a;" * 3, SqlLimits(statements=2)))


_ATOMS = r"""
    select 'a' " $$ $a$ ( ) ; -- /* */ E' e'\' \ ' '' U&' x1 1.5 = a$b é
"""
_PARTS = st.lists(st.sampled_from([*_ATOMS.split(), " ", "\n", "\t", ";", "'"]), max_size=30).map(
    "".join
)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.binary(max_size=120), _PARTS.map(str.encode)))
def test_tokens_cover_the_text_without_gaps(text: bytes) -> None:
    position = 0
    for token in tokens(text):
        assert token.start == position < token.end
        position = token.end
    assert position == len(text)


@settings(max_examples=400, deadline=None)
@given(_PARTS)
def test_what_libpg_query_accepts_is_cut_as_it_cuts_it(script: str) -> None:
    text = script.encode()
    try:
        whole = parse(text)
        cut = list(split(text, LIMITS))
    except SqlUnreadable:
        return
    assert len(cut) == len(whole)
    for piece, statement in zip(cut, whole, strict=True):
        ours = text[piece.start : piece.end]
        theirs = text[statement.start : statement.end]
        assert _meaning(ours.removesuffix(b";")) == _meaning(theirs)
        assert len(parse(ours)) == 1


def _meaning(text: bytes) -> list[bytes]:
    found = (t for t in tokens(text) if t.kind not in ("space", "comment"))
    return [text[t.start : t.end] for t in found]


@pytest.mark.parametrize(
    "text",
    [
        b"'" * 255_001,
        b"/*" * 120_000,
        b"'' -- '\n" * 30_000,
        b"'' " + b"-- " * 80_000 + b"x",
        b"".join(b"$a%d$ " % n for n in range(25_000)),
        b'""' * 120_000,
        b"(" * 250_000,
    ],
)
def test_hostile_scripts_are_cut_in_linear_time(text: bytes) -> None:
    begun = time.perf_counter()
    assert sum(1 for _ in tokens(text)) > 0
    assert time.perf_counter() - begun < 5
