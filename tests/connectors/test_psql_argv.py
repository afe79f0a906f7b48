from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.connectors.psql.argv import PsqlFlags, parse_exec
from gateway.errors import BadCommand
from tests.servers import Server


@pytest.mark.parametrize(
    "command",
    ["select 1", "  select 1; drop table t", "psqlx -c 'select 1'", "select 'psql'", "\\d t", "é"],
)
def test_what_does_not_begin_with_psql_is_one_text(command: str) -> None:
    parsed = parse_exec(command)
    assert parsed.texts == (command.encode(),)
    assert not parsed.script_from_stdin
    assert parsed.flags == PsqlFlags()


@pytest.mark.parametrize("command", ["", " ", "\n\t"])
def test_an_empty_command_is_refused(command: str) -> None:
    with pytest.raises(BadCommand, match="empty"):
        parse_exec(command)


@pytest.mark.parametrize(
    ("command", "texts", "flags"),
    [
        ("psql -c 'select 1'", (b"select 1",), PsqlFlags()),
        ("psql --command='select 1; select 2'", (b"select 1; select 2",), PsqlFlags()),
        ("psql --command 'select 1'", (b"select 1",), PsqlFlags()),
        ("psql -c \"select 'a'\"", (b"select 'a'",), PsqlFlags()),
        ("psql -c 'a' -c 'b'", (b"a", b"b"), PsqlFlags()),
        ("psql -c 'select $$a;b$$\n  | `x`'", (b"select $$a;b$$\n  | `x`",), PsqlFlags()),
        ("psql --csv -c x", (b"x",), PsqlFlags(format="csv")),
        ("psql -Atc x", (b"x",), PsqlFlags(format="unaligned", tuples_only=True)),
        ("psql -Atcx", (b"x",), PsqlFlags(format="unaligned", tuples_only=True)),
        ("psql -XqnwAc x", (b"x",), PsqlFlags(format="unaligned", quiet=True)),
        ("psql -A -F, -c x", (b"x",), PsqlFlags(format="unaligned", field_separator=",")),
        ("psql -AF ';' -c x", None, None),
        ("psql -A -R '|' -c x", (b"x",), PsqlFlags(format="unaligned", record_separator="|")),
        (
            "psql -Az0c x",
            (b"x",),
            PsqlFlags(format="unaligned", field_separator_zero=True, record_separator_zero=True),
        ),
        ("psql -x -c x", (b"x",), PsqlFlags(expanded="on")),
        ("psql --expanded --tuples-only --no-align -c x", None, None),
        ("psql -P format=csv -c x", (b"x",), PsqlFlags(format="csv")),
        ("psql -P expanded=auto -Pborder=2 -c x", (b"x",), PsqlFlags(expanded="auto", border=2)),
        (
            "psql --pset=null=nil --pset footer=off -c x",
            (b"x",),
            PsqlFlags(null="nil", footer=False),
        ),
        ("psql -P t=on -P x=off -c x", (b"x",), PsqlFlags(tuples_only=True)),
        ("psql -A --csv -c x", (b"x",), PsqlFlags(format="csv")),
        ("psql -v ON_ERROR_STOP=1 -c x", (b"x",), PsqlFlags(on_error_stop=True)),
        ("psql --set=ON_ERROR_STOP=on -c x", (b"x",), PsqlFlags(on_error_stop=True)),
        ("psql --variable ON_ERROR_STOP=1 -c x", (b"x",), PsqlFlags(on_error_stop=True)),
    ],
)
def test_flags_that_are_taken(
    command: str, texts: tuple[bytes, ...] | None, flags: PsqlFlags | None
) -> None:
    parsed = parse_exec(command)
    if texts is None:
        assert parsed.texts == (b"x",)
        return
    assert (parsed.texts, parsed.flags) == (texts, flags)
    assert not parsed.script_from_stdin


