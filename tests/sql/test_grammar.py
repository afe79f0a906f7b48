from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.sql.grammar import parse
from gateway.sql.lexing import SqlUnreadable
from gateway.sql.limits import SqlLimits


def test_statements_are_slices_of_the_text_in_bytes() -> None:
    text = "select 'é'; ; /* x */ select 2 ;".encode()
    found = [(s.kind, text[s.start : s.end]) for s in parse(text)]
    assert found == [("SelectStmt", "select 'é'".encode()), ("SelectStmt", b"select 2 ")]


@pytest.mark.parametrize("text", [b"", b"  \n", b"-- nothing", b";;", b"/* x */"])
def test_a_text_without_statements_is_empty(text: bytes) -> None:
    assert parse(text) == []


@pytest.mark.parametrize(
    ("text", "rule", "line", "column", "part"),
    [
        (b"select * frm patients where ssn = '123-45-6789'", "sql.parse", 1, 10, "a word"),
        ("select 'é', x y z".encode(), "sql.parse", 1, 17, "a word"),
        (b"select 1\nfrom x where\n  and", "sql.parse", 3, 3, '"and"'),
        (b"select 'open", "sql.parse", 1, 8, "a string"),
        (b"select 12 13", "sql.parse", 1, 11, "a number"),
        (b"select 1 where", "sql.parse", 1, 15, "the end"),
        (b"SELECT 1 {# ; DROP TABLE t; #};", "sql.parse", 1, 10, '"{"'),
        (b"select 1 \\; drop table t", "sql.meta-command", 1, 10, "\\;"),
        (b"\\d patients", "sql.meta-command", 1, 1, "\\d"),
        (b"select :name", "sql.variable", 1, 8, ":variables"),
        (b"select :'name'", "sql.variable", 1, 8, ":variables"),
        (b'select * from :"name"', "sql.variable", 1, 15, ":variables"),
        (b"select 1\0; drop table t", "sql.encoding", 0, 0, "NUL"),
        (b"select '\xff'", "sql.encoding", 0, 0, "UTF-8"),
        ("select\u00a01".encode(), "sql.parse", 1, 1, "a word"),
    ],
)
def test_refusals_name_the_place(text: bytes, rule: str, line: int, column: int, part: str) -> None:
    with pytest.raises(SqlUnreadable) as caught:
        parse(text)
    error = caught.value
    assert (error.rule, error.line, error.column) == (rule, line, column)
    assert part in error.reason


@pytest.mark.parametrize(
    "text",
    [
        b"select 'planted-secret' 'planted-secret'",
        b'select "planted-secret" "x" "planted-secret" from',
        b"select planted_secret planted_secret planted_secret",
        b"select 'planted-secret",
        b"select E'planted-secret\\u00'",
        b"select U&'planted-secret\\zz'",
        b"select x'1' planted_secret planted_secret",
        b"grant planted_secret on planted_secret planted_secret",
    ],
)
def test_messages_quote_nothing_of_the_text(text: bytes) -> None:
    with pytest.raises(SqlUnreadable) as caught:
        parse(text)
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        b"select " + b"(" * 101 + b"1" + b")" * 101,
        b"select " + b"array[" * 101 + b"1" + b"]" * 101,
        b"/*" * 21 + b"*/" * 21 + b"select 1",
        b"/*" * 8000,
        b"select 1" + b"+1" * 4000,
        b"select " + b"- " * 4000 + b"a",
    ],
)
def test_deep_nesting_is_refused(text: bytes) -> None:
    with pytest.raises(SqlUnreadable, match="nested too deeply"):
        parse(text)


def test_limits_hold_at_their_edges() -> None:
    limits = SqlLimits(statement_bytes=8, statements=2, brackets=1)
    assert len(parse(b"select 1", limits)) == 1
    with pytest.raises(SqlUnreadable, match="longer than 8 bytes"):
        parse(b"select 12", limits)
    with pytest.raises(SqlUnreadable, match="more than 2 statements"):
        parse(b"select;" * 3, SqlLimits(statements=2))
    with pytest.raises(SqlUnreadable, match="nested too deeply"):
        parse(b"((1))", limits)


def test_the_limits_keep_the_parser_from_ending_the_process() -> None:
    """The worst text that passes the checks, in a process of its own."""
    script = (
        "from gateway.sql.grammar import parse\n"
        "from gateway.sql.lexing import SqlUnreadable\n"
        "for text in (b'not ' * 4000, b'1+' * 8000, b'- ' * 8000, b'case when ' * 1500,\n"
        "             b'a.' * 8000, b'x::' * 5000, b'select * from a join ' * 700):\n"
        "    try:\n"
        "        parse((b'select ' + text)[:16000])\n"
        "    except SqlUnreadable:\n"
        "        pass\n"
        "print('alive')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=False, timeout=60
    )
    assert done.stdout == b"alive\n", done.stderr.decode()


_PIECES = st.sampled_from(
    [
        *(b"select", b"from", b"patients", b"a", b"1", b" ", b"\n", b",", b";", b"(", b")"),
        *(b"'", b'"', b"$$", b"E'", b"--", b"/*", b"*/", b"[", b"]", b"\\", b":"),
        *(b"\xc3\xa9", b"\xff", b"\0"),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.lists(_PIECES, max_size=40).map(b"".join)))
def test_garbage_raises_only_its_own_error(text: bytes) -> None:
    try:
        statements = parse(text)
    except SqlUnreadable:
        return
    for statement in statements:
        assert 0 <= statement.start < statement.end <= len(text)
