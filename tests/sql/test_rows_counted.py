"""``counts_rows``: whether a command tag tells all the rows that a statement changes."""

from __future__ import annotations

import pytest

from tests.servers import Server
from tests.sql.demo_schema import read_catalog
from tests.sql.gate import judged


def counted(sql: str) -> list[bool]:
    return [result.counts_rows for unit in judged(sql).units for result in unit.results]


@pytest.mark.parametrize(
    "sql",
    [
        "delete from claims where id = 1",
        "delete from patients using visits v where v.id = patients.id returning v.id",
        "with old as (select id from visits) delete from claims where id in (select id from old)",
        "insert into claims (id) select id from visits",
        "insert into claims (id) values (1) on conflict (id) do update set amount = 1",
        "update claims set status = 'x' where id = 1",
        "merge into claims c using visits v on c.id = v.id when matched then delete",
        "select id from claims where id = 1 for update",
        "explain select 1",
        "set timezone = 'UTC'",
        "begin",
        "copy (select id from claims) to stdout",
    ],
)
def test_counted(sql: str) -> None:
    assert counted(sql) == [True]


@pytest.mark.parametrize(
    "sql",
    [
        "with gone as (delete from claims returning id) select count(*) from gone",
        "with gone as (delete from claims) update claims set amount = 1 where id = 1",
        "with gone as (delete from claims returning id) delete from visits where id = 1",
        "delete from guarded where id = 1",
        "delete from claims where risk(id) = 1",
        "select risk(1)",
        "truncate claims",
        "create table t as select id from claims",
        "select id into t from claims",
        "copy (delete from claims returning id) to stdout",
        "explain analyze delete from claims",
        "execute p",
        "prepare p as delete from claims",
        "drop table claims",
        "do $$ begin end $$",
        "call risk(1)",
    ],
)
def test_not_counted(sql: str) -> None:
    assert counted(sql) == [False]


def test_each_statement_for_itself() -> None:
    assert counted("delete from claims where id = 1; truncate visits; select 1") == [
        True,
        False,
        True,
    ]


def test_tags_of_a_real_server(pg_server: Server) -> None:
    """What is counted has its rows in the tag; a writing WITH shows why it is not."""
    database = pg_server.create_database(
        "rows_counted",
        """
        CREATE TABLE claims (id integer PRIMARY KEY, amount integer);
        CREATE TABLE visits (id integer);
        INSERT INTO claims SELECT n, n FROM generate_series(1, 9) n;
        INSERT INTO visits SELECT generate_series(1, 4);
        """,
    )
    catalog = read_catalog(pg_server, database)

    def affected(sql: str) -> tuple[bool, int]:
        ((result,),) = [unit.results for unit in judged(sql, catalog=catalog).units]
        tag = pg_server.sql(f"\\set QUIET off\nBEGIN;\n{sql};\nROLLBACK;", database=database)
        return result.counts_rows, int(tag.splitlines()[-2].split()[-1])

    assert affected("delete from claims where id > 2") == (True, 7)
    assert affected("update claims set amount = 0") == (True, 9)
    assert affected("insert into visits select id from claims") == (True, 9)
    upsert = "on conflict (id) do update set amount = 0"
    assert affected(f"insert into claims select n, n from generate_series(5, 12) n {upsert}") == (
        True,
        8,
    )
    merge = "merge into claims c using visits v on c.id = v.id when matched then delete"
    assert affected(merge) == (True, 4)
    hidden = "with gone as (delete from claims) update visits set id = 0 where id = 1"
    assert affected(hidden) == (False, 1)