@pytest.mark.parametrize("command", ["psql", "psql -f -", "psql --file=-", "psql -qf-"])
def test_a_script_comes_from_stdin(command: str) -> None:
    parsed = parse_exec(command)
    assert parsed.script_from_stdin
    assert parsed.texts == ()


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("psql -h evil -c x", "-h is not taken: the gateway chooses"),
        ("psql --host=evil -c x", "--host is not taken"),
        ("psql -hevil -c x", "-h is not taken"),
        ("psql -p 5432", "-p is not taken"),
        ("psql -U root", "-U is not taken"),
        ("psql -d 'host=evil'", "-d is not taken"),
        ("psql -W", "-W is not taken"),
        ("psql -Ato /tmp/x -c x", "-o is not taken: psql runs on the gateway"),
        ("psql -L /tmp/x -c x", "-L is not taken"),
        ("psql --log-file=/tmp/x", "--log-file is not taken"),
        ("psql -f /etc/passwd", "may not touch its files"),
        ("psql --file=x.sql", "may not touch its files"),
        ("psql -l", "-l is not taken"),
        ("psql -1 -c x", "-1 is not taken: write BEGIN"),
        ("psql -E -c x", "cannot echo"),
        ("psql -H -c x", "HTML"),
        ("psql -s", "-s is not taken"),
        ("psql -V", "-V is not taken"),
        ("psql -?", "-? is not taken"),
        ("psql --planted -c x", "not one of psql's"),
        ("psql -k -c x", "not one of psql's"),
        ("psql --comm x", "not one of psql's"),
        ("psql --csv=yes -c x", "takes no value"),
        ("psql -v planted=1 -c x", "variables are not filled in"),
        ("psql -v ON_ERROR_STOP=0 -c x", "variables are not filled in"),
        ("psql -v ON_ERROR_STOP -c x", "variables are not filled in"),
        ("psql -P pager=on -c x", "-P setting is not taken"),
        ("psql -P format=html -c x", "-P setting is not taken"),
        ("psql -P border=9 -c x", "-P setting is not taken"),
        ("psql -P fieldsep=x -c x", "-P setting is not taken"),
        ("psql -P footer -c x", "-P setting is not taken"),
        ("psql -P 'null=\x1b[31m' -c x", "control character"),
        ("psql -F 'é‮' -c x", "not printable"),
        ("psql -F 12345678901234567 -c x", "too long"),
        ("psql -c", "-c needs a value"),
        ("psql --command", "--command needs a value"),
        ("psql -c ''", "-c has no statement"),
        ("psql -c '\\d t'", "backslash commands"),
        ("psql -c x -f -", "-c and -f together"),
        ("psql claims-db", "a word stands"),
        ("psql claims-db root", "a word stands"),
        ("psql -- -c", "a word stands"),
        ("psql -", "a word stands"),
        ("psql -c select 1", "a word stands"),
        ("psql -c select 1; drop table t", '";" stands outside quotes'),
        ("psql -c x | cat", '"|" stands outside quotes'),
        ("psql -c x && ls", '"&" stands outside quotes'),
        ("psql -c x > /tmp/y", '">" stands outside quotes'),
        ("psql < x.sql", '"<" stands outside quotes'),
        ("psql -c $X", '"$" stands outside quotes'),
        ("psql -c `x`", '"`" stands outside quotes'),
        ("psql -c (x)", '"(" stands outside quotes'),
        ("psql -c x\nls", "a line break stands outside quotes"),
        ("psql -c 'x", "ends inside quotes"),
        ('psql -c "x', "ends inside quotes"),
        ("psql -c 'x\0'", "control character"),
        ("psql -c 'x\r'", "control character"),
        ("psql -c 'x\x9b'", "control character"),
    ],
)
def test_flags_that_are_refused(command: str, part: str) -> None:
    with pytest.raises(BadCommand) as caught:
        parse_exec(command)
    error = caught.value
    assert part in error.reason
    assert error.advice
    assert "planted" not in str(error)


def test_a_stray_word_is_told_how_to_quote() -> None:
    with pytest.raises(BadCommand) as caught:
        parse_exec("psql -c select 1")
    assert "psql -c \"'select 1'\"" in caught.value.advice


@given(st.text(max_size=60), st.text(alphabet="cfAtxFRvP-=\"' \\;1o", max_size=30))
def test_garbage_raises_only_its_own_error(one: str, other: str) -> None:
    for command in (one, "psql " + one, "psql " + other):
        try:
            parsed = parse_exec(command)
        except BadCommand:
            continue
        assert parsed.texts or parsed.script_from_stdin
        assert "\0" not in "".join(parsed.flags.arguments())


_SEPARATORS = st.text(alphabet=" ,;|=%'\"-\té", max_size=4)


@given(
    st.builds(
        PsqlFlags,
        format=st.sampled_from(["aligned", "unaligned", "csv"]),
        tuples_only=st.booleans(),
        expanded=st.sampled_from(["off", "on", "auto"]),
        field_separator=st.none() | _SEPARATORS,
        record_separator=st.none() | _SEPARATORS,
        field_separator_zero=st.booleans(),
        record_separator_zero=st.booleans(),
        border=st.sampled_from([None, 0, 1, 2]),
        null=st.none() | _SEPARATORS,
        footer=st.booleans(),
        on_error_stop=st.booleans(),
        quiet=st.booleans(),
    )
)
def test_arguments_come_in_known_shapes(flags: PsqlFlags) -> None:
    words = iter(flags.arguments())
    for word in words:
        assert word in ("-P", "-z", "-0", "-v", "-q")
        if word in ("-P", "-v"):
            name, equals, _ = next(words).partition("=")
            assert equals
            assert name in {
                *("format", "tuples_only", "expanded", "fieldsep", "recordsep"),
                *("border", "null", "footer", "ON_ERROR_STOP"),
            }


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("-At -F '|'", "1|\n"),
        ("--csv", "a,b\n1,\n"),
        ("-t -P null=nil -A", "1|nil\n"),
        ("-A -P footer=off", "a|b\n1|\n"),
        ("-Ax", "a|1\nb|\n"),
        ("-Atz", "1\0\n"),
        ("-At0", "1|\0"),
        ("-At -R ';'", "1|\n"),
    ],
)
def test_real_psql_takes_them(pg16: Server, flags: str, expected: str) -> None:
    parsed = parse_exec(f"psql {flags} -c 'select 1 as a, null as b'")
    done = subprocess.run(
        [
            *(str(pg16.psql), "-X", "-n", "-P", "pager=off", "-h", str(pg16.socket_dir)),
            *("-p", str(pg16.port), "-U", "postgres", "-d", "postgres"),
            *parsed.flags.arguments(),
            *("-c", parsed.texts[0].decode()),
        ],
        capture_output=True,
        check=True,
        env={"LANG": "C.UTF-8"},
    )
    assert done.stdout.decode() == expected
