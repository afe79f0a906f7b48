from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.core.action import Action
from gateway.core.policy_source import VERBS
from gateway.errors import BadCommand, Denied
from gateway.sql.actions import READ_VERBS
from gateway.sql.grammar import parse
from gateway.sql.queries import QUERIES
from gateway.sql.statements import DDL_VERBS, UTILITY
from gateway.sql.walk import STATEMENTS
from tests.sql.gate import CATALOG, judged, verbs
from tests.sql.statement_corpus import CORPUS, Row

_OWN_READERS = {
    "ExplainStmt",
    "CopyStmt",
    "VariableSetStmt",
    "VariableShowStmt",
    "TransactionStmt",
    "CallStmt",
}
# Never at the top of what parse() gives: wrappers, and parts of function bodies.
_NEVER_SENT = {"RawStmt", "SetOperationStmt", "ReturnStmt", "PLAssignStmt", "ReplicaIdentityStmt"}


def action(sql: str, verb: str) -> Action:
    (found,) = [a for a in judged(sql).actions if a.verb == verb]
    return found


@pytest.mark.parametrize("row", CORPUS, ids=lambda row: row.sql[:60])
def test_corpus(row: Row) -> None:
    if row.rule:
        with pytest.raises((BadCommand, Denied)) as caught:
            judged(row.sql)
        assert caught.value.rule == row.rule
        assert caught.value.advice
        return
    parsed = judged(row.sql)
    assert tuple(a.verb for a in parsed.actions) == row.verbs
    assert parsed.writes == (row.login == "W")
    assert {a.facts.ddl for a in parsed.actions if a.verb in DDL_VERBS} <= {True}


def test_the_corpus_has_every_statement_there_is() -> None:
    seen = {statement.kind for row in CORPUS for statement in parse(row.sql.encode())}
    assert STATEMENTS - _NEVER_SENT - seen == set()
    assert len(CORPUS) >= 150


def test_every_statement_is_mapped_and_every_verb_can_be_spoken_of() -> None:
    assert QUERIES | _OWN_READERS | UTILITY.keys() == STATEMENTS - _NEVER_SENT
    assert {rule.verb for rule in UTILITY.values()} <= VERBS
    assert READ_VERBS <= VERBS


def test_names_are_canonical() -> None:
    assert verbs("select 1 from claims, other.claims c, claims.public.visits") == (
        "select claims.public.claims, select claims.other.claims, select claims.public.visits"
    )
    assert verbs("select * from pg_class") == "select claims.pg_catalog.pg_class"
    assert verbs("drop schema public") == "drop public"
    assert verbs("drop function other.f(int, text)") == "drop other.f"
    assert verbs("create table x (id int)") == "create claims.public.x"
    assert verbs("create temp table x (id int)") == "create claims.pg_temp.x"
    assert verbs("select risk(1)") == "call public.risk(integer), select claims"
    assert verbs("begin read write") == "begin transaction, set transaction_read_only"


@pytest.mark.parametrize(
    ("sql", "verb", "limited"),
    [
        ("delete from claims", "delete", False),
        ("delete from claims where true", "delete", False),
        ("delete from claims where 1 = 1", "delete", False),
        ("delete from claims where id = 1", "delete", True),
        ("delete from claims where current of c", "delete", True),
        ("update claims set id = 1", "update", False),
        ("update claims set id = 1 where id = 2", "update", True),
        ("select * from claims", "select", False),
        ("select * from claims where id = 2", "select", True),
        # One of two deletes has no WHERE: the action has none.
        (
            "with a as (delete from claims where id = 1), b as (delete from claims) select 1",
            "delete",
            False,
        ),
        ("delete from claims where id in (select id from claims)", "select", False),
        (
            "merge into claims c using visits v on true when matched then delete",
            "delete",
            False,
        ),
        (
            "merge into claims c using visits v on c.id = v.id when matched then delete",
            "merge",
            True,
        ),
        (
            "merge into claims c using notes n on c.id=n.id when not matched by source then delete",
            "delete",
            False,
        ),
    ],
)
def test_has_where(sql: str, verb: str, limited: bool) -> None:
    assert action(sql, verb).facts.has_where is limited


