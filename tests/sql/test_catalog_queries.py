"""The catalog and its fingerprint, read from real servers by an ordinary login."""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from gateway.errors import TargetUnavailable
from gateway.sql.catalog import Catalog, Column, Relation
from gateway.sql.catalog_queries import CATALOG, FINGERPRINT, build_catalog
from gateway.sql.grammar import parse
from gateway.sql.limits import SqlLimits
from tests.servers import Server
from tests.sql.demo_schema import OVERRIDES, make_database, read_catalog
from tests.sql.gate import judged

_PATH = "SET search_path = pg_catalog, public, pg_temp;"


@pytest.fixture(scope="module")
def database(pg_server: Server) -> str:
    pg_server.add_login("plain_reader")
    return make_database(pg_server, "catalogs")


def _read(server: Server, database: str, overrides: dict[str, str]) -> Catalog:
    text = server.sql(
        f"{_PATH} SELECT json_agg(json_build_array(part, body)) FROM ({CATALOG}) AS rows",
        database=database,
        user="plain_reader",
    )
    return build_catalog([(p, b) for p, b in json.loads(text)], "t", database, overrides)


def _fingerprint(server: Server, database: str, before: str = "") -> str:
    return server.sql(_PATH + before + FINGERPRINT, database=database, user="plain_reader")


def _columns(catalog: Catalog, name: str) -> dict[str, Column]:
    relation = catalog.resolve(None, name)
    assert relation is not None
    return {c.name: c for c in relation.columns}


def _relation(catalog: Catalog, name: str) -> Relation:
    relation = catalog.resolve(None, name)
    assert relation is not None
    return relation


def test_the_statements_are_single_selects() -> None:
    for text in (CATALOG, FINGERPRINT):
        (statement,) = parse(text.encode(), SqlLimits())
        assert statement.kind == "SelectStmt"


def test_a_login_without_rights_reads_it_all(pg_server: Server, database: str) -> None:
    catalog = read_catalog(pg_server, database, user="plain_reader")
    assert catalog.server_version // 10000 == pg_server.major
    assert catalog.fingerprint == _fingerprint(pg_server, database)
    patients = _columns(catalog, "patients")
    assert [c.number for c in patients.values()] == list(range(1, 11))
    assert (patients["id"].phi, patients["id"].type) == ("no", "integer")
    assert (patients["ssn"].phi, patients["ssn"].kind) == ("yes", "ssn")
    assert _columns(catalog, "claims")["amount"].type == "numeric(10,2)"
    assert _columns(catalog, "visits")["visited_at"].type == "timestamp with time zone"
    assert _columns(catalog, "extras")["blob"].masked
    assert not _columns(catalog, "extras")["code"].masked
    assert [(f.schema, f.name, f.arguments) for f in catalog.functions] == [
        ("public", "secret_of", "integer")
    ]
    assert catalog.operators == frozenset()
    assert catalog.casts == 0


def test_columns_of_views_are_what_they_derive_from(pg_server: Server, database: str) -> None:
    catalog = read_catalog(pg_server, database)
    people = _columns(catalog, "people")
    assert not people["id"].masked
    assert (people["number"].phi, people["number"].kind) == ("yes", "ssn")
    assert (people["surname_shown"].phi, people["surname_shown"].kind) == ("yes", None)
    nested = _columns(catalog, "nested")
    assert (nested["number"].kind, nested["state"].phi) == ("ssn", "no")
    stored = _columns(catalog, "stored")
    assert (stored["contact"].kind, stored["size"].phi) == ("email", "yes")
    assert _relation(catalog, "stored").kind == "matview"
    assert not any(c.masked for c in _columns(catalog, "totals").values())
    for relation in catalog.relations:
        assert (relation.definition is not None) == (relation.kind in ("view", "matview"))


