from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.action import Action, Form
from gateway.core.plan import ColumnPlan, CopyOut, ResultPlan
from gateway.errors import BadCommand, Denied
from gateway.sql.judge import judge
from gateway.sql.lexing import SqlUnreadable
from gateway.sql.limits import SqlLimits
from tests.sql.gate import CATALOG, judged
from tests.sql.statement_corpus import CORPUS

FORMS: tuple[Form, ...] = ("single", "script", "prompt")


def only_result(sql: str) -> ResultPlan:
    ((result,),) = [unit.results for unit in judged(sql).units]
    return result


def only_action(sql: str, verb: str) -> Action:
    (found,) = [a for a in judged(sql).actions if a.verb == verb]
    return found


# What psql 15 or sqlglot was fooled by (each dropped a table when typed into psql).
@pytest.mark.parametrize(
    ("text", "in_exec", "in_script"),
    [
        (b"SELECT 1 {# ; DROP TABLE claims; #};", "sql.parse", "sql.parse"),
        (b"SELECT E'a'\n'b\\'; DROP TABLE claims; --';", "select", "select"),
        (b'SELECT "a""; DROP TABLE t; --" FROM patients;', "select", "select"),
        (b"SELECT (ARRAY[1])[1:LAST_ERROR_MESSAGE];", "select", "select"),
        (b"SELECT :LAST_ERROR_MESSAGE;", "sql.variable", "sql.variable"),
        (
            b"SELECT set_config('standard_conforming_strings', 'off', false);",
            "sql.function",
            "same",
        ),
        (b"SELECT 'a\\'||'; DROP TABLE claims; --';", "select", "select"),
        (b"COPY claims FROM STDIN WHERE nosuch;", "sql.copy-in", "sql.copy-in"),
        (b"COPY claims FROM STDIN;\n1\t2\n\\.\n", "sql.parse", "sql.copy-in"),
        (b"SELECT 1 \\; DROP TABLE claims;", "sql.meta-command", "sql.meta-command"),
        (b"SELECT 'x -- \x15SELECT 'injected';", "sql.parse", "sql.parse"),
        (b"SELECT 1\0; DROP TABLE claims", "sql.encoding", "sql.encoding"),
        ("SELECT\u00a01".encode(), "sql.parse", "sql.parse"),
        ("SELECT\u20031".encode(), "sql.parse", "sql.parse"),
        (b"SELECT 1 \\gexec", "sql.meta-command", "sql.meta-command"),
        (b"\\! id", "sql.meta-command", "sql.meta-command"),
        (b"\\d `id`", "sql.meta-command", "sql.meta-command"),
    ],
)
def test_what_is_typed_is_what_is_judged(text: bytes, in_exec: str, in_script: str) -> None:
    for form in FORMS:
        expected = in_exec if form == "single" or in_script == "same" else in_script
        if not expected.startswith("sql."):
            parsed = judged(text, form)
            assert [a.verb for a in parsed.actions] == [expected]
            assert b"".join(u.text for u in parsed.units) == text
            continue
        with pytest.raises((BadCommand, Denied)) as caught:
            judged(text, form)
        assert caught.value.rule == expected
        assert caught.value.advice


def test_settings_that_change_the_reading_are_not_safe() -> None:
    action = only_action("SET standard_conforming_strings=off", "set")
    assert not action.facts.setting_safe
    assert judged("SET standard_conforming_strings=off").writes


def test_a_temporary_view_is_named_as_one() -> None:
    parsed = judged("CREATE TEMP VIEW codes AS SELECT ssn FROM patients")
    assert [(a.verb, a.name) for a in parsed.actions] == [
        ("create", "claims.pg_temp.codes"),
        ("select", "claims.public.patients"),
    ]
    assert parsed.actions[1].facts.phi_columns == ("ssn",)
    with pytest.raises(Denied, match="not in the catalog"):
        judged("select code from codes")


def test_a_single_command_is_one_unit_with_its_exact_bytes() -> None:
    text = " /* a */ select 1 ;\n;select 'é'  -- b\n"
    parsed = judged(text)
    (unit,) = parsed.units
    assert unit.text == text.encode()
    assert [r.returns for r in unit.results] == ["rows", "rows"]
    assert {a.facts.statements for a in parsed.actions} == {2}
    assert {a.facts.form for a in parsed.actions} == {"single"}


