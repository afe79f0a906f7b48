"""``row.name`` where ``name`` is no column: PostgreSQL calls a function of that name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.errors import Denied
from gateway.sql.catalog import Catalog, Column, Function
from gateway.sql.functions import REVIEWED
from gateway.sql.lineage.fields import ROW_TAKERS, SYSTEM_COLUMNS
from tests.servers import Server
from tests.sql.demo_schema import read_catalog
from tests.sql.gate import CATALOG, judged, verbs

_SETTING = "array['search_path']"
_PATH = "pg_catalog, public, pg_temp"

# Each runs current_setting('search_path') on every server, without naming it as a call.
DOTTED_CALLS = [
    f"select x.current_setting from unnest({_SETTING}) x",
    f"select (x).current_setting from unnest({_SETTING}) x",
    f"select (x.x).current_setting from unnest({_SETTING}) x",
    f"select x.current_setting from unnest({_SETTING}) x(y)",
    "select x.current_setting from lower('search_path') x",
    "select lower.current_setting from lower('search_path')",
    "select ('search_path'::text).current_setting",
    "select ((select 'search_path'::text)).current_setting",
    "select (array['search_path'])[1].current_setting limit 0 + 1",
    "select (s.x).current_setting from (select 'search_path'::text as x) s",
    "with c as (select 'search_path'::text as x) select (c.x).current_setting from c",
    "select (column1).current_setting from (values ('search_path'::text)) v",
    "select ((row('search_path'::text)).f1).current_setting",
    f"select 1 as current_setting from unnest({_SETTING}) x order by x.current_setting",
    f"select 1 from unnest({_SETTING}) x group by x.current_setting",
    f"select 1 from unnest({_SETTING}) x where x.current_setting is not null",
    f"select 1 from unnest({_SETTING}) x join claims c on x.current_setting <> c.status",
    f"select s.y from unnest({_SETTING}) x, lateral (select x.current_setting as y) s",
    f"select (select x.current_setting) from unnest({_SETTING}) x",
    f"select y.current_setting from (select 1 as current_setting) x, unnest({_SETTING}) y",
    f"select string_agg('a', ',' order by x.current_setting) from unnest({_SETTING}) x",
    "update claims set status = (status::text).current_setting where false",
    "insert into claims (status) values (('search_path'::text).current_setting)",
    "insert into claims (id) values (1) returning ('search_path'::text).current_setting",
    "delete from claims using unnest(array['search_path']) x where x.current_setting = status",
    (
        "merge into claims c using unnest(array['search_path']) x on x.current_setting = status "
        "when matched then delete"
    ),
    f"copy (select x.current_setting from unnest({_SETTING}) x) to stdout",
    f"explain select x.current_setting from unnest({_SETTING}) x",
    f"declare k cursor for select x.current_setting from unnest({_SETTING}) x",
    "call risk(('search_path'::text).current_setting::int)",
    "execute p(('search_path'::text).current_setting)",
    "execute p(current_setting('search_path'))",
]


@pytest.mark.parametrize("sql", DOTTED_CALLS)
def test_a_function_behind_a_dot_is_refused(sql: str) -> None:
    with pytest.raises(Denied) as caught:
        judged(sql)
    assert caught.value.rule == "sql.function"
    assert caught.value.advice


@pytest.mark.parametrize(
    "name",
    ["pg_terminate_backend", "pg_read_file", "lo_unlink", "lo_get", "query_to_xml", "nosuch"],
)
def test_no_name_that_no_list_knows(name: str) -> None:
    for sql in (f"select x.{name} from unnest(array[1]) x", f"select (1).{name}"):
        with pytest.raises(Denied):
            judged(sql)


def test_what_cannot_be_followed_is_not_trusted() -> None:
    """A star where a value stands: lineage gives up, the name is a call all the same."""
    with pytest.raises(Denied, match="not a column that the gate knows"):
        judged("select x.current_setting, lower(c.*) from claims c, unnest(array['a']) x")


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select x.risk from unnest(array[1]) x", "call public.risk(integer)"),
        ("select (1).risk", "call public.risk(integer)"),
        ("select p.fullname from patients p", "call public.fullname(patients)"),
        ("select (p).fullname from patients p", "call public.fullname(patients)"),
        ("select (1).split", "call public.split(integer, integer)"),
    ],
)
def test_users_functions_behind_a_dot_are_calls(sql: str, expected: str) -> None:
    more = (*CATALOG.functions, Function("public", "split", "integer, integer"))
    assert expected in verbs(sql, replace(CATALOG, functions=more))


@pytest.mark.parametrize(
    "sql",
    [
        "select c.status, public.claims.id from claims c, public.claims",
        "select (c).status from claims c",
        "select c.ctid, c.tableoid, c.xmin from claims c",
        "select s.n from (select count(*) as n from claims) s where s.n > 1",
        "with t(a) as (select id from claims) select t.a from t order by t.a",
        "select v.column1, w.b from (values (1)) v, (values (1)) w(b)",
        "select g.g, h.d from generate_series(1, 2) g, generate_series(1, 2) h(d)",
        "select e.key, e.value from json_each('{}') e",
        "select (json_each('{\"a\": 1}')).key",
        "select e.x from json_to_record('{}') as e(x int)",
        "select e.x from json_to_record('{}') with ordinality as e(x, n)",
        "select (row(1, 2)).f2",
        "select n.nspname, t.tablename from pg_namespace n, pg_tables t",
        "select s.nspname from (select * from pg_namespace) s",
        "select information_schema.tables.table_name from information_schema.tables",
        "select u.upper from upper('x') u",
        "select u.u from upper('x') u",
        (
            "insert into claims as c (id) values (1) on conflict (id) do update "
            "set amount = excluded.amount where c.amount < excluded.amount returning c.id"
        ),
        "update claims c set amount = c.amount + 1 from visits v where v.id = c.id returning v.id",
        (
            "merge into claims c using visits v on c.id = v.id when matched and c.amount > 1 "
            "then update set amount = v.id"
        ),
        "copy (select c.id from claims c) to stdout",
        "select a.id from (claims c join visits v using (id)) a",
    ],
)
def test_columns_are_no_calls(sql: str) -> None:
    assert not [a for a in judged(sql).actions if a.verb == "call"]


def test_composite_columns_have_fields(pg_server: Server) -> None:
    database = pg_server.create_database(
        "fields_composite",
        """
        CREATE SCHEMA "Other";
        CREATE TYPE place AS (x integer, y integer);
        CREATE TYPE "Other"."Street" AS (name text, "at" place);
        CREATE TABLE homes (id integer, home "Other"."Street", past "Other"."Street"[]);
        CREATE VIEW seen AS SELECT id, home FROM homes;
        COMMENT ON COLUMN homes.home IS 'phi=no'; COMMENT ON COLUMN homes.past IS 'phi=no';
        """,
    )
    catalog = read_catalog(pg_server, database)
    for sql in (
        "select (h.home).name, (home).at, ((home).at).x, (h.home).at.y from homes h",
        "select (past[1]).name, (past)[1].at.x from homes",
        "select (s.home).name from seen s",
        'select (row(\'a\', row(1, 2))::"Other"."Street").at.x',
        "update homes set home.name = 'x', home.at.x = 1 where id = 1",
    ):
        pg_server.sql(sql, database=database)
        assert not [a for a in judged(sql, catalog=catalog).actions if a.verb == "call"], sql
    with pytest.raises(Denied):
        judged("select (h.home).name.current_setting from homes h", catalog=catalog)
    with pytest.raises(Denied):
        judged("select (past[1:1]).at from homes", catalog=catalog)


def test_servers_do_call_what_is_refused(pg_server: Server) -> None:
    """The reason for all this; a server that stops doing so would be news."""
    database = pg_server.create_database("fields_called", "CREATE TABLE claims (status text)")
    queries = [sql for sql in DOTTED_CALLS[:13] if "limit" not in sql]
    shown = pg_server.sql(
        f"SET search_path = {_PATH};" + ";".join(queries), database=database
    ).splitlines()
    assert shown == [_PATH] * len(queries)


def test_a_refused_call_would_have_run_and_an_allowed_one_does_not(pg_server: Server) -> None:
    database = pg_server.create_database(
        "fields_ran",
        """
        CREATE TABLE ran (who text); CREATE TABLE claims (id integer, status text);
        INSERT INTO claims VALUES (1, 'open');
        CREATE FUNCTION touch(text) RETURNS text LANGUAGE plpgsql
            AS 'BEGIN INSERT INTO public.ran VALUES ($1); RETURN $1; END';
        COMMENT ON COLUMN claims.status IS 'phi=no';
        """,
    )
    catalog = read_catalog(pg_server, database)
    calls = "select x.touch from unnest(array['called']) x"
    assert "call public.touch(text)" in verbs(calls, catalog)
    assert judged(calls, catalog=catalog).writes
    pg_server.sql(calls, database=database)
    assert pg_server.sql("select * from ran", database=database) == "called"
    # A column of that name is a column: nothing is called, and the gate says so.
    plain = "select c.status, s.current_setting from claims c, (select 1 as current_setting) s"
    assert verbs(plain, catalog) == f"select {database}.public.claims"
    assert pg_server.sql(plain, database=database) == "open|1"


def test_only_listed_builtins_take_any_row(pg_server: Server) -> None:
    """What ``has_column`` rests on for relations whose columns are not known."""
    found = pg_server.sql(
        """
        SELECT DISTINCT p.proname FROM pg_proc p
         WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.pronargs >= 1
           AND p.pronargs - p.pronargdefaults <= 1
           AND (SELECT t.typtype = 'p' OR t.typtype = 'c' FROM pg_type t
                 WHERE t.oid = p.proargtypes[0])
           AND p.proargtypes[0]::regtype::text NOT IN ('cstring', 'internal', 'trigger', 'void',
               'anyarray', 'anyenum', 'anyrange', 'anymultirange', 'anycompatiblearray',
               'anycompatiblerange', 'anycompatiblemultirange', 'event_trigger', 'record[]',
               'language_handler', 'fdw_handler', 'index_am_handler', 'table_am_handler',
               'tsm_handler', 'pg_ddl_command', 'unknown')
        """
    ).split()
    assert set(found) - REVIEWED <= ROW_TAKERS
    names = ", ".join(f"'{name}'" for name in SYSTEM_COLUMNS)
    assert pg_server.sql(f"SELECT proname FROM pg_proc WHERE proname IN ({names})") == ""
    assert pg_server.sql("SELECT proname FROM pg_proc WHERE proname ~ '^f[0-9]+$'") == ""


@pytest.mark.parametrize("name", sorted(ROW_TAKERS))
def test_builtins_that_take_any_row_are_refused_on_system_relations(name: str) -> None:
    with pytest.raises(Denied):
        judged(f"select n.{name} from pg_namespace n")


def test_a_users_function_on_a_system_row_is_a_call() -> None:
    own = Function("public", "peek", "pg_namespace")
    catalog: Catalog = replace(CATALOG, functions=(own,))
    assert "call public.peek(pg_namespace)" in verbs("select n.peek from pg_namespace n", catalog)


def test_a_column_that_is_no_composite_has_no_fields() -> None:
    table = CATALOG.by_name["public", "claims"]
    odd = replace(table, columns=(Column("place", "no such type", 1, "no"),), name="odd_one")
    catalog = replace(CATALOG, relations=(*CATALOG.relations, odd))
    with pytest.raises(Denied):
        judged("select (o.place).x from odd_one o", catalog=catalog)