def test_what_else_there_may_be(pg_server: Server) -> None:
    database = pg_server.create_database(
        "catalogs_else",
        """
        CREATE SCHEMA "Odd.One"; CREATE TABLE "Odd.One"."Ta""ble" ("Co l" text);
        COMMENT ON COLUMN "Odd.One"."Ta""ble"."Co l" IS 'phi=yes kind=mrn';
        CREATE TABLE parts (id integer, code integer, label text) PARTITION BY RANGE (id);
        CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (10);
        CREATE TABLE above (a integer, b integer); CREATE TABLE below (c text) INHERITS (above);
        COMMENT ON COLUMN below.a IS 'phi=yes kind=account';
        CREATE TABLE made (ssn text, size integer GENERATED ALWAYS AS (length(ssn)) STORED,
            n integer, twice integer GENERATED ALWAYS AS (n * 2) STORED);
        CREATE TABLE gone (a integer, b integer, c text); ALTER TABLE gone DROP COLUMN b;
        CREATE TABLE ruled (a integer); CREATE RULE r AS ON INSERT TO ruled DO ALSO NOTHING;
        CREATE FUNCTION tr() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
            AS 'BEGIN RETURN NULL; END';
        CREATE TABLE triggered (a integer);
        CREATE TRIGGER t AFTER INSERT ON triggered EXECUTE FUNCTION tr();
        CREATE TABLE keyed (a integer PRIMARY KEY REFERENCES keyed (a));
        CREATE FUNCTION eq(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
        CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = eq);
        CREATE TYPE pair AS (a text, b text);
        CREATE CAST (pair AS text) WITH INOUT;
        """,
    )
    catalog = _read(pg_server, database, {"parts.code": "mrn", "parts.label": "no"})
    odd = catalog.by_name["Odd.One", 'Ta"ble'].columns[0]
    assert (odd.name, odd.kind) == ("Co l", "mrn")
    assert _columns(catalog, "parts_1")["code"].kind == "mrn"
    assert _columns(catalog, "parts_1")["label"].phi == "no"
    # A query of the parent reads the child's rows.
    assert _columns(catalog, "above")["a"].kind == "account"
    assert not _columns(catalog, "above")["b"].masked
    made = _columns(catalog, "made")
    assert (made["size"].phi, made["size"].generated) == ("yes", True)
    assert (made["twice"].masked, made["twice"].generated) == (False, True)
    assert [(c.name, c.number) for c in _relation(catalog, "gone").columns] == [("a", 1), ("c", 3)]
    assert _relation(catalog, "ruled").side_effects
    assert _relation(catalog, "triggered").side_effects
    assert not _relation(catalog, "keyed").side_effects
    assert catalog.operators == frozenset(("===",))
    assert catalog.casts == 1
    assert {f.name: f.security_definer for f in catalog.functions} == {"tr": True, "eq": False}
    assert _relation(catalog, "pair").kind == "composite"


_EFFECTS = """
    CREATE FUNCTION one() RETURNS integer LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
    CREATE FUNCTION fine(integer) RETURNS boolean LANGUAGE plpgsql IMMUTABLE
        AS 'BEGIN RETURN true; END';
    CREATE FUNCTION same(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE
        AS 'BEGIN RETURN $1; END';
    CREATE FUNCTION tr() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE OPERATOR <<< (LEFTARG = integer, RIGHTARG = integer, FUNCTION = int4lt);
    CREATE DOMAIN checked AS integer CHECK (fine(VALUE));
    CREATE TABLE defaulted (a integer DEFAULT one());
    CREATE TABLE generated (a integer, b integer GENERATED ALWAYS AS (same(a)) STORED);
    CREATE TABLE constrained (a integer CHECK (fine(a)));
    CREATE TABLE compared (a integer CHECK (a <<< 5));
    CREATE TABLE indexed (a integer); CREATE INDEX ON indexed (same(a));
    CREATE TABLE partly (a integer); CREATE INDEX ON partly (a) WHERE fine(a);
    CREATE TABLE guarded (a integer); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON guarded USING (fine(a));
    CREATE TABLE of_domain (a checked);
    CREATE TABLE parted (a integer) PARTITION BY RANGE (same(a));
    CREATE TABLE above (a integer); CREATE TABLE below () INHERITS (above);
    CREATE TRIGGER t AFTER INSERT ON below EXECUTE FUNCTION tr();
    CREATE VIEW over_below AS SELECT a FROM below; CREATE VIEW over_that AS TABLE over_below;
    CREATE TABLE key (a integer PRIMARY KEY); CREATE TABLE middle (a integer PRIMARY KEY
        REFERENCES key ON DELETE CASCADE);
    CREATE TABLE low (a integer REFERENCES middle ON UPDATE SET NULL);
    CREATE TRIGGER t AFTER DELETE ON low EXECUTE FUNCTION tr();
    CREATE TABLE kept (a integer PRIMARY KEY);
    CREATE TABLE keeps (a integer REFERENCES kept ON DELETE RESTRICT);
    CREATE TRIGGER t AFTER DELETE ON keeps EXECUTE FUNCTION tr();
    CREATE TABLE plain (a integer DEFAULT 1 CHECK (a > 0), b text DEFAULT upper('x'),
        c integer GENERATED ALWAYS AS (a + 1) STORED, d timestamptz DEFAULT now());
    CREATE INDEX ON plain (lower(b)); CREATE VIEW over_plain AS SELECT a FROM plain;
"""


