"""EXPLAIN: no estimate, condition or time of a statement that PHI steers."""

from __future__ import annotations

import pytest

from gateway.core.action import Facts
from gateway.core.plan import ResultPlan
from gateway.errors import Denied
from gateway.sql.catalog import Catalog
from tests.servers import Server
from tests.sql.demo_schema import make_database, read_catalog
from tests.sql.gate import CATALOG, judged

# Options without ANALYZE.
PLANS = [
    "explain",
    "explain verbose",
    "explain (format json)",
    "explain (format xml)",
    "explain (format yaml, verbose, costs off)",
    "explain (format text, settings)",
    "explain (analyze false)",
    "explain (analyze 0, costs)",
    "explain (analyze off, summary)",
]
MEASURED = [
    "explain analyze",
    "explain analyze verbose",
    "explain (analyze)",
    "explain (analyze true, format json)",
    "explain (analyze on, timing off, costs off)",
    "explain (analyze 1)",
    "explain (format yaml, analyze 'true')",
    "explain (analyze, analyze false)",
]
STEERED = [
    "select id from patients where ssn = '917365482'",
    "select id from patients order by birth_date",
    "select first_name, count(*) from patients group by first_name",
    "delete from patients where ssn like '91%'",
    "update claims set status = 'x' from patients p where p.ssn = status",
]


def plan_of(sql: str, catalog: Catalog = CATALOG) -> ResultPlan:
    ((result,),) = [unit.results for unit in judged(sql, catalog=catalog).units]
    return result


@pytest.mark.parametrize("explain", PLANS)
@pytest.mark.parametrize("query", [*STEERED, "select ssn from patients", "table names"])
def test_a_plan_that_touches_phi_is_masked_whole(explain: str, query: str) -> None:
    result = plan_of(f"{explain} {query}")
    assert (result.columns, result.touches_phi, result.returns) == (None, True, "rows")


@pytest.mark.parametrize("explain", MEASURED)
@pytest.mark.parametrize("query", STEERED)
def test_nothing_is_measured_where_phi_steers(explain: str, query: str) -> None:
    with pytest.raises(Denied) as caught:
        judged(f"{explain} {query}")
    assert caught.value.rule == "sql.explain"
    assert caught.value.advice


@pytest.mark.parametrize("explain", [*PLANS, *MEASURED])
def test_other_plans_are_useful(explain: str) -> None:
    result = plan_of(f"{explain} select id from claims where status = 'open' order by id")
    assert result.columns is not None
    assert not result.columns[0].masked
    assert plan_of(f"{explain} select ssn from patients").columns is None


def test_explain_inherits_the_facts() -> None:
    inner = judged("select id from patients where ssn = 'x' order by birth_date").actions[0].facts
    for action in judged(f"explain {STEERED[0]} order by birth_date").actions:
        assert isinstance(action.facts, Facts)
        assert action.facts.phi_influences == inner.phi_influences
        assert action.facts.phi_columns == inner.phi_columns


def test_conditions_inside_a_view_count(pg_server: Server) -> None:
    """The plan prints the view's own condition on PHI, and an estimate of it."""
    database = make_database(pg_server, "explained")
    catalog = read_catalog(pg_server, database)
    printed = pg_server.sql("explain select id from filtered", database=database)
    assert "ssn IS NOT NULL" in printed
    assert plan_of("explain select id from filtered", catalog).columns is None
    with pytest.raises(Denied):
        judged("explain analyze select id from filtered", catalog=catalog)
