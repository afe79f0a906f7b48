"""Single points of lineage; the sweep over all constructs is in test_canaries."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.plan import ColumnPlan
from gateway.sql.catalog import Catalog, Function
from gateway.sql.ddl import catalog_from_ddl
from gateway.sql.grammar import parse
from gateway.sql.lineage import Trace, trace
from gateway.sql.lineage.influences import ALL_INFLUENCES
from gateway.sql.lineage.second import suspected
from gateway.sql.lineage.statements import doubted
from tests.sql.demo_schema import DDL, OVERRIDES

CATALOG = catalog_from_ddl(
    f"""{DDL}
    CREATE VIEW people AS SELECT id, ssn AS number, upper(last_name) AS shown FROM patients;
    CREATE VIEW joined AS SELECT p.id FROM patients p JOIN patients q ON q.ssn = p.ssn;
    CREATE TABLE made (ssn text, size integer GENERATED ALWAYS AS (length(ssn)) STORED, n integer);
    """.encode(),
    "claims-db",
    "claims",
    OVERRIDES | {"made.n": "no"},
)


def follow(sql: str, catalog: Catalog = CATALOG) -> Trace:
    (statement,) = parse(sql.encode())
    return trace(statement.tree, sql, catalog)


def masked(found: Trace) -> list[bool]:
    assert found.columns is not None
    return [c.masked for c in found.columns]


def test_why_names_the_derivation() -> None:
    found = follow("SELECT ssn, substr(ssn, 1, 3) AS x, ssn || mrn, max(email) FROM patients")
    assert found.columns is not None
    assert [c.why for c in found.columns] == [
        "ssn ← patients.ssn",
        "x ← substr(patients.ssn)",
        "?column? ← ||(patients.mrn, patients.ssn)",
        "max ← max(patients.email)",
    ]
    assert [c.kind for c in found.columns] == ["ssn", None, None, None]


def test_only_a_copy_of_one_column_has_a_kind() -> None:
    found = follow("SELECT ssn FROM patients UNION ALL SELECT ssn FROM patients WHERE id = 2")
    assert found.columns is not None
    assert found.columns[0].kind == "ssn"
    for arm in (
        "SELECT '0'",
        "SELECT mrn FROM patients",
        "SELECT NULL",
        "SELECT ssn||'' FROM patients",
    ):
        found = follow(f"SELECT ssn FROM patients UNION ALL {arm}")
        assert found.columns is not None
        assert (found.columns[0].masked, found.columns[0].kind) == (True, None), arm


def test_what_is_read() -> None:
    found = follow(
        "SELECT p.id, c.amount FROM patients p "
        "JOIN claims c ON c.patient_id = p.id WHERE p.zip = '1'"
    )
    assert dict(found.columns_read) == {
        "public.patients": ("id", "zip"),
        "public.claims": ("patient_id", "amount"),
    }
    assert found.phi_columns == {"public.patients.zip"}
    assert found.influences == {"filter", "expression"}
    assert found.touches_phi


def test_a_view_is_read_under_its_own_name_but_phi_is_named_below_it() -> None:
    found = follow("SELECT number FROM people")
    assert dict(found.columns_read) == {"public.people": ("number",)}
    assert found.phi_columns == {"public.patients.ssn"}
    assert not found.influences
    assert follow("SELECT shown FROM people").influences == {"expression"}
    assert follow("SELECT id FROM joined").influences == {"join"}


def test_a_relation_is_read_even_if_none_of_its_columns_is() -> None:
    found = follow("SELECT count(*) FROM patients")
    assert dict(found.columns_read) == {"public.patients": ()}
    assert not found.touches_phi


@pytest.mark.parametrize(
    ("sql", "touches"),
    [
        ("SELECT id FROM patients WHERE id = 1", False),
        ("SELECT status FROM claims", False),
        ("SELECT id FROM people", True),  # its body computes with PHI, and its errors may speak
        ("SELECT id FROM (SELECT id, ssn FROM patients) t", True),
        ("DELETE FROM patients WHERE id = 1", True),  # "Failing row contains", keys in details
        ("DELETE FROM claims WHERE id = 1", False),
        ("INSERT INTO patients (id) VALUES (1)", True),
        ("INSERT INTO claims VALUES (1)", False),
        ("SELECT * FROM pg_catalog.pg_stats", True),
        ("SELECT * FROM pg_namespace", False),
        ("BEGIN", False),
        ("SET work_mem = '1MB'", False),
        ("CREATE UNIQUE INDEX i ON patients (ssn)", True),  # "could not create … is duplicated"
        ("COPY patients FROM STDIN", True),
    ],
)
def test_what_may_make_the_server_speak(sql: str, touches: bool) -> None:
    assert follow(sql).touches_phi is touches


@pytest.mark.parametrize(
    ("sql", "to_plain"),
    [
        ("INSERT INTO claims (status) SELECT ssn FROM patients", True),
        ("INSERT INTO claims (patient_id) SELECT id FROM patients", False),
        ("INSERT INTO notes (note_text) SELECT ssn FROM patients", False),
        ("UPDATE claims SET status = p.ssn FROM patients p", True),
        ("UPDATE claims SET status = (SELECT max(ssn) FROM patients)", True),
        ("UPDATE claims SET (status, amount) = (SELECT ssn, 1 FROM patients)", True),
        ("UPDATE patients SET mrn = ssn", False),
        (
            "INSERT INTO claims VALUES (1) ON CONFLICT (id) DO UPDATE SET status = excluded.status",
            False,
        ),
        (
            """MERGE INTO claims USING patients p ON p.id = claims.id
            WHEN NOT MATCHED THEN INSERT (status) VALUES (p.ssn)""",
            True,
        ),
        ("CREATE TABLE t AS SELECT ssn FROM patients", True),
        ("CREATE TABLE t AS SELECT id FROM patients", False),
        ("SELECT ssn INTO t FROM patients", True),
        ("WITH i AS (INSERT INTO claims (status) SELECT ssn FROM patients) SELECT 1", True),
    ],
)
def test_phi_that_goes_where_none_is_expected(sql: str, to_plain: bool) -> None:
    found = follow(sql)
    assert found.phi_to_plain is to_plain
    assert not found.untraced


def test_names_that_only_postgres_resolves_so() -> None:
    # A query name shadows a table, but not inside itself.
    assert masked(follow("WITH claims AS (SELECT ssn AS id FROM patients) SELECT id FROM claims"))[
        0
    ]
    assert not masked(follow("WITH patients AS (SELECT id FROM patients) SELECT id FROM patients"))[
        0
    ]
    # RECURSIVE lets a query name a later one.
    inner = "SELECT ssn AS id FROM patients"
    sql = f"WITH RECURSIVE a AS (SELECT * FROM b), b AS ({inner}) SELECT id FROM a"
    assert masked(follow(sql)) == [True]
    # Without RECURSIVE the inner name is the table.
    sql = f"WITH a AS (SELECT id FROM notes), notes AS ({inner}) SELECT id FROM a"
    assert masked(follow(sql)) == [False]
    # Not LATERAL: the inner name is not the sibling's.
    sql = "SELECT (SELECT t.x FROM (SELECT s AS x) t) FROM (SELECT ssn AS s, id FROM patients) p"
    assert masked(follow(sql)) == [True]
    # An output name hides an input name in ORDER BY, not in GROUP BY.
    assert follow("SELECT mrn AS id, id AS mrn FROM patients ORDER BY id").influences == {"order"}
    assert not follow("SELECT mrn AS id, id AS mrn FROM patients ORDER BY mrn").influences
    assert not follow("SELECT max(id) AS zip FROM patients GROUP BY id").influences
    assert follow("SELECT id AS zip FROM patients GROUP BY zip, id").influences == {"group"}
    # SEARCH and CYCLE add columns that are made of the others.
    sql = (
        "WITH RECURSIVE t(n, s) AS (SELECT 1, ssn FROM patients UNION ALL SELECT n + 1, s FROM t) "
        "SEARCH DEPTH FIRST BY s SET o CYCLE n SET c USING p SELECT n, o, c, p, s FROM t"
    )
    assert masked(follow(sql)) == [False, True, True, True, True]


def test_columns_that_copy_leaves_out() -> None:
    found = follow("COPY made TO STDOUT")
    assert found.columns is not None
    assert [(c.name, c.masked) for c in found.columns] == [("ssn", True), ("n", False)]
    assert masked(follow("COPY made (n, size, ssn) TO STDOUT")) == [False, True, True]


def test_generated_columns_and_triggers_carry_what_was_written() -> None:
    sql = "UPDATE made SET n = length(p.ssn) FROM patients p RETURNING n, size"
    assert masked(follow(sql)) == [True, True]
    relations = tuple(
        replace(r, side_effects=True) if r.name == "claims" else r for r in CATALOG.relations
    )
    sql = "UPDATE claims SET status = p.ssn FROM patients p RETURNING claims.amount"
    assert masked(follow(sql)) == [False]
    assert masked(follow(sql, replace(CATALOG, relations=relations))) == [True]


def test_a_name_that_a_users_function_could_capture() -> None:
    sql = "SELECT upper(status) FROM claims"
    assert masked(follow(sql)) == [False]
    own = replace(CATALOG, functions=(Function("public", "upper", "character varying"),))
    assert masked(follow(sql, own)) == [True]
    assert masked(follow("SELECT pg_catalog.upper(status) FROM claims", own)) == [False]
    assert masked(follow("SELECT public.upper(status) FROM claims", own)) == [True]
    assert masked(follow("SELECT c.upper FROM claims c", own)) == [True]
    assert masked(follow("SELECT (c.status).upper FROM claims c", own)) == [True]
    assert masked(follow("SELECT status FROM claims c", own)) == [False]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT amount = 1 FROM claims",
        "SELECT CASE amount WHEN 1 THEN 2 END FROM claims",
        "SELECT amount IN (1, 2) FROM claims",
        "SELECT amount BETWEEN 1 AND 2 FROM claims",
        "SELECT amount IN (SELECT 1) FROM claims",
        "SELECT nullif(amount, 1) FROM claims",
        "SELECT amount IS DISTINCT FROM 1 FROM claims",
    ],
)
def test_an_operator_that_a_users_could_capture(sql: str) -> None:
    assert masked(follow(sql)) == [False]
    own = replace(CATALOG, operators=frozenset(("=", ">=")))
    assert masked(follow(sql, own)) == [True]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT nosuch FROM patients",
        "SELECT x.id FROM patients p",
        "SELECT id FROM nosuch",
        "SELECT id FROM secret.patients",
        "SELECT 1 UNION ALL SELECT 1, 2",
        "SELECT * FROM patients NATURAL JOIN pg_class",
        "FETCH 1 FROM c",
        "EXECUTE p",
        "CALL p()",
        "EXPLAIN EXECUTE p",
        "WITH RECURSIVE t AS (SELECT * FROM t) SELECT * FROM t",
        "SELECT id FROM patients p(a,b,c,d,e,f,g,h,i,j,k)",
        "INSERT INTO claims VALUES (1, 2, 3, 4, 5)",
        "INSERT INTO claims (nosuch) VALUES (1)",
        "ALTER TABLE patients ADD x integer",
        "SELECT " + ", ".join(["*"] * 200) + " FROM patients",
    ],
)
def test_what_cannot_be_followed_is_masked_whole(sql: str) -> None:
    found = follow(sql)
    assert found.columns is None
    assert found.untraced
    assert found.touches_phi
    assert found.influences == ALL_INFLUENCES


def test_a_view_that_does_not_fit_its_columns_is_masked_whole() -> None:
    for definition in ("SELECT 1", "SELECT 1, 2, 3, 4", "not sql", "SELECT * FROM people", None):
        relations = tuple(
            replace(r, definition=definition) if r.name == "people" else r
            for r in CATALOG.relations
        )
        assert follow("SELECT id FROM people", replace(CATALOG, relations=relations)).untraced


def _nested(depth: int) -> str:
    inner = "SELECT * FROM claims"
    for n in range(depth):
        inner = (
            f"WITH RECURSIVE t{n} AS (({inner}) UNION ALL (SELECT * FROM t{n})) "
            f"SELECT a.id, a.patient_id, a.amount, b.status FROM t{n} a, t{n} b"
        )
    return inner


def test_what_doubles_with_each_level_is_cut() -> None:
    assert masked(follow(_nested(5))) == [False] * 4
    start = time.perf_counter()
    assert follow(_nested(30)).untraced
    assert time.perf_counter() - start < 10


def _mutations(node: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    if isinstance(node, dict):
        found += [(node, key) for key in node]
        for value in node.values():
            found += _mutations(value)
    elif isinstance(node, list):
        found += [(node, n) for n in range(len(node))]
        for value in node:
            found += _mutations(value)
    return found


_SEEDS = [
    """WITH RECURSIVE t AS (SELECT id, ssn FROM patients UNION ALL SELECT * FROM t)
    SELECT DISTINCT t.*, count(*) OVER w, (SELECT max(s) FROM unnest(ARRAY[ssn]) s)
    FROM t LEFT JOIN claims c USING (id) WHERE c.amount IN (1, 2) GROUP BY 1, 2
    WINDOW w AS (ORDER BY ssn) ORDER BY 1 LIMIT 3""",
    """INSERT INTO claims (id) SELECT id FROM patients
    ON CONFLICT (id) DO UPDATE SET id = 1 RETURNING *""",
    "MERGE INTO claims c USING patients p ON p.id = c.id WHEN MATCHED THEN DELETE RETURNING *",
]


@given(st.data())
def test_no_tree_makes_it_raise(data: st.DataObject) -> None:
    (statement,) = parse(data.draw(st.sampled_from(_SEEDS)).encode())
    tree = statement.tree
    junk: st.SearchStrategy[Any] = (
        st.none() | st.integers() | st.text(max_size=3) | st.builds(list) | st.builds(dict)
    )
    for _ in range(data.draw(st.integers(1, 3))):
        places = _mutations(tree)
        if places:
            where, key = data.draw(st.sampled_from(places))
            where[key] = data.draw(junk)
    found = trace(tree, "", CATALOG)
    if found.untraced:
        assert found.columns is None
        assert found.touches_phi
        assert found.influences == ALL_INFLUENCES


def test_deep_nesting_is_masked_not_raised() -> None:
    (statement,) = parse(b"SELECT 1 FROM claims")
    tree: dict[str, Any] = {"A_Const": {"ival": {"ival": 1}}}
    for _ in range(20_000):
        tree = {"BoolExpr": {"boolop": "NOT_EXPR", "args": [tree]}}
    statement.fields["whereClause"] = tree
    assert trace(statement.tree, "", CATALOG).untraced


def test_a_second_opinion_masks_and_never_shows() -> None:
    sql = "WITH t AS (SELECT id, ssn AS s FROM patients) SELECT t.id, upper(s), 'x' FROM t"
    assert suspected(sql, CATALOG, {"public.patients"}, 3) == (False, True, False)
    columns = tuple(ColumnPlan(name, masked=False) for name in "abc")
    assert [c.masked for c in doubted(columns, (False, True, False))] == [False, True, False]
    assert [c.kind for c in doubted(columns, (True, True, True))] == [None] * 3
    already = (ColumnPlan("a", masked=True, kind="ssn", why="a ← patients.ssn"),)
    assert doubted(already, (False,)) == doubted(already, None) == already
    for unread in ("SELECT * FROM", "COPY patients TO STDOUT", "SELECT 1; SELECT 2", "x" * 5000):
        assert suspected(unread, CATALOG, {"public.patients"}, 1) is None
    assert suspected("SELECT 1, 2", CATALOG, (), 1) is None


TYPICAL = [
    "SELECT id, ssn FROM patients WHERE id = 7",
    "SELECT status, count(*), sum(amount) FROM claims GROUP BY status ORDER BY 2 DESC",
    (
        "SELECT p.id, p.last_name, v.visited_at, c.amount FROM patients p JOIN visits v ON "
        "v.patient_id = p.id JOIN claims c ON c.patient_id = p.id WHERE c.status = 'open' LIMIT 50"
    ),
    (
        "WITH big AS (SELECT patient_id, sum(amount) AS total FROM claims GROUP BY patient_id) "
        "SELECT p.id, p.mrn, big.total FROM big JOIN patients p ON p.id = big.patient_id"
    ),
    "SELECT * FROM patients",
]


def test_it_is_quick() -> None:
    times_ms = []
    trees = [(parse(sql.encode())[0].tree, sql) for sql in TYPICAL]
    for _ in range(30):
        for tree, sql in trees:
            start = time.perf_counter()
            trace(tree, sql, CATALOG)
            times_ms.append((time.perf_counter() - start) * 1000)
    # 0.1 to 0.2 ms on two cores; the bound leaves room for a busy machine.
    assert statistics.median(times_ms) < 1.0