def test_what_runs_more_than_it_says(pg_server: Server) -> None:
    database = pg_server.create_database("catalogs_effects", _EFFECTS)
    relations = _read(pg_server, database, {}).relations
    loud = {r.name for r in relations if r.side_effects}
    assert loud == {
        *("defaulted", "generated", "constrained", "compared", "indexed", "partly", "guarded"),
        *("of_domain", "parted", "above", "below", "over_below", "over_that"),
        *("key", "middle", "low", "keeps"),
    }
    assert {r.name for r in relations} - loud >= {"plain", "over_plain", "kept"}


CHANGES = [
    "CREATE FUNCTION one() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
    "ALTER TABLE claims ALTER COLUMN status SET DEFAULT one()",
    "ALTER TABLE visits ADD CHECK (one() = '1')",
    (
        "ALTER TABLE visits ADD PRIMARY KEY (id);"
        "ALTER TABLE notes ADD FOREIGN KEY (visit_id) REFERENCES visits (id) ON DELETE CASCADE"
    ),
    "ALTER TABLE claims ADD COLUMN extra text",
    "ALTER TABLE claims DROP COLUMN extra",
    "ALTER TABLE claims RENAME COLUMN status TO state",
    "ALTER TABLE notes ALTER COLUMN note_text TYPE varchar(4000)",
    "ALTER TABLE extras RENAME TO extra_rows",
    "CREATE OR REPLACE VIEW filtered AS SELECT id, ssn AS zip FROM patients",
    "DROP VIEW reused",
    "CREATE TABLE fresh (a integer)",
    "DROP TABLE fresh",
    "CREATE FUNCTION upper(varchar) RETURNS text LANGUAGE sql AS 'SELECT ''x'''",
    "CREATE OR REPLACE FUNCTION upper(varchar) RETURNS text LANGUAGE sql AS 'SELECT ''y'''",
    "CREATE OR REPLACE FUNCTION upper(varchar) RETURNS text LANGUAGE sql RETURN 'y'",
    "ALTER FUNCTION upper(varchar) SECURITY DEFINER",
    "CREATE OPERATOR === (LEFTARG = integer, RIGHTARG = integer, FUNCTION = int4eq)",
    "DROP OPERATOR === (integer, integer)",
    "CREATE CAST (integer AS date) WITH FUNCTION pg_temp_free(integer)",
    "COMMENT ON COLUMN claims.amount IS 'phi=yes kind=account'",
    "COMMENT ON COLUMN claims.amount IS NULL",
    "CREATE RULE r AS ON INSERT TO claims DO ALSO NOTHING",
    "CREATE FUNCTION tr() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "CREATE TRIGGER t AFTER INSERT ON visits EXECUTE FUNCTION tr()",
    "ALTER TABLE visits DISABLE TRIGGER t",
    "CREATE TABLE above (id integer)",
    "ALTER TABLE notes INHERIT above",
    "CREATE SCHEMA other; CREATE TABLE other.patients (id integer)",
    "CREATE DOMAIN plain_text AS text",
    "CREATE AGGREGATE total(integer) (SFUNC = int4pl, STYPE = integer)",
    "CREATE OR REPLACE AGGREGATE total(integer) (SFUNC = int4mul, STYPE = integer)",
    "CREATE MATERIALIZED VIEW later AS SELECT 1 AS one",
]


def test_the_fingerprint_changes_with_what_decisions_rest_on(pg_server: Server) -> None:
    database = make_database(pg_server, "catalogs_change")
    pg_server.sql(
        "CREATE FUNCTION pg_temp_free(integer) RETURNS date LANGUAGE sql AS 'SELECT current_date'",
        database=database,
    )
    seen = [_fingerprint(pg_server, database)]
    assert len(seen[0]) == 64
    for change in CHANGES:
        pg_server.sql(change, database=database)
        now = _fingerprint(pg_server, database)
        assert now != seen[-1], change
        seen.append(now)


def test_the_fingerprint_holds_while_only_data_changes(pg_server: Server) -> None:
    database = make_database(pg_server, "catalogs_hold")
    before = _fingerprint(pg_server, database)
    for work in (
        "INSERT INTO claims VALUES (90, 1, 1, 'x'); UPDATE claims SET amount = 2;",
        "VACUUM ANALYZE",
        "CREATE INDEX ON claims (status); GRANT SELECT ON claims TO plain_reader",
        "REFRESH MATERIALIZED VIEW stored",
        "COMMENT ON TABLE claims IS 'something'",
    ):
        pg_server.sql(work, database=database)
        assert _fingerprint(pg_server, database) == before, work