def test_a_script_is_one_unit_a_statement() -> None:
    text = b"-- head\nbegin;\nselect 'a;b' /* ; */ ;;\n\ncommit"
    parsed = judged(text, "script")
    assert [u.text for u in parsed.units] == [b"begin;", b"select 'a;b' /* ; */ ;", b"commit"]
    assert [a.verb for a in parsed.actions] == ["begin", "select", "commit"]
    assert {a.facts.statements for a in parsed.actions} == {3}
    assert {a.facts.form for a in parsed.actions} == {"script"}


def test_a_script_is_refused_whole_with_the_place_in_it() -> None:
    with pytest.raises(Denied):
        judged("select 1; select 2; select pg_read_file('x'); select 3", "script")
    with pytest.raises(SqlUnreadable) as caught:
        judged("select 1;\n  select 2; select\n 3 from from;\n", "script")
    assert (caught.value.line, caught.value.column) == (3, 9)
    with pytest.raises(SqlUnreadable) as caught:
        judged(b"select 1;\n  select '" + b"x" * 16_384 + b"'", "script")
    assert (caught.value.line, caught.value.rule) == (2, "sql.size")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("text", ["", " \n", ";", "-- x", "/* x */;;"])
def test_nothing_to_run_is_refused(text: str, form: Form) -> None:
    with pytest.raises(BadCommand, match="no statement"):
        judged(text, form)


def test_columns_of_results() -> None:
    result = only_result("select id, ssn, lower(ssn) from patients")
    assert result.columns is not None
    assert [(c.name, c.masked, c.kind) for c in result.columns] == [
        ("id", False, None),
        ("ssn", True, "other"),
        ("lower", True, None),
    ]
    assert result.touches_phi
    assert only_result("delete from patients where id = 1").columns == ()
    assert only_result("delete from patients where id = 1").returns == "tag"
    returned = only_result("delete from patients where id = 1 returning id, ssn")
    assert returned.returns == "rows"
    assert returned.columns is not None
    assert [c.masked for c in returned.columns] == [False, True]


@pytest.mark.parametrize(
    "sql",
    [
        "select * from pg_stats",
        "select query from pg_stat_activity",
        "select count(*) from pg_largeobject",
        "select * from busy",
        "fetch all from c",
        "execute p",
        "call risk(1)",
        "show all",
        "show app.who",
        "explain select ssn from patients",
        "explain select id from claims where risk(id) = 1",
        "explain select 1 from patients where ssn = 'x'",
    ],
)
def test_answers_that_nobody_can_follow_are_masked_whole(sql: str) -> None:
    result = only_result(sql)
    assert result.returns == "rows"
    assert result.columns is None
    assert result.touches_phi


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("explain select * from claims", (ColumnPlan("QUERY PLAN", masked=False),)),
        ("show timezone", (ColumnPlan("timezone", masked=False),)),
        ("select 1 as one", (ColumnPlan("one", masked=False),)),
    ],
)
def test_answers_that_are_shown(sql: str, columns: tuple[ColumnPlan, ...]) -> None:
    result = only_result(sql)
    assert result.columns == columns
    assert not result.touches_phi


@pytest.mark.parametrize(
    "sql",
    [
        "insert into patients (id) values (1)",
        "update patients set ssn = '1' where id = 1",
        "delete from patients where id = 1",
        "truncate patients",
        "drop table patients",
        "do $$ begin end $$",
        "select risk(1)",
        "vacuum patients",
    ],
)
def test_errors_of_statements_on_phi_are_not_quoted(sql: str) -> None:
    assert only_result(sql).touches_phi


def test_copy_out() -> None:
    result = only_result("copy (select id, ssn from patients) to stdout with (format csv, header)")
    assert result.returns == "copy"
    assert result.copy == CopyOut("csv", b",", b"", header=True)
    assert result.columns is not None
    assert [c.masked for c in result.columns] == [False, True]
    plain = only_result("copy claims to stdout with (delimiter '|', null 'nil', header off)")
    assert plain.copy == CopyOut("text", b"|", b"nil", header=False)
    assert only_result("copy claims to stdout").copy == CopyOut()
    assert only_result("copy claims to stdout csv").copy == CopyOut("csv", b",", b"")