def test_flags_of_utility_statements() -> None:
    assert action("drop table claims cascade", "drop").facts.recursive
    assert not action("drop table claims", "drop").facts.recursive
    assert action("grant select on all tables in schema public to x", "grant").facts.wildcard
    assert not action("grant select on claims to x", "grant").facts.wildcard
    assert action("vacuum", "maintain").facts.wildcard
    assert action("deallocate all", "prepare").facts.wildcard
    assert action("set timezone = 'x'", "set").facts.setting_safe
    assert action("begin read only", "begin").facts.setting_safe
    assert not action("begin read write", "set").facts.setting_safe


def test_phi_of_whole_objects() -> None:
    assert action("drop table patients", "drop").facts.phi
    assert not action("drop table claims", "drop").facts.phi
    assert action("drop table nosuch", "drop").facts.phi
    assert action("drop schema other", "drop").facts.phi
    assert action("truncate patients", "truncate").facts.phi
    assert action("comment on column patients.ssn is 'x'", "comment").facts.phi
    assert action("select * from pg_stats", "select").facts.phi
    assert not action("select * from pg_tables", "select").facts.phi


@pytest.mark.parametrize(
    ("operators", "sql", "captured"),
    [
        ({"="}, "select 1 = 2", True),
        ({"="}, "select 1 operator(pg_catalog.=) 2", False),
        ({"="}, "select 1 in (2)", True),
        ({"="}, "select 1 in (select 2)", True),
        ({"="}, "select 1 is distinct from 2", True),
        ({"="}, "select nullif(1, 2)", True),
        ({"="}, "select case 1 when 2 then 3 end", True),
        ({"="}, "select case when true then 3 end", False),
        ({"="}, "select 1 from claims join visits using (id)", True),
        ({"="}, "select 1 from claims natural join visits", True),
        ({"="}, "select 1 from claims cross join visits", False),
        ({"<="}, "select 1 between 2 and 3", True),
        ({"~~"}, "select 'a' like 'b'", True),
        ({"<"}, "select id from claims order by id using <", True),
        ({"<"}, "select 1 < all (select 2)", True),
        ({"%"}, "select 1 + 2", False),
        (set(), "select 1 = 2, 1 between 2 and 3", False),
    ],
)
def test_operators_that_could_be_captured(operators: set[str], sql: str, captured: bool) -> None:
    catalog = replace(CATALOG, operators=frozenset(operators))
    if not captured:
        assert judged(sql, catalog=catalog).actions
        return
    with pytest.raises(Denied) as caught:
        judged(sql, catalog=catalog)
    assert caught.value.rule == "sql.operator"


def test_casts_that_are_not_the_systems() -> None:
    catalog = replace(CATALOG, casts=1)
    assert judged("select '1'::int, '1'::jsonb, '1'::varchar(3)", catalog=catalog).actions
    with pytest.raises(Denied, match="cast"):
        judged("select '1'::mytype", catalog=catalog)
    assert judged("select '1'::mytype").actions


def test_syntax_that_an_older_server_reads_as_a_call() -> None:
    newer = replace(CATALOG, server_version=180004)
    sql = "select json_scalar(1), json_value('{}', '$.a')"
    assert judged(sql, catalog=newer).actions
    with pytest.raises(Denied) as caught:
        judged(sql)
    assert caught.value.rule == "sql.version"
    assert judged("select system_user").actions
    older = replace(CATALOG, server_version=150018)
    with pytest.raises(Denied):
        judged("select system_user", catalog=older)
    with pytest.raises(Denied):
        judged("select json_object('a': 1)", catalog=older)
    assert judged("select json_object('{a, 1}')", catalog=older).actions