def test_the_parent_of_a_partition_with_phi_is_masked(pg_server: Server) -> None:
    """One child says PHI, its parent and its sibling say no: whoever reads either is masked."""
    database = pg_server.create_database(
        "catalogs_children",
        """
        CREATE TABLE parts (id integer, label text, seen integer) PARTITION BY RANGE (id);
        CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (10);
        CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20);
        COMMENT ON COLUMN parts.label IS 'phi=no'; COMMENT ON COLUMN parts_1.label IS 'phi=no';
        COMMENT ON COLUMN parts_2.label IS 'phi=yes kind=mrn';
        CREATE TABLE root (label text); CREATE TABLE leaf () INHERITS (root);
        CREATE TABLE twig (extra text) INHERITS (leaf);
        COMMENT ON COLUMN root.label IS 'phi=no'; COMMENT ON COLUMN twig.label IS 'phi=yes';
        INSERT INTO parts VALUES (11, 'M-90817', 1); INSERT INTO twig VALUES ('Zolphqar', 'x');
        """,
    )
    catalog = _read(pg_server, database, {})
    for sql, secret in (("select label from parts", "M-90817"), ("table root", "Zolphqar")):
        assert pg_server.sql(sql, database=database) == secret
        ((result,),) = [unit.results for unit in judged(sql, catalog=catalog).units]
        assert result.columns is not None
        assert [c.masked for c in result.columns] == [True]
    ((seen,),) = [u.results for u in judged("select seen from parts", catalog=catalog).units]
    assert seen.columns is not None
    assert not seen.columns[0].masked


def test_own_temporary_objects_show_and_others_do_not(pg_server: Server) -> None:
    database = make_database(pg_server, "catalogs_temp")
    before = _fingerprint(pg_server, database)
    own = _fingerprint(pg_server, database, "CREATE TEMP TABLE claims (status text);")
    assert own != before
    command = [str(pg_server.psql), "-XAtq", "-h", str(pg_server.socket_dir)]
    command += ["-p", str(pg_server.port), "-U", "postgres", "-d", database]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"LANG": "C.UTF-8"}
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write("CREATE TEMP TABLE theirs (a integer); SELECT 'made';\n")
        other.stdin.flush()
        assert other.stdout.readline() == "made\n"
        assert _fingerprint(pg_server, database) == before
        other.stdin.close()


def test_no_operator_of_a_users_captures_the_query(pg_server: Server) -> None:
    database = make_database(pg_server, "catalogs_capture")
    kinds = ["name", "oid", "text", '"char"', "int2"]
    captures = "".join(
        f"CREATE FUNCTION no_{n}({k}, {other}) RETURNS boolean LANGUAGE sql AS 'SELECT false';"
        + "".join(
            f"CREATE OPERATOR {o} (LEFTARG = {k}, RIGHTARG = {other}, FUNCTION = no_{n});"
            for o in ("=", "<>", ">", ">=")
        )
        for n, (k, other) in enumerate((k, o) for k in kinds for o in (*kinds, "int4", "int8"))
    )
    relations = {(r.schema, r.name) for r in read_catalog(pg_server, database).relations}
    pg_server.sql("SET search_path = public;" + captures, database=database)
    after = read_catalog(pg_server, database)
    assert {(r.schema, r.name) for r in after.relations} == relations
    assert {"=", "<>", ">"} <= after.operators
    before = _fingerprint(pg_server, database)
    pg_server.sql("CREATE DOMAIN captured AS text", database=database)
    assert _fingerprint(pg_server, database) != before


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [("server", "not json")],
        [("server", "{}")],
        [("nothing", "1")],
        [("server", '{"version": 160000, "fingerprint": "x"}'), ("relation", "{}")],
        [("server", '{"version": 160000, "fingerprint": "x"}')] * 2,
    ],
)
def test_other_rows_are_refused(rows: list[tuple[str, str]]) -> None:
    with pytest.raises(TargetUnavailable):
        build_catalog(rows, "t", "d", OVERRIDES)


def test_a_server_newer_than_the_grammar_is_refused() -> None:
    def built(version: int) -> Catalog:
        rows = [("server", json.dumps({"version": version, "fingerprint": "x"}))]
        return build_catalog(rows, "t", "d", OVERRIDES)

    assert built(180004).server_version == 180004
    for version in (190000, 200001):
        with pytest.raises(TargetUnavailable, match="newer than the grammar") as caught:
            built(version)
        assert caught.value.advice


def test_both_are_cheap(pg_server: Server, database: str) -> None:
    start = time.perf_counter()
    for _ in range(3):
        _fingerprint(pg_server, database)
    assert (time.perf_counter() - start) / 3 < 1.0
