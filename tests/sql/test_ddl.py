from __future__ import annotations

import pytest

from gateway.sql.catalog import Relation
from gateway.sql.ddl import DdlRefused, catalog_from_ddl
from gateway.sql.lexing import SqlUnreadable
from tests.servers import Server
from tests.sql.demo_schema import DDL, FUNCTIONS, OVERRIDES, VIEWS, make_database, read_catalog

TYPES = """
CREATE TABLE types (
    a smallint, b integer, c bigint, d real, e double precision, f numeric, g numeric(10,2),
    h boolean, i text, j varchar, k varchar(20), l char(3), m char, n date, o timestamp,
    p timestamptz, q timestamp(3) with time zone, r time, s timetz, t interval, u uuid, v json,
    w jsonb, x bytea, y text[], z numeric(5,1)[], aa varchar(3)[], ab inet, ac xml, ad bit(4),
    ae bit varying(5), af serial, ag bigserial, ah int4range, ai time(2), aj money, ak decimal(4),
    al name, am oid, an int
);
"""


def _shape(relation: Relation) -> list[tuple[str, str, int, str, str | None, bool]]:
    return [(c.name, c.type, c.number, c.phi, c.kind, c.generated) for c in relation.columns]


def test_the_same_catalog_as_from_a_server(pg16: Server) -> None:
    comments = "COMMENT ON COLUMN extras.code IS 'phi=yes kind=account';"
    comments += "COMMENT ON COLUMN public.extras.blob IS 'phi=no';"
    made = "CREATE TABLE made (ssn text, size integer GENERATED ALWAYS AS (length(ssn)) STORED);"
    database = make_database(pg16, "ddl")
    pg16.sql(TYPES + made + comments, database=database)
    live = read_catalog(pg16, database)
    text = DDL + VIEWS + FUNCTIONS + TYPES + made + comments
    own = catalog_from_ddl(text.encode(), "claims-db", database, OVERRIDES)
    names = {r.name for r in live.relations if r.kind in ("table", "view", "matview")}
    assert {r.name for r in own.relations} == names
    for relation in own.relations:
        theirs = live.by_name[relation.schema, relation.name]
        assert relation.kind == theirs.kind
        if relation.kind == "table":
            assert _shape(relation) == _shape(theirs)
        else:
            # Types of a view's columns are not worked out from DDL; what is masked is the same.
            judged = [(c.name, c.phi, c.kind, c.masked) for c in relation.columns]
            assert judged == [(c.name, c.phi, c.kind, c.masked) for c in theirs.columns]
    assert own.functions == live.functions
    assert len(own.fingerprint) == 64
    assert len({r.oid for r in own.relations}) == len(own.relations)


def test_schemas_quotes_functions_and_comments() -> None:
    catalog = catalog_from_ddl(
        b"""
        -- a comment
        CREATE TABLE s."Odd Name" ("Col A" text, b text, PRIMARY KEY (b));
        COMMENT ON COLUMN s."Odd Name"."Col A" IS 'phi=yes kind=mrn';
        CREATE VIEW s.v (one) AS SELECT "Col A" AS x FROM s."Odd Name";
        CREATE OR REPLACE FUNCTION s.f(a integer, OUT b text, c text DEFAULT 'x') LANGUAGE sql
            SECURITY DEFINER AS 'SELECT 1';
        CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 1';
        """,
        "t",
        "d",
        {},
    )
    table = catalog.by_name["s", "Odd Name"]
    assert [(c.name, c.phi, c.kind) for c in table.columns] == [
        ("Col A", "yes", "mrn"),
        ("b", "unclassified", None),
    ]
    view = catalog.by_name["s", "v"]
    assert [(c.name, c.phi, c.kind) for c in view.columns] == [("one", "yes", "mrn")]
    assert [(f.schema, f.name, f.arguments, f.security_definer) for f in catalog.functions] == [
        ("s", "f", "a integer, c text", True),
        ("public", "p", "", False),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("CREATE TABLE a (b text);\n\nDROP TABLE a;", 3),
        ("\n-- x\n/* y\n*/ SELECT 1;", 4),
        ("CREATE TABLE a (b text);\nCREATE TABLE a (c text);", 2),
        ("CREATE TABLE a (LIKE b);", 1),
        ("CREATE TABLE a PARTITION OF b FOR VALUES FROM (1) TO (2);", 1),
        ("CREATE TABLE a () INHERITS (b);", 1),
        ("CREATE TABLE a AS SELECT 1;", 1),
        ("CREATE VIEW v AS SELECT * FROM nosuch;", 1),
        ("CREATE VIEW v AS VALUES (1);\nCREATE VIEW w AS SELECT * FROM pg_class;", 2),
        ("COMMENT ON COLUMN a.b IS 'phi=no';", 1),
        ("COMMENT ON TABLE a IS 'x';", 1),
        ("INSERT INTO a VALUES (1);", 1),
        ("GRANT SELECT ON a TO b;", 1),
    ],
)
def test_anything_else_is_refused_by_its_line(text: str, line: int) -> None:
    with pytest.raises(DdlRefused) as refusal:
        catalog_from_ddl(text.encode(), "t", "d", {})
    assert refusal.value.line == line
    assert str(refusal.value).startswith(f"line {line}: ")


def test_what_is_not_sql_is_refused() -> None:
    with pytest.raises(SqlUnreadable):
        catalog_from_ddl(b"CREATE TABLE (", "t", "d", {})
    assert catalog_from_ddl(b"", "t", "d", {}).relations == ()