def test_facts_of_phi() -> None:
    plain = only_action("select id, status from claims where id = 1", "select").facts
    assert (plain.phi, plain.phi_influences, plain.columns) == (
        False,
        frozenset(),
        ("id", "status"),
    )
    read = only_action("select id, ssn from patients", "select").facts
    assert (read.phi, read.columns, read.phi_columns) == (True, ("id", "ssn"), ("ssn",))
    assert read.phi_influences == frozenset()
    steered = only_action("select id from patients where ssn = 'x'", "select").facts
    assert "filter" in steered.phi_influences
    assert (
        "order"
        in only_action("select id from patients order by ssn", "select").facts.phi_influences
    )
    deleted = only_action("delete from patients where ssn = 'x'", "delete").facts
    assert "filter" in deleted.phi_influences
    assert deleted.phi
    assert only_action("select count(*) from patients", "select").facts.phi is False
    explained = only_action("explain select id from patients where ssn = 'x'", "explain").facts
    assert "filter" in explained.phi_influences


@pytest.mark.parametrize(
    ("sql", "verb", "flows"),
    [
        ("insert into claims (status) select ssn from patients", "insert", True),
        (
            "insert into claims (status) select s from (select ssn as s from patients) x",
            "insert",
            True,
        ),
        ("insert into patients (ssn) select ssn from patients", "insert", False),
        ("insert into claims (status) values ('open')", "insert", False),
        (
            "update claims set status = p.ssn from patients p where p.id = patient_id",
            "update",
            True,
        ),
        ("update claims set status = 'x' where id = 1", "update", False),
        ("create table t as select ssn from patients", "create", True),
        ("create table t as select id from claims", "create", False),
        ("select ssn into t from patients", "create", True),
    ],
)
def test_phi_written_where_it_is_not_expected(sql: str, verb: str, flows: bool) -> None:
    assert only_action(sql, verb).facts.phi_to_plain is flows


def test_what_the_record_shows() -> None:
    assert judged("select id from patients where ssn = '123-45-6789'").shown == (
        "select id from patients where ssn = '[PHI]'"
    )
    assert judged("select id from claims where status = 'open'").shown.endswith("'open'")
    # One statement that touches PHI hides the literals of the whole line.
    text = "select 'a'; select ssn from patients"
    assert judged(text, "script").shown.startswith("select '[PHI]'")


def test_the_catalog_that_was_used_is_named() -> None:
    assert judged("select 1").catalog == CATALOG.fingerprint


def test_limits() -> None:
    wide = "select " + ", ".join(["1"] * 6)
    limits = SqlLimits(output_columns=5)
    with pytest.raises(Denied, match="more than 5 columns"):
        judge(wide.encode(), form="single", catalog=CATALOG, limits=limits)
    deep = "select " + "not " * 250 + "true"
    with pytest.raises(SqlUnreadable, match="nested"):
        judged(deep)
    with pytest.raises(SqlUnreadable, match="longer than"):
        judged("select '" + "x" * 16_400 + "'")


_WORDS = st.sampled_from(
    sorted({word for row in CORPUS for word in row.sql.replace("(", " ( ").split()})
)
_TEXTS = st.one_of(
    st.binary(max_size=80),
    st.lists(_WORDS, max_size=12).map(lambda words: " ".join(words).encode()),
    st.tuples(st.sampled_from(CORPUS), _WORDS, st.integers(0, 60)).map(
        lambda t: (t[0].sql[: t[2]] + " " + t[1] + " " + t[0].sql[t[2] :]).encode()
    ),
)


@settings(max_examples=500, deadline=None)
@given(_TEXTS, st.sampled_from(FORMS))
def test_garbage_is_refused_or_read_whole(text: bytes, form: Form) -> None:
    try:
        parsed = judged(text, form)
    except (BadCommand, Denied):
        return
    assert parsed.actions
    assert all(unit.text in text for unit in parsed.units)
    assert all(unit.results for unit in parsed.units)


def test_a_typical_statement_is_judged_in_a_few_milliseconds() -> None:
    text = (
        "select p.last_name, count(*) from patients p join visits v on v.patient_id = p.id "
        "where v.reason_code = 'x' group by p.last_name order by 2 desc limit 10"
    )
    judged(text)
    times = []
    for _ in range(50):
        begun = time.perf_counter()
        judged(text)
        times.append(time.perf_counter() - begun)
    assert sorted(times)[25] < 0.025
